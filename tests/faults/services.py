"""The store is a Databricks volume, reached by the SDK, whose server fails: at every request, once or from then on."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import databricks.sdk.core

import depload
from depload.published.pruning import prune
from faults import ground, processes, rows, sets, witness
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


class Services(Single):
    """All verbs on a volume."""

    def __init__(self, land: Ground, made: Set, workspace: Workspace, watcher: Witness) -> None:
        self._ground, self._set, self._workspace, self._watcher = land, made, workspace, watcher
        self._verbs: dict[str, Callable[[str], Any]] = {
            "convert": lambda address: self._convert(address).path,
            "load": self._load,
            "cleanup": lambda address: str(depload.cleanup(self._target(address), via=workspace.client()).removed),
            "prune": lambda address: str(prune(address, older_than="1d", via=workspace.client())),
        }
        self._number = 0
        self.digest = self._made()[2]

    def points(self, count: int, chance: Random) -> list[str]:
        """Every trouble at every request, once, and from then on."""
        found = []
        for verb, do in self._verbs.items():
            address, _, _ = self._made()
            self._workspace.sound()
            ended = forked(lambda do=do, address=address: do(address), self._ground.environment)  # type: ignore[misc]
            if not ended.answer:
                raise RuntimeError(f"{verb} fails where nothing goes wrong: {ended.error or ended}")
            requests, _ = self._workspace.sound()
            found += [
                f"{verb}:{trouble}:{number}:{often}"
                for number in range(1, requests + 1)
                for trouble in _TROUBLES
                for often in ("once", "always")
            ]
        return rows.spread(found, count, chance)

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Do it, with this request failing; and again, with none."""
        verb, trouble, number, often = point.split(":")
        address, run, _ = self._made()
        kept = [run] if verb in ("convert", "load") else []
        do = self._verbs[verb]
        self._workspace.faulty(trouble, int(number) - 1, _ONCE if often == "once" else _ALWAYS)
        ended = forked(lambda: do(address), self._ground.environment, patience=120)
        _, uploads = self._workspace.sound()
        facts["succeeded all the same" if ended.answer else "failed with an error of depload"] += 1
        yield from self._of_first(verb, trouble, often, ended, uploads)
        base = self._base(address)
        if verb != "cleanup" or not ended.answer:
            yield from ground.findings(base, [str(base / name) for name in kept])
        again = forked(lambda: do(address), self._ground.environment)
        if not again.answer:
            yield Finding(WRONG, f"the second try failed: {again.error or again.fault}")
        yield from self._after(verb, base, kept, ended, again)

    def _of_first(self, verb: str, trouble: str, often: str, ended: Ended, uploads: int) -> Iterator[Finding]:
        if ended.fault:
            yield Finding(WRONG, f"no error of depload's: {ended.fault}")
        if trouble in _HARMLESS and often == "once" and not ended.answer:
            yield Finding(WRONG, f"one such answer is nothing to fail for: {ended.error}")
        if trouble == "slow" and not ended.answer:
            yield Finding(WRONG, f"slow is not broken: {ended.error}")
        if uploads:
            yield Finding(LEFT, f"{uploads} uploads that were begun and never ended")
        if verb == "load" and ended.answer and ended.answer != self._set.value:
            yield Finding(WRONG, f"another module was loaded: {ended.answer}")

    def _after(self, verb: str, base: Path, kept: list[str], *both: Ended) -> Iterator[Finding]:
        complete = [*kept, *(Path(each.answer).name for each in both if verb == "convert" and each.answer)]
        yield from ground.findings(base, [str(base / name) for name in complete])
        yield from ground.left_after_prune(base, address=f"{self._volumes}/{base.name}", via=self._workspace.client())
        if left := self._ground.left_in_temporary():
            yield Finding(LEFT, f"in the temporary directory: {', '.join(left)}")
        _, findings = self._watcher.told()
        yield from findings
        ground.remove(base)

    _volumes = f"/Volumes/{VOLUME.replace('.', '/')}"

    def _base(self, address: str) -> Path:
        return self._workspace.volume / Path(address).name

    def _made(self) -> tuple[str, str, str]:
        """A fresh base on the volume with a run path in it: its address, the name of that, its digest."""
        self._number += 1
        address = f"{self._volumes}/base-{self._number}"
        base = self._base(address)
        base.mkdir(parents=True)
        ground.plant(base, self._ground.scratch / "outside")

        def convert() -> tuple[str, str]:
            converted = self._convert(address)
            return converted.path, converted.digest

        ended = forked(convert, self._ground.environment)
        if not ended.answer:
            raise RuntimeError(f"what is needed first could not be had: {ended.error or ended}")
        path, digest = ended.answer
        return address, Path(path).name, digest

    def _convert(self, address: str) -> Any:
        return depload.convert(
            self._set.source, address, options=self._set.options, compile=False, via=self._workspace.client()
        )

    def _target(self, address: str) -> str:
        base = self._base(address)
        names = sorted(path.name for path in base.iterdir() if (path / "manifest.json").is_file())
        return f"{address}/{names[0]}" if names else f"{address}/00000000-0000-4000-8000-000000000000"

    def _load(self, address: str) -> str:
        with depload.load(self._target(address), via=self._workspace.client()):
            return sets.value()


@contextlib.contextmanager
def _ready(scratch: Path) -> Iterator[Services]:
    ground.hurry()
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)  # it warns of what this server has not
    land = ground.Ground(scratch / "volumes")
    folder = land.scratch / "workspace"
    made = sets.make(land.scratch / "set", 1)
    with processes.aside(lambda connection: _serve(folder, connection)) as connection:
        workspace = Workspace(connection, folder)
        with witness.watching(workspace.volume, altering=False) as watcher:
            yield Services(land, made, workspace, watcher)


ROWS = (Row("volume-fails", "a volume whose server fails, at each request, once or from then on", 150, _ready),)
