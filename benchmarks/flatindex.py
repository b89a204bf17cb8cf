"""A package index on this machine ("Simple repository API") that counts what it is asked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Index:
    """One that is served."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = 0


@contextlib.contextmanager
def served(wheels: Path) -> Iterator[Index]:
    """The wheels of a directory, and nothing else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(wheels))
    index = server.index = Index(f"http://127.0.0.1:{server.server_port}/simple/")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()


def _handler(wheels: Path) -> type[BaseHTTPRequestHandler]:
    pages: dict[str, bytes] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        with wheel.open("rb") as opened:
            digest = hashlib.sha256()
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
        name = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
        link = f'<a href="/files/{wheel.name}#sha256={digest.hexdigest()}">{wheel.name}</a>\n'
        pages[name] = pages.get(name, b"<!DOCTYPE html>\n") + link.encode()

    class Handler(BaseHTTPRequestHandler):
        server: Any

        def do_GET(self) -> None:
            self.server.index.requests += 1
            folder, _, name = self.path.strip("/").partition("/")
            if folder == "simple" and name in pages:
                self._answer("text/html", len(pages[name]), io.BytesIO(pages[name]))
            elif folder == "files" and (file := wheels / name).is_file():
                with file.open("rb") as opened:
                    self._answer("application/octet-stream", file.stat().st_size, opened)
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - http.server's names

        def _answer(self, kind: str, length: int, body: BinaryIO) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(ConnectionError):  # who wants a wheel's metadata leaves off once it has that
                    shutil.copyfileobj(body, self.wfile)

        def log_message(self, *_: object) -> None:
            """Nothing: it is counted."""

    return Handler
