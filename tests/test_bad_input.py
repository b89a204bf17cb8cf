"""Every kind of bad input ends in one clear error, with nothing published and nothing left behind."""

from __future__ import annotations

import os
import stat
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import OFFLINE, make_wheel, run_python, runs_in, write_files, write_zip
from depload import errors
from depload.making.indexes import IndexOptions
from depload.pipeline import convert, detect
from depload.standards.archive import Limits

if TYPE_CHECKING:
    from depload.making.resolver import ResolverName


def member(name: str, mode: int = 0, data: bytes = b"x = 1\n") -> Callable[[Path], Path]:
    """A zip with a harmless module and one member of that name and Unix mode."""

    def make(folder: Path) -> Path:
        path = folder / "source.zip"
        with zipfile.ZipFile(path, "w") as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile itself warns of duplicates
            opened.writestr("module.py", b"y = 1\n")
            info = zipfile.ZipInfo("x" * len(name))
            info.external_attr = mode << 16
            opened.writestr(info, data)
        # zipfile mends names as it writes them, so the bytes are put in afterwards.
        path.write_bytes(path.read_bytes().replace(b"x" * len(name), name.encode(), 2))
        return path

    return make


def content(data: bytes, name: str = "source.zip") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def files(**texts: str) -> Callable[[Path], Path]:
    return lambda folder: write_zip(
        folder / "source.zip", {name.replace("__", "."): text for name, text in texts.items()}
    )


def truncated(folder: Path) -> Path:
    path = write_zip(folder / "source.zip", {"module.py": "x = 1\n" * 1000})
    path.write_bytes(path.read_bytes()[:-60])
    return path


def encrypted(folder: Path) -> Path:
    path = write_zip(folder / "source.zip", {"module.py": "x = 1\n"})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature) + offset
        struct.pack_into("<H", data, at, struct.unpack_from("<H", data, at)[0] | 1)
    path.write_bytes(data)
    return path


def wrong_crc(folder: Path) -> Path:
    path = write_zip(folder / "source.zip", {"module.py": "x = 1\n"})
    path.write_bytes(path.read_bytes().replace(b"x = 1\n", b"x = 2\n"))
    return path


def broken_wheel(folder: Path) -> Path:
    make_wheel(folder / "wheels", "alpha", "1.0", {"alpha.py": "x = 1\n"})
    wheel = make_wheel(folder / "wheels", "beta", "1.0", {"beta.py": "x = 1\n"})
    wheel.rename(wheel.with_name("beta-2.0-cp27-cp27mu-win_amd64.whl"))
    return folder / "wheels"


def failing_backend(folder: Path) -> Path:
    project = {
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        "backend.py": "raise SystemExit('the backend says no')\n",
    }
    return write_zip(folder / "source.zip", project)


MANY = {f"m{number}.py": "" for number in range(20)}
SYMLINK, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o600
UNREACHABLE = IndexOptions(index_url="http://127.0.0.1:9/simple", retries=1)

Make = Callable[[Path], Path]


def missing(folder: Path) -> Path:
    return folder / "missing.zip"


CASES: dict[str, tuple[Make, type[errors.DeploadError], str]] = {
    "no such file": (missing, errors.SourceError, "there is no such file"),
    "not a zip": (content(b"hello, this is text"), errors.ArchiveError, "source.zip"),
    "an error page saved as a zip": (content(b"<!DOCTYPE html><html>"), errors.ArchiveError, "HTML"),
    "an empty file": (content(b""), errors.ArchiveError, "empty"),
    "truncated": (truncated, errors.ArchiveError, "source.zip"),
    "encrypted": (encrypted, errors.ArchiveError, "module.py"),
    "wrong CRC": (wrong_crc, errors.ArchiveError, "module.py"),
    "escapes": (member("../evil.py"), errors.ArchiveError, "../evil.py"),
    "absolute": (member("/evil.py"), errors.ArchiveError, "/evil.py"),
    "a drive": (member("C:/evil.py"), errors.ArchiveError, "C:/evil.py"),
    "backslashes": (member("a\\..\\evil.py"), errors.ArchiveError, "evil.py"),
    "NUL": (member("evil\0.py"), errors.ArchiveError, "evil"),
    "a link": (member("link.py", SYMLINK, b"/etc/passwd"), errors.ArchiveError, "link.py"),
    "a device": (member("device", DEVICE), errors.ArchiveError, "device"),
    "a duplicate": (member("module.py"), errors.ArchiveError, "module.py"),
    "differs only in case": (member("Module.py"), errors.ArchiveError, "Module.py"),
    "no members": (files(), errors.SourceError, "empty"),
    "nothing recognisable": (files(README__md="# Hello"), errors.UnrecognisedSourceError, "README.md"),
    "only a conda environment": (files(environment__yml="name: x"), errors.UnrecognisedSourceError, "environment.yml"),
    "an editable requirement": (files(requirements__txt="six\n-e ."), errors.RequirementsError, "requirements.txt:2"),
    "a VCS requirement": (
        files(requirements__txt="x @ git+https://example.org/x"),
        errors.RequirementsError,
        "requirements.txt:1",
    ),
    "a path outside": (files(requirements__txt="\n../x"), errors.RequirementsError, "requirements.txt:2"),
    "a protected package": (files(requirements__txt="pyspark==3.5.0"), errors.ProtectedPackageError, "pyspark"),
    "wheels with faults": (broken_wheel, errors.InvalidWheelError, "the file name says version 2.0, METADATA says 1.0"),
    "a backend that fails": (failing_backend, errors.BuildError, "the backend says no"),
    "missing and no index": (
        files(requirements__txt="no-such-package-here"),
        errors.ResolutionError,
        "no-such-package-here",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    case: str, tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, error, said = CASES[case]
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    source = make(tmp_path)
    with pytest.raises(error) as raised:
        convert(source, base, options=OFFLINE)
    assert said in str(raised.value)
    assert "Traceback" not in str(raised.value)
    assert runs_in(base) == []
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [(Limits(members=10), "members"), (Limits(size=10), "bytes"), (Limits(depth=0), "deeper than the limit")],
)
def test_limits_are_options(limits: Limits, said: str, tmp_path: Path, base: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"module.py": "x = 1\n" * 10})
    source = write_zip(tmp_path / "source.zip", {**MANY, "more/inner.zip": inner.read_bytes()})
    with pytest.raises(errors.ArchiveError) as raised:
        convert(source, base, options=OFFLINE, limits=limits)
    assert said in str(raised.value)


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path, base: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("module.py", bytes(200_000_000))
    with pytest.raises(errors.ArchiveError, match=r"bomb|ratio|times"):
        convert(tmp_path / "bomb.zip", base, options=OFFLINE)


def test_the_faults_of_all_wheels_are_listed_at_once(tmp_path: Path, base: Path) -> None:
    with pytest.raises(errors.InvalidWheelError) as raised:
        convert(broken_wheel(tmp_path), base, options=OFFLINE)
    said = {fault.what.split(" ")[0] for fault in raised.value.faults if fault.where.startswith("beta-2.0")}
    assert len(raised.value.faults) == len(said) > 1, "the name that disagrees, and the tags that do not fit"
    assert "do not fit Python" in str(raised.value)


def test_an_index_that_does_not_answer_is_named(tmp_path: Path, base: Path) -> None:
    source = write_zip(tmp_path / "source.zip", {"requirements.txt": "six\n"})
    resolvers: tuple[ResolverName, ...] = ("uv", "pip")
    for resolver in resolvers:
        with pytest.raises(errors.IndexUnavailableError) as raised:
            convert(source, base, options=UNREACHABLE, resolver=resolver)
        assert "127.0.0.1" in str(raised.value)


@pytest.mark.network
def test_a_hash_that_does_not_match_names_both(tmp_path: Path, base: Path) -> None:
    wrong = "0" * 64
    source = write_zip(tmp_path / "source.zip", {"requirements.txt": f"six==1.16.0 --hash=sha256:{wrong}\n"})
    with pytest.raises(errors.HashMismatchError) as raised:
        convert(source, base)
    assert wrong in str(raised.value)
    assert "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254" in str(raised.value)
    assert runs_in(base) == []


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, base: Path) -> None:
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": "", "alpha.bin": os.urandom(3_000_000)})
    (tmp_path / "temporary").mkdir()
    answer = run_python(
        """
        import json, resource, signal, sys
        import depload
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # as near to a full disk as anyone may come
        try:
            depload.convert(sys.argv[1], sys.argv[2], options=depload.IndexOptions(no_index=True))
        except depload.DeploadError as error:
            print(json.dumps([type(error).__name__, str(error)]))
        """,
        str(tmp_path / "wheels"),
        str(base),
        TMPDIR=str(tmp_path / "temporary"),
    )
    assert answer[0] == "StoreError"
    assert runs_in(base) == []
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_users_directory_is_left_as_it_was(tmp_path: Path, base: Path) -> None:
    source = write_files(tmp_path / "modules", {"calculator.py": "x = 1\n", "data.txt": "data"})
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    convert(source, base, options=OFFLINE)
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


def test_zips_in_a_zip_may_together_not_ask_for_more_than_one(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"module.py": b"x = 1\n" * 500_000})
    write_zip(tmp_path / "outer.zip", {f"{number}.zip": inner.read_bytes() for number in range(20)})
    with pytest.raises(errors.ArchiveError, match=r"the limit is [\d,]+ \(Limits.size\)"):
        detect(tmp_path / "outer.zip", limits=Limits(size=32 << 20, ratio=10**6))
    assert detect(tmp_path / "inner.zip", limits=Limits(size=32 << 20, ratio=10**6)).format == "pure_python"
