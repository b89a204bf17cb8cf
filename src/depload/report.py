"""What is true on the driver and on every worker, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from depload.errors import WorkerFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from depload.wheelhouse import Manifest


@dataclass(frozen=True)
class Imported:
    """A module as one process has it."""

    version: str | None
    file: str | None
    package: str | None
    """The package of the wheelhouse that provides it."""
    error: str | None


@dataclass(frozen=True)
class Process:
    """One Python process that the wheelhouse was activated in: the driver, or a worker."""

    host: str
    executor: str
    pid: int
    python: str
    prefix: str
    platform: str
    site: str | None
    digest: str | None
    unpacked: bool
    """Whether this process unpacked the wheels; all others on its node found them unpacked."""
    seconds: float
    """From before activation until the last import."""
    imported: Mapping[str, Imported]
    error: str | None
    packages: Mapping[str, str]
    """Version by name of all that can be imported there, the platform's own packages included."""
    strangers: tuple[Mapping[str, str | None], ...]
    """Modules of the wheelhouse's packages that were imported from elsewhere before."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Process:
        """From what ``activation.prove`` answered."""
        imported = {name: Imported(**row) for name, row in facts["imported"].items()}
        kept = {key: facts[key] for key in cls.__dataclass_fields__ if key not in ("imported", "strangers")}
        return cls(**kept, imported=imported, strangers=tuple(facts["strangers"]))

    def to_json(self) -> dict[str, Any]:
        """As ``depload load --json`` prints it."""
        return {**asdict(self), "strangers": [dict(row) for row in self.strangers]}


@dataclass(frozen=True)
class Report:
    """The proof of a load."""

    driver: Process
    workers: tuple[Process, ...]
    delivery: str
    """How the wheels got to the workers, and why that way."""
    digest: str
    packages: Mapping[str, str]
    """Version by package, of everything that the wheelhouse brings."""

    def to_json(self) -> dict[str, Any]:
        """As ``depload load --json`` prints it."""
        return {
            "digest": self.digest,
            "delivery": self.delivery,
            "packages": dict(self.packages),
            "driver": self.driver.to_json(),
            "workers": [worker.to_json() for worker in self.workers],
        }

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("process", "host", "pid", "python", "site", "seconds", "imported")]
        rows += [_row("driver", self.driver), *(_row(f"executor {worker.executor}", worker) for worker in self.workers)]
        packages = ", ".join(f"{name} {version}" for name, version in sorted(self.packages.items()))
        return f"{table(rows)}\npackages: {packages}\ndelivery: {self.delivery}\ndigest:   {self.digest}"


def _row(label: str, process: Process) -> tuple[str, ...]:
    imported = ", ".join(f"{name} {module.version or module.error}" for name, module in process.imported.items())
    site = "unpacked" if process.unpacked else "found"
    return label, process.host, str(process.pid), process.python, site, f"{process.seconds:.2f}", imported


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def size(count: int) -> str:
    """Bytes as a person reads them."""
    number, units = float(count), iter(("B", "kB", "MB", "GB"))
    unit = next(units)
    while number >= 1000 and (larger := next(units, None)):  # noqa: PLR2004 - SI
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def faults(workers: Iterable[Process], manifest: Manifest) -> tuple[WorkerFault, ...]:
    """Every difference between what the workers have and what the wheelhouse brings."""
    versions = {wheel.name: wheel.version for wheel in manifest.wheels}
    return tuple(
        WorkerFault(worker.host, worker.executor, *difference)
        for worker in workers
        for difference in _differences(worker, manifest.digest, versions)
    )


def _differences(worker: Process, digest: str, versions: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    if worker.error:
        yield "the wheelhouse", "activated", worker.error
        return
    if worker.digest != digest:
        yield "the wheelhouse", f"digest {digest}", f"digest {worker.digest}"
    told = set()
    for row in worker.strangers:
        package = str(row["package"])
        told.add(package)
        yield package, versions[package], f"{row['version']}, imported before from {row['file']}"
    for name, module in worker.imported.items():
        package = module.package or name
        expected = versions.get(package)
        if module.error:
            yield package, expected or "importable", module.error
        elif expected and module.version not in (expected, None) and package not in told:
            yield package, expected, f"{module.version} from {module.file}"
