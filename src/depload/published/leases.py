"""Leases: small files that say who uses a run path, and until when.

    <run>/lease-<uuid4>.json

Who is going to read a run path writes a lease first, and then reads the manifest. Who is going to remove one takes the
manifest away first, and then looks for leases. So at least one of the two sees the other, without locks, which stores
do not have. A lease is renewed while its holder lives; what a dead one leaves runs out.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import os
import re
import socket
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from depload._version import __version__
from depload.errors import NotInStoreError, StoreError
from depload.stores import transfers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from depload.stores.store import Entry, Store

LENGTH = "DEPLOAD_LEASE_SECONDS"
"""The environment variable that says how long a lease counts without being renewed."""

_LENGTH = 900.0  # seconds
_SLACK = 2 / 3  # of its length that a lease counts for once it has run out: clocks differ, and stores have bad minutes
_LONGEST = 86_400.0  # seconds; a lease that says more is damaged
_LARGEST = 65_536  # bytes
_UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_LEASE = re.compile(rf"lease-{_UUID4}\.json")
CLOCK = re.compile(rf"clock-{_UUID4}")


@dataclass(frozen=True)
class Lease:
    """What a lease says."""

    purpose: str
    """``load`` or ``publish``."""
    host: str
    pid: int
    until: str
    """When it runs out if it is not renewed, by its holder's clock: UTC, in ISO 8601."""

    def __str__(self) -> str:
        return f"{self.purpose} on host {self.host}, process {self.pid}, until {self.until}"


def length() -> float:
    """Seconds that a lease counts for without being renewed."""
    with contextlib.suppress(ValueError):
        given = float(os.environ.get(LENGTH, ""))
        return min(given, _LONGEST) if given > 0 else _LENGTH
    return _LENGTH


def fresh_name() -> str:
    """A name that no other lease has."""
    return f"lease-{uuid.uuid4()}.json"


def is_lease(name: str) -> bool:
    """Whether a file's name is that of a lease."""
    return bool(_LEASE.fullmatch(name))


def is_passing(name: str) -> bool:
    """Whether a file's name is one that comes and goes with who uses a run path: it is no part of that."""
    return is_lease(name) or is_clock(name)


def content(purpose: str) -> bytes:
    """A lease of this process, from now on."""
    now = dt.datetime.now(dt.timezone.utc)
    about = {
        "depload": __version__,
        "for": purpose,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "renewed": now.isoformat(timespec="milliseconds"),
        "until": (now + dt.timedelta(seconds=length())).isoformat(timespec="milliseconds"),
    }
    return json.dumps(about, indent=1).encode()


# --- whether one counts ---------------------------------------------------------------------------------------------


def alive(store: Store, run: str, entries: Iterable[Entry], clock: Clock, own: Collection[str] = ()) -> list[Lease]:
    """The leases among ``entries``, the files of a run path, that count; those named in ``own`` are left out.

    A store that says when a file was written says when a lease was renewed, by one clock for all. Only where it does
    not the holder's own clock has to do.
    """
    found = []
    for entry in entries:
        if is_lease(entry.name) and entry.name not in own:
            with contextlib.suppress(NotInStoreError):  # released meanwhile
                lease, ends = _read(store, f"{run}/{entry.name}", entry)
                if ends > clock.now():
                    found.append(lease)
    return found


def _read(store: Store, key: str, entry: Entry) -> tuple[Lease, float]:
    """A lease, and until when it counts; one that cannot be read may be one that is being written."""
    lease, span, until = Lease("use", "unknown", 0, "unknown"), _LENGTH, math.inf
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        if entry.size <= _LARGEST:
            data = json.loads(transfers.read(store, key))
            ends = dt.datetime.fromisoformat(data["until"])
            said = (ends - dt.datetime.fromisoformat(data["renewed"])).total_seconds()
            lease = Lease(_word(data["for"]), _word(data["host"]), int(data["pid"]), ends.isoformat(" ", "seconds"))
            span, until = min(max(said, 0.0), _LONGEST), ends.timestamp()
    return lease, (until if entry.modified is None else entry.modified + span) + span * _SLACK


def _word(value: object) -> str:
    """What anybody may have written, fit for a message."""
    return "".join(each for each in str(value)[:100] if each.isprintable())


# --- by which clock -------------------------------------------------------------------------------------------------


class Clock:
    """A store's own clock, learned from the time that it gives to a file, when it is first asked for.

    Where the store gives none, where nothing can be written, and where no store is named, it is this machine's.
    """

    def __init__(self, store: Store | None = None, folder: str = "") -> None:
        self._store = store
        self._folder = folder
        self._ahead: float | None = None

    def now(self) -> float:
        """Seconds since the epoch."""
        if self._ahead is None:
            self._ahead = _ahead(self._store, self._folder) if self._store else 0.0
        return time.time() + self._ahead


def fresh_clock_name() -> str:
    """A name for a folder that a store's clock is learned in."""
    return f"clock-{uuid.uuid4()}"


def is_clock(name: str) -> bool:
    """Whether a name is that of a file, or its folder, that a store's clock was learned by."""
    return bool(CLOCK.fullmatch(name))


def _ahead(store: Store, folder: str) -> float:
    """How many seconds a store's clock is ahead of this machine's."""
    name = fresh_clock_name()
    key = f"{folder}/{name}"
    try:
        store.write(key, b"depload\n")
        here = time.time()
        there = next((entry.modified for entry in store.list(folder) if entry.name == name), None)
    except StoreError:
        return 0.0
    finally:
        with contextlib.suppress(StoreError):
            store.remove(key)
    return 0.0 if there is None else there - here
