"""Lock -> files on disk: parallel, verified, cached."""

from __future__ import annotations

import atexit
import functools
import hashlib
import http.client
import os
import re
import shutil
import ssl
import stat
import tempfile
import threading
import uuid
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from depload.errors import HashMismatchError, IndexUnavailableError, StoreError
from depload.making.hosts import CHUNK, AttemptError, Client, Patience, Route
from depload.making.indexes import IndexOptions, redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from email.message import Message

__all__ = ["Beside", "Download", "Patience", "Progress", "default_cache", "fetch"]


@dataclass(frozen=True)
class Download:
    """One file to fetch."""

    url: str
    """https://, http://, file:// or a plain path."""
    filename: str
    sha256: str | None = None
    """None where the lock has none: then what arrives is taken."""
    size: int | None = None


class Progress(Protocol):
    """Told what has arrived, from several threads at once; this one does nothing with it."""

    def downloaded(self, filename: str, done: int, total: int | None) -> None:
        """Of ``filename``, ``done`` bytes of ``total`` are here; fewer than before where it starts again."""
        del filename, done, total


class Beside(Protocol):
    """A second place to look for files by their SHA-256, after this machine's cache and before their hosts."""

    def take(self, sha256: str, to: Path) -> bool:
        """Put the file at ``to``, if it is there; what it put was held against its hash."""


class _Silent(Progress):
    pass


_NO_OPTIONS = IndexOptions()
_PATIENCE = Patience()


def fetch(
    downloads: Sequence[Download],
    to: Path,
    *,
    cache: Path | Literal["default"] | None = "default",
    options: IndexOptions = _NO_OPTIONS,
    parallel: int = 8,
    progress: Progress | None = None,
    patience: Patience = _PATIENCE,
    beside: Beside | None = None,
) -> list[Path]:
    """Bring all files into ``to``, or none; what is there under their names is replaced. Paths in the order asked.

    Raises:
        IndexUnavailableError: a host does not answer, for as many attempts as there are, or it refuses.
        HashMismatchError: a file is not the one asked for, twice over.
        StoreError: ``to`` cannot be written.

    """
    _check(downloads, to)
    route = Route(options, patience)
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".depload-", dir=to, ignore_cleanup_errors=True) as work:
            kept = _Cache(default_cache() if cache == "default" else cache)
            _Fetcher(Path(work), kept, beside, route, progress or _Silent()).bring(downloads, parallel)
            for name in dict.fromkeys(download.filename for download in downloads):
                Path(work, name).replace(to / name)
    except OSError as error:
        raise _unwritable(to, error) from error
    return [to / download.filename for download in downloads]


def default_cache() -> Path:
    """Where files are kept between runs: $DEPLOAD_CACHE_DIR, else the user's cache, else one of theirs in /tmp."""
    if chosen := os.environ.get("DEPLOAD_CACHE_DIR"):
        return Path(chosen).expanduser()
    with suppress(RuntimeError):  # a user without a home
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "depload"
        nearest = next(path for path in (cache, *cache.parents) if os.access(path, os.F_OK))
        if os.access(nearest, os.W_OK | os.X_OK):
            return cache
    return _ours(Path(tempfile.gettempdir(), f"depload-{_me()}")) or _of_this_process()


def _ours(place: Path) -> Path | None:
    """The directory, made if it is not there; None where another user may write, who may have come first."""
    with suppress(OSError):
        place.mkdir(mode=0o700, exist_ok=True)
        about = place.lstat()
        if stat.S_ISDIR(about.st_mode) and about.st_uid == _me() and not about.st_mode & 0o022:
            return place
    return None


@functools.cache
def _of_this_process() -> Path:
    made = tempfile.mkdtemp(prefix="depload-cache-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def _me() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _unwritable(directory: Path, error: OSError) -> StoreError:
    remedy = "make room there, or give a directory that has it"
    return StoreError(str(directory), f"cannot be written: {error.strerror or error}", remedy)


def _check(downloads: Sequence[Download], to: Path) -> None:
    """The names come from a lock, and that may be anybody's."""
    seen: dict[str, Download] = {}
    for each in downloads:
        if each.filename in ("", "..") or Path(each.filename).name != each.filename:
            raise StoreError(str(to), f"{each.filename!r} cannot be the name of a file there", "mend the lock")
        if seen.setdefault(each.filename, each) != each:
            raise StoreError(str(to), f"two different files have the name {each.filename}", "mend the lock")


class _Fetcher:
    """Everything arrives in ``work``, where nobody else writes: what was verified is what is handed over."""

    def __init__(self, work: Path, cache: _Cache, beside: Beside | None, route: Route, progress: Progress) -> None:
        self._work = work
        self._cache = cache
        self._beside = beside
        self._route = route
        self._progress = progress
        self._thread = threading.local()

    def bring(self, downloads: Sequence[Download], parallel: int) -> None:
        """All of them; the first failure ends the rest."""
        largest_first = sorted(dict.fromkeys(downloads), key=lambda each: -(each.size or 0))
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="depload-fetch")
        futures = [pool.submit(self._bring, each) for each in largest_first]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            self._route.interrupt()
            wait(futures, timeout=2)  # a thread may still be connecting; what it has written goes with ``work``
            self._route.close()

    def _bring(self, download: Download) -> None:
        path = self._work / download.filename
        if local := _local(download.url):
            self._copy(local, path, download)
        elif not self._cache.take(download, path):
            sha256 = (download.sha256 or "").lower()
            if not (sha256 and self._beside and self._beside.take(sha256, path)):
                sha256 = self._download(download, path)
            self._cache.keep(path, sha256)
        size = path.stat().st_size
        self._progress.downloaded(download.filename, size, size)

    def _copy(self, local: Path, path: Path, download: Download) -> None:
        with closing(_Part(path)) as part:
            try:
                part.copy(local)
            except OSError as error:
                raise IndexUnavailableError(download.url, error.strerror or str(error), 1) from error
            part.verify(download)

    def _download(self, download: Download, path: Path) -> str:
        """Bring it from its host, and once again where it is the wrong file; its SHA-256."""
        with closing(_Part(path)) as part:
            try:
                self._persist(download, part, {})
                part.verify(download)
            except HashMismatchError:
                part.restart(None)
                self._persist(download, part, {"Cache-Control": "no-cache"})  # a proxy may have kept the wrong one
                part.verify(download)
            return part.sha256

    def _persist(self, download: Download, part: _Part, headers: Mapping[str, str]) -> None:
        for attempt in count(1):
            failed = self._failure(download, part, headers)
            if failed is None:
                return
            if not failed.again or attempt >= self._route.attempts:
                raise IndexUnavailableError(redact(download.url), redact(str(failed)), attempt) from failed
            self._route.pause(attempt, failed.after)

    def _failure(self, download: Download, part: _Part, headers: Mapping[str, str]) -> AttemptError | None:
        """Attempt it; why that failed."""
        try:
            self._attempt(download, part, headers)
        except AttemptError as error:
            return error
        except (ssl.SSLCertVerificationError, http.client.InvalidURL, ValueError) as error:
            return AttemptError(str(error), again=False)
        except (OSError, http.client.HTTPException) as error:  # a connection may hold the next time
            return AttemptError(str(error) or type(error).__name__)
        return None

    def _attempt(self, download: Download, part: _Part, headers: Mapping[str, str]) -> None:
        if not hasattr(self._thread, "client"):
            self._thread.client = Client(self._route)
        response = self._thread.client.get(download.url, {**headers, **part.conditions()})
        part.begin(response)
        total = part.total or download.size
        buffer = memoryview(bytearray(CHUNK))
        while received := response.readinto(buffer):
            self._route.check()
            part.write(buffer[:received])
            self._progress.downloaded(download.filename, part.done, total)
            if download.size is not None and part.done > download.size:
                return  # another file, and perhaps one without an end
        if total and part.done < total:
            raise AttemptError(f"the connection ended after {part.done} of {total} bytes")


def _local(url: str) -> Path | None:
    if url.startswith("file:"):
        return Path(url2pathname(urlsplit(url).path))
    return None if "://" in url else Path(url)


def _refusal(response: http.client.HTTPResponse) -> AttemptError:
    status = response.status
    hint = {
        401: ": it wants credentials, or other ones",
        403: ": not with these credentials, or not from here",
        404: ": the file is not there",
    }.get(status, "")
    again = status in (408, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return AttemptError(
        f"{status} {response.reason}{hint}", again=again, after=_seconds(response.headers.get("Retry-After"))
    )


def _seconds(retry_after: str | None) -> float:
    """A number, or a date (RFC 9110, 10.2.3)."""
    if not retry_after or retry_after.isdigit():
        return float(retry_after or 0)
    with suppress(ValueError, TypeError):
        return (parsedate_to_datetime(retry_after) - datetime.now(timezone.utc)).total_seconds()
    return 0


class _Part:
    """A file on its way: what has arrived, its hash, and how to ask for the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb", buffering=0)  # never into a file that is linked to another
        self.restart(None)

    def close(self) -> None:
        self._file.close()

    def restart(self, headers: Message | None) -> None:
        """Nothing has arrived; what is to come has these headers."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.done = 0
        header = {name.lower(): value for name, value in headers.items()} if headers else {}
        tag, length = header.get("etag", ""), header.get("content-length", "")
        self._validator = header.get("last-modified") if tag.startswith("W/") or not tag else tag
        self.total = int(length) if length.isdigit() else None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def conditions(self) -> dict[str, str]:
        """Ask for the rest, of this very file (RFC 9110, 13.1.5 and 14.2); for all where that cannot be told."""
        if not (self.done and self._validator):
            return {}
        return {"Range": f"bytes={self.done}-", "If-Range": self._validator}

    def begin(self, response: http.client.HTTPResponse) -> None:
        """Get ready for the body, for the rest or for all of it. AttemptError where it holds none of the file."""
        if response.status == HTTPStatus.OK:
            self.restart(response.headers)
        elif response.status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            if not (self.done and response.headers.get("Content-Range", "").startswith(f"bytes {self.done}-")):
                self.restart(None)
                raise AttemptError("it sent another part of the file than the one asked for")
        else:
            raise _refusal(response)

    def write(self, data: memoryview) -> None:
        self._hash.update(data)
        self.done += len(data)
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise _unwritable(self._path.parent.parent, error) from error

    def copy(self, source: Path) -> None:
        buffer = memoryview(bytearray(CHUNK))
        with source.open("rb", buffering=0) as file:
            while read := file.readinto(buffer):
                self.write(buffer[:read])

    def verify(self, download: Download) -> None:
        if download.size not in (None, self.done):
            found = f"{self.done} bytes" if self.done < (download.size or 0) else f"more than {download.size} bytes"
            raise HashMismatchError(download.filename, [f"{download.size} bytes"], found)
        if download.sha256 and self.sha256 != download.sha256.lower():
            raise HashMismatchError(download.filename, [download.sha256], self.sha256)


class _Cache:
    """Files named by their SHA-256, which is checked again on every use; safe with many processes at once."""

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def take(self, download: Download, path: Path) -> bool:
        """Put the file at ``path``, if it is here; a damaged one is thrown away."""
        sha256 = (download.sha256 or "").lower()
        if self._root is None or not re.fullmatch("[0-9a-f]{64}", sha256):
            return False
        place = self._root / "files" / sha256[:2] / sha256
        with suppress(OSError):
            _link(place, path)
            # Verified after linking: at ``place`` another process may put another file at any time.
            if download.size in (None, path.stat().st_size) and _sha256(path) == sha256:
                return True
            place.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return False

    def keep(self, path: Path, sha256: str) -> None:
        """Put the verified file here too; a cache that cannot be written is no cache."""
        if self._root is None:
            return
        place = self._root / "files" / sha256[:2] / sha256
        work = place.with_name(f".{uuid.uuid4().hex}")
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                _link(path, work)
                work.replace(place)
            finally:
                work.unlink(missing_ok=True)


def _link(source: Path, to: Path) -> None:
    """A hard link where the file system has them, else a copy; a copy too of another user's file, who may change it."""
    status = source.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(source)
    if status.st_uid == _me():
        with suppress(OSError):
            os.link(source, to)
            return
    shutil.copyfile(source, to)


def _sha256(path: Path) -> str:
    found, buffer = hashlib.sha256(), memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            found.update(buffer[:read])
    return found.hexdigest()
