"""What is true on the driver and on every worker: as found, and as the proof of a load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depload.errors import DeploadError, WorkerFault
from depload.reporting.comparison import Comparison, compare
from depload.reporting.environments import Environment, Environments, Imported, Process, Wrong
from depload.reporting.plain import size, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from depload.published.wheelhouse import Manifest

__all__ = ["Fingerprint", "Imported", "Process", "Report", "faults", "size", "table"]


@dataclass(frozen=True, repr=False)
class Fingerprint(Environments):
    """What the driver and each worker can import, wheelhouse or not; printed, it is text."""

    title = "fingerprint"

    @classmethod
    def from_json(cls, data: object) -> Fingerprint:
        """From what ``to_json`` gave, a fingerprint's or a report's. Raises DeploadError where it is neither."""
        whole = _typed(data, "it", dict)
        driver, workers = whole.get("driver"), _typed(whole.get("workers"), "workers", list)
        return Fingerprint(
            driver=None if driver is None else _environment(driver, "driver"),
            workers=tuple(_environment(row, f"workers[{at}]") for at, row in enumerate(workers)),
        )

    def compare(self, other: Environments) -> Comparison:
        """What differs from another fingerprint or report: driver from driver, workers from workers."""
        return compare(self, other)

    def to_junit(self) -> str:
        """JUnit XML: a test suite for each process; what is wrong or odd in it is a failure."""
        from depload.reporting import rendering

        return rendering.junit(self)

    def to_html(self) -> str:
        """A page of HTML that needs nothing else: no script, no style sheet, light or dark as the reader has it."""
        from depload.reporting import rendering

        return rendering.page(self)

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        from depload.reporting import rendering

        return rendering.html(self)

    def __str__(self) -> str:
        from depload.reporting import rendering

        return rendering.text(self)


@dataclass(frozen=True, repr=False)
class Report(Fingerprint):
    """The proof of a load; printed, it is text."""

    driver: Process | None
    workers: tuple[Process, ...]
    delivery: str
    """How the wheels got to the workers, and why that way."""
    digest: str
    packages: Mapping[str, str]
    """Version by package, of everything that the wheelhouse brings."""
    isolation: str = "shared"
    """``shared``: in the application's own Python workers; ``process``: in Python workers of its own."""
    warnings: tuple[str, ...] = ()
    lease: str = ""
    """Why no lease says that the run path is in use; empty where one does."""

    title = "loaded"

    def about(self) -> dict[str, str]:
        """The wheelhouse, and how it got there."""
        return {
            "wheelhouse": ", ".join(f"{name} {version}" for name, version in sorted(self.packages.items())),
            "delivery": self.delivery,
            "isolation": self.isolation,
            "digest": self.digest,
            **({"lease": self.lease} if self.lease else {}),
        }

    def brought(self) -> Mapping[str, str]:
        """``packages``."""
        return self.packages

    def wrong(self, process: Environment) -> tuple[Wrong, ...]:
        """Every difference between what a process has and what the wheelhouse brings."""
        return tuple(process.wrong(self.digest, self.packages)) if isinstance(process, Process) else ()

    def to_json(self) -> dict[str, Any]:
        """As ``depload load --json`` prints it."""
        return {
            "digest": self.digest,
            "delivery": self.delivery,
            "isolation": self.isolation,
            "lease": self.lease,
            "warnings": list(self.warnings),
            "packages": dict(self.packages),
            **super().to_json(),
        }


def faults(workers: Iterable[Process], manifest: Manifest) -> tuple[WorkerFault, ...]:
    """Every difference between what the workers have and what the wheelhouse brings."""
    versions = manifest.versions()
    return tuple(
        WorkerFault(worker.host, worker.executor, wrong.package, wrong.expected, wrong.found)
        for worker in workers
        for wrong in worker.wrong(manifest.digest, versions)
    )


# --- a report that was written before --------------------------------------------------------------------------------

_KINDS = {
    "host": (str,),
    "executor": (str,),
    "pid": (int,),
    "python": (str,),
    "prefix": (str,),
    "platform": (str,),
    "site": (str, type(None)),
    "packages": (dict,),
}


def _environment(data: object, where: str) -> Environment:
    row = _typed(data, where, dict)
    facts = {name: _typed(row.get(name), f"{where}.{name}", *kinds) for name, kinds in _KINDS.items()}
    for name, version in facts["packages"].items():
        _typed(version, f"{where}.packages.{name}", str)
    return Environment.of(facts)


def _typed(value: object, where: str, *kinds: type) -> Any:  # noqa: ANN401 - of one of the kinds
    """The value, which is of one of the kinds that JSON has. Raises DeploadError."""
    if not isinstance(value, kinds):
        raise DeploadError(
            f"this is no fingerprint and no report: {where} is {type(value).__name__}, not {kinds[0].__name__}; "
            "hand over what `depload fingerprint --json` or `depload load --json` printed"
        )
    return value
