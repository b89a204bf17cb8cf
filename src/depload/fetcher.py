"""Lock -> files on disk: parallel, verified, cached."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import stat
import string
import tempfile
import threading
import uuid
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass, url2pathname

from depload.errors import HashMismatchError, IndexUnavailableError, StoreError
from depload.indexes import IndexOptions, origin, redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from email.message import Message

__all__ = ["Download", "Patience", "Progress", "default_cache", "fetch"]

_CHUNK = 1 << 18


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


class _Silent(Progress):
    pass


@dataclass(frozen=True)
class Patience:
    """How often a host is asked that does not answer, and the seconds between: doubled each time, up to the longest."""

    attempts: int = 5
    first_wait: float = 0.25
    longest_wait: float = 30.0
    timeout: float = 15.0


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
) -> list[Path]:
    """Bring all files into ``to``, or none; what is there under their names is replaced. Paths in the order asked.

    Raises:
        IndexUnavailableError: a host does not answer, for as many attempts as there are, or it refuses.
        HashMismatchError: a file is not the one asked for, twice over.
        StoreError: ``to`` cannot be written.

    """
    _check(downloads, to)
    route = _Route(options, patience)
    try:
        to.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".depload-", dir=to, ignore_cleanup_errors=True) as work:
            kept = _Cache(default_cache() if cache == "default" else cache)
            _Fetcher(Path(work), kept, route, progress or _Silent()).bring(downloads, parallel)
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
    return Path(tempfile.gettempdir(), f"depload-{_me()}")


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

    def __init__(self, work: Path, cache: _Cache, route: _Route, progress: Progress) -> None:
        self._work = work
        self._cache = cache
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
            self._cache.keep(path, self._download(download, path))
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

    def _failure(self, download: Download, part: _Part, headers: Mapping[str, str]) -> _AttemptError | None:
        """Attempt it; why that failed."""
        try:
            self._attempt(download, part, headers)
        except _AttemptError as error:
            return error
        except (ssl.SSLCertVerificationError, http.client.InvalidURL, ValueError) as error:
            return _AttemptError(str(error), again=False)
        except (OSError, http.client.HTTPException) as error:  # a connection may hold the next time
            return _AttemptError(str(error) or type(error).__name__)
        return None

    def _attempt(self, download: Download, part: _Part, headers: Mapping[str, str]) -> None:
        if not hasattr(self._thread, "client"):
            self._thread.client = _Client(self._route)
        response = self._thread.client.get(download.url, {**headers, **part.conditions()})
        part.begin(response)
        total = part.total or download.size
        buffer = memoryview(bytearray(_CHUNK))
        while received := response.readinto(buffer):
            self._route.check()
            part.write(buffer[:received])
            self._progress.downloaded(download.filename, part.done, total)
            if download.size is not None and part.done > download.size:
                return  # another file, and perhaps one without an end
        if total and part.done < total:
            raise _AttemptError(f"the connection ended after {part.done} of {total} bytes")


def _local(url: str) -> Path | None:
    if url.startswith("file:"):
        return Path(url2pathname(urlsplit(url).path))
    return None if "://" in url else Path(url)


class _AttemptError(Exception):
    """An attempt failed; whether another may help, and the seconds that the host wants to be left alone."""

    def __init__(self, reason: str, *, again: bool = True, after: float = 0) -> None:
        super().__init__(reason)
        self.again = again
        self.after = after


def _refusal(response: http.client.HTTPResponse) -> _AttemptError:
    status = response.status
    hint = {
        401: ": it wants credentials, or other ones",
        403: ": not with these credentials, or not from here",
        404: ": the file is not there",
    }.get(status, "")
    again = status in (408, 429) or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return _AttemptError(
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
        """Get ready for the body, for the rest or for all of it. _AttemptError where it holds none of the file."""
        if response.status == HTTPStatus.OK:
            self.restart(response.headers)
        elif response.status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            if not (self.done and response.headers.get("Content-Range", "").startswith(f"bytes {self.done}-")):
                self.restart(None)
                raise _AttemptError("it sent another part of the file than the one asked for")
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
        buffer = memoryview(bytearray(_CHUNK))
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
    found, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            found.update(buffer[:read])
    return found.hexdigest()


# --- hosts ----------------------------------------------------------------------------------------


@dataclass
class _Line:
    """A connection to a host, or to the proxy before it."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse | None = None
    whole_url: bool = False
    """Whether the request names the whole URL, as a proxy that forwards it wants (RFC 9112, 3.2.2)."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether the last response was read to its end and the connection is still open."""
        return self.connection.sock is not None and self.response is not None and self.response.isclosed()

    def ask(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=string.punctuation)
        target = f"http://{parts.netloc.rpartition('@')[2]}{path}" if self.whole_url else path
        self.connection.request("GET", target, headers={"User-Agent": "depload", **self.headers, **headers})
        self.response = self.connection.getresponse()
        return self.response


class _Route:
    """How hosts are reached, and for how long; shared by the threads of one fetch, which it can end."""

    def __init__(self, options: IndexOptions, patience: Patience) -> None:
        self.options = options
        self.attempts = patience.attempts if options.retries is None else max(0, options.retries) + 1
        self._patience = patience
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._made: list[tuple[http.client.HTTPConnection, socket.socket]] = []

    def check(self) -> None:
        """Raises CancelledError once the fetch is over."""
        if self._over.is_set():
            raise CancelledError

    def pause(self, attempt: int, wanted: float) -> None:
        """Wait before the next attempt: longer every time, and as long as the host wants, within bounds."""
        seconds = max(wanted, self._patience.first_wait * 2 ** (attempt - 1))
        self._over.wait(min(seconds, self._patience.longest_wait))
        self.check()

    def interrupt(self) -> None:
        """End what threads are waiting for."""
        self._over.set()
        for _, sock in self._made:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # SSLSocket's own takes TLS from under a reader

    def close(self) -> None:
        for connection, _ in self._made:
            connection.close()

    def line(self, url: str) -> _Line:
        """A new connection for ``url``."""
        scheme, host, port = _origin(url)
        proxy, headers = self._proxy(scheme, f"{host}:{port}")
        server = _origin(proxy)[1:] if proxy else (host, port)
        timeout = self.options.timeout or self._patience.timeout
        if scheme == "http":
            line = _Line(http.client.HTTPConnection(*server, timeout), whole_url=bool(proxy), headers=headers)
        else:
            context = self._context(host, port)
            line = _Line(http.client.HTTPSConnection(*server, timeout=timeout, context=context))
            if proxy:
                line.connection.set_tunnel(host, port, headers)
        line.connection.connect()
        self._made.append((line.connection, line.connection.sock))
        self.check()
        return line

    def _proxy(self, scheme: str, host: str) -> tuple[str, dict[str, str]]:
        """The proxy and its headers: --proxy is for every host, as in pip; else what the environment says."""
        system = {} if proxy_bypass(host) else getproxies()
        proxy = self.options.proxy or system.get(scheme) or system.get("all") or ""
        proxy = f"http://{proxy}" if proxy and "://" not in proxy else proxy
        parts = urlsplit(proxy)
        user = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        return proxy, _basic("Proxy-Authorization", user)

    def _context(self, host: str, port: int) -> ssl.SSLContext:
        trusted = not {host, f"{host}:{port}"}.isdisjoint(map(str.lower, self.options.trusted_hosts))
        with self._lock:  # reading the certificates takes 25 ms: once, and only when there is a host to reach
            if trusted not in self._contexts:
                self._contexts[trusted] = _tls(self.options, verify=not trusted)
            return self._contexts[trusted]


def _tls(options: IndexOptions, *, verify: bool) -> ssl.SSLContext:
    names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    path = next(filter(None, (options.cert, *map(os.environ.get, names))), None)
    try:
        is_directory = path is not None and Path(path).is_dir()
        context = ssl.create_default_context(
            cafile=None if is_directory else path, capath=path if is_directory else None
        )
        if options.client_cert:
            context.load_cert_chain(options.client_cert)
    except OSError as error:
        where = " or ".join(filter(None, (path, options.client_cert)))
        raise StoreError(
            where, f"no certificates can be read: {error}", "see pip's --cert and --client-cert"
        ) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _Client:
    """GET, over connections that stay open; one client for each thread."""

    def __init__(self, route: _Route) -> None:
        self._route = route
        self._lines: dict[tuple[str, str, int], _Line] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The response, after redirects."""
        target = url
        for _ in range(10):
            # Credentials are found anew for every host, so that none gets another's (RFC 9110, 15.4).
            user = self._route.options.credentials(target, url)
            response = self._ask(target, {**headers, **_basic("Authorization", user)})
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                return response
            response.read(_CHUNK)  # so that the connection can be used again
            target = _redirected(target, location)
        raise _AttemptError("it redirects in circles", again=False)

    def _ask(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        line = self._lines.pop(_origin(url), None)
        if line and line.ready:
            with suppress(ConnectionError):  # the host has closed it meanwhile, as it may
                response = line.ask(url, headers)
                self._lines[_origin(url)] = line
                return response
        if line:
            line.connection.close()
        self._lines[_origin(url)] = line = self._route.line(url)
        return line.ask(url, headers)


def _origin(url: str) -> tuple[str, str, int]:
    found = origin(url)
    if found is None:
        raise _AttemptError(f"{redact(url)} is not a URL of http or https", again=False)
    return found


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    if _origin(url)[0] == "https" and _origin(target)[0] == "http":
        raise _AttemptError(f"it redirects to {redact(target)}, which is not encrypted", again=False)
    return target


def _basic(header: str, user: tuple[str, str] | None) -> dict[str, str]:
    """The header for user and password (RFC 7617), if there are any."""
    return {header: f"Basic {base64.b64encode(':'.join(user).encode()).decode()}"} if user else {}
