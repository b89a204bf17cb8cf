"""Remove what a run published, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depload.errors import CleanupError, StoreError
from depload.published import runs
from depload.published.wheelhouse import SUFFIX

if TYPE_CHECKING:
    import os


@dataclass(frozen=True)
class Cleaned:
    """What a cleanup did."""

    path: str
    removed: bool
    """False where there was nothing left to remove, which is success as well."""
    size: int
    """Bytes that were freed."""


def cleanup(path: str | os.PathLike[str]) -> Cleaned:
    """Remove a run path. One that is already gone is success; anything that is not a run path is refused untouched.

    Raises CleanupError where the path is not one that ``convert`` made, StoreError where it cannot be removed.
    """
    place = Path(path)
    if not runs.is_run_name(place.name):
        raise CleanupError(str(path), "its name is not a run's (a UUID)")
    if not place.is_symlink() and not place.exists():
        return Cleaned(str(path), removed=False, size=0)
    if why := _not_ours(place):
        raise CleanupError(str(path), why)
    size = sum(file.stat().st_size for file in place.iterdir())
    try:
        (place / runs.MANIFEST).unlink(missing_ok=True)  # first, so that no reader meets half of it
        shutil.rmtree(place)
    except FileNotFoundError:  # somebody else's cleanup was quicker
        return Cleaned(str(path), removed=False, size=0)
    except OSError as error:
        raise StoreError(str(path), f"could not be removed ({error.strerror or error})", "remove it by hand") from error
    return Cleaned(str(path), removed=True, size=size)


def _not_ours(place: Path) -> str | None:
    """Why a directory is not a run path of depload, or None."""
    if place.is_symlink() or not place.is_dir():
        return "it is not a directory of its own"
    strange = [entry.name for entry in place.iterdir() if not _belongs(entry)]
    if strange:
        return f"it holds what depload did not put there ({', '.join(sorted(strange)[:5])})"
    markers = [place / name for name in (runs.MARKER, runs.MANIFEST)]
    if not any(_names_run(marker, place.name) for marker in markers):
        return f"it has no {runs.MARKER} that names it"
    return None


def _belongs(entry: Path) -> bool:
    named = entry.name in (runs.MARKER, runs.MANIFEST) or entry.name.endswith(SUFFIX)
    return named and entry.is_file() and not entry.is_symlink()


def _names_run(marker: Path, run: str) -> bool:
    try:
        data = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and data.get("run") == run
