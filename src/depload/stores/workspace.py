"""Stores of a Databricks workspace that is reached through its API, by databricks-sdk."""

from __future__ import annotations

import contextlib
import io
import posixpath
from abc import ABC, abstractmethod
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from depload.errors import NotInStoreError, StoreError
from depload.stores.store import CHUNK, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from depload.stores.store import Moved

_ATTEMPTS = 4
_PART = 10 << 20  # bytes; an upload may have 10,000 parts, so this is enough for 100 GB
_REMEDIES = {
    "PermissionDenied": "let this user read and write it (READ VOLUME, WRITE VOLUME)",
    "Unauthenticated": "log in: databricks auth login, or DATABRICKS_HOST and DATABRICKS_TOKEN",
    "NotFound": "see whether the catalog, schema and volume exist",
}


class _Api(ABC):
    """What the stores of a workspace have in common; ``folder`` is the base as the API calls it."""

    def __init__(self, client: Any, folder: str, base: str) -> None:  # noqa: ANN401 - a WorkspaceClient
        self.base = base.rstrip("/")
        self._client = client
        self._folder = folder.rstrip("/") or "/"

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""
        with self._told("written"):
            self._upload(self._at(key), io.BytesIO(data))

    def create(self, key: str, data: bytes) -> bool:
        """Write a small file where there is none; whether it was."""
        with self._told("written"):
            try:
                self._upload(self._at(key), io.BytesIO(data), overwrite=False)
            except Exception as error:
                if not {"AlreadyExists", "ResourceAlreadyExists", "ResourceConflict"} & set(_names(error)):
                    raise
                with self.open(key) as stream:  # what was tried again after a lost answer meets what it made itself
                    return stream.read() == data
        return True

    def put(self, key: str, file: Path, moved: Moved | None = None) -> None:
        """Copy a local file to ``key``; the SDK tries again what may be tried again, from where it was."""
        with self._told("written"), file.open("rb") as opened:
            self._upload(self._at(key), cast("BinaryIO", _Counted(opened, file.stat().st_size, moved)))

    def open(self, key: str) -> BinaryIO:
        """A stream to read the file from; the SDK goes on where a connection broke."""
        with self._told("read", key):
            return cast("BinaryIO", _Told(self._download(self._at(key)), self, key))

    def list(self, prefix: str = "") -> list[Entry]:
        """What lies directly below; nothing where there is no such directory."""
        with contextlib.suppress(NotInStoreError), self._told("read", prefix or "."):
            return sorted(self._entries(self._at(prefix)), key=lambda entry: entry.name)
        return []

    def remove(self, key: str) -> None:
        """Remove a file, or a directory with all that is in it; nothing there is success."""
        with contextlib.suppress(NotInStoreError), self._told("removed", key):
            self._delete(self._at(key))

    def rmdir(self, key: str) -> bool:
        """Remove a directory if it is empty; whether it is gone."""
        if self.list(key):
            return False
        with contextlib.suppress(NotInStoreError), self._told("removed", key):
            self._delete_empty(self._at(key))  # the API refuses where something has come
        return True

    def location(self, key: str) -> str:
        """What a user calls the place of ``key``."""
        return posixpath.join(self.base, key)

    def path(self, key: str) -> Path | None:
        """Nowhere: it is fetched."""
        del key
        return None

    def uri(self, key: str) -> str | None:
        """Spark's file server reads no volume (JVM code cannot)."""
        del key
        return None

    @abstractmethod
    def seen(self, key: str) -> str | None:
        """Where a cluster's workers may have it."""

    def _at(self, key: str) -> str:
        return posixpath.join(self._folder, key) if key else self._folder

    @abstractmethod
    def _upload(self, path: str, stream: BinaryIO, *, overwrite: bool = True) -> None: ...

    @abstractmethod
    def _download(self, path: str) -> Any: ...  # noqa: ANN401 - the SDK's stream

    @abstractmethod
    def _entries(self, path: str) -> Iterable[Entry]: ...

    @abstractmethod
    def _delete(self, path: str) -> None: ...

    @abstractmethod
    def _delete_empty(self, path: str) -> None: ...

    @contextlib.contextmanager
    def _told(self, what: str, key: str = "") -> Iterator[None]:
        """The SDK's errors become ours; of a missing file where ``key`` names the one that is asked for."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            names = _names(error)
            if key and "NotFound" in names:
                raise NotInStoreError(self.location(key)) from error
            reason = str(error).partition("\n")[0].strip() or names[0]
            remedy = next((_REMEDIES[name] for name in names if name in _REMEDIES), "")
            raise StoreError(self.base, f"cannot be {what} ({reason})", remedy) from error


class VolumeStore(_Api):
    """A directory of a Unity Catalog volume, through the Files API."""

    def seen(self, key: str) -> str | None:
        """Clusters and serverless compute mount volumes at the same path."""
        return self._at(key)

    def _upload(self, path: str, stream: BinaryIO, *, overwrite: bool = True) -> None:
        files = self._client.files
        files.create_directory(posixpath.dirname(path))
        # One small part at a time, because each is held in memory. As a parallel upload of one: the SDK's sequential
        # one reads 50 MiB before it begins. Before 0.60 the SDK knows no parts.
        known = signature(files.upload).parameters
        parts = {name: value for name, value in (("parallelism", 1), ("part_size", _PART)) if name in known}
        files.upload(path, stream, overwrite=overwrite, **parts)

    def _download(self, path: str) -> Any:  # noqa: ANN401
        return self._client.files.download(path).contents

    def _entries(self, path: str) -> Iterable[Entry]:
        for item in self._client.files.list_directory_contents(f"{path}/"):
            folder = bool(item.is_directory)
            when = item.last_modified / 1000 if item.last_modified else None
            yield Entry(item.name, folder, 0 if folder else item.file_size or 0, when)

    def _delete(self, path: str) -> None:
        files = self._client.files
        try:
            files.get_directory_metadata(path)
        except Exception as error:
            if "NotFound" not in _names(error):
                raise
            files.delete(path)
            return
        for item in self._entries(path):
            self._delete(posixpath.join(path, item.name))
        files.delete_directory(path)

    def _delete_empty(self, path: str) -> None:
        self._client.files.delete_directory(path)


class DbfsStore(_Api):
    """A directory of DBFS, through the DBFS API."""

    def seen(self, key: str) -> str | None:
        """Clusters with the mount have it below ``/dbfs``."""
        return f"/dbfs{self._at(key)}"

    def uri(self, key: str) -> str | None:
        """Spark on Databricks reads DBFS itself."""
        return f"dbfs:{self._at(key)}"

    def _upload(self, path: str, stream: BinaryIO, *, overwrite: bool = True) -> None:
        # The SDK's own upload sends a request for every 64 KiB; the API takes blocks of 1 MiB.
        with self._client.dbfs.open(f"dbfs:{path}", write=True, overwrite=overwrite) as target:
            while block := stream.read(CHUNK):
                target.write(block)

    def _download(self, path: str) -> Any:  # noqa: ANN401
        return self._client.dbfs.open(f"dbfs:{path}", read=True)

    def _entries(self, path: str) -> Iterable[Entry]:
        for item in self._client.dbfs.list(f"dbfs:{path}"):
            if item.path == path:  # a file is listed as itself
                continue
            when = item.modification_time / 1000 if item.modification_time else None
            yield Entry(posixpath.basename(item.path), bool(item.is_dir), item.file_size or 0, when)

    def _delete(self, path: str) -> None:
        self._client.dbfs.delete(f"dbfs:{path}", recursive=True)

    def _delete_empty(self, path: str) -> None:
        # The SDK's extension refuses every directory without ``recursive``, the API only those that hold something.
        import_module("databricks.sdk.service.files").DbfsAPI.delete(self._client.dbfs, path, recursive=False)


class WorkspaceFilesStore(_Api):
    """A folder of the workspace's own files, to read sources from."""

    def seen(self, key: str) -> str | None:
        """Clusters mount it, but what runs may not be there for long: no run path lies here."""
        del key
        return None

    def _upload(self, path: str, stream: BinaryIO, *, overwrite: bool = True) -> None:
        del stream, overwrite
        raise StoreError(path, "is not a place for run paths", "give a base on a volume, /Volumes/...")

    def _download(self, path: str) -> Any:  # noqa: ANN401
        return self._client.workspace.download(path)

    def _entries(self, path: str) -> Iterable[Entry]:
        for item in self._client.workspace.list(path):
            if item.path == path:  # a file is listed as itself
                continue
            folder = item.object_type is not None and item.object_type.name in ("DIRECTORY", "REPO")
            when = item.modified_at / 1000 if item.modified_at else None
            yield Entry(posixpath.basename(item.path or ""), folder, item.size or 0, when)

    def _delete(self, path: str) -> None:
        raise StoreError(path, "is not removed by depload", "remove it in the workspace")

    def _delete_empty(self, path: str) -> None:
        self._delete(path)


def _names(error: Exception) -> list[str]:
    """What an error of the SDK's is, the nearest first: its classes need not be imported to know them."""
    return [kind.__name__ for kind in type(error).__mro__]


# --- streams --------------------------------------------------------------------------------------------------------


class _Counted(io.BufferedIOBase):
    """A file that is read, from anywhere again where a part is sent again, and says how far it has come."""

    def __init__(self, file: BinaryIO, total: int, moved: Moved | None) -> None:
        self._file = file
        self._total = total
        self._moved = moved

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        if self._moved:
            self._moved(self._file.tell(), self._total)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _broken() -> tuple[type[Exception], ...]:
    """What requests raises where an answer ends too early."""
    errors = import_module("requests.exceptions")
    return errors.ConnectionError, errors.ChunkedEncodingError, errors.JSONDecodeError


class _Told(io.RawIOBase):
    """A stream of the SDK's, whose errors are ours.

    A block that breaks off is asked for again: the SDK does so for requests, and for a volume's files, but not for the
    answer that a block of DBFS is; either way its stream stands where the last whole one ended.
    """

    def __init__(self, stream: Any, store: _Api, key: str) -> None:  # noqa: ANN401
        self._stream = stream
        self._store = store
        self._key = key

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        wanted = CHUNK if size is None or size < 0 else min(size, CHUNK)  # DBFS answers with no more
        with self._store._told("read", self._key):  # noqa: SLF001 - one thing in two classes
            for _ in range(_ATTEMPTS - 1):
                with contextlib.suppress(ConnectionError, *_broken()):
                    return bytes(self._stream.read(wanted))
            return bytes(self._stream.read(wanted))

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK), b""))

    def close(self) -> None:
        if not self.closed and hasattr(self._stream, "close"):
            self._stream.close()
        super().close()
