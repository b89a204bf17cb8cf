"""What happens at an operation of a store, or at a file of a site: the process dies, or the store fails it.

These are set in a forked process before it begins, and end with it.
"""

from __future__ import annotations

import datetime as dt
import errno
import io
import itertools
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

from requests.adapters import HTTPAdapter

from depload.errors import StoreError
from depload.stores.directory import DirectoryStore

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from requests import PreparedRequest
    from typing_extensions import Self

WRITING = ("put", "write", "create")
CHANGING = (*WRITING, "remove", "rmdir")
OPERATIONS = (*CHANGING, "open", "list")

BEFORE, HALF, AFTER = "before", "half", "after"
KILL, FAIL, SLOW, TRICKLE, CUT, FLIP = "kill", "fail", "slow", "trickle", "cut", "flip"
_DESCRIPTORS = 1024
_ARRIVES = 0.02  # seconds until what was sent has arrived
SLOWNESS = 0.03
"""Seconds that a slow store takes longer for each operation."""


@dataclass(frozen=True)
class Trap:
    """What is done at the operation with this number, counted from 1; 0 means at every one."""

    effect: str
    number: int
    moment: str = BEFORE

    def set(self) -> None:
        """From now on, in this process."""
        _listen(self._meet)

    def _meet(self, number: int, operation: _Operation) -> Any:
        if self.number not in (0, number):
            return operation.done()
        if self.effect == SLOW:
            time.sleep(SLOWNESS)
            return operation.done()
        if self.effect in (KILL, FAIL):
            return self._broken(operation)
        return self._altered(operation)

    def _broken(self, operation: _Operation) -> NoReturn:
        if self.moment == AFTER:
            operation.done()
        if self.moment == HALF:
            operation.half()
        if self.effect == KILL:
            die()
        raise StoreError(operation.store.base, f"cannot be reached ({os.strerror(errno.EIO)})", "try again")

    def _altered(self, operation: _Operation) -> Any:
        if operation.name in WRITING and self.effect in (CUT, FLIP):
            done = operation.done()
            path = operation.path
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2] if self.effect == CUT else flipped(data))
            return done
        if operation.name != "open":
            return operation.done()
        with operation.done() as stream:
            data = stream.read()
        if self.effect == CUT:
            data = data[: len(data) // 2]
        return _Short(data) if self.effect == TRICKLE else io.BytesIO(flipped(data) if self.effect == FLIP else data)


@dataclass(frozen=True)
class SiteTrap:
    """The process dies before the file operation with this number below the directory of sites."""

    number: int
    sites: str

    def set(self) -> None:
        """From now on, in this process."""
        _watch_files(self.sites, lambda number: die() if number == self.number else None)


@dataclass(frozen=True)
class RequestTrap:
    """The process dies at the HTTP request with this number, counted from 1."""

    number: int
    moment: str = BEFORE

    def set(self) -> None:
        """From now on, in this process."""
        numbers, send = itertools.count(1), HTTPAdapter.send

        def sent(adapter: HTTPAdapter, request: PreparedRequest, *words: Any, **named: Any) -> Any:
            if next(numbers) != self.number:
                return send(adapter, request, *words, **named)
            if self.moment == BEFORE:
                die()
            if self.moment == HALF:
                request.body = _Dying(_bytes(request.body))
                if "Content-Length" not in request.headers:
                    request.headers["Transfer-Encoding"] = "chunked"
            send(adapter, request, *words, **named)
            die()

        HTTPAdapter.send = sent  # type: ignore[assignment]


def _bytes(body: Any) -> bytes:
    data = body.read() if hasattr(body, "read") else body
    return data.encode() if isinstance(data, str) else bytes(data or b"")


class _Dying:
    """Half of what is sent; who asks for more dies."""

    def __init__(self, data: bytes) -> None:
        self._half: bytes | None = data[: len(data) // 2]

    def __iter__(self) -> Iterator[bytes]:
        yield self.read()
        die()

    def read(self, _: int = -1) -> bytes:
        if self._half is None:
            time.sleep(_ARRIVES)
            die()
        half, self._half = self._half, None
        return half or self.read()


@dataclass(frozen=True)
class Pause:
    """Whoever is about to write a file whose key is like that waits."""

    key: re.Pattern[str]
    pause: Callable[[], None]

    def set(self) -> None:
        """From now on, in this process."""
        _listen(self._meet)

    def _meet(self, _: int, operation: _Operation) -> Any:
        if operation.name == "write" and self.key.fullmatch(operation.arguments[0]):
            self.pause()
        return operation.done()


def set_clock(ahead: float) -> None:
    """Have the clock of this process be so many seconds ahead of the machine's, for who asks ``time`` or ``datetime``.

    The monotonic clock, and the times that the kernel gives to files, are what they were.
    """
    time.time = lambda: _now() + ahead
    _Clock.ahead = ahead
    dt.datetime = _Clock  # type: ignore[misc]


_now = time.time


class _Clock(dt.datetime):
    """``datetime`` by the clock of this process."""

    ahead = 0.0

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Self:
        return cls.fromtimestamp(_now() + cls.ahead, tz)


def operations() -> list[str]:
    """The list that the operations of this process are written down in from now on."""
    names: list[str] = []

    def write_down(_: int, operation: _Operation) -> Any:
        names.append(operation.name)
        return operation.done()

    _listen(write_down)
    return names


def file_operations(sites: str) -> list[int]:
    """The list that the file operations below a directory are written down in from now on."""
    numbers: list[int] = []
    _watch_files(sites, numbers.append)
    return numbers


def die() -> NoReturn:
    """As the kernel does it: nothing is put back, nothing is flushed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived SIGKILL")


def die_after(seconds: float) -> None:
    """Be killed in so many seconds, by a process that does nothing else; what was started goes on, as it would then."""
    parent = os.getpid()
    if os.fork():
        return
    os.closerange(3, _DESCRIPTORS)  # else nobody sees that the parent has closed them
    time.sleep(seconds)
    if os.getppid() == parent:
        os.kill(parent, signal.SIGKILL)
    os._exit(0)


def flipped(data: bytes) -> bytes:
    """With one bit of its middle changed."""
    if not data:
        return data
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@dataclass(frozen=True)
class _Operation:
    """An operation of a store that is about to be done."""

    store: DirectoryStore
    name: str
    done: Callable[[], Any]
    arguments: tuple[Any, ...]

    @property
    def path(self) -> Path:
        return cast("Path", self.store.path(self.arguments[0]))

    def half(self) -> None:
        """What is there when a process dies in the middle of it."""
        if self.name in WRITING:
            data = self.arguments[1] if self.name != "put" else self.arguments[1].read_bytes()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(data[: len(data) // 2])
        elif self.name == "remove" and self.path.is_dir() and not self.path.is_symlink():
            files = sorted(self.path.iterdir())
            for file in files[: (len(files) + 1) // 2]:
                if file.is_file():
                    file.unlink()


class _Short(io.RawIOBase):
    """A stream that gives a few bytes at a time, whatever is asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._most = max(1, len(data) // 50)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._most if size < 0 else min(size, self._most))


def _listen(hear: Callable[[int, _Operation], Any]) -> None:
    """Have every operation of a directory go through ``hear``, which is told its number and does it."""
    lock, count = threading.Lock(), 0

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(store: DirectoryStore, *arguments: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                number = count
            return hear(number, _Operation(store, name, lambda: original(store, *arguments), arguments))

        return operation

    for name in OPERATIONS:
        setattr(DirectoryStore, name, wrapped(name, getattr(DirectoryStore, name)))


_FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.utime", "os.link", "os.listdir"}


def _watch_files(folder: str, hear: Callable[[int], object]) -> None:
    """PEP 578: each event is raised before what it tells of."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in _FILE_EVENTS and isinstance(arguments[0], str) and arguments[0].startswith(folder):
            count += 1
            hear(count)

    sys.addaudithook(hook)
