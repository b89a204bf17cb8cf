"""Compare a wheelhouse with what is there, before it is loaded: everything that would be met, found in one go."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload.checking import compatibility, findings
from depload.checking.findings import BLOCKING, KINDS, Finding, Isolation, Kind
from depload.checking.inventory import Brought, Inventory
from depload.errors import LoadError
from depload.loading import sessions
from depload.published import runs
from depload.reporting.report import table
from depload.travels import inspection
from depload.travels.activation import here

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_NAMED_HOSTS = 3
_REFUSED: tuple[Kind, ...] = ("target", "imported", "loaded", "unreached")  # what loading itself fails on


@dataclass(frozen=True)
class Place:
    """What the wheelhouse was compared with."""

    label: str
    """``driver``, ``worker on host h (executor 0, 1)``, ``runtime 15.4``."""
    python: str
    platform: str
    """The newest platform tag that holds there."""
    glibc: str | None
    """None where there is another C library."""
    packages: int
    """How many are installed."""
    same: int
    """How many of the wheelhouse's packages are installed in the very same version."""
    unknown: int
    """Of how many installed packages nobody knows what they require: lists of runtimes do not say it of all."""


@dataclass(frozen=True)
class Check:
    """What loading a wheelhouse would meet; printed, it is text that ends with whether to load and what to do."""

    path: str
    digest: str
    isolation: Isolation
    places: tuple[Place, ...]
    findings: tuple[Finding, ...]
    """By place, and then in the order of ``depload.checking.findings.KINDS``."""

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What stands in the way with this isolation."""
        return tuple(finding for finding in self.findings if finding.kind in BLOCKING[self.isolation])

    @property
    def ok(self) -> bool:
        """Whether nothing stands in the way: not of loading, nor of working once it is loaded."""
        return not self.blocking

    def to_json(self) -> dict[str, Any]:
        """As ``depload check --json`` prints it."""
        blocking = BLOCKING[self.isolation]
        return {
            "path": self.path,
            "digest": self.digest,
            "isolation": self.isolation,
            "ok": self.ok,
            "places": [asdict(place) for place in self.places],
            "findings": [{**asdict(finding), "blocks": finding.kind in blocking} for finding in self.findings],
        }

    def __str__(self) -> str:
        return "\n\n".join((_compared(self.places), *_tables(self), _verdict(self)))


def check(
    path: str | os.PathLike[str],
    spark: Any = None,  # noqa: ANN401 - any kind of session
    *,
    runtime: str | None = None,
    isolation: Isolation = "shared",
    via: Any = None,  # noqa: ANN401 - Databricks' objects
) -> Check:
    """Compare the wheelhouse at ``path`` with this process and, with a Spark session, with its workers; load nothing.

    ``path`` is a run path or a ``.wheelhouse.zip``. With ``runtime`` (``15.4``) it is compared with the packages that
    this Databricks runtime preinstalls, and with nothing else. ``isolation`` is the one it would be loaded with.
    ``via`` is a ``WorkspaceClient`` or a dbutils, for a run path on Databricks that is not mounted here.

    Raises NotAWheelhouseError, AlteredWheelhouseError, TargetError for a runtime without a list, SparkSessionError, and
    LoadError for options that do not go together.
    """
    if isolation not in BLOCKING:
        raise LoadError(f"isolation is {' or '.join(map(repr, BLOCKING))}, not {isolation!r}")
    if runtime is not None and spark is not None:
        raise LoadError("a runtime is compared by its list, a Spark session by asking it; give one of them")
    session = sessions.session_of(spark)
    run = runs.open_run(path, via)
    runs.check(run)
    brought = Brought.read(run.file, run.manifest)
    inventories = [Inventory.of_runtime(runtime, brought)] if runtime is not None else _processes(brought, session)
    return Check(
        path=run.path,
        digest=run.manifest.digest,
        isolation=isolation,
        places=tuple(_place(there, brought) for there in inventories),
        findings=tuple(finding for there in inventories for finding in findings.of(brought, there)),
    )


def _place(there: Inventory, brought: Brought) -> Place:
    installed = there.packages
    same = [name for name, version in brought.versions.items() if compatibility.is_same(installed.get(name), version)]
    python = there.target.python if there.kind == "runtime" else there.markers["python_full_version"]
    glibc = there.target.glibc
    return Place(
        label=there.label,
        python=python,
        platform=there.target.platform,
        glibc=f"2.{glibc}" if glibc is not None else None,
        packages=len(installed),
        same=len(same),
        unknown=there.unknown,
    )


# --- asking -----------------------------------------------------------------------------------------------------------


def _processes(brought: Brought, session: sessions.Session | None) -> list[Inventory]:
    tops = sorted(brought.all_tops)
    driver = Inventory.of_process("driver", "driver", inspection.facts(here, brought.names, tops))
    if session is None:
        return [driver]
    source = Path(here.__file__).read_text(encoding="utf-8")
    ask = sessions.by_source(inspection, "facts", source, brought.names, tops)
    description = f"depload: check {brought.manifest.name} {brought.manifest.digest[:12]} against every worker"
    answers = sessions.everywhere(session, ask, description)
    return [driver, *(Inventory.of_process(label, "worker", facts) for label, facts in _alike(answers))]


_OF_THE_PROCESS = {"host", "executor", "pid", "prefix", "platform"}
"""What differs between workers that are alike: the platform's text has the kernel's version in it."""


def _alike(answers: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """One of the workers of each environment, and what to call all of them."""
    groups: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for facts in answers:
        about = {key: value for key, value in facts.items() if key not in _OF_THE_PROCESS}
        groups[json.dumps(about, sort_keys=True)].append(facts)
    for group in groups.values():
        yield _label(group), group[0]


def _label(group: Sequence[Mapping[str, Any]]) -> str:
    executors: defaultdict[str, set[str]] = defaultdict(set)
    for facts in group:
        executors[facts["host"]].add(facts["executor"])
    hosts = sorted(executors)
    if len(hosts) == 1:
        ids = sorted(executors[hosts[0]], key=lambda each: (len(each), each))
        return f"worker on host {hosts[0]}" + (f" (executor {', '.join(ids)})" if ids != ["driver"] else "")
    more = f" and {len(hosts) - _NAMED_HOSTS} more" if len(hosts) > _NAMED_HOSTS else ""
    return f"workers on {len(hosts)} hosts ({', '.join(hosts[:_NAMED_HOSTS])}{more})"


# --- text -------------------------------------------------------------------------------------------------------------


def _compared(places: Iterable[Place]) -> str:
    rows = [("compared with", "python", "platform", "glibc", "installed", "same version")]
    for place in places:
        numbers = str(place.packages), str(place.same)
        rows.append((place.label, place.python, place.platform, place.glibc or "-", *numbers))
    return table(rows)


def _tables(check: Check) -> Iterator[str]:
    """A table for each kind that was found; what is the same at several places is told once."""
    for kind, meaning in KINDS.items():
        where: defaultdict[tuple[str, str, str, str], list[str]] = defaultdict(list)
        for finding in check.findings:
            if finding.kind == kind:
                key = finding.package, finding.installed or "-", finding.brought, finding.why
                where[key].append(finding.place)
        if where:
            rows = [(*key[:3], ", ".join(places), key[3]) for key, places in where.items()]
            yield f"{kind}: {meaning}\n" + table([("package", "installed", "wheelhouse", "where", "why"), *rows])


def _verdict(check: Check) -> str:
    """Whether it will load, and what to do."""
    return "\n".join((_outcome(check), *_remedies(check), *_unseen(check)))


def _outcome(check: Check) -> str:
    how = f"with isolation={check.isolation!r}"
    if check.ok:
        limited = any(finding.kind == "limited" for finding in check.findings)
        return f"It will load {how}: nothing stands in the way{', but read what is limited' if limited else ''}."
    if any(finding.kind in _REFUSED for finding in check.blocking):
        return f"It will not load {how}. What to do:"
    return f"It would load {how}, and then not work. What to do:"


def _remedies(check: Check) -> Iterator[str]:
    """What to do for which packages, each once."""
    packages: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for finding in check.blocking:
        packages[finding.remedy][finding.package] = None
    yield from (f"  - {', '.join(names)}: {remedy}" for remedy, names in packages.items())


def _unseen(check: Check) -> Iterator[str]:
    """What nobody looked at."""
    for place in check.places:
        if place.label.startswith("runtime"):
            unknown = f" What {place.unknown} of its packages require is not known here." if place.unknown else ""
            yield f"What a process has imported by then is only seen on a cluster of {place.label}.{unknown}"
    if [place.label for place in check.places] == ["driver"]:
        yield "No workers were asked: that takes a Spark session."
