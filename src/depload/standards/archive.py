"""Read a zip that nobody vouches for.

Python's ``zipfile`` only lists the members here. Its extraction makes ``evil`` of ``../evil``, stops without a word at
the size that a header declares, and gives up at the first fault; what it refuses differs between its versions. So every
member is judged before a byte is written, and unpacked without trust in its headers. APPNOTE is PKWARE's
"ZIP File Format Specification".
"""

from __future__ import annotations

import copy
import errno
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from depload.errors import ArchiveError, Fault, StoreError
from depload.standards.links import LONGEST, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Limits", "extract", "hostile", "inspect"]


@dataclass(frozen=True)
class Limits:
    """How much an archive may ask of the machine that extracts it."""

    members: int = 100_000
    """Files and folders, those that only paths imply included: the largest wheels hold some ten thousand."""

    size: int = 20 * 1024**3
    """Bytes of all members after unpacking: room for PyTorch with its CUDA libraries, several times over."""

    ratio: int = 200
    """Bytes out per byte in, judged from 16 MiB out: code comes to about 10, and deflate ends at 1032."""

    depth: int = 3
    """Zips inside zips, for callers that open those: a zip that holds a wheelhouse that holds wheels."""


_DEFAULT = Limits()
_RATIO_FLOOR = 16 * 1024**2  # a small file of zeros exceeds any ratio and harms nobody
_CHUNK = 256 * 1024
_LONGEST_NAME = 255  # bytes: every usual file system
_LONGEST_PATH = 1024  # bytes: PATH_MAX is 1024 on macOS and 4096 on Linux, and the directory comes on top
_DEEPEST_PATH = 100  # folders: shutil.rmtree before Python 3.13 recurses, and holds a descriptor for each
_LONGEST_ENTRY = 8 * 1024  # bytes of name, extra field and comment: the format's 192 KiB would fill the memory
_LONGEST_TABLE = 64 * 1024**2  # bytes of all entries, which zipfile reads at once: 100,000 of them take about 12 MiB

_END = struct.Struct("<4s4H2LH")  # end of central directory record, APPNOTE 4.3.16
_END64 = struct.Struct("<4sQ2H2L4Q")  # its zip64 form, 4.3.14
_LOCATOR64 = struct.Struct("<4sLQL")  # 4.3.15, between the two
_ENTRY = struct.Struct("<4s24x3H12x")  # central directory header, 4.3.12: signature, and three lengths
_LOCAL = struct.Struct("<4s22x2H")  # local file header, 4.3.7: signature, and two lengths
_UTF8 = 1 << 11  # flag bits, 4.4.4
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13


class _DamageError(Exception):
    """The archive, or a member, cannot be read; the message says why."""


class _Archive(NamedTuple):
    """An open zip whose table of members (APPNOTE: central directory) could be read."""

    file: BinaryIO
    size: int
    table: int  # where the table starts, before which all data must end
    members: list[zipfile.ZipInfo]


def inspect(path: Path, limits: Limits = _DEFAULT, *, links: bool = True) -> tuple[Fault, ...]:
    """Every reason why ``path`` may not be extracted; nothing is written.

    Wrong checksums and sizes show only when members are unpacked, in ``extract``. Without ``links`` even those are a
    fault that lead to what is in the archive: in a wheel they are, for installers write them as files of text.
    """
    try:
        with _opened(path, limits) as archive:
            return tuple(_judged(archive, limits, links=links)[1])
    except _DamageError as damage:
        return (Fault("", str(damage)),)


def hostile(path: Path, limits: Limits = _DEFAULT) -> tuple[Fault, ...]:
    """Of what ``inspect`` finds only what would do harm: names that lead elsewhere, and costs out of all proportion.

    It is for archives that must be taken as they are, the wheels of an index, links and names in two cases included.
    """
    try:
        with _opened(path, limits) as archive:
            unsafe = (_fault(member, what) for member in archive.members if (what := _unsafe(member)))
            return (*unsafe, *_misplaced(archive), *_excessive(archive, limits))
    except _DamageError as damage:
        return (Fault("", str(damage)),)


def extract(path: Path, to: Path, limits: Limits = _DEFAULT) -> Limits:
    """Extract ``path`` into ``to``, a directory that is empty or not there yet: every member, or nothing.

    Where a link leads to a file or folder of the archive a copy of that is written, see ``standards.links``.

    Returns what is left of ``limits`` for the zips inside, so that a zip of zips may not ask for more than one zip may.

    Raises:
        ArchiveError: with every fault.
        StoreError: ``to`` cannot be written, or is not empty.
    """
    try:
        with _opened(path, limits) as archive:
            whole, faults = _judged(archive, limits, links=True)
            _refuse(path, faults)
            with _storing(to), _all_or_nothing(to):
                _refuse(path, list(_extracted(whole, to)))
            return _left(whole, limits)
    except _DamageError as damage:
        raise ArchiveError(str(path), [Fault("", str(damage))]) from damage


def _left(archive: _Archive, limits: Limits) -> Limits:
    """The limits less what the archive took; its own size bounds what all that lies in it may unpack to."""
    most = min(limits.size, max(_RATIO_FLOOR, archive.size * limits.ratio))
    taken = sum(member.file_size for member in archive.members)
    return replace(limits, members=limits.members - len(archive.members), size=max(0, most - taken))


def _refuse(path: Path, faults: Sequence[Fault]) -> None:
    if faults:
        raise ArchiveError(str(path), faults)


# --- the file as a whole --------------------------------------------------------------------------


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever noticed it: something is wrong with the archive."""
    try:
        yield
    except OSError as error:
        raise _DamageError(f"it cannot be read: {error.strerror or error}") from error
    # from Python 3.13 on, zipfile warns of an extra field, and warnings may be errors
    except (zipfile.BadZipFile, NotImplementedError, ValueError, zlib.error, Warning) as error:
        raise _DamageError(f"it is damaged: {error}") from error


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[_Archive]:
    with _reading():
        if not stat.S_ISREG(path.stat().st_mode):
            raise _DamageError("it is not a file")
        file = path.open("rb")
    with file:
        yield _read(file, limits)


def _read(file: BinaryIO, limits: Limits) -> _Archive:
    with _reading():
        claimed, start, end = _find_table(file)
        _count(file, claimed, start, end, limits.members)
        with zipfile.ZipFile(file) as archive:
            if archive.start_dir != start:
                raise _DamageError("it has two end records, and they disagree")
        members = archive.infolist()
        for member in members:
            member.filename = _name(member)
        return _Archive(file, file.seek(0, os.SEEK_END), start, members)


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    return member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")


def _name(member: zipfile.ZipInfo) -> str:
    """The whole name, from where every Python finds the same.

    ``ZipInfo.filename`` ends at a NUL, since Python 3.13 may come from an extra field, and is garbled where UTF-8 was
    written without the flag for it, as Info-ZIP's ``zip`` does.
    """
    try:
        return _raw_name(member).decode("utf-8")
    except UnicodeDecodeError:
        return member.orig_filename


def _find_table(file: BinaryIO) -> tuple[int, int, int]:
    """How many members the end record counts, and where their table starts and ends.

    A zip of wheels cut short may well end with the end record of one of the wheels. That is why nothing may follow the
    record, as PyPI asks too, and nothing but a program precede the first member (zipapps, self-extracting archives).
    """
    head = file.read(512)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 0xFFFF - _END.size - _LOCATOR64.size - _END64.size))
    tail = file.read()
    at = _end_record(tail)
    if at < 0:
        raise _DamageError(_looks_like(head))
    _, disk, table_disk, _, members, length, offset, _ = _END.unpack_from(tail, at)
    if at >= _LOCATOR64.size + _END64.size and tail.startswith(b"PK\x06\x07", at - _LOCATOR64.size):
        at -= _LOCATOR64.size + _END64.size
        mark, _, _, _, disk, table_disk, _, members, length, offset = _END64.unpack_from(tail, at)
        if mark != b"PK\x06\x06":
            raise _DamageError("its zip64 end record is damaged")
    if disk or table_disk:
        raise _DamageError("it is one part of a zip that was split; join the parts")
    end = size - len(tail) + at
    missing = offset + length - end
    if missing > 0:
        raise _DamageError(f"it was cut short: {missing:,} bytes are missing")
    if missing < 0 and not head.startswith((b"#!", b"MZ")):
        raise _DamageError(f"it was cut short or joined to another: its end record knows nothing of {-missing:,} bytes")
    return members, end - length, end


def _end_record(tail: bytes) -> int:
    """Where the record stands whose comment ends the file, or -1."""
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0 and at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return at


def _count(file: BinaryIO, claimed: int, at: int, end: int, most: int) -> None:
    """Count the members, for the end record may lie, and zipfile makes an object of each before one can look."""
    if end - at > _LONGEST_TABLE and claimed <= most:
        raise _DamageError(f"its table of members has {end - at:,} bytes; more than {_LONGEST_TABLE:,} are not read")
    found = 0
    while at < end and max(found, claimed) <= most:
        file.seek(at)
        mark, *lengths = _ENTRY.unpack(file.read(_ENTRY.size).ljust(_ENTRY.size))
        if mark != b"PK\x01\x02":
            raise _DamageError(f"its table of members is damaged after {found:,} of them")
        if sum(lengths) > _LONGEST_ENTRY:
            raise _DamageError(
                f"member {found + 1:,} needs {sum(lengths):,} bytes for its name, extra field and comment"
            )
        at += _ENTRY.size + sum(lengths)
        found += 1
    if max(found, claimed) > most:
        raise _DamageError(f"it has {max(found, claimed):,} members or more; the limit is {most:,} (Limits.members)")
    if found != claimed or at != end:
        raise _DamageError(f"its table has {found:,} members, and its end record counts {claimed:,}")


_MAGIC = (
    (0, b"PK", "a zip that was cut short, or that something was added to"),
    (0, b"\x1f\x8b", "gzip (.gz, .tar.gz)"),
    (0, b"BZh", "bzip2 (.bz2, .tar.bz2)"),
    (0, b"\xfd7zXZ\0", "xz (.xz, .tar.xz)"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard (.zst)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer (git lfs pull fetches the file)"),
    (0, b"<!doctype html", "an HTML page, perhaps the error page of a download"),
    (0, b"<html", "an HTML page, perhaps the error page of a download"),
    (0, b"<?xml", "XML, perhaps the error of a download"),
    (0, b"{", "JSON, perhaps the error of a download"),
    (0, b"[", "JSON, perhaps the error of a download"),
)


def _looks_like(head: bytes) -> str:
    """What a file that begins with ``head`` is instead of a zip."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    kinds = [what for at, magic, what in _MAGIC if head.startswith(magic, at) or text.startswith(magic, at)]
    if kinds:
        return f"it is not a whole zip; it looks like {kinds[0]}"
    return "it is not a zip" if head else "it is empty"


# --- judging the members --------------------------------------------------------------------------


def _judged(archive: _Archive, limits: Limits, *, links: bool) -> tuple[_Archive, list[Fault]]:
    """Every fault of the archive, and the archive with other members in the place of its links."""
    unsafe = {id(member): what for member in archive.members if (what := _unsafe(member))}
    safe = [member for member in archive.members if id(member) not in unsafe]
    followed, lost = _followed(archive, safe, limits.members) if links and any(map(_is_link, safe)) else ({}, {})
    faults = []
    for member in archive.members:
        special = None if id(member) in followed else lost.get(id(member)) or _special(member)
        said = (unsafe.get(id(member)), special, *(rule(member) for rule in _RULES))
        faults += [_fault(member, what) for what in said if what]
    faults += [*_collisions(safe, limits.members), *_misplaced(archive)]
    whole = archive._replace(members=[one for each in archive.members for one in followed.get(id(each), [each])])
    if followed and not faults:
        copies = [one for ones in followed.values() for one in ones]
        faults += [_fault(one, what) for one in copies if (what := _unsafe(one))]
        faults += _collisions(whole.members, limits.members)
    return whole, [*faults, *_excessive(whole, limits)]


def _shown(name: str) -> str:
    """``name`` for a message: bearably long, and no terminal obeys it."""
    name = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
    return name if name and name.isprintable() else ascii(name)


def _fault(member: zipfile.ZipInfo, what: object) -> Fault:
    return Fault(_shown(member.filename), str(what))


def _parts(name: str) -> tuple[str, ...]:
    """The path as components; the tar of macOS and Windows writes ``./a.py`` into zips, and that is ``a.py``."""
    return tuple(part for part in name.split("/") if part not in ("", "."))


_NAME_RULES: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("its name is empty", lambda name: not name or name.split("/")[-1] == "."),
    ("its name holds control characters", lambda name: re.search("[\0-\x1f\x7f-\x9f]", name)),
    ("its name holds a backslash; what separates folders in a zip is /", lambda name: "\\" in name),
    ("its path is absolute", lambda name: name.startswith("/")),
    ("its path begins with a drive letter", lambda name: re.match("[A-Za-z]:", name)),
    ("its path leads out of the archive (..)", lambda name: ".." in _parts(name)),
    (f"its path is over {_LONGEST_PATH} bytes long", lambda name: len(name.encode()) > _LONGEST_PATH),
    (f"its path is over {_DEEPEST_PATH} folders deep", lambda name: len(_parts(name)) > _DEEPEST_PATH),
    (
        f"a name in its path is over {_LONGEST_NAME} bytes long",
        lambda name: any(len(part.encode()) > _LONGEST_NAME for part in _parts(name)),
    ),
)


# What nearly every member of nearly every archive is called; it breaks no rule, and this is ten times as fast.
_PLAIN = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.+-]*/){0,20}[A-Za-z0-9_][A-Za-z0-9_.+-]*/?")


def _unsafe(member: zipfile.ZipInfo) -> str | None:
    """Why the path of ``member`` may not be extracted ("Zip Slip", CVE-2018-1002200), or None."""
    if len(member.filename) <= _LONGEST_NAME and _PLAIN.fullmatch(member.filename):
        return None
    return next((what for what, breaks in _NAME_RULES if breaks(member.filename)), None)


def _is_folder(member: zipfile.ZipInfo) -> bool:
    return member.filename.endswith("/")  # ZipInfo.is_dir breaks on an empty name


_UNSET_BY_MAVEN = 0xFFFF  # it gives folders the mode -1
_SPECIAL = {"l": "a symbolic link", "p": "a named pipe", "s": "a socket", "c": "a device", "b": "a device"}


def _special(member: zipfile.ZipInfo) -> str | None:
    """Why ``member`` is not a file or folder, or None."""
    mode = member.external_attr >> 16
    if stat.S_ISDIR(mode) and not _is_folder(member):
        return "its mode is a folder's, its name a file's"
    if _is_folder(member) and member.file_size:
        return "it is a folder, and holds data"
    if mode == _UNSET_BY_MAVEN or stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR):
        return None
    return f"it is {_SPECIAL.get(stat.filemode(mode)[0], 'of an unknown type')}; only files and folders are extracted"


def _encrypted(member: zipfile.ZipInfo) -> str | None:
    return "it is encrypted; make the zip without a password" if member.flag_bits & _ENCRYPTED else None


_METHODS = {1: "shrink", 6: "implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA"}  # APPNOTE 4.4.5
_METHODS |= {93: "Zstandard", 95: "xz", 98: "PPMd", 99: "AES encryption"}


def _packed_otherwise(member: zipfile.ZipInfo) -> str | None:
    """Why ``member`` cannot be unpacked, or None; stored and deflated is what PyPI takes, and uv from 0.12 on."""
    method = member.compress_type
    if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"its compression is {_METHODS.get(method, 'unknown')} (method {method}); make the zip with deflate"
    if method == zipfile.ZIP_STORED and member.compress_size != member.file_size and not _encrypted(member):
        return "it is stored, and its sizes before and after differ"
    return None


_RULES: tuple[Callable[[zipfile.ZipInfo], str | None], ...] = (_encrypted, _packed_otherwise)


def _is_link(member: zipfile.ZipInfo) -> bool:
    mode = member.external_attr >> 16
    return stat.S_ISLNK(mode) and mode != _UNSET_BY_MAVEN and not _is_folder(member)


def _followed(
    archive: _Archive, members: Iterable[zipfile.ZipInfo], most: int
) -> tuple[dict[int, list[zipfile.ZipInfo]], dict[int, str]]:
    """By the ``id`` of each link: the members that stand in its place, or why there are none."""
    paths = {"/".join(_parts(member.filename)): member for member in members}
    links = {path: member for path, member in paths.items() if _is_link(member)}
    targets = {path: _target(archive, member) for path, member in links.items()}
    tree = Tree((path for path in paths if path not in links), targets)
    lost = {path: why for path in links if (why := tree.why_not(path))}
    kept = [path for path in links if path not in lost]
    if (count := len(paths) - len(kept) + tree.count(kept)) > most:
        limit = f"the limit is {most:,} (Limits.members)"
        raise _DamageError(f"with what its links lead to it has {count:,} members; {limit}")
    return (
        {id(links[path]): [_renamed(paths[of], to) for to, of in tree.copies(path)] for path in kept},
        {id(links[path]): _lost(targets[path], why) for path, why in lost.items()},
    )


def _lost(target: str, why: str) -> str:
    shown = f" to {_shown(target)}" if target else ""
    return f"it is a symbolic link{shown}, {why}; put a copy of what it leads to in its place"


def _renamed(member: zipfile.ZipInfo, path: str) -> zipfile.ZipInfo:
    """The same data under another path."""
    other = copy.copy(member)
    other.filename = f"{path}/" if _is_folder(member) else path
    return other


def _target(archive: _Archive, member: zipfile.ZipInfo) -> str:
    """What a link leads to, as its content says; nothing where that cannot be read."""
    if member.file_size > LONGEST or any(rule(member) for rule in _RULES):
        return ""
    try:
        return b"".join(_content(archive, member)).decode()
    except (_DamageError, UnicodeDecodeError):
        return ""


def _folded(part: str) -> str:
    """What a disk that ignores case takes ``part`` for: canonical caseless matching (Unicode 3.13, D145)."""
    if part.isascii():
        return part.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).casefold())


class _Node(NamedTuple):
    path: tuple[str, ...]
    is_file: bool

    def collision(self, other: _Node) -> str | None:
        """Why a disk cannot hold ``other`` beside this one, whose path is the same once folded, or None."""
        if self.path != other.path:
            one, two = (_shown("/".join(node.path)) for node in (self, other))
            return f"its path has {two} where another has {one}: the difference is only case or Unicode form"
        if self.is_file and other.is_file:
            return "its name is there twice"
        if self.is_file or other.is_file:
            return f"{_shown('/'.join(self.path))} is both a file and a folder"
        return None


def _collisions(members: Iterable[zipfile.ZipInfo], most: int) -> Iterator[Fault]:
    """Members that cannot stand side by side, for the last would win; and more files and folders than ``most``."""
    nodes: dict[tuple[str, ...], _Node] = {}
    for member in members:
        path = _parts(member.filename)
        folded = tuple(map(_folded, path))
        for end in range(1, len(path) + 1):
            node = _Node(path[:end], end == len(path) and not _is_folder(member))
            first = nodes.setdefault(folded[:end], node)
            if first is not node and (what := first.collision(node)):
                yield _fault(member, what)
                break
        if len(nodes) > most:
            yield Fault("", f"it makes more than {most:,} files and folders, which is the limit (Limits.members)")
            return


def _misplaced(archive: _Archive) -> Iterator[Fault]:
    """Members whose data is not where it should be, or another's.

    Overlaps are how 10 MB become 281 TB (Fifield, "A better zip bomb", 2019; CVE-2019-13232, CVE-2024-0450).
    """
    reached, owner = 0, ""
    for member in sorted(archive.members, key=lambda member: member.header_offset):
        end, what = _end_of_data(archive, member)
        if what:
            yield _fault(member, what)
        elif member.header_offset < reached:
            yield _fault(member, f"its data overlaps that of {owner}, as in a zip bomb")
        if end > reached:
            reached, owner = end, _shown(member.filename)


def _end_of_data(archive: _Archive, member: zipfile.ZipInfo) -> tuple[int, str]:
    """Where the data of ``member`` ends, and what is wrong with its place, if anything is."""
    try:
        end = _data(archive, member) + member.compress_size
    except _DamageError as damage:
        return 0, str(damage)
    return end, "its data runs into the table of members" if end > archive.table else ""


def _data(archive: _Archive, member: zipfile.ZipInfo) -> int:
    """Where the data of ``member`` starts, behind the local header that must be its own."""
    start = member.header_offset + _LOCAL.size
    if start > archive.table:
        raise _DamageError("its data lies outside of the archive")
    with _reading():
        archive.file.seek(member.header_offset)
        mark, name, extra = _LOCAL.unpack(archive.file.read(_LOCAL.size))
        called = archive.file.read(name)
    if mark != b"PK\x03\x04":
        raise _DamageError("its data is not where the table of members says")
    if called != _raw_name(member):
        raise _DamageError(f"its local header calls it {_shown(called.decode('utf-8', 'replace'))}")
    return start + int(name) + int(extra)


def _excessive(archive: _Archive, limits: Limits) -> Iterator[Fault]:
    """What is beyond ``limits``, by the sizes that the members declare; unpacking holds them to those."""
    total = sum(member.file_size for member in archive.members)
    if total > limits.size:
        yield Fault("", f"it unpacks to {total:,} bytes; the limit is {limits.size:,} (Limits.size)")
    sizes = [(_shown(member.filename), member.file_size, member.compress_size) for member in archive.members]
    for name, unpacked, packed in [("", total, archive.size), *sizes]:
        if unpacked > max(_RATIO_FLOOR, packed * limits.ratio):
            yield Fault(name, f"{packed:,} bytes unpack to {unpacked:,}; the limit is {limits.ratio}:1 (Limits.ratio)")


# --- extracting -----------------------------------------------------------------------------------


def _extracted(archive: _Archive, to: Path) -> Iterator[Fault]:
    """Write every member below ``to``, which is empty, and yield those that turn out to be damaged."""
    paths = [(_parts(member.filename), member) for member in archive.members]
    for folder in sorted({path[:end] for path, member in paths for end in range(1, len(path) + _is_folder(member))}):
        to.joinpath(*folder).mkdir()
    for path, member in paths:
        if not _is_folder(member) and (what := _write(to.joinpath(*path), archive, member)):
            yield _fault(member, what)


def _write(path: Path, archive: _Archive, member: zipfile.ZipInfo) -> str | None:
    """Write a file that must not be there, not even as a link, and say what is wrong with its data, or None.

    It is executable if it was, for build scripts; in all else the umask decides.
    """
    mode = 0o777 if member.external_attr >> 16 & 0o111 else 0o666
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        try:
            file.writelines(_content(archive, member))
        except _DamageError as damage:
            return str(damage)
    return None


def _content(archive: _Archive, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Unpack ``member`` in pieces, never more than it declares."""
    size = checksum = 0
    for piece in _unpacked(archive, member):
        size += len(piece)
        if size > member.file_size:
            raise _DamageError(f"it is larger than the {member.file_size:,} bytes that it declares")
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if size < member.file_size:
        raise _DamageError(f"it is {size:,} bytes, and declares {member.file_size:,}")
    if checksum != member.CRC:
        raise _DamageError("its CRC is wrong: it was altered after it was packed")


def _unpacked(archive: _Archive, member: zipfile.ZipInfo) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with _reading():
        for piece in _packed(archive, member):
            if member.compress_type == zipfile.ZIP_STORED:
                yield piece
                continue
            left = piece
            while left and not inflater.eof:
                yield inflater.decompress(left, _CHUNK)
                left = inflater.unconsumed_tail
        yield inflater.flush()


def _packed(archive: _Archive, member: zipfile.ZipInfo) -> Iterator[bytes]:
    archive.file.seek(_data(archive, member))
    left = member.compress_size
    while piece := archive.file.read(min(left, _CHUNK)):
        left -= len(piece)
        yield piece


_FULL = "free some space, or extract to a larger disk"
_FORBIDDEN = "give a directory that this user may write to"
_REMEDIES = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EFBIG: "raise the limit on file sizes (ulimit -f)"}
_REMEDIES |= {errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN, errno.EROFS: _FORBIDDEN}


@contextmanager
def _storing(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(str(to), error.strerror or str(error), _REMEDIES.get(error.errno or 0, "")) from error


@contextmanager
def _all_or_nothing(to: Path) -> Iterator[None]:
    """Make ``to``, and leave it and its parents as they were if anything fails, Ctrl-C included."""
    made = [path for path in (to, *to.parents) if not path.exists()]
    to.mkdir(parents=True, exist_ok=True)
    if any(to.iterdir()):
        raise StoreError(str(to), "it is not empty", "give a directory that is empty or not there yet")
    try:
        yield
    except BaseException:
        for path in to.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        for path in made:
            with suppress(OSError):  # by now somebody else may use a parent
                path.rmdir()
        raise
