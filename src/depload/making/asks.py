"""What a source asks for: its requirements files, constraints and locks, as far as they count on the target."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from depload.errors import Fault, HashMismatchError, RequirementsError
from depload.standards import lockfile, requirements, wheels

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from depload.making.indexes import IndexOptions
    from depload.source.formats import Root
    from depload.standards.lockfile import LockedFile, LockedPackage
    from depload.standards.requirements import Line, Requirements
    from depload.standards.target import Target


@dataclass(frozen=True)
class Asks:
    """All of it, read."""

    lists: Requirements
    """Of the lines those that count on the target; the constraints of all."""
    locked: tuple[LockedPackage, ...]
    """Of the source's locks; paths are absolute."""
    origins: Mapping[str, tuple[str, ...]]
    """Where each package is asked for: ``requirements.txt:3``, ``pylock.toml``."""
    hashes: Mapping[str, tuple[str, ...]]
    """What a file of each package must have one of."""


def read(
    roots: Sequence[Root],
    constraints: Sequence[Path],
    target: Target,
    label: str,
    *,
    require_hashes: bool = False,
) -> Asks:
    """Read the lists of the source and the constraints that were given beside it.

    With ``require_hashes`` each requirement must have a hash, whether a file of the source asks for that or not. Raises
    RequirementsError with file and line, or file and key.
    """
    parts = [requirements.read(root.location, root.top) for root in roots if root.kind == "requirements"]
    lists = requirements.merge(parts)
    files = [file.resolve() for file in constraints]
    given = [requirements.read(file, file.parent) for file in files]
    lists = replace(
        lists,
        lines=tuple(line for line in lists.lines if _counts(line, target)),
        constraints=(*lists.constraints, *(line for more in given for line in (*more.lines, *more.constraints))),
    )
    lists = replace(lists, require_hashes=lists.require_hashes or require_hashes)
    if faults := [
        Fault(line.origin, "a directory has no hash; put a wheel of it there, or take the --hash away")
        for line in lists.lines
        if line.hashes and line.path is not None and line.path.is_dir()
    ]:
        raise RequirementsError(label, faults)
    locks = [(root, _read_lock(root, target, label)) for root in roots if root.kind == "pylock"]
    if faults := [*requirements.unverifiable(lists), *_without_hash(lists, locks)]:
        raise RequirementsError(label, faults)
    locked = tuple(package for _, packages in locks for package in packages)
    asked = [(line.name, line.origin) for line in lists.lines if line.name]
    asked += [(package.name, root.path) for root, packages in locks for package in packages]
    origins = {name: tuple(where for other, where in asked if other == name) for name, _ in asked}
    return Asks(lists, locked, origins, _hashes(lists, locked, target))


def with_lists(options: IndexOptions, lists: Requirements) -> IndexOptions:
    """The options with those of the source's requirements files, which pip lets count as if given beside them."""
    return replace(
        options,
        index_url=options.index_url if lists.index_url is None else lists.index_url,
        extra_index_urls=(*options.extra_index_urls, *lists.extra_index_urls),
        find_links=(*options.find_links, *lists.find_links),
        no_index=options.no_index or lists.no_index,
        pre=options.pre or lists.pre,
        prefer_binary=options.prefer_binary or lists.prefer_binary,
        only_binary=(*options.only_binary, *lists.only_binary),
        no_binary=(*options.no_binary, *lists.no_binary),
        trusted_hosts=(*options.trusted_hosts, *lists.trusted_hosts),
    )


_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")


def names_in(explanation: str) -> set[str]:
    """What may be packages in a text, such as a resolver's."""
    return set(map(canonicalize_name, _NAME.findall(explanation)))


def places(asked: Asks, names: Container[str]) -> Iterator[Fault]:
    """Where the lists, constraints and locks of a source ask for packages, and for what."""
    lines = [line for line in asked.lists.lines if line.path is None]
    for line in (*lines, *asked.lists.constraints):
        if line.name in names:
            what = f"{line.name} by its URL" if requirement(line).url else line.requirement
            yield Fault(line.origin, what if line in lines else f"{what} (a constraint)")
    of_lists = {line.origin for line in asked.lists.lines}
    for package in asked.locked:
        if package.name in names:
            what = f"{package.name}=={package.version}" if package.version else package.name
            yield from (Fault(where, what) for where in asked.origins[package.name] if where not in of_lists)


def urls(lists: Requirements) -> list[tuple[str, str]]:
    """Name and URL of what the source asks for by its URL."""
    parsed = [requirement(line) for line in lists.lines if line.path is None and line.name]
    return [(canonicalize_name(each.name), each.url) for each in parsed if each.url]


def pins(asked: Asks, requires: Iterable[Requirement]) -> set[str]:
    """The packages whose version is fixed: by ``==``, a URL or a lock, in the source itself or in its own wheels."""
    lines = [requirement(line) for line in (*asked.lists.lines, *asked.lists.constraints)]
    found = {canonicalize_name(each.name) for each in (*lines, *requires) if _is_pinned(each)}
    return found | {package.name for package in asked.locked}


def _is_pinned(asked: Requirement) -> bool:
    return bool(asked.url) or any(
        each.operator in ("==", "===") and not each.version.endswith(".*") for each in asked.specifier
    )


def requirement(line: Line) -> Requirement:
    """The line as PEP 508 has it; a path whose name nobody said gets one that does not matter."""
    unnamed = f"unnamed{line.requirement.removeprefix(str(line.path))}"
    return Requirement(unnamed if line.name is None else line.requirement)


def _without_hash(lists: Requirements, locks: Sequence[tuple[Root, Sequence[LockedPackage]]]) -> Iterator[Fault]:
    """Of the locks what ``--require-hashes`` refuses."""
    for root, packages in locks if lists.require_hashes else ():
        for package in packages:
            if package.directory is not None:
                yield Fault(root.path, f"{package.name} is a directory, which has no hash; put a wheel of it there")
            elif not all(file.sha256 for file in package.files):
                yield Fault(
                    root.path, f"{package.name} has a file without sha256, and --require-hashes wants one for each"
                )


def _counts(line: Line, target: Target) -> bool:
    marker = requirement(line).marker
    return marker is None or marker.evaluate({**target.environment(), "extra": ""})


def _read_lock(root: Root, target: Target, label: str) -> list[LockedPackage]:
    try:
        return [_located(package, root) for package in lockfile.read(root.location.read_text("utf-8"), target)]
    except lockfile.InvalidLockError as error:
        raise RequirementsError(label, [Fault(root.path, fault) for fault in error.faults]) from error
    except UnicodeDecodeError as error:
        raise RequirementsError(label, [Fault(root.path, str(error))]) from error


def _located(package: LockedPackage, root: Root) -> LockedPackage:
    """The package with paths that are relative to the lock made absolute; they may not leave the source."""
    if package.directory is not None:
        return replace(package, directory=str(_below(root, package.directory)))
    return replace(package, files=tuple(_located_file(file, root) for file in package.files))


def _located_file(file: LockedFile, root: Root) -> LockedFile:
    if urlsplit(file.location).scheme in ("http", "https"):
        return file
    path = unquote(urlsplit(file.location).path) if file.location.startswith("file:") else file.location
    return replace(file, location=str(_below(root, path)))


def _below(root: Root, path: str) -> Path:
    place = (root.location.parent / path).resolve()
    if not place.is_relative_to(root.top.resolve()):
        raise lockfile.InvalidLockError(f"{path} lies outside of the source")
    if not place.exists():
        raise lockfile.InvalidLockError(f"{path} is not in the source")
    return place


def pinned(package: LockedPackage) -> str:
    """A locked package as a requirement: by its version where an index has it, else by its file."""
    file = package.files[0]
    if package.version is not None and "://" in file.location:
        return f"{package.name}=={package.version}"
    return f"{package.name} @ {file.location if '://' in file.location else Path(file.location).as_uri()}"


def _hashes(lists: Requirements, locked: Sequence[LockedPackage], target: Target) -> dict[str, tuple[str, ...]]:
    """The hashes that a file of each package must have one of: of its lines, and of its constraints."""
    found = _hashes_by_name(lists.lines)
    for name, hashes in _hashes_by_name(line for line in lists.constraints if _counts(line, target)).items():
        both = tuple(each for each in hashes if each in found.get(name, hashes))
        if not both:
            raise HashMismatchError(f"the constraint on {name}", found[name], ", ".join(hashes))
        found[name] = both
    for package in locked:
        if package.files and all(file.sha256 for file in package.files):
            found.setdefault(package.name, tuple(f"sha256:{file.sha256}" for file in package.files))
    return found


def _hashes_by_name(lines: Iterable[Line]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if line.name and line.hashes:
            found[line.name] = (*found.get(line.name, ()), *line.hashes)
    return found


def is_allowed(file: LockedFile, hashes: Sequence[str]) -> bool:
    """Whether a file may have one of the hashes: of other algorithms than the lock's only the file itself can tell."""
    if not hashes or not file.sha256:
        return True
    return f"sha256:{file.sha256}" in hashes or not all(each.startswith("sha256:") for each in hashes)


def check_hashes(path: Path, hashes: Sequence[str]) -> None:
    """Raise HashMismatchError unless the file has one of the hashes, or there are none."""
    if not hashes:
        return
    found = {}
    for algorithm in {each.partition(":")[0] for each in hashes}:
        digest = hashlib.new(algorithm)
        with path.open("rb") as file:
            while data := file.read(wheels.CHUNK):
                digest.update(data)
        found[algorithm] = f"{algorithm}:{digest.hexdigest()}"
    if not set(found.values()) & set(hashes):
        raise HashMismatchError(path.name, hashes, ", ".join(found.values()))
