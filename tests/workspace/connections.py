"""HTTP on loopback: connections that are kept open, answers that are sent as they come, a record of what was asked."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol

from workspace.messages import ApiError, Cut, Request

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workspace.faults import Faults, Trouble
    from workspace.messages import Answer


@dataclass
class Seen:
    """A request that came and what became of it, without its head and body; status 0 is a connection that was cut."""

    method: str
    path: str
    status: int = 0
    received: int = 0
    sent: int = 0
    fault: str = ""


class Workspace(Protocol):
    """What answers requests."""

    faults: Faults
    seen: list[Seen]

    def answer(self, request: Request) -> Answer:
        """What the workspace says. Raises ApiError."""


class Connections(ThreadingHTTPServer):
    """A server with a thread for each connection, none of which outlives it."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients hold open for the next request."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error of the server's; the server's own are answered with 500."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "databricks"
    sys_version = ""
    disable_nagle_algorithm = True

    def answer_request(self) -> None:
        workspace: Workspace = self.server.workspace  # type: ignore[attr-defined]
        request = Request.read(self.command, self.path, _Headers(self.headers.items()), self.rfile)  # type: ignore[arg-type]
        trouble = workspace.faults.take(self.command, request.path, request.asked)
        seen = Seen(self.command, _told(request), fault=type(trouble).__name__ if trouble else "")
        try:
            answer = self._answer(workspace, request, trouble)
            request.body.drain()
            seen.status, seen.received = answer.status, request.body.received
            workspace.seen.append(seen)  # before the client can know, so that it finds itself there
            self._send(answer, seen)
        except (Cut, OSError) as ended:  # OSError: the client has gone
            if seen not in workspace.seen:
                workspace.seen.append(seen)
            seen.status, seen.received = 0, request.body.received
            self._end(reset=isinstance(ended, Cut) and ended.reset)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer_request  # noqa: N815 - http.server's names

    @staticmethod
    def _answer(workspace: Workspace, request: Request, trouble: Trouble | None) -> Answer:
        try:
            answer = trouble.before(request) if trouble else None
            if answer is None:
                answer = workspace.answer(request)
        except ApiError as error:
            answer = error.answer()
        except (ValueError, KeyError, TypeError) as error:
            answer = ApiError(400, "MALFORMED_REQUEST", f"{type(error).__name__}: {error}").answer()
        return trouble.after(answer) if trouble else answer

    def _send(self, answer: Answer, seen: Seen) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(answer.length))
        self.send_header("X-Databricks-Org-Id", "1")
        self.end_headers()
        for piece in answer.pieces if self.command != "HEAD" else ():
            seen.sent += len(piece)
            self.wfile.write(piece)

    def _end(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:  # close() then sends RST in place of FIN
            with contextlib.suppress(OSError):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Nothing: `Server.seen` is the log."""


class _Headers(dict[str, str]):
    """Headers under any spelling of their names."""

    def __init__(self, given: Iterable[tuple[str, str]]) -> None:
        super().__init__({key.lower(): value for key, value in given})

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key.lower(), default)


def _told(request: Request) -> str:
    """The path with the query, without what is a secret in it."""
    return re.sub(r"(session_token=)[^&]*", r"\1...", request.asked)
