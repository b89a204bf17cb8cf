"""Reaching hosts: connections, proxies, certificates, credentials."""

from __future__ import annotations

import base64
import http.client
import netrc
import os
import posixpath
import re
import socket
import ssl
import string
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from depload.errors import StoreError
from depload.making.indexes import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from depload.making.indexes import IndexOptions

CHUNK = 1 << 18


@dataclass(frozen=True)
class Patience:
    """How often a host is asked that does not answer, and the seconds between: doubled each time, up to the longest."""

    attempts: int = 5
    first_wait: float = 0.25
    longest_wait: float = 30.0
    timeout: float = 15.0


class AttemptError(Exception):
    """An attempt failed; whether another may help, and the seconds that the host wants to be left alone."""

    def __init__(self, reason: str, *, again: bool = True, after: float = 0) -> None:
        super().__init__(reason)
        self.again = again
        self.after = after


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


class Route:
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
        """Close every connection that was made."""
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


class Client:
    """GET, over connections that stay open; one client for each thread."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._lines: dict[tuple[str, str, int], _Line] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The response, after redirects."""
        target = url
        for _ in range(10):
            # Credentials are found anew for every host, so that none gets another's (RFC 9110, 15.4).
            user = credentials(self._route.options, target, url)
            response = self._ask(target, {**headers, **_basic("Authorization", user)})
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                return response
            response.read(CHUNK)  # so that the connection can be used again
            target = _redirected(target, location)
        raise AttemptError("it redirects in circles", again=False)

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
        raise AttemptError(f"{redact(url)} is not a URL of http or https", again=False)
    return found


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    if _origin(url)[0] == "https" and _origin(target)[0] == "http":
        raise AttemptError(f"it redirects to {redact(target)}, which is not encrypted", again=False)
    return target


def _basic(header: str, user: tuple[str, str] | None) -> dict[str, str]:
    """The header for user and password (RFC 7617), if there are any."""
    return {header: f"Basic {base64.b64encode(':'.join(user).encode()).decode()}"} if user else {}


# --- credentials ---------------------------------------------------------------------------------


def credentials(options: IndexOptions, url: str, *known: str) -> tuple[str, str] | None:
    """User and password for ``url``: its own, else those of a ``known`` URL or index of its host, else netrc's.

    In pip's order (pip/_internal/network/auth.py); of several indexes on the host the one with most of the path.
    """
    shared = (*known, options.index_url or "", *options.extra_index_urls, *options.find_links, *_uv_urls())
    same = [each for each in shared if _user(each) and origin(each) == origin(url)]
    nearest = max(
        same,
        key=lambda each: len(posixpath.commonpath([f"/{urlsplit(one).path}" for one in (each, url)])),
        default="",
    )
    users = [user for user in (_user(url), _user(nearest), _netrc(url)) if user]
    complete = [(name, password) for name, password in users if password is not None]
    # A name alone is a token, sent with an empty password.
    return complete[0] if complete else (users[0][0], "") if users else None


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port (RFC 6454), what credentials belong to; None where it is no URL of http or https."""
    try:
        parts = urlsplit(url)
        found = parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return found if found[1] else None


def _user(url: str) -> tuple[str, str | None] | None:
    parts = urlsplit(url) if origin(url) else None
    if parts is None or not parts.username:
        return None
    return unquote(parts.username), None if parts.password is None else unquote(parts.password)


def _uv_urls() -> list[str]:
    """The indexes that only uv was told of: it redacts them in its lock."""
    names = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS")
    return [url for name in names for url in re.findall(r"https?://\S+?(?=,https?:|\s|$)", os.environ.get(name, ""))]


def _netrc(url: str) -> tuple[str, str | None] | None:
    """What $NETRC or ~/.netrc says of the host; a file that cannot be read says nothing, as for pip."""
    try:
        place = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
        name, account, password = netrc.netrc(place).authenticators(urlsplit(url).hostname or "") or ("", "", "")
    except (OSError, RuntimeError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    user = name or account
    return (user, password) if user else None
