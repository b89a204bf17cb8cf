"""The programs that a conversion starts are killed: the resolver, the compiler."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from faults import actions, ground
from faults.processes import Running
from faults.rows import Row, Single

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from random import Random

    from faults.actions import Action, Field
    from faults.outcomes import Finding

_LONGEST = 0.05  # seconds until a program is killed that was started


class Tools(Single):
    """A conversion whose programs die."""

    def __init__(self, field: Field, action: Action) -> None:
        self._field, self._action = field, action

    def points(self, count: int, chance: Random) -> list[str]:
        """Each program in turn, at random times of its life."""
        most = self._started()
        return [f"{at % most + 1}:{chance.random() ** 2 * _LONGEST:.4f}" for at in range(count)]

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Kill the program with this number, so long after it was started; nothing is known from before."""
        number, delay = point.split(":")
        self._forget()
        case = self._action.case("fresh")
        running = Running(functools.partial(self._action.run, case), case.environment)
        killed = self._kill(running, int(number), float(delay))
        ended = running.wait()
        running.end()
        outcome = "succeeded all the same" if ended.answer else "failed with an error of depload"
        facts[f"killed, and it {outcome}" if killed else "the program had ended"] += 1
        yield from self._field.settled(self._action, case, facts, ended)

    def _kill(self, running: Running, number: int, delay: float) -> bool:
        seen: set[int] = set()
        while running.lives():
            seen |= set(_children(running.pid))
            if len(seen) >= number:
                time.sleep(delay)
                target = sorted(seen)[number - 1]
                if target in _children(running.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(target, signal.SIGKILL)
                        return True
                return False
            time.sleep(0.0005)
        return False

    def _started(self) -> int:
        """How many programs there are."""
        self._forget()
        case = self._action.case("fresh")
        running = Running(functools.partial(self._action.run, case), case.environment)
        seen: set[int] = set()
        while running.lives():
            seen |= set(_children(running.pid))
            time.sleep(0.0005)
        running.wait()
        self._field.ground.put_away(case.base)
        self._field.ground.left_in_temporary()
        return max(1, len(seen))

    def _forget(self) -> None:
        for path in self._field.ground.kept.iterdir():
            ground.remove(path)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


@contextlib.contextmanager
def _ready(scratch: Path) -> Iterator[Tools]:
    with actions.field(["convert"], scratch) as field:
        yield Tools(field, field.actions["convert"])


ROWS = (Row("kill-tools", "SIGKILL of the resolver and the compiler that convert has started", 60, _ready),)
