"""A package index on this machine ("Simple repository API") that counts what it is asked."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

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
    pages: dict[str, str] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        with wheel.open("rb") as opened:
            digest = hashlib.sha256()
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
        name = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
        link = f'<a href="/files/{wheel.name}#sha256={digest.hexdigest()}">{wheel.name}</a>\n'
        pages[name] = pages.get(name, "") + link

    class Handler(BaseHTTPRequestHandler):
        server: Any

        def do_GET(self) -> None:
            self.server.index.requests += 1
            _, folder, name = self.path.rstrip("/").split("/", 2) if self.path.count("/") > 1 else ("", "", "")
            if folder == "simple" and name in pages:
                body = f"<!DOCTYPE html><html><body>{pages[name]}</body></html>".encode()
                self._begin("text/html", len(body))
                self.wfile.write(body)
            elif folder == "files" and (file := wheels / name).is_file():
                self._begin("application/octet-stream", file.stat().st_size)
                with file.open("rb") as opened:
                    shutil.copyfileobj(opened, self.wfile)
            else:
                self.send_error(404)

        def _begin(self, kind: str, length: int) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: it is counted."""

    return Handler
