"""Processes forked from this warm one: what they answer, and killing them."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depload.errors import DeploadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection

    from typing_extensions import Self

PATIENCE = 60.0
"""Seconds after which a process hangs."""
_GRACE = 90.0  # seconds that one has to stop which is told to


@dataclass(frozen=True)
class Ended:
    """How a process came to its end."""

    answer: Any = None
    error: str = ""
    """What was raised."""
    told: bool = False
    """Whether that was an error of depload."""
    killed: bool = False
    hung: bool = False
    seconds: float = 0.0

    @property
    def fault(self) -> str:
        """What may not be, whatever is done to a process: an error that is none of depload's, or no end."""
        if self.hung:
            return f"it was not done after {self.seconds:.0f} s"
        return "" if self.told or self.killed else self.error


class Running:
    """A process that does something, and is the leader of what it starts."""

    def __init__(
        self, action: Callable[[], Any], environment: Mapping[str, str] | None = None, *, quiet: bool = True
    ) -> None:
        self._from, to = os.pipe()
        self._started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._from)
            _become(action, environment or {}, to, quiet=quiet)
        os.close(to)

    def wait(self, patience: float = PATIENCE) -> Ended:
        """Its end; it is killed when patience is over."""
        data = self._received(patience)
        if data is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        os.close(self._from)
        _, status = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self._started
        if data is None:
            return Ended(hung=True, seconds=seconds)
        if data:
            return Ended(**pickle.loads(data), seconds=seconds)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            return Ended(killed=True, seconds=seconds)
        return Ended(error=f"the process ended with status {status}", seconds=seconds)

    def lives(self) -> bool:
        """Whether it has nothing to say yet."""
        return not select.select([self._from], [], [], 0)[0]

    def end(self) -> None:
        """Kill what it has started and what is still there."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _received(self, patience: float) -> bytes | None:
        """What it sends until it ends; None where that takes too long."""
        pieces: list[bytes] = []
        until = time.monotonic() + patience
        while select.select([self._from], [], [], max(0.0, until - time.monotonic()))[0]:
            piece = os.read(self._from, 1 << 16)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
        return None


class Paused:
    """A process that does something up to where it calls ``pause``, and goes on when it is waited for.

    It has come there, or to its end, when this is entered; at the end of the ``with`` there is no such process.
    """

    def __init__(self, action: Callable[[Callable[[], None]], Any], environment: Mapping[str, str]) -> None:
        self._there, here = os.pipe()
        wait, self._go = os.pipe()

        def pause() -> None:
            os.write(here, b".")
            os.read(wait, 1)

        self._running = Running(lambda: action(pause), environment)
        os.close(here)
        os.close(wait)
        self._waiting = True

    def __enter__(self) -> Self:
        os.read(self._there, 1)
        os.close(self._there)
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._running.end()
            self.wait()

    def wait(self) -> Ended:
        """Let it go on; its end."""
        self._waiting = False
        with contextlib.suppress(BrokenPipeError):  # it has come to its end
            os.write(self._go, b".")
        os.close(self._go)
        ended = self._running.wait()
        self._running.end()
        return ended


def forked(
    action: Callable[[], Any],
    environment: Mapping[str, str] | None = None,
    *,
    patience: float = PATIENCE,
    quiet: bool = True,
) -> Ended:
    """Do something in a process of its own."""
    running = Running(action, environment, quiet=quiet)
    try:
        return running.wait(patience)
    except BaseException:  # this process is to stop: the other one puts away what it has, and nobody writes any more
        with contextlib.suppress(OSError):
            os.kill(running.pid, signal.SIGTERM)
            running.wait(_GRACE)
        raise
    finally:
        running.end()


def _become(action: Callable[[], Any], environment: Mapping[str, str], to: int, *, quiet: bool) -> None:
    """What a child does, to its end."""
    status = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2) if quiet else (0,):
            os.dup2(nothing, descriptor)
        os.environ.update(environment)
        tempfile.tempdir = None
        data = pickle.dumps(_done(action))
        atexit._run_exitfuncs()  # a fork has no other way to come to the end of an interpreter
        while data:
            data = data[os.write(to, data) :]
        status = 0
    finally:
        os._exit(status)


def _done(action: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"answer": action()}
    except DeploadError as error:
        return {"error": f"{type(error).__name__}: {error}", "told": True}
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what this harness looks for
        return {"error": f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))[-2000:]}"}


@contextlib.contextmanager
def aside(serve: Callable[[Connection], None]) -> Iterator[Connection]:
    """A process that serves what it is told through a connection, until that is closed."""
    here, there = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            here.close()
            serve(there)
            status = 0
        except EOFError:
            status = 0
        except BaseException:  # noqa: BLE001 - nobody else tells it
            sys.stderr.write(traceback.format_exc())
        finally:
            os._exit(status)
    there.close()
    try:
        yield here
    finally:
        here.close()
        os.waitpid(child, 0)
