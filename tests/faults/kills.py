"""SIGKILL: at every operation of the store, at every file of a site, and at random times."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

from faults import actions, rows, traps
from faults.outcomes import WRONG, Finding
from faults.processes import Running
from faults.rows import Row, Single

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from faults.actions import Action, Case, Field
    from faults.processes import Ended

_BESIDE = "+"  # at the end of a point: another process does the same at the same time, and nobody kills that
_TRIES = 6  # until a random time is one before the end
_SOONER = 0.7
TIMES = 200
"""How often, at least."""


class Kills(Single):
    """An action that is killed."""

    def __init__(self, field: Field, action: Action) -> None:
        self._field, self._action = field, action
        self._spans = {variant: self._span(variant) for variant in action.variants}

    def points(self, count: int, chance: Random) -> list[str]:
        """Half of them at operations and files, as far as there are so many; the others at random times.

        Where all are asked for, every operation of the store is among them, however many that makes.
        """
        operations = [point for variant in self._action.variants for point in self._operations(variant)]
        half = (count + 1) // 2
        if count >= TIMES:
            chosen = [point for point in operations if ":store:" in point]
            files = [point for point in operations if point not in chosen]
            chosen += rows.spread(files, max(0, half - len(chosen)), chance)
        else:
            chosen = rows.spread(operations, half, chance)
        for _ in range(max(count - len(chosen), count - half)):
            chosen.append(f"{chance.choice(self._action.variants)}:time:{chance.random():.4f}")
        return [point + _BESIDE * (at % 2) for at, point in enumerate(chosen)]

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Kill it there."""
        variant, how, *where = point.removesuffix(_BESIDE).split(":")
        case, ended, beside = self._killed(variant, how, where, together=point.endswith(_BESIDE))
        facts[f"killed at {_HOW[how]}" if ended.killed else "not killed, it was done"] += 1
        if beside and not beside.answer:
            yield Finding(WRONG, f"another process that did the same at that time failed: {beside.error or beside}")
        yield from self._field.settled(self._action, case, facts, ended, *([beside] if beside else []))

    def _killed(self, variant: str, how: str, where: list[str], *, together: bool) -> tuple[Case, Ended, Ended | None]:
        """Try until it is killed: sooner each time, and in the end alone, as the other one may be quicker."""
        for attempt in range(_TRIES):
            case = self._action.case(variant)
            after = float(where[0]) * self._spans[variant] * _SOONER**attempt if how == "time" else 0.0
            before = functools.partial(_set, how, where, after, case)
            running = Running(functools.partial(_do, self._action, case, before), case.environment)
            other = together and attempt < _TRIES // 2
            beside = Running(functools.partial(self._action.run, case), case.environment) if other else None
            ended = running.wait()
            beside_ended = beside.wait() if beside else None
            for each in filter(None, (running, beside)):
                each.end()
            if ended.killed or attempt == _TRIES - 1:
                break
            self._field.ground.put_away(case.base)
        return case, ended, beside_ended

    def _span(self, variant: str) -> float:
        """The shortest time that it takes."""
        return min(float(self._field.measured(self._action, variant, self._timed)) for _ in range(3))

    def _operations(self, variant: str) -> list[str]:
        names, files = self._field.measured(self._action, variant, self._counted)
        return [
            *(
                f"{variant}:store:{number}:{moment}"
                for number, name in enumerate(names, 1)
                for moment in ((traps.BEFORE, traps.HALF, traps.AFTER) if name in traps.CHANGING else (traps.BEFORE,))
            ),
            *(f"{variant}:site:{number}" for number in range(1, files + 1)),
        ]

    def _timed(self, case: Case) -> float:
        started = time.monotonic()
        self._action.run(case)
        return time.monotonic() - started

    def _counted(self, case: Case) -> tuple[list[str], int]:
        names = traps.operations()
        files = traps.file_operations(case.environment["DEPLOAD_SITES"])
        self._action.run(case)
        return list(names), len(files)


_HOW = {"time": "a random time", "store": "an operation of the store", "site": "a file of the site"}


def _set(how: str, where: list[str], after: float, case: Case) -> None:
    if how == "time":
        traps.die_after(after)
    if how == "store":
        traps.Trap(traps.KILL, int(where[0]), where[1]).set()
    if how == "site":
        traps.SiteTrap(int(where[0]), case.environment["DEPLOAD_SITES"]).set()


def _do(action: Action, case: Case, before: Any) -> Any:
    before()
    return action.run(case)


@contextlib.contextmanager
def _ready(name: str, scratch: Path) -> Iterator[Kills]:
    with actions.field([name], scratch) as field:
        yield Kills(field, field.actions[name])


ROWS = tuple(
    Row(f"kill-{name}", f"SIGKILL in the middle of {what}", TIMES, functools.partial(_ready, name))
    for name, what in (
        ("convert", "convert"),
        ("load", "load, driver only"),
        ("cleanup", "cleanup"),
        ("prune", "prune"),
    )
)
