"""Moving files between this machine and a store, so that what arrives is what was sent."""

from __future__ import annotations

import hashlib
import posixpath
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from depload.errors import NotInStoreError, SourceError, TransferError
from depload.stores.addresses import is_local, open_store, split
from depload.stores.store import CHUNK

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

    from depload.stores.store import Entry, Moved, Store

_ATTEMPTS = 2  # what the store's own client can mend it has mended; a file that is altered is sent once more


def send(store: Store, key: str, file: Path, sha256: str | None = None, moved: Moved | None = None) -> str:
    """Copy a local file, and read back what has landed; its SHA-256, which is found meanwhile if it is not given.

    Raises TransferError where another file has landed, twice.
    """

    def attempt() -> str:
        store.put(key, file, moved)
        return digest(store, key)

    with ThreadPoolExecutor(1) as beside:
        found = beside.submit(_digest, file.open("rb")) if sha256 is None else None
        return _verified(attempt, lambda: found.result() if found else sha256, store.location(key))


def write(store: Store, key: str, data: bytes) -> None:
    """Write a small file, and read back what has landed. Raises TransferError where it is another file twice."""

    def attempt() -> str:
        store.write(key, data)
        return digest(store, key)

    _verified(attempt, lambda: hashlib.sha256(data).hexdigest(), store.location(key))


def receive(store: Store, key: str, to: Path, sha256: str | None = None, moved: Moved | None = None) -> None:
    """Copy a file of a store to this machine. Raises TransferError where it has another hash than ``sha256`` twice."""

    def attempt() -> str:
        found, done = hashlib.sha256(), 0
        with to.open("wb") as target:
            for chunk in _chunks(store.open(key)):
                target.write(chunk)
                found.update(chunk)
                done += len(chunk)
                if moved:
                    moved(done, None)
        return found.hexdigest()

    _verified(attempt, lambda: sha256, store.location(key))


def read(store: Store, key: str) -> bytes:
    """A small file whole."""
    return b"".join(_chunks(store.open(key)))


def digest(store: Store, key: str) -> str:
    """The SHA-256 of a file of a store."""
    return _digest(store.open(key))


def _digest(stream: BinaryIO) -> str:
    found = hashlib.sha256()
    for chunk in _chunks(stream):
        found.update(chunk)
    return found.hexdigest()


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _verified(attempt: Callable[[], str], expected: Callable[[], str | None], place: str) -> str:
    """What was attempted, by its SHA-256; ``expected`` is asked once there is something to compare with it."""
    for _ in range(_ATTEMPTS):
        found, wanted = attempt(), expected()
        if wanted is None or found == wanted:
            return found
    raise TransferError(place, wanted or "", found)


# --- sources --------------------------------------------------------------------------------------------------------


def on_this_machine(
    source: str | os.PathLike[str],
    scratch: Path,
    *,
    via: Any = None,  # noqa: ANN401 - Databricks' objects
    members: int,
    size: int,
    moved: Callable[[str], Moved] | None = None,
) -> Path:
    """A source as a file or directory here: itself, or a copy in ``scratch`` of what an address means.

    Of a directory at most so many ``members`` and bytes (``size``). Raises SourceError.
    """
    if is_local(source):
        return Path(str(source).removeprefix("file://").removeprefix("file:"))
    folder, name = split(source)
    store = open_store(folder, via)
    scratch.mkdir(parents=True, exist_ok=True)
    to = scratch / (name or "source")
    if entries := store.list(name):
        _copy(store, name, entries, to, members, size)
        return to
    try:
        receive(store, name, to, moved=moved(name) if moved else None)
    except NotInStoreError:
        raise SourceError(f"{source}: there is no such file, and no directory with anything in it") from None
    return to


def _copy(store: Store, prefix: str, entries: Sequence[Entry], to: Path, members: int, size: int) -> None:
    """A directory of a store, whole."""
    waiting, count, weight = [(prefix, entries, to)], 0, 0
    while waiting:
        folder, entries, place = waiting.pop()
        place.mkdir()
        for entry in entries:
            count, weight = count + 1, weight + entry.size
            if count > members or weight > size:
                raise SourceError(f"{store.location(prefix)} holds more than {members} files or {size} bytes")
            if entry.name in ("", ".", "..") or "/" in entry.name:
                raise SourceError(f"{store.location(prefix)} holds {entry.name!r}, which is no name of a file")
            key = posixpath.join(folder, entry.name)
            if entry.is_directory:
                waiting.append((key, store.list(key), place / entry.name))
            else:
                receive(store, key, place / entry.name)
