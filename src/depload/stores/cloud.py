"""Object stores (``s3://``, ``abfss://``, ``gs://``), through fsspec; the credentials are what its drivers find."""

from __future__ import annotations

import contextlib
import posixpath
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from depload.errors import NotInStoreError, StoreError, ToolMissingError
from depload.stores.store import CHUNK, Entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from depload.stores.store import Moved

DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "abfss": "adlfs", "abfs": "adlfs", "az": "adlfs", "gs": "gcsfs", "gcs": "gcsfs"}
"""The package that brings fsspec's driver for a scheme."""

_BLOCK = 8 << 20  # a part of an upload: S3 takes 10,000 of at least 5 MiB, and each is held in memory


class CloudStore:
    """Files below an address of an object store."""

    def __init__(self, address: str) -> None:
        scheme = address.partition(":")[0]
        try:
            fsspec = import_module("fsspec")
            self._fs, self._root = fsspec.core.url_to_fs(address)
        except ImportError:
            driver = DRIVERS.get(scheme, "fsspec")
            raise ToolMissingError(driver, address, f"pip install 'depload[cloud]', or {driver} alone") from None
        except Exception as error:
            raise StoreError(address, f"cannot be opened ({_line(error)})", "see the driver's documentation") from error
        self.base = address.rstrip("/")

    def put(self, key: str, file: Path, moved: Moved | None = None) -> None:
        """Copy a local file to ``key``, in parts."""
        total, done = file.stat().st_size, 0
        with self._told("written"):
            self._make(posixpath.dirname(self._at(key)))
            with file.open("rb") as source, self._fs.open(self._at(key), "wb", block_size=_BLOCK) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    done += len(chunk)
                    if moved:
                        moved(done, total)

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""
        with self._told("written"):
            self._make(posixpath.dirname(self._at(key)))
            self._fs.pipe_file(self._at(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """Write a small file where there is none; whether it was, as far as the driver can tell."""
        with self._told("written"):
            self._make(posixpath.dirname(self._at(key)))
            try:
                self._fs.pipe_file(
                    self._at(key), data, mode="create"
                )  # from fsspec 2024.10 on, and not by every driver
            except FileExistsError:
                return False
            except (TypeError, NotImplementedError):
                if self._fs.exists(self._at(key)):
                    return False
                self._fs.pipe_file(self._at(key), data)
        return True

    def open(self, key: str) -> BinaryIO:
        """A stream to read the file from, a block ahead."""
        with self._told("read", key):
            return cast("BinaryIO", self._fs.open(self._at(key), "rb", block_size=_BLOCK, cache_type="readahead"))

    def list(self, prefix: str = "") -> list[Entry]:
        """What lies directly below; nothing where there is no such directory."""
        folder = self._at(prefix)
        with contextlib.suppress(NotInStoreError), self._told("read", prefix or "."):
            self._fs.invalidate_cache()  # another process may have written there meanwhile
            items = self._fs.ls(folder, detail=True)
            found = [_entry(item) for item in items if item["name"].strip("/") != folder.strip("/")]  # a file is itself
            return sorted(found, key=lambda entry: entry.name)
        return []

    def remove(self, key: str) -> None:
        """Remove a file, or all that is below a prefix; nothing there is success."""
        with contextlib.suppress(NotInStoreError), self._told("removed", key):
            self._fs.invalidate_cache()
            self._fs.rm(self._at(key), recursive=True)

    def rmdir(self, key: str) -> bool:
        """Whether nothing is below it: a directory is there as long as something is in it."""
        if self.list(key):
            return False
        with contextlib.suppress(Exception):  # but some drivers have directories
            self._fs.rmdir(self._at(key))
        return True

    def location(self, key: str) -> str:
        """What a user calls the place of ``key``."""
        return posixpath.join(self.base, key)

    def path(self, key: str) -> Path | None:
        """Nowhere: it is fetched."""
        del key
        return None

    def seen(self, key: str) -> str | None:
        """Workers mount no object store by its address."""
        del key
        return None

    def uri(self, key: str) -> str | None:
        """Whether Spark has a file system and credentials for it is not known, and finding out may take minutes."""
        del key
        return None

    def _at(self, key: str) -> str:
        return posixpath.join(self._root, key) if key else self._root

    def _make(self, folder: str) -> None:
        with contextlib.suppress(FileExistsError, NotImplementedError):  # most have no directories
            self._fs.makedirs(folder, exist_ok=True)

    @contextlib.contextmanager
    def _told(self, what: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if key:
                raise NotInStoreError(self.location(key)) from error
            raise StoreError(
                self.base, f"cannot be {what} ({_line(error)})", "see whether the bucket exists"
            ) from error
        except Exception as error:  # each driver raises its own
            remedy = "see the credentials that the driver finds, and what they allow"
            raise StoreError(self.base, f"cannot be {what} ({_line(error)})", remedy) from error


def _entry(item: dict[str, Any]) -> Entry:
    folder = item["type"] == "directory"
    when = next((item[name] for name in ("LastModified", "last_modified", "mtime", "created") if item.get(name)), None)
    seconds = when.timestamp() if isinstance(when, datetime) else when if isinstance(when, float) else None
    return Entry(_name(item), folder, 0 if folder else int(item["size"] or 0), seconds)


def _name(item: dict[str, Any]) -> str:
    return posixpath.basename(str(item["name"]).rstrip("/"))


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
