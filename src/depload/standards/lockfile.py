"""pylock.toml (PEP 751): read one that someone wrote, write the one inside a wheelhouse."""

from __future__ import annotations

import datetime as dt
import functools
import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from depload.standards import requirements, toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeGuard

    from depload.standards.target import Target

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,200}[A-Za-z0-9])?")  # core metadata, "Name"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_LOCATION, _LONGEST_NAME = 4096, 255
_LONGEST_SHOWN = 200
# PEP 751's addition to markers, which packaging knows from version 25 on.
_MEMBERSHIP = re.compile(r"""(['"])(?P<name>[^'"]*)\1\s+(?P<no>not\s+)?in\s+(?P<of>extras|dependency_groups)\b""")


@dataclass(frozen=True)
class LockedFile:
    """A wheel or sdist of a locked package."""

    location: str
    """A URL, or a path as the lock has it."""
    filename: str
    sha256: str | None
    size: int | None
    uploaded: str = ""
    """When its index got it (RFC 3339); empty where the lock does not say."""

    @property
    def is_wheel(self) -> bool:
        """Whether it is a wheel; otherwise it must be built."""
        return self.filename.endswith(".whl")


@dataclass(frozen=True)
class LockedPackage:
    """One package of a lock."""

    name: str
    """Canonical name (PEP 503)."""
    version: str | None
    files: tuple[LockedFile, ...]
    directory: str | None = None
    """Where its project lies, as the lock has it, instead of files."""


class InvalidLockError(ValueError):
    """The text is not a lock that can be used; each fault names its key."""

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults

    def __str__(self) -> str:
        return "; ".join(self.faults)


def read(text: str, target: Target) -> tuple[LockedPackage, ...]:
    """The packages of a lock that ``target`` needs. Raises InvalidLockError with everything that is wrong."""
    try:
        data = toml.read(text)
    except ValueError as error:
        raise InvalidLockError(f"not TOML: {error}") from error
    version = _get(data, "lock-version", str, "the lock")
    if version.split(".")[0] != "1":
        raise InvalidLockError(f"lock-version is {_shown(version)!r}, expected 1.x")
    _check_target(data, target)
    groups = frozenset(map(str, _get(data, "default-groups", list, "the lock", default=[])))
    rows = enumerate(_get(data, "packages", list, "the lock"))
    judged = [_judged(row, f"packages[{at}]", target, groups) for at, row in rows]
    found = tuple(each for each in judged if isinstance(each, LockedPackage))
    if faults := [*(fault for each in judged if isinstance(each, tuple) for fault in each), *_twice(found)]:
        raise InvalidLockError(*faults)
    return found


def _judged(row: object, where: str, target: Target, groups: frozenset[str]) -> LockedPackage | tuple[str, ...] | None:
    """The package of a row, or what is wrong with it; None where the target does not need it."""
    try:
        return _package(row, where, target) if _applies(row, where, target, groups) else None
    except InvalidLockError as error:
        return error.faults


# --- is it for the target? ------------------------------------------------------------------------------------------


def _check_target(data: Mapping[str, Any], target: Target) -> None:
    """Whether the lock as a whole is for the target (PEP 751, "requires-python" and "environments")."""
    _check_python(data, "the lock", target)
    environments = _get(data, "environments", list, "the lock", default=[])
    if environments and not any(_holds(str(marker), "environments", target) for marker in environments):
        named = _shown(" and ".join(map(repr, environments)))
        raise InvalidLockError(f"environments has {named}, the target is {target}")


def _check_python(row: Mapping[str, Any], where: str, target: Target) -> None:
    wanted = _get(row, "requires-python", str, where, default="")
    if not wanted:
        return
    try:
        specifiers = SpecifierSet(wanted)
        fits = target.meets(specifiers)
    except ValueError as error:  # of numbers with thousands of digits too
        raise InvalidLockError(f"{where}: requires-python: {_shown(str(error))}") from error
    if not fits:
        raise InvalidLockError(f"{where}: requires-python is {_shown(wanted)}, the target is {target}")


def _applies(row: object, where: str, target: Target, groups: frozenset[str]) -> TypeGuard[dict[str, Any]]:
    if not isinstance(row, dict):
        raise InvalidLockError(f"{where} is not a table")
    marker = _get(row, "marker", str, where, default="")
    return not marker or _holds(marker, f"{where}.marker", target, groups)


def _holds(marker: str, where: str, target: Target, groups: frozenset[str] = frozenset()) -> bool:
    """Whether a marker holds where no extras are asked for and the lock's default groups are."""

    def judged(match: re.Match[str]) -> str:
        inside = match["of"] == "dependency_groups" and match["name"] in groups
        return "python_version >= '0'" if inside != bool(match["no"]) else "python_version < '0'"

    try:
        return Marker(_MEMBERSHIP.sub(judged, marker)).evaluate({**_environment(target), "extra": ""})
    except (ValueError, LookupError, RecursionError) as error:  # what cannot be read, and what cannot be compared
        raise InvalidLockError(f"{where}: {_shown(str(error).partition(chr(10))[0])}") from error


@functools.lru_cache(maxsize=4)
def _environment(target: Target) -> dict[str, str]:
    """Asked for once a marker, of which a lock may have tens of thousands."""
    return target.environment()


def _twice(packages: Iterable[LockedPackage]) -> Iterator[str]:
    """What PEP 751 wants an error for: more than one entry of a name that counts."""
    counts = Counter(package.name for package in packages)
    yield from (f"packages has {name} {count} times for the target" for name, count in counts.items() if count > 1)


# --- its packages ---------------------------------------------------------------------------------------------------


def _package(row: Mapping[str, Any], where: str, target: Target) -> LockedPackage:
    said = _get(row, "name", str, where)
    if not _NAME.fullmatch(said):
        raise InvalidLockError(f"{where} has a name that is none: {_shown(said)!r}")
    name = canonicalize_name(said)
    where = f"{where} ({name})"
    version = _get(row, "version", str, where, default=None)
    _check_python(row, where, target)
    sources = {key for key in ("vcs", "directory", "archive", "sdist", "wheels") if row.get(key)}
    if "vcs" in sources:
        raise InvalidLockError(f"{where} is a vcs entry, which is no file with a hash; lock a release of it instead")
    if len(sources) > 1 and sources != {"sdist", "wheels"}:
        raise InvalidLockError(f"{where} has {' and '.join(sorted(sources))}, which exclude each other")
    if "directory" in sources:
        return LockedPackage(name, version, (), _directory(row["directory"], f"{where}.directory"))
    files = tuple(_files(row, where, name))
    if not files:
        raise InvalidLockError(f"{where} has no wheels, sdist, archive or directory")
    return LockedPackage(name, version, files)


def _directory(row: object, where: str) -> str:
    if not isinstance(row, dict):
        raise InvalidLockError(f"{where} is not a table")
    _refuse_subdirectory(row, where)
    path: str = _get(row, "path", str, where)
    if why := _unusable_location(path):
        raise InvalidLockError(f"{where} {why}")
    return path


def _refuse_subdirectory(row: Mapping[str, Any], where: str) -> None:
    if row.get("subdirectory"):
        raise InvalidLockError(f"{where} has a subdirectory, which cannot be built from; lock a release instead")


def _files(row: Mapping[str, Any], where: str, name: str) -> Iterator[LockedFile]:
    for at, wheel in enumerate(_get(row, "wheels", list, where, default=[])):
        file = _file(wheel, f"{where}.wheels[{at}]")
        if canonicalize_name(file.filename.partition("-")[0]) != name:
            raise InvalidLockError(f"{where}.wheels[{at}]: {file.filename} is not a wheel of {name}")
        if not file.is_wheel:
            raise InvalidLockError(f"{where}.wheels[{at}]: {file.filename} is not a wheel's file name")
        yield file
    for key in ("archive", "sdist"):
        if key in row:
            yield _file(row[key], f"{where}.{key}")


def _file(row: object, where: str) -> LockedFile:
    if not isinstance(row, dict):
        raise InvalidLockError(f"{where} is not a table")
    _refuse_subdirectory(row, where)
    # A path is relative to the lock; where both are there either may be used, and this one needs no network.
    location = _get(row, "path", str, where, default="") or _get(row, "url", str, where)
    hashes = _get(row, "hashes", dict, where, default={})
    size = _get(row, "size", int, where, default=None)
    filename = _get(row, "name", str, where, default="") or _basename(location, where)
    sha256 = _get(hashes, "sha256", str, f"{where}.hashes").lower() if "sha256" in hashes else None
    for why in filter(None, (_unusable_location(location), _unusable_name(filename), _unusable(sha256, size))):
        raise InvalidLockError(f"{where} {why}")
    uploaded = row.get("upload-time")
    return LockedFile(location, filename, sha256, size, _moment(uploaded) if isinstance(uploaded, dt.datetime) else "")


def _moment(time: dt.datetime) -> str:
    """As RFC 3339 has it; what has no offset is UTC, as everywhere in PEP 751."""
    time = time.replace(tzinfo=time.tzinfo or dt.timezone.utc).astimezone(dt.timezone.utc)
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _basename(location: str, where: str) -> str:
    try:
        return posixpath.basename(unquote(urlsplit(location).path))
    except ValueError as error:
        raise InvalidLockError(f"{where} has a location that is no URL: {_shown(location)}") from error


def _unusable_location(location: str) -> str | None:
    """Why nothing can be had from there, or None; whether a path leaves the source is judged where the source is."""
    if len(location) > _LONGEST_LOCATION or not location.isprintable():
        return "has a location that is too long, or has characters that cannot be part of one"
    try:
        parts = urlsplit(location)
        _ = parts.port
        whole = parts.scheme not in ("http", "https") or ("://" in location and parts.hostname)
    except ValueError:
        whole = False
    if not whole:  # of https:/x some would make a path
        return f"has a location that is no URL: {_shown(location)}"
    if requirements.is_metadata_service(parts.hostname or ""):
        return "has a URL of the machine's own (its cloud's metadata service); no package lies there"
    names = [*location.split("/"), *unquote(parts.path).split("/")]
    if any(len(name.encode()) > _LONGEST_NAME or "\0" in name for name in names):
        return "has a location with a name in it that no file can have"
    return None


def _unusable_name(filename: str) -> str | None:
    """Why nothing can be called that, or None; files are put under their names, so a name may not be a path."""
    if len(filename.encode()) > _LONGEST_NAME or not filename.isprintable() or re.search(r"[/\\]|^\.*$", filename):
        return f"has {_shown(filename)!r} for a file name"
    return None


def _unusable(sha256: str | None, size: int | None) -> str | None:
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        return f"has a sha256 that is none: {_shown(sha256)!r}"
    return f"has a size of {size} bytes" if size is not None and size < 0 else None


def _shown(text: str) -> str:
    """Somebody's text for a message: bearably long, and no terminal obeys it."""
    text = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
    return text if text.isprintable() else ascii(text)


_REQUIRED: Any = object()


def _get(row: Mapping[str, Any], key: str, kind: type, where: str, default: Any = _REQUIRED) -> Any:  # noqa: ANN401 - of that kind
    """A value of a table, checked where it enters."""
    if key not in row and default is not _REQUIRED:
        return default
    value = row.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        has = f"{key} that is a {type(value).__name__}, expected" if key in row else f"no {key} that is"
        raise InvalidLockError(f"{where} has {has} a {kind.__name__}")
    return value


# --- writing --------------------------------------------------------------------------------------------------------


def write(target: Target, packages: Iterable[LockedPackage]) -> str:
    """The lock of a wheelhouse: every file by its path beside the lock, so that it installs without an index."""
    lines = [
        'lock-version = "1.0"',
        'created-by = "depload"',
        f"requires-python = {_quoted(f'=={target.python}.*')}",
    ]
    for package in sorted(packages, key=lambda package: package.name):
        lines += ["", "[[packages]]", f"name = {_quoted(package.name)}"]
        lines += [f"version = {_quoted(package.version)}"] if package.version else []
        lines += ["wheels = [", *(f"  {_row(file)}," for file in package.files), "]"]
    return "\n".join(lines) + "\n"


def _row(file: LockedFile) -> str:
    size = "" if file.size is None else f"size = {file.size}, "
    return f"{{ path = {_quoted(file.location)}, {size}hashes = {{ sha256 = {_quoted(file.sha256 or '')} }} }}"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for what TOML alone forbids."""
    return '"' + re.sub(r'[\x00-\x1f"\\\x7f]', lambda match: f"\\u{ord(match[0]):04x}", text) + '"'
