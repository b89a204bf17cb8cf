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

from depload.errors import StoreError
from depload.stores import transfers

if TYPE_CHECKING:
    from collections.abc import Iterable
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
        self._names: frozenset[str] | None = None

    def take(self, sha256: str, to: Path) -> bool:
        """Put the file with that hash at ``to``, if it is here."""
        name = f"{sha256}{to.suffix}"
        if not _SHA256.fullmatch(sha256) or name not in self._listed():
            return False
        with contextlib.suppress(StoreError):  # gone meanwhile, or damaged
            transfers.receive(self.store, f"{FOLDER}/{name}", to, sha256)
            return True
        to.unlink(missing_ok=True)
        return False

    def keep(self, files: Iterable[tuple[Path, str]]) -> None:
        """Keep files by their hashes; what is here already is not written again."""
        missing = {f"{sha256}{path.suffix}": (path, sha256) for path, sha256 in files}
        missing = {name: both for name, both in missing.items() if name not in self._listed()}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, (path, sha256) in missing.items():
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
        with contextlib.suppress(StoreError, OSError):
            transfers.send(self.store, f"{FOLDER}/{name}", path, sha256)

    def _listed(self) -> frozenset[str]:
        """What was here when it was first asked for."""
        with self._lock:
            if self._names is None:
                self._names = frozenset()
                with contextlib.suppress(StoreError):
                    self._names = frozenset(entry.name for entry in self.store.list(FOLDER))
            return self._names
