"""Many at once on one base: conversions, loads, and loads beside a prune that never ends."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import os
import select
import time
from typing import TYPE_CHECKING, Any

import depload
from depload.errors import NotAWheelhouseError
from depload.published.bases import Rules
from depload.published.pruning import pruned
from depload.stores.directory import DirectoryStore
from faults import ground, sets, witness
from faults.outcomes import LOST, WRONG, Finding
from faults.processes import Running, forked
from faults.rows import Row

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from random import Random

    from faults.ground import Ground
    from faults.processes import Ended
    from faults.sets import Set
    from faults.witness import Witness

SETS = 20
_ALL, _WAVE = 200, 16
"""Processes at once; fewer where each of them stays for seconds."""
_PATIENCE = 600.0  # seconds that a process may take beside so many others
_SOON = 2.0  # seconds after which a run path is old for the prune that never ends
_HOLD = 3.0  # seconds that it is in use


class Crowd:
    """Waves of processes that do the same with differing sets, on one base and with one directory of sites."""

    def __init__(self, land: Ground, made: Sequence[Set], watcher: Witness, do: str, wave: int) -> None:
        self._ground, self._sets, self._watcher, self._wave = land, made, watcher, wave
        template = land.scratch / "template"
        template.mkdir()
        ground.plant(template, land.scratch / "outside")
        self._base = land.fresh(template)
        self._do: Callable[[int], Any] = {"convert": self._convert, "load": self._load, "use": self._use}[do]
        self._pruning = do == "use"
        self._digests: dict[int, str] = {}
        self._paths: dict[int, str] = {}
        self._converted: list[str] = []
        if do == "load":
            for at, each in enumerate(made):
                self._paths[at], self._digests[at] = forked(functools.partial(self._published, each), self._env).answer

    def points(self, count: int, chance: Random) -> list[str]:
        """Waves: the numbers of the sets, each as often as the others."""
        numbers = [at % SETS for at in range(count)]
        chance.shuffle(numbers)
        waves = [numbers[start : start + self._wave] for start in range(0, count, self._wave)]
        return [",".join(map(str, wave)) for wave in waves]

    def count(self, point: str) -> int:
        """As many as there are processes."""
        return len(point.split(","))

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """One wave."""
        numbers = list(map(int, point.split(",")))
        began, start = os.pipe()
        running = [Running(functools.partial(self._when_told, began, start, number), self._env) for number in numbers]
        over, end = os.pipe()
        pruner = Running(functools.partial(self._prune, (began, start), (over, end)), self._env)
        for descriptor in (start, began, over):
            os.close(descriptor)
        for number, each in zip(numbers, running, strict=True):
            ended = each.wait(_PATIENCE)
            each.end()
            if ended.fault or ended.told:
                yield Finding(WRONG, f"set {number}: {ended.error or ended.fault}")
            else:
                yield from self._checked(number, ended.answer, facts)
        os.close(end)
        yield from self._pruned(pruner.wait(_PATIENCE), facts)
        yield from ground.findings(self._base, [*self._paths.values(), *self._converted])
        seen, findings = self._watcher.told()
        facts.update(seen)
        yield from findings

    @property
    def _env(self) -> dict[str, str]:
        return self._ground.environment

    def _pruned(self, ended: Ended, facts: Counter[str]) -> Iterator[Finding]:
        if ended.answer is None:
            yield Finding(WRONG, f"prune beside them: {ended.error or ended.fault}")
        elif self._pruning:
            facts["prunes meanwhile"] += ended.answer

    def _when_told(self, began: int, start: int, number: int) -> Any:
        """All begin when the last one is there: when nobody holds the other end of the pipe any more."""
        os.close(start)
        os.read(began, 1)
        return self._do(number)

    def _checked(self, number: int, answer: dict[str, str], facts: Counter[str]) -> Iterator[Finding]:
        facts[answer["how"]] += 1
        self._converted += [answer["path"]] if "path" in answer else []
        if "value" in answer and answer["value"] != self._sets[number].value:
            yield Finding(WRONG, f"set {number}: another module was loaded: {answer['value']}")
        if "digest" in answer and answer["digest"] != self._digests.setdefault(number, answer["digest"]):
            yield Finding(WRONG, f"set {number}: digest {answer['digest']}, expected {self._digests[number]}")
        if "lost" in answer:
            yield Finding(LOST, f"set {number}: {answer['lost']}")

    def _published(self, one: Set) -> tuple[str, str]:
        converted = depload.convert(one.source, self._base, options=one.options)
        return converted.path, converted.digest

    def _convert(self, number: int) -> dict[str, str]:
        one = self._sets[number]
        converted = depload.convert(one.source, self._base, options=one.options)
        depload.verify(converted.path)
        with depload.load(converted.path):
            how = "answered from the base" if converted.reused else "converted anew"
            return {"path": converted.path, "digest": converted.digest, "value": sets.value(), "how": how}

    def _load(self, number: int) -> dict[str, str]:
        with depload.load(self._paths[number]) as loaded:
            process = loaded.report.driver
            how = "unpacked it" if process and process.unpacked else "found it unpacked"
            answer = {"digest": loaded.digest, "value": sets.value(), "how": how}
        depload.verify(self._paths[number])
        return answer

    def _use(self, number: int) -> dict[str, str]:
        """Convert, load, and use it for longer than it takes to be old, while others prune."""
        path, digest = self._published(self._sets[number])
        try:
            loaded = depload.load(path)
        except NotAWheelhouseError:  # gone, or not whole any more
            return {"digest": digest, "how": "pruned before it was loaded"}
        with loaded:
            time.sleep(_HOLD)
            answer = {"digest": digest, "value": sets.value(), "how": "kept while it was in use"}
            try:
                depload.verify(path)
            except depload.DeploadError as error:
                answer["lost"] = f"pruned while it was in use: {error}"
        return answer

    def _prune(self, first: tuple[int, int], last: tuple[int, int]) -> int:
        """As if clocks ran a day in two seconds, until all are done; how often. Nothing else about it is different."""
        (began, start), (over, end) = first, last
        os.close(start)
        os.close(end)
        os.read(began, 1)
        span, count = dt.timedelta(seconds=_SOON), 0
        while self._pruning and not select.select([over], [], [], 0)[0]:
            pruned(DirectoryStore(str(self._base)), Rules(span, young=span))
            count += 1
        return count

    def end(self) -> Iterator[Finding]:
        """What is wrong after the last wave."""
        yield from ground.left_after_prune(self._base)


@contextlib.contextmanager
def _ready(do: str, wave: int, scratch: Path) -> Iterator[Crowd]:
    land = ground.Ground(scratch / do)
    made = [sets.make(land.scratch / f"set-{number}", number) for number in range(1, SETS + 1)]
    with witness.watching(land.bases) as watcher:
        yield Crowd(land, made, watcher, do, wave)


ROWS = tuple(
    Row(name, what, 200, functools.partial(_ready, do, wave))
    for name, do, wave, what in (
        ("crowd-convert", "convert", _ALL, f"conversions, {_ALL} processes at once, {SETS} sets, one base"),
        ("crowd-load", "load", _ALL, f"loads, {_ALL} processes at once, {SETS} sets, one base, one node"),
        ("crowd-prune", "use", _WAVE, f"convert, load and use, {_WAVE} at once, beside a prune that never ends"),
    )
)
