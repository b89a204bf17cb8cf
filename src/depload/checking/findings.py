"""What loading a wheelhouse at a place would do there: each rule tells all that it finds."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from packaging.specifiers import SpecifierSet

from depload.checking import compatibility
from depload.making.resolver import PROTECTED
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.requirements import Requirement

    from depload.checking.compatibility import Severity
    from depload.checking.inventory import Brought, Inventory

Isolation = Literal["shared", "process"]
Kind = Literal["target", "imported", "loaded", "unreached", "incompatible", "limited", "shadowed", "replaced"]

KINDS: Mapping[Kind, str] = {
    "target": "wheels that do not run there: made for another Python, platform or glibc",
    "imported": "imported there already in another version, which Python does not replace",
    "loaded": "brought in another version by a wheelhouse that is loaded there already",
    "unreached": "modules that are never found, because an installed package closes the name above them",
    "incompatible": "packages that cannot work together",
    "limited": "packages of which a part will not work",
    "shadowed": "modules that hide, or are hidden by, those of another package or of Python",
    "replaced": "installed in another version; the wheelhouse's comes first",
}
"""What each kind of finding is, in the order they are told."""

BLOCKING: Mapping[Isolation, frozenset[Kind]] = {
    "shared": frozenset({"target", "imported", "loaded", "unreached", "incompatible"}),
    # Workers of their own have imported nothing yet, and a driver that has is left as it is.
    "process": frozenset({"target", "unreached", "incompatible"}),
}
"""The kinds that stand in the way of loading, or of working once it is loaded."""


@dataclass(frozen=True)
class Finding:
    """One thing that loading would meet at one place."""

    place: str
    kind: Kind
    package: str
    """The package it is about, installed or brought."""
    installed: str
    """What is there: a version of the package, or another package with its version."""
    brought: str
    """What the wheelhouse has: likewise."""
    why: str
    remedy: str
    """What to do; nothing where nothing needs to be done."""


def of(brought: Brought, there: Inventory) -> list[Finding]:
    """Everything that there is to find at a place, sorted by kind and package."""
    rules = (_targets, _imported, _loaded, _unreached, _needs, _shadowed, _replaced)
    found = {finding for rule in rules for finding in rule(brought, there)}
    order = list(KINDS)
    return sorted(found, key=lambda each: (order.index(each.kind), each.package, each.installed, each.why))


# --- what does not run or is not reached ----------------------------------------------------------------------------


def _targets(brought: Brought, there: Inventory) -> Iterator[Finding]:
    runtime = there.label.replace("runtime ", "--runtime ")
    named = runtime if there.kind == "runtime" else f"--python {there.target.python} --platform {there.target.platform}"
    remedy = f"convert the source again where it will run, or with {named}"
    for wheel in brought.manifest.wheels:
        said = _said(there, wheel.name)
        if there.target.rank(wheels.tags_of(wheel.filename)) is None:
            why = f"{wheel.filename} does not run on {there.target}"
            yield Finding(there.label, "target", wheel.name, said, wheel.version, why, remedy)
        elif not there.runs(python := brought.pythons.get(wheel.name, SpecifierSet())):
            why = f"requires Python {python}, there it is {there.markers['python_full_version']}"
            yield Finding(there.label, "target", wheel.name, said, wheel.version, why, remedy)


def _imported(brought: Brought, there: Inventory) -> Iterator[Finding]:
    versions = brought.versions
    other: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name, about in there.imported.items():
        if not compatibility.is_same(about["version"], versions[about["package"]]):
            other[about["package"], about["version"] or "an unknown version"].append(f"{name} from {about['file']}")
    remedy = "load with isolation='process', which gives the session Python workers of its own"
    if there.kind == "driver":
        remedy = f"load before it is imported, in a fresh Python process; or, for the workers alone, {remedy}"
    for (package, version), modules in other.items():
        why = f"imported already: {', '.join(sorted(modules))}"
        yield Finding(there.label, "imported", package, version, versions[package], why, remedy)


def _loaded(brought: Brought, there: Inventory) -> Iterator[Finding]:
    for package, version in brought.versions.items():
        digest = there.loaded.get(package, brought.manifest.digest)
        found = there.packages.get(package)
        if digest != brought.manifest.digest and not compatibility.is_same(found, version):
            why = f"brought by the wheelhouse with digest {digest[:12]}, which is loaded in this process"
            remedy = "unload that one first, or convert one source that holds both"
            yield Finding(there.label, "loaded", package, str(found), version, why, remedy)


def _unreached(brought: Brought, there: Inventory) -> Iterator[Finding]:
    for package, version in brought.versions.items():
        for name in brought.names[package]:
            if about := there.closed.get(name):
                owners = _owners(about["owners"], there) or about["file"]
                why = f"{name} is not found: {about['file']} is a package that others cannot add modules to"
                remedy = "use a version of the installed package that makes a namespace of it, or take it out there"
                yield Finding(there.label, "unreached", package, owners, version, why, remedy)


# --- what is hidden or replaced -------------------------------------------------------------------------------------


def _shadowed(brought: Brought, there: Inventory) -> Iterator[Finding]:
    for package, version in brought.versions.items():
        hidden: defaultdict[str, list[str]] = defaultdict(list)
        for name in brought.names[package]:
            if about := there.present.get(name):
                others = [owner for owner in about["owners"] if owner not in brought.versions]
                if others or not about["owners"]:
                    hidden[_owners(others, there) or about["file"]].append(name)
        for other, names in hidden.items():
            named = ", to judge by its name," if there.kind == "runtime" else ""
            why = f"{_listed('module', names)} of {other}{named} will be hidden by {package}"
            yield Finding(there.label, "shadowed", package, other, version, why, "")
        if own := sorted(brought.tops.get(package, frozenset()) & there.pythons):
            why = f"{_listed('module', own)} of {package} will never be reached: Python has its own"
            python = f"Python {there.markers['python_full_version' if there.kind != 'runtime' else 'python_version']}"
            yield Finding(there.label, "shadowed", package, python, version, why, "")


def _replaced(brought: Brought, there: Inventory) -> Iterator[Finding]:
    for package, version in brought.versions.items():
        found = there.packages.get(package)
        if found is not None and package not in there.loaded and not compatibility.is_same(found, version):
            why = "the wheelhouse's comes first on sys.path"
            yield Finding(there.label, "replaced", package, found, version, why, "")


# --- what cannot work together --------------------------------------------------------------------------------------


class _Need(NamedTuple):
    """That one package needs another one, in some versions."""

    package: str
    requirement: Requirement
    kind: Severity
    why: str

    @property
    def pair(self) -> tuple[str, str]:
        return self.package, compatibility.name_of(self.requirement)


def _needs(brought: Brought, there: Inventory) -> Iterator[Finding]:
    """Every broken need that the wheelhouse has to do with, a finding for each pair of packages."""
    needs = [*_of_installed(brought, there), *_of_brought(brought, there), *_undeclared(brought, there)]
    told = {need.pair for need in needs if not _is_met(need, brought, there)}
    needs += [need for need in _of_pyspark(brought, there) if need.pair not in told]
    broken: defaultdict[tuple[tuple[str, str], Severity], list[_Need]] = defaultdict(list)
    for need in needs:
        if not _is_met(need, brought, there):
            broken[need.pair, "limited" if _was_broken(need, brought, there) else need.kind].append(need)
    for (pair, kind), together in broken.items():
        if kind == "incompatible" or (pair, "incompatible") not in broken:
            yield _broken(kind, together, brought, there)


def _of_installed(brought: Brought, there: Inventory) -> Iterator[_Need]:
    """What installed packages that stay require of packages that are brought."""
    for package in there.packages.keys() - brought.versions.keys():
        for requirement in compatibility.requirements(there.requires.get(package, ())):
            wanted = compatibility.name_of(requirement) in brought.versions
            if wanted and compatibility.holds(requirement, there.markers):
                yield _Need(package, requirement, "incompatible", "")


def _of_pyspark(brought: Brought, there: Inventory) -> Iterator[_Need]:
    """What PySpark declares for extras, and needs whether they were asked for or not."""
    for package in PROTECTED & there.packages.keys():
        for requirement in compatibility.requirements(there.requires.get(package, ())):
            wanted = compatibility.name_of(requirement) in brought.versions
            if wanted and compatibility.holds(requirement, there.markers, compatibility.PYSPARK_EXTRAS):
                yield _Need(package, requirement, "limited", "its extras for pandas and Spark Connect ask for it")


def _of_brought(brought: Brought, there: Inventory) -> Iterator[_Need]:
    """What wheels require of packages that are not brought: the platform's, and those for other machines."""
    extras: defaultdict[str, set[str]] = defaultdict(set)
    for requirements in brought.requires.values():
        for requirement in requirements:
            if compatibility.holds(requirement, there.markers):
                extras[compatibility.name_of(requirement)] |= requirement.extras
    for package, requirements in brought.requires.items():
        for requirement in requirements:
            name = compatibility.name_of(requirement)
            if name in brought.versions or not compatibility.holds(requirement, there.markers, extras[package]):
                continue
            if name in there.packages or name not in PROTECTED:
                yield _Need(package, requirement, "incompatible", "")
            elif not PROTECTED & there.packages.keys():
                yield _Need(package, requirement, "limited", "a Spark session brings it")


def _undeclared(brought: Brought, there: Inventory) -> Iterator[_Need]:
    for package, version in {**there.packages, **brought.versions}.items():
        for row in compatibility.undeclared(package, version):
            for requirement in compatibility.requirements([row.requires]):
                other = compatibility.name_of(requirement)
                if {package, other} & brought.versions.keys() and other in {**there.packages, **brought.versions}:
                    yield _Need(package, requirement, row.kind, row.why)


def _is_met(need: _Need, brought: Brought, there: Inventory) -> bool:
    name = compatibility.name_of(need.requirement)
    version = brought.versions.get(name, there.packages.get(name))
    return version is not None and compatibility.meets(need.requirement.specifier, version)


def _was_broken(need: _Need, brought: Brought, there: Inventory) -> bool:
    """Whether what is installed does not go together either, so that loading makes nothing worse."""
    before = there.packages.get(compatibility.name_of(need.requirement))
    installed = need.package in there.packages and need.package not in brought.versions
    return installed and before is not None and not compatibility.meets(need.requirement.specifier, before)


def _broken(kind: Severity, needs: list[_Need], brought: Brought, there: Inventory) -> Finding:
    """The finding for needs of one pair of packages."""
    package, other = needs[0].pair
    sides: dict[bool, list[str]] = {True: [], False: []}  # by whether it is brought
    for name in (package, other):
        version = brought.versions.get(name, there.packages.get(name))
        sides[name in brought.versions].append(f"{name} {version}" if version else f"no {name}")
    specifier = SpecifierSet()
    for need in needs:
        specifier &= need.requirement.specifier
    reasons = "; ".join(dict.fromkeys(need.why for need in needs if need.why))
    if kind == "limited" and not reasons:
        reasons = "it does not have that now either"
    return Finding(
        place=there.label,
        kind=kind,
        package=package,
        installed=", ".join(sides[False]),
        brought=", ".join(sides[True]),
        why=f"{package} needs {other}{specifier}" + (f": {reasons}" if reasons else ""),
        remedy=_remedy(package, f"{other}{specifier}", brought),
    )


def _remedy(package: str, wanted: str, brought: Brought) -> str:
    if package in brought.versions:
        return f"ask in the source for a version of {package} that goes with what is there ({package} needs {wanted})"
    if package in PROTECTED:
        return f"ask for {wanted} in the source"
    return f"ask for {wanted} in the source, or put {package} into it as well, so that versions are found for both"


# --- words ----------------------------------------------------------------------------------------------------------


def _said(there: Inventory, package: str) -> str:
    return there.packages.get(package, "")


def _owners(names: Iterable[str], there: Inventory) -> str:
    return ", ".join(f"{name} {there.packages.get(name, '')}".strip() for name in sorted(names))


def _listed(noun: str, names: Iterable[str]) -> str:
    told = sorted(names)
    return f"{noun}{'s' if len(told) > 1 else ''} {', '.join(told)}"
