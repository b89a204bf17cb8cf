"""What a store is: files under keys, and few verbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 1 << 20
"""Bytes that are moved at once."""

Moved = Callable[[int, "int | None"], None]
"""Told of the bytes that have been moved, and of how many there are."""


@dataclass(frozen=True)
class Entry:
    """What lies directly below a prefix."""

    name: str
    is_directory: bool
    size: int = 0
    """Bytes; 0 for a directory."""
    modified: float | None = None
    """Seconds since the epoch by the store's own clock; None where the store does not say."""


class Store(Protocol):
    """Files under keys such as ``3f0a.../manifest.json``.

    Nothing more is assumed: no rename, no append, no locks. Every verb raises StoreError, which names the place, and
    NotInStoreError where there is no such file.
    """

    base: str
    """How a user calls the place."""

    def put(self, key: str, file: Path, moved: Moved | None = None) -> None:
        """Copy a local file to ``key``."""

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a small file where there is none; whether it was. Of several who try at once, at most one is told so.

        Where a store cannot promise that, more than one may be.
        """

    def open(self, key: str) -> BinaryIO:
        """A stream to read the file from, once, from its beginning to its end."""

    def list(self, prefix: str = "") -> list[Entry]:
        """What lies directly below; nothing where there is no such directory."""

    def remove(self, key: str) -> None:
        """Remove a file, or a directory with all that is in it; nothing there is success."""

    def rmdir(self, key: str) -> bool:
        """Remove a directory if it is empty; whether it is gone. Where there are no directories, none is left."""

    def location(self, key: str) -> str:
        """What a user calls the place of ``key``."""

    def path(self, key: str) -> Path | None:
        """Where this process opens it as a file of its own; None where it must be fetched."""

    def seen(self, key: str) -> str | None:
        """Where a cluster's Python workers would open it as a file, if its compute mounts the store."""

    def uri(self, key: str) -> str | None:
        """How Spark's own file systems call it, to read it on each executor; None where they cannot."""
