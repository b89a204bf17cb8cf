"""Reaching hosts: connections, proxies, certificates."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import string
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from depload.errors import StoreError
from depload.making.credentials import Credentials, origin
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

    def ask(
        self, url: str, headers: Mapping[str, str], method: str = "GET", body: bytes | None = None
    ) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=string.punctuation)
        target = f"http://{parts.netloc.rpartition('@')[2]}{path}" if self.whole_url else path
        self.connection.request(method, target, body, {"User-Agent": "depload", **self.headers, **headers})
        self.response = self.connection.getresponse()
        return self.response


class Route:
    """How hosts are reached, and for how long; shared by the threads of one fetch, which it can end."""

    def __init__(self, options: IndexOptions, patience: Patience) -> None:
        self.options = options
        self.credentials = Credentials(options)
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

    def tunnel(self, host: str, port: int) -> socket.socket:
        """A connection to a host for others to speak TLS over, through the proxy before it where there is one."""
        proxy, headers = self._proxy("https", f"{host}:{port}")
        server = _origin(proxy)[1:] if proxy else (host, port)
        connection = http.client.HTTPConnection(*server, self.options.timeout or self._patience.timeout)
        if proxy:
            connection.set_tunnel(host, port, headers)
        connection.connect()
        self._made.append((connection, connection.sock))
        return connection.sock

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
    """GET and POST, over connections that stay open; one client for each thread."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._lines: dict[tuple[str, str, int], _Line] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The response, after redirects."""
        target = url
        for _ in range(10):
            # Credentials are found anew for every host, so that none gets another's (RFC 9110, 15.4).
            response = self.ask(target, headers, url)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                return response
            response.read(CHUNK)  # so that the connection can be used again
            target = _redirected(target, location)
        raise AttemptError("it redirects in circles", again=False)

    def ask(
        self,
        url: str,
        headers: Mapping[str, str],
        known: str = "",
        method: str = "GET",
        *,
        body: bytes | None = None,
        anonymous: bool = False,
    ) -> http.client.HTTPResponse:
        """The response, whatever it is, to who the credentials say we are; a refusal is put to the keyring."""
        if anonymous:
            return self._ask(url, headers, method, body)
        who = self._route.credentials
        was = who.of(url, known)
        response = self._ask(url, {**headers, **_basic("Authorization", was)}, method, body)
        if response.status == HTTPStatus.UNAUTHORIZED and (user := who.kept(url)) not in (None, was):
            response.read(CHUNK)  # so that the connection can be used again
            return self._ask(url, {**headers, **_basic("Authorization", user)}, method, body)
        return response

    def _ask(self, url: str, headers: Mapping[str, str], method: str, body: bytes | None) -> http.client.HTTPResponse:
        line = self._lines.pop(_origin(url), None)
        if line and line.ready:
            with suppress(ConnectionError):  # the host has closed it meanwhile, as it may
                response = line.ask(url, headers, method, body)
                self._lines[_origin(url)] = line
                return response
        if line:
            line.connection.close()
        self._lines[_origin(url)] = line = self._route.line(url)
        return line.ask(url, headers, method, body)


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
