"""The directory that holds what the workspace holds."""

from __future__ import annotations

import os
import threading
import uuid
from typing import TYPE_CHECKING

from workspace.messages import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


class Disk:
    """Files below a directory under the names of the API; what is written appears whole, or not at all."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self._scratch = scratch
        self.lock = threading.Lock()
        for each in (root, scratch):
            each.mkdir(parents=True, exist_ok=True)

    def at(self, path: str) -> Path:
        """The place of ``path`` here."""
        parts = [part for part in path.split("/") if part not in {"", "."}]
        if ".." in parts or "\0" in path:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Invalid path: {path}")
        return self.root.joinpath(*parts)

    def name(self, place: Path) -> str:
        """The path of a place, as the API says it."""
        relative = place.relative_to(self.root).as_posix()
        return "/" if relative == "." else f"/{relative}"

    def write(self, place: Path, pieces: Iterable[bytes], check: Callable[[], object]) -> None:
        """Write a file; ``check`` says no by raising, before anything is read and again before the file appears."""
        check()
        scratch = self._scratch / uuid.uuid4().hex
        try:
            with scratch.open("wb") as opened:
                opened.writelines(pieces)
            with self.lock:
                check()
                place.parent.mkdir(parents=True, exist_ok=True)
                scratch.replace(place)
        finally:
            scratch.unlink(missing_ok=True)


def blocked(place: Path, root: Path) -> bool:
    """Whether something above ``place`` is a file."""
    return any(parent.is_file() for parent in place.parents if parent != root and root in parent.parents)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
