"""Remove what a run published, and nothing else."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depload.errors import CleanupError, StoreError
from depload.published import runs
from depload.published.wheelhouse import SUFFIX
from depload.stores import transfers
from depload.stores.addresses import open_store, split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from depload.stores.store import Entry, Store


@dataclass(frozen=True)
class Cleaned:
    """What a cleanup did."""

    path: str
    removed: bool
    """False where there was nothing left to remove, which is success as well."""
    size: int
    """Bytes that were freed."""


def cleanup(path: str | os.PathLike[str], *, via: Any = None) -> Cleaned:  # noqa: ANN401 - Databricks' objects
    """Remove a run path. One that is already gone is success; anything that is not a run path is refused untouched.

    ``via`` is a ``WorkspaceClient`` or a dbutils, for what is on Databricks and not mounted here. Raises CleanupError
    where the path is not one that ``convert`` made, StoreError where it cannot be removed.
    """
    text = os.fspath(path)
    base, name = split(text)
    if not runs.is_run_name(name):
        raise CleanupError(text, "its name is not a run's (a UUID)")
    store = open_store(base, via)
    entries = store.list(name)
    if not entries and not _is_there(store, name):
        return Cleaned(text, removed=False, size=0)
    if why := _not_ours(store, name, entries):
        raise CleanupError(text, why)
    store.remove(f"{name}/{runs.MANIFEST}")  # first, so that no reader meets half of it
    store.remove(name)
    return Cleaned(text, removed=True, size=sum(entry.size for entry in entries))


def _is_there(store: Store, name: str) -> bool:
    """Whether there is something of that name: a file, an empty directory, a link that leads nowhere."""
    here = store.path(name)
    return os.path.lexists(here) if here else name in {entry.name for entry in store.list()}


def _not_ours(store: Store, name: str, entries: Sequence[Entry]) -> str | None:
    """Why a directory is not a run path of depload, or None."""
    here = store.path(name)
    if here and (here.is_symlink() or not here.is_dir()):
        return "it is not a directory of its own"
    strange = [entry.name for entry in entries if entry.is_directory or not _belongs(entry.name, here)]
    if strange:
        return f"it holds what depload did not put there ({', '.join(sorted(strange)[:5])})"
    if not any(_names_run(store, name, marker) for marker in (runs.MARKER, runs.MANIFEST)):
        return f"it has no {runs.MARKER} that names it"
    return None


def _belongs(filename: str, here: Path | None) -> bool:
    named = filename in (runs.MARKER, runs.MANIFEST) or filename.endswith(SUFFIX)
    return named and not (here and (here / filename).is_symlink())


def _names_run(store: Store, run: str, marker: str) -> bool:
    try:
        data = json.loads(transfers.read(store, f"{run}/{marker}"))
    except (StoreError, ValueError):
        return False
    return isinstance(data, dict) and data.get("run") == run
