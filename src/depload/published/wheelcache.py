"""Wheels that were downloaded or built, kept beside the run paths of a base for the conversions to come.

    <base>/wheels/<sha256>.whl, <sha256>.zip      a wheel; the .pyc files of one
    <base>/wheels/<digest>.json                   which wheel was built of the sources with that digest

What is taken is held against its hash. A cache that cannot be read or written is no cache, and no error.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from depload.errors import StoreError, TransferError
from depload.stores import transfers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from depload.stores.store import Store

FOLDER = "wheels"
_AT_ONCE = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILENAME = re.compile(r"[^\s/\\]{1,251}\.whl")


class WheelCache:
    """The wheels of one base."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._sizes: dict[str, int] | None = None

    def take(self, sha256: str, to: Path) -> bool:
        """Put the file with that hash at ``to``, if it is here."""
        name = f"{sha256}{to.suffix}"
        if not _SHA256.fullmatch(sha256) or name not in self._listed():
            return False
        with contextlib.suppress(StoreError):  # gone meanwhile, or damaged
            transfers.receive(self.store, f"{FOLDER}/{name}", to, sha256)
            return True
        to.unlink(missing_ok=True)
        self._listed().pop(name, None)  # so that it is written anew
        return False

    def take_all(self, wanted: Mapping[Path, str]) -> bool:
        """Put each of the files with these hashes at its path; whether all of them are here."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return all(pool.map(self.take, wanted.values(), wanted))

    def keep(self, files: Iterable[tuple[Path, str]]) -> None:
        """Keep files by their hashes; what is here already is not written again."""
        named = {f"{sha256}{path.suffix}": (path, sha256) for path, sha256 in files}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, (path, sha256) in named.items():
                if self._listed().get(name) != path.stat().st_size:  # else what was cut short would stay so
                    pool.submit(self._keep, name, path, sha256)

    def built(self, digest: str, to: Path) -> Path | None:
        """The wheel that was built of the sources with that digest, in the directory ``to``."""
        if f"{digest}.json" not in self._listed():
            return None
        with contextlib.suppress(StoreError, ValueError, KeyError):
            about = json.loads(transfers.read(self.store, f"{FOLDER}/{digest}.json"))
            filename = str(about["filename"])
            if _FILENAME.fullmatch(filename) and self.take(str(about["sha256"]), to / filename):
                return to / filename
        return None

    def keep_built(self, digest: str, wheel: Path, sha256: str) -> None:
        """Remember what was built of the sources with that digest; the record comes after what it speaks of."""
        self.keep([(wheel, sha256)])
        about = json.dumps({"filename": wheel.name, "sha256": sha256})
        with contextlib.suppress(StoreError):
            self.store.write(f"{FOLDER}/{digest}.json", about.encode())

    def _keep(self, name: str, path: Path, sha256: str) -> None:
        try:
            transfers.send(self.store, f"{FOLDER}/{name}", path, sha256)
        except TransferError:  # another process may be writing it
            pass
        except (StoreError, OSError):
            with contextlib.suppress(StoreError):  # half a file on a full disk is of no use to anybody
                self.store.remove(f"{FOLDER}/{name}")

    def _listed(self) -> dict[str, int]:
        """What was here when it was first asked for, with its sizes, but for what turned out to be damaged."""
        with self._lock:
            if self._sizes is None:
                self._sizes = {}
                with contextlib.suppress(StoreError):
                    self._sizes = {entry.name: entry.size for entry in self.store.list(FOLDER)}
            return self._sizes
