"""What stands between the tools and an index with a password: they get all that it lists, and nothing else."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from conftest import make_wheel, project, write_files
from depload import IndexOptions, Target
from depload.errors import IndexUnavailableError
from depload.making import tools, ways
from depload.making.aliases import Aliases
from depload.making.builder import Buildable, build
from depload.making.fetcher import Download, fetch
from depload.making.indexes import without_user
from depload.making.resolver import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNNING = Target.running()
PASSWORD = "hidden/p@ss"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


class Server(ThreadingHTTPServer):
    """Answers what ``pages`` has, by path; keeps what it was asked."""

    daemon_threads = True

    def __init__(self, *, locked: bool, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.locked = locked
        self.scheme = "https" if context else "http"
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    @property
    def url_with_user(self) -> str:
        return f"{self.scheme}://me:hidden%2Fp%40ss@{self.host}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server = self.server
        who = self.headers.get("Authorization")
        server.asked.append((self.command, self.path, who))
        kind, body = server.pages.get(self.path, ("text/plain", b""))
        code = 200 if self.path in server.pages else 404
        if server.locked and who != BASIC:
            code, body = 401, b""
        elif self.path in server.moved:
            code = 303
        self.send_response(code)
        if code == 303:
            self.send_header("Location", server.moved[self.path])
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command == "GET" else b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_CONNECT(self) -> None:
        """A proxy that wants a password of its own."""
        self.server.asked.append(("CONNECT", self.path, self.headers.get("Proxy-Authorization")))
        host, _, port = self.path.rpartition(":")
        there = socket.create_connection((host, int(port)))
        self.send_response(200)
        self.end_headers()
        back = threading.Thread(target=_copy, args=(there, self.connection))
        back.start()
        _copy(self.connection, there)
        back.join()
        there.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    for each in (one, other):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@dataclass
class Running:
    """Servers of a test, and their ends."""

    servers: list[tuple[Server, threading.Thread]] = field(default_factory=list)

    def start(self, **options: Any) -> Server:
        server = Server(**options)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        self.servers.append((server, thread))
        return server

    def stop(self) -> None:
        for server, thread in self.servers:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name.upper().endswith("_PROXY") or name in ("NETRC", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody knows, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=depload test"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return chain, key


@pytest.fixture
def index(running: Running, certificate: tuple[Path, Path], tmp_path: Path) -> Server:
    """An index over TLS whose files lie elsewhere on its host, where the password opens more than they."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = running.start(locked=True, context=context)
    alpha = make_wheel(tmp_path / "made", "alpha", "1.0", {"alpha.py": ""}, "Requires-Dist: beta\n")
    beta = make_wheel(tmp_path / "made", "beta", "1.0", {"beta.py": ""})
    for wheel in (alpha, beta):
        server.pages[f"/download/{wheel.name}"] = ("application/octet-stream", wheel.read_bytes())
    sums = {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in (alpha, beta)}
    link = f'<a href="{server.url_with_user}/download/{alpha.name}#sha256={sums[alpha.name]}">{alpha.name}</a>'
    server.pages["/feed/simple/alpha/"] = ("text/html", link.encode())
    files = [
        {"filename": beta.name, "url": f"{server.url}/download/{beta.name}", "hashes": {"sha256": sums[beta.name]}}
    ]
    page = json.dumps({"meta": {"api-version": "1.0"}, "name": "beta", "files": files}).replace("/", "\\/")
    server.pages["/feed/simple/beta/"] = ("application/vnd.pypi.simple.v1+json", page.encode())
    server.pages["/api/secrets"] = ("text/plain", b"other things")
    return server


@pytest.fixture
def options(index: Server, certificate: tuple[Path, Path]) -> IndexOptions:
    return IndexOptions(index_url=f"{index.url_with_user}/feed/simple", cert=str(certificate[0]))


# --- the tools ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uv", "pip"])
def test_an_index_over_tls_is_read_and_its_urls_are_its_own(
    name: Any, index: Server, options: IndexOptions, tmp_path: Path
) -> None:
    found = resolve(["alpha"], [], RUNNING, options=options, scratch=tmp_path, resolver=name)
    locations = sorted(without_user(file.location) for package in found for file in package.files)
    assert locations == [f"{index.url}/download/{each}-1.0-py3-none-any.whl" for each in ("alpha", "beta")]
    assert PASSWORD not in str(found)
    assert "hidden" not in str(found)
    downloads = [Download(file.location, file.filename, file.sha256) for package in found for file in package.files]
    assert len(fetch(downloads, tmp_path / "to", cache=None, options=options)) == 2
    assert {who for _, _, who in index.asked} == {BASIC}


def test_a_file_whose_page_the_tool_still_has_is_given_too(
    index: Server, options: IndexOptions, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    resolve(["beta"], [], RUNNING, options=options, scratch=tmp_path / "one", resolver="uv")
    assert len(resolve(["alpha"], [], RUNNING, options=options, scratch=tmp_path / "two", resolver="uv")) == 2
    assert not [asked for asked in index.asked if asked[1].startswith("/api")]


@pytest.mark.parametrize("name", ["uv", "pip"])
def test_a_refusal_is_told_as_one(name: Any, index: Server, options: IndexOptions, tmp_path: Path) -> None:
    index.locked = False
    index.pages = {}
    wrong = IndexOptions(index_url=options.index_url and options.index_url.replace("me:", "you:"), cert=options.cert)
    index.locked = True
    with pytest.raises(IndexUnavailableError) as raised:
        resolve(["alpha"], [], RUNNING, options=wrong, scratch=tmp_path, resolver=name)
    assert raised.value.url == f"{index.url}/feed/simple/alpha/"
    assert "401 Unauthorized" in raised.value.reason
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("name", ["uv", "pip"])
def test_a_host_that_is_not_there_is_named_as_it_was_given(name: Any, tmp_path: Path) -> None:
    options = IndexOptions(index_url="https://me:hidden@127.0.0.1:9/simple", retries=0)
    with pytest.raises(IndexUnavailableError, match="Connection refused") as raised:
        resolve(["alpha"], [], RUNNING, options=options, scratch=tmp_path, resolver=name)
    assert raised.value.url == "https://127.0.0.1:9/simple/alpha/"


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_a_build_sees_no_password_by_either_tool(
    tool: str, options: IndexOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "pip":
        monkeypatch.setattr(tools, "uv", lambda: None)
    monkeypatch.setenv("PIP_INDEX_URL", options.index_url or "")
    monkeypatch.setenv("UV_INDEX_ACME_PASSWORD", "hidden")
    monkeypatch.setenv("HTTPS_PROXY", "http://pro:hidden@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files = project("acme")
    look = (
        "import os, sys, beta\nseen = [sys.argv, dict(os.environ)]\n"
        "if os.path.exists('/proc'):\n"
        "    for pid in ('self', os.getppid()):\n"
        "        seen += [open(f'/proc/{pid}/{name}').read() for name in ('environ', 'cmdline')]\n"
        f"open({str(tmp_path / 'seen')!r}, 'a').write(str(seen))\n"
    )
    files["backend.py"] = f"{look}\n{str(files['backend.py']).replace(chr(10) + ' ' * 12, chr(10))}".replace(
        " " * 12 + "import base64", "import base64"
    )
    files["pyproject.toml"] = str(files["pyproject.toml"]).replace("requires = []", 'requires = ["beta"]')
    source = write_files(tmp_path / "project", files)
    build([Buildable(source, "the project")], RUNNING, options=options, to=tmp_path / "work")
    seen = (tmp_path / "seen").read_text()
    assert "HTTP_PROXY" in seen
    assert "hidden" not in seen
    assert BASIC.removeprefix("Basic ") not in seen


def test_where_nothing_is_secret_the_tools_go_straight_to_the_hosts(tmp_path: Path) -> None:
    options = IndexOptions(index_url="https://host.test/simple", proxy="http://proxy.test:3128")
    with ways.opened(options) as way:
        assert way.options is options
        assert way.environment(tmp_path / "other")["HTTPS_PROXY"] == "http://proxy.test:3128"


@pytest.mark.parametrize("answer", ["nobody", "401"])
def test_an_extra_index_that_fails_is_no_reason_for_pip_to_take_what_is_elsewhere(
    answer: str, index: Server, options: IndexOptions, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "links", "alpha", "9.0", {"alpha.py": ""})
    url = (
        "http://me:hidden@127.0.0.1:9/simple" if answer == "nobody" else f"https://you:hidden@{index.host}/feed/simple"
    )
    both = IndexOptions(extra_index_urls=(url,), index_url=url, find_links=(str(tmp_path / "links"),), retries=0)
    both = both.over(IndexOptions(cert=options.cert))
    with pytest.raises(IndexUnavailableError, match="Connection refused" if answer == "nobody" else "401") as raised:
        resolve(["alpha"], [], RUNNING, options=both, scratch=tmp_path, resolver="pip")
    assert "hidden" not in str(raised.value)


# --- what it gives away ---------------------------------------------------------------------------------------------


class Tool:
    """What a build could ask: over the proxy that it is told of."""

    def __init__(self, environment: dict[str, str | None]) -> None:
        proxy = urlsplit(str(environment["HTTP_PROXY"]))
        self.server = proxy.hostname or "", proxy.port or 0
        self.token = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()

    def get(self, url: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(*self.server, timeout=30)
        try:
            connection.request("GET", url, headers={"Proxy-Authorization": f"Basic {self.token}", **headers})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/feed/simple/alpha/", 200),
        ("/download/alpha-1.0-py3-none-any.whl", 200),
        ("/download/alpha-1.0-py3-none-any.whl?x=1", 404),
        ("/download/gamma-1.0-py3-none-any.whl", 403),
        ("/download/", 403),
        ("/api/secrets", 403),
        ("/feed/simple/../../api/secrets", 403),
        ("/feed/simple/%2e%2e/%2E%2E/api/secrets", 403),
        ("/feed/simple2/", 403),
    ],
)
def test_only_the_index_and_what_it_lists_is_given(
    path: str, status: int, index: Server, options: IndexOptions, tmp_path: Path
) -> None:
    with ways.opened(options) as way:
        tool = Tool(way.environment(tmp_path / "other"))
        assert tool.get(f"http://{index.host}{path}")[0] == status
    assert not any("secrets" in asked[1] for asked in index.asked)


def test_nothing_is_given_without_the_token(index: Server, options: IndexOptions, tmp_path: Path) -> None:
    with ways.opened(options) as way:
        tool = Tool(way.environment(tmp_path / "other"))
        for token in ("", "x"):
            status, _ = tool.get(f"http://{index.host}/feed/simple/alpha/", **{"Proxy-Authorization": token})
            assert status == 407
    assert index.asked == []


def test_another_host_gets_no_password_not_even_by_redirect(
    running: Running, index: Server, options: IndexOptions, tmp_path: Path
) -> None:
    other = running.start(locked=False)
    other.pages = {"/file.whl": ("application/octet-stream", b"x")}
    index.moved["/download/alpha-1.0-py3-none-any.whl"] = f"{other.url}/file.whl"
    with ways.opened(options) as way:
        tool = Tool(way.environment(tmp_path / "other"))
        assert tool.get(f"http://{index.host}/download/alpha-1.0-py3-none-any.whl")[0] == 303
        assert tool.get(f"{other.url}/file.whl") == (200, b"x")
    assert [who for _, _, who in other.asked] == [None]


def test_netrc_is_asked_for_indexes_alone(running: Running, tmp_path: Path) -> None:
    server = running.start(locked=True)
    server.pages = {"/simple/": ("text/html", b"x"), "/other": ("text/html", b"x")}
    write_files(tmp_path / "home", {".netrc": f"machine 127.0.0.1 login me password {PASSWORD}\n"})
    (tmp_path / "home/.netrc").chmod(0o600)
    elsewhere = running.start(locked=True)
    elsewhere.pages = {"/": ("text/html", b"x")}
    with ways.opened(IndexOptions(index_url=f"{server.url}/simple")) as way:
        tool = Tool(way.environment(tmp_path / "other"))
        assert tool.get(f"{server.url}/simple/") == (200, b"x")
        assert tool.get(f"{server.url}/other")[0] == 403
        assert tool.get(f"{elsewhere.url}/")[0] == 401


def test_a_proxy_with_a_password_is_gone_through_for_every_host(
    running: Running, index: Server, options: IndexOptions, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    proxy = running.start(locked=False)
    with_proxy = IndexOptions(
        index_url=without_user(options.index_url or ""), cert=options.cert, proxy=f"http://pro:hidden@{proxy.host}"
    )
    index.locked = False
    with ways.opened(with_proxy) as way:
        environment = way.environment(tmp_path / "other")
        assert "hidden" not in str(environment)
        code = (
            "import ssl, sys, urllib.request as r; "
            "print(len(r.urlopen(sys.argv[1], context=ssl.create_default_context(cafile=sys.argv[2])).read()))"
        )
        url = f"{index.url}/feed/simple/alpha/"
        command = [sys.executable, "-c", code, url, str(certificate[0])]
        done = way.run(command, what="a look", environment=environment, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert int(done.stdout) > 0
    token = base64.b64encode(b"pro:hidden").decode()
    assert proxy.asked == [("CONNECT", index.host, f"Basic {token}")]


def test_it_ends_though_a_host_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        threads = threading.active_count()
        with ways.opened(IndexOptions(index_url=f"http://me:hidden@{host}/simple")) as way:
            tool = Tool(way.environment(tmp_path / "other"))
            with socket.create_connection(tool.server) as asking:
                words = f"GET http://{host}/simple/ HTTP/1.1\r\nProxy-Authorization: Basic {tool.token}\r\n\r\n"
                asking.sendall(words.encode())
                silent.accept()[0].close()
        assert threading.active_count() == threads


# --- names ----------------------------------------------------------------------------------------------------------

HTTPS, HTTP, ODD = ("https", "host.test", 443), ("http", "plain.test", 80), ("https", "odd.test", 8443)


@pytest.mark.parametrize(
    ("text", "concealed", "revealed"),
    [
        ("https://host.test/a", "http://host.test:443/a", "https://host.test/a"),
        ("https://me:p%40@HOST.test:443/a", "http://host.test:443/a", "https://host.test/a"),
        ("x=https://me@host.test y", "x=http://host.test:443 y", "x=https://host.test y"),
        ("https://host.test:8443/a", "https://host.test:8443/a", "https://host.test:8443/a"),
        ("https://host.test.evil/a", "https://host.test.evil/a", "https://host.test.evil/a"),
        ("https://sub.host.test/a", "https://sub.host.test/a", "https://sub.host.test/a"),
        ("http://host.test/a", "http://host.test/a", "http://host.test/a"),
        ("http://me:p@plain.test/a", "http://plain.test/a", "http://plain.test/a"),
        ("https://odd.test:8443/a", "http://odd.test:8443/a", "https://odd.test:8443/a"),
        ("https://odd.test/a", "https://odd.test/a", "https://odd.test/a"),
    ],
)
def test_hosts_have_an_alias_and_get_their_names_back(text: str, concealed: str, revealed: str) -> None:
    aliases = Aliases([HTTPS, HTTP, ODD])
    assert aliases.conceal(text) == concealed
    assert aliases.reveal(concealed) == revealed


def test_wheels_are_the_same_whichever_way_the_tool_went(index: Server, options: IndexOptions, tmp_path: Path) -> None:
    source = write_files(tmp_path / "project", project("acme"))
    made = [
        build([Buildable(source, "acme")], RUNNING, options=each, to=tmp_path / name)[0].read_bytes()
        for name, each in (("one", options), ("two", IndexOptions(no_index=True)))
    ]
    assert made[0] == made[1]
    assert index.asked == []
