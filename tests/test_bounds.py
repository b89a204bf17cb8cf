"""Builds that take more than they may: each is ended with all that it has started, and the error says what to do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from conftest import OFFLINE, project, runs_in, write_files, write_zip
from depload import BuildLimits, IndexOptions, Target, convert
from depload.errors import BuildError, BuildIsolationError, BuildLimitError, DeploadError, ToolMissingError
from depload.making import bounds, tools
from depload.making.bounds import Bounds
from depload.making.builder import Buildable, build
from depload.making.resolver import resolve
from depload.travels import warden

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING = Target.running()
LINUX = sys.platform == "linux"
linux_only = pytest.mark.skipif(not LINUX, reason="namespaces, or what is read in /proc")
pytestmark = pytest.mark.usefixtures("temporary")


@pytest.fixture(params=["uv", "pip"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both that build."""
    if request.param == "pip":
        monkeypatch.setattr(tools, "uv", lambda: None)
    return str(request.param)


@pytest.fixture(params=["apart", "not apart"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """With a namespace of processes, and where the system refuses one."""
    if request.param == "not apart":
        refusing(monkeypatch, tmp_path)
    elif not _allows_namespaces():
        pytest.skip("no namespaces for this user here")
    return str(request.param)


def refusing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that gives nobody a namespace."""
    copy = tmp_path / "warden.py"
    text = Path(warden.__file__).read_text("utf-8")
    copy.write_text(
        text.replace("    user, group = os.", "    raise NotAllowedError('unshare: refused')\n    user, group = os.")
    )
    monkeypatch.setattr(bounds, "_WARDEN", copy)


def _allows_namespaces() -> bool:
    return (
        LINUX
        and subprocess.run(["unshare", "-rpf", "--mount-proc", "true"], check=False, capture_output=True).returncode
        == 0
    )


def hostile(tmp_path: Path, code: str) -> Path:
    """A project whose backend runs the code first."""
    files = project("acme")
    return write_files(
        tmp_path / "project", {**files, "backend.py": f"{dedent(code)}\n{dedent(str(files['backend.py']))}"}
    )


def built(tmp_path: Path, code: str, limits: BuildLimits | None = None, options: IndexOptions = OFFLINE) -> Path:
    """The wheel of such a project."""
    source = Buildable(hostile(tmp_path, code), "the project")
    (wheel,) = build([source], RUNNING, options=options, to=tmp_path / "work", limits=limits)
    return wheel


@pytest.fixture
def mark() -> Iterator[str]:
    """What stands in the command of every process of a test's build; when the test is over there is none."""
    name = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    assert marked(name) == []


def marked(name: str) -> list[str]:
    said = subprocess.run(["ps", "-axwwo", "pid=,args="], check=True, capture_output=True, text=True).stdout
    return [line for line in said.splitlines() if name in line]


SLEEPER = """\
import subprocess, sys, time
print("about to sleep", flush=True)
subprocess.Popen([sys.executable, "-c", {code!r}, {mark!r}])
time.sleep(600)
"""
# Loses its parent, has a session of its own, and hears no signal that can be shut out.
DAEMON = """\
import os, signal, sys, time
for each in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(each, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open(sys.argv[-1] + ".up", "w").write("x") if len(sys.argv) > 2 else None
time.sleep(600)
"""


@pytest.mark.usefixtures("place")
def test_a_build_that_does_not_end_is_ended_with_its_daemons(
    tmp_path: Path, tool: str, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(BuildLimitError, match="was not done after 4 seconds") as raised:
        built(tmp_path, SLEEPER.format(code=DAEMON, mark=mark), BuildLimits(timeout="4s"))
    assert (raised.value.project, raised.value.limit) == ("the project", "time")
    assert "--build-timeout" in str(raised.value)
    assert list((tmp_path / "cache").glob("builds-v0/.tmp*")) == []
    if tool == "uv":  # pip says what a build said once that has ended
        assert "about to sleep" in raised.value.output.splitlines()


@pytest.mark.usefixtures("tool", "place")
def test_what_a_build_leaves_running_is_ended_when_it_has_succeeded(tmp_path: Path, mark: str) -> None:
    code = """\
        import os, subprocess, sys, time
        nowhere = subprocess.DEVNULL  # who keeps what it says open keeps uv and pip
        subprocess.Popen([sys.executable, "-c", {code!r}, {mark!r}], stdout=nowhere, stderr=nowhere)
        while not os.path.exists({up!r} + ".up"):
            time.sleep(0.01)
        """
    up = str(tmp_path / mark)
    daemon = DAEMON.replace("sys.argv[-1]", repr(up)).replace("len(sys.argv) > 2", "True")
    assert built(tmp_path, dedent(code).format(code=daemon, up=up, mark=mark)).exists()
    assert Path(f"{up}.up").exists()


HUNGRY = {
    "memory": (
        "kept = []\nwhile True:\n    kept.append(b'x' * 10_000_000)",
        BuildLimits(memory="300MB"),
        "--build-memory",
    ),
    "memory of several": (
        """\
import subprocess, sys
code = "x = b'x' * 120_000_000; import time; time.sleep(600)"
[subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)][0].wait()
""",
        BuildLimits(memory="300MB"),
        "--build-memory",
    ),
    "disk": (
        "import itertools\nfor at in itertools.count():\n    open(f'{at}', 'wb').write(b'x' * 10_000_000)",
        BuildLimits(disk="200MB"),
        "--build-disk",
    ),
    "processes": (
        "import os, time\nwhile True:\n    os.fork() or time.sleep(600)\n",
        BuildLimits(processes=40),
        "more than 40 processes",
    ),
    "processes, without end": ("import os\nwhile True:\n    os.fork()\n", BuildLimits(processes=40), "more than 40"),
}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("case", HUNGRY)
def test_a_build_that_takes_without_end_is_ended(case: str, tmp_path: Path) -> None:
    code, limits, message = HUNGRY[case]
    with pytest.raises(BuildLimitError, match=message) as raised:
        built(tmp_path, code, limits)
    assert raised.value.limit == case.split(maxsplit=1)[0].rstrip(",")
    assert raised.value.project == "the project"


def test_memory_that_processes_share_counts_once(tmp_path: Path) -> None:
    code = """\
        import os, time
        kept = b"x" * 150_000_000
        children = [os.fork() for _ in range(3)]
        if 0 in children:
            time.sleep(1)
            os._exit(0)
        for _ in children:
            os.wait()
        """
    assert built(tmp_path, code, BuildLimits(memory="400MB")).exists()


@pytest.mark.usefixtures("tool")
def test_no_file_may_be_larger_than_the_disk_limit_wherever_it_is(tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'large')!r}, 'wb').truncate(60_000_000)"
    with pytest.raises(BuildError, match="--build-disk"):
        built(tmp_path, code, BuildLimits(disk="50MB"))
    assert (tmp_path / "large").stat().st_size <= 50_000_000


def test_a_build_leaves_no_core(tmp_path: Path) -> None:
    assert built(tmp_path, "import resource\nassert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)").exists()


@linux_only
def test_where_memory_runs_out_the_kernel_takes_the_build_first(tmp_path: Path) -> None:
    assert built(tmp_path, "assert open('/proc/self/oom_score_adj').read() == '1000\\n'").exists()


# --- the network ----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[int]:
    """The port of something that answers on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def looking(port: int, to: Path) -> str:
    """Code of a backend that notes what it gets from there."""
    return f"""\
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), 5)
    seen = "connected"
except OSError as error:
    seen = error.strerror
open({str(to)!r}, "w").write(seen)
"""


@pytest.mark.usefixtures("tool")
@linux_only
def test_without_an_index_a_build_has_no_network(tmp_path: Path, server: int) -> None:
    assert _allows_namespaces()
    built(tmp_path, looking(server, tmp_path / "seen"))
    assert (tmp_path / "seen").read_text() == "Connection refused"


@pytest.mark.parametrize("options", [IndexOptions(), OFFLINE])
def test_a_build_has_the_network_of_the_machine_where_that_is_asked_for(
    options: IndexOptions, tmp_path: Path, server: int
) -> None:
    limits = BuildLimits(network="all") if options.no_index else None
    built(tmp_path, looking(server, tmp_path / "seen"), limits, options)
    assert (tmp_path / "seen").read_text() == "connected"


def test_where_the_system_gives_no_network_of_its_own_that_is_said(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, server: int
) -> None:
    refusing(monkeypatch, tmp_path)
    source = hostile(tmp_path, looking(server, tmp_path / "seen"))
    converted = convert(source, base, options=OFFLINE)
    assert (tmp_path / "seen").read_text() == "connected"
    (warning,) = [each for each in converted.warnings if "network" in each]
    assert "the project: built with this machine's network" in warning
    assert "unshare: refused" in warning


def test_where_no_more_network_is_demanded_than_can_be_limited_nothing_is_built(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, tmp_path)
    source = hostile(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(BuildIsolationError, match="--build-network all"):
        convert(source, base, options=OFFLINE, builds=BuildLimits(network="index"))
    assert not (tmp_path / "ran").exists()
    assert runs_in(base) == []


@pytest.mark.usefixtures("tool")
@linux_only
@pytest.mark.network
def test_a_build_gets_what_an_index_lists_and_no_other_host(tmp_path: Path, server: int) -> None:
    files = {
        "pyproject.toml": """\
            [build-system]
            requires = ["hatchling"]
            build-backend = "backend"
            backend-path = ["."]
            [project]
            name = "acme"
            version = "1.0"
            """,
        "backend.py": looking(server, tmp_path / "seen") + "from hatchling.build import *\n",
        "acme/__init__.py": "",
    }
    source = Buildable(write_files(tmp_path / "project", files), "the project")
    for attempt in ("one", "two"):  # the second one knows the pages
        (wheel,) = build(
            [source],
            RUNNING,
            options=IndexOptions.configured(),
            to=tmp_path / attempt,
            limits=BuildLimits(network="index"),
        )
        assert wheel.name == "acme-1.0-py2.py3-none-any.whl"
        assert (tmp_path / "seen").read_text() == "Connection refused"


@linux_only
@pytest.mark.network
@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_resolving_gets_what_an_index_lists(resolver: Any, tmp_path: Path) -> None:
    packages = resolve(
        ["docopt==0.6.2"],
        [],
        RUNNING,
        options=IndexOptions.configured(),
        scratch=tmp_path,
        resolver=resolver,
        limits=BuildLimits(network="index"),
    )
    assert [(package.name, package.version) for package in packages] == [("docopt", "0.6.2")]
    plain = resolve(["docopt==0.6.2"], [], RUNNING, options=IndexOptions.configured(), scratch=tmp_path)
    assert packages[0].files[0].location == plain[0].files[0].location


# --- what it sees ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("tool")
@linux_only
def test_a_build_sees_no_process_but_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _allows_namespaces()
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:hidden@host.invalid/simple")
    code = f"""\
        import glob
        seen = []
        for file in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
            try:
                seen.append(open(file, "rb").read())
            except PermissionError:
                seen.append(b"refused")
        open({str(tmp_path / "seen")!r}, "wb").write(b"\\n".join(seen))
        """
    built(tmp_path, code)
    seen = (tmp_path / "seen").read_bytes()
    assert b"SOURCE_DATE_EPOCH" in seen
    assert b"hidden" not in seen


# --- ends of other kinds --------------------------------------------------------------------------------------------


CONVERT = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it runs in the background
import tarfile
from depload import IndexOptions, convert
convert(sys.argv[1], sys.argv[2], options=IndexOptions(no_index=True))
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_when_the_conversion_is_interrupted_or_killed_its_builds_end(
    sign: signal.Signals, tmp_path: Path, base: Path, place: str, mark: str
) -> None:
    source = hostile(tmp_path, SLEEPER.format(code=DAEMON, mark=mark))
    code = CONVERT
    if place == "not apart":
        replaced = f"bounds._WARDEN = Path({str(bounds._WARDEN)!r})"
        code = f"from pathlib import Path\nfrom depload.making import bounds\n{replaced}\n{code}"
    with subprocess.Popen([sys.executable, "-c", code, source, base], stderr=subprocess.PIPE, text=True) as process:
        until(lambda: marked(mark))
        process.send_signal(sign)
        process.communicate(timeout=60)
    until(lambda: not marked(mark))
    if sign is signal.SIGINT:
        assert list(Path(os.environ["TMPDIR"]).iterdir()) == []
    for left in Path(os.environ["TMPDIR"]).iterdir():
        shutil.rmtree(left)


def until(true: Any) -> None:
    """Wait for something that must come."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_when_one_of_several_builds_fails_the_others_end(tmp_path: Path, mark: str) -> None:
    sleeping = write_files(tmp_path / "b", {**project("b"), "backend.py": SLEEPER.format(code=DAEMON, mark=mark)})
    up = tmp_path / "up"
    broken = write_files(
        tmp_path / "a",
        {
            **project("a"),
            "backend.py": f"""\
        import os, time
        while not os.path.exists({str(up)!r}):
            time.sleep(0.01)
        raise ValueError("the reason")
        """,
        },
    )

    def let_fail() -> None:
        until(lambda: marked(mark))
        up.touch()

    waiting = threading.Thread(target=let_fail)
    waiting.start()
    with pytest.raises(BuildError, match="the reason"):
        build([Buildable(broken, "a"), Buildable(sleeping, "b")], RUNNING, options=OFFLINE, to=tmp_path / "work")
    waiting.join()


def test_a_package_that_never_tells_its_metadata_is_named(tmp_path: Path, resolver_name: Any) -> None:
    links = tmp_path / "links"
    links.mkdir()
    files = {
        **project("acme"),
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": "import time\ntime.sleep(600)\n",
        "PKG-INFO": "Metadata-Version: 1.0\nName: acme\nVersion: 1.0\n",
    }
    with tarfile.open(links / "acme-1.0.tar.gz", "w:gz") as opened:
        opened.add(write_files(tmp_path / "acme", files), "acme-1.0")
    options = IndexOptions(no_index=True, find_links=(str(links),))
    with pytest.raises(BuildLimitError, match=r"^acme( 1\.0)? could not be built: it was not done after 6 seconds"):
        resolve(
            ["acme"], [], RUNNING, options=options, scratch=tmp_path, resolver=resolver_name, limits=BuildLimits("6s")
        )


@pytest.fixture(params=["uv", "pip"])
def resolver_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_build_that_was_ended_is_tried_again_with_more(tmp_path: Path, base: Path) -> None:
    source = write_zip(
        tmp_path / "s.zip",
        {**project("acme"), "backend.py": f"import time\ntime.sleep(3)\n{dedent(str(project('acme')['backend.py']))}"},
    )
    with pytest.raises(BuildLimitError):
        convert(source, base, options=OFFLINE, builds=BuildLimits(timeout="1s"))
    assert runs_in(base) == []
    assert convert(source, base, options=OFFLINE).wheels[0].name == "acme"


# --- limits as values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"timeout": "soon"}, "'soon' is not a span of time"),
        ({"memory": "much"}, "'much' is not a size"),
        ({"disk": "0GB"}, "no limit may be 0"),
        ({"network": "none"}, "'none' is no network of a build; write index or all"),
    ],
)
def test_limits_that_mean_nothing_are_refused_at_once(limits: Any, message: str) -> None:
    with pytest.raises(DeploadError, match=message):
        BuildLimits(**limits)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError, match=r"this step needs .*nowhere"):
        Bounds().run([str(tmp_path / "nowhere")], what="this", environment={}, cwd=tmp_path)


def test_without_proc_processes_are_told_by_ps() -> None:
    """As on macOS."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        table = warden._table_of_ps()
        assert process.pid in warden._below(table, os.getpid())
        assert table[process.pid].memory > 1_000_000
        process.communicate()
    assert process.pid not in warden._table_of_ps()
