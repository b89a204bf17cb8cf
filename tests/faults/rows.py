"""A row of the table: what is done, at which points, and doing it at each."""

from __future__ import annotations

import random
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from faults.outcomes import WRONG, Finding, Outcome

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from random import Random


class Scene(Protocol):
    """Everything that a row needs, set up."""

    def points(self, count: int, chance: Random) -> Sequence[str]:
        """So many points, or as many as there are; the same ones for the same seed, as far as clocks allow."""

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Do it at a point: what should not be, and in ``facts`` what happened."""

    def count(self, point: str) -> int:
        """How often it is done at that point."""

    def end(self) -> Iterator[Finding]:
        """What should not be after the last point."""


class Single:
    """A scene in which it is done once at each point, and put away."""

    def count(self, point: str) -> int:
        """Once."""
        del point
        return 1

    def end(self) -> Iterator[Finding]:
        """Nothing."""
        return iter(())


@dataclass(frozen=True)
class Row:
    """What is done; a process is forked for each row."""

    name: str
    what: str
    times: int
    """How often, if nobody says."""
    ready: Callable[[Path], AbstractContextManager[Scene]]
    """Sets it up in a directory."""


def run(row: Row, scratch: Path, seed: int, times: int, point: str, say: Callable[[str], None]) -> Outcome:
    """All points of a row, or the one that is named."""
    outcome = Outcome(row.name, row.what, seed)
    started = time.monotonic()
    with row.ready(scratch) as scene:
        points = [point] if point else scene.points(min(times, row.times), random.Random(f"{seed} {row.name}"))
        for each in points:
            found = _taken(scene, each, outcome.facts)
            outcome.findings += [(each, finding) for finding in found]
            outcome.times += scene.count(each)
            for finding in found:
                say(f"{row.name} at {each}: {finding.kind}: {finding.told}")
        outcome.findings += [("", finding) for finding in scene.end()]
    outcome.seconds = time.monotonic() - started
    return outcome


def _taken(scene: Scene, point: str, facts: Counter[str]) -> list[Finding]:
    """What is found at a point; an error of this harness is a finding, and the other points are taken all the same."""
    found: list[Finding] = []
    try:
        found.extend(scene.take(point, facts))
    except Exception:  # noqa: BLE001 - whatever it is, it is told
        found.append(Finding(WRONG, f"the harness itself: {traceback.format_exc()[-2000:]}"))
    return found


def spread(points: Sequence[str], count: int, chance: Random) -> list[str]:
    """So many of the points, in order: all where they are fewer, and otherwise by chance."""
    if len(points) <= count:
        return list(points)
    chosen = sorted(chance.sample(range(len(points)), count))
    return [points[at] for at in chosen]
