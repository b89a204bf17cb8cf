"""What a check compares: what a wheelhouse brings, and what there is at a place that would load it."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from depload.checking import compatibility, runtimes
from depload.standards.target import Target
from depload.travels import activation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.requirements import Requirement

    from depload.published.wheelhouse import Manifest

_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")


@dataclass(frozen=True)
class Brought:
    """A wheelhouse, as its manifest and the metadata of its wheels tell it."""

    manifest: Manifest
    requires: Mapping[str, tuple[Requirement, ...]]
    """By package."""
    pythons: Mapping[str, SpecifierSet]
    """Requires-Python, by package."""
    tops: Mapping[str, frozenset[str]]
    """The first name of every file that lies where modules are, by package."""

    @classmethod
    def read(cls, file: Path, manifest: Manifest) -> Brought:
        """From the wheelhouse file that the manifest is of."""
        requires, pythons, tops = {}, {}, {}
        with zipfile.ZipFile(file) as opened:
            for member in filter(_METADATA.fullmatch, opened.namelist()):
                metadata = HeaderParser().parsestr(opened.read(member).decode("utf-8", "replace"))
                name = str(canonicalize_name(metadata.get("Name", "")))
                requires[name] = tuple(compatibility.requirements(metadata.get_all("Requires-Dist", [])))
                pythons[name] = _specifier(metadata.get("Requires-Python", ""))
            for wheel in manifest.wheels:
                with opened.open(wheel.filename) as stored, zipfile.ZipFile(stored) as inner:
                    tops[wheel.name] = frozenset(_tops(inner.namelist()))
        return cls(manifest, requires, pythons, tops)

    @property
    def versions(self) -> dict[str, str]:
        """Version by package."""
        return self.manifest.versions()

    @property
    def all_tops(self) -> frozenset[str]:
        """The first names of all packages."""
        return frozenset().union(*self.tops.values())

    @property
    def names(self) -> dict[str, list[str]]:
        """The names that importing starts at, by package."""
        return {wheel.name: list(wheel.names) for wheel in self.manifest.wheels}


def _specifier(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return SpecifierSet()


def _tops(members: list[str]) -> Iterator[str]:
    for member in members:
        parts = member.split("/")
        if parts[0].endswith(".data") and parts[1:2] in (["purelib"], ["platlib"]):
            parts = parts[2:]
        if parts[0] and not parts[0].endswith((".data", ".dist-info")):
            yield parts[0].split(".")[0]


@dataclass(frozen=True)
class Inventory:
    """What there is at one place: a process, processes that are alike, or a runtime that is known by its list."""

    label: str
    """What messages call it: ``driver``."""
    kind: Literal["driver", "worker", "runtime"]
    target: Target
    markers: Mapping[str, str]
    """The values of environment markers there (PEP 508)."""
    packages: Mapping[str, str]
    requires: Mapping[str, tuple[str, ...]]
    """Of each package the requirements that name packages of the wheelhouse, as Requires-Dist says them."""
    unknown: int = 0
    """Of how many packages nobody knows what they require."""
    loaded: Mapping[str, str] = field(default_factory=dict)
    """Digests of other wheelhouses that are loaded there, by package of theirs."""
    present: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``file`` and ``owners`` of each import name of the wheelhouse that is found there already."""
    closed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``file`` and ``owners`` of what makes an import name of the wheelhouse unreachable."""
    imported: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``package``, ``version`` and ``file`` of each import name of the wheelhouse in ``sys.modules``."""
    pythons: frozenset[str] = frozenset()
    """Those of the wheelhouse's first names that Python has itself."""

    @classmethod
    def of_process(cls, label: str, kind: Literal["driver", "worker"], facts: Mapping[str, Any]) -> Inventory:
        """From what ``_installed.facts`` answered."""
        target = target_of(facts) if kind == "worker" else Target.running()
        markers = {**target.environment(), "python_full_version": facts["python"]}
        return cls(
            label=label,
            kind=kind,
            target=target,
            markers={**markers, "platform_python_implementation": facts["implementation"]},
            packages=facts["packages"],
            requires={name: tuple(lines) for name, lines in facts["requires"].items()},
            loaded=dict(_loaded(facts["sites"])) if kind == "driver" else {},
            present=facts["present"],
            closed=facts["closed"],
            imported=facts["imported"],
            pythons=frozenset(facts["pythons"]),
        )

    @classmethod
    def of_runtime(cls, runtime: str, brought: Brought) -> Inventory:
        """Of a Databricks runtime, from its list. Raises TargetError for one that is not known, or has no list.

        No list says which modules a package has: that of the package's own name is taken for granted.
        """
        target = Target.of(runtime=runtime)
        listed = runtimes.read(runtime)
        packages = {**listed.packages, "pyspark": listed.spark}
        names = [name for wheel in brought.manifest.wheels for name in wheel.names]
        owners = {name: str(canonicalize_name(name)) for name in names}
        return cls(
            label=f"runtime {listed.version}",
            kind="runtime",
            target=target,
            markers=target.environment(),
            packages=packages,
            requires=listed.requires,
            unknown=len(listed.packages.keys() - listed.requires.keys()),
            present={name: {"file": "", "owners": [owner]} for name, owner in owners.items() if owner in packages},
            pythons=sys.stdlib_module_names & brought.all_tops,
        )

    def runs(self, requires_python: SpecifierSet) -> bool:
        """Whether a Requires-Python holds there; of a runtime nobody knows the patch, so for some release."""
        if self.kind == "runtime":
            return self.target.meets(requires_python)
        return compatibility.meets(requires_python, self.markers["python_full_version"])


def target_of(facts: Mapping[str, Any]) -> Target:
    """The target that a process is, from what it says of its Python, system, machine and C library."""
    python = ".".join(facts["python"].split(".")[:2])
    machine = facts["machine"].lower()
    library, version = facts["libc"]
    numbers = [*re.findall(r"\d+", version), "0", "0"][:2]
    if facts["system"] == "Linux" and library in ("glibc", "musl"):
        return Target(python, f"{'many' if library == 'glibc' else 'musl'}linux_{'_'.join(numbers)}_{machine}")
    if facts["system"] == "Linux":
        return Target(python, f"linux_{machine}")
    return Target(python, Target.running().platform)  # macOS and Windows have no clusters: it is this machine


def _loaded(sites: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    digests = ((package, _digest(Path(site))) for package, site in sites.items())
    yield from ((package, digest) for package, digest in digests if digest)


def _digest(site: Path) -> str | None:
    """The digest of the wheelhouse whose site a directory is; None where it is none."""
    try:
        return str(json.loads((site / activation.COMPLETE).read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
