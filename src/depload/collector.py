"""From the roots of a source to the wheels that go into the wheelhouse: its own, built ones, and resolved ones.

One resolution over everything: the wheels that the source holds or that are built from it take part as
``name @ file:///...``, so what they require and what the requirements ask for meet in one answer.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from depload import builder, fetcher, formats, lockfile, requirements, resolver, wheels
from depload.builder import Buildable, LooseFile
from depload.errors import Fault, HashMismatchError, InvalidWheelError, RequirementsError, ResolutionError
from depload.fetcher import Download
from depload.indexes import redact
from depload.wheelhouse import Ingredient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from depload.formats import Kind, Root
    from depload.indexes import IndexOptions
    from depload.lockfile import LockedFile, LockedPackage
    from depload.requirements import Line, Requirements
    from depload.resolver import ResolverName
    from depload.target import Target
    from depload.wheels import Wheel


@dataclass
class Collection:
    """One conversion's way from roots to wheels."""

    roots: Sequence[Root]
    label: str
    """What messages call the source."""
    target: Target
    options: IndexOptions
    scratch: Path
    resolver: ResolverName | None = None
    phase: Callable[[str], None] = lambda _name: None
    progress: fetcher.Progress | None = None
    warnings: list[str] = field(default_factory=list)

    def wheels(self, constraints: Sequence[Path] = ()) -> list[Ingredient]:
        """Every wheel that the source needs for the target. Raises what the stages raise; see ``pipeline.convert``."""
        lists = requirements.merge([requirements.read(root.location, root.top) for root in self._of("requirements")])
        lists = replace(lists, constraints=(*lists.constraints, *_constraints(constraints)))
        self.options = _with_lists(self.options, lists)
        locked = self._locked()
        self.phase("build")
        local = self._local(lists)
        self.phase("resolve")
        packages = self._resolve(lists, locked, local)
        self.phase("fetch")
        asked = {line.name for line in lists.lines} | {package.name for package in locked}
        ingredients = [*local.values(), *self._fetched(packages, local, _hashes(lists, locked), asked)]
        self._warn_of_imports(ingredients)
        return ingredients

    def _of(self, *kinds: Kind) -> list[Root]:
        return [root for root in self.roots if root.kind in kinds]

    # --- what the source holds itself ---

    def _locked(self) -> list[LockedPackage]:
        """The packages of the source's pylock.toml files."""
        found: list[LockedPackage] = []
        for root in self._of("pylock"):
            found += _read_lock(root, self.target, self.label)
        return found

    def _local(self, lists: Requirements) -> dict[str, Ingredient]:
        """Wheels that the source holds or that are built from it, by package."""
        files = {root.location: root.path for root in self._of("wheel")}
        projects = {root.location: root.path for root in self._of("project", "sdist")}
        for line in lists.lines:
            if line.path is not None:
                (files if line.path.suffix == ".whl" else projects).setdefault(line.path, line.origin)
        chosen = [Ingredient(wheel, files[wheel.path], requested=True) for wheel in self._fitting(list(files))]
        for built, label in self._built(projects):
            chosen.append(Ingredient(wheels.read(built), f"built from {label}", requested=True))
        if self._of("modules"):
            chosen.append(Ingredient(self._modules(), "built from loose modules", requested=True))
        return _by_name(chosen, self.label)

    def _fitting(self, files: Sequence[Path]) -> list[Wheel]:
        """The source's own wheels; all faults of all of them at once. Of one version for several targets, the best."""
        faults = [fault for file in files for fault in wheels.faults(file)]
        if faults:
            raise InvalidWheelError(self.label, faults)
        candidates: dict[tuple[str, str], list[Wheel]] = defaultdict(list)
        for wheel in map(wheels.read, files):
            candidates[wheel.name, wheel.version].append(wheel)
        best = [
            min(group, key=lambda wheel: _worst_if_none(self.target.rank(wheel.tags))) for group in candidates.values()
        ]
        if faults := [fault for wheel in best for fault in wheels.faults(wheel.path, self.target)]:
            raise InvalidWheelError(self.label, faults)
        return best

    def _built(self, projects: Mapping[Path, str]) -> list[tuple[Path, str]]:
        labels = ["the project" if label == "." else label for label in projects.values()]
        buildables = [Buildable(path, label) for path, label in zip(projects, labels, strict=True)]
        to = self.scratch / "built"
        return list(zip(builder.build(buildables, self.target, options=self.options, to=to), labels, strict=True))

    def _modules(self) -> Wheel:
        loose = [
            LooseFile(file, file.relative_to(root.location).as_posix())
            for root in self._of("modules")
            for file in root.files
        ]
        to = self.scratch / "modules"
        to.mkdir()
        return wheels.read(builder.build_modules(loose, to))

    # --- what resolution finds for it ---

    def _resolve(
        self, lists: Requirements, locked: Sequence[LockedPackage], local: Mapping[str, Ingredient]
    ) -> tuple[LockedPackage, ...]:
        """The packages that the source lacks. A lock alone is the answer already, and what is complete needs none."""
        if not lists.lines and not locked and _is_complete(local, self.target):
            return ()
        if locked and not lists.lines and not local:
            resolver.refuse_protected(package.name for package in locked)
            return tuple(locked)
        asked = [line.requirement for line in lists.lines if line.path is None]
        asked += [f"{package.name}=={package.version}" for package in locked]
        asked += [f"{name}{_extras(lists, name)} @ {item.wheel.path.as_uri()}" for name, item in local.items()]
        return resolver.resolve(
            asked,
            [line.requirement for line in lists.constraints],
            self.target,
            options=self.options,
            scratch=self.scratch,
            resolver=self.resolver,
        )

    def _fetched(
        self,
        packages: Sequence[LockedPackage],
        local: Mapping[str, Ingredient],
        hashes: Mapping[str, tuple[str, ...]],
        asked: set[str | None],
    ) -> list[Ingredient]:
        """Download what is not local; what comes as an sdist is built."""
        wanted = [package for package in packages if package.name not in local]
        files = [self._choose(package, hashes.get(package.name, ())) for package in wanted]
        to = self.scratch / "fetched"
        to.mkdir()
        downloads = [Download(file.location, file.filename, file.sha256, file.size) for file in files]
        paths = fetcher.fetch(downloads, to, options=self.options, progress=self.progress)
        for package, path in zip(wanted, paths, strict=True):
            _check_hashes(path, hashes.get(package.name, ()))
        sdists = {path: package for package, path in zip(wanted, paths, strict=True) if path.suffix != ".whl"}
        projects = [Buildable(path, f"{package.name} {package.version}") for path, package in sdists.items()]
        made = builder.build(projects, self.target, options=self.options, to=self.scratch / "built-sdists")
        built = dict(zip(sdists, made, strict=True))
        found = []
        for package, file, path in zip(wanted, files, paths, strict=True):
            wheel = wheels.read(built[path]) if path in built else wheels.read(path, sha256=file.sha256)
            origin = redact(file.location) if "://" in file.location else Path(file.location).name
            found.append(Ingredient(wheel, origin, requested=package.name in asked))
        return found

    def _choose(self, package: LockedPackage, hashes: Sequence[str]) -> LockedFile:
        """The wheel that fits the target best, else the sdist; of those that the source's hashes allow."""
        allowed = [file for file in package.files if _is_allowed(file, hashes)]
        if not allowed:
            raise HashMismatchError(
                f"{package.name} {package.version}",
                hashes,
                ", ".join(f"sha256:{file.sha256}" for file in package.files),
            )
        ranked = [(rank, file) for file in allowed if file.is_wheel and (rank := _rank(file, self.target)) is not None]
        if ranked:
            return min(ranked, key=lambda pair: pair[0])[1]
        if sdist := next((file for file in allowed if not file.is_wheel), None):
            return sdist
        names = ", ".join(file.filename for file in allowed)
        raise ResolutionError(
            f"{package.name} {package.version} has no file that fits: there is {names}", str(self.target)
        )

    def _warn_of_imports(self, ingredients: Sequence[Ingredient]) -> None:
        """Loose modules declare nothing, so what they import is held against what came of it all."""
        if self._of("modules") and any(root.kind != "modules" for root in self.roots):
            names = wheels.import_names(item.wheel for item in ingredients)
            provided = {name.split(".")[0] for found in names.values() for name in found}
            self.warnings += formats.unprovided_imports(tuple(self.roots), provided)


def _constraints(files: Sequence[Path]) -> tuple[Line, ...]:
    return tuple(line for file in files for line in requirements.read(file.resolve(), file.resolve().parent).lines)


def _with_lists(options: IndexOptions, lists: Requirements) -> IndexOptions:
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


def _read_lock(root: Root, target: Target, label: str) -> list[LockedPackage]:
    try:
        return [_located(package, root) for package in lockfile.read(root.location.read_text("utf-8"), target)]
    except (lockfile.InvalidLockError, UnicodeDecodeError) as error:
        raise RequirementsError(label, [Fault(root.path, str(error))]) from error


def _located(package: LockedPackage, root: Root) -> LockedPackage:
    """The package with paths that are relative to the lock made absolute; they may not leave the source."""
    return replace(package, files=tuple(_located_file(file, root) for file in package.files))


def _located_file(file: LockedFile, root: Root) -> LockedFile:
    if urlsplit(file.location).scheme in ("http", "https"):
        return file
    path = Path(unquote(urlsplit(file.location).path)) if file.location.startswith("file:") else Path(file.location)
    path = (root.location.parent / path).resolve()
    if not path.is_relative_to(root.top.resolve()):
        raise lockfile.InvalidLockError(f"{file.location} lies outside of the source")
    return replace(file, location=str(path))


def _by_name(ingredients: Iterable[Ingredient], label: str) -> dict[str, Ingredient]:
    found: dict[str, Ingredient] = {}
    faults = []
    for item in ingredients:
        other = found.setdefault(item.wheel.name, item)
        if other is not item and other.wheel.sha256 != item.wheel.sha256:
            what = f"{item.wheel.name} is there twice: {other.wheel.version} ({other.origin}) and {item.wheel.version}"
            faults.append(Fault(item.origin, f"{what}; keep one"))
    if faults:
        raise InvalidWheelError(label, faults)
    return found


def _worst_if_none(rank: int | None) -> int:
    return rank if rank is not None else 1 << 30


def _rank(file: LockedFile, target: Target) -> int | None:
    tags = wheels.tags_of(file.filename)
    return target.rank(tags) if tags else None


def _is_complete(local: Mapping[str, Ingredient], target: Target) -> bool:
    """Whether every requirement of the local wheels that counts on the target is met by another of them."""
    environment = {**target.environment(), "extra": ""}
    return all(
        (requirement.marker is not None and not requirement.marker.evaluate(environment))
        or _is_met(requirement, local.get(canonicalize_name(requirement.name)))
        for item in local.values()
        for requirement in item.wheel.requires
    )


def _is_met(requirement: Requirement, item: Ingredient | None) -> bool:
    plain = not requirement.extras and not requirement.url
    return item is not None and plain and requirement.specifier.contains(item.wheel.version, prereleases=True)


def _extras(lists: Requirements, name: str) -> str:
    """The extras that the lists ask of a local package: ``./pkg[fast]``."""
    asked = {
        extra
        for line in lists.lines
        if line.name == name and line.path
        for extra in Requirement(line.requirement).extras
    }
    return f"[{','.join(sorted(asked))}]" if asked else ""


def _hashes(lists: Requirements, locked: Sequence[LockedPackage]) -> dict[str, tuple[str, ...]]:
    """The hashes that a file of each package must have one of."""
    found = {line.name: line.hashes for line in (*lists.constraints, *lists.lines) if line.name and line.hashes}
    for package in locked:
        if all(file.sha256 for file in package.files):
            found.setdefault(package.name, tuple(f"sha256:{file.sha256}" for file in package.files))
    return found


def _is_allowed(file: LockedFile, hashes: Sequence[str]) -> bool:
    """Whether a file may have one of the hashes: of other algorithms than the lock's only the file itself can tell."""
    if not hashes or not file.sha256:
        return True
    return f"sha256:{file.sha256}" in hashes or not all(each.startswith("sha256:") for each in hashes)


def _check_hashes(path: Path, hashes: Sequence[str]) -> None:
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
