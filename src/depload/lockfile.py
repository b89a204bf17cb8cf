"""pylock.toml (PEP 751): read one that someone wrote, write the one inside a wheelhouse."""

from __future__ import annotations

import posixpath
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from depload.target import Target


@dataclass(frozen=True)
class LockedFile:
    """A wheel or sdist of a locked package."""

    location: str
    """A URL, or a path as the lock has it."""
    filename: str
    sha256: str | None
    size: int | None

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


class InvalidLockError(ValueError):
    """The text is not a lock that can be used; the message names the key."""


def read(text: str, target: Target) -> tuple[LockedPackage, ...]:
    """The packages of a lock that ``target`` needs. Raises InvalidLockError, which names the key that is wrong."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidLockError(f"not TOML: {error}") from error
    if str(_get(data, "lock-version", str, "the lock")).split(".")[0] != "1":
        raise InvalidLockError(f"lock-version is {data['lock-version']!r}, expected 1.x")
    _check_python(data.get("requires-python", ""), target)
    packages = _get(data, "packages", list, "the lock")
    return tuple(_package(row, f"packages[{at}]") for at, row in enumerate(packages) if _applies(row, at, target))


def _check_python(requires_python: object, target: Target) -> None:
    try:
        fits = SpecifierSet(str(requires_python)).contains(
            target.environment()["python_full_version"], prereleases=True
        )
    except InvalidSpecifier as error:
        raise InvalidLockError(f"requires-python: {error}") from error
    # A lock made for 3.11.7 is fit for 3.11 of a named target, whose patch version nobody knows.
    if not fits and not str(requires_python).startswith((f">={target.python}.", f"=={target.python}.")):
        raise InvalidLockError(f"requires-python is {requires_python}, the target is {target}")


def _applies(row: object, at: int, target: Target) -> bool:
    if not isinstance(row, dict):
        raise InvalidLockError(f"packages[{at}] is not a table")
    if "marker" not in row:
        return True
    try:
        return Marker(str(row["marker"])).evaluate(target.environment())
    except (InvalidMarker, UndefinedEnvironmentName) as error:
        raise InvalidLockError(f"packages[{at}].marker: {error}") from error


def _package(row: Mapping[str, Any], where: str) -> LockedPackage:
    name = canonicalize_name(str(_get(row, "name", str, where)))
    for unusable in ("vcs", "directory"):
        if unusable in row:
            raise InvalidLockError(f"{where} ({name}) is a {unusable} entry, which is not a file with a hash")
    version = row.get("version")
    files = tuple(_files(row, where))
    if not files:
        raise InvalidLockError(f"{where} ({name}) has no wheels, sdist or archive")
    return LockedPackage(name, str(version) if version is not None else None, files)


def _files(row: Mapping[str, Any], where: str) -> Iterator[LockedFile]:
    for at, wheel in enumerate(row.get("wheels", ())):
        yield _file(wheel, f"{where}.wheels[{at}]")
    for key in ("archive", "sdist"):
        if key in row:
            yield _file(row[key], f"{where}.{key}")


def _file(row: object, where: str) -> LockedFile:
    if not isinstance(row, dict):
        raise InvalidLockError(f"{where} is not a table")
    # A path is relative to the lock, and preferred where both are there (PEP 751, packages.wheels.path).
    location = str(row.get("path") or _get(row, "url", str, where))
    hashes = row.get("hashes", {})
    size = row.get("size")
    return LockedFile(
        location=location,
        filename=str(row.get("name") or posixpath.basename(unquote(urlsplit(location).path))),
        sha256=str(hashes["sha256"]).lower() if "sha256" in hashes else None,
        size=size if isinstance(size, int) else None,
    )


def _get(row: Mapping[str, Any], key: str, kind: type, where: str) -> Any:  # noqa: ANN401 - of that kind
    if not isinstance(row.get(key), kind):
        raise InvalidLockError(f"{where} has no {key} that is a {kind.__name__}")
    return row[key]


# --- writing --------------------------------------------------------------------------------------------------------


def write(target: Target, packages: Iterable[LockedPackage]) -> str:
    """The lock of a wheelhouse: every file by its path beside the lock, so that it installs without an index."""
    lines = [
        'lock-version = "1.0"',
        'created-by = "depload"',
        f"requires-python = {_quoted(f'=={target.python}.*')}",
    ]
    for package in sorted(packages, key=lambda package: package.name):
        lines += ["", "[[packages]]", f"name = {_quoted(package.name)}", f"version = {_quoted(package.version or '')}"]
        lines += ["wheels = [", *(f"  {_row(file)}," for file in package.files), "]"]
    return "\n".join(lines) + "\n"


def _row(file: LockedFile) -> str:
    hashes = f"hashes = {{ sha256 = {_quoted(file.sha256 or '')} }}"
    return f"{{ path = {_quoted(file.location)}, size = {file.size}, {hashes} }}"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for what TOML alone forbids."""
    return '"' + re.sub(r'[\x00-\x1f"\\\x7f]', lambda match: f"\\u{ord(match[0]):04x}", text) + '"'
