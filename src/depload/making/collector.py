"""From the roots of a source to the wheels that go into the wheelhouse: its own, built ones, and resolved ones.

One resolution over everything: the wheels that the source holds or that are built from it take part as
``name @ file:///...``, so what they require and what the requirements ask for meet in one answer.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from depload.errors import (
    BuildRefusedError,
    Fault,
    HashMismatchError,
    InvalidWheelError,
    ProtectedPackageError,
    RequirementsError,
    ResolutionError,
    SourceError,
)
from depload.making import asks, bindings, builder, fetcher, inputs, resolver
from depload.making import policy as policies
from depload.making.builder import Buildable, LooseFile
from depload.making.fetcher import Download
from depload.making.indexes import IndexOptions, redact
from depload.making.policy import Candidate, Judge, Policy
from depload.published.wheelhouse import Ingredient
from depload.source import imports, installed
from depload.standards import digests, wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement

    from depload.making.asks import Asks
    from depload.making.bounds import BuildLimits
    from depload.making.resolver import AskedBy, ResolverName
    from depload.published.wheelcache import WheelCache
    from depload.source.formats import Kind, Root
    from depload.standards.lockfile import LockedFile, LockedPackage
    from depload.standards.target import Target
    from depload.standards.wheels import Wheel


# A build is keyed by its sources, which say what it requires, and by the target. Not by the options, which say where
# that comes from.
_BUILD_INPUTS: Any = {"name": None, "options": None, "constraints": ()}


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
    cache: WheelCache | None = None
    """Wheels of earlier conversions."""
    builds: BuildLimits | None = None
    """What a build may take."""
    judge: Judge = field(default_factory=lambda: Judge(Policy(), IndexOptions()))
    """What the conversion has to keep to."""
    unpinned: tuple[str, ...] = ()
    """Once there are wheels: the packages whose versions the source leaves open."""
    tools: dict[str, str] = field(default_factory=dict)
    """Once there are wheels: what resolved and what built, with its version."""

    def wheels(self, constraints: Sequence[Path] = ()) -> list[Ingredient]:
        """Every wheel that the source needs for the target. Raises what the stages raise; see ``pipeline.convert``."""
        policy = self.judge.policy
        asked = asks.read(self.roots, constraints, self.target, self.label, require_hashes=policy.require_hashes)
        self.options = asks.with_lists(self.options, asked.lists)
        if policy.no_build:
            self.options = replace(self.options, only_binary=(":all:",), no_binary=())
        _refuse_protected(asked.origins)
        policies.refuse_builds(asked, self._of("project", "sdist"), self.options, everything=policy.no_build)
        bindings.check(asks.urls(asked.lists), self.options)
        self.phase("build")
        local = self._local(asked)
        _refuse_protected({name: (own.ingredient.origin,) for name, own in local.items()})
        self.phase("resolve")
        packages = self._resolve(asked, local)
        self.phase("fetch")
        wanted = [package for package in packages if package.name not in local]
        self.unpinned = tuple(sorted({package.name for package in wanted} - asks.pins(asked, self._requires(local))))
        self._require_hashes(asked, wanted)
        ingredients = [own.ingredient for own in local.values()] + self._fetched(wanted, asked)
        self._warn_of_imports(ingredients)
        return ingredients

    @staticmethod
    def _requires(local: Mapping[str, _Own]) -> list[Requirement]:
        return [each for own in local.values() for each in own.ingredient.wheel.requires]

    def _of(self, *kinds: Kind) -> list[Root]:
        return [root for root in self.roots if root.kind in kinds]

    # --- what the source holds itself ---

    def _local(self, asked: Asks) -> dict[str, _Own]:
        """Wheels that the source holds or that are built from it, by package."""
        files = {root.location: root.path for root in self._of("wheel")}
        projects = {root.location: root.path for root in self._of("project", "sdist")}
        extras: dict[Path, set[str]] = defaultdict(set)
        for line in asked.lists.lines:
            if line.path is not None:
                (files if line.path.suffix == ".whl" else projects).setdefault(line.path, line.origin)
                extras[line.path] |= asks.requirement(line).extras
                asks.check_hashes(line.path, line.hashes)
        for package in asked.locked:
            if package.directory is not None:
                projects.setdefault(Path(package.directory), package.name)
        fitting = self._fitting(files)
        for wheel in fitting:
            asks.check_hashes(wheel.path, asked.hashes.get(wheel.name, ()))
        found = [
            *((wheel.path, Ingredient(wheel, files[wheel.path], requested=True)) for wheel in fitting),
            *self._built(projects),
            *((root.location, Ingredient(wheel, root.path, requested=True)) for root, wheel in self._installed()),
        ]
        if self._of("modules"):
            found.append((Path(), Ingredient(self._modules(), "built from loose modules", requested=True)))
        owns = [_Own(ingredient, frozenset(extras[at])) for at, ingredient in found]
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

    def _built(self, projects: Mapping[Path, str]) -> Iterator[tuple[Path, Ingredient]]:
        labels = ["the project" if label == "." else label for label in projects.values()]
        buildables = [Buildable(path, label) for path, label in zip(projects, labels, strict=True)]
        made = self._build(buildables, self.scratch / "built")
        for path, file, label in zip(projects, made, labels, strict=True):
            wheel = wheels.read(file)
            yield path, Ingredient(wheel, f"built from {label}", requested=True, built_from=digests.of(path))

    def _build(self, buildables: Sequence[Buildable], to: Path) -> list[Path]:
        """A wheel of each: one that was built of the same sources before, or a new one."""
        if buildables:
            self.tools["builder"] = builder.described()
        if self.cache is None:
            return self._build_anew(buildables, to)
        kept = to / "kept"
        kept.mkdir(parents=True)
        digests = [inputs.digest(each.path, target=self.target, **_BUILD_INPUTS) for each in buildables]
        found = [self.cache.built(digest, kept) for digest in digests]
        missing = [each for each, path in zip(buildables, found, strict=True) if path is None]
        made = iter(self._build_anew(missing, to))
        built = [path or next(made) for path in found]
        for digest, before, path in zip(digests, found, built, strict=True):
            if before is None:
                self.cache.keep_built(digest, path, wheels.sha256_of(path))
        return built

    def _build_anew(self, buildables: Sequence[Buildable], to: Path) -> list[Path]:
        warn = self.warnings.append
        return builder.build(buildables, self.target, options=self.options, to=to, limits=self.builds, warn=warn)

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

    def _resolve(self, asked: Asks, local: Mapping[str, _Own]) -> tuple[LockedPackage, ...]:
        """The packages that the source lacks. A lock alone is the answer already, and what is complete needs none."""
        named = [line.requirement for line in asked.lists.lines if line.path is None]
        constraints = [line.requirement for line in asked.lists.constraints]
        extras = any(own.extras for own in local.values())

        def judge(packages: Sequence[LockedPackage], asked_by: Callable[[Sequence[str]], AskedBy]) -> None:
            candidates = [Candidate(name, own.ingredient.wheel.version) for name, own in local.items()]
            candidates += [Candidate(each.name, each.version) for each in packages if each.name not in local]
            self.judge.judge(candidates, lambda names: _required_by(names, asked, local, asked_by(names)))

        if not (named or asked.locked or constraints or extras) and _is_complete(local, self.target):
            judge((), lambda _: {})
            return ()
        if asked.locked and not (named or constraints) and local.keys() <= {package.name for package in asked.locked}:
            judge(asked.locked, lambda _: {})
            return asked.locked
        self.tools["resolver"] = resolver.described(self.resolver)
        try:
            return resolver.resolve(
                [
                    *named,
                    *(asks.pinned(package) for package in asked.locked if package.name not in local),
                    *(own.requirement for own in local.values()),
                ],
                constraints,
                self.target,
                options=self.options,
                scratch=self.scratch,
                resolver=self.resolver,
                limits=self.builds,
                warn=self.warnings.append,
                judge=judge,
            )
        except ResolutionError as error:
            names = asks.names_in(error.explanation)
            asked_by = [*asks.places(asked, names), *(fault for own in local.values() for fault in own.places(names))]
            raise ResolutionError(error.explanation, error.target, asked_by, error.remedy) from None

    def _require_hashes(self, asked: Asks, wanted: Sequence[LockedPackage]) -> None:
        """As in pip, ``--require-hashes`` is for what others need as well."""
        what = "is needed as well and has no --hash, and --require-hashes wants one for each"
        faults = [Fault("", f"{each.name} {what}") for each in wanted if each.name not in asked.hashes]
        if faults and asked.lists.require_hashes:
            raise RequirementsError(self.label, faults)

    def _fetched(self, wanted: Sequence[LockedPackage], asked: Asks) -> list[Ingredient]:
        """Download what is not local; what comes as an sdist is built."""
        files = [self._choose(package, asked.hashes.get(package.name, ())) for package in wanted]
        bindings.check([(each.name, file.location) for each, file in zip(wanted, files, strict=True)], self.options)
        if refused := [
            Fault(f"{package.name} {package.version or ''}".rstrip(), f"{file.filename} is no wheel")
            for package, file in zip(wanted, files, strict=True)
            if not file.is_wheel and self.options.forbids_building(package.name)
        ]:
            raise BuildRefusedError(refused)
        to = self.scratch / "fetched"
        to.mkdir()
        downloads = [Download(file.location, file.filename, file.sha256, file.size) for file in files]
        paths = fetcher.fetch(downloads, to, options=self.options, progress=self.progress, beside=self.cache)
        for package, path in zip(wanted, paths, strict=True):
            asks.check_hashes(path, asked.hashes.get(package.name, ()))
        built = self._built_sdists(
            {path: package for package, path in zip(wanted, paths, strict=True) if path.suffix != ".whl"}
        )
        found = []
        for package, file, path in zip(wanted, files, paths, strict=True):
            wheel = wheels.read(built[path]) if path in built else wheels.read(path, sha256=file.sha256)
            origin = redact(file.location) if "://" in file.location else Path(file.location).name
            built_from = ("sha256", file.sha256 or wheels.sha256_of(path)) if path in built else None
            requested = package.name in asked.origins
            found.append(Ingredient(wheel, origin, requested, built_from=built_from, uploaded=file.uploaded))
        return found

    def _built_sdists(self, sdists: Mapping[Path, LockedPackage]) -> dict[Path, Path]:
        if not sdists:
            return {}
        self.phase("build")
        projects = [Buildable(path, f"{package.name} {package.version}") for path, package in sdists.items()]
        made = self._build(projects, self.scratch / "built-sdists")
        return dict(zip(sdists, made, strict=True))

    def _choose(self, package: LockedPackage, hashes: Sequence[str]) -> LockedFile:
        """The wheel that fits the target best, else the sdist; of those that the source's hashes allow."""
        allowed = [file for file in package.files if asks.is_allowed(file, hashes)]
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

    def places(self, names: Container[str]) -> Iterator[Fault]:
        """That it is one of the packages, and which of them it requires."""
        wheel, where = self.ingredient.wheel, self.ingredient.origin.removeprefix("built from ")
        if wheel.name in names:
            yield Fault(where, f"is {wheel.name} {wheel.version}")
        for each in wheel.requires:
            if canonicalize_name(each.name) in names:
                yield Fault(where, f"requires {redact(str(each))}")


def _required_by(
    names: Sequence[str], asked: Asks, local: Mapping[str, _Own], resolved: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Who requires each package: lines and locks of the source, what it holds itself, and what was found for it."""
    found = {}
    for name in names:
        own = [local[name].ingredient.origin] if name in local else []
        requiring = [
            other
            for other, each in local.items()
            if any(canonicalize_name(one.name) == name for one in each.ingredient.wheel.requires)
        ]
        found[name] = tuple(dict.fromkeys((*asked.origins.get(name, ()), *own, *requiring, *resolved.get(name, ()))))
    return found


def _refuse_protected(asked: Mapping[str, Sequence[str]]) -> None:
    """Raise ProtectedPackageError where the source itself names what belongs to the platform."""
    for name, origins in asked.items():
        if name in resolver.PROTECTED:
            raise ProtectedPackageError(name, origins)


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
