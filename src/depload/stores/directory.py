"""A store that is a directory: a local one, or one that is mounted (``/Volumes``, ``/dbfs``)."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from depload.errors import NotInStoreError, StoreError
from depload.stores.store import CHUNK, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from depload.stores.store import Moved

_REMEDIES = {
    errno.ENOSPC: "free space there, or give another base",
    errno.EDQUOT: "free space there, or give another base",
    errno.EACCES: "give a base that this user may write to",
    errno.EPERM: "give a base that this user may write to",
    errno.EROFS: "give a base that can be written",
    errno.ENOTDIR: "give a directory",
}
_ON_DBFS = "/dbfs/"


class DirectoryStore:
    """Files of this machine's file system; each is written anew and whole, as a FUSE mount knows nothing else."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/") or "/"
        self._root = Path(self.base)

    def put(self, key: str, file: Path, moved: Moved | None = None) -> None:
        """Copy a local file to ``key``."""
        total, done = file.stat().st_size, 0
        with self._told("written"), file.open("rb") as source, self._fresh(key).open("wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                done += len(chunk)
                if moved:
                    moved(done, total)

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""
        with self._told("written"):
            self._fresh(key).write_bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        """Write a small file where there is none; whether it was (open(2), O_EXCL)."""
        with self._told("written"):
            try:
                with self._fresh(key).open("xb") as opened:
                    opened.write(data)
            except FileExistsError:
                return False
        return True

    def open(self, key: str) -> BinaryIO:
        """A stream to read the file from."""
        with self._told("read", key):
            return (self._root / key).open("rb")

    def list(self, prefix: str = "") -> list[Entry]:
        """What lies directly below, links as what they lead to; nothing where there is no such directory."""
        with self._told("read"), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return sorted(self._entries(self._root / prefix), key=lambda entry: entry.name)
        return []

    def _entries(self, folder: Path) -> Iterator[Entry]:
        for item in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):  # somebody else's cleanup was quicker
                about = item.stat()
                yield Entry(item.name, item.is_dir(), 0 if item.is_dir() else about.st_size, about.st_mtime)

    def remove(self, key: str) -> None:
        """Remove a file, or a directory with all that is in it; a link goes, what it leads to stays."""
        path = self._root / key
        with self._told("removed"), contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def rmdir(self, key: str) -> bool:
        """Remove a directory if it is empty; whether it is gone."""
        with self._told("removed"), contextlib.suppress(FileNotFoundError):
            try:
                (self._root / key).rmdir()
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return False
                raise
        return True

    def location(self, key: str) -> str:
        """What a user calls the place of ``key``."""
        return str(self._root / key)

    def path(self, key: str) -> Path | None:
        """The file itself."""
        return self._root / key

    def seen(self, key: str) -> str | None:
        """The same path: whether workers see it, they tell."""
        return str((self._root / key).absolute())

    def uri(self, key: str) -> str | None:
        """A file on DBFS has an address that outlives this driver."""
        path = self.seen(key) or ""
        return f"dbfs:/{path.removeprefix(_ON_DBFS)}" if path.startswith(_ON_DBFS) else None

    def _fresh(self, key: str) -> Path:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def _told(self, what: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if key:
                raise NotInStoreError(self.location(key)) from error
            raise self._error(error, what) from error
        except OSError as error:
            raise self._error(error, what) from error

    def _error(self, error: OSError, what: str) -> StoreError:
        reason = error.strerror or str(error)
        return StoreError(self.base, f"cannot be {what} ({reason})", _REMEDIES.get(error.errno or 0, ""))
