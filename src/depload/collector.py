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

from depload import builder, fetcher, imports, installed, lockfile, requirements, resolver, wheels
from depload.builder import Buildable, LooseFile
from depload.errors import (
    Fault,
    HashMismatchError,
    InvalidWheelError,
    ProtectedPackageError,
    RequirementsError,
    ResolutionError,
    SourceError,
)
from depload.fetcher import Download
from depload.indexes import redact
from depload.wheelhouse import Ingredient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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
        lists = self._lists(constraints)
        self.options = _with_lists(self.options, lists)
        locked = self._locked()
        _refuse_protected((line.name or "", line.origin) for line in lists.lines)
        hashes = _hashes(lists, locked, self.target)
        self.phase("build")
        local = self._local(lists, locked, hashes)
        _refuse_protected((name, own.ingredient.origin) for name, own in local.items())
        self.phase("resolve")
        packages = self._resolve(lists, locked, local)
        self.phase("fetch")
        wanted = [package for package in packages if package.name not in local]
        self._require_hashes(lists, wanted, hashes)
        asked = {line.name for line in lists.lines} | {package.name for package in locked}
        ingredients = [own.ingredient for own in local.values()] + self._fetched(wanted, hashes, asked)
        self._warn_of_imports(ingredients)
        return ingredients

    def _of(self, *kinds: Kind) -> list[Root]:
        return [root for root in self.roots if root.kind in kinds]

    # --- what the source asks for ---

    def _lists(self, constraints: Sequence[Path]) -> Requirements:
        """The source's requirements that count on the target, and the constraints of all."""
        lists = requirements.merge([requirements.read(root.location, root.top) for root in self._of("requirements")])
        files = [file.resolve() for file in constraints]
        given = [requirements.read(file, file.parent) for file in files]
        return replace(
            lists,
            lines=tuple(line for line in lists.lines if _counts(line, self.target)),
            constraints=(*lists.constraints, *(line for more in given for line in (*more.lines, *more.constraints))),
        )

    def _locked(self) -> list[LockedPackage]:
        """The packages of the source's pylock.toml files."""
        found = []
        for root in self._of("pylock"):
            packages = _read_lock(root, self.target, self.label)
            _refuse_protected((package.name, root.path) for package in packages)
            found += packages
        return found

    # --- what the source holds itself ---

    def _local(
        self, lists: Requirements, locked: Sequence[LockedPackage], hashes: Mapping[str, tuple[str, ...]]
    ) -> dict[str, _Own]:
        """Wheels that the source holds or that are built from it, by package."""
        files = {root.location: root.path for root in self._of("wheel")}
        projects = {root.location: root.path for root in self._of("project", "sdist")}
        extras: dict[Path, set[str]] = defaultdict(set)
        for line in lists.lines:
            if line.path is not None:
                (files if line.path.suffix == ".whl" else projects).setdefault(line.path, line.origin)
                extras[line.path] |= _requirement(line).extras
                _check_hashes(line.path, line.hashes)
        for package in locked:
            if package.directory is not None:
                projects.setdefault(Path(package.directory), package.name)
        fitting = self._fitting(files)
        for wheel in fitting:
            _check_hashes(wheel.path, hashes.get(wheel.name, ()))
        found = [
            *((wheel.path, wheel, files[wheel.path]) for wheel in fitting),
            *((path, wheel, f"built from {label}") for path, wheel, label in self._built(projects)),
            *((root.location, wheel, root.path) for root, wheel in self._installed()),
        ]
        if self._of("modules"):
            found.append((Path(), self._modules(), "built from loose modules"))
        owns = [_Own(Ingredient(wheel, origin, requested=True), frozenset(extras[at])) for at, wheel, origin in found]
        return self._without_paths(_by_name(owns, self.label))

    def _without_paths(self, owns: dict[str, _Own]) -> dict[str, _Own]:
        """Projects may require others by where they lie; those must be in the source, and then their names do."""
        for name, own in owns.items():
            paths = [each for each in own.ingredient.wheel.requires if (each.url or "").startswith("file:")]
            if lacking := [each.name for each in paths if canonicalize_name(each.name) not in owns]:
                who = own.ingredient.origin.removeprefix("built from ")
                what = f"{who} requires {', '.join(lacking)} by path, which is not in the source"
                raise SourceError(f"{what}; put that project into it as a folder, or a wheel of it")
            if paths:
                to = self.scratch / "by-name" / name
                to.mkdir(parents=True)
                wheel = wheels.read(wheels.without_paths(own.ingredient.wheel.path, to))
                owns[name] = replace(own, ingredient=replace(own.ingredient, wheel=wheel))
        return owns

    def _fitting(self, files: Iterable[Path]) -> list[Wheel]:
        """The source's own wheels; all faults of all of them at once. Of one version for several targets, the best."""
        best = _best_of_each(files, self.target)
        judged = {file for group in best for file in group}
        found = [fault for file in files for fault in wheels.faults(file, self.target if file in judged else None)]
        if found:
            raise InvalidWheelError(self.label, found)
        return [wheels.read(group[0]) for group in best]

    def _built(self, projects: Mapping[Path, str]) -> Iterator[tuple[Path, Wheel, str]]:
        labels = ["the project" if label == "." else label for label in projects.values()]
        buildables = [Buildable(path, label) for path, label in zip(projects, labels, strict=True)]
        made = builder.build(buildables, self.target, options=self.options, to=self.scratch / "built")
        return zip(projects, map(wheels.read, made), labels, strict=True)

    def _installed(self) -> Iterator[tuple[Root, Wheel]]:
        """Packages that somebody installed into the source, as wheels; all that do not fit the target at once."""
        packed = []
        for at, root in enumerate(self._of("installed")):
            to = self.scratch / "installed" / str(at)
            to.mkdir(parents=True)
            packed.append((root, installed.pack(root.location, root.path, to)))
        faults = [Fault(root.path, fault.what) for root, file in packed for fault in wheels.faults(file, self.target)]
        if faults:
            raise InvalidWheelError(self.label, faults)
        return ((root, wheels.read(file)) for root, file in packed)

    def _modules(self) -> Wheel:
        loose = [
            LooseFile(file, root.show(file), file.relative_to(root.location).as_posix())
            for root in self._of("modules")
            for file in root.files
        ]
        to = self.scratch / "modules"
        to.mkdir()
        return wheels.read(builder.build_modules(loose, to))

    # --- what resolution finds for it ---

    def _resolve(
        self, lists: Requirements, locked: Sequence[LockedPackage], local: Mapping[str, _Own]
    ) -> tuple[LockedPackage, ...]:
        """The packages that the source lacks. A lock alone is the answer already, and what is complete needs none."""
        named = [line.requirement for line in lists.lines if line.path is None]
        extras = any(own.extras for own in local.values())
        if not (named or locked or lists.constraints or extras) and _is_complete(local, self.target):
            return ()
        if locked and not (named or lists.constraints) and local.keys() <= {package.name for package in locked}:
            return tuple(locked)
        asked = [*named, *(_pinned(package) for package in locked if package.name not in local)]
        asked += [own.requirement for own in local.values()]
        return resolver.resolve(
            asked,
            [line.requirement for line in lists.constraints],
            self.target,
            options=self.options,
            scratch=self.scratch,
            resolver=self.resolver,
        )

    def _require_hashes(
        self, lists: Requirements, wanted: Sequence[LockedPackage], hashes: Mapping[str, tuple[str, ...]]
    ) -> None:
        """As in pip, ``--require-hashes`` is for what others need as well."""
        what = "is needed as well and has no --hash, and --require-hashes wants one for each"
        faults = [Fault("", f"{each.name} {what}") for each in wanted if each.name not in hashes]
        if faults and lists.require_hashes:
            raise RequirementsError(self.label, faults)

    def _fetched(
        self, wanted: Sequence[LockedPackage], hashes: Mapping[str, tuple[str, ...]], asked: set[str | None]
    ) -> list[Ingredient]:
        """Download what is not local; what comes as an sdist is built."""
        files = [self._choose(package, hashes.get(package.name, ())) for package in wanted]
        to = self.scratch / "fetched"
        to.mkdir()
        downloads = [Download(file.location, file.filename, file.sha256, file.size) for file in files]
        paths = fetcher.fetch(downloads, to, options=self.options, progress=self.progress)
        for package, path in zip(wanted, paths, strict=True):
            _check_hashes(path, hashes.get(package.name, ()))
        built = self._built_sdists(
            {path: package for package, path in zip(wanted, paths, strict=True) if path.suffix != ".whl"}
        )
        found = []
        for package, file, path in zip(wanted, files, paths, strict=True):
            wheel = wheels.read(built[path]) if path in built else wheels.read(path, sha256=file.sha256)
            origin = redact(file.location) if "://" in file.location else Path(file.location).name
            found.append(Ingredient(wheel, origin, requested=package.name in asked))
        return found

    def _built_sdists(self, sdists: Mapping[Path, LockedPackage]) -> dict[Path, Path]:
        if not sdists:
            return {}
        self.phase("build")
        projects = [Buildable(path, f"{package.name} {package.version}") for path, package in sdists.items()]
        made = builder.build(projects, self.target, options=self.options, to=self.scratch / "built-sdists")
        return dict(zip(sdists, made, strict=True))

    def _choose(self, package: LockedPackage, hashes: Sequence[str]) -> LockedFile:
        """The wheel that fits the target best, else the sdist; of those that the source's hashes allow."""
        allowed = [file for file in package.files if _is_allowed(file, hashes)]
        if package.files and not allowed:
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
        names = ", ".join(file.filename for file in allowed) or package.directory
        raise ResolutionError(
            f"{package.name} {package.version} has no file that fits: there is {names}", str(self.target)
        )

    def _warn_of_imports(self, ingredients: Sequence[Ingredient]) -> None:
        """Loose modules declare nothing, so what they import is held against what came of it all."""
        modules = [module for root in self._of("modules") for module in root.modules()]
        if modules and any(root.kind != "modules" for root in self.roots):
            names = wheels.import_names(item.wheel for item in ingredients)
            provided = {name.split(".")[0] for found in names.values() for name in found}
            self.warnings += imports.unprovided(modules, provided)


@dataclass(frozen=True)
class _Own:
    """A wheel of the source's own, and the extras that are asked of it."""

    ingredient: Ingredient
    extras: frozenset[str]

    @property
    def requirement(self) -> str:
        """As it takes part in resolution."""
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        return f"{self.ingredient.wheel.name}{extras} @ {self.ingredient.wheel.path.as_uri()}"


def _refuse_protected(asked: Iterable[tuple[str, str]]) -> None:
    """Raise ProtectedPackageError where the source itself names what belongs to the platform."""
    who: dict[str, list[str]] = defaultdict(list)
    for name, origin in asked:
        if name in resolver.PROTECTED:
            who[name].append(origin)
    for name, origins in who.items():
        raise ProtectedPackageError(name, origins)


def _requirement(line: Line) -> Requirement:
    """The line as PEP 508 has it; a path whose name nobody said gets one that does not matter."""
    unnamed = f"unnamed{line.requirement.removeprefix(str(line.path))}"
    return Requirement(unnamed if line.name is None else line.requirement)


def _counts(line: Line, target: Target) -> bool:
    marker = _requirement(line).marker
    return marker is None or marker.evaluate({**target.environment(), "extra": ""})


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


def _pinned(package: LockedPackage) -> str:
    """A locked package as a requirement: by its version where an index has it, else by its file."""
    file = package.files[0]
    if package.version is not None and "://" in file.location:
        return f"{package.name}=={package.version}"
    return f"{package.name} @ {file.location if '://' in file.location else Path(file.location).as_uri()}"


def _by_name(owns: Iterable[_Own], label: str) -> dict[str, _Own]:
    found: dict[str, _Own] = {}
    faults = []
    for own in owns:
        item, first = own.ingredient, found.setdefault(own.ingredient.wheel.name, own).ingredient
        if first.wheel.sha256 != item.wheel.sha256:
            what = f"{item.wheel.name} is there twice: {first.wheel.version} ({first.origin}) and {item.wheel.version}"
            faults.append(Fault(item.origin, f"{what}; keep one"))
    if faults:
        raise InvalidWheelError(label, faults)
    return found


def _best_of_each(files: Iterable[Path], target: Target) -> list[list[Path]]:
    """Of the wheels of each package and version the one that fits best; all of them where none does."""
    groups: dict[tuple[str, ...], list[tuple[int | None, Path]]] = defaultdict(list)
    for file in files:
        name, _, rest = file.name.partition("-")
        groups[canonicalize_name(name), rest.partition("-")[0]].append((target.rank(wheels.tags_of(file.name)), file))
    best = []
    for group in groups.values():
        fitting = [(rank, file) for rank, file in group if rank is not None]
        best.append([min(fitting)[1]] if fitting else [file for _, file in group])
    return best


def _rank(file: LockedFile, target: Target) -> int | None:
    tags = wheels.tags_of(file.filename)
    return target.rank(tags) if tags else None


def _is_complete(local: Mapping[str, _Own], target: Target) -> bool:
    """Whether every requirement of the local wheels that counts on the target is met by another of them."""
    environment = {**target.environment(), "extra": ""}
    return all(
        (requirement.marker is not None and not requirement.marker.evaluate(environment))
        or _is_met(requirement, local.get(canonicalize_name(requirement.name)))
        for own in local.values()
        for requirement in own.ingredient.wheel.requires
    )


def _is_met(requirement: Requirement, own: _Own | None) -> bool:
    plain = not requirement.extras and not requirement.url
    version = own.ingredient.wheel.version if own else ""
    return own is not None and plain and requirement.specifier.contains(version, prereleases=True)


def _hashes(lists: Requirements, locked: Sequence[LockedPackage], target: Target) -> dict[str, tuple[str, ...]]:
    """The hashes that a file of each package must have one of: of its lines, and of its constraints."""
    found = _hashes_by_name(lists.lines)
    for name, hashes in _hashes_by_name(line for line in lists.constraints if _counts(line, target)).items():
        found[name] = tuple(each for each in hashes if each in found.get(name, hashes)) or found[name]
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
