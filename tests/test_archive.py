"""Hostile archives, one to a row, and what holds for every archive."""

from __future__ import annotations

import errno
import io
import os
import resource
import stat
import struct
import tempfile
import tracemalloc
import unicodedata
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from attack.zips import MIB, Member, deflated, ordinary, patched, zipped
from depload.errors import ArchiveError, Fault, StoreError
from depload.standards import archive
from depload.standards.archive import Limits, extract, inspect

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def saved(directory: Path, data: bytes) -> Path:
    path = directory / "some.zip"
    path.write_bytes(data)
    return path


def files_below(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if not path.is_dir())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


# --- members that may not be extracted ------------------------------------------------------------

A = Member("a")
NAME = "x" * 255


def link(name: str, to: str) -> Member:
    """A symbolic link, as Git makes it."""
    return Member(name, to.encode(), mode=stat.S_IFLNK | 0o777)


BOMB = Member("zeros", bytes(17 * MIB), zipfile.ZIP_DEFLATED)
HOSTILE = {
    "parent": (zipped(Member("../evil")), "../evil", "leads out of the archive"),
    "parent inside": (zipped(Member("a/../../evil")), "a/../../evil", "leads out of the archive"),
    "absolute": (zipped(Member("/etc/passwd")), "/etc/passwd", "absolute"),
    "UNC": (zipped(Member("//host/evil")), "//host/evil", "absolute"),
    "drive": (zipped(Member("c:evil")), "c:evil", "drive letter"),
    "backslash": (zipped(Member("a\\b.py")), "a\\b.py", "backslash"),
    "NUL": (zipped(Member("a.py\0.txt")), "'a.py\\x00.txt'", "control characters"),
    "C1 control": (zipped(Member("\x9b2Jb")), "'\\x9b2Jb'", "control characters"),
    "escape sequence": (zipped(Member("\x1b[2Jb")), "'\\x1b[2Jb'", "control characters"),
    "empty name": (zipped(Member("")), "''", "name is empty"),
    "dot": (zipped(Member(".")), ".", "name is empty"),
    "dot inside": (zipped(Member("a/.")), "a/.", "name is empty"),
    "long name": (zipped(Member("é" * 128)), "é" * 128, "over 255 bytes long"),
    "long path": (zipped(Member(f"{NAME}/" * 4 + "x")), f"{NAME}...", "over 1024 bytes long"),
    "deep path": (zipped(Member("d/" * 100 + "x")), "d/" * 100 + "x", "over 100 folders deep"),
    "symbolic link": (zipped(Member("a", mode=stat.S_IFLNK | 0o777)), "a", "symbolic link"),
    "link to a file that is not there": (zipped(A, link("l", "b")), "l", "symbolic link to b, which is not in"),
    "link to a file outside": (zipped(A, link("d/l", "../../etc/passwd")), "d/l", "leads out of the archive"),
    "link by way of the outside": (zipped(A, link("l", "../source/a")), "l", "leads out of the archive"),
    "link to an absolute path": (zipped(A, link("l", "/a")), "l", "leads out of the archive"),
    "link to a drive": (zipped(A, link("l", "c:a")), "l", "leads out of the archive"),
    "link by a backslash": (zipped(A, link("l", ".\\a")), "l", "leads out of the archive"),
    "link to the archive itself": (zipped(A, link("l", ".")), "l", "leads out of the archive"),
    "link to its own folder": (zipped(Member("d/a"), link("d/l", "../d")), "d/l", "a folder that holds links"),
    "link to itself": (zipped(link("l", "l")), "l", "a link itself"),
    "link to a link": (zipped(A, link("l", "m"), link("m", "a")), "l", "a link itself"),
    "links in a circle": (zipped(link("l", "m"), link("m", "l")), "m", "a link itself"),
    "link by way of a link": (zipped(Member("d/a"), link("l", "d"), link("m", "l/a")), "m", "not in the archive"),
    "link to a folder with a link": (
        zipped(Member("d/a"), link("d/e/l", "../a"), link("l", "d")),
        "l",
        "a folder that holds links",
    ),
    "link, and a member below it": (zipped(Member("d/a"), link("l", "d"), Member("l/b")), "l/b", "both a file and"),
    "link to a folder, and one where case counts": (
        zipped(Member("d/a"), link("l", "d"), Member("L/b")),
        "L/b",
        "only case or Unicode form",
    ),
    "link without content": (zipped(A, link("l", "")), "l", "leads nowhere"),
    "link with a control character": (zipped(A, link("l", "a\n")), "l", "leads out of the archive"),
    "link that is not UTF-8": (zipped(A, Member("l", b"\xff", mode=stat.S_IFLNK)), "l", "leads nowhere"),
    "link whose content is a lie": (zipped(A, Member("l", b"a", crc=1, mode=stat.S_IFLNK)), "l", "leads nowhere"),
    "link of endless content": (zipped(A, link("l", "./" * 999 + "a")), "l", "leads nowhere"),
    "link that makes a long path": (
        zipped(Member("d/" + "e/" * 60 + "x"), link("f/" * 60 + "l", "../" * 60 + "d")),
        "f/" * 60 + "l/" + "e/" * 60 + "x",
        "over 100 folders deep",
    ),
    "link by a folder's name": (zipped(Member("a/", b"", mode=stat.S_IFLNK)), "a/", "symbolic link"),
    "named pipe": (zipped(Member("a", mode=stat.S_IFIFO)), "a", "named pipe"),
    "device": (zipped(Member("a", mode=stat.S_IFBLK)), "a", "a device"),
    "unknown type": (zipped(Member("a", mode=0xF000)), "a", "unknown type"),
    "folder by mode": (zipped(Member("a", mode=stat.S_IFDIR)), "a", "mode is a folder's"),
    "folder with data": (zipped(Member("a/")), "a/", "holds data"),
    "encrypted": (zipped(Member("a", flags=1)), "a", "encrypted"),
    "strongly encrypted": (zipped(Member("a", flags=1 << 6)), "a", "encrypted"),
    "Deflate64": (zipped(Member("a", method=9)), "a", "Deflate64 (method 9)"),
    "bzip2": (ordinary({"a": b"data"}, zipfile.ZIP_BZIP2), "a", "bzip2 (method 12)"),
    "unknown method": (zipped(Member("a", method=77)), "a", "unknown (method 77)"),
    "stored in two sizes": (zipped(Member("a", size=5)), "a", "sizes before and after differ"),
    "duplicate": (zipped(A, A), "a", "there twice"),
    "duplicate by dots": (zipped(A, Member("./a")), "./a", "there twice"),
    "case": (zipped(A, Member("A")), "A", "A where another has a"),
    "case of a folder": (zipped(Member("a/x"), Member("A/y")), "A/y", "A where another has a"),
    "case that only folding finds": (zipped(Member("ß"), Member("SS")), "SS", "SS where another has ß"),
    "Unicode form": (zipped(Member("\u00e9"), Member("e\u0301")), "e\u0301", "only case or Unicode form"),
    "file as folder": (zipped(A, Member("a/b")), "a/b", "a is both a file and a folder"),
    "folder as file": (zipped(Member("a/b"), A), "a", "a is both a file and a folder"),
    "folder's entry as file": (zipped(Member("a/", b""), A), "a", "a is both a file and a folder"),
    "overlap": (zipped(Member("b", A.local()), Member("a", at=31)), "a", "overlaps that of b, as in a zip bomb"),
    "shared data": (zipped(A, Member("a", at=0)), "a", "overlaps that of a"),
    "local name": (zipped(Member("good.py", local_name="evil.py")), "good.py", "local header calls it evil.py"),
    "no local header": (zipped(A, Member("b", at=1)), "b", "not where the table"),
    "far local header": (zipped(Member("a", at=1 << 31)), "a", "outside of the archive"),
    "data into the table": (patched(zipped(Member("a", method=8)), b"PK\1\2", 20, 7), "a", "runs into the table"),
    "ratio of a member": (zipped(BOMB, Member("noise", os.urandom(MIB))), "zeros", "Limits.ratio"),
    "ratio of the whole": (zipped(BOMB), "", "Limits.ratio"),
    "ratio by a declared size": (zipped(Member("a", size=0xFFFFFFFE, method=8)), "a", "unpack to 4,294,967,294"),
    "size by many": (zipped(*(Member(f"{n}", size=0xFFFFFFFE, method=8) for n in range(6))), "", "Limits.size"),
}


@pytest.mark.parametrize(("data", "where", "what"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_member_is_named_and_nothing_is_extracted(
    data: bytes, where: str, what: str, tmp_path: Path, to: Path
) -> None:
    path = saved(tmp_path, data)
    faults = inspect(path)
    assert any(fault.where == where and what in fault.what for fault in faults), faults
    with pytest.raises(ArchiveError) as refusal:
        extract(path, to)
    assert refusal.value.faults == faults
    assert not to.exists()


def test_every_fault_of_every_member_is_told_at_once(tmp_path: Path) -> None:
    evil = Member("../evil", flags=1, mode=stat.S_IFLNK)
    faults = inspect(saved(tmp_path, zipped(A, evil, evil, Member("/etc"), A)))
    assert [fault.where for fault in faults] == [*["../evil"] * 6, "/etc", "a"]


@pytest.mark.parametrize(
    "name", ["con.py", "NUL", "a b.py", "ab:c", "...", "..a", ".hidden", "./a", "a//b", "naïve.py"]
)
def test_an_unusual_name_is_no_fault(name: str) -> None:
    assert archive._unsafe(zipfile.ZipInfo(name)) is None


LIES = {
    "crc": (Member("a", crc=1), "CRC is wrong"),
    "crc of nothing": (Member("a", b"", crc=1), "CRC is wrong"),
    "larger, with the crc of the start": (
        Member("a", bytes(9), method=8, packed=deflated(bytes(10))),
        "larger than the 9 bytes",
    ),
    "much larger": (Member("a", bytes(9), method=8, packed=deflated(bytes(9 * MIB))), "larger than the 9 bytes"),
    "smaller": (Member("a", bytes(10), method=8, size=11), "it is 10 bytes, and declares 11"),
    "not deflate": (Member("a", packed=b"\xff\xff", method=8), "damaged"),
    "half of it": (Member("a", NAME.encode(), packed=deflated(NAME.encode())[:2], method=8), "declares 255"),
}


@pytest.mark.parametrize(("member", "what"), LIES.values(), ids=LIES)
def test_a_lie_that_shows_while_unpacking_is_told_and_all_that_was_written_is_removed(
    member: Member, what: str, tmp_path: Path, to: Path
) -> None:
    path = saved(tmp_path, zipped(Member("folder/before"), member, Member("later", crc=1)))
    assert inspect(path) == ()
    with pytest.raises(ArchiveError) as refusal:
        extract(path, to)
    assert [fault.where for fault in refusal.value.faults] == ["a", "later"]
    assert what in refusal.value.faults[0].what
    assert not to.exists()


# --- files that are no whole zip ------------------------------------------------------------------

WHOLE = ordinary({"a.py": b"a = 1\n", "b/c.py": b"c = 1\n" * 100, "empty/": b""})
INNER = ordinary({"inner.py": b"inner = 1\n"})
NESTED = ordinary({"one.whl": INNER, "two.whl": INNER}, zipfile.ZIP_STORED)
NO_ZIP = {
    "empty": (b"", "it is empty"),
    "gzip": (b"\x1f\x8b\x08\0", "gzip"),
    "7z": (b"7z\xbc\xaf\x27\x1c", "7z"),
    "rar": (b"Rar!\x1a\x07\x01\0", "rar"),
    "tar": (b"a.py".ljust(257, b"\0") + b"ustar\x0000", "tar"),
    "HTML": (b"\xef\xbb\xbf\n <!DOCTYPE HTML><title>404</title>", "HTML page"),
    "JSON": (b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', "JSON"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "text": (b"requests==2.31\n", "it is not a zip"),
    "line break at the end": (WHOLE + b"\n", "something was added"),
    "bytes lost inside": (WHOLE[:40] + WHOLE[50:], "10 bytes are missing"),
    "cut after a wheel inside": (NESTED[: NESTED.index(b"PK\5\6") + 22], "cut short"),
    "two zips": (WHOLE + INNER, f"knows nothing of {len(WHOLE)} bytes"),
    "split": (zipped(A, disk=1), "split"),
    "fewer counted": (zipped(A, Member("b"), count=1), "has 2 members, and its end record counts 1"),
    "more counted": (zipped(A, count=3), "has 1 members, and its end record counts 3"),
    "broken table": (patched(zipped(A, Member("b")), b"PK\1\2", 3, 3), "damaged after 0"),
    "table beyond its end": (patched(zipped(A), b"PK\1\2", 32, 1), "has 1 members"),
    "future version": (patched(zipped(A), b"PK\1\2", 6, 64), "version 6.4"),
    "name that is not UTF-8": (zipped(Member("é")).replace("é".encode(), b"\xff\xff"), "damaged"),
    "extra field longer than it is": (zipped(Member("a", extra=b"\1\0\x08\0")), "damaged"),
    "huge comment": (zipped(Member("a", comment=b"c" * 9000)), "member 1 needs 9,001 bytes"),
    "end record in the comment": (zipped(A, comment=b"PK\5\6" + bytes(20)), "end record"),
}


@pytest.mark.parametrize(("data", "what"), NO_ZIP.values(), ids=NO_ZIP)
def test_a_file_that_is_no_whole_zip_is_told_for_what_it_is(data: bytes, what: str, tmp_path: Path, to: Path) -> None:
    path = saved(tmp_path, data)
    (fault,) = inspect(path)
    assert fault.where == ""
    assert what in fault.what
    with pytest.raises(ArchiveError, match=r"some\.zip"):
        extract(path, to)
    assert not to.exists()


@pytest.mark.parametrize("data", [WHOLE, NESTED], ids=["files", "wheels"])
def test_wherever_an_archive_is_cut_short_it_is_noticed(data: bytes, tmp_path: Path) -> None:
    unnoticed = [end for end in range(len(data)) if not inspect(saved(tmp_path, data[:end]))]
    assert unnoticed == []


def test_a_file_that_is_missing_or_a_directory_is_a_fault(tmp_path: Path, to: Path) -> None:
    assert inspect(tmp_path / "none.zip") == (Fault("", "it cannot be read: No such file or directory"),)
    assert inspect(tmp_path) == (Fault("", "it is not a file"),)
    with pytest.raises(ArchiveError, match=r"none\.zip"):
        extract(tmp_path / "none.zip", to)


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "limits", "what"),
    [
        (["a/b/c", "d"], Limits(members=4), ""),
        (["a/b/c", "d"], Limits(members=3), "it makes more than 3 files and folders"),
        (["a", "b"], Limits(members=2), ""),
        (["a", "b"], Limits(members=1), "it has 2 members or more; the limit is 1"),
        (["a", "b"], Limits(size=8), ""),
        (["a", "b"], Limits(size=7), "it unpacks to 8 bytes; the limit is 7"),
        (["a", "b"], Limits(ratio=0), ""),
    ],
)
def test_a_limit_is_what_may_just_be_reached(names: list[str], limits: Limits, what: str, tmp_path: Path) -> None:
    faults = inspect(saved(tmp_path, zipped(*map(Member, names))), limits)
    assert [fault.what[: len(what)] for fault in faults] == ([what] if what else [])


@pytest.mark.parametrize(("count", "told"), [(1, 51), (60_000, 60_000)])
def test_too_many_members_are_refused_before_zipfile_reads_them_whatever_the_end_record_says(
    count: int, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, zipped(*(Member(f"{n}") for n in range(100)), count=count))
    monkeypatch.delattr(zipfile, "ZipFile")
    (fault,) = inspect(path, Limits(members=50))
    assert f"it has {told:,} members or more; the limit is 50" in fault.what


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_unpacking_takes_little_memory_however_large_the_member(method: int, tmp_path: Path, to: Path) -> None:
    path = saved(tmp_path, ordinary({"zeros": bytes(24 * MIB)}, method))
    tracemalloc.start()
    try:
        extract(path, to, Limits(ratio=2000))
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()
    assert (to / "zeros").stat().st_size == 24 * MIB


# --- extracting -----------------------------------------------------------------------------------


def test_files_and_folders_are_extracted_and_only_what_was_executable_is(tmp_path: Path, to: Path) -> None:
    members = [Member("d/", b""), Member("bin/run", mode=0o100755), Member("bin/é.py", mode=0o104644, method=8), A]
    extract(saved(tmp_path, zipped(*members)), to)
    assert files_below(to) == {"bin/run": b"data", "bin/é.py": b"data", "a": b"data"}
    assert (to / "d").is_dir()
    umask = os.umask(0)
    os.umask(umask)
    modes = [stat.S_IMODE((to / name).stat().st_mode) for name in ("bin/run", "bin/é.py", "a")]
    assert modes == [0o777 & ~umask, 0o666 & ~umask, 0o666 & ~umask]


def test_a_member_that_ends_just_after_a_piece_is_extracted_whole(tmp_path: Path, to: Path) -> None:
    files = {str(size): bytes(size) for size in range(archive._CHUNK, archive._CHUNK + 300, 20)}
    extract(saved(tmp_path, ordinary(files)), to)
    assert files_below(to) == files


LINKS = {
    "to a file": ([link("l", "d/a")], {"l"}),
    "out of a folder": ([link("e/l", "../d/./a")], {"e/l"}),
    "to a folder": ([link("l", "d")], {"l/a", "l/e/b"}),
    "to a folder, with a slash": ([link("e/l", "../d/e/")], {"e/l/b"}),
    "two to one": ([link("l", "d/a"), link("m", "d/a")], {"l", "m"}),
    "by bsdtar": ([link("./l", "d/e/b")], {"l"}),
}


@pytest.mark.parametrize(("links", "made"), LINKS.values(), ids=LINKS)
def test_a_link_to_what_is_in_the_archive_becomes_a_copy_of_that(
    links: list[Member], made: set[str], tmp_path: Path, to: Path
) -> None:
    members = [Member("d/", b""), Member("d/a", b"a", mode=0o100755), Member("d/e/b", b"b", method=8)]
    path = saved(tmp_path, zipped(*links, *members))
    assert inspect(path) == ()
    left = extract(path, to)
    found = files_below(to)
    assert found.keys() == {"d/a", "d/e/b"} | made
    assert all(found[name] == (b"b" if name.endswith("b") or links[0].data == b"d/e/b" else b"a") for name in made)
    assert not any(file.is_symlink() for file in to.rglob("*"))
    assert archive._RATIO_FLOOR - left.size == sum(map(len, found.values())), "copies count"
    assert os.access(to / "d" / "a", os.X_OK)


def test_a_link_to_an_empty_folder_becomes_one(tmp_path: Path, to: Path) -> None:
    extract(saved(tmp_path, zipped(Member("d/", b""), link("l", "d"))), to)
    assert sorted(path.name for path in to.iterdir() if path.is_dir()) == ["d", "l"]


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(members=60), "with what its links lead to it has 87 members; the limit is 60"),
        (Limits(size=100), "unpacks to 80,000 bytes"),
        (Limits(ratio=1), "Limits.ratio"),
    ],
)
def test_what_links_stand_for_counts_as_if_it_were_there(
    limits: Limits, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_RATIO_FLOOR", 100)
    files = [Member(f"d/{number}", bytes(1000), method=8) for number in range(10)]
    faults = inspect(saved(tmp_path, zipped(*files, *(link(f"l{number}", "d") for number in range(7)))), limits)
    assert any(what in fault.what for fault in faults), faults


def test_links_to_a_large_folder_are_refused_before_their_copies_fill_the_memory(tmp_path: Path) -> None:
    files = [Member(f"d/{number}", b"") for number in range(500)]
    path = saved(tmp_path, zipped(*files, *(link(f"l{number}", "d") for number in range(400))))
    tracemalloc.start()
    try:
        (fault,) = inspect(path, Limits(members=1000))
        assert "with what its links lead to it has 200,900 members" in fault.what
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_in_a_wheel_a_link_is_a_fault_wherever_it_leads(tmp_path: Path) -> None:
    path = saved(tmp_path, zipped(A, link("l", "a")))
    assert inspect(path) == ()
    assert [fault.where for fault in inspect(path, links=False)] == ["l"]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"PK\5\6" + bytes(18), set()),
        (b"#!/usr/bin/env python3\n" + WHOLE, {"a.py", "b/c.py"}),
        (zipped(A, comment=b"c" * 0xFFFF), {"a"}),
        (zipped(Member("é", flags=0)), {"é"}),
        (zipped(Member("a", extra=struct.pack("<2HBL", 0x7075, 6, 1, zlib.crc32(b"a")) + b"e")), {"a"}),
        (ordinary({"é": b""}).replace("é".encode(), b"\x82\x82").replace(b"\0\x08", b"\0\0"), {"éé"}),
        (zipped(Member("d/", b"", mode=0xFFFF), Member("d/a")), {"d/a"}),
        (zipped(Member("./", b""), Member("./a"), Member("b/", b""), Member("b/", b"")), {"a"}),
    ],
    ids=[
        "no members",
        "zipapp",
        "comment",
        "made by zip",
        "two names",
        "made by DOS",
        "made by Maven",
        "made by bsdtar",
    ],
)
def test_an_unusual_archive_is_extracted(data: bytes, names: set[str], tmp_path: Path, to: Path) -> None:
    extract(saved(tmp_path, data), to)
    assert set(files_below(to)) == names


def test_a_zip64_archive_is_extracted(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
    data = ordinary({"a": b"a" * 99, "b": b"b" * 99})
    assert b"PK\6\6" in data
    extract(saved(tmp_path, data), to)
    assert files_below(to) == {"a": b"a" * 99, "b": b"b" * 99}
    (fault,) = inspect(saved(tmp_path, data.replace(b"PK\6\6", b"PK\6\0")))
    assert "zip64" in fault.what


def test_a_directory_that_is_not_empty_is_refused_and_kept(tmp_path: Path, to: Path) -> None:
    to.mkdir()
    (to / "mine").write_text("keep")
    with pytest.raises(StoreError, match="not empty"):
        extract(saved(tmp_path, WHOLE), to)
    assert files_below(to) == {"mine": b"keep"}


def test_a_failure_leaves_an_empty_directory_as_it_was_and_no_parents(tmp_path: Path, to: Path) -> None:
    path = saved(tmp_path, zipped(Member("d/a"), Member("b", crc=1)))
    to.mkdir(mode=0o700)
    for place in (to, tmp_path / "new" / "newer"):
        with pytest.raises(ArchiveError):
            extract(path, place)
    assert stat.S_IMODE(to.stat().st_mode) == 0o700
    assert sorted(tmp_path.rglob("*")) == [path, to]


def test_a_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    path, target = saved(tmp_path, zipped(A)), tmp_path / "target"
    (tmp_path / "link").symlink_to(target)
    with archive._opened(path, Limits()) as opened, pytest.raises(FileExistsError):
        archive._write(tmp_path / "link", opened, opened.members[0])
    assert not target.exists()


def test_an_interruption_leaves_nothing(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, *_: object) -> None:
        path.touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(saved(tmp_path, WHOLE), to)
    assert not to.exists()


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A write beyond ``size`` fails with EFBIG, for Python ignores SIGXFSZ: a full disk for everybody, root or not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_refuses_midway_is_one_clear_error_and_leaves_nothing(tmp_path: Path, to: Path) -> None:
    path = saved(tmp_path, zipped(Member("d/small"), Member("large", bytes(2 * MIB), method=8)))
    with no_file_larger_than(MIB), pytest.raises(StoreError, match="ulimit") as refusal:
        extract(path, to)
    assert refusal.value.path == str(to)
    assert not to.exists()


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "may write")])
def test_a_disk_that_refuses_is_told_with_a_remedy(
    code: int, remedy: str, tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(archive, "_write", refusing)
    with pytest.raises(StoreError, match=f"{os.strerror(code)}; .*{remedy}"):
        extract(saved(tmp_path, WHOLE), to)
    assert not to.exists()


# --- what holds for every archive -----------------------------------------------------------------

components = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\:"), min_size=1, max_size=40)
safe_paths = st.lists(components.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4).map("/".join)
traps = st.sampled_from(["..", ".", "", "a", "A", "e\u0301", "é", "C:", "\\", "\0", "~", "x" * 256])
any_paths = st.lists(traps | st.text(max_size=5), max_size=5).map("/".join)


def side_by_side(paths: Iterable[str]) -> bool:
    """Whether a disk that ignores case and Unicode forms holds ``paths``: said in another way than archive.py does."""
    nodes = {(path[:end], end == len(path)) for path in paths for end, char in enumerate(f"{path}/") if char == "/"}
    folded = {unicodedata.normalize("NFC", unicodedata.normalize("NFD", node).casefold()) for node, _ in nodes}
    return len(folded) == len(nodes)


@settings(deadline=None)
@given(st.dictionaries(safe_paths, st.binary(max_size=2000), max_size=8), st.sampled_from([0, 8]))
def test_any_safe_names_and_contents_round_trip(files: dict[str, bytes], method: int) -> None:
    assume(side_by_side(files))
    with tempfile.TemporaryDirectory() as directory:
        path, to = saved(Path(directory), ordinary(files, method)), Path(directory, "to")
        assert inspect(path) == ()
        extract(path, to)
        assert files_below(to) == files


@settings(deadline=None)
@given(st.lists(any_paths, max_size=4))
@example(["a//b", "./c", "d/e"])
def test_whatever_the_names_nothing_is_written_but_below_the_directory(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path, to = saved(Path(directory), zipped(*map(Member, names))), Path(directory, "deep", "to")
        try:
            extract(path, to)
        except ArchiveError:
            assert list(Path(directory).iterdir()) == [path]
        else:
            assert sorted(files_below(to)) == sorted(os.path.normpath(name) for name in names if not name.endswith("/"))
            assert set(files_below(Path(directory))) == {path.name, *(f"deep/to/{name}" for name in files_below(to))}


changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([WHOLE, NESTED]), changes, st.floats(0, 1))
@example(WHOLE, [], 1.0)
def test_a_damaged_archive_is_refused_or_its_contents_are_true(
    data: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(damaged))] = value
    with tempfile.TemporaryDirectory() as directory:
        path, to = saved(Path(directory), bytes(damaged[: round(kept * len(damaged))])), Path(directory, "to")
        try:
            extract(path, to)
        except ArchiveError:
            assert list(Path(directory).iterdir()) == [path]
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as original:
                assert set(files_below(to).values()) <= set(map(original.read, original.namelist()))
