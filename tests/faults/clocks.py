"""Clocks that differ: of who uses a run path, of who removes one, and of the store; a clock that is set meanwhile."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import depload
from depload.errors import LeasedError
from depload.published import conversions, leases, runs
from depload.published.pruning import prune
from faults import ground, rows, sets, traps, witness
from faults.outcomes import LEFT, LOST, WRONG, Finding
from faults.processes import Paused, Running, forked
from faults.rows import Row, Single

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from random import Random

    from faults.ground import Ground
    from faults.processes import Ended
    from faults.sets import Set
    from faults.witness import Witness

_MINUTE, _HOUR = 60.0, 3600.0  # seconds
_AHEAD = (-60, -15, -5, -1, 0, 1, 5, 15, 60)
"""Minutes that a clock is ahead of the store's."""
_LEASES = (2, 14, 24, 26, 90)
"""Minutes since a lease was renewed."""
_COUNTS = 25
"""Minutes that it counts for: its length of 15, and two thirds more."""
_AGES = (23, 25)
"""Hours since anything of a run path was written, where what is older than a day goes."""
_BRIEF = 0.6  # seconds that a lease counts for where its renewal is waited for


class Clocks(Single):
    """Who uses a run path has one clock, who would remove it another; the store's is right."""

    def __init__(self, land: Ground, made: Set, watcher: Witness) -> None:
        self._ground, self._set, self._watcher = land, made, watcher
        self._template = land.scratch / "template"
        self._template.mkdir()
        ground.plant(self._template, land.scratch / "outside")
        self._other, self._run = (Path(self._published(self._template)).name for _ in range(2))
        self._scenes: dict[str, Callable[[Path, str, str, str], Iterator[Finding]]] = {
            "in-use": self._in_use,
            "clock-set": self._clock_set,
            "publishing": self._publishing,
            "converting": self._converting,
            "old": self._old,
        }

    def points(self, count: int, chance: Random) -> list[str]:
        """Everything with every pair of clocks; where fewer are asked for, of each as many as of the others."""
        kinds = {
            "in-use": [f"in-use-{minutes}" for minutes in _LEASES],
            "old": [f"old-{hours}" for hours in _AGES],
            **{name: [name] for name in ("clock-set", "publishing", "converting")},
        }
        pairs = [f"{mine}:{theirs}" for mine in _AHEAD for theirs in _AHEAD if mine or theirs]
        share = -(-count // len(kinds))
        found = [
            point
            for names in kinds.values()
            for point in rows.spread([f"{name}:{pair}" for name in names for pair in pairs], share, chance)
        ]
        return rows.spread(found, count, chance)

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Take the scene, with the clock of who uses it, and that of the others, so many minutes ahead."""
        what, mine, theirs = point.split(":")
        name, _, number = what.rpartition("-") if what.rpartition("-")[2].isdigit() else (what, "", "")
        base = self._ground.fresh(self._template)
        ground.age(base, [base / self._other, *(base / self._other).iterdir()])
        facts[name] += 1
        yield from self._scenes[name](base, number, mine, theirs)
        yield from ground.left_after_prune(base)
        if left := self._ground.left_in_temporary():
            yield Finding(LEFT, f"in the temporary directory: {', '.join(left)}")
        yield from self._watcher.told()[1]
        self._ground.put_away(base)

    # --- what there is ----------------------------------------------------------------------------------------------

    def _in_use(self, base: Path, minutes: str, mine: str, theirs: str) -> Iterator[Finding]:
        """A run path is loaded; its lease was renewed so long ago, by the store's clock."""
        with self._paused(mine, functools.partial(self._loads, base)) as user:
            for lease in (base / self._run).glob("lease-*"):
                os.utime(lease, (time.time() - int(minutes) * _MINUTE,) * 2)
            if int(minutes) < _COUNTS:
                yield from self._kept(base, theirs)
                yield from self._right(user.wait())
            else:
                yield from self._gone(base, theirs)
        yield from ground.findings(base, [str(base / self._other)])

    def _clock_set(self, base: Path, _: str, mine: str, theirs: str) -> Iterator[Finding]:
        """A run path is loaded, the clock is set meanwhile, and the lease is renewed."""
        with self._paused("0", functools.partial(self._loads, base, later=mine), brief=True) as user:
            yield from self._kept(base, theirs)
            yield from self._right(user.wait())
        yield from ground.findings(base, [str(base / self._other), str(base / self._run)])

    def _publishing(self, base: Path, _: str, mine: str, theirs: str) -> Iterator[Finding]:
        """All of a run path is written but the manifest."""
        before = {path.name for path in base.iterdir()}
        with self._paused(mine, functools.partial(self._publishes, base)) as user:
            (fresh,) = {path.name for path in base.iterdir()} - before
            yield from self._kept(base, theirs, fresh)
            ended = user.wait()
        if not ended.answer:
            yield Finding(WRONG, f"a publication beside them failed: {ended.error or ended.fault}")
        yield from ground.findings(base, [str(base / self._other), *([ended.answer] if ended.answer else [])])

    def _converting(self, base: Path, _: str, mine: str, theirs: str) -> Iterator[Finding]:
        """A source is being converted, and others want the same."""
        with self._paused(mine, functools.partial(self._converts, base)) as user:
            other = Running(
                functools.partial(self._at, theirs, functools.partial(self._converted, base, cache=True)), self._env
            )
            time.sleep(_BRIEF)
            both = (user.wait(), other.wait())
            other.end()
        for each in both:
            if not each.answer:
                yield Finding(WRONG, f"one of two conversions at once failed: {each.error or each.fault}")
        paths = [each.answer for each in both if each.answer]
        yield from ground.findings(base, [str(base / self._other), *paths])

    def _old(self, base: Path, hours: str, mine: str, theirs: str) -> Iterator[Finding]:
        """A run path that was published by one clock is pruned by another, an hour before its time or after."""
        path = Path(self._published(base, mine))
        for each in (path, *path.iterdir()):
            os.utime(each, (time.time() - int(hours) * _HOUR,) * 2)
        pruned = self._do(theirs, lambda: str(prune(base, older_than="1d")))
        if not pruned.answer:
            yield Finding(WRONG, f"prune: {pruned.error or pruned.fault}")
        young = int(hours) < 24
        if not young and path.exists():
            yield Finding(LEFT, f"a run path of {hours} hours was kept by a prune of what is older than a day")
        yield from ground.findings(base, [str(base / self._other), *([str(path)] if young else [])])

    # --- what the others meet ---------------------------------------------------------------------------------------

    def _kept(self, base: Path, theirs: str, name: str = "") -> Iterator[Finding]:
        """What is in use is refused by cleanup, and left alone by prune."""
        path = base / (name or self._run)
        for each in (base / self._other).iterdir():
            os.utime(each)
        pruned = self._do(theirs, lambda: str(prune(base, older_than="1m")))  # the lease is older than that
        if not pruned.answer:
            yield Finding(WRONG, f"prune: {pruned.error or pruned.fault}")
        if not path.exists():
            yield Finding(LOST, "prune took what is in use")
        cleaned = self._do(theirs, lambda: depload.cleanup(path).removed)
        if not cleaned.error.startswith(LeasedError.__name__):
            yield Finding(LOST, f"cleanup of what is in use: {cleaned.error or cleaned}")

    def _gone(self, base: Path, theirs: str) -> Iterator[Finding]:
        """What nobody has renewed for so long is removed."""
        cleaned = self._do(theirs, lambda: depload.cleanup(base / self._run).removed)
        if not cleaned.answer or (base / self._run).exists():
            yield Finding(LEFT, f"cleanup of what a dead process has leased: {cleaned.error or cleaned}")

    def _right(self, ended: Ended) -> Iterator[Finding]:
        if ended.answer != self._set.value:
            yield Finding(WRONG, f"who had it loaded got {ended.answer or ended.error or ended.fault}")

    # --- who does it ------------------------------------------------------------------------------------------------

    def _loads(self, base: Path, pause: Callable[[], None], later: str = "") -> str:
        with depload.load(base / self._run):
            if later:
                traps.set_clock(int(later) * _MINUTE)
                time.sleep(_BRIEF)
            pause()
            return sets.value()

    def _publishes(self, base: Path, pause: Callable[[], None]) -> str:
        traps.Pause(re.compile(rf"[^/]+/{runs.MANIFEST}"), pause).set()
        return self._converted(base)

    def _converts(self, base: Path, pause: Callable[[], None]) -> str:
        traps.Pause(re.compile(rf"{conversions.FOLDER}/[0-9a-f]+\.json"), pause).set()
        return self._converted(base, cache=True)

    def _converted(self, base: Path, *, cache: bool = False) -> str:
        options = self._set.options
        return depload.convert(self._set.source, base, options=options, cache=cache, compile=False).path

    def _paused(self, ahead: str, action: Callable[[Callable[[], None]], Any], *, brief: bool = False) -> Paused:
        def act(pause: Callable[[], None]) -> Any:
            traps.set_clock(int(ahead) * _MINUTE)
            return action(pause)

        return Paused(act, self._env | ({leases.LENGTH: str(_BRIEF)} if brief else {}))

    def _do(self, ahead: str, action: Callable[[], Any]) -> Ended:
        return forked(functools.partial(self._at, ahead, action), self._env)

    def _at(self, ahead: str, action: Callable[[], Any]) -> Any:
        traps.set_clock(int(ahead) * _MINUTE)
        return action()

    def _published(self, base: Path, ahead: str = "0") -> str:
        ended = self._do(ahead, functools.partial(self._converted, base))
        if not ended.answer:
            raise RuntimeError(f"what is needed first could not be had: {ended.error or ended}")
        return str(ended.answer)

    @property
    def _env(self) -> dict[str, str]:
        return self._ground.environment


@contextlib.contextmanager
def _ready(scratch: Path) -> Iterator[Clocks]:
    ground.hurry()
    land = ground.Ground(scratch / "clocks")
    made = sets.make(land.scratch / "set", 1)
    with witness.watching(land.bases) as watcher:
        yield Clocks(land, made, watcher)


ROWS = (Row("clocks-differ", "clocks of users, removers and the store that differ by up to an hour", 200, _ready),)
