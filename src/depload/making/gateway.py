"""A proxy on loopback that knows the credentials of package indexes, so that the tools that go through it need none.

A tool that resolves or builds runs other people's code, which can read the environment of its own process and of the
tool. So neither is given a password. They are told of every host that may want one by its alias, a plain
``http://host:port``, and of this process as the proxy for it: here the password is added, and the connection encrypted.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import posixpath
import re
import secrets
import socket
import threading
from http import HTTPStatus
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from depload.errors import IndexUnavailableError
from depload.making import credentials, pages
from depload.making.bindings import Bindings
from depload.making.hosts import CHUNK, AttemptError, Client, Patience, Route
from depload.making.indexes import without_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from http.client import HTTPResponse

    from depload.making.aliases import Aliases
    from depload.making.indexes import IndexOptions


class Gateway:
    """Answers on loopback, to who has the token, for as long as it is open.

    With ``only``, what was not granted is refused from any host, whether or not that may want credentials.
    """

    def __init__(self, options: IndexOptions, aliases: Aliases, granted: Iterable[str], *, only: bool = False) -> None:
        self.only = only
        self.route = Route(options, Patience())
        self.aliases = aliases
        self._bindings = Bindings.of(options)
        self.grants = _Grants(granted, anywhere=only)
        self.failures = Failures()
        self._listeners: list[socket.socket] = []
        self._token = secrets.token_urlsafe(16)
        self.expected = "Basic " + base64.b64encode(f"depload:{self._token}".encode()).decode()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What the tools have as their proxy."""
        return f"http://depload:{self._token}@127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The one that it answers on."""
        return self._server.server_port

    def listen(self, listener: socket.socket) -> None:
        """Answer there too: on the loopback of another network."""
        threading.Thread(target=self._accepting, args=(listener,), daemon=True).start()

    def _accepting(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            self._listeners.append(listener)
            while True:
                self._server.process_request(*listener.accept())

    def listed(self, urls: Iterable[str]) -> None:
        """An index lists them, so they may be had."""
        found = list(urls)
        self.grants.add(found)
        if self.only:  # also where they are on another host
            self.aliases.add(origin for url in found if (origin := credentials.origin(url)))

    def real(self, alias: str) -> str:
        """The URL that a tool means; it may know an alias from a page that it has kept since another gateway's time."""
        url = self.aliases.reveal(alias)
        secure = self.only and url not in self.aliases and urlsplit(url).port == _TLS
        return url.replace("http://", "https://", 1).replace(f":{_TLS}", "", 1) if secure else url

    def hides(self, url: str) -> bool:
        """Whether it is as if the index did not have ``url``, because the name is bound to another one."""
        return self._bindings.refuses(url, (place.url for place in self.route.credentials.places))

    def close(self) -> None:
        """End it, and what still goes through it."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self.route.interrupt()
        self._server.server_close()
        self.route.close()
        self._thread.join()


class Failures:
    """What hosts did not give, and why: to pip it is as if there were nothing."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[int, str]] = {}
        self._unheard: dict[str, tuple[str, int]] = {}

    def heard(self, url: str, response: HTTPResponse) -> None:
        """The host has answered."""
        url = without_user(url)
        self._unheard.pop(url, None)
        if response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            why = f"{response.status} {response.reason}: it wants credentials, or other ones"
            self._refused[url] = response.status, why

    def unheard(self, url: str, reason: str) -> None:
        """The host has not."""
        url = without_user(url)
        self._unheard[url] = reason, self._unheard.get(url, ("", 0))[1] + 1

    def error(self) -> IndexUnavailableError | None:
        """The first that leaves open what an index has."""
        for url, (reason, attempts) in self._unheard.items():
            return IndexUnavailableError(url, reason, attempts)
        refused = ((url, why) for url, (status, why) in self._refused.items() if status == HTTPStatus.UNAUTHORIZED)
        return next((IndexUnavailableError(url, why, 1) for url, why in refused), None)

    def behind(self, text: str) -> IndexUnavailableError | None:
        """The refusal of what ``text``, an error, says is not there."""
        names = ((url, why, posixpath.basename(url.rstrip("/"))) for url, (_, why) in self._refused.items())
        return next((IndexUnavailableError(url, why, 1) for url, why, name in names if name in text), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.gateway = gateway
        self._open: set[socket.socket] = set()
        self._talks: list[threading.Thread] = []

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own
        self._open.add(request)
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._talks.append(thread)
        thread.start()

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - socketserver's own
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own
        """Nothing: who has gone away needs no answer, and standard error is not ours."""

    def server_close(self) -> None:
        """End what is still open; a tool that was killed leaves that."""
        super().server_close()
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        for thread in self._talks:
            thread.join(2)


_TLS = 443
_ASKED = (
    "Accept",
    "Cache-Control",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "Range",
    "User-Agent",
)
_NOT_LISTED = "No index lists this"
_TOLD = (
    "Accept-Ranges",
    "Age",
    "Cache-Control",
    "Content-Range",
    "Content-Type",
    "Date",
    "ETag",
    "Expires",
    "Last-Modified",
    "Retry-After",
    "Vary",
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._gateway = self.server.gateway
        self._client = Client(self._gateway.route)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answered()

    def do_HEAD(self) -> None:
        self._answered()

    def do_CONNECT(self) -> None:
        """TLS to a host that wants nothing of us: the bytes as they come."""
        if not self._is_known():
            return
        if self._gateway.only:
            self._refuse(HTTPStatus.FORBIDDEN, _NOT_LISTED)
            return
        host, _, port = self.path.rpartition(":")
        try:
            there = self._gateway.route.tunnel(host.strip("[]"), int(port))
        except (OSError, ValueError, HTTPException) as error:
            self._refuse(HTTPStatus.BAD_GATEWAY, str(error))
            return
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        self.close_connection = True
        back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
        back.start()
        _pump(self.connection, there)
        back.join()

    def _is_known(self) -> bool:
        if hmac.compare_digest(self.headers.get("Proxy-Authorization", ""), self._gateway.expected):
            return True
        self._refuse(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, "Proxy Authentication Required")
        return False

    def _answered(self) -> None:
        if not self._is_known():
            return
        url = self._gateway.real(self.path)
        ours = self._gateway.only or url in self._gateway.aliases
        headers = {name: value for name in _ASKED if (value := self.headers.get(name))}
        try:
            if ours and self._gateway.hides(url):
                self._refuse(HTTPStatus.NOT_FOUND, "The name is bound to another index")
                return
            if ours and not self._gateway.grants.allow(url, self._page):
                self._refuse(HTTPStatus.FORBIDDEN, _NOT_LISTED)
                return
            response = self._client.ask(url, headers, method=self.command, anonymous=not ours)
            if ours:
                self._gateway.failures.heard(url, response)
            self._hand_over(url, response, ours=ours)
        except (AttemptError, OSError, HTTPException, ValueError) as error:
            reason = str(error) or type(error).__name__
            self._gateway.failures.unheard(url, reason)
            self._refuse(HTTPStatus.BAD_GATEWAY, reason)

    def _page(self, url: str) -> str | None:
        """A page of an index as its host has it."""
        response = self._client.ask(url, {"Accept": pages.ACCEPT})
        text = response.read().decode("utf-8", "replace")
        return text if response.status == HTTPStatus.OK else None

    def _hand_over(self, url: str, response: HTTPResponse, *, ours: bool) -> None:
        told = {name: value for name in _TOLD if (value := response.headers.get(name))}
        if location := response.headers.get("Location"):
            target = urljoin(url, location)
            self._gateway.listed([target])
            told["Location"] = self._gateway.aliases.conceal(target)
        kind = response.headers.get_content_type()
        if ours and self.command == "GET" and (kind == "text/html" or kind.endswith("json")):
            text = response.read().decode("utf-8", "replace")
            if kind.endswith("json"):  # where slashes may be escaped
                text = json.dumps(json.loads(text))
            self._gateway.listed(pages.links(url, text))
            body = self._gateway.aliases.conceal(text).encode()
            self._begin(response, {**told, "Content-Length": str(len(body))})
            self.wfile.write(body)
            return
        length = response.headers.get("Content-Length")
        self._begin(response, {**told, **({"Content-Length": length} if length else {"Connection": "close"})})
        while data := response.read(CHUNK):
            self.wfile.write(data)

    def _begin(self, response: HTTPResponse, headers: Mapping[str, str]) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in headers.items():
            self.send_header(name, value)
        self.close_connection = headers.get("Connection") == "close"
        self.end_headers()

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """An answer without a body; its reason is what uv tells its user."""
        self.close_connection = True
        self.send_response_only(status, re.sub(r"[^ -~]+", " ", reason).strip()[:200])
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Bytes from one to the other, until it ends."""
    with contextlib.suppress(OSError):
        one.settimeout(None)
        while data := one.recv(CHUNK):
            other.sendall(data)
    for each in (one, other):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


# --- what it gives away ---------------------------------------------------------------------------------------------


class _Grants:
    """What may be had with the credentials: indexes, and the files that they list. A token often opens more than that.

    uv keeps pages between runs, so a file may be asked for whose page was not: then that page is looked at here.
    """

    def __init__(self, places: Iterable[str], *, anywhere: bool = False) -> None:
        self._anywhere = anywhere  # whether an index may list what is on another host
        self._places = sorted(set(map(pages.plain, places)))
        self._listed: set[str] = set()

    def add(self, urls: Iterable[str]) -> None:
        self._listed.update(map(pages.plain, urls))

    def allow(self, url: str, page: Callable[[str], str | None]) -> bool:
        """Whether ``url`` may be had; ``page`` reads one of an index."""
        url = pages.plain(url)
        if any(part in (".", "..") for part in unquote(urlsplit(url).path).split("/")):
            return False
        if any(url == place or url.startswith(f"{place.rstrip('/')}/") for place in self._places):
            return True
        if url not in self._listed:
            for where in self._pages(url):
                if text := page(where):
                    self.add(pages.links(where, text))
                if url in self._listed:
                    break
        return url in self._listed

    def _pages(self, url: str) -> Iterator[str]:
        """Where a file would be listed, by its name (binary distribution format, source distribution format)."""
        name = posixpath.basename(unquote(urlsplit(url).path))
        stem = name.partition("-")[0] if name.endswith(".whl") else name.rpartition("-")[0]
        project = re.sub(r"[-_.]+", "-", stem).lower()
        for place in self._places:
            here = credentials.origin(place) == credentials.origin(url)
            if (here or self._anywhere) and project:
                yield f"{place.rstrip('/')}/{project}/"
                yield place
