"""Names that are bound to an index: who has a higher version of them elsewhere is never asked and never believed."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from conftest import below, make_wheel, project, runs_in, write_files
from depload import IndexOptions, convert
from depload.errors import IndexBindingError, IndexUnavailableError, OptionError, ResolutionError
from depload.making import bindings
from depload.making.bindings import Bindings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from depload.pipeline import Converted

RESOLVERS = pytest.mark.parametrize("resolver", ["uv", "pip"])


# --- the rules ------------------------------------------------------------------------------------------------------

PRIVATE, PUBLIC = "https://packages.acme.test/simple", "https://pypi.test/simple"


def bound(*index_for: str, **options: Any) -> Bindings:
    return Bindings.of(IndexOptions(index_for=index_for, **options))


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("acme-core", PRIVATE),
        ("Acme_Core", PRIVATE),
        ("acme.core", PRIVATE),
        ("acme-public", PUBLIC),
        ("acme-public-tools", PRIVATE),
        ("acmecore", None),
        ("numpy", None),
    ],
)
def test_a_name_goes_over_a_prefix_and_spelling_does_not_matter(name: str, index: str | None) -> None:
    assert bound(f"ACME_*={PRIVATE}", f"acme.public={PUBLIC}").index_of(name) == index


def test_the_longest_prefix_counts_and_a_star_is_for_all_others() -> None:
    rules = bound(f"*={PUBLIC}", f"acme*={PUBLIC}/one", f"acme-core*={PRIVATE}")
    assert [rules.index_of(name) for name in ("acme-core-x", "acme-x", "six")] == [PRIVATE, f"{PUBLIC}/one", PUBLIC]


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        (f"{PUBLIC}/acme-core/", True),
        (f"{PUBLIC}/ACME_core", True),
        (f"{PUBLIC}/acme-core/acme_core-9.0.whl", True),
        (f"{PUBLIC}/%61cme-core/", True),
        (f"{PUBLIC}/six/", False),
        (f"{PRIVATE}/acme-core/", False),
        (f"{PRIVATE}/six/", True),
        (f"{PRIVATE}/packages/ab/six-1.0.whl", False),
        ("https://files.test/acme-core/", False),
    ],
)
def test_an_index_shows_what_it_may_serve(url: str, hidden: bool) -> None:
    rules = bound(f"acme-*={PRIVATE}", index_url=PUBLIC)
    assert rules.refuses(url, [PUBLIC, PRIVATE]) == hidden


def test_an_index_that_is_named_for_everything_too_serves_everything() -> None:
    rules = bound(f"acme-*={PRIVATE}", index_url=PUBLIC, extra_index_urls=(f"{PRIVATE}/",))
    assert not rules.refuses(f"{PRIVATE}/six/", [PUBLIC, PRIVATE])
    assert rules.refuses(f"{PUBLIC}/acme-core/", [PUBLIC, PRIVATE])


def test_everything_that_cannot_be_read_is_named_at_once_and_without_passwords(tmp_path: Path, base: Path) -> None:
    entries = ("acme", "a b=https://x.test", "acme=ftp://x.test", "x=https://me:secret@x.test", "x=https://y.test")
    with pytest.raises(OptionError) as caught:
        convert(tmp_path, base, options=IndexOptions(index_for=entries))
    assert [fault.where for fault in caught.value.faults] == [*entries[:3], entries[4]]
    assert "secret" not in str(caught.value)
    assert "x=https://y.test: is bound to two indexes" in str(caught.value)


# --- two real indexes -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Indexes:
    """A private index, and a public one that has higher versions of the private names."""

    private: str
    public: str
    packages: Path

    @property
    def options(self) -> IndexOptions:
        return IndexOptions(index_url=self.public, index_for=(f"acme-*={self.private}",))


BACKEND = """\
import acme_build_helper
assert acme_build_helper.INDEX == "private", acme_build_helper.INDEX
"""


def _built(name: str) -> dict[str, str | bytes]:
    """A project whose build requires a private name, and fails with the public one."""
    files = project(name, version="1.0")
    files["pyproject.toml"] = str(files["pyproject.toml"]).replace("requires = []", 'requires = ["acme-build-helper"]')
    files["backend.py"] = f"{BACKEND}{dedent(str(files['backend.py']))}"
    return files


def _sdist(folder: Path, name: str, files: Mapping[str, str | bytes]) -> None:
    stem = f"{name.replace('-', '_')}-1.0"
    with tarfile.open(folder / f"{stem}.tar.gz", "w:gz") as opened:
        for member, content in {**files, "PKG-INFO": f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n"}.items():
            data = dedent(content).encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(f"{stem}/{member}")
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


def _served(folder: Path, stack: contextlib.ExitStack) -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    command = [sys.executable, "-m", "pypiserver", "run", "-p", str(port), "-i", "127.0.0.1", "--disable-fallback"]
    log = stack.enter_context((folder.parent / f"{folder.name}.log").open("wb"))
    server = subprocess.Popen([*command, "-P", ".", "-a", ".", str(folder)], stdout=log, stderr=log)
    stack.callback(server.wait, 20)
    stack.callback(server.terminate)
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        assert server.poll() is None
        time.sleep(0.05)
    return f"http://127.0.0.1:{port}/simple"


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexes]:
    if importlib.util.find_spec("pypiserver") is None:  # not imported: its framework changes how modules are found
        pytest.skip("no pypiserver to serve two indexes")
    folder = tmp_path_factory.mktemp("indexes")
    for index, version in (("private", "1.0"), ("public", "9.0")):
        for name in ("acme-core", "acme-build-helper"):
            module = name.replace("-", "_")
            make_wheel(folder / index, name, version, {f"{module}.py": f"INDEX = {index!r}\n"})
    make_wheel(folder / "private", "tool", "9.0", {"tool.py": ""})
    make_wheel(folder / "public", "tool", "1.0", {"tool.py": ""}, "Requires-Dist: acme-core\n")
    make_wheel(folder / "public", "acme-only-public", "1.0", {"acme_only_public.py": ""})
    _sdist(folder / "public", "needs-helper", _built("needs-helper"))
    with contextlib.ExitStack() as stack:
        yield Indexes(_served(folder / "private", stack), _served(folder / "public", stack), folder)


@pytest.fixture
def converted(
    tmp_path: Path, base: Path, indexes: Indexes, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Converted]:
    """Convert files with a user's empty configuration and caches, from the two indexes."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_")) and name != "PIP_CERT"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("DEPLOAD_CACHE_DIR", str(tmp_path / "cache"))

    def run(files: Mapping[str, str | bytes], **more: Any) -> Converted:
        more.setdefault("options", indexes.options)
        return convert(write_files(tmp_path / "source", files), base, compile=False, **more)

    return run


def versions(found: Converted) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in found.wheels}


@RESOLVERS
@pytest.mark.parametrize("order", ["public first", "private first"])
def test_without_a_binding_the_higher_version_of_the_public_index_may_win(
    resolver: Any, order: str, indexes: Indexes, converted: Callable[..., Converted]
) -> None:
    """What the others of these tests are worth: pip takes it always, uv by the order of the indexes."""
    urls = (indexes.public, indexes.private)
    first, second = urls if order == "public first" else urls[::-1]
    options = IndexOptions(index_url=second, extra_index_urls=(first,))
    found = converted({"requirements.txt": "acme-core\n"}, options=options, resolver=resolver)
    wins = resolver == "pip" or order == "public first"
    assert versions(found) == {"acme-core": "9.0" if wins else "1.0"}


@RESOLVERS
@pytest.mark.parametrize("line", ["acme-core", "Acme_Core>=0.5", "tool"])
def test_a_bound_name_comes_from_its_index_alone_asked_for_or_only_required(
    resolver: Any, line: str, indexes: Indexes, converted: Callable[..., Converted]
) -> None:
    found = converted({"requirements.txt": f"{line}\n"}, resolver=resolver)
    assert versions(found)["acme-core"] == "1.0"
    (wheel,) = [wheel for wheel in found.wheels if wheel.name == "acme-core"]
    assert wheel.origin.startswith(indexes.private.removesuffix("/simple"))


@RESOLVERS
def test_an_index_that_is_named_for_a_binding_alone_serves_nothing_else(
    resolver: Any, converted: Callable[..., Converted]
) -> None:
    assert versions(converted({"requirements.txt": "tool\n"}, resolver=resolver))["tool"] == "1.0"


@RESOLVERS
def test_an_index_that_is_an_extra_one_too_serves_the_rest(
    resolver: Any, indexes: Indexes, converted: Callable[..., Converted]
) -> None:
    options = IndexOptions(extra_index_urls=(indexes.private,)).over(indexes.options)
    found = converted({"requirements.txt": "tool\nacme-core\n"}, options=options, resolver=resolver)
    assert versions(found) == {"tool": "9.0", "acme-core": "1.0"}


@RESOLVERS
@pytest.mark.parametrize("line", ["acme-core>1", "acme-only-public"])
def test_a_bound_name_that_its_index_lacks_is_not_found(
    resolver: Any, line: str, base: Path, converted: Callable[..., Converted]
) -> None:
    with pytest.raises(ResolutionError, match=r"(?i)acme.(?:core|only.public)"):
        converted({"requirements.txt": f"{line}\n"}, resolver=resolver)
    assert runs_in(base) == []


@RESOLVERS
def test_a_source_cannot_name_another_index_for_it(
    resolver: Any, indexes: Indexes, converted: Callable[..., Converted]
) -> None:
    files = {"requirements.txt": f"--index-url {indexes.public}/\n--extra-index-url {indexes.public}\nacme-core\n"}
    assert versions(converted(files, resolver=resolver)) == {"acme-core": "1.0"}


@pytest.mark.parametrize("form", ["a URL", "a lock", "find-links"])
@RESOLVERS
def test_what_would_come_from_elsewhere_is_refused_before_anything_is_fetched(
    form: str, resolver: Any, indexes: Indexes, base: Path, converted: Callable[..., Converted]
) -> None:
    wheel = next((indexes.packages / "public").glob("acme_core-*.whl"))
    url = f"{indexes.public.removesuffix('/simple')}/packages/{wheel.name}"
    lock = f'lock-version = "1.0"\n[[packages]]\nname = "acme-core"\nversion = "9.0"\nwheels = [{{ url = "{url}" }}]\n'
    links = IndexOptions(find_links=(str(wheel.parent),))
    files, options = {
        "a URL": ({"requirements.txt": f"acme-core @ {url}\n"}, IndexOptions()),
        "a lock": ({"pylock.toml": lock}, IndexOptions()),
        "find-links": ({"requirements.txt": "acme-core>1\n"}, links),
    }[form]
    with pytest.raises(IndexBindingError) as caught:
        converted(files, options=options.over(indexes.options), resolver=resolver)
    (fault,) = caught.value.faults
    assert fault.where == "acme-core"
    assert fault.what.endswith(f"and is bound to {indexes.private}")
    assert runs_in(base) == []


@RESOLVERS
def test_a_file_of_the_right_index_may_be_named_by_its_url(
    resolver: Any, indexes: Indexes, converted: Callable[..., Converted]
) -> None:
    wheel = next((indexes.packages / "private").glob("acme_core-*.whl"))
    url = f"{indexes.private.removesuffix('/simple')}/packages/{wheel.name}"
    assert versions(converted({"requirements.txt": f"acme-core @ {url}\n"}, resolver=resolver)) == {"acme-core": "1.0"}


@RESOLVERS
def test_what_the_source_itself_holds_is_its_own(resolver: Any, converted: Callable[..., Converted]) -> None:
    """A binding says where a name is fetched from; a project of the company's own has such a name itself."""
    files = {"requirements.txt": "acme-core\n", **below("mine", project("acme-mine", requires=["acme-core"]))}
    assert versions(converted(files, resolver=resolver)) == {"acme-core": "1.0", "acme-mine": "1.0"}


@pytest.mark.parametrize("tool", ["uv", "pip"])
@pytest.mark.parametrize("kind", ["a project of the source", "an sdist of the index"])
def test_what_a_build_requires_comes_from_the_index_it_is_bound_to(
    kind: str, tool: str, converted: Callable[..., Converted], monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "pip":
        monkeypatch.setattr("depload.making.tools.uv", lambda: None)
    is_project = kind == "a project of the source"
    files = below("mine", _built("mine")) if is_project else {"requirements.txt": "needs-helper\n"}
    assert versions(converted(files)) == ({"mine": "1.0"} if is_project else {"needs-helper": "1.0"})


def test_a_project_cannot_name_an_index_of_its_own_to_uv(indexes: Indexes, converted: Callable[..., Converted]) -> None:
    files = _built("mine")
    files["pyproject.toml"] = dedent(str(files["pyproject.toml"])) + (
        f'[[tool.uv.index]]\nname = "other"\nurl = "{indexes.public.replace("127.0.0.1", "localhost")}"\n'
        '[tool.uv.sources]\nacme-build-helper = { index = "other" }\n'
    )
    assert versions(converted(below("mine", files))) == {"mine": "1.0"}


class Remembered(SimpleHTTPRequestHandler):
    """Pages that may be kept for ten minutes, as PyPI's may."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=600")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@RESOLVERS
def test_what_a_tool_remembers_from_before_does_not_count(
    resolver: Any, tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    for index, version in (("private", "1.0"), ("public", "9.0")):
        make_wheel(tmp_path / "host" / index / "acme-core", "acme-core", version, {"acme_core.py": ""})
    handler = functools.partial(Remembered, directory=str(tmp_path / "host"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        private, public = (f"http://127.0.0.1:{server.server_port}/{index}" for index in ("private", "public"))
        try:
            files = {"requirements.txt": "acme-core\n"}
            both = IndexOptions(index_url=private, extra_index_urls=(public,))
            assert versions(converted(files, options=both, resolver=resolver)) == {"acme-core": "9.0"}
            bound = IndexOptions(index_for=(f"acme-core={private}",)).over(both)
            assert versions(converted(files, options=bound, resolver=resolver)) == {"acme-core": "1.0"}
        finally:
            server.shutdown()
            thread.join()


def test_an_index_that_does_not_answer_is_no_reason_to_believe() -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{found.getsockname()[1]}/simple"
        with pytest.raises(IndexUnavailableError, match=url):
            bindings.check(
                [("acme", "https://x.test/acme-1-py3-none-any.whl")], IndexOptions(index_for=(f"acme={url}",))
            )
