"""What goes over the wire: a request with a body that is read as it comes, an answer that is sent as it is made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

PIECE = 64 * 1024


class Cut(Exception):  # noqa: N818 - it is no error: the connection ends because a fault says so
    """The connection ends here: with a reset, or as if all had been said."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


class ApiError(Exception):
    """An answer that says no, in the words of the API."""

    def __init__(
        self, status: int, code: str, message: str, *, reason: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.reason = reason
        self.headers = dict(headers or {})

    def answer(self) -> Answer:
        said: dict[str, Any] = {"error_code": self.code, "message": self.message}
        if self.reason:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            said["details"] = [{"@type": kind, "reason": self.reason, "domain": "filesystem.databricks.com"}]
        return replace(Answer.of(said, self.status), headers={**Answer.of(said).headers, **self.headers})


class Body:
    """The body of a request, of a length that was told or in chunks (RFC 9112, section 7.1)."""

    def __init__(self, file: BinaryIO, headers: Mapping[str, str]) -> None:
        self._file = file
        self._chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else int(headers.get("Content-Length") or 0)
        self._ended = not self._chunked
        self.received = 0

    def pieces(self) -> Iterator[bytes]:
        """The rest of it; a client that hangs up in the middle is a cut."""
        while self._left or self._next_chunk():
            piece = self._file.read(min(self._left, PIECE))
            if not piece:
                raise Cut(reset=False)
            self._left -= len(piece)
            self.received += len(piece)
            yield piece

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def drain(self) -> None:
        """Take what is left, because a client that still sends does not read an answer."""
        for _ in self.pieces():
            pass

    def _next_chunk(self) -> bool:
        if self._ended:
            return False
        if self.received:
            self._file.readline()
        head = self._file.readline()
        if not head:
            raise Cut(reset=False)
        self._left = int(head.split(b";")[0], 16)
        if not self._left:
            self._ended = True
            while self._file.readline().strip():  # trailers
                pass
        return bool(self._left)


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    names: Mapping[str, str] = field(default_factory=dict)  # what the pattern of the route found in the path

    @classmethod
    def read(cls, method: str, target: str, headers: Mapping[str, str], file: BinaryIO) -> Request:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(method, unquote(parts.path), query, headers, Body(file, headers))

    @property
    def asked(self) -> str:
        """The path and the query as they read."""
        return "?".join([self.path, *(["&".join(map("=".join, self.query.items()))] if self.query else [])])

    def json(self) -> dict[str, Any]:
        """The body as JSON; a method without one has its fields in the query."""
        content = self.body.read()
        if not content:
            return dict(self.query)
        said = json.loads(content)
        return said if isinstance(said, dict) else {}

    def flag(self, name: str, said: Mapping[str, Any] | None = None) -> bool:
        return str((self.query if said is None else said).get(name, "")).lower() == "true"


@dataclass(frozen=True)
class Answer:
    """What the client gets."""

    status: int = 200
    length: int = 0
    pieces: Iterable[bytes] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object, status: int = 200) -> Answer:
        return cls.bytes(json.dumps(value).encode(), "application/json", status)

    @classmethod
    def bytes(cls, content: bytes, kind: str = "application/octet-stream", status: int = 200) -> Answer:
        return cls(status, len(content), [content], {"Content-Type": kind})

    @classmethod
    def file(cls, path: Path, headers: Mapping[str, str]) -> Answer:
        """A file, or the part of it that is asked for (RFC 9110, section 14), unless it has changed since."""
        stat = path.stat()
        modified = http_date(stat.st_mtime)
        about = {"Content-Type": "application/octet-stream", "Last-Modified": modified, "Accept-Ranges": "bytes"}
        if headers.get("If-Unmodified-Since", modified) != modified:
            raise ApiError(412, "PRECONDITION_FAILED", "The file was modified since the given time.")
        asked = headers.get("Range", "")
        if not asked:
            return cls(200, stat.st_size, _slice(path, 0, stat.st_size), about)
        start, end = _range(asked, stat.st_size)
        about["Content-Range"] = f"bytes {start}-{end - 1}/{stat.st_size}"
        return cls(206, end - start, _slice(path, start, end), about)


class Api(Protocol):
    """A part of the workspace API."""

    def routes(self) -> Iterable[Route]: ...


@dataclass(frozen=True)
class Route:
    """What answers a method and a path; the groups of the pattern are the request's names."""

    method: str
    pattern: str
    answer: Callable[[Request], Answer]


def http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def _slice(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as opened:
        opened.seek(start)
        while start < end and (piece := opened.read(min(PIECE, end - start))):
            start += len(piece)
            yield piece


def _range(asked: str, size: int) -> tuple[int, int]:
    """Where ``bytes=FIRST-[LAST]`` starts and ends."""
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= size:
        raise ApiError(
            416, "INVALID_RANGE", "The range is beyond the end.", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, end
