"""What it costs to start."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring import PYTHON, Ground, Series, Way, in_turns, timed
from benchmarks.results import Plan

if TYPE_CHECKING:
    from benchmarks.sets import Set

PART = "start"
EXPLAINED = "\nThe whole process, from its start to its end.\n"
_COMMANDS = {
    "python -c pass": f"{PYTHON} -c pass",
    "python -c 'import depload'": f"{PYTHON} -c 'import depload'",
    "depload --help": f"{Path(PYTHON).with_name('depload')} --help",
}


def plans(sets: list[Set]) -> list[Plan]:
    del sets
    return [Plan(PART, "", "", _plan)]


def _plan(runs: int, ground: Ground) -> dict[str, Series]:
    scratch = ground.fresh("start")
    ways = [Way(name, functools.partial(timed, command, scratch)) for name, command in _COMMANDS.items()]
    return in_turns(ways, max(runs, 10))
