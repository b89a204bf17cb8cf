"""The places where run paths live, behind few verbs."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Protocol

from depload.errors import StoreError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)
_REMEDIES = {
    errno.ENOSPC: "free space there, or give another base",
    errno.EDQUOT: "free space there, or give another base",
    errno.EACCES: "give a base that this user may write to",
    errno.EPERM: "give a base that this user may write to",
    errno.EROFS: "give a base that can be written",
    errno.ENOTDIR: "give a directory",
}


class Store(Protocol):
    """Files under keys such as ``3f0a.../manifest.json``.

    Nothing more is assumed: no rename, no append, no locks. Every verb raises StoreError, which names the place.
    """

    base: str

    def put(self, key: str, file: Path) -> None:
        """Copy a local file to ``key``."""

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""

    def remove(self, prefix: str) -> None:
        """Remove everything below ``prefix``; nothing there is success."""

    def location(self, key: str) -> str:
        """What a user calls the place of ``key``."""


class LocalStore:
    """A directory: a local one, or one that is mounted (``/Volumes``, ``/dbfs``)."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/") or "/"
        self._root = Path(base)

    def put(self, key: str, file: Path) -> None:
        """Copy a local file to ``key``."""
        try:
            path = self._root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, path)
        except OSError as error:
            raise self._error(error) from error

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""
        try:
            path = self._root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise self._error(error) from error

    def remove(self, prefix: str) -> None:
        """Remove everything below ``prefix``; nothing there is success."""
        try:
            shutil.rmtree(self._root / prefix)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._error(error) from error

    def location(self, key: str) -> str:
        """What a user calls the place of ``key``."""
        return str(self._root / key)

    def _error(self, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        return StoreError(self.base, f"cannot be written ({reason})", _REMEDIES.get(error.errno or 0, ""))


def open_store(base: str | os.PathLike[str]) -> Store:
    """The store that ``base`` means: a directory, ``file:`` included. Raises StoreError for anything else."""
    text = os.fspath(base)
    if text.startswith("file:"):
        return LocalStore(re.sub(r"^file:(?://)?", "", text))
    if match := _SCHEME.match(text):
        raise StoreError(text, f"{match[1]}: addresses are not read or written by this version", mounted(text))
    if not text:
        raise StoreError("base", "is empty", "give a directory")
    return LocalStore(str(Path(text).absolute()))


def mounted(address: str) -> str:
    """How a ``dbfs:`` address is called where it is mounted; the general advice for any other."""
    if address.startswith("dbfs:/Volumes/"):
        return f"on a cluster, give it as it is mounted: {address[5:]}"
    if address.startswith("dbfs:/"):
        return f"on a cluster, give it as it is mounted: /dbfs{address[5:]}"
    return "give a directory, or a mounted path such as /Volumes/catalog/schema/volume/deps"
