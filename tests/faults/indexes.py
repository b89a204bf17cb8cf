"""The index is cut off in the middle of a wheel, or of a page: at several places, in several ways, once or always."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import depload
from depload import IndexOptions
from depload.making import fetcher, hosts
from faults import ground, processes, rows, sets, witness
from faults.outcomes import LEFT, WRONG, Finding
from faults.processes import forked
from faults.rows import Row, Single

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path
    from random import Random

    from faults.ground import Ground
    from faults.processes import Ended
    from faults.sets import Set
    from faults.witness import Witness

_HOW = ("closed", "reset", "shorter", "wrong-byte", "stalled", "503", "404")
_SHARES = (0.0, 0.01, 0.3, 0.7, 0.99)
_WHAT = ("engine-1.0-py3-none-any.whl", "parts-1.0-py3-none-any.whl", "engine/", "parts/")
_KINDS = ("hashes", "bare")
"""Whether the pages say SHA-256 hashes."""
_ENDING = ("closed", "reset", "shorter")
_HARMLESS = ("closed", "reset", "stalled", "503")
"""What is tried again, so that once is not enough to fail."""
_UNSEEN = ("bare", "wrong-byte")
"""Without hashes another file is another file, if it is a sound wheel."""
_STALL = 0.3  # seconds


@dataclass
class _Trouble:
    """What happens to a file of the index, so many times."""

    how: str = ""
    what: str = ""
    share: float = 0.0
    times: int = 0


class Index:
    """An index in a process of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.url = str(connection.recv())

    def faulty(self, how: str, what: str, share: float, times: int) -> None:
        """From now on this file is not given as it is."""
        self._ask(_Trouble(how, what, share, times))

    def sound(self) -> int:
        """From now on nothing goes wrong; how often it did."""
        return int(self._ask(_Trouble()))

    def _ask(self, trouble: _Trouble) -> Any:
        self._connection.send(trouble)
        return self._connection.recv()


class _State:
    """What the index has, and what is wrong with it right now."""

    def __init__(self, wheels: Path) -> None:
        self.wheels = wheels
        self._trouble, self._met, self._lock = _Trouble(), 0, threading.Lock()

    def change(self, trouble: _Trouble) -> int:
        """Something else from now on; how often the last one was met."""
        with self._lock:
            met, self._trouble, self._met = self._met, trouble, 0
            return met

    def take(self, path: str) -> tuple[str, float]:
        """What this request meets, and at which share of the file; nothing for most."""
        with self._lock:
            trouble = self._trouble
            if trouble.how and trouble.times > self._met and path.endswith(f"/{trouble.what}"):
                self._met += 1
                return trouble.how, trouble.share
            return "", 0.0


class _Handler(http.server.BaseHTTPRequestHandler):
    """``/<kind>/<name>/`` is a page (PEP 503), ``/files/<wheel>`` a wheel."""

    protocol_version = "HTTP/1.1"
    state: _State

    def do_HEAD(self) -> None:
        body = _body(self.state.wheels, self.path)
        self._head(200 if body is not None else 404, len(body or b""))

    def do_GET(self) -> None:
        body, (how, share) = _body(self.state.wheels, self.path), self.state.take(self.path)
        if body is None or how.isdigit():
            self._head(int(how or 404), 2)
            self.wfile.write(b"no")
            return
        at = int(len(body) * share)
        self._head(200, at if how == "shorter" else len(body))
        if how == "wrong-byte":
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        if how in _ENDING:
            self.wfile.write(body[:at])
            self._hang_up(reset=how == "reset")
        else:
            self.wfile.write(body[:at])
            time.sleep(_STALL if how == "stalled" else 0)
            self.wfile.write(body[at:])

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if ".whl" in self.path else "text/html")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _hang_up(self, *, reset: bool) -> None:
        if reset:  # what is closed without lingering is reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # without saying goodbye first


def _serve(wheels: Path, connection: Connection) -> None:
    state = _State(wheels)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    connection.send(f"http://127.0.0.1:{server.server_port}")
    while True:
        connection.send(state.change(connection.recv()))


def _body(wheels: Path, path: str) -> bytes | None:
    parts = path.strip("/").split("/")
    if parts[0] == "files" and (file := wheels / parts[-1]).is_file():
        return file.read_bytes()
    if len(parts) == 2 and parts[0] in _KINDS:
        links = "".join(_link(file, parts[0]) for file in sorted(wheels.glob(f"{parts[1]}-*.whl")))
        return f"<!DOCTYPE html><html><body>\n{links}</body></html>\n".encode() if links else None
    return None


def _link(file: Path, kind: str) -> str:
    sha256 = f"#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}" if kind == "hashes" else ""
    return f'<a href="/files/{file.name}{sha256}">{file.name}</a><br>\n'


class Indexes(Single):
    """Converting with an index that fails."""

    def __init__(self, land: Ground, made: Set, index: Index, watcher: Witness) -> None:
        self._ground, self._set, self._index, self._watcher = land, made, index, watcher
        self._template = land.scratch / "template"
        self._template.mkdir()
        ground.plant(self._template, land.scratch / "outside")
        self._digest: dict[str, str] = {}
        for kind in _KINDS:
            base = land.fresh(self._template)
            ended = self._done(base, kind)
            if not ended.answer:
                raise RuntimeError(f"it fails with a sound index: {ended.error}")
            self._digest[kind] = ended.answer[1]
            land.put_away(base)

    def points(self, count: int, chance: Random) -> list[str]:
        """Everything with everything."""
        found = [
            f"{kind}:{how}:{what}:{share}:{often}"
            for kind in _KINDS
            for how in _HOW
            for what in _WHAT
            for share in (_SHARES if not how.isdigit() else _SHARES[:1])
            for often in ("once", "always")
        ]
        return rows.spread(found, count, chance)

    def take(self, point: str, facts: Counter[str]) -> Iterator[Finding]:
        """Convert with it, and again with a sound index; nothing is known from before."""
        kind, how, what, share, often = point.split(":")
        for path in self._ground.kept.iterdir():
            ground.remove(path)
        base = self._ground.fresh(self._template)
        self._index.faulty(how, what, float(share), 1 if often == "once" else 1_000_000)
        ended = self._done(base, kind)
        facts["did not come to it" if not self._index.sound() else "succeeded" if ended.answer else "failed"] += 1
        if ended.fault:
            yield Finding(WRONG, f"no error of depload's: {ended.fault}")
        if (how == "stalled" or (how in _HARMLESS and often == "once")) and not ended.answer:
            yield Finding(WRONG, f"that is nothing to fail for: {ended.error}")
        yield from ground.findings(base, [])
        again = self._done(base, kind, refresh=what.endswith("/"))  # that there is no such package is remembered
        if not again.answer:
            yield Finding(WRONG, f"the second try failed: {again.error or again.fault}")
        complete = [each.answer[0] for each in (ended, again) if each.answer]
        if (kind, how) != _UNSEEN and any(
            each.answer and each.answer[1] != self._digest[kind] for each in (ended, again)
        ):
            yield Finding(WRONG, f"another digest, expected {self._digest[kind]}: {ended.answer}, {again.answer}")
        yield from ground.findings(base, complete)
        yield from ground.left_after_prune(base)
        if left := self._ground.left_in_temporary():
            yield Finding(LEFT, f"in the temporary directory: {', '.join(left)}")
        yield from self._watcher.told()[1]
        self._ground.put_away(base)

    def _done(self, base: Path, kind: str, *, refresh: bool = False) -> Ended:
        def convert() -> tuple[str, str]:
            _hurry()
            options = IndexOptions(index_url=f"{self._index.url}/{kind}/")
            converted = depload.convert(self._set.source, base, options=options, compile=False, refresh=refresh)
            return converted.path, converted.digest

        return forked(convert, {**self._ground.environment, "UV_HTTP_RETRIES": "1"}, patience=120)


def _hurry() -> None:
    """Have a host that does not answer be asked again after hundredths of a second; as often as ever."""
    patience = hosts.Patience(first_wait=0.02, longest_wait=0.1, timeout=5.0)
    hosts.Patience.__init__.__defaults__ = (patience.attempts, 0.02, 0.1, 5.0)
    (fetcher.fetch.__kwdefaults__ or {})["patience"] = patience


@contextlib.contextmanager
def _ready(scratch: Path) -> Iterator[Indexes]:
    land = ground.Ground(scratch / "indexes")
    made = sets.make(land.scratch / "set", 1)
    with (
        processes.aside(lambda connection: _serve(made.wheels, connection)) as connection,
        witness.watching(land.bases) as watcher,
    ):
        yield Indexes(land, made, Index(connection), watcher)


ROWS = (Row("index-cut", "the index is cut off, or wrong, in the middle of a wheel or a page", 120, _ready),)
