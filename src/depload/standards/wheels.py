"""One wheel file: what it says of itself, whether that holds, and a writer for wheels of our own.

The rules are the binary distribution format's (packaging.python.org, "Binary distribution format"; PEP 427, 491).
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import math
import re
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from depload.errors import Fault, InvalidWheelError
from depload.standards import archive
from depload.travels.activation import COMPLETE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from email.message import Message

    from packaging.tags import Tag
    from packaging.utils import BuildTag

    from depload.standards.target import Target

CHUNK = 1 << 20
# The first moment that a zip can name; one for all, so that equal contents are equal bytes.
EPOCH = (1980, 1, 1, 0, 0, 0)
PURE_WHEEL = b"Wheel-Version: 1.0\nGenerator: depload\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
# What a wheel that nobody vouches for may say of itself: the largest METADATA of PyPI are below 1 MB, and a RECORD of a
# hundred thousand files is 10 MB.
_LONGEST_TEXT, _LONGEST_RECORD, _LONGEST_TEXTS = 4 << 20, 32 << 20, 16 << 20
_MOST_REQUIREMENTS = 10_000
_MOST_STRANGERS = 1000  # rows of RECORD beyond the files that are there
_MOST_TAGS = 256  # of a file name, where py2.py3-none-any has two; they multiply
FILENAME = re.compile(r"[\w.!+-]{1,251}\.whl")
"""What wheels may be called: they become files and members ("Binary distribution format", escaping and Unicode)."""
_LONGEST_SHOWN = 300
_ANYWHERE = {"extra": "", "platform_release": "", "platform_version": ""}  # for markers: does it compare at all?
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")  # the format leaves these out of RECORD


@dataclass(frozen=True)
class Wheel:
    """A wheel on disk, with what its name and metadata say."""

    path: Path
    name: str
    """Canonical name (PEP 503)."""
    version: str
    tags: frozenset[Tag]
    sha256: str
    size: int
    """Bytes."""
    requires: tuple[Requirement, ...]
    requires_python: SpecifierSet
    files: tuple[str, ...]
    """Members, as they lie below the site once installed; metadata included."""
    dist_info: Mapping[str, str]
    """What ``importlib.metadata`` reads before the wheel is unpacked: file name below the root to text."""

    @property
    def filename(self) -> str:
        """The file's name, which carries name, version and tags."""
        return self.path.name

    @property
    def native(self) -> bool:
        """Whether it is for some platforms only."""
        return all(tag.platform != "any" for tag in self.tags)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def read(path: Path, *, sha256: str | None = None, judged: bool = False) -> Wheel:
    """What the wheel says of itself; ``sha256`` saves hashing a file whose hash was just verified.

    ``judged`` says that its names and sizes were judged when the file of that hash was first read here. Raises
    InvalidWheelError where it cannot be read.
    """
    try:
        name, version, _, tags = _parsed_name(path.name)
        if not judged:
            _refuse_hostile(path)
        with zipfile.ZipFile(path) as opened:
            dist_info = _dist_info(opened)
            metadata = HeaderParser().parsestr(_text(opened, f"{dist_info}/METADATA"))
            files = tuple(_installed(opened.namelist()))
            texts = dict(_metadata_texts(opened, dist_info))
        return Wheel(
            path=path,
            name=canonicalize_name(str(name)),
            version=str(version),
            tags=tags,
            sha256=sha256 or sha256_of(path),
            size=path.stat().st_size,
            requires=tuple(Requirement(line) for line in _requirements(metadata)),
            requires_python=SpecifierSet(metadata.get("Requires-Python") or ""),
            files=files,
            dist_info=texts,
        )
    except _UNREADABLE as error:
        raise InvalidWheelError(_shown(path.name), [Fault(_shown(path.name), _why(error))]) from error


def generator(path: Path) -> str:
    """What made the wheel, as its WHEEL file says it: ``hatchling 1.26.3``; nothing where it does not."""
    try:
        with zipfile.ZipFile(path) as opened:
            said = HeaderParser().parsestr(_text(opened, f"{_dist_info(opened)}/WHEEL")).get("Generator") or ""
    except _UNREADABLE:
        return ""
    return " ".join(said.split())[:_LONGEST_SHOWN]


def tags_of(filename: str) -> frozenset[Tag]:
    """The tags in a wheel's file name; none where it is not a wheel's."""
    try:
        return _parsed_name(filename)[3]
    except ValueError:
        return frozenset()


def _parsed_name(filename: str) -> tuple[str, Version, BuildTag, frozenset[Tag]]:
    if math.prod(tags.count(".") + 1 for tags in filename.removesuffix(".whl").split("-")[-3:]) > _MOST_TAGS:
        raise InvalidWheelFilename(f"more than {_MOST_TAGS} tags")
    if not FILENAME.fullmatch(filename):  # packaging takes anything for a build tag and for tags
        raise InvalidWheelFilename("characters that no part of such a name has")
    return parse_wheel_filename(filename)


def faults(path: Path, target: Target | None = None) -> tuple[Fault, ...]:
    """Everything that is wrong with a wheel that nobody vouches for; with ``target``, whether it fits that too."""
    try:
        name, version, _, tags = _parsed_name(path.name)
    except ValueError as error:
        return Fault(_shown(path.name), _why(error)), *_unsafe(path)
    if unsafe := _unsafe(path):
        return unsafe
    try:
        with zipfile.ZipFile(path) as opened:
            dist_info = _dist_info(opened)
            metadata = HeaderParser().parsestr(_text(opened, f"{dist_info}/METADATA"))
            found = [
                *_metadata_faults(metadata, str(name), str(version)),
                *_wheel_faults(opened, dist_info),
                *_record_faults(opened, dist_info),
                *(_target_faults(metadata, tags, target) if target else ()),
            ]
    except _UNREADABLE as error:
        found = [_why(error)]
    return tuple(Fault(_shown(path.name), _shown(what)) for what in found)


def _unsafe(path: Path) -> tuple[Fault, ...]:
    return tuple(Fault(_shown(path.name), str(fault)) for fault in archive.inspect(path, links=False))


def _refuse_hostile(path: Path) -> None:
    """An index vouches for what comes from it by its hash alone, so names and sizes are judged here as well."""
    for fault in archive.hostile(path):
        raise _UnsoundError(str(fault) if fault.where else f"not a readable zip: {fault}")


def import_names(wheels: Iterable[Wheel]) -> dict[str, tuple[str, ...]]:
    """The names that importing starts at, by package: ``{"google-auth": ("google.auth",), "six": ("six",)}``.

    A name is the first regular package or module on the way down: a folder without ``__init__`` in any of the wheels is
    a namespace (PEP 420), and what lies below it may come from several wheels. What has a name of the standard library
    is left out, as it is where an installer puts it: there Python finds its own first.
    """
    wheels = list(wheels)
    modules = {wheel.name: [parts for file in wheel.files if (parts := _module(file))] for wheel in wheels}
    for wheel in wheels:  # folders that a .pth file puts on sys.path are roots as well
        modules[wheel.name] += _modules_below(wheel, frozenset(_pth_roots(wheel)))
    regular = {parts[:-1] for found in modules.values() for parts in found if parts[-1] == "__init__"}
    firsts = {name: {_first(parts, regular) for parts in found} - {""} for name, found in modules.items()}
    return {name: tuple(sorted(found - sys.stdlib_module_names)) for name, found in firsts.items()}


def write(to: Path, name: str, version: str, files: Mapping[str, bytes | Path], metadata: str = "") -> Path:
    """Write a pure Python wheel (``py3-none-any``) of ``files`` (path below the site to contents)."""
    stem = f"{name.replace('-', '_')}-{version}"
    members: dict[str, bytes | Path] = {
        **files,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}".encode(),
        f"{stem}.dist-info/WHEEL": PURE_WHEEL,
    }
    return pack(to / f"{stem}-py3-none-any.whl", f"{stem}.dist-info", members)


def pack(path: Path, dist_info: str, members: Mapping[str, bytes | Path]) -> Path:
    """Write a wheel of members that lack nothing but their RECORD; equal members, equal bytes."""
    rows = io.StringIO()
    record = csv.writer(rows, lineterminator="\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for member, content in sorted(members.items()):
            digest, size = hashlib.sha256(), 0
            with _opened(content) as source, opened.open(_sized_info(member, content), "w") as written:
                while data := source.read(CHUNK):
                    digest.update(data)
                    size += written.write(data)
            record.writerow((member, f"sha256={_urlsafe(digest.digest())}", size))
        record.writerow((f"{dist_info}/RECORD", "", ""))
        opened.writestr(member_info(f"{dist_info}/RECORD"), rows.getvalue())
    return path


def without_paths(path: Path, to: Path) -> Path:
    """The wheel below ``to``, requiring by name alone what it requires by a ``file:`` URL: it leaves those files."""
    with tempfile.TemporaryDirectory(dir=to) as unpacked, zipfile.ZipFile(path) as opened:
        dist_info = _dist_info(opened)
        opened.extractall(unpacked)
        files = (file for file in Path(unpacked).rglob("*") if file.is_file())
        members: dict[str, bytes | Path] = {file.relative_to(unpacked).as_posix(): file for file in files}
        del members[f"{dist_info}/RECORD"]
        text = re.sub(r"(?m)^(Requires-Dist: .*?) *@ *file:[^\s;]+", r"\1", _text(opened, f"{dist_info}/METADATA"))
        return pack(to / path.name, dist_info, {**members, f"{dist_info}/METADATA": text.encode()})


def _opened(content: bytes | Path) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _sized_info(member: str, content: bytes | Path) -> zipfile.ZipInfo:
    """The size is said beforehand, so that zipfile knows whether it needs zip64."""
    info = member_info(member)
    info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return info


def member_info(name: str, compression: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    """A zip member that says nothing of when and where it was written."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = compression
    info.create_system = 3  # Unix, wherever it is written
    info.external_attr = (0o40755 << 16 | 0x10) if name.endswith("/") else 0o100644 << 16
    return info


# --- reading ------------------------------------------------------------------------------------------------------


class _UnsoundError(Exception):
    """A wheel that lacks what makes it one."""


# ValueError: what packaging refuses, and numbers of thousands of digits. RuntimeError: encrypted, or nested too deeply.
_UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, csv.Error, RuntimeError, ValueError, _UnsoundError)


def _why(error: Exception) -> str:
    if isinstance(error, InvalidWheelFilename):
        return "the file name is not name-version-python-abi-platform.whl"
    if isinstance(error, (zipfile.BadZipFile, zlib.error, EOFError)):
        return f"not a readable zip ({error})"
    return "is nested too deeply" if isinstance(error, RecursionError) else _shown(str(error))


def _shown(text: str) -> str:
    """Somebody's text for a message: bearably long, and no terminal obeys it."""
    text = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _dist_info(opened: zipfile.ZipFile) -> str:
    tops = {name.split("/")[0] for name in opened.namelist()}
    if any(_is_reserved(name) for name in opened.namelist()):
        raise _UnsoundError(f"has a file {COMPLETE}, and that name is depload's own")
    if odd := [name for name in opened.namelist() if not {"", "."}.isdisjoint(name.removesuffix("/").split("/"))]:
        raise _UnsoundError(f"has a member {odd[0]!a}, which is no path below the site")
    found = {top for top in tops if top.endswith(".dist-info")}
    if len(found) != 1:
        raise _UnsoundError(f"has {len(found) or 'no'} .dist-info folders, expected one")
    return found.pop()


def _is_reserved(member: str) -> bool:
    parts = member.casefold().split("/")
    return parts == [COMPLETE] or (parts[0].endswith(".data") and parts[2:] == [COMPLETE])


def _text(opened: zipfile.ZipFile, member: str, longest: int = _LONGEST_TEXT) -> str:
    try:
        size = opened.getinfo(member).file_size
    except KeyError:
        raise _UnsoundError(f"has no {member}") from None
    if size > longest:
        raise _UnsoundError(f"has a {member} of {size:,} bytes")
    return opened.read(member).decode("utf-8", "replace")


def _metadata_texts(opened: zipfile.ZipFile, dist_info: str) -> Iterator[tuple[str, str]]:
    names = set(opened.namelist())
    wanted = [f"{dist_info}/{name}" for name in ("METADATA", "entry_points.txt", "top_level.txt")]
    found = [name for name in wanted if name in names]
    found += sorted(name for name in names if name.endswith(".pth") and "/" not in name)
    if sum(opened.getinfo(name).file_size for name in found) > _LONGEST_TEXTS:
        raise _UnsoundError(f"has more than {_LONGEST_TEXTS:,} bytes of metadata and .pth files")
    yield from ((name, _text(opened, name)) for name in found)


def _installed(members: Iterable[str]) -> Iterator[str]:
    """Members as they lie below the site: purelib and platlib are the site itself."""
    for member in members:
        parts = member.split("/")
        if parts[0].endswith(".data"):
            if parts[1:2] in (["purelib"], ["platlib"]):
                yield "/".join(parts[2:])
        elif not member.endswith("/"):
            yield member


# --- what may be wrong ----------------------------------------------------------------------------------------------


def _metadata_faults(metadata: Message, name: str, version: str) -> Iterator[str]:
    said = metadata.get("Name", "")
    if canonicalize_name(said) != canonicalize_name(name):
        yield f"the file name says {name}, METADATA says {_shown(said) or 'no name'}"
    try:
        if Version(metadata.get("Version", "")) != Version(version):
            yield f"the file name says version {version}, METADATA says {metadata.get('Version')}"
    except ValueError:
        yield f"METADATA has no valid version: {metadata.get('Version', '')!r}"
    for line in _requirements(metadata):
        if not _is_requirement(line):
            yield f"METADATA has a Requires-Dist that is no requirement: {line!r}"


def _requirements(metadata: Message) -> list[str]:
    lines: list[str] = metadata.get_all("Requires-Dist", [])
    if len(lines) > _MOST_REQUIREMENTS:
        raise _UnsoundError(f"METADATA has {len(lines):,} requirements; more than {_MOST_REQUIREMENTS:,} are not read")
    return lines


def _is_requirement(line: str) -> bool:
    """Whether it can be read, and its marker be evaluated."""
    try:
        marker = Requirement(line).marker
        return marker is None or marker.evaluate(_ANYWHERE) in (True, False)
    except (ValueError, LookupError, RecursionError):
        return False


def _wheel_faults(opened: zipfile.ZipFile, dist_info: str) -> Iterator[str]:
    said = HeaderParser().parsestr(_text(opened, f"{dist_info}/WHEEL")).get("Wheel-Version", "")
    if said.split(".")[0] != "1":
        yield f"WHEEL names the format version {said!r}, expected 1.x"


def _target_faults(metadata: Message, tags: frozenset[Tag], target: Target) -> Iterator[str]:
    if target.rank(tags) is None:
        yield f"its tags ({', '.join(sorted(str(tag) for tag in tags))}) do not fit {target}"
    try:
        wanted = SpecifierSet(metadata.get("Requires-Python") or "")
        fits = target.meets(wanted)
    except ValueError:
        yield f"METADATA has a Requires-Python that is no specifier: {metadata.get('Requires-Python')!r}"
    else:
        if not fits:
            yield f"requires Python {wanted}, the target is {target}"


def _record_faults(opened: zipfile.ZipFile, dist_info: str) -> Iterator[str]:
    """Whether RECORD lists every file, and every file is as RECORD says ("The .dist-info directory": RECORD)."""
    record = f"{dist_info}/RECORD"
    present = {name for name in opened.namelist() if not name.endswith("/")}
    reader = csv.reader(io.StringIO(_text(opened, record, _LONGEST_RECORD)))
    rows = {row[0]: row for row in itertools.islice(reader, len(present) + _MOST_STRANGERS) if row}
    if next(reader, None) is not None:
        yield f"RECORD lists more than {_MOST_STRANGERS} files that are not there"
    unlisted = {record, *(f"{dist_info}/{name}" for name in _SIGNATURES)}
    for name in sorted(present - rows.keys() - unlisted):
        yield f"RECORD does not list {name}"
    for name in sorted(rows.keys() - present):
        yield f"RECORD lists {name}, which is not there"
    for name in sorted(present & rows.keys() - unlisted):
        if what := _row_fault(opened, name, rows[name]):
            yield what


def _row_fault(opened: zipfile.ZipFile, name: str, row: list[str]) -> str | None:
    if len(row) < 2 or "=" not in row[1]:  # noqa: PLR2004 - path, hash, size
        return f"RECORD has no hash for {name}"
    algorithm, _, expected = row[1].partition("=")
    if algorithm not in hashlib.algorithms_guaranteed or algorithm in ("md5", "sha1") or algorithm.startswith("shake"):
        return f"RECORD has a hash for {name} that proves nothing ({algorithm})"
    digest = hashlib.new(algorithm)
    try:
        with opened.open(name) as member:
            while data := member.read(CHUNK):
                digest.update(data)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return f"{name} is damaged (CRC)"
    return None if _urlsafe(digest.digest()) == expected.rstrip("=") else f"{name} is not the file that RECORD lists"


def _urlsafe(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


# --- import names ---------------------------------------------------------------------------------------------------

_SUFFIXES = tuple(sorted({*EXTENSION_SUFFIXES, ".py", ".pyc", ".so", ".pyd"}, key=len, reverse=True))


def _module(file: str) -> tuple[str, ...] | None:
    """The dotted name of a module file as parts, ``__init__`` included; None for anything else."""
    if not file.endswith(_SUFFIXES):
        return None
    *folders, name = [part for part in file.split("/") if part not in ("", ".")]
    # of every extension suffix too: x.cpython-311-x86_64-linux-gnu.so, x.abi3.so
    parts = (*folders, name.split(".")[0])
    return parts if "__pycache__" not in folders and all(part.isidentifier() for part in parts) else None


def _first(parts: tuple[str, ...], regular: set[tuple[str, ...]]) -> str:
    for depth in range(1, len(parts)):
        if parts[:depth] in regular:
            return ".".join(parts[:depth])
    return "" if parts[-1] == "__init__" else ".".join(parts)


def _pth_roots(wheel: Wheel) -> Iterator[str]:
    for name, text in wheel.dist_info.items():
        if name.endswith(".pth"):
            lines = (line.strip().replace("\\", "/").strip("/") for line in text.splitlines())
            yield from (line for line in lines if line and not line.startswith(("#", "import ", "import\t", "..")))


def _modules_below(wheel: Wheel, roots: frozenset[str]) -> Iterator[tuple[str, ...]]:
    for file in wheel.files if roots else ():
        ends = [at for at, char in enumerate(file) if char == "/"]
        below = (file[end + 1 :] for end in ends if file[:end] in roots)
        yield from (parts for each in below if (parts := _module(each)))
