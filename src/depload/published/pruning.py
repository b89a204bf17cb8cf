"""Remove from a base what is old and not in use: find first, remove second."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from depload.errors import DeploadError, Fault, PruneError, StoreError
from depload.published import bases, leases, removal
from depload.published.bases import Found, Look, Rules
from depload.published.leases import Clock
from depload.standards import quantities
from depload.stores.addresses import open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from depload.stores.store import Store


@dataclass(frozen=True)
class Pruned:
    """What a prune found, and what it removed."""

    base: str
    dry_run: bool
    found: tuple[Found, ...]
    """With ``dry_run``, ``remove`` is what would be removed; else what was."""

    @property
    def removed(self) -> tuple[str, ...]:
        """The addresses of what was removed, or would be."""
        return tuple(each.place for each in self.found if each.fate == "remove")

    @property
    def freed(self) -> int:
        """Its bytes."""
        return sum(each.size for each in self.found if each.fate == "remove")

    @property
    def kept(self) -> int:
        """The bytes of what is depload's and stays."""
        return sum(each.size for each in self.found if each.fate != "remove" and each.kind != "other")

    def to_json(self) -> dict[str, Any]:
        """As ``depload prune --json`` prints it."""
        found = [each.to_json() for each in self.found]
        return {"base": self.base, "dry_run": self.dry_run, "freed": self.freed, "kept": self.kept, "found": found}


def prune(
    base: str | os.PathLike[str],
    *,
    older_than: timedelta | str = "7d",
    max_size: int | str | None = None,
    dry_run: bool = False,
    via: Any = None,  # noqa: ANN401 - Databricks' objects
) -> Pruned:
    """Remove the run paths of ``base`` that are older than ``older_than``, and what crashed runs left there.

    Where the rest is larger than ``max_size`` (``"50GB"``), the oldest of it go as well, down to an age of an hour.
    What is in use, what is being published, and what is not depload's stays. With ``dry_run`` nothing is written and
    nothing removed. ``via`` is a ``WorkspaceClient`` or a dbutils, for what is on Databricks and not mounted here.

    Raises PruneError, which has what was done all the same, where some of it could not be looked at or removed;
    StoreError where the base cannot be read.
    """
    most = None if max_size is None else quantities.size(max_size)
    rules = Rules(quantities.duration(older_than), most)
    return pruned(open_store(base, via), rules, dry_run=dry_run)


def pruned(store: Store, rules: Rules, *, dry_run: bool = False) -> Pruned:
    """``prune`` of a store, by rules of one's own."""
    unasked = dry_run or not store.list()  # to learn the clock of a base that is not there would make it
    clock = Clock() if unasked else _clock(store)
    found = bases.scan(store, rules, clock)
    if not dry_run:
        found = remove(store, found, rules, clock)
    done = Pruned(store.base, dry_run, tuple(found))
    if faults := [Fault(each.place, each.why) for each in found if each.fate == "failed"]:
        raise PruneError(store.base, faults, done)
    return done


def _clock(store: Store) -> Clock:
    folder = leases.fresh_clock_name()
    clock = Clock(store, folder)
    clock.now()  # before several threads ask
    with contextlib.suppress(StoreError):
        store.rmdir(folder)
    return clock


# --- remove ---------------------------------------------------------------------------------------------------------


def remove(store: Store, found: Sequence[Found], rules: Rules, clock: Clock) -> list[Found]:
    """Remove what is to go, and the folders that this empties; a fault is kept and stops nothing."""
    look = Look(store, rules, clock)
    with ThreadPoolExecutor(bases.AT_ONCE) as pool:
        done = list(pool.map(partial(_removed, look), found))
    emptied = {each.key.rpartition("/")[0] for each in done if each.fate == "remove"}
    return [*done, *(fault for folder in sorted(emptied - {""}) for fault in _closed(look, folder))]


def _removed(look: Look, found: Found) -> Found:
    """Look once more, then remove; what is not to go comes back as it is."""
    if found.fate != "remove":
        return found
    try:
        if found.kind in ("run", "unfinished run"):
            return _run_removed(look, found)
        if found.kind == "empty folder":
            gone = look.store.rmdir(found.key)
            return found if gone else replace(found, fate="keep", why="not empty any more")
        look.store.remove(found.key)
    except DeploadError as error:
        return replace(found, fate="failed", why=str(error))
    return found


def _run_removed(look: Look, found: Found) -> Found:
    entries = look.store.list(found.key)
    if not entries:  # somebody else's cleanup was quicker
        look.store.rmdir(found.key)
        return found
    again = bases.run_path(look, found.key, entries)
    if again.fate == "in use":
        return again
    if again.kind != found.kind or (again.age or 0.0) < (found.age or 0.0):
        return replace(again, fate="keep", why="written to meanwhile")
    held = removal.remove_unless_leased(look.store, found.key, entries, look.clock)
    return bases.in_use(found, held) if held else found


def _closed(look: Look, folder: str) -> Iterator[Found]:
    """Remove a folder if it is empty; only a fault is told."""
    try:
        look.store.rmdir(folder)
    except StoreError as error:
        yield replace(look.found(folder, "empty folder", 0, None), fate="failed", why=str(error))
