"""A store that fails, is slow, gives few bytes at a time, ends early or gives wrong ones, at each operation."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from faults import actions, rows, traps
from faults.outcomes import WRONG, Finding
from faults.processes import forked
from faults.rows import Row, Single

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from faults.actions import Action, Case, Field

EVERY_ONE = 0
_HARMLESS = (traps.SLOW, traps.TRICKLE)
"""What must not even make it fail."""
_ALTERING = (traps.CUT, traps.FLIP)


class Unreliable(Single):
    """All actions with a store that does one of these things."""

    def __init__(self, field: Field, effect: str) -> None:
        self._field, self._effect = field, effect

    def points(self, count: int, chance: Random) -> list[str]:
        """At every operation that it can happen to, one at a time; and at all of them where it is harmless."""
        found = []
        for name, action in self._field.actions.items():
            for variant in action.variants:
                names = self._field.measured(action, variant, functools.partial(_operations, action))
                moments = [
                    f"{number}:{each}" for number, operation in enumerate(names, 1) for each in self._at(operation)
                ]
                every = [f"{EVERY_ONE}:{traps.BEFORE}"] if self._effect in _HARMLESS else []
                found += [f"{name}:{variant}:{moment}" for moment in (*every, *moments)]
        return rows.spread(found, count, chance)

    def _at(self, operation: str) -> tuple[str, ...]:
        if self._effect == traps.FAIL:
            moments = (traps.BEFORE, traps.HALF, traps.AFTER)
            return moments if operation in traps.CHANGING else moments[:1]
        reads = operation == "open"
        if self._effect == traps.TRICKLE:
            return (traps.BEFORE,) if reads else ()
        if self._effect == traps.SLOW:
            return (traps.BEFORE,)
        return (traps.BEFORE,) if reads or operation in traps.WRITING else ()

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Do it with the store failing there."""
        name, variant, number, moment = point.split(":")
        action = self._field.actions[name]
        case = action.case(variant)
        trap = traps.Trap(self._effect, int(number), moment)
        ended = forked(functools.partial(_do, action, case, trap), case.environment)
        facts["succeeded all the same" if ended.answer else "failed with an error of depload"] += 1
        if self._effect in _HARMLESS and not ended.answer:
            yield Finding(WRONG, f"it failed, and nothing was wrong with the data: {ended.error}")
        yield from self._field.settled(action, case, facts, ended)


def _operations(action: Action, case: Case) -> list[str]:
    names = traps.operations()
    action.run(case)
    return list(names)


def _do(action: Action, case: Case, trap: traps.Trap) -> Any:
    trap.set()
    return action.run(case)


@contextlib.contextmanager
def _ready(effect: str, scratch: Path) -> Iterator[Unreliable]:
    with actions.field(list(actions.MAKERS), scratch, altering=effect in _ALTERING) as field:
        yield Unreliable(field, effect)


ROWS = tuple(
    Row(name, what, times, functools.partial(_ready, effect))
    for name, effect, what, times in (
        ("store-fails", traps.FAIL, "an operation of the store fails, before, half way or after", 200),
        ("store-slow", traps.SLOW, "the store takes longer, once or always", 50),
        ("store-short-reads", traps.TRICKLE, "the store gives a few bytes at a time", 50),
        ("store-ends-early", traps.CUT, "the store gives, or keeps, half of a file and says nothing", 100),
        ("store-wrong-bytes", traps.FLIP, "the store gives, or keeps, a file with a wrong bit", 100),
    )
)
