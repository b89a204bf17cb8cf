from __future__ import annotations

import base64
import hashlib
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import tracemalloc
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from depload.errors import HashMismatchError, IndexUnavailableError, StoreError
from depload.making.fetcher import Download, Patience, Progress, default_cache, fetch
from depload.making.indexes import IndexOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

DATA = b"".join(hashlib.sha256(str(at).encode()).digest() for at in range(32768))  # 1 MiB, no two parts alike
QUICK = Patience(first_wait=0.01, longest_wait=0.2, timeout=5)


class Handler(BaseHTTPRequestHandler):
    """Serves ``site.files`` with ranges; what ``site.plans`` has for the path comes first, one request each."""

    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        self.site.asked.append((self.path, self.headers))
        path = self.path.partition("?")[0].removeprefix(self.site.url)
        plan = self.site.plans.get(path)
        if plan:
            plan.pop(0)(self)
        elif path in self.site.files:
            self.serve(self.site.files[path])
        else:
            self.say(404)

    def serve(self, data: bytes) -> None:
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and self.site.ranges and self.headers.get("If-Range") == self.site.tag:
            first = int(start[1])
            self.say(206, data[first:], {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"})
        else:
            self.say(200, data, {"ETag": self.site.tag} if self.site.tag else {})

    def say(
        self, status: int, data: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:cut])
        self.close_connection = cut is not None

    def do_CONNECT(self) -> None:
        self.site.asked.append((self.path, self.headers))
        if self.headers.get("Proxy-Authorization") != basic("pro", "xy"):
            self.say(407)
            return
        self.say(200)
        host, _, port = self.path.rpartition(":")
        self.site.relay(self.connection, (host, int(port)))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Site:
    """A host on loopback that fails as it is told to."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {"/a.whl": DATA}
        self.plans: dict[str, list[Callable[[Handler], None]]] = {}
        self.asked: list[tuple[str, Message]] = []
        self.ranges = True
        self.tag = '"1"'
        self.connections = 0
        self.released = threading.Event()
        self.server = _Server(("127.0.0.1", 0), type("_Handler", (Handler,), {"site": self}))
        self.server.site = self
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{'https' if context else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def plan(self, *faults: Callable[[Handler], None], path: str = "/a.whl") -> None:
        self.plans[path] = list(faults)

    def download(self, name: str = "a.whl", **changes: Any) -> Download:
        data = self.files.get(f"/{name}", b"")
        facts: dict[str, Any] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} | changes
        return Download(f"{self.url}/{name}", name, **facts)

    def header(self, name: str) -> list[str | None]:
        return [headers.get(name) for _, headers in self.asked]

    def relay(self, client: Any, address: tuple[str, int]) -> None:
        """Pass bytes both ways until either side ends."""
        with socket.create_connection(address) as server:
            pair = {client: server, server: client}
            while True:
                for ready in select.select(list(pair), [], [], 5)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    pair[ready].sendall(data)

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    site: Site

    def process_request(self, request: Any, client_address: Any) -> None:
        self.site.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what these tests are about."""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def cut(after: int) -> Callable[[Handler], None]:
    return lambda handler: handler.say(200, DATA, {"ETag": handler.site.tag}, cut=after)


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.say(code, b"no", named)


def wrong(handler: Handler) -> None:
    handler.say(200, DATA[:-1] + b"!", {"ETag": handler.site.tag})


def moved(url: str) -> Callable[[Handler], None]:
    return status(302, Location=url)


def hangs(handler: Handler) -> None:
    """Half of the file, and then nothing until the site is closed."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    handler.wfile.write(DATA[: len(DATA) // 2])
    handler.site.released.wait(20)
    handler.close_connection = True


@pytest.fixture
def sites() -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(context: ssl.SSLContext | None = None) -> Site:
        made.append(Site(context))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(sites: Callable[..., Site]) -> Site:
    return sites()


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "DEPLOAD_", "SSL_")) or name.upper().endswith(("_PROXY", "_CA_BUNDLE")):
            monkeypatch.delenv(name)
    for name in ("NETRC", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def kept(cache: Path, data: bytes = DATA) -> Path:
    sha256 = hashlib.sha256(data).hexdigest()
    return cache / "files" / sha256[:2] / sha256


def run(script: str, *arguments: object, **how: Any) -> subprocess.Popen[str]:
    """A process of its own, which has imported what the script needs."""
    lines = "import sys\nfrom pathlib import Path\nfrom depload.making.fetcher import *\n" + textwrap.dedent(script)
    command = [sys.executable, "-c", lines, *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


# --- the ordinary ---------------------------------------------------------------------------------


def test_files_arrive_in_the_order_asked(site: Site, to: Path, cache: Path) -> None:
    names = [f"f{at}.whl" for at in range(20)]
    site.files |= {f"/{name}": name.encode() * (20 - at) for at, name in enumerate(names)}
    found = fetch([site.download(name) for name in names], to, cache=cache, parallel=4)
    assert found == [to / name for name in names]
    assert all(path.read_bytes() == site.files[f"/{path.name}"] for path in found)
    assert sorted(path.name for path in to.iterdir()) == sorted(names)
    assert site.connections <= 4


def test_the_same_file_asked_for_twice_is_fetched_once(site: Site, to: Path) -> None:
    assert fetch([site.download(), site.download()], to, cache=None) == [to / "a.whl"] * 2
    assert len(site.asked) == 1


def test_nothing_asked_for_is_nothing_fetched(to: Path) -> None:
    assert fetch([], to, cache=None) == []


def test_what_was_there_under_the_name_is_replaced(site: Site, to: Path, cache: Path) -> None:
    to.mkdir()
    (to / "a.whl").write_bytes(b"old")
    for _ in range(2):  # the second time it is the very same file, and rename does nothing
        fetch([site.download()], to, cache=cache)
        assert (to / "a.whl").read_bytes() == DATA
        assert list(to.iterdir()) == [to / "a.whl"]


def test_paths_and_file_urls_are_copied_and_verified(tmp_path: Path, to: Path, cache: Path) -> None:
    source = tmp_path / "a b.whl"
    source.write_bytes(DATA)
    sha256 = hashlib.sha256(DATA).hexdigest()
    fetch([Download(str(source), "one", sha256), Download(source.as_uri(), "two", sha256, len(DATA))], to, cache=cache)
    assert (to / "one").read_bytes() == (to / "two").read_bytes() == DATA
    assert not cache.exists()
    with pytest.raises(HashMismatchError):
        fetch([Download(str(source), "three", "0" * 64)], to, cache=cache)
    with pytest.raises(IndexUnavailableError, match=r"gone\.whl could not be read: No such file"):
        fetch([Download(str(tmp_path / "gone.whl"), "four")], to, cache=cache)


def test_without_a_hash_what_arrives_is_taken_and_never_from_the_cache(site: Site, to: Path, cache: Path) -> None:
    for _ in range(2):
        fetch([site.download(sha256=None, size=None)], to, cache=cache)
    assert len(site.asked) == 2
    assert kept(cache).read_bytes() == DATA


def test_a_body_without_a_length_is_taken_to_its_end(site: Site, to: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.0"
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(DATA)
        handler.close_connection = True

    site.plan(endless)
    fetch([site.download(size=None)], to, cache=None)
    assert (to / "a.whl").read_bytes() == DATA


def test_memory_does_not_grow_with_the_file(site: Site, to: Path, cache: Path) -> None:
    site.files["/a.whl"] = DATA * 32
    download = site.download()
    tracemalloc.start()
    try:
        fetch([download], to, cache=cache)
        fetch([download], to, cache=cache)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(DATA)


def test_progress_is_told_of_every_byte(site: Site, to: Path, cache: Path) -> None:
    class Told(Progress):
        def __init__(self) -> None:
            self.calls: list[tuple[str, int, int | None]] = []

        def downloaded(self, filename: str, done: int, total: int | None) -> None:
            self.calls.append((filename, done, total))

    told = Told()
    fetch([site.download()], to, cache=cache, progress=told)
    counts = [done for _, done, _ in told.calls]
    assert counts == sorted(counts)
    assert set(told.calls) >= {("a.whl", 1 << 18, len(DATA)), ("a.whl", len(DATA), len(DATA))}
    again = Told()
    fetch([site.download()], to, cache=cache, progress=again)
    assert again.calls == [("a.whl", len(DATA), len(DATA))]


@pytest.mark.parametrize("name", ["../a.whl", "", "..", ".", "/etc/a.whl", "a/b.whl"])
def test_a_name_that_leads_elsewhere_is_refused(site: Site, to: Path, name: str) -> None:
    with pytest.raises(StoreError, match="cannot be the name"):
        fetch([Download(f"{site.url}/a.whl", name)], to, cache=None)
    assert site.asked == []


def test_two_files_of_one_name_are_refused(site: Site, to: Path) -> None:
    with pytest.raises(StoreError, match=r"two different files have the name a\.whl"):
        fetch([site.download(), site.download(sha256="0" * 64)], to, cache=None)


# --- hosts that fail ------------------------------------------------------------------------------


def test_a_connection_that_breaks_is_resumed_where_it_broke(site: Site, to: Path) -> None:
    site.plan(cut(300_000))
    fetch([site.download()], to, cache=None, patience=QUICK)
    assert (to / "a.whl").read_bytes() == DATA
    assert site.header("Range") == [None, "bytes=300000-"]
    assert site.header("If-Range") == [None, '"1"']


def test_a_host_without_ranges_is_asked_for_all_of_it_again(site: Site, to: Path) -> None:
    site.ranges = False
    site.plan(cut(300_000))
    fetch([site.download()], to, cache=None, patience=QUICK)
    assert (to / "a.whl").read_bytes() == DATA
    assert site.header("Range") == [None, "bytes=300000-"]


@pytest.mark.parametrize("tag", ["", 'W/"1"'])
def test_a_file_that_may_be_another_by_now_is_asked_for_from_the_start(site: Site, to: Path, tag: str) -> None:
    site.tag = tag
    site.plan(cut(300_000))
    fetch([site.download(sha256=None)], to, cache=None, patience=QUICK)
    assert site.header("Range") == [None, None]
    assert (to / "a.whl").read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_taken_whole(site: Site, to: Path) -> None:
    site.plan(lambda handler: handler.say(200, DATA[::-1], {"ETag": '"0"'}, cut=300_000))
    fetch([site.download(sha256=None)], to, cache=None, patience=QUICK)
    assert site.header("If-Range") == [None, '"0"']
    assert (to / "a.whl").read_bytes() == DATA


def test_another_part_than_the_one_asked_for_is_not_used(site: Site, to: Path) -> None:
    site.plan(cut(300_000), lambda handler: handler.say(206, DATA, {"Content-Range": f"bytes 0-9/{len(DATA)}"}))
    fetch([site.download()], to, cache=None, patience=QUICK)
    assert (to / "a.whl").read_bytes() == DATA
    assert site.header("Range") == [None, "bytes=300000-", None]


def test_a_part_that_nobody_asked_for_is_not_the_file(site: Site, to: Path) -> None:
    site.plan(lambda handler: handler.say(206, DATA[:10], {"Content-Range": f"bytes 0-9/{len(DATA)}"}))
    fetch([site.download(sha256=None, size=None)], to, cache=None, patience=QUICK)
    assert (to / "a.whl").read_bytes() == DATA


def test_a_file_shorter_than_promised_is_an_error_after_all_attempts(site: Site, to: Path) -> None:
    site.plan(*[cut(10)] * 5)
    site.tag = ""
    with pytest.raises(IndexUnavailableError, match="ended after 10 of 1048576 bytes") as caught:
        fetch([site.download()], to, cache=None, patience=QUICK)
    assert caught.value.attempts == len(site.asked) == 5
    assert list(to.iterdir()) == []


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_host_that_is_busy_is_asked_again(site: Site, to: Path, code: int) -> None:
    site.plan(status(code), status(code))
    fetch([site.download()], to, cache=None, patience=QUICK)
    assert len(site.asked) == 3


@pytest.mark.parametrize(
    ("code", "why"),
    [(401, "it wants credentials"), (403, "not with these credentials"), (404, "the file is not there"), (410, "Gone")],
)
def test_a_host_that_refuses_is_not_asked_again(site: Site, to: Path, code: int, why: str) -> None:
    site.plan(status(code))
    with pytest.raises(IndexUnavailableError, match=f"{code} .*{why}") as caught:
        fetch([site.download()], to, cache=None, patience=QUICK)
    assert caught.value.attempts == len(site.asked) == 1


def test_the_number_of_retries_is_pips(site: Site, to: Path) -> None:
    for retries in (0, 2):
        site.asked.clear()
        site.plan(*[status(503)] * 9)
        with pytest.raises(IndexUnavailableError, match="503 Service Unavailable") as caught:
            fetch([site.download()], to, cache=None, patience=QUICK, options=IndexOptions(retries=retries))
        assert caught.value.attempts == len(site.asked) == retries + 1


@pytest.mark.parametrize("in_words", [False, True])
def test_retry_after_is_waited_for_within_bounds(site: Site, to: Path, *, in_words: bool) -> None:
    after = formatdate(time.time() + 3600, usegmt=True) if in_words else "3600"
    site.plan(status(429, Retry_After=after))
    started = time.monotonic()
    fetch([site.download()], to, cache=None, patience=Patience(first_wait=0.01, longest_wait=0.3))
    assert 0.3 <= time.monotonic() - started < 10


def test_waits_double(site: Site, to: Path) -> None:
    site.plan(*[status(503)] * 4)
    started = time.monotonic()
    fetch([site.download()], to, cache=None, patience=Patience(first_wait=0.03))
    assert time.monotonic() - started >= 0.03 * (1 + 2 + 4 + 8)


def test_a_host_that_falls_silent_is_left_after_the_timeout_and_asked_again(site: Site, to: Path) -> None:
    site.plan(hangs)
    started = time.monotonic()
    fetch([site.download()], to, cache=None, patience=QUICK, options=IndexOptions(timeout=0.2))
    assert (to / "a.whl").read_bytes() == DATA
    assert time.monotonic() - started < 10


def test_a_host_that_is_not_there_is_named(site: Site, to: Path) -> None:
    site.close()
    url = f"http://me:s3cret@{site.host}/a.whl?sig=s3cret"
    with pytest.raises(IndexUnavailableError, match="Connection refused") as caught:
        fetch([Download(url, "a.whl")], to, cache=None, patience=QUICK)
    assert caught.value.attempts == 5
    assert caught.value.url == f"http://****@{site.host}/a.whl?****"
    assert "s3cret" not in str(caught.value)


def test_a_kept_connection_that_the_host_has_closed_costs_no_attempt(site: Site, to: Path) -> None:
    site.files["/b.whl"] = DATA[:9]

    def closes_silently(handler: Handler) -> None:
        handler.serve(DATA)
        handler.close_connection = True

    site.plan(closes_silently)
    fetch([site.download(), site.download("b.whl")], to, cache=None, parallel=1, options=IndexOptions(retries=0))
    assert (to / "b.whl").read_bytes() == DATA[:9]


@pytest.mark.parametrize(
    "url",
    ["ftp://host.test/a.whl", "http://", "http://host.test:port/a.whl", "git+https://x.test/a", "http://a b.test/"],
)
def test_a_url_that_cannot_be_fetched_is_refused_at_once(to: Path, url: str) -> None:
    with pytest.raises(IndexUnavailableError, match="URL") as caught:
        fetch([Download(url, "a.whl")], to, cache=None)
    assert caught.value.attempts == 1


# --- wrong files ----------------------------------------------------------------------------------


def test_a_wrong_file_is_fetched_once_more_past_caches_and_then_refused(site: Site, to: Path, cache: Path) -> None:
    site.plan(*[wrong] * 9)
    with pytest.raises(HashMismatchError) as caught:
        fetch([site.download()], to, cache=cache)
    assert caught.value.expected == (hashlib.sha256(DATA).hexdigest(),)
    assert caught.value.found == hashlib.sha256(DATA[:-1] + b"!").hexdigest()
    assert site.header("Cache-Control") == [None, "no-cache"]
    assert site.header("Range") == [None, None]
    assert list(to.iterdir()) == []
    assert not cache.exists()


def test_a_wrong_file_that_is_right_the_second_time_will_do(site: Site, to: Path) -> None:
    site.plan(wrong)
    fetch([site.download()], to, cache=None)
    assert (to / "a.whl").read_bytes() == DATA


def test_a_file_of_another_size_is_refused_and_not_read_to_its_end(site: Site, to: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not handler.site.released.is_set():
            handler.wfile.write(DATA)

    site.plan(endless, endless)
    with pytest.raises(HashMismatchError, match="more than 5 bytes"):
        fetch([site.download(sha256=None, size=5)], to, cache=None)
    site.plans.clear()
    with pytest.raises(HashMismatchError, match=f"expected {len(DATA) + 1} bytes, found {len(DATA)} bytes"):
        fetch([site.download(sha256=None, size=len(DATA) + 1)], to, cache=None)


# --- the cache ------------------------------------------------------------------------------------


def test_a_file_fetched_before_is_linked_from_the_cache(site: Site, to: Path, cache: Path) -> None:
    shouted = site.download(sha256=hashlib.sha256(DATA).hexdigest().upper())
    fetch([shouted], to, cache=cache)
    fetch([shouted], to / "again", cache=cache)
    assert len(site.asked) == 1
    assert (to / "again/a.whl").samefile(kept(cache))
    assert (to / "a.whl").samefile(kept(cache))


@pytest.mark.parametrize("damage", [DATA[:-1], DATA[:-1] + b"!", b""])
def test_a_damaged_file_of_the_cache_is_fetched_anew(site: Site, to: Path, cache: Path, damage: bytes) -> None:
    kept(cache).parent.mkdir(parents=True)
    kept(cache).write_bytes(damage)
    fetch([site.download()], to, cache=cache)
    assert (to / "a.whl").read_bytes() == kept(cache).read_bytes() == DATA
    assert list(kept(cache).parent.iterdir()) == [kept(cache)]


def test_a_damaged_file_of_the_cache_is_thrown_away_whatever_comes_after(site: Site, to: Path, cache: Path) -> None:
    kept(cache).parent.mkdir(parents=True)
    kept(cache).write_bytes(DATA[::-1])
    site.plan(status(404))
    with pytest.raises(IndexUnavailableError):
        fetch([site.download()], to, cache=cache)
    assert not kept(cache).exists()


def test_a_lock_with_a_wrong_size_harms_no_earlier_fetch(site: Site, to: Path, cache: Path) -> None:
    fetch([site.download()], to, cache=cache)
    with pytest.raises(HashMismatchError):
        fetch([site.download(size=5)], to / "again", cache=cache)
    assert (to / "a.whl").read_bytes() == DATA


def test_what_is_no_file_in_the_cache_is_not_followed(site: Site, to: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(DATA)
    kept(cache).parent.mkdir(parents=True)
    kept(cache).symlink_to(tmp_path / "theirs")
    fetch([site.download()], to, cache=cache)
    assert len(site.asked) == 1
    assert not (to / "a.whl").is_symlink()


def test_a_cache_that_cannot_be_written_is_no_cache(site: Site, to: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        fetch([site.download()], to, cache=tmp_path / "file" / "cache")
    assert len(site.asked) == 2
    assert (to / "a.whl").read_bytes() == DATA


def test_across_file_systems_files_are_copied(site: Site, to: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == to.parent.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=shared) as elsewhere:
        fetch([site.download()], to, cache=Path(elsewhere))
        fetch([site.download()], to / "again", cache=Path(elsewhere))
        assert len(list(kept(Path(elsewhere)).parent.iterdir())) == 1
    assert len(site.asked) == 1
    assert (to / "again/a.whl").read_bytes() == DATA


def test_a_hash_that_is_a_path_leads_nowhere(site: Site, to: Path, cache: Path) -> None:
    (cache / "files").mkdir(parents=True)
    (cache.parent / "theirs").write_bytes(DATA)
    with pytest.raises(HashMismatchError, match=r"expected \.\./theirs"):
        fetch([site.download(sha256="../theirs")], to, cache=cache)
    assert (cache.parent / "theirs").read_bytes() == DATA


def test_many_processes_share_one_cache(site: Site, to: Path, cache: Path) -> None:
    names = [f"f{at}.whl" for at in range(6)]
    site.files |= {f"/{name}": DATA + name.encode() for name in names}
    kept(cache, DATA + b"f0.whl").parent.mkdir(parents=True)
    kept(cache, DATA + b"f0.whl").write_bytes(b"damaged")
    wanted = [site.download(name) for name in names]
    script = f"""
        for round in range(3):
            fetch({wanted!r}, Path(sys.argv[1], str(round)), cache=Path(sys.argv[2]), parallel=3)
    """
    processes = [run(script, to / str(at), cache) for at in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 4
    found = {path.read_bytes() for path in to.rglob("*.whl")}
    assert found == {DATA + name.encode() for name in names}
    assert len(list(to.rglob("*.whl"))) == 4 * 3 * 6
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 6


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_cache() == tmp_path / ".cache/depload"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg/depload"
    monkeypatch.setenv("DEPLOAD_CACHE_DIR", "~/mine")
    assert default_cache() == tmp_path / "mine"


def test_without_a_home_to_write_to_the_cache_is_temporary_and_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    assert default_cache() == Path(tempfile.gettempdir(), f"depload-{os.getuid()}")


# --- all or nothing -------------------------------------------------------------------------------


def test_the_first_failure_ends_the_others_and_leaves_nothing(site: Site, to: Path, cache: Path) -> None:
    names = [f"slow{at}.whl" for at in range(3)]
    for name in names:
        site.files[f"/{name}"] = DATA
        site.plan(hangs, path=f"/{name}")
    gone = Download(f"{site.url}/gone.whl", "gone.whl", size=1)
    started = time.monotonic()
    with pytest.raises(IndexUnavailableError, match="404"):
        fetch([*(site.download(name) for name in names), gone], to, cache=cache, options=IndexOptions(timeout=20))
    assert time.monotonic() - started < 8  # the server would keep it for longer
    assert list(to.iterdir()) == []


def test_an_interrupt_ends_it_at_once_and_leaves_nothing(site: Site, to: Path, cache: Path) -> None:
    site.plan(hangs)
    script = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits it as ignored
        class Told(Progress):
            def downloaded(self, filename, done, total):
                print(done, flush=True)
        fetch([Download(sys.argv[1], "a.whl")], Path(sys.argv[2]), cache=Path(sys.argv[3]), progress=Told())
    """
    process = run(script, f"{site.url}/a.whl", to, cache)
    assert process.stdout
    assert process.stdout.readline()
    assert list(to.iterdir()) != []
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert "KeyboardInterrupt" in process.communicate(timeout=10)[1]
    assert time.monotonic() - started < 8  # the server would keep it for longer
    assert list(to.iterdir()) == []


def test_a_full_disk_is_named(site: Site, to: Path) -> None:
    """A limit on the size of files stands in: write fails the same way."""
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        try:
            fetch([Download(sys.argv[1], "a.whl")], Path(sys.argv[2]), cache=None)
        except Exception as error:
            print(type(error).__name__, error.path, error)
    """
    said = run(script, f"{site.url}/a.whl", to).communicate()[0]
    assert said.startswith(f"StoreError {to} ")
    assert "File too large" in said
    assert list(to.iterdir()) == []
    assert len(site.asked) == 1


def test_a_place_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/to: cannot be written: Not a directory"):
        fetch([site.download()], tmp_path / "file" / "to", cache=None)


# --- credentials ----------------------------------------------------------------------------------


def test_credentials_of_the_url_go_into_a_header(site: Site, to: Path) -> None:
    url = f"http://me:p%40ss@{site.host}/a.whl"
    fetch([Download(url, "a.whl")], to, cache=None)
    assert site.header("Authorization") == [basic("me", "p@ss")]
    assert site.asked[0][0] == "/a.whl"


def test_credentials_of_the_index_serve_its_files(site: Site, to: Path) -> None:
    options = IndexOptions(extra_index_urls=(f"http://me:pass@{site.host}/simple",))
    fetch([site.download()], to, cache=None, options=options)
    assert site.header("Authorization") == [basic("me", "pass")]


def test_netrc_is_read(site: Site, to: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "n").write_text("machine 127.0.0.1\nlogin net\npassword rc\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "n"))
    fetch([site.download()], to, cache=None)
    assert site.header("Authorization") == [basic("net", "rc")]


def test_a_redirect_to_another_host_takes_no_credentials_along(sites: Callable[..., Site], to: Path) -> None:
    site, other = sites(), sites()
    site.plan(moved("/b.whl"))
    site.plan(moved(f"{site.url}/c.whl"), path="/b.whl")
    site.plan(moved(f"{other.url}/a.whl"), path="/c.whl")
    options = IndexOptions(index_url=f"http://me:pass@{site.host}/simple")
    fetch([Download(f"http://you:word@{site.host}/a.whl", "a.whl")], to, cache=None, options=options)
    assert (to / "a.whl").read_bytes() == DATA
    assert site.header("Authorization") == [basic("you", "word")] * 3
    assert other.header("Authorization") == [None]
    assert site.connections == 1


def test_redirects_in_circles_end(site: Site, to: Path) -> None:
    site.plan(*[moved("/a.whl")] * 20)
    with pytest.raises(IndexUnavailableError, match="circles"):
        fetch([site.download()], to, cache=None)
    assert len(site.asked) == 10


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://host.test/a.whl"])
def test_a_redirect_leads_only_to_hosts(site: Site, to: Path, where: str) -> None:
    site.plan(moved(where))
    with pytest.raises(IndexUnavailableError, match="not a URL of http or https"):
        fetch([site.download()], to, cache=None)


# --- proxies and certificates ---------------------------------------------------------------------


def test_a_proxy_is_asked_for_the_whole_url(site: Site, to: Path) -> None:
    proxy = f"http://pro:xy@{site.host}"
    site.url = "http://nowhere.test"
    fetch([site.download()], to, cache=None, options=IndexOptions(proxy=proxy))
    assert [path for path, _ in site.asked] == ["http://nowhere.test/a.whl"]
    assert site.header("Proxy-Authorization") == [basic("pro", "xy")]
    assert site.header("Host") == ["nowhere.test"]


def test_the_environments_proxy_is_used_where_no_proxy_allows(
    sites: Callable[..., Site], to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, proxy = sites(), sites()
    monkeypatch.setenv("http_proxy", proxy.url)
    proxy.plan(lambda handler: handler.serve(DATA), path=f"{site.url}/a.whl")
    fetch([site.download()], to, cache=None)
    assert (len(proxy.asked), len(site.asked)) == (1, 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch([site.download()], to, cache=None)
    assert (len(proxy.asked), len(site.asked)) == (1, 1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody knows, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    directory = tmp_path_factory.mktemp("tls")
    chain, key = directory / "chain.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=depload test"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return chain, key


@pytest.fixture
def secure(sites: Callable[..., Site], certificate: tuple[Path, Path]) -> Site:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return sites(context)


def test_an_unknown_certificate_is_refused_at_once(secure: Site, to: Path) -> None:
    with pytest.raises(IndexUnavailableError, match="certificate verify failed") as caught:
        fetch([secure.download()], to, cache=None, patience=QUICK)
    assert caught.value.attempts == 1
    assert secure.asked == []


def test_a_certificate_given_is_trusted(
    secure: Site, to: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch([secure.download()], to, cache=None, options=IndexOptions(cert=str(certificate[0])))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    fetch([secure.download()], to, cache=None)
    assert len(secure.asked) == 2


def test_a_trusted_host_is_not_verified_and_others_are(secure: Site, to: Path) -> None:
    for host in ("127.0.0.1", secure.host):
        fetch([secure.download()], to, cache=None, options=IndexOptions(trusted_hosts=(host,)))
    with pytest.raises(IndexUnavailableError, match="certificate verify failed"):
        fetch([secure.download()], to, cache=None, options=IndexOptions(trusted_hosts=("127.0.0.1:1", "localhost")))


def test_certificates_that_cannot_be_read_are_named(secure: Site, to: Path) -> None:
    with pytest.raises(StoreError, match=r"/not/here\.pem: no certificates can be read"):
        fetch([secure.download()], to, cache=None, options=IndexOptions(cert="/not/here.pem"))


def test_tls_goes_through_a_proxy_that_sees_no_credentials(secure: Site, site: Site, to: Path) -> None:
    options = IndexOptions(
        proxy=f"http://pro:xy@{site.host}", trusted_hosts=("127.0.0.1",), index_url=f"https://me:pass@{secure.host}/x"
    )
    fetch([secure.download()], to, cache=None, options=options)
    assert [path for path, _ in site.asked] == [secure.host]
    assert site.header("Authorization") == [None]
    assert secure.header("Authorization") == [basic("me", "pass")]
    assert secure.header("Proxy-Authorization") == [None]


def test_a_redirect_from_tls_to_none_is_refused(secure: Site, site: Site, to: Path) -> None:
    secure.plan(moved(f"{site.url}/a.whl"))
    with pytest.raises(IndexUnavailableError, match="not encrypted"):
        fetch([secure.download()], to, cache=None, options=IndexOptions(trusted_hosts=("127.0.0.1",)))
    assert site.asked == []
