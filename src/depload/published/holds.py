"""Holds: what this process uses of run paths, with a lease for each that one thread renews.

The lease ends with its last hold, with the session that a hold is for, and with the process. Where a process ends
without a word, as at the end of a job on Databricks, it runs out.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import threading
import time
from typing import TYPE_CHECKING

from depload.published import leases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from depload.stores.store import Store

_RENEWALS, _RETRIES = 3, 15  # how often a lease is renewed in its length, and tried to where that failed
_MISSES = 2  # how often a run path is seen without its manifest before it is gone: a remover may put it back
_AT_EXIT = 5.0  # seconds that the end of the process waits for the store


class Hold:
    """A use of a run path, until it is released; without a lease where there can be none, and ``why`` says so."""

    def __init__(self, file: _LeaseFile | None = None, ended: Callable[[], bool] | None = None, why: str = "") -> None:
        self.why = why
        self.ended = ended or _never
        self._file = file

    @property
    def place(self) -> str:
        """The run path; empty without a lease."""
        return self._file.place if self._file else ""

    def release(self) -> None:
        """End it; the last one of a run path takes the lease away. Never raises: a lease that stays runs out."""
        if self._file:
            self._file.release(self)

    def abandon(self) -> None:
        """Release, and let no empty directory stay where the run path was removed just before."""
        if self._file:
            self._file.release(self, gone=True)


def _never() -> bool:
    return False


def take(store: Store, run: str, purpose: str, *, beside: str, ended: Callable[[], bool] | None = None) -> Hold:
    """Hold a run path. ``beside`` is the file of it without which there is nothing to hold any more.

    ``ended`` is asked at each renewal whether what the hold is for has come to its end. Raises StoreError where the
    lease cannot be written.
    """
    while True:
        file = _keeper.file(store, run, purpose, beside)
        hold = Hold(file, ended)
        if file.add(hold):
            _keeper.watch()
            return hold


@contextlib.contextmanager
def held(store: Store, run: str, purpose: str, *, beside: str) -> Iterator[Hold]:
    """Hold a run path for a while."""
    hold = take(store, run, purpose, beside=beside)
    try:
        yield hold
    finally:
        hold.release()


def own() -> frozenset[str]:
    """The names of the leases of this process."""
    return _keeper.names()


def forget(place: str) -> None:
    """Renew no lease of a run path any more, because this process is about to remove it."""
    if file := _keeper.known(place):
        file.end(remove=False)


class _LeaseFile:
    """The lease of this process in a run path, however many hold it."""

    def __init__(self, store: Store, run: str, purpose: str, beside: str) -> None:
        self.name = leases.fresh_name()
        self.place = store.location(run)
        self.due = math.inf
        """When it is to be renewed, by the monotonic clock."""
        self._store, self._run, self._purpose, self._beside = store, run, purpose, beside
        self._pid = os.getpid()
        self._busy = threading.RLock()
        self._holds: list[Hold] = []
        self._over = False
        self._misses = 0

    def add(self, hold: Hold) -> bool:
        """Hold it once more; the first one writes it. False where it has come to its end meanwhile."""
        with self._busy:
            if self._over:
                return False
            if not self._holds:
                try:
                    self._write()
                except BaseException:
                    self.end(remove=False)
                    raise
            self._holds.append(hold)
            return True

    def release(self, hold: Hold, *, gone: bool = False) -> None:
        if self._pid != os.getpid():
            return  # a child of a fork has none of its parent's leases
        with self._busy:
            if hold in self._holds:
                self._holds.remove(hold)
                if not self._holds:
                    self.end(gone=gone)

    def renew(self) -> None:
        """Write it anew, or end it: where nobody holds it, or the run path is gone, it must not come back."""
        with self._busy, contextlib.suppress(Exception):  # sessions and stores raise their own; it is tried again
            if self._over:
                return
            self.due = time.monotonic() + leases.length() / _RETRIES
            self._holds = [hold for hold in self._holds if not hold.ended()]
            if not self._holds:
                self.end()
            elif {self.name, self._beside} <= {entry.name for entry in self._store.list(self._run)}:
                self._write()
            else:
                self._misses += 1
                if self._misses >= _MISSES:
                    self.end(gone=True)

    def end(self, *, remove: bool = True, gone: bool = False) -> None:
        """Take it away, or only forget it."""
        with self._busy:
            over, self._over = self._over, True
            _keeper.drop(self)
            if over or not remove:
                return
            with contextlib.suppress(Exception):
                self._store.remove(f"{self._run}/{self.name}")
                if gone or self._store.path(self._run):  # here it costs nothing to ask
                    self._store.rmdir(self._run)

    def _write(self) -> None:
        self._store.write(f"{self._run}/{self.name}", leases.content(self._purpose))
        self._misses = 0
        self.due = time.monotonic() + leases.length() / _RENEWALS


class _Keeper:
    """The leases of this process, and the thread that renews them."""

    def __init__(self) -> None:
        self._files: dict[str, _LeaseFile] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._closed = threading.Event()

    def file(self, store: Store, run: str, purpose: str, beside: str) -> _LeaseFile:
        with self._changed:
            place = store.location(run)
            if place not in self._files:
                self._files[place] = _LeaseFile(store, run, purpose, beside)
            return self._files[place]

    def known(self, place: str) -> _LeaseFile | None:
        with self._changed:
            return self._files.get(place)

    def names(self) -> frozenset[str]:
        with self._changed:
            return frozenset(file.name for file in self._files.values())

    def drop(self, file: _LeaseFile) -> None:
        with self._changed:
            if self._files.get(file.place) is file:
                del self._files[file.place]

    def watch(self) -> None:
        """See to it that what is due is renewed."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="depload-leases", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # a process that ends starts none; its leases run out
                    self._thread = None
            self._changed.notify()

    def _renew(self) -> None:
        while due := self._wait():
            for file in due:
                file.renew()
        for file in self._all():
            file.end()
        self._closed.set()

    def _wait(self) -> list[_LeaseFile]:
        """What is due, as soon as something is; nothing when the process ends."""
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                if due := [file for file in self._files.values() if file.due <= now]:
                    return due
                soonest = min((file.due for file in self._files.values()), default=math.inf)
                self._changed.wait(None if math.isinf(soonest) else soonest - now)
            return []

    def _all(self) -> list[_LeaseFile]:
        with self._changed:
            return list(self._files.values())

    def close(self) -> None:
        """Take every lease away, in the thread that may be busy with one: a store that hangs holds up nothing."""
        with self._changed:
            if self._thread is None or not self._files:
                return
            self._closing = True
            self._changed.notify()
        self._closed.wait(_AT_EXIT)


_keeper = _Keeper()


def _forked() -> None:
    """A child of a fork has no thread and no leases, and its parent's locks may be locked forever."""
    global _keeper  # noqa: PLW0603 - one for each process
    _keeper = _Keeper()


def _at_exit() -> None:
    _keeper.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_at_exit)
