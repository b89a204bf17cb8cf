"""The store is a Databricks volume, reached by the SDK: its server fails, or a client is killed, at every request."""

from __future__ import annotations

import contextlib
import functools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import databricks.sdk.core

import depload
from depload.published.pruning import prune
from faults import ground, processes, rows, sets, traps, witness
from faults.outcomes import LEFT, WRONG, Finding
from faults.processes import forked
from faults.rows import Row, Single
from workspace import (
    LostAnswer,
    ResetWhileReading,
    ResetWhileSending,
    Server,
    ServerError,
    Slow,
    TooManyRequests,
    Truncated,
    Unavailable,
    WrongByte,
)
from workspace.clocks import Impatient

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from random import Random

    from faults.ground import Ground
    from faults.processes import Ended
    from faults.sets import Set
    from faults.witness import Witness
    from workspace.faults import Trouble

VOLUME = "main.default.depload"
_TROUBLES: dict[str, Trouble] = {
    "429": TooManyRequests(retry_after=0),
    "503": Unavailable(retry_after=0),
    "500": ServerError(),
    "reset-while-asked": ResetWhileReading(after_bytes=100),
    "reset-while-answering": ResetWhileSending(after_bytes=100),
    "answer-lost": LostAnswer(),
    "ends-early": Truncated(at=100),
    "ends-early-unseen": Truncated(at=100, told=True),
    "wrong-byte": WrongByte(at=50),
    "slow": Slow(start=0.1, pause=0.01, size=8192),
}
_HARMLESS = ("429", "503", "slow")
"""What the SDK deals with where it happens once."""
_ONCE, _ALWAYS = 1, 1_000_000


class Workspace:
    """A server in a process of its own, and what is done to a volume of it."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection = connection
        self.url, self.token = connection.recv()
        self.volume = folder / "volumes" / VOLUME.replace(".", "/")

    def faulty(self, trouble: str, skip: int, times: int) -> None:
        """From now on the requests after ``skip`` meet this trouble, so many times."""
        self._ask("add", trouble, skip, times)

    def sound(self) -> tuple[int, int]:
        """From now on nothing goes wrong; how many requests there were since it was said last, and open uploads."""
        requests, uploads = self._ask("clear")
        return requests, uploads

    def _ask(self, *words: Any) -> Any:
        self._connection.send(words)
        return self._connection.recv()

    def client(self) -> Any:
        """As a process has it that waits for a workspace no longer than a few seconds."""
        given: dict[str, Any] = {"retry_timeout_seconds": 1, "http_timeout_seconds": 5, "clock": Impatient()}
        return databricks.sdk.WorkspaceClient(
            config=databricks.sdk.core.Config(host=self.url, token=self.token, **given)
        )


def _serve(folder: Path, connection: Connection) -> None:
    with Server(folder) as server:
        connection.send((server.url, server.token))
        while True:
            what, *words = connection.recv()
            if what == "add":
                trouble, skip, times = words
                server.faults.add(_TROUBLES[trouble], skip=skip, times=times)
                connection.send(None)
            else:
                server.faults.clear()
                connection.send((len(server.seen), len(server.uploads.open)))
                server.seen.clear()


class _Volume(Single):
    """All verbs on a volume."""

    def __init__(self, land: Ground, made: Set, workspace: Workspace, watcher: Witness) -> None:
        self._ground, self._set, self._workspace, self._watcher = land, made, workspace, watcher
        self._verbs: dict[str, Callable[[str, str], Any]] = {
            "convert": lambda address, _: self._convert(address).path,
            "load": self._load,
            "cleanup": lambda address, run: str(depload.cleanup(f"{address}/{run}", via=workspace.client()).removed),
            "prune": lambda address, _: str(prune(address, older_than="1d", via=workspace.client())),
        }
        self._number = 0

    def _requests(self, verb: str) -> int:
        """How many requests it takes where nothing goes wrong."""
        address, run = self._made()
        self._workspace.sound()
        ended = forked(lambda: self._verbs[verb](address, run), self._ground.environment)
        if not ended.answer:
            raise RuntimeError(f"{verb} fails where nothing goes wrong: {ended.error or ended}")
        requests, _ = self._workspace.sound()
        return requests

    def _done(
        self, verb: str, before: Callable[[], None], facts: Counter[str], begin: Callable[[], None] = lambda: None
    ) -> Iterator[Finding]:
        """Do it once with something going wrong, set before it or in its process, and again with nothing."""
        address, run = self._made()
        base, do = self._base(address), self._verbs[verb]
        before()

        def act() -> Any:
            begin()
            return do(address, run)

        ended = forked(act, self._ground.environment, patience=120)
        _, uploads = self._workspace.sound()
        facts[_became(ended)] += 1
        if ended.fault:
            yield Finding(WRONG, f"no error of depload's: {ended.fault}")
        if uploads and not ended.killed:
            yield Finding(LEFT, f"{uploads} uploads that were begun and never ended")
        yield from self._of_first(ended)
        kept = [run] if verb in ("convert", "load") else []
        yield from ground.findings(base, [str(base / name) for name in kept])
        again = forked(lambda: do(address, run), self._ground.environment)
        if not again.answer:
            yield Finding(WRONG, f"the second try failed: {again.error or again.fault}")
        if verb == "cleanup" and (base / run).exists():
            yield Finding(LEFT, "after a second cleanup")
        for each in (ended, again):
            if verb == "load" and each.answer and each.answer != self._set.value:
                yield Finding(WRONG, f"another module was loaded: {each.answer}")
            if verb == "convert" and each.answer:
                kept.append(Path(each.answer).name)
        yield from self._after(base, kept, ended, facts)

    def _of_first(self, ended: Ended) -> Iterator[Finding]:
        """What else is wrong with the first try."""
        del ended
        return iter(())

    def _after(self, base: Path, kept: list[str], ended: Ended, facts: Counter[str]) -> Iterator[Finding]:
        yield from ground.findings(base, [str(base / name) for name in kept])
        yield from ground.left_after_prune(base, address=f"{self._volumes}/{base.name}", via=self._workspace.client())
        if left := self._ground.left_in_temporary():
            if ended.killed:
                facts["left something in the temporary directory"] += 1
            else:
                yield Finding(LEFT, f"in the temporary directory: {', '.join(left)}")
        _, findings = self._watcher.told()
        yield from findings
        ground.remove(base)

    _volumes = f"/Volumes/{VOLUME.replace('.', '/')}"

    def _base(self, address: str) -> Path:
        return self._workspace.volume / Path(address).name

    def _made(self) -> tuple[str, str]:
        """A fresh base on the volume with a run path in it: its address, the name of that."""
        self._number += 1
        address = f"{self._volumes}/base-{self._number}"
        base = self._base(address)
        base.mkdir(parents=True)
        ground.plant(base, self._ground.scratch / "outside")
        ended = forked(lambda: self._convert(address).path, self._ground.environment)
        if not ended.answer:
            raise RuntimeError(f"what is needed first could not be had: {ended.error or ended}")
        return address, Path(ended.answer).name

    def _convert(self, address: str) -> Any:
        return depload.convert(
            self._set.source, address, options=self._set.options, compile=False, via=self._workspace.client()
        )

    def _load(self, address: str, run: str) -> str:
        with depload.load(f"{address}/{run}", via=self._workspace.client()):
            return sets.value()


def _became(ended: Ended) -> str:
    if ended.killed:
        return "killed"
    return "succeeded all the same" if ended.answer else "failed with an error of depload"


class Failing(_Volume):
    """Its server fails."""

    def points(self, count: int, chance: Random) -> list[str]:
        """Every trouble at every request, once, and from then on."""
        found = [
            f"{verb}:{trouble}:{number}:{often}"
            for verb in self._verbs
            for number in range(1, self._requests(verb) + 1)
            for trouble in _TROUBLES
            for often in ("once", "always")
        ]
        return rows.spread(found, count, chance)

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Do it, with this request failing; and again, with none."""
        verb, self._trouble, number, self._often = point.split(":")
        times = _ONCE if self._often == "once" else _ALWAYS
        yield from self._done(verb, lambda: self._workspace.faulty(self._trouble, int(number) - 1, times), facts)

    def _of_first(self, ended: Ended) -> Iterator[Finding]:
        if self._trouble in _HARMLESS and self._often == "once" and not ended.answer:
            yield Finding(WRONG, f"one such answer is nothing to fail for: {ended.error}")
        if self._trouble == "slow" and not ended.answer:
            yield Finding(WRONG, f"slow is not broken: {ended.error}")


class Killed(_Volume):
    """Who asks it is killed."""

    def points(self, count: int, chance: Random) -> list[str]:
        """At every request: before it is sent, when half of what it sends is, and when it is answered."""
        found = [
            f"{verb}:{number}:{moment}"
            for verb in self._verbs
            for number in range(1, self._requests(verb) + 1)
            for moment in (traps.BEFORE, traps.HALF, traps.AFTER)
        ]
        return rows.spread(found, count, chance)

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Kill it there; and do it again."""
        verb, number, moment = point.split(":")
        yield from self._done(verb, lambda: None, facts, traps.RequestTrap(int(number), moment).set)


@contextlib.contextmanager
def _ready(kind: type[Failing | Killed], scratch: Path) -> Iterator[Failing | Killed]:
    ground.hurry()
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # it warns of what this server has not
    land = ground.Ground(scratch / "volumes")
    folder = land.scratch / "workspace"
    made = sets.make(land.scratch / "set", 1)
    with processes.aside(lambda connection: _serve(folder, connection)) as connection:
        workspace = Workspace(connection, folder)
        with witness.watching(workspace.volume, altering=False) as watcher:
            yield kind(land, made, workspace, watcher)


ROWS = (
    Row(
        "volume-kill",
        "SIGKILL of all four at each request to a volume, before, half way or after",
        200,
        functools.partial(_ready, Killed),
    ),
    Row(
        "volume-fails",
        "a volume whose server fails, at each request, once or from then on",
        200,
        functools.partial(_ready, Failing),
    ),
)
