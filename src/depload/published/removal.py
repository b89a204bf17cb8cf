"""Remove what a run published, and nothing else, unless somebody uses it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from depload.errors import CleanupError, LeasedError, NotInStoreError, StoreError
from depload.published import holds, leases, runs
from depload.published.leases import Clock
from depload.published.wheelhouse import SUFFIX
from depload.standards.quantities import duration
from depload.stores import transfers
from depload.stores.addresses import open_store, split

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta
    from pathlib import Path

    from depload.published.leases import Lease
    from depload.stores.store import Entry, Store

Leased = Literal["refuse", "wait", "remove"]
REFUSE, WAIT, REMOVE = "refuse", "wait", "remove"

_SHORTEST_LOOK, _LONGEST_LOOK = 0.2, 10.0  # seconds between two looks at the leases of others
_TOLD_EVERY = 30.0  # seconds
_ATTEMPTS = 2  # a lease that is written, or taken away, in the middle of a removal disturbs it


@dataclass(frozen=True)
class Cleaned:
    """What a cleanup did."""

    path: str
    removed: bool
    """False where there was nothing left to remove, which is success as well."""
    size: int
    """Bytes that were freed."""


def cleanup(
    path: str | os.PathLike[str],
    *,
    leased: Leased = "refuse",
    timeout: timedelta | str = "30m",
    progress: Callable[[str], None] | None = None,
    via: Any = None,  # noqa: ANN401 - Databricks' objects
) -> Cleaned:
    """Remove a run path. One that is already gone is success; anything that is not a run path is refused untouched.

    One that others have loaded, or are about to publish, is refused (``leased="refuse"``), waited for (``"wait"``), at
    most ``timeout`` long, or removed all the same (``"remove"``). What this process has loaded never stands in the way.
    ``progress`` is told every 30 seconds who is waited for. ``via`` is a ``WorkspaceClient`` or a dbutils, for what is
    on Databricks and not mounted here.

    Raises CleanupError where the path is not one that ``convert`` made, LeasedError where it is in use, StoreError
    where it cannot be removed.
    """
    text = os.fspath(path)
    base, name = split(text)
    if leased not in (REFUSE, WAIT, REMOVE):
        raise CleanupError(text, f"leased is {REFUSE!r}, {WAIT!r} or {REMOVE!r}, not {leased!r}")
    patience = duration(timeout).total_seconds() if leased == WAIT else 0.0
    if not runs.is_run_name(name):
        raise CleanupError(text, "its name is not a run's (a UUID)")
    store = open_store(base, via)
    entries = store.list(name)
    if not entries:
        there = _is_there(store, name)
        if not there or (_is_directory(store, name) and store.rmdir(name)):  # what a removal left that was cut short
            return Cleaned(text, removed=there, size=0)
    if why := not_ours(store, name, entries):
        if not store.list(name):  # somebody else's cleanup was quicker
            return Cleaned(text, removed=False, size=0)
        raise CleanupError(text, why)
    if leased == REMOVE:
        _take_down(store, name, entries)
    else:
        _wait_and_take_down(store, name, entries, text, patience, progress)
    return Cleaned(text, removed=True, size=sum(entry.size for entry in entries))


def _wait_and_take_down(
    store: Store,
    run: str,
    entries: Sequence[Entry],
    text: str,
    patience: float,
    progress: Callable[[str], None] | None,
) -> None:
    started, told, pause, clock = time.monotonic(), -_TOLD_EVERY, _SHORTEST_LOOK, Clock(store, run)
    while held := remove_unless_leased(store, run, entries, clock, holds.own()):
        waited = time.monotonic() - started
        if waited >= patience:
            raise LeasedError(text, held)
        if progress and waited - told >= _TOLD_EVERY:
            told = waited
            progress(f"{text} is in use: {'; '.join(map(str, held))}")
        time.sleep(min(pause, patience - waited))
        pause = min(2 * pause, _LONGEST_LOOK)
        entries = store.list(run)


def remove_unless_leased(
    store: Store, run: str, entries: Sequence[Entry], clock: Clock, own: Collection[str] = ()
) -> Sequence[Lease]:
    """Remove a run path whose files, ``entries``, are depload's, unless it is in use; returns the leases, but ``own``.

    The manifest goes first, so that no reader meets half of it; then leases are looked for once more. Whoever has
    written one by then may have read the manifest, and gets it back. Whoever comes later meets no run path.
    """
    if held := leases.alive(store, run, entries, clock, own):
        return held
    manifest = _manifest(store, run)
    store.remove(f"{run}/{runs.MANIFEST}")
    try:
        entries = store.list(run)
        held = leases.alive(store, run, entries, clock, own)
    except BaseException:
        _put_back(store, run, manifest)
        raise
    if held:
        _put_back(store, run, manifest)
    else:
        _take_down(store, run, entries)
    return held


def _manifest(store: Store, run: str) -> bytes | None:
    with contextlib.suppress(NotInStoreError):
        return transfers.read(store, f"{run}/{runs.MANIFEST}")
    return None


def _put_back(store: Store, run: str, manifest: bytes | None) -> None:
    """Unless there is nothing left that it speaks of: another remover did not ask for leases."""
    if manifest is not None and any(entry.name.endswith(SUFFIX) for entry in store.list(run)):
        store.write(f"{run}/{runs.MANIFEST}", manifest)


def _take_down(store: Store, run: str, entries: Sequence[Entry]) -> None:
    """The manifest first, and last the file that says whose it is: what a removal that is cut short leaves is known."""
    holds.forget(store.location(run))
    for name in sorted((entry.name for entry in entries), key=lambda name: name != runs.MANIFEST):
        if name != runs.MARKER:
            store.remove(f"{run}/{name}")
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(StoreError):
            store.remove(run)
            if not store.list(run):
                return
    store.remove(run)
    if store.list(run):
        raise StoreError(
            store.location(run), "something goes on being written there", "find out by whom, and try again"
        )


def _is_there(store: Store, name: str) -> bool:
    """Whether there is something of that name: a file, an empty directory, a link that leads nowhere."""
    here = store.path(name)
    return os.path.lexists(here) if here else name in {entry.name for entry in store.list()}


def _is_directory(store: Store, name: str) -> bool:
    """Whether it is a directory of its own, no link to one."""
    if here := store.path(name):
        return here.is_dir() and not here.is_symlink()
    return any(entry.name == name and entry.is_directory for entry in store.list())


# --- whether it is depload's ----------------------------------------------------------------------------------------


def not_ours(store: Store, run: str, entries: Sequence[Entry]) -> str | None:
    """Why a directory with a run's name is not a run path of depload, nor what is left of one, or None."""
    if why := strange(store, run, entries):
        return why
    name = run.rpartition("/")[2]
    if any(_names_run(store, run, name, marker) for marker in (runs.MARKER, runs.MANIFEST)):
        return None
    return None if _is_left_over(store, run, entries) else f"it has no {runs.MARKER} that names it"


def strange(store: Store, run: str, entries: Sequence[Entry]) -> str | None:
    """The same as far as names tell: no file is read."""
    here = store.path(run)
    if here and (here.is_symlink() or not here.is_dir()):
        return "it is not a directory of its own"
    found = [entry.name for entry in entries if entry.is_directory or not _belongs(entry.name, here)]
    return f"it holds what depload did not put there ({', '.join(sorted(found)[:5])})" if found else None


def _belongs(filename: str, here: Path | None) -> bool:
    if here and (here / filename).is_symlink():
        return False
    return filename in (runs.MARKER, runs.MANIFEST) or filename.endswith(SUFFIX) or leases.is_passing(filename)


def _names_run(store: Store, run: str, name: str, marker: str) -> bool:
    try:
        data = json.loads(transfers.read(store, f"{run}/{marker}"))
    except (NotInStoreError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("run") == name


def _is_left_over(store: Store, run: str, entries: Sequence[Entry]) -> bool:
    """Whether it is what a process leaves that was killed early: a lease alone, or a marker that was cut short."""
    lasting = [entry for entry in entries if not leases.is_passing(entry.name)]
    if [entry.name for entry in lasting] != [runs.MARKER]:
        return bool(entries) and not lasting
    try:
        json.loads(transfers.read(store, f"{run}/{runs.MARKER}"))
    except (NotInStoreError, ValueError):
        return True
    return False
