"""The disk is full: of the base, of temporary files, of what is kept between runs, of sites; at every page.

A file system in memory with so many free pages (tmpfs), in a mount namespace of the row's own, which takes root.
Without it every file may have so many pages and no more (RLIMIT_FSIZE).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource
import time
from typing import TYPE_CHECKING, Any

from faults import actions, rows
from faults.outcomes import WRONG, Finding
from faults.processes import Running, forked
from faults.rows import Row, Single

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from faults.actions import Action, Case, Field

_PAGE = 4096
_ROOMY = 64 << 20
_ANYWHERE = "anywhere"
_PLACES = {
    "convert": ("base", "temporary", "kept"),
    "load": ("base", "temporary", "sites"),
    "cleanup": ("base",),
    "prune": ("base",),
}
_MAKING_ROOM = ("cleanup", "prune")
"""What must succeed on a full disk: nobody needs it more than there."""
_MORE = 3  # pages beyond what it takes, so that it succeeds as well


class Disks(Single):
    """All actions, with a disk of theirs that has few pages left."""

    def __init__(self, field: Field, *, mounts: bool) -> None:
        self._field, self._mounts = field, mounts
        land = field.ground
        self._folders = {"base": land.bases, "temporary": land.temporary, "kept": land.kept, "sites": land.sites}

    def points(self, count: int, chance: Random) -> list[str]:
        """Every number of free pages, from none to enough; of each place and action as many as of the others."""
        ranges = {
            f"{name}:{variant}:{place}": self._needed(action, variant, place) + _MORE
            for name, action in self._field.actions.items()
            for variant in action.variants
            for place in (_PLACES[name] if self._mounts else (_ANYWHERE,))
        }
        share = -(-count // len(ranges))
        found = [
            f"{where}:{pages}"
            for where, most in ranges.items()
            for pages in (range(most) if most <= share else sorted(chance.sample(range(most), share)))
        ]
        return rows.spread(found, count, chance)

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Do it with so many pages left; afterwards there is room again."""
        name, variant, place, pages = point.split(":")
        action = self._field.actions[name]
        with self._disk(place):
            case = action.case(variant)
            self._fill(place, int(pages))
            limit = int(pages) if place == _ANYWHERE else None
            ended = forked(functools.partial(_do, action, case, limit), case.environment)
            self._make_room(place)
            facts["succeeded all the same" if ended.answer else "failed with an error of depload"] += 1
            facts["every file had a limit" if place == _ANYWHERE else "a file system of its own was full"] += 1
            if name in _MAKING_ROOM and not ended.answer:
                yield Finding(WRONG, f"it makes room, and failed for want of it: {ended.error}")
            yield from self._field.settled(action, case, facts, ended)

    def _needed(self, action: Action, variant: str, place: str) -> int:
        """The most pages that are in use at once."""
        if place == _ANYWHERE:
            return 20
        folder = self._folders[place]
        with self._disk(place):
            case = action.case(variant)
            before = most = _used(folder)
            running = Running(functools.partial(action.run, case), case.environment)
            while running.lives():
                most = max(most, _used(folder))
                time.sleep(0.001)
            running.wait()
            self._field.ground.put_away(case.base)
            self._field.ground.left_in_temporary()
        return (most - before) // _PAGE + 1

    @contextlib.contextmanager
    def _disk(self, place: str) -> Iterator[None]:
        if place == _ANYWHERE:
            yield
            return
        folder = self._folders[place]
        _mount(folder, _ROOMY)
        try:
            yield
        finally:
            _unmount(folder)

    def _fill(self, place: str, pages: int) -> None:
        if place != _ANYWHERE:
            folder = self._folders[place]
            _mount(folder, max(_PAGE, _used(folder) + pages * _PAGE), again=True)

    def _make_room(self, place: str) -> None:
        if place != _ANYWHERE:
            _mount(self._folders[place], _ROOMY, again=True)


def _do(action: Action, case: Case, limit: int | None) -> Any:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit * _PAGE, resource.RLIM_INFINITY))
    return action.run(case)


def _used(folder: Path) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


# --- mounts (mount(2), unshare(2)), which Python has from 3.12 on, in part -------------------------------------------

_CLONE_NEWNS = 0x00020000
_MS_REMOUNT, _MS_REC, _MS_PRIVATE = 32, 16384, 1 << 18
_MNT_DETACH = 2


def _private_mounts() -> bool:
    """Whether this process can mount what only it and its children see, from now on."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return not libc.unshare(_CLONE_NEWNS) and not libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    except (OSError, AttributeError):
        return False


def _mount(folder: Path, size: int, *, again: bool = False) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _MS_REMOUNT if again else 0
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))


def _unmount(folder: Path) -> None:
    ctypes.CDLL(None).umount2(os.fsencode(folder), _MNT_DETACH)


@contextlib.contextmanager
def _ready(scratch: Path) -> Iterator[Disks]:
    mounts = _private_mounts()
    with actions.field(list(actions.MAKERS), scratch) as field:
        yield Disks(field, mounts=mounts)


ROWS = (Row("disk-full", "the disk is full, at every number of pages that are left", 300, _ready),)
