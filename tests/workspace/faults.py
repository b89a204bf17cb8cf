"""What goes wrong on the way to a workspace, on demand."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from workspace.messages import Answer, ApiError, Cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from workspace.messages import Request


class Trouble(Protocol):
    """What a fault does to a request and to its answer."""

    def before(self, request: Request, /) -> Answer | None:
        """An answer in place of the workspace's, or None; `Cut` ends the connection."""

    def after(self, answer: Answer, /) -> Answer:
        """What the client gets of the workspace's answer; `Cut` ends the connection."""


class _Harmless:
    def before(self, _request: Request, /) -> Answer | None:
        return None

    def after(self, answer: Answer, /) -> Answer:
        return answer


@dataclass(frozen=True)
class _Refusal(_Harmless):
    """The workspace is not asked, and nothing is changed."""

    def before(self, _request: Request, /) -> Answer | None:
        return self.error().answer()

    def error(self) -> ApiError:
        raise NotImplementedError


@dataclass(frozen=True)
class TooManyRequests(_Refusal):
    """429; a client waits ``retry_after`` seconds, or as it likes where that is None."""

    retry_after: int | None = 0

    def error(self) -> ApiError:
        words = "Current request has to be retried"
        return ApiError(429, "REQUEST_LIMIT_EXCEEDED", words, headers=_retry_after(self.retry_after))


@dataclass(frozen=True)
class Unavailable(_Refusal):
    """503."""

    retry_after: int | None = 0

    def error(self) -> ApiError:
        words = "The service at this path is temporarily unavailable"
        return ApiError(503, "TEMPORARILY_UNAVAILABLE", words, headers=_retry_after(self.retry_after))


@dataclass(frozen=True)
class ServerError(_Refusal):
    """500."""

    def error(self) -> ApiError:
        return ApiError(500, "INTERNAL_ERROR", "Internal error happened")


@dataclass(frozen=True)
class Unauthorized(_Refusal):
    """401."""

    def error(self) -> ApiError:
        words = "Credential was not sent or was of an unsupported type for this API."
        return ApiError(401, "UNAUTHENTICATED", words)


@dataclass(frozen=True)
class Forbidden(_Refusal):
    """403."""

    message: str = "User does not have WRITE VOLUME on Volume 'main.default.depload'."

    def error(self) -> ApiError:
        return ApiError(403, "PERMISSION_DENIED", self.message)


@dataclass(frozen=True)
class ResetWhileReading(_Harmless):
    """The connection is reset when so many bytes of the request's body have come."""

    after_bytes: int = 0

    def before(self, request: Request, /) -> Answer | None:
        pieces = request.body.pieces()
        while request.body.received < self.after_bytes and next(pieces, None):
            pass
        raise Cut(reset=True)


@dataclass(frozen=True)
class ResetWhileSending(_Harmless):
    """The workspace does as it is asked, and the connection is reset when so many bytes of the answer are sent."""

    after_bytes: int = 0

    def after(self, answer: Answer, /) -> Answer:
        return replace(answer, pieces=_cut(answer.pieces, self.after_bytes, reset=True))


@dataclass(frozen=True)
class Truncated(_Harmless):
    """The answer ends early; where it is ``told``, the length in its head is the shorter one, so that nothing shows."""

    at: int = 0
    told: bool = False

    def after(self, answer: Answer, /) -> Answer:
        length = min(self.at, answer.length) if self.told else answer.length
        pieces = _first(answer.pieces, self.at) if self.told else _cut(answer.pieces, self.at, reset=False)
        return replace(answer, length=length, pieces=pieces)


@dataclass(frozen=True)
class LostAnswer(_Harmless):
    """The workspace does as it is asked, and the client never hears of it."""

    def after(self, answer: Answer, /) -> Answer:
        for _ in answer.pieces:
            pass
        raise Cut(reset=True)


@dataclass(frozen=True)
class Slow(_Harmless):
    """The answer starts late, and then trickles: pieces of ``size`` bytes with ``pause`` seconds between them."""

    start: float = 0.0
    pause: float = 0.0
    size: int = 64 * 1024

    def before(self, _request: Request, /) -> Answer | None:
        time.sleep(self.start)
        return None

    def after(self, answer: Answer, /) -> Answer:
        return replace(answer, pieces=self._trickle(answer.pieces)) if self.pause else answer

    def _trickle(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            for start in range(0, len(piece), self.size):
                time.sleep(self.pause)
                yield piece[start : start + self.size]


@dataclass(frozen=True)
class WrongByte(_Harmless):
    """One byte of what is read differs from what was written; of a JSON answer, one of the content in it."""

    at: int = 0

    def after(self, answer: Answer, /) -> Answer:
        if answer.headers.get("Content-Type") != "application/json":
            return replace(answer, pieces=_flipped(answer.pieces, self.at))
        said = json.loads(b"".join(answer.pieces))
        for key in {"data", "content"} & set(said):
            content = b"".join(_flipped([base64.b64decode(said[key])], self.at))
            said[key] = base64.b64encode(content).decode()
        return Answer.of(said, answer.status)


@dataclass
class Fault:
    """The trouble that requests of ``method`` meet whose path matches ``path``: ``skip`` pass, then ``times`` meet it.

    No method means any. ``path`` is searched as a regular expression in the path as it reads, and in path and query.
    """

    trouble: Trouble
    method: str = ""
    path: str = ""
    times: int = 1
    skip: int = 0
    happened: int = 0

    def meets(self, method: str, *spellings: str) -> bool:
        return self.method in {"", method} and any(re.search(self.path, path) for path in spellings)


@dataclass
class Faults:
    """The faults that are asked for; the first that fits a request takes it."""

    _asked: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, trouble: Trouble, *, method: str = "", path: str = "", times: int = 1, skip: int = 0) -> Fault:
        fault = Fault(trouble, method, path, times, skip)
        with self._lock:
            self._asked.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._asked.clear()

    @property
    def waiting(self) -> list[Fault]:
        """Those that have not happened as often as asked."""
        with self._lock:
            return [fault for fault in self._asked if fault.happened < fault.times]

    def take(self, method: str, *spellings: str) -> Trouble | None:
        """The trouble for this request, which counts as one time."""
        with self._lock:
            for fault in self._asked:
                if fault.happened < fault.times and fault.meets(method, *spellings):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.happened += 1
                    return fault.trouble
        return None


def _retry_after(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _first(pieces: Iterable[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:count]
        count -= len(piece[:count])
        if not count:
            return


def _cut(pieces: Iterable[bytes], after: int, *, reset: bool) -> Iterator[bytes]:
    if after:
        yield from _first(pieces, after)
    raise Cut(reset=reset)


def _flipped(pieces: Iterable[bytes], at: int) -> Iterator[bytes]:
    start = 0
    for piece in pieces:
        if start <= at < start + len(piece):
            changed = bytearray(piece)
            changed[at - start] ^= 1
            yield bytes(changed)
        else:
            yield piece
        start += len(piece)
