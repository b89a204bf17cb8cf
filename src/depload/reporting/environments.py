"""What is true in one Python process, in all those of a session, and how two of them differ."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from depload.reporting.plain import counted, line, table
from depload.travels.activation import same_version

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound="Hashable")
_NAMED_HOSTS = 4


@dataclass(frozen=True)
class Environment:
    """One Python process, and all that can be imported in it."""

    host: str
    executor: str
    """The executor of a worker; ``driver`` for the driver, and for workers that Spark runs without an executor."""
    pid: int
    python: str
    prefix: str
    platform: str
    site: str | None
    """Where the packages of a wheelhouse lie that are importable there; None without one."""
    packages: Mapping[str, str] = field(repr=False)
    """Version by normalised name (PEP 503) of everything importable, the platform's own packages included."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Environment:
        """From plain data with a value for each field; more is passed over."""
        return cls(**{each.name: facts[each.name] for each in fields(cls)})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the packages: a line ``name==version`` each, sorted, each ended by a newline.

        The order is that of the lines' bytes, which are UTF-8. So ``LC_ALL=C sort | sha256sum`` gives it from the lines
        of ``packages`` in any order. Equal packages, equal fingerprint, whatever the machine.
        """
        lines = sorted(f"{name}=={version}\n" for name, version in self.packages.items())
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def package_count(self) -> int:
        """How many packages are importable."""
        return len(self.packages)

    def differences(self, other: Environment) -> Differences:
        """What this process (``here``) and another (``there``) do not have in common."""
        here, there = self.packages, other.packages
        return Differences(
            python=_unlike(self.python, other.python),
            platform=_unlike(self.platform, other.platform),
            prefix=_unlike(self.prefix, other.prefix),
            only_here={name: here[name] for name in sorted(here) if name not in there},
            only_there={name: there[name] for name in sorted(there) if name not in here},
            versions={
                name: (here[name], there[name]) for name in sorted(here) if here[name] != there.get(name, here[name])
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Every field, ``package_count`` and ``fingerprint``."""
        return {
            "host": self.host,
            "executor": self.executor,
            "pid": self.pid,
            "python": self.python,
            "prefix": self.prefix,
            "platform": self.platform,
            "site": self.site,
            "package_count": self.package_count,
            "fingerprint": self.fingerprint,
            "packages": dict(self.packages),
        }


@dataclass(frozen=True)
class Imported:
    """A module as one process has it."""

    version: str | None
    file: str | None
    package: str | None
    """The package of the wheelhouse that provides it."""
    error: str | None


class Wrong(NamedTuple):
    """What a process has instead of what the wheelhouse brings."""

    package: str
    expected: str
    found: str
    module: str = ""
    """The module that shows it; empty where it is no module's."""

    def __str__(self) -> str:
        return f"{self.package}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Process(Environment):
    """One Python process that the wheelhouse was activated in: the driver, or a worker."""

    digest: str | None
    unpacked: bool
    """Whether this process unpacked the wheels; all others on its node found them unpacked."""
    seconds: float
    """From before activation until the last import."""
    imported: Mapping[str, Imported] = field(repr=False)
    error: str | None
    """Why the wheelhouse could not be activated."""
    strangers: tuple[Mapping[str, str | None], ...]
    """Modules of the wheelhouse's packages that were imported from elsewhere before."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Process:
        """From what ``activation.prove`` answered."""
        kept = {each.name: facts[each.name] for each in fields(cls)}
        kept["imported"] = {name: Imported(**row) for name, row in facts["imported"].items()}
        kept["strangers"] = tuple(facts["strangers"])
        return cls(**kept)

    def wrong(self, digest: str, versions: Mapping[str, str]) -> Iterator[Wrong]:
        """Every difference from a wheelhouse of this digest and these versions by package."""
        if self.error:
            yield Wrong("the wheelhouse", "activated", self.error)
            return
        if self.digest != digest:
            yield Wrong("the wheelhouse", f"digest {digest}", f"digest {self.digest}")
        told = set()
        for row in self.strangers:
            package = str(row["package"])
            told.add(package)
            yield Wrong(
                package, versions[package], f"{row['version']}, imported before from {row['file']}", str(row["module"])
            )
        for name, module in self.imported.items():
            package = module.package or name
            expected = versions.get(package)
            if module.error:
                yield Wrong(package, expected or "importable", module.error, name)
            elif expected and module.version and not same_version(module.version, expected) and package not in told:
                yield Wrong(package, expected, f"{module.version} from {module.file}", name)

    def to_json(self) -> dict[str, Any]:
        """Every field, ``package_count`` and ``fingerprint``."""
        return {
            **super().to_json(),
            "digest": self.digest,
            "unpacked": self.unpacked,
            "seconds": self.seconds,
            "error": self.error,
            "imported": {name: vars(module).copy() for name, module in self.imported.items()},
            "strangers": [dict(row) for row in self.strangers],
        }


@dataclass(frozen=True)
class Differences:
    """What two processes do not have in common; true where there is anything.

    A pair is what is here and what is there, and None where both are the same.
    """

    python: tuple[str, str] | None
    platform: tuple[str, str] | None
    prefix: tuple[str, str] | None
    only_here: Mapping[str, str]
    """Version by name of the packages that only the first process has."""
    only_there: Mapping[str, str]
    versions: Mapping[str, tuple[str, str]]
    """Packages that both have, in different versions."""

    def __bool__(self) -> bool:
        return any((self.python, self.platform, self.prefix, self.only_here, self.only_there, self.versions))

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """What differs, its value here and its value there; ``-`` where a package is missing."""
        pairs = {"Python": self.python, "platform": self.platform, "prefix": self.prefix}
        packages = {
            **{name: (version, "-") for name, version in self.only_here.items()},
            **{name: ("-", version) for name, version in self.only_there.items()},
            **self.versions,
        }
        return [
            *((what, *pair) for what, pair in pairs.items() if pair),
            *((name, *packages[name]) for name in sorted(packages)),
        ]

    def to_json(self) -> dict[str, Any]:
        """``python``, ``platform``, ``prefix``, ``only_here``, ``only_there``, ``versions``."""
        pairs = {"python": self.python, "platform": self.platform, "prefix": self.prefix}
        return {
            **{what: _pair(pair) if pair else None for what, pair in pairs.items()},
            "only_here": dict(self.only_here),
            "only_there": dict(self.only_there),
            "versions": {name: _pair(pair) for name, pair in self.versions.items()},
        }

    def __str__(self) -> str:
        if not self:
            return "no difference"
        return table([("", "here", "there"), *(tuple(map(line, row)) for row in self.rows)])


@dataclass(frozen=True)
class Environments:
    """The processes of a session."""

    driver: Environment | None
    """None where it was left alone."""
    workers: Sequence[Environment]

    title: ClassVar[str] = "environments"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know before all else."""
        return ()

    def about(self) -> dict[str, str]:
        """What is true of all of it, by the word for it."""
        return {}

    def brought(self) -> Mapping[str, str]:
        """Version by name of what a wheelhouse brings to all of them."""
        return {}

    def wrong(self, process: Environment) -> tuple[Wrong, ...]:
        """What one of the processes has instead of what it should have."""
        del process
        return ()

    @property
    def processes(self) -> tuple[Environment, ...]:
        """The driver, where it is told of, and the workers."""
        return (self.driver, *self.workers) if self.driver else tuple(self.workers)

    @cached_property
    def alike(self) -> tuple[tuple[Environment, ...], ...]:
        """The processes by fingerprint: the largest group first, the driver's of equal ones."""
        return tuple(tuple(group) for _, group in grouped(self.processes, lambda process: process.fingerprint))

    @property
    def odd(self) -> tuple[Environment, ...]:
        """The processes whose packages are not those that most have; none where all are alike."""
        return tuple(process for group in self.alike[1:] for process in group)

    def name(self, process: Environment) -> str:
        """``driver``, ``executor 3``, or ``worker`` where there are no executors."""
        if process is self.driver:
            return "driver"
        return "worker" if process.executor == "driver" else f"executor {line(process.executor)}"

    def place(self, process: Environment) -> str:
        """The one process that it is: ``executor 3 on host-b, pid 4711``."""
        return f"{self.name(process)} on {line(process.host)}, pid {process.pid}"

    def who(self, members: Sequence[Environment]) -> str:
        """Some of the processes, as a person names them: ``driver and all 4 workers``."""
        workers = [process for process in members if process is not self.driver]
        names = [] if len(workers) == len(members) else ["driver"]
        if len(workers) == len(self.workers) > 0:
            names.append("the worker" if len(workers) == 1 else f"all {len(workers)} workers")
        elif len(workers) == 1:
            names.append(self.place(workers[0]))
        elif workers:
            hosts = dict.fromkeys(line(worker.host) for worker in workers)
            named = ", ".join(hosts) if len(hosts) <= _NAMED_HOSTS else counted(len(hosts), "host")
            names.append(f"{len(workers)} workers on {named}")
        return " and ".join(names)

    def to_json(self) -> dict[str, Any]:
        """``driver`` (null where it was left alone), ``workers``, and ``odd``: who differs from most, and in what."""
        return {
            "driver": self.driver.to_json() if self.driver else None,
            "workers": [worker.to_json() for worker in self.workers],
            "odd": [
                {
                    "process": self.name(process),
                    "host": process.host,
                    "pid": process.pid,
                    "differences": process.differences(self.alike[0][0]).to_json(),
                }
                for process in self.odd
            ],
        }

    def __repr__(self) -> str:
        workers = counted(len(self.workers), "worker")
        return f"<{type(self).__name__}: {f'driver and {workers}' if self.driver else workers}>"


def grouped(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> list[tuple[_Key, list[_Item]]]:
    """What has the same key, in its order; the largest group first, of equal ones that which began first."""
    groups: dict[_Key, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def _unlike(here: str, there: str) -> tuple[str, str] | None:
    return (here, there) if here != there else None


def _pair(pair: tuple[str, str]) -> dict[str, str]:
    return {"here": pair[0], "there": pair[1]}
