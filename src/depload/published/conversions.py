"""What earlier conversions came to, so that an equal one is answered from the base.

    <base>/conversions/<digest>.json            the wheels that a source came to; they lie in the wheel cache
    <base>/conversions/<digest>.failed.json     the error that it came to
    <base>/conversions/<digest>.claim.json      who converts it right now, renewed while it does

The digest is of all that decides the outcome: source bytes, target, options.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import json
import os
import re
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depload import errors
from depload._version import __version__
from depload.errors import DeploadError, Fault, StoreError
from depload.published.wheelhouse import Bytecode, Ingredient
from depload.standards import wheels
from depload.stores import transfers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from depload.published.wheelcache import WheelCache
FOLDER = "conversions"
_FAILURE_COUNTS = dt.timedelta(minutes=10)
_REMEMBERED = ("ResolutionError", "BuildError")
"""What is the source's own fault; a host that does not answer, or a file that arrived altered, may be right later."""
_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)
_MACHINE = tuple(os.strerror(number) for number in _NUMBERS)
_PASSING = re.compile(
    "|".join(map(re.escape, (*_MACHINE, "invalid package format", "Failed to read", "Failed to fetch"))), re.IGNORECASE
)
"""What such an error says that is not the source's fault either: a full disk, a file that was cut off."""

RENEWAL = 10.0
"""Seconds between two renewals of a claim."""
_PATIENCE = 4 * RENEWAL  # seconds without a renewal after which its owner is dead
_POLL = 0.5


@dataclass(frozen=True)
class Answer:
    """What an earlier conversion came to."""

    ingredients: tuple[Ingredient, ...]
    bytecode: tuple[Bytecode, ...]
    warnings: tuple[str, ...]
    tools: Mapping[str, str]
    """What resolved and what built, with its version, by role."""


@dataclass(frozen=True)
class Record:
    """That there was an earlier conversion."""

    made: dt.datetime
    unpinned: tuple[str, ...]
    """Packages whose versions the source leaves open; a later conversion may come to others."""
    data: dict[str, Any]

    @property
    def age(self) -> dt.timedelta:
        """Since then, by two clocks that may differ by minutes."""
        return _now() - self.made


class Conversions:
    """The conversions of one source for one target with the same options, in one base."""

    def __init__(self, digest: str, cache: WheelCache) -> None:
        self._store = cache.store
        self._key = f"{FOLDER}/{digest}"
        self._cache = cache

    def record(self) -> Record | None:
        """The last one that came to something."""
        with contextlib.suppress(StoreError, ValueError, KeyError, TypeError):
            data = json.loads(transfers.read(self._store, f"{self._key}.json"))
            if data["depload"] == __version__:
                return Record(dt.datetime.fromisoformat(data["made"]), tuple(data["unpinned"]), data)
        return None

    def answer(self, record: Record, to: Path) -> Answer | None:
        """Its wheels, below ``to``; None where one of them is not kept any more."""
        to.mkdir()
        with contextlib.suppress(LookupError, TypeError, ValueError, DeploadError):
            rows = [*record.data["wheels"], *record.data["bytecode"]]
            # A record may be anybody's, so of what it calls a file only the last part counts.
            paths = {row["filename"]: to / os.path.basename(row["filename"]) for row in rows}  # noqa: PTH119
            if not self._cache.take_all({paths[row["filename"]]: row["sha256"] for row in rows}):
                return None
            ingredients = []
            for row in record.data["wheels"]:
                wheel = wheels.read(paths[row["filename"]], sha256=row["sha256"], judged=True)
                built_from = (str(row["built_from"][0]), str(row["built_from"][1])) if row["built_from"] else None
                origin, requested, uploaded = str(row["origin"]), bool(row["requested"]), str(row["uploaded"])
                ingredients.append(Ingredient(wheel, origin, requested, built_from, uploaded))
            parts = []
            for row in record.data["bytecode"]:
                path = paths[row["filename"]]
                parts.append(Bytecode(path, str(row["filename"]), str(row["sha256"]), path.stat().st_size))
            tools = {str(role): str(tool) for role, tool in record.data["tools"].items()}
            return Answer(tuple(ingredients), tuple(parts), tuple(map(str, record.data["warnings"])), tools)
        return None

    def remember(self, made: Answer, unpinned: Sequence[str]) -> None:
        """Keep what a conversion came to: its wheels first, then the record of them."""
        self._cache.keep(
            [
                *((item.wheel.path, item.wheel.sha256) for item in made.ingredients),
                *((part.path, part.sha256) for part in made.bytecode),
            ]
        )
        data = {
            "depload": __version__,
            "made": _now().isoformat(timespec="seconds"),
            "unpinned": list(unpinned),
            "wheels": [
                {
                    "filename": item.wheel.filename,
                    "sha256": item.wheel.sha256,
                    "origin": item.origin,
                    "requested": item.requested,
                    "built_from": list(item.built_from or ()),
                    "uploaded": item.uploaded,
                }
                for item in made.ingredients
            ],
            "bytecode": [{"filename": part.filename, "sha256": part.sha256} for part in made.bytecode],
            "warnings": list(made.warnings),
            "tools": dict(made.tools),
        }
        with contextlib.suppress(StoreError):
            self._store.write(f"{self._key}.json", json.dumps(data).encode())
            self._store.remove(f"{self._key}.failed.json")

    # --- failures ---------------------------------------------------------------------------------------------------

    def failure(self) -> DeploadError | None:
        """The error that a conversion came to in the last ten minutes."""
        with contextlib.suppress(StoreError, ValueError, KeyError, TypeError):
            data = json.loads(transfers.read(self._store, f"{self._key}.failed.json"))
            recent = _now() - dt.datetime.fromisoformat(data["at"]) < _FAILURE_COUNTS
            if recent and data["error"] in _REMEMBERED:
                found: DeploadError = getattr(errors, data["error"])(*map(_read, data["arguments"]))
                return found
        return None

    def remember_failure(self, error: DeploadError) -> None:
        """Keep an error that would come again."""
        name = type(error).__name__
        said = str(getattr(error, "explanation", "") or getattr(error, "output", "")).strip()
        if name in _REMEMBERED and said and not _PASSING.search(said):  # a program that was killed says nothing
            arguments = [_written(each) for each in error.args]
            data = {"error": name, "arguments": arguments, "at": _now().isoformat(timespec="seconds")}
            with contextlib.suppress(StoreError):
                self._store.write(f"{self._key}.failed.json", json.dumps(data).encode())

    # --- once at a time ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def turn(self, waiting: Callable[[], None]) -> Iterator[bool]:
        """Whether it is this one's turn to convert; otherwise another has had it meanwhile, and may have an answer.

        ``waiting`` is told before it takes time. Who converts says so in a claim and renews it; one that is not renewed
        is a dead one's. Where the store cannot keep two from claiming at once, both convert, which costs time and
        nothing else.
        """
        owner = uuid.uuid4().hex
        try:
            mine = self._store.create(f"{self._key}.claim.json", _claim(owner, 0))
        except StoreError:  # a base that cannot be written says so when the run is published
            yield True
            return
        if not mine:
            waiting()
            self._wait()
            yield False
            return
        over = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(owner, over), name="depload-claim", daemon=True)
        renewing.start()
        try:
            yield True
        finally:
            over.set()
            renewing.join()
            with contextlib.suppress(StoreError):
                self._store.remove(f"{self._key}.claim.json")

    def _renew(self, owner: str, over: threading.Event) -> None:
        count = 0
        while not over.wait(RENEWAL):
            count += 1
            with contextlib.suppress(StoreError):
                self._store.write(f"{self._key}.claim.json", _claim(owner, count))

    def _wait(self) -> None:
        """Until the claim is gone, or was not renewed for too long by this process's own clock."""
        last, since = b"", time.monotonic()
        while True:
            try:
                claim = transfers.read(self._store, f"{self._key}.claim.json")
            except StoreError:
                return
            if claim != last:
                last, since = claim, time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                with contextlib.suppress(StoreError):
                    self._store.remove(f"{self._key}.claim.json")
                return
            time.sleep(_POLL)


def _claim(owner: str, count: int) -> bytes:
    about = {"owner": owner, "renewals": count, "host": socket.gethostname(), "pid": os.getpid()}
    return json.dumps({"depload": __version__, **about}).encode()


def _written(value: Any) -> Any:  # noqa: ANN401 - what errors hold
    if isinstance(value, Fault):
        return {"fault": list(value)}
    return [_written(each) for each in value] if isinstance(value, (list, tuple)) else str(value)


def _read(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return Fault(*map(str, value["fault"]))
    return [_read(each) for each in value] if isinstance(value, list) else str(value)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
