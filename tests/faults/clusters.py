"""On Spark: the driver is killed while it loads; executors and their Python workers while they unpack."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import depload
from depload.local.embedded import remove_work
from faults import ground, sets
from faults.outcomes import LEFT, WRONG, Finding
from faults.processes import forked
from faults.rows import Row, Single

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from random import Random

    from faults.ground import Ground
    from faults.sets import Set

DRIVER = Path(__file__).with_name("driver.py")
_START = 120.0  # seconds that Spark may take to start
_LOAD = 120.0  # seconds that a load may take, executors that come anew included
_FILES = 1500  # of a package, so that unpacking takes a while
_ISOLATIONS = ("shared", "process")
_ATTACHED, _OWN = "attached", "own"
_WHOSE = {_ATTACHED: "and the application went on", _OWN: "and the application with it"}
_OWN_EVERY = 6
_EARLY = 0.6  # of the time that the first load of a session took, which may have been a slow one
_TRIES = 3  # of a load in the session whose executors were killed: Spark takes a while to see it


class Driver:
    """A driver with a Spark application of its own, two executors; or attached to one, as its environment says."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self._rest = b""
        started = self._heard(_START)
        if started is None:
            self.end()
            raise RuntimeError("Spark did not start")
        self.attachment: dict[str, str] = started["attachment"]
        """The environment of those who attach to its application."""
        application, port = started["work"]
        self._work = str(application), str(port)

    def tell(self, path: str, isolation: str) -> None:
        """Load that, and answer."""
        assert self._process.stdin
        self._process.stdin.write(f"{json.dumps({'path': path, 'isolation': isolation})}\n".encode())
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What became of it."""
        return self._heard(_LOAD) or {"error": f"no answer within {_LOAD:.0f} s, or the driver died"}

    def has_answered(self) -> bool:
        """Whether there is an answer by now."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def kill(self) -> None:
        """The Python process alone; its application ends with it if it is its own."""
        self._process.kill()

    def end(self) -> None:
        """All of it, but for an application that is another one's."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait(30)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        for each in _of_session(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        with contextlib.suppress(AttributeError):  # it has not started
            if self.attachment:
                remove_work(*self._work)

    def executors(self) -> list[int]:
        """The Java processes that are executors of it."""
        return [pid for pid in _of_session(self._process.pid) if "--executor-id" in _command(pid)]

    def _heard(self, patience: float) -> dict[str, Any] | None:
        """The next line that is JSON."""
        assert self._process.stdout
        until = time.monotonic() + patience
        while time.monotonic() < until:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                with contextlib.suppress(ValueError):
                    found: dict[str, Any] = json.loads(line)
                    return found
                continue
            if select.select([self._process.stdout], [], [], 0.1)[0]:
                more = os.read(self._process.stdout.fileno(), 1 << 16)
                if not more:
                    return None
                self._rest += more
        return None


class _Clusters(Single):
    """What both rows have in common: a session that lives on, and fresh wheelhouses."""

    def __init__(self, land: Ground) -> None:
        self._ground = land
        self._template = land.scratch / "template"
        self._template.mkdir()
        ground.plant(self._template, land.scratch / "outside")
        self._number = 0
        self._env = {**land.environment, "PYTHONPATH": os.pathsep.join(map(str, sys.path[:1] + _own_path()))}
        self._survivor = Driver(self._env)

    def end(self) -> Iterator[Finding]:
        """Stop it."""
        self._survivor.end()
        return iter(())

    def _made(self) -> tuple[Path, str, Set]:
        """A base with a wheelhouse that nobody has unpacked."""
        self._number += 1
        made = sets.make(self._ground.scratch / "sets" / str(self._number), self._number, _FILES)
        base = self._ground.fresh(self._template)

        def convert() -> str:
            return depload.convert(made.source, base, options=made.options, compile=False, cache=False).path

        ended = forked(convert, self._ground.environment)
        if not ended.answer:
            raise RuntimeError(f"what is needed first could not be had: {ended.error or ended}")
        return base, ended.answer, made

    def _settled(self, base: Path, path: str, isolation: str, made: Set) -> Iterator[Finding]:
        """The second try, in the session that lives on, and what there is afterwards."""
        told = []
        for _ in range(_TRIES):
            self._survivor.tell(path, isolation)
            again = self._survivor.answer()
            if "values" in again:
                break
            told.append(again["error"])
            time.sleep(1.0)
        yield from _right(again, made)
        if "values" not in again:
            yield Finding(WRONG, f"{_TRIES} more tries failed: {told}")
        yield from ground.findings(base, [path])
        sites = self._ground.sites / "shared" / "sites"
        if left := [each.name for each in sites.glob(".*.*")]:
            yield Finding(LEFT, f"on the node, after the second try: {', '.join(left)}")
        yield from ground.left_after_prune(base)
        self._ground.put_away(base)
        for place in (sites, made.source.parent):
            shutil.rmtree(place, ignore_errors=True)


class DriverKilled(_Clusters):
    """The driver is killed while it loads: one of several of an application that lives on, or with its application."""

    def __init__(self, land: Ground) -> None:
        super().__init__(land)
        self._spans = {whose: self._span(whose) for whose in (_ATTACHED, _OWN)}

    def points(self, count: int, chance: Random) -> list[str]:
        """Random times of a load; few with an application of their own, as starting that takes long."""
        whose = [_OWN if at % _OWN_EVERY == _OWN_EVERY - 1 else _ATTACHED for at in range(count)]
        return [f"{each}:{_ISOLATIONS[at % 2]}:{chance.random() * _EARLY:.3f}" for at, each in enumerate(whose)]

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Kill a driver of its own there."""
        whose, isolation, share = point.split(":")
        base, path, made = self._made()
        driver = self._driver(whose)
        driver.tell(path, isolation)
        time.sleep(float(share) * self._spans[whose])
        facts["not killed, it was done" if driver.has_answered() else f"killed, {_WHOSE[whose]}"] += 1
        driver.kill()
        yield from self._settled(base, path, isolation, made)
        driver.end()
        self._ground.left_in_temporary()

    def _driver(self, whose: str) -> Driver:
        return Driver(self._env | (self._survivor.attachment if whose == _ATTACHED else {}))

    def _span(self, whose: str) -> float:
        """Seconds that a load takes."""
        base, path, _ = self._made()
        driver = self._driver(whose)
        started = time.monotonic()
        driver.tell(path, "process")
        driver.answer()
        span = time.monotonic() - started
        driver.end()
        self._ground.put_away(base)
        return span


class ExecutorKilled(_Clusters):
    """An executor, or the Python worker of one, is killed while it unpacks."""

    def points(self, count: int, chance: Random) -> list[str]:
        """Both, in turn, at random times of unpacking."""
        whom = [f"{isolation}:{who}" for isolation in _ISOLATIONS for who in ("executor", "worker")]
        return [f"{whom[at % len(whom)]}:{chance.random() * 0.1:.3f}" for at in range(count)]

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Kill it so long after it has begun to unpack."""
        isolation, who, delay = point.split(":")
        base, path, made = self._made()
        self._survivor.tell(path, isolation)
        killed = self._killed(who, float(delay))
        answer = self._survivor.answer()
        came = "loaded all the same" if "values" in answer else "refused with an error of depload"
        facts[f"{who} killed: {came}" if killed else "not killed, it was done"] += 1
        if "error" in answer and not answer.get("told"):
            yield Finding(WRONG, f"no error of depload's: {answer['error']}")
        yield from _right(answer, made)
        yield from self._settled(base, path, isolation, made)

    def _killed(self, who: str, delay: float) -> bool:
        """Whether there was one that had begun to unpack."""
        sites, executors = self._ground.sites / "shared" / "sites", self._survivor.executors()
        while not self._survivor.has_answered():
            for executor in executors if any(sites.glob(".*.*")) else []:
                for worker in _below(executor):
                    if _uses(worker, sites):
                        time.sleep(delay)
                        os.kill(executor if who == "executor" else worker, signal.SIGKILL)
                        return True
            time.sleep(0.002)
        return False


def _right(answer: dict[str, Any], made: Set) -> Iterator[Finding]:
    if "values" in answer and answer["values"] != [made.value]:
        yield Finding(WRONG, f"workers imported something else: {answer['values']}, expected {made.value}")


def _own_path() -> list[str]:
    """Where depload is imported from, for a process of its own."""
    return [str(Path(depload.__file__).parent.parent)]


def _command(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def _stat(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _of_session(leader: int) -> list[int]:
    """The processes of a session (setsid)."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if _stat(pid)[3:4] == [str(leader)]]


def _below(pid: int) -> list[int]:
    """The processes that it has started, and those that they have."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_below(child)]
    return found


def _uses(pid: int, sites: Path) -> bool:
    """Whether it has a file open in a work directory of sites."""
    with contextlib.suppress(OSError):
        return any(str(each.readlink()).startswith(f"{sites}/.") for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


@contextlib.contextmanager
def _ready(kind: type[DriverKilled | ExecutorKilled], scratch: Path) -> Iterator[DriverKilled | ExecutorKilled]:
    scene = kind(ground.Ground(scratch / "spark"))
    try:
        yield scene
    finally:
        scene.end()


ROWS = (
    Row(
        "kill-load-spark",
        "SIGKILL of the driver in the middle of load on Spark",
        30,
        functools.partial(_ready, DriverKilled),
    ),
    Row(
        "kill-executor",
        "SIGKILL of an executor, or of its Python worker, while it unpacks",
        28,
        functools.partial(_ready, ExecutorKilled),
    ),
)
