"""How the processes of one session differ from those of another, or of the same one at another time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depload.reporting.environments import Differences, grouped
from depload.reporting.plain import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from depload.reporting.environments import Environment, Environments

_Group = list["Environment"]


@dataclass(frozen=True)
class Pair:
    """Processes of one side that are alike, beside those of the other side that are most like them."""

    here: str | None
    """Who they are; None where this side has none to compare."""
    there: str | None
    packages: int
    """How many packages are importable in them, here where there are any."""
    differences: Differences | None
    """None where one side has none."""

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return self.differences is None or bool(self.differences)

    def to_json(self) -> dict[str, Any]:
        """``here``, ``there``, ``same`` and ``differences``."""
        differences = self.differences.to_json() if self.differences else None
        return {"here": self.here, "there": self.there, "same": not self, "differences": differences}

    def __str__(self) -> str:
        who = self.here if self.here == self.there else f"{self.here} here, {self.there} there"
        if self.differences is None:
            return f"{self.here or self.there}: only {'here' if self.here else 'there'}"
        if not self.differences:
            return f"{who}: no difference in {counted(self.packages, 'package')}, Python, platform or prefix"
        return f"{who}: {counted(len(self.differences.rows), 'difference')}\n{self.differences}"


@dataclass(frozen=True)
class Comparison:
    """What two sides do not have in common; true where there is anything."""

    pairs: tuple[Pair, ...]

    def __bool__(self) -> bool:
        return any(self.pairs)

    def to_json(self) -> dict[str, Any]:
        """``same``, and ``pairs`` of processes with their ``differences``."""
        return {"same": not self, "pairs": [pair.to_json() for pair in self.pairs]}

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.pairs))


def compare(here: Environments, there: Environments) -> Comparison:
    """The driver beside the driver, and workers beside workers, whatever their hosts and their number.

    Workers that are alike count as one; each kind of them stands beside the same kind of the other side, else beside
    the one from which it differs in least.
    """
    driver = _pair(here, there, [here.driver] if here.driver else [], [there.driver] if there.driver else [])
    return Comparison((*driver, *_workers(here, there)))


def _workers(here: Environments, there: Environments) -> Iterator[Pair]:
    ours, theirs = _kinds(here), _kinds(there)
    taken: set[tuple[str, ...]] = set()
    for kind, group in ours.items():
        nearest = kind if kind in theirs else _nearest(group, theirs)
        taken.add(nearest)
        yield from _pair(here, there, group, theirs.get(nearest, []))
    for kind, group in theirs.items():
        if kind not in taken:
            yield from _pair(here, there, ours.get(_nearest(group, ours), []), group)


def _kinds(shown: Environments) -> dict[tuple[str, ...], _Group]:
    """The workers by all that is compared, the largest group first."""
    return dict(
        grouped(shown.workers, lambda worker: (worker.fingerprint, worker.python, worker.platform, worker.prefix))
    )


def _nearest(group: _Group, others: dict[tuple[str, ...], _Group]) -> tuple[str, ...]:
    """The kind with the fewest differences; none of none."""
    return min(others, key=lambda kind: len(group[0].differences(others[kind][0]).rows), default=())


def _pair(here: Environments, there: Environments, ours: _Group, theirs: _Group) -> Iterator[Pair]:
    if ours or theirs:
        yield Pair(
            here.who(ours) or None,
            there.who(theirs) or None,
            (ours or theirs)[0].package_count,
            ours[0].differences(theirs[0]) if ours and theirs else None,
        )
