"""A private index: its password is used however it is given, and stands in nothing that a run leaves or starts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import sysconfig
import tarfile
import threading
import time
import traceback
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from conftest import make_wheel, write_files, write_zip
from depload import IndexOptions
from depload.errors import DeploadError
from depload.pipeline import convert
from depload.published import wheelhouse
from depload.published.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

USER, PASSWORD = "me", "hidden/p@ss:w%rd"
QUOTED = quote(PASSWORD, safe="")
NEEDLES = [
    PASSWORD,
    QUOTED,
    QUOTED.lower(),
    *(base64.b64encode(f"{user}:{PASSWORD}".encode()).decode() for user in (USER, "someone-else")),
    base64.b64encode(PASSWORD.encode()).decode(),
]
HAS_PROC = Path("/proc/self/environ").exists()
pytestmark = [pytest.mark.network, pytest.mark.skipif(not HAS_PROC, reason="looks at processes in /proc")]

# What a build can see of its own accord: its environment, that of the processes which started it up to the one that
# converts, and what lies in its home.
SPY = """\
import json, os, pathlib


def seen():
    found = {"environment": dict(os.environ)}
    home = pathlib.Path.home()
    found["home"] = [[str(path), path.read_text("utf-8", "replace")] for path in home.rglob("*") if path.is_file()]
    pid = os.getpid()
    while pid and str(pid) != os.environ["STOP_AT"]:  # the first process of a namespace has no parent in it
        for name in ("environ", "cmdline"):
            try:
                file = open(f"/proc/{pid}/{name}", "rb")
            except PermissionError:
                continue
            with file:
                found[f"{name} of {len(found)}"] = file.read().decode("utf-8", "replace").split(chr(0))
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    return json.dumps(found)
"""
BACKEND = f"""\
{SPY}

import base64, hashlib, zipfile


def build_wheel(to, config_settings=None, metadata_directory=None):
    import acme_build_helper
    files = {{
        "NAME/__init__.py": "SEEN = " + repr(seen()),
        "NAME-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n",
        "NAME-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    record = "NAME-1.0.dist-info/RECORD,,\\n"
    with zipfile.ZipFile(to + "/NAME-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{{name}},sha256={{digest}},{{len(text.encode())}}\\n"
            wheel.writestr(name, text)
        wheel.writestr("NAME-1.0.dist-info/RECORD", record)
    return "NAME-1.0-py3-none-any.whl"
"""
PYPROJECT = """\
[build-system]
requires = ["acme-build-helper"]
build-backend = "backend"
backend-path = ["."]
"""


def _project(name: str, *, broken: bool = False) -> dict[str, str]:
    """A project whose build requires a package of the private index, and tells what it has seen."""
    backend = BACKEND.replace("NAME", name)
    return {
        "backend.py": backend.replace("    import acme_build", "    raise ValueError(seen())\n    import acme_build")
        if broken
        else backend,
        "pyproject.toml": PYPROJECT,
    }


def _sdist(folder: Path, name: str, files: Mapping[str, str]) -> None:
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as opened:
        metadata = f"Metadata-Version: 1.0\nName: {name}\nVersion: 1.0\n"
        for member, text in {**files, "PKG-INFO": metadata}.items():
            info = tarfile.TarInfo(f"{name}-1.0/{member}")
            info.size = len(text.encode())
            opened.addfile(info, io.BytesIO(text.encode()))


@dataclass(frozen=True)
class Index:
    """The private index, and the public one."""

    url: str
    public: str
    user: str = USER

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def with_user(self) -> str:
        return self.url.replace("://", f"://{self.user}:{QUOTED}@")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """A pypiserver that wants user and password for everything."""
    if importlib.util.find_spec("pypiserver") is None:  # not imported: its framework changes how modules are found
        pytest.skip("no pypiserver to serve a private index")
    folder = tmp_path_factory.mktemp("index")
    packages = folder / "packages"
    make_wheel(packages, "acme-private", "1.0", {"acme_private.py": "import six\n"}, "Requires-Dist: six==1.16.0\n")
    make_wheel(packages, "acme-build-helper", "1.0", {"acme_build_helper.py": ""})
    make_wheel(packages, "acme-unsolvable", "1.0", {"acme_unsolvable.py": ""}, "Requires-Dist: six==0.0.1\n")
    _sdist(packages, "acme_sdist", _project("acme_sdist"))
    _sdist(packages, "acme_broken", _project("acme_broken", broken=True))
    sha1 = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
    (folder / "people").write_text(f"{USER}:{{SHA}}{sha1}\n")
    port = _free_port()
    command = [sys.executable, "-m", "pypiserver", "run", "-p", str(port), "-i", "127.0.0.1", "--disable-fallback"]
    command += ["-P", str(folder / "people"), "-a", "update,download,list", str(packages)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        public = IndexOptions.configured().index_url or "https://pypi.org/simple"
        yield Index(f"http://127.0.0.1:{port}/simple", public)
    finally:
        server.terminate()
        server.wait(20)


# --- a run, and all that it leaves ----------------------------------------------------------------------------------


@dataclass
class Run:
    """A conversion by the command line in a process of its own, and what could be seen of it."""

    scratch: Path
    given: list[str]
    environment: dict[str, str]
    code: int = -1
    stdout: str = ""
    stderr: str = ""
    processes: set[str] = field(default_factory=set)

    @property
    def base(self) -> Path:
        return self.scratch / "base"

    def convert(self, source: Path, *more: str) -> Run:
        code = (
            "import os, sys; os.environ['STOP_AT'] = str(os.getpid()); sys.argv[0] = 'depload'; "
            "from depload.command.cli import main; main()"
        )
        words = [sys.executable, "-c", code, "convert", str(source), "--base", str(self.base), *self.given, *more]
        process = subprocess.Popen(
            words, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(process.pid, over))
        watcher.start()
        try:
            self.stdout, self.stderr = process.communicate(timeout=300)
        finally:
            over.set()
            watcher.join()
        self.code = process.returncode
        return self

    def _watch(self, pid: int, over: threading.Event) -> None:
        """Command lines of every process of the machine, and the environment of those that this run has started."""
        before = {entry.name for entry in Path("/proc").glob("[0-9]*")}
        while not over.wait(0.01):
            for entry in Path("/proc").glob("[0-9]*"):
                if entry.name in before or int(entry.name) == pid:
                    continue
                with contextlib.suppress(OSError):
                    environment = (entry / "environ").read_bytes()
                    if f"STOP_AT={pid}".encode() in environment:  # not a child that is not yet what it is to be
                        line = (entry / "cmdline").read_bytes()
                        self.processes.add(line.decode("utf-8", "replace"))
                        if b"\0-S\0" not in line:  # the interpreter, asked for its version: it runs nobody's code
                            self.processes.add(environment.decode("utf-8", "replace"))
        assert self.processes

    def leaks(self) -> list[str]:
        """Where the password stands."""
        texts = {"stdout": self.stdout, "stderr": self.stderr}
        texts |= {f"process {line[:200]!r}": line for line in self.processes}
        found = [where for where, text in texts.items() if _tells(text.encode())]
        kept = [self.base, *(self.scratch / name for name in ("temporary", "uv", "pip", "cache", "sites"))]
        return found + [where for folder in kept for where in _files_that_tell(folder)]


def _tells(data: bytes) -> bool:
    return any(needle.encode() in data for needle in NEEDLES)


def _files_that_tell(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if _tells(data) or _tells(str(path).encode()):
                yield str(path)
            if zipfile.is_zipfile(path):
                yield from (f"{path}!{name}" for name in _members_that_tell(data))


def _members_that_tell(data: bytes) -> Iterator[str]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        for name in opened.namelist():
            member = opened.read(name)
            if _tells(member):
                yield name
            if name.endswith((".whl", ".zip")):
                yield from (f"{name}!{inner}" for inner in _members_that_tell(member))


def _environment(scratch: Path, index: Index) -> dict[str, str]:
    """A user with a home, caches and a temporary directory of their own, and no index yet."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_", "DATABRICKS_")) and name not in ("NETRC", "XDG_CONFIG_HOME")
    }
    places = {"TMPDIR": "temporary", "HOME": "home", "DEPLOAD_CACHE_DIR": "cache", "DEPLOAD_SITES": "sites"}
    places |= {"UV_CACHE_DIR": "uv", "PIP_CACHE_DIR": "pip"}
    for name in places.values():
        (scratch / name).mkdir(parents=True)
    network = {name: os.environ[name] for name in ("PIP_CERT", "UV_NATIVE_TLS") if name in os.environ}
    return {
        **kept,
        **network,
        **{variable: str(scratch / name) for variable, name in places.items()},
        "PIP_EXTRA_INDEX_URL": index.public,
    }


# --- the ways to give it --------------------------------------------------------------------------------------------


def _in_the_url(run: Run, index: Index) -> None:
    run.given = ["--index-url", index.with_user]


def _in_a_binding(run: Run, index: Index) -> None:
    run.given = ["--index-for", f"acme-*={index.with_user}"]


def _in_pip_conf(run: Run, index: Index) -> None:
    text = f"[global]\nindex-url = {index.with_user}\n"
    write_files(run.scratch / "home", {".config/pip/pip.conf": text})


def _in_a_variable_of_pip(run: Run, index: Index) -> None:
    run.environment["PIP_INDEX_URL"] = index.with_user


def _in_a_variable_of_uv(run: Run, index: Index) -> None:
    run.environment["UV_DEFAULT_INDEX"] = index.with_user
    run.environment["UV_INDEX"] = index.public
    del run.environment["PIP_EXTRA_INDEX_URL"]


def _in_variables_of_a_named_index(run: Run, index: Index) -> None:
    run.environment["UV_INDEX"] = f"acme-index={index.url}"
    run.environment["UV_INDEX_ACME_INDEX_USERNAME"] = USER
    run.environment["UV_INDEX_ACME_INDEX_PASSWORD"] = PASSWORD


def _in_uv_toml(run: Run, index: Index) -> None:
    text = f'[[index]]\nname = "acme"\nurl = "{index.with_user}"\n'
    write_files(run.scratch / "home", {".config/uv/uv.toml": text})


def _in_netrc(run: Run, index: Index) -> None:
    run.given = ["--index-url", index.url]
    text = f"machine {urlsplit(index.url).hostname} login {index.user} password {PASSWORD}\n"
    write_files(run.scratch / "home", {".netrc": text})
    (run.scratch / "home/.netrc").chmod(0o600)


KEYRING = f"""\
from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential


class Backend(KeyringBackend):
    priority = 9

    def get_password(self, service, username):
        asked = open("ASKED", "a")
        print(service, username, file=asked)
        asked.close()
        return {PASSWORD!r} if service == "SERVICE" and username == {USER!r} else None

    def get_credential(self, service, username):
        password = self.get_password(service, username or {USER!r})
        return SimpleCredential({USER!r}, password) if password else None

    set_password = None
"""


def _with_a_keyring(run: Run, service: str) -> None:
    text = KEYRING.replace("SERVICE", service).replace("ASKED", str(run.scratch / "asked"))
    folder = write_files(run.scratch / "keyrings", {"keyring_of_this_test.py": text})
    run.environment["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [run.environment.get("PYTHONPATH")])])
    run.environment["PYTHON_KEYRING_BACKEND"] = "keyring_of_this_test.Backend"
    run.environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), run.environment["PATH"]])


def _in_a_keyring_that_is_imported(run: Run, index: Index) -> None:
    _with_a_keyring(run, f"{index.url}/")
    run.given = ["--index-url", index.url, "--keyring-provider", "import"]


def _in_a_keyring_that_is_a_program(run: Run, index: Index) -> None:
    _with_a_keyring(run, index.host)
    run.environment["PIP_KEYRING_PROVIDER"] = "subprocess"
    run.given = ["--index-url", index.url.replace("://", f"://{USER}@")]


def _in_a_keyring_for_uv(run: Run, index: Index) -> None:
    _with_a_keyring(run, index.url)
    run.environment["UV_KEYRING_PROVIDER"] = "subprocess"
    run.environment["UV_DEFAULT_INDEX"] = index.url.replace("://", f"://{USER}@")


class Workspace(BaseHTTPRequestHandler):
    """The secrets API of a workspace."""

    def do_GET(self) -> None:
        known = self.path.startswith("/api/2.0/secrets/get?") and "scope=builds" in self.path
        value = base64.b64encode(f"{self.server.secret}\n".encode()).decode()  # type: ignore[attr-defined]
        body = json.dumps({"key": "index-url", "value": value} if known else {"error_code": "NOT_FOUND"}).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def workspace(index: Index) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Workspace) as server:
        server.secret = index.with_user  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _in_a_secret_scope(run: Run, _: Index) -> None:
    pytest.importorskip("databricks.sdk")
    run.given = ["--index-url-secret", "builds/index-url"]
    run.environment["DATABRICKS_TOKEN"] = "x"


WAYS: dict[str, Callable[[Run, Index], None]] = {
    "the URL": _in_the_url,
    "a binding of names": _in_a_binding,
    "pip.conf": _in_pip_conf,
    "a variable of pip": _in_a_variable_of_pip,
    "a variable of uv": _in_a_variable_of_uv,
    "variables of a named index": _in_variables_of_a_named_index,
    "uv.toml": _in_uv_toml,
    "netrc": _in_netrc,
    "a keyring that is imported": _in_a_keyring_that_is_imported,
    "a keyring that is a program": _in_a_keyring_that_is_a_program,
    "a keyring for uv": _in_a_keyring_for_uv,
    "a secret scope": _in_a_secret_scope,
}


@pytest.fixture
def run(tmp_path: Path, index: Index, workspace: str) -> Callable[..., Run]:
    def prepared(way: str, user: str = USER) -> Run:
        made = Run(tmp_path / "run", [], _environment(tmp_path / "run", index))
        made.environment["DATABRICKS_HOST"] = workspace
        WAYS[way](made, replace(index, user=user))
        return made

    return prepared


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A wheel and an sdist of the private index, and a project whose build requires a third package of it."""
    files = {"requirements.txt": "acme-private\nacme-sdist\n", **{f"app/{k}": v for k, v in _project("app").items()}}
    return write_zip(tmp_path / "s.zip", files)


def _modules(base: Path) -> dict[str, str]:
    """The packages' sources, by module."""
    (file,) = base.rglob("*.wheelhouse.zip")
    found: dict[str, str] = {}
    with zipfile.ZipFile(file) as opened:
        for name in filter(lambda name: name.endswith(".whl"), opened.namelist()):
            with zipfile.ZipFile(io.BytesIO(opened.read(name))) as wheel:
                found |= {each: wheel.read(each).decode() for each in wheel.namelist() if each.endswith(".py")}
    return found


@pytest.mark.parametrize(
    ("way", "resolver"),
    [(way, "uv") for way in WAYS] + [(way, "pip") for way in ("the URL", "netrc", "a secret scope")],
)
def test_the_index_is_used_and_its_password_is_nowhere(
    way: str, resolver: str, run: Callable[..., Run], source: Path
) -> None:
    done = run(way).convert(source, "--resolver", resolver)
    assert done.code == 0, done.stderr
    modules = _modules(done.base)
    assert {"acme_private.py", "six.py", "acme_sdist/__init__.py", "app/__init__.py"} <= modules.keys()
    for spied in ("acme_sdist/__init__.py", "app/__init__.py"):  # they did look, and as far as to who started the tool
        assert f"STOP_AT={done.environment.get('STOP_AT', '')}" in modules[spied]
        assert "cmdline of" in modules[spied]
        assert str(done.scratch / "home") not in json.dumps(json.loads(_spied(modules[spied]))["home"])
    assert done.leaks() == []
    assert not any((done.scratch / "temporary").iterdir())


def _spied(module: str) -> str:
    space: dict[str, str] = {}
    exec(module, space)
    return space["SEEN"]


def test_as_json_it_is_told_no_more_and_no_less(run: Callable[..., Run], source: Path) -> None:
    done = run("a variable of pip").convert(source, "--json")
    assert done.code == 0, done.stderr
    assert {wheel["name"] for wheel in json.loads(done.stdout)["wheels"]} >= {"acme-private", "six"}
    assert done.leaks() == []


def test_what_workers_are_sent_has_no_password(run: Callable[..., Run], tmp_path: Path) -> None:
    done = run("a secret scope").convert(write_zip(tmp_path / "s.zip", {"requirements.txt": "acme-private\n"}))
    opened = open_run(next(done.base.rglob("*.wheelhouse.zip")).parent)
    wheelhouse.write_reference(opened.file, opened.path, done.scratch / "sites" / "reference.zip")
    assert (done.scratch / "sites" / "reference.zip").stat().st_size > 0
    assert done.leaks() == []


# --- where it goes wrong --------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Mapping[str, str], str]] = {
    "no such package": ({"requirements.txt": "acme-nowhere\n"}, "acme-nowhere"),
    "no such version": ({"requirements.txt": "acme-private==9\n"}, "acme-private==9"),
    "requirements that exclude each other": ({"requirements.txt": "acme-unsolvable\n"}, "six==0.0.1"),
    "an sdist that does not build": ({"requirements.txt": "acme-broken\n"}, "could not be built"),
    "a project that does not build": (_project("app", broken=True), "could not be built"),
    "a setup.py that does not build": (
        {"setup.py": f"{SPY}\nfrom setuptools import setup\nraise ValueError(seen())\nsetup()\n"},
        "could not be built",
    ),
    "a build requirement that is not there": (
        {"backend.py": "", "pyproject.toml": PYPROJECT.replace("helper", "nowhere")},
        "acme-build-nowhere",
    ),
}


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("case", WRONG)
def test_what_goes_wrong_is_told_without_the_password(
    case: str, resolver: str, run: Callable[..., Run], tmp_path: Path
) -> None:
    files, told = WRONG[case]
    source = write_zip(tmp_path / "s.zip", dict(files))
    done = run("a variable of pip").convert(source, "--resolver", resolver, "--json")
    assert done.code == 1
    assert told in done.stderr
    assert json.loads(done.stdout)["error"]["message"]
    assert done.leaks() == []
    assert not [*done.base.rglob("*.wheelhouse.zip")]


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("way", ["the URL", "netrc"])
def test_a_password_that_the_index_refuses_is_an_error_that_does_not_tell_it(
    way: str, resolver: str, run: Callable[..., Run], tmp_path: Path
) -> None:
    source = write_zip(tmp_path / "s.zip", {"requirements.txt": "acme-private\n"})
    done = run(way, user="someone-else").convert(source, "--resolver", resolver)
    assert done.code == 1
    assert "/simple/acme-private/ could not be read: 403 Forbidden: it wants credentials, or other ones" in done.stderr
    assert done.leaks() == []


@pytest.mark.parametrize("case", WRONG)
def test_no_part_of_an_error_tells_the_password(
    case: str, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOP_AT", str(os.getpid()))
    source = write_zip(tmp_path / "s.zip", dict(WRONG[case][0]))
    options = IndexOptions(index_url=index.with_user, extra_index_urls=(index.public,))
    with pytest.raises(DeploadError) as raised:
        convert(source, tmp_path / "base", options=options)
    error: BaseException | None = raised.value
    told = "".join(traceback.format_exception(raised.value))
    while error is not None:
        told += f"{error} {error!r} {error.args} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert not _tells(told.encode())
    assert not _tells(pickle.dumps(raised.value))
