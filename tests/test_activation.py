"""The module that travels: what it does in a process that has nothing but the zip."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from attack.zips import ordinary
from conftest import OFFLINE, make_wheel, run_python
from depload.pipeline import convert
from depload.travels.activation import ActivationError, unpacking
from depload.travels.activation.sites import sites_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.pipeline import Converted

AS_A_WORKER = """\
import json, sys, os
sys.path.insert(1, sys.argv[1])  # what PySpark does with an included file (pyspark/worker_util.py, add_path)
answer = {}
"""
MODULE = "_depload_{}"
SAY = "\nprint(json.dumps(answer))"


def as_a_worker(wheelhouse: str, code: str, **environment: str) -> Any:
    """Run code in a process that has the zip on its path and does not know depload."""
    return run_python(AS_A_WORKER + code + SAY, wheelhouse, PYTHONPATH="", **environment)


def sites(home: Path) -> Path:
    return home / "sites"


def kept(home: Path) -> list[str]:
    """The sites; besides them there is nothing but the files whose locks say who uses and who unpacks them."""
    names = sorted(path.name for path in sites(home).iterdir())
    assert {name for name in names if "." in name} <= {f"{name}{end}" for name in names for end in (".lock", ".use")}
    return [name for name in names if "." not in name]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "sites-of-this-test"


def test_importing_a_name_unpacks_and_hands_over_the_real_module(
    published: Callable[..., Converted], home: Path
) -> None:
    converted = published(alpha=("1.0", {"alpha/__init__.py": "NAME = 'alpha'\n", "alpha/sub.py": "NAME = 'sub'\n"}))
    answer = as_a_worker(
        converted.wheelhouse,
        """
import alpha.sub
answer = {"name": alpha.NAME, "sub": alpha.sub.NAME, "file": alpha.__file__, "spec": alpha.__spec__.origin}
answer["path"] = sys.path[0]
""",
    )
    site = str(sites(home) / converted.digest)
    assert answer == {
        "name": "alpha",
        "sub": "sub",
        "file": f"{site}/alpha/__init__.py",
        "spec": f"{site}/alpha/__init__.py",
        "path": site,
    }


def test_the_second_process_finds_the_site_ready(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    code = f"import _depload_{converted.digest[:16]} as module; answer = module.activate()"
    first, second = (as_a_worker(converted.wheelhouse, code) for _ in range(2))
    assert (first["unpacked"], second["unpacked"]) == (True, False)
    assert first["site"] == second["site"]


def test_of_many_processes_at_once_one_unpacks_and_all_import(published: Callable[..., Converted]) -> None:
    converted = published(
        alpha=("1.0", {f"alpha/m{number}.py": "x = 1\n" for number in range(300)} | {"alpha/__init__.py": ""})
    )
    code = (
        f"import alpha.m7, _depload_{converted.digest[:16]} as module; answer = module._active[sys.argv[1]]['unpacked']"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", AS_A_WORKER + code + SAY, converted.wheelhouse], stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    unpacked = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(unpacked) == [False] * 5 + [True]


def test_a_process_killed_while_unpacking_leaves_nothing_that_is_used(
    published: Callable[..., Converted], home: Path
) -> None:
    modules = {f"alpha/m{number}.py": f"x = {number}\n" * 50 for number in range(3000)}
    converted = published(alpha=("1.0", {**modules, "alpha/__init__.py": ""}))
    killed = 0
    for _ in range(5):
        command = [sys.executable, "-c", AS_A_WORKER + "import alpha", converted.wheelhouse]
        process = subprocess.Popen(command)
        while process.poll() is None:
            if list(sites(home).glob(f".{converted.digest}.*/alpha/m*.py")):
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed += 1
                break
            time.sleep(0.001)
        assert not (sites(home) / converted.digest).exists() or process.returncode == 0
        if process.returncode == 0:
            break
    assert killed, "none was killed in the middle"
    code = "import alpha.m2999 as last; answer = [last.x, len(os.listdir(os.path.dirname(last.__file__))) > 3000]"
    assert as_a_worker(converted.wheelhouse, code) == [2999, True]
    assert kept(home) == [converted.digest]


def test_metadata_and_entry_points_answer_before_anything_is_unpacked(tmp_path: Path, base: Path) -> None:
    files = {
        "alpha.py": "def run(): return 'ran'\n",
        "alpha-1.5.dist-info/entry_points.txt": "[tools]\nrun = alpha:run\n",
    }
    make_wheel(tmp_path / "wheels", "alpha", "1.5", files, "Summary: A package.\n")
    converted = convert(tmp_path / "wheels", base, options=OFFLINE)
    answer = as_a_worker(
        converted.wheelhouse,
        """
from importlib import metadata
answer["before"] = [metadata.version("alpha"), metadata.metadata("alpha")["Summary"]]
answer["before"] += [os.path.exists(os.environ["DEPLOAD_SITES"])]
(point,) = metadata.entry_points(group="tools")
answer["ran"] = point.load()()
answer["after"] = [metadata.version("alpha"), len(metadata.entry_points(group="tools")), len(metadata.files("alpha"))]
""",
    )
    assert answer == {"before": ["1.5", "A package.", False], "ran": "ran", "after": ["1.5", 1, 5]}


def test_namespace_packages_of_several_wheels_come_together(published: Callable[..., Converted]) -> None:
    converted = published(
        one=("1.0", {"space/one/__init__.py": "NAME = 1\n", "space/deep/a.py": "NAME = 'a'\n"}),
        two=("1.0", {"space/two.py": "NAME = 2\n", "space/deep/b.py": "NAME = 'b'\n"}),
    )
    code = """
import space.deep.b, space.one, space.two, space.deep.a
answer = [space.one.NAME, space.two.NAME, space.deep.a.NAME, space.deep.b.NAME]
"""
    assert as_a_worker(converted.wheelhouse, code) == [1, 2, "a", "b"]


def test_a_namespace_that_the_worker_has_already_is_extended(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    (tmp_path / "own" / "space").mkdir(parents=True)
    (tmp_path / "own" / "space" / "mine.py").write_text("NAME = 'mine'\n")
    converted = published(one=("1.0", {"space/one/__init__.py": "NAME = 1\n"}))
    code = f"sys.path.append({str(tmp_path / 'own')!r})\nimport space.mine, space.one\n"
    code += "answer = [space.mine.NAME, space.one.NAME]"
    assert as_a_worker(converted.wheelhouse, code) == ["mine", 1]


def test_threads_that_import_packages_of_each_other_at_once_do_not_deadlock(
    published: Callable[..., Converted],
) -> None:
    code = {number: f"import p{number + 1}\n" if number < 7 else "" for number in range(8)}
    converted = published(**{f"p{number}": ("1.0", {f"p{number}.py": code[number]}) for number in range(8)})
    answer = as_a_worker(
        converted.wheelhouse,
        """
import concurrent.futures, importlib
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    modules = pool.map(importlib.import_module, [f"p{n}" for n in range(8)], timeout=60)
    answer = sorted(module.__name__ for module in modules)
""",
    )
    assert answer == [f"p{number}" for number in range(8)]


def test_pth_files_are_run_and_their_folders_come_right_after_the_site(
    published: Callable[..., Converted], home: Path
) -> None:
    files = {"x.pth": "lib\nimport sys; sys.pth_ran = True\n", "lib/inner.py": "NAME = 'inner'\n"}
    converted = published(with_pth=("1.0", files))
    answer = as_a_worker(converted.wheelhouse, "import inner; answer = [inner.NAME, sys.pth_ran, sys.path[:2]]")
    site = str(sites(home) / converted.digest)
    assert answer == ["inner", True, [site, f"{site}/lib"]]


def test_an_executable_in_a_wheel_stays_executable(tmp_path: Path, base: Path, home: Path) -> None:
    wheel = make_wheel(
        tmp_path / "wheels", "tool", "1.0", {"tool/__init__.py": "", "tool/run.sh": "#!/bin/sh\necho ran\n"}
    )
    patched = tmp_path / "patched"
    patched.mkdir()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(patched / wheel.name, "w") as new:
        for info in old.infolist():
            info.external_attr = (0o100755 if info.filename.endswith(".sh") else 0o100644) << 16
            new.writestr(info, old.read(info.filename))
    converted = convert(patched, base, options=OFFLINE)
    code = "import tool, subprocess as s; command = [tool.__path__[0] + '/run.sh']\n"
    code += "answer = s.run(command, capture_output=True, text=True).stdout"
    assert as_a_worker(converted.wheelhouse, code) == "ran\n"
    assert (sites(home) / converted.digest / "tool" / "__init__.py").stat().st_mode & 0o777 == 0o644


def test_a_module_of_the_standard_librarys_name_does_not_hide_it(published: Callable[..., Converted]) -> None:
    files = {"argparse.py": "raise ImportError('the old one')\n", "statistics/__init__.py": "x = 1\n", "other.py": ""}
    converted = published(old=("1.0", files))
    assert converted.wheels[0].names == ("other",)
    code = "import other, argparse, statistics; answer = [argparse.__name__, statistics.mean([1, 3])]"
    assert as_a_worker(converted.wheelhouse, code) == ["argparse", 2]


def test_bytecode_is_there_and_used(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": "NAME = 'alpha'\n"}))
    answer = as_a_worker(
        converted.wheelhouse,
        """
sys.dont_write_bytecode = True
import alpha
answer = [os.path.exists(alpha.__cached__), open(alpha.__cached__, "rb").read(8)[4:].hex()]
""",
    )
    assert answer == [True, "01000000"], "hash-based and unchecked (PEP 552)"


# --- what is refused ---


def broken(source: str, to: Path, member: str, data: bytes | None) -> str:
    """The wheelhouse with one member replaced, or left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(to, "w") as new:
        for info in old.infolist():
            if info.filename != member:
                new.writestr(info, old.read(info.filename))
            elif data is not None:
                new.writestr(info, data)
    return str(to)


@pytest.mark.parametrize(
    ("data", "said"), [(None, "is missing"), (b"something else", "not the file that the manifest names")]
)
def test_a_wheel_that_is_not_the_manifests_is_never_unpacked(
    data: bytes | None, said: str, published: Callable[..., Converted], tmp_path: Path, home: Path
) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    altered = broken(converted.wheelhouse, tmp_path / "altered.zip", converted.wheels[0].filename, data)
    code = "\ntry:\n    import alpha\nexcept ImportError as error:\n    answer = [str(error), 'alpha' in sys.modules]"
    message, left = as_a_worker(altered, code)
    assert said in message
    assert not left
    assert list(sites(home).iterdir()) == []


@pytest.mark.parametrize("member", ["../evil.py", "/evil.py", "a/../../evil.py", "a\\..\\evil.py", "a//evil.py"])
def test_a_member_that_would_leave_the_site_is_refused(member: str) -> None:
    with pytest.raises(ActivationError, match="would leave the site"):
        unpacking._installed("x.whl", member)


@pytest.mark.parametrize(
    ("member", "installed"),
    [
        ("pkg/mod.py", "pkg/mod.py"),
        ("x-1.0.data/purelib/pkg/mod.py", "pkg/mod.py"),
        ("x-1.0.data/platlib/mod.so", "mod.so"),
        ("x-1.0.data/scripts/run", "bin/run"),
        ("x-1.0.data/data/share/x.txt", "share/x.txt"),
        ("x-1.0.data/headers/x.h", "include/x/x.h"),
        ("x-1.0.data/unknown/y", "x-1.0.data/unknown/y"),
    ],
)
def test_members_go_where_an_installer_puts_them(member: str, installed: str) -> None:
    assert "/".join(unpacking._installed("x-1.0-py3-none-any.whl", member)) == installed


@pytest.fixture(params=["libdeflate", "zlib"])
def inflater(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What inflates: the system's library where there is one, and Python's zlib where there is none."""
    if request.param == "zlib":
        monkeypatch.setattr(unpacking, "_LIBDEFLATE", "no-such-library.so")
    else:
        try:
            ctypes.CDLL(unpacking._LIBDEFLATE)
        except OSError:
            pytest.skip("this machine has no libdeflate")
    return str(request.param)


def unpacked(wheel: bytes, tmp_path: Path) -> Path:
    """What the activation module makes of these bytes as a wheel."""
    payload, to = tmp_path / "payload.zip", tmp_path / "to"
    with zipfile.ZipFile(payload, "w") as opened:
        opened.writestr("a-1-py3-none-any.whl", wheel)
    about = {"filename": "a-1-py3-none-any.whl", "size": len(wheel), "sha256": hashlib.sha256(wheel).hexdigest()}
    written = unpacking.unpack(str(payload), {"wheels": [about], "bytecode": []}, str(to))
    assert sorted(written) == sorted(str(path) for path in to.rglob("*") if path.is_file())
    return to


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2])
def test_members_of_every_size_come_out_as_they_were(method: int, inflater: str, tmp_path: Path) -> None:
    most = unpacking.SMALL
    sizes = [0, 1, 1000, (1 << 20) - 1, 1 << 20, most - 1, most, most + 1, 2 * most]
    members = {f"a/zeros{size}": bytes(size) for size in sizes}
    members |= {f"a/random{size}": random.Random(size).randbytes(size) for size in sizes}
    to = unpacked(ordinary(members, method), tmp_path)
    assert {name: (to / name).read_bytes() for name in members} == members, inflater


def test_what_is_too_large_to_be_held_comes_out_as_it_was(
    inflater: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "SMALL", 1000)
    monkeypatch.setattr(unpacking, "LARGE", 100_000)
    members = {f"a/{size}": random.Random(size).randbytes(size // 2) * 2 for size in (1000, 2000, 100_000, 100_002)}
    to = unpacked(ordinary(members), tmp_path)
    assert {name: (to / name).read_bytes() for name in members} == members, inflater
    assert not unpacking._large.locked()


@pytest.mark.parametrize("size", [5000, (4 << 20) + 5000], ids=["small", "large"])
@pytest.mark.parametrize("lie", [0, 1, -1, 1000], ids=["damaged", "more", "less", "far more"])
def test_a_member_that_is_damaged_or_lies_of_its_size_is_named(
    size: int, lie: int, inflater: str, tmp_path: Path
) -> None:
    data = random.Random(size).randbytes(size // 2) * 2
    wheel = bytearray(ordinary({"a/one.py": data, "a/two.py": b"2"}))
    if lie:
        at = wheel.rindex(b"PK\1\2", 0, wheel.rindex(b"PK\1\2"))  # the first of the table (APPNOTE 4.3.12)
        wheel[at + 24 : at + 28] = struct.pack("<L", size + lie)
    else:
        wheel[200:210] = bytes(10)
    with pytest.raises(ActivationError, match=r"'a/one\.py' is damaged") as error:
        unpacked(bytes(wheel), tmp_path)
    assert "a-1-py3-none-any.whl" in str(error.value), inflater


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "shared"
    home.mkdir()
    home.chmod(0o777)
    monkeypatch.setenv("DEPLOAD_SITES", str(home))
    with pytest.raises(ActivationError, match="others can write to it"):
        sites_home()


def test_a_directory_that_is_named_relatively_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEPLOAD_SITES", "mine")
    assert Path(sites_home()) == tmp_path / "mine" / "sites"


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("DEPLOAD_SITES", str(tmp_path / "link"))
    with pytest.raises(ActivationError, match="not a directory of its own"):
        sites_home()


def test_sites_lie_below_sparks_local_directories_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEPLOAD_SITES")
    scratch = "spark-0f0e0d0c-1111-4222-8333-444455556666/executor-0f0e0d0c-1111-4222-8333-444455556667"
    local = tmp_path / "local_disk0"
    block = local / scratch / "blockmgr-0f0e0d0c-1111-4222-8333-444455556668"
    block.mkdir(parents=True)
    monkeypatch.setenv("SPARK_LOCAL_DIRS", f"{block},{tmp_path / 'second'}")
    assert Path(sites_home()) == local / f"depload-{os.getuid()}" / "sites"
    assert (local / f"depload-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_an_unfinished_site_is_made_anew(published: Callable[..., Converted], home: Path) -> None:
    converted = published(alpha=("1.0", {"alpha.py": "NAME = 'alpha'\n"}))
    (sites(home) / converted.digest).mkdir(parents=True)
    home.chmod(0o700)
    (sites(home) / converted.digest / "alpha.py").write_text("NAME = 'half'\n")
    assert as_a_worker(converted.wheelhouse, "import alpha; answer = alpha.NAME") == "alpha"


def test_a_full_disk_is_an_import_error_that_names_it_and_leaves_nothing(
    published: Callable[..., Converted], home: Path
) -> None:
    converted = published(alpha=("1.0", {"alpha/__init__.py": "", "alpha/big.bin": os.urandom(3_000_000)}))
    answer = as_a_worker(
        converted.wheelhouse,
        """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # as near to a full disk as anyone may come
try:
    import alpha
except ImportError as error:
    answer = str(error)
""",
    )
    assert "the wheels could not be unpacked there" in answer
    assert str(home) in answer
    assert list(sites(home).iterdir()) == []


def test_a_full_disk_is_made_room_on_by_sites_that_nobody_uses(published: Callable[..., Converted], home: Path) -> None:
    old = published(old=("1.0", {"old.py": "NAME = 'old'\n"}))
    new = published(new=("1.0", {"new.py": "NAME = 'new'\n"}))
    assert as_a_worker(old.wheelhouse, "import old; answer = old.NAME") == "old"
    answer = as_a_worker(
        new.wheelhouse,
        f"""
import errno
from {MODULE.format(new.digest[:16])} import unpacking

unpack = unpacking.unpack
def full_once(*arguments):
    unpacking.unpack = unpack
    raise OSError(errno.ENOSPC, "No space left on device")
unpacking.unpack = full_once
import new
answer = new.NAME
""",
    )
    assert answer == "new"
    assert kept(home) == [new.digest]


@pytest.mark.parametrize("change", ["x.write_text('NAME = 0')", "x.write_text(x.read_text())", "x.unlink()"])
def test_a_site_that_was_altered_is_not_used(change: str, published: Callable[..., Converted], home: Path) -> None:
    converted = published(alpha=("1.0", {"alpha/__init__.py": "", "alpha/deep.py": "NAME = 'deep'\n"}))
    assert as_a_worker(converted.wheelhouse, "import alpha.deep; answer = alpha.deep.NAME") == "deep"
    site = sites(home) / converted.digest
    before = site.stat().st_ino
    exec(change, {"x": site / "alpha" / "deep.py"})
    assert as_a_worker(converted.wheelhouse, "import alpha.deep; answer = alpha.deep.NAME") == "deep"
    assert site.stat().st_ino != before
    assert kept(home) == [converted.digest]


def test_what_python_writes_into_a_site_does_not_count_as_altered(tmp_path: Path, base: Path, home: Path) -> None:
    make_wheel(tmp_path / "source", "alpha", "1.0", {"alpha/__init__.py": "NAME = 'alpha'\n"})
    converted = convert(tmp_path / "source", base, options=OFFLINE, compile=False)
    code = "import alpha; answer = [alpha.__cached__, os.path.exists(alpha.__cached__)]"
    cached, written = as_a_worker(converted.wheelhouse, code, PYTHONDONTWRITEBYTECODE="")
    assert written
    before = (sites(home) / converted.digest).stat().st_ino
    assert as_a_worker(converted.wheelhouse, code) == [cached, True]
    assert (sites(home) / converted.digest).stat().st_ino == before


def test_old_sites_go_when_a_new_one_comes_but_never_one_in_use(
    published: Callable[..., Converted], home: Path
) -> None:
    unused = published(unused=("1.0", {"unused.py": ""}))
    used = published(used=("1.0", {"used.py": ""}))
    young = published(young=("1.0", {"young.py": ""}))
    new = published(new=("1.0", {"new.py": ""}))
    as_a_worker(unused.wheelhouse, "import unused")
    as_a_worker(young.wheelhouse, "import young")
    code = AS_A_WORKER + "import used\nprint('ready', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, used.wheelhouse], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        assert user.stdin is not None
        assert user.stdout.readline() == "ready\n"
        for digest in (unused.digest, used.digest):
            os.utime(sites(home) / f"{digest}.use", (1, 1))
        (sites(home) / f".{unused.digest}.left").mkdir()  # by a process that was killed
        as_a_worker(new.wheelhouse, "import new")
        assert kept(home) == sorted([used.digest, young.digest, new.digest])
        user.stdin.close()
    os.utime(sites(home) / f"{used.digest}.use", (1, 1))
    as_a_worker(unused.wheelhouse, "import unused")
    assert kept(home) == sorted([young.digest, new.digest, unused.digest])


def test_the_oldest_sites_go_where_all_are_too_large(published: Callable[..., Converted], home: Path) -> None:
    wheelhouses = [published(**{name: ("1.0", {f"{name}.py": "", f"{name}.bin": bytes(100_000)})}) for name in "abcd"]
    for age, converted in zip((30, 40, 20), wheelhouses[:3], strict=True):
        as_a_worker(converted.wheelhouse, "import " + converted.wheels[0].name)
        moment = time.time() - age
        os.utime(sites(home) / f"{converted.digest}.use", (moment, moment))
    as_a_worker(wheelhouses[3].wheelhouse, "import d", DEPLOAD_SITES_MAX_GB="0.00035")
    assert kept(home) == sorted(wheelhouses[at].digest for at in (0, 2, 3))


def test_a_limit_that_is_no_number_is_told(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    code = "try:\n    import alpha\nexcept ImportError as error:\n    answer = str(error)"
    answer = as_a_worker(converted.wheelhouse, code, DEPLOAD_SITES_MAX_DAYS="a week")
    assert answer == "the environment variable DEPLOAD_SITES_MAX_DAYS is 'a week', not a number"


def test_deactivating_gives_the_names_back_to_what_was_there_before(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    one = published(alpha=("1.0", {"alpha/__init__.py": "NAME = 'one'\n", "alpha/sub.py": ""}))
    two = published(alpha=("2.0", {"alpha/__init__.py": "NAME = 'two'\n"}))
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "alpha.py").write_text("NAME = 'installed'\n")
    answer = run_python(
        """
        import json, os, sys
        from depload.travels import activation
        one, two, installed = sys.argv[1:]
        sys.path.append(installed)
        before = list(sys.path)
        answer = []
        def name():
            import alpha
            answer.append(alpha.NAME)
            return alpha
        site = activation.activate(one)["site"]
        first = name()
        import alpha.sub
        activation.deactivate(os.path.basename(site))
        answer.append(sys.path == before)
        name()
        del sys.modules["alpha"]
        activation.activate(two)
        name()
        activation.deactivate()
        answer.append([entry for entry in sys.modules if entry.startswith("alpha")])
        activation.activate(one)
        answer.append(name() is first)  # native code could not be loaded twice
        answer.append("alpha.sub" in sys.modules)
        print(json.dumps(answer))
        """,
        one.wheelhouse,
        two.wheelhouse,
        str(installed),
    )
    assert answer == ["one", True, "installed", "two", [], "one", True, True]
