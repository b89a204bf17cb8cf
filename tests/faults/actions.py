"""What is done while something goes wrong: convert, load, cleanup, prune; and what must be true of each afterwards."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import depload
from depload.errors import LeasedError
from depload.published import leases, runs
from depload.published.pruning import prune
from depload.travels.activation.sites import remove_sites
from faults import ground, sets, witness
from faults.outcomes import LEFT, WRONG, Finding
from faults.processes import Ended, forked

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from faults.ground import Ground
    from faults.sets import Set
    from faults.witness import Witness


_VARIANT = "FAULTS_VARIANT"


@dataclass(frozen=True)
class Case:
    """One time that it is done: where, and what is known before."""

    base: Path
    environment: Mapping[str, str]
    complete: tuple[str, ...]
    """Run paths that must stay."""
    target: str = ""
    """The run path that it is done to."""


class Action(Protocol):
    """Something that depload does with a base."""

    @property
    def variants(self) -> tuple[str, ...]:
        """The states that a base is in when it begins."""

    def case(self, variant: str) -> Case:
        """A fresh base."""

    def run(self, case: Case) -> Any:
        """Do it, in the process that calls; the answer is plain data."""

    def after(self, case: Case, done: Sequence[Ended]) -> Iterator[Finding]:
        """What is wrong after it has come to these ends, the last of which is that of the second try."""


def checked(action: Action, case: Case, done: Sequence[Ended]) -> Iterator[Finding]:
    """Everything that must be true after it was done once, or beside each other, the second try and prune included."""
    for ended in done:
        if ended.fault:
            yield Finding(WRONG, f"no error of depload's: {ended.fault}")
    yield from ground.findings(case.base, case.complete)
    again = forked(lambda: action.run(case), case.environment)
    if again.error or again.hung:
        yield Finding(WRONG, f"the second try failed: {again.error or again.fault}")
    yield from action.after(case, [*done, again])
    yield from ground.left_after_prune(case.base)


class Convert:
    """A conversion: the first one of its base (``fresh``), or one that an earlier one answers (``reused``)."""

    variants = ("fresh", "reused")

    def __init__(self, land: Ground, made: Set, *, compile: bool = True) -> None:  # noqa: A002 - as depload calls it
        self._ground, self._set, self._compile = land, made, compile
        self._templates = {name: _template(land, f"convert-{name}") for name in self.variants}
        self._bystander = Path(_made(land, made, self._templates["fresh"], cache=False)).name
        _made(land, made, self._templates["reused"], cache=True, compile=compile)
        self._other = next(path.name for path in self._templates["reused"].iterdir() if _is_run(path))
        self.digest = _answer(forked(lambda: self._convert(self._templates["reused"]), land.environment))["digest"]

    def case(self, variant: str) -> Case:
        base = self._ground.fresh(self._templates[variant])
        kept = self._bystander if variant == "fresh" else self._other
        return Case(base, self._ground.environment, (str(base / kept),))

    def run(self, case: Case) -> dict[str, Any]:
        return self._convert(case.base)

    def _convert(self, base: Path) -> dict[str, Any]:
        converted = depload.convert(self._set.source, base, options=self._set.options, compile=self._compile)
        return {"path": converted.path, "digest": converted.digest, "reused": converted.reused}

    def after(self, case: Case, done: Sequence[Ended]) -> Iterator[Finding]:
        complete = [*case.complete]
        for each in done:
            if each.answer:
                complete.append(each.answer["path"])
                if each.answer["digest"] != self.digest:
                    yield Finding(WRONG, f"another digest: {each.answer['digest']}, expected {self.digest}")
        third = forked(lambda: self.run(case), case.environment)
        if not third.answer or not third.answer["reused"]:
            yield Finding(WRONG, f"the third conversion was not answered from the base: {third.answer or third.error}")
        yield from ground.findings(case.base, complete)


class Load:
    """Loading into a process, without Spark; the node has nothing of it unpacked."""

    variants = ("cold",)

    def __init__(self, land: Ground, made: Set) -> None:
        self._ground, self._set = land, made
        self._template = _template(land, "load")
        self._run = Path(_made(land, made, self._template, cache=False)).name

    def case(self, variant: str) -> Case:
        del variant
        base = self._ground.fresh(self._template)
        sites = {"DEPLOAD_SITES": str(self._ground.sites / base.name)}
        target = str(base / self._run)
        return Case(base, {**self._ground.environment, **sites}, (target,), target)

    def run(self, case: Case) -> str:
        with depload.load(case.target):
            return sets.value()

    def after(self, case: Case, done: Sequence[Ended]) -> Iterator[Finding]:
        for each in done:
            if each.answer and each.answer != self._set.value:
                yield Finding(WRONG, f"another module was loaded: {each.answer}, expected {self._set.value}")
        yield from ground.findings(case.base, case.complete)
        sites = Path(case.environment["DEPLOAD_SITES"], "sites")
        remove_sites(str(sites), 0, 0)
        if left := sorted(path.name for path in sites.iterdir()):
            yield Finding(LEFT, f"on the node, after all sites were removed: {', '.join(left)}")
        ground.remove(sites.parent)


class Cleanup:
    """Removing a run path: one that a dead process has leased until a while ago, one in use, all the same or not."""

    variants = ("refuse", "remove", "in-use")

    def __init__(self, land: Ground, made: Set) -> None:
        self._ground = land
        self._template = _template(land, "cleanup")
        self._other, self._run = (Path(_made(land, made, self._template, cache=False)).name for _ in range(2))
        _lease(self._template / self._run)

    def case(self, variant: str) -> Case:
        base = self._ground.fresh(self._template)
        other, target = str(base / self._other), str(base / self._run)
        if variant == "refuse":
            ground.age(base / self._run)
        complete = (other, target) if variant == "in-use" else (other,)
        return Case(base, {**self._ground.environment, _VARIANT: variant}, complete, target)

    def run(self, case: Case) -> str:
        all_the_same = case.environment[_VARIANT] == "remove"
        try:
            depload.cleanup(case.target, leased="remove" if all_the_same else "refuse")
        except LeasedError:
            if case.target not in case.complete:
                raise
            return "refused"
        return "removed"

    def after(self, case: Case, done: Sequence[Ended]) -> Iterator[Finding]:
        if case.target in case.complete and "removed" in {each.answer for each in done}:
            yield Finding(WRONG, "a cleanup that is to refuse what is in use says that it was removed")
        if case.target not in case.complete and os.path.lexists(case.target):
            yield Finding(LEFT, f"after a second cleanup: {', '.join(map(str, Path(case.target).iterdir()))}")
        yield from ground.findings(case.base, case.complete)


class Prune:
    """Pruning a base with all there is: old and young run paths, leased ones, what crashed runs left, the caches."""

    variants = ("full",)

    def __init__(self, land: Ground, made: Set) -> None:
        self._ground = land
        self._template = base = _template(land, "prune")
        old = [Path(_made(land, made, base, cache=True)) for _ in range(3)]
        young, leased, crashed, folder = (Path(_made(land, made, base, cache=False)) for _ in range(4))
        job = base / "job-12.process_dependencies.0123456789abcdef"
        job.mkdir()
        folder.rename(job / folder.name)
        (crashed / runs.MANIFEST).unlink()
        _lease(leased)
        self._kept = (young.name, leased.name)
        self._gone = (*(path.name for path in old), crashed.name, f"{job.name}/{folder.name}")

    def case(self, variant: str) -> Case:
        del variant
        base = self._ground.fresh(self._template)
        ground.age(
            base, [base / self._kept[0], *(base / self._kept[0]).iterdir(), *(base / self._kept[1]).glob("lease-*")]
        )
        return Case(base, self._ground.environment, tuple(str(base / name) for name in self._kept))

    def run(self, case: Case) -> dict[str, Any]:
        return {"pruned": str(prune(case.base, older_than="1d"))}

    def after(self, case: Case, done: Sequence[Ended]) -> Iterator[Finding]:
        del done
        yield from ground.findings(case.base, case.complete)
        for name in self._gone:  # but for what the first one has written to: that is young again
            path = case.base / name
            if path.exists() and not any(map(_is_young, (path, *path.iterdir()))):
                yield Finding(LEFT, f"after a second prune: {name}")


def _is_young(path: Path) -> bool:
    return time.time() - path.stat().st_mtime < 3600


def _template(land: Ground, name: str) -> Path:
    base = land.scratch / "templates" / name
    base.mkdir(parents=True)
    ground.plant(base, land.scratch / "outside")
    return base


def _is_run(path: Path) -> bool:
    return runs.is_run_name(path.name) and (path / runs.MANIFEST).is_file()


def _made(land: Ground, made: Set, base: Path, *, cache: bool, compile: bool = True) -> str:  # noqa: A002
    """A run path, completed in advance."""

    def convert() -> str:
        return depload.convert(made.source, base, options=made.options, cache=cache, compile=compile).path

    return str(_answer(forked(convert, land.environment)))


def _answer(ended: Ended) -> Any:
    if not ended.answer:
        raise RuntimeError(f"what is needed first could not be had: {ended.error or ended}")
    return ended.answer


def _lease(run: Path) -> None:
    """As a process leaves it that was killed while it had this run path loaded."""
    (run / leases.fresh_name()).write_bytes(leases.content("load"))


MAKERS: dict[str, Callable[[Ground, Set], Action]] = {
    "convert": Convert,
    "load": Load,
    "cleanup": Cleanup,
    "prune": Prune,
}


@dataclass(frozen=True)
class Field:
    """Where actions take place, watched by a reader."""

    ground: Ground
    actions: Mapping[str, Action]
    watcher: Witness

    def settled(self, action: Action, case: Case, facts: Counter[str], *done: Ended) -> Iterator[Finding]:
        """What is wrong after it was done once, or beside each other; then it is put away."""
        yield from checked(action, case, done)
        places = {"temporary directory": self.ground.left_in_temporary(), "cache": self.ground.left_in_cache()}
        for place, left in places.items():
            if left and any(ended.killed for ended in done):
                facts[f"left something in the {place}"] += 1
            elif left:
                yield Finding(LEFT, f"in the {place}: {', '.join(left)}")
        seen, findings = self.watcher.told()
        facts.update(seen)
        yield from findings
        self.ground.put_away(case.base)

    def measured(self, action: Action, variant: str, measure: Callable[[Case], Any]) -> Any:
        """What a process comes to that nothing happens to."""
        case = action.case(variant)
        ended = forked(lambda: measure(case), case.environment)
        self.ground.put_away(case.base)
        self.ground.left_in_temporary()
        return _answer(ended)


@contextlib.contextmanager
def field(names: Sequence[str], scratch: Path, *, altering: bool = False) -> Iterator[Field]:
    """A field for these actions, in a directory of its own; ``altering`` where files are altered on purpose."""
    ground.hurry()
    land = ground.Ground(scratch / uuid.uuid4().hex)
    made = sets.make(land.scratch / "set", 1)
    try:
        with witness.watching(land.bases, altering=altering) as watcher:
            yield Field(land, {name: MAKERS[name](land, made) for name in names}, watcher)
    finally:
        ground.remove(land.scratch)
