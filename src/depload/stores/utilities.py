"""A store that is reached through a cluster's ``dbutils.fs``: DBFS and volumes where neither is mounted."""

from __future__ import annotations

import contextlib
import posixpath
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from depload.errors import NotInStoreError, StoreError
from depload.stores.store import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from depload.stores.store import Moved


_MISSING = ("FileNotFoundException", "No such file or directory", "RESOURCE_DOES_NOT_EXIST")  # as the JVM says it


class UtilitiesStore:
    """Files below ``address`` (``dbfs:/...``), copied to and from the driver's disk by the platform itself."""

    def __init__(self, fs: Any, address: str, base: str) -> None:  # noqa: ANN401 - dbutils.fs
        self.base = base.rstrip("/")
        self._address = address.rstrip("/")
        self._fs = fs

    def put(self, key: str, file: Path, moved: Moved | None = None) -> None:
        """Copy a local file to ``key``; ``moved`` is told in the end, as the platform says nothing before."""
        with self._told("written"):
            self._fs.mkdirs(posixpath.dirname(self._at(key)))
            self._fs.cp(f"file:{file.absolute()}", self._at(key))
        if moved:
            moved(file.stat().st_size, file.stat().st_size)

    def write(self, key: str, data: bytes) -> None:
        """Write a small file."""
        with tempfile.TemporaryDirectory(prefix="depload-") as scratch:
            file = Path(scratch, "data")
            file.write_bytes(data)
            self.put(key, file)

    def create(self, key: str, data: bytes) -> bool:
        """Write a small file of text where there is none; whether it was."""
        with self._told("written"):
            self._fs.mkdirs(posixpath.dirname(self._at(key)))
            try:
                self._fs.put(self._at(key), data.decode(), False)  # noqa: FBT003 - its name differs between runtimes
            except Exception as error:
                if "exist" in f"{type(error).__name__}{error}".lower():
                    return False
                raise
        return True

    def open(self, key: str) -> BinaryIO:
        """A stream to read the file from, which lies on the driver's disk until it is closed."""
        scratch = tempfile.TemporaryDirectory(prefix="depload-")
        try:
            with self._told("read", key):
                self._fs.cp(self._at(key), f"file:{scratch.name}/data")
            stream = Path(scratch.name, "data").open("rb")  # noqa: SIM115 - closed by who reads it
        except BaseException:
            scratch.cleanup()
            raise
        return cast("BinaryIO", _Fetched(stream, scratch))

    def list(self, prefix: str = "") -> list[Entry]:
        """What lies directly below; nothing where there is no such directory."""
        with contextlib.suppress(NotInStoreError), self._told("read", prefix or "."):
            folder = self._at(prefix) if prefix else self._address
            items = [item for item in self._fs.ls(folder) if item.path.removeprefix("dbfs:") != folder[5:]]
            return sorted(map(_entry, items), key=lambda entry: entry.name)  # without a file, which is listed as itself
        return []

    def remove(self, key: str) -> None:
        """Remove a file, or a directory with all that is in it; nothing there is success."""
        with contextlib.suppress(NotInStoreError), self._told("removed", key):
            self._fs.rm(self._at(key), True)  # noqa: FBT003 - its name differs between runtimes

    def rmdir(self, key: str) -> bool:
        """Remove a directory if it is empty; whether it is gone."""
        if self.list(key):
            return False
        with contextlib.suppress(NotInStoreError), self._told("removed", key):
            self._fs.rm(self._at(key))  # not what is in it: the platform refuses where something has come
        return True

    def location(self, key: str) -> str:
        """What a user calls the place of ``key``."""
        return posixpath.join(self.base, key)

    def _at(self, key: str) -> str:
        return posixpath.join(self._address, key)

    def path(self, key: str) -> Path | None:
        """Nowhere: it is fetched."""
        del key
        return None

    def seen(self, key: str) -> str | None:
        """Where clusters mount it."""
        place = self._at(key).removeprefix("dbfs:")
        return place if place.startswith("/Volumes/") else f"/dbfs{place}"

    def uri(self, key: str) -> str | None:
        """Spark on Databricks reads DBFS itself, and no volume."""
        place = self._at(key)
        return None if place.startswith("dbfs:/Volumes/") else place

    @contextlib.contextmanager
    def _told(self, what: str, key: str = "") -> Iterator[None]:
        """What the JVM, or the SDK, raises becomes an error of ours."""
        try:
            yield
        except Exception as error:
            said = str(error)
            kinds = {kind.__name__ for kind in type(error).__mro__}
            missing = "NotFound" in kinds or any(sign in said for sign in _MISSING)
            if key and missing:
                raise NotInStoreError(self.location(key)) from error
            line = said.strip().partition("\n")[0] or type(error).__name__
            raise StoreError(self.base, f"cannot be {what} ({line})") from error


class _Fetched:
    """A file of the driver's disk that goes when it is closed."""

    def __init__(self, stream: BinaryIO, scratch: tempfile.TemporaryDirectory[str]) -> None:
        self._stream = stream
        self._scratch = scratch
        self.read = stream.read

    def close(self) -> None:
        self._stream.close()
        self._scratch.cleanup()

    def __enter__(self) -> _Fetched:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _entry(info: Any) -> Entry:  # noqa: ANN401 - a FileInfo, of which each runtime has its own
    folder = info.name.endswith("/") if not hasattr(info, "isDir") else bool(_called(info.isDir))
    modified = getattr(info, "modificationTime", None)
    return Entry(info.name.rstrip("/"), folder, 0 if folder else info.size, modified / 1000 if modified else None)


def _called(value: Any) -> Any:  # noqa: ANN401
    return value() if callable(value) else value
