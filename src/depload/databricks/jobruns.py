"""Where a job run publishes: a folder of the base for each task and what it is given, so that a rerun finds it.

    <base>/job-<run id>.<task>.<inputs>/<uuid4>/      the run path

The folder's name is the only record. No file says what was published, so none can be wrong, and none is shared: neither
a task that was killed in the middle nor two that run at once leave anything that cleanup does not find.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload import IndexOptions, Limits, cleanup, verify
from depload.errors import (
    AlteredWheelhouseError,
    DeploadError,
    Fault,
    NotAWheelhouseError,
    ParameterError,
    SourceError,
    StoreError,
)
from depload.making.inputs import digest
from depload.making.policy import Judge
from depload.published.runs import MANIFEST
from depload.stores import transfers
from depload.stores.addresses import open_store, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from depload import Policy, Target
    from depload.stores.store import Store

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True)
class Published:
    """A wheelhouse of a job run."""

    path: str
    """The run path."""
    digest: str
    format: str
    reused: bool
    """Whether an earlier attempt of the same job run had made it."""

    def values(self) -> dict[str, str]:
        """The task values."""
        return {"wheelhouse_path": self.path, "wheelhouse_digest": self.digest, "wheelhouse_format": self.format}


@dataclass
class Cleared:
    """What a cleanup removed, and what it could not."""

    removed: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    size: int = 0
    """Bytes that were freed."""

    def remove(self, path: str, via: Any = None) -> None:
        """Remove a run path; a fault is kept, not raised."""
        try:
            base, name = split(path)
            open_store(base, via).rmdir(name)  # one that was begun and never written to is no run path yet
            # The tasks that loaded it are done; on Databricks their leases may not be.
            cleaned = cleanup(path, leased="remove", via=via)
        except DeploadError as error:
            self.faults.append(Fault("cleanup", str(error)))
            return
        self.size += cleaned.size
        if cleaned.removed:
            self.removed.append(cleaned.path)

    def close(self, store: Store, folder: str) -> None:
        """Remove the folder of a task once it is empty."""
        try:
            if not store.rmdir(folder):
                names = ", ".join(entry.name for entry in store.list(folder))
                what = f"{store.location(folder)} could not be removed, because it holds {names}"
                self.faults.append(Fault("cleanup", what))
        except StoreError as error:
            self.faults.append(Fault("cleanup", str(error)))


def check(run_id: str, task: str) -> None:
    """Raise ParameterError where one of them cannot be part of a folder's name."""
    faults = [
        Fault(name, f"is {value!r}; letters, digits, _ and - are allowed, 100 at most")
        for name, value in {"run_id": run_id, "task": task}.items()
        if not _NAME.fullmatch(value)
    ]
    if faults:
        raise ParameterError(faults)


def folder(base: str, run_id: str, task: str, inputs: str) -> str:
    """Where a task of a job run publishes what it makes of these inputs."""
    return f"{base.rstrip('/')}/job-{run_id}.{task}.{inputs}"


def inputs(
    source: str,
    *,
    target: Target,
    name: str | None,
    options: IndexOptions | None,
    constraints: Iterable[str],
    policy: Policy | None = None,
    via: Any = None,
) -> str:
    """What decides the outcome, as 16 hexadecimal digits: contents, not paths, and no credentials.

    The whole policy does, because what an earlier attempt published is not judged again.
    """
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="depload-") as scratch:
        try:
            here = transfers.on_this_machine(source, Path(scratch), via=via, members=limits.members, size=limits.size)
        except SourceError:  # which ``convert`` tells
            here = Path(source)
        files = [Path(file) for file in constraints]
        more = Judge(policy, options or IndexOptions()).facts if policy else ()
        return digest(here, target=target, name=name, options=options, constraints=files, more=more)[:16]


def newest(base: str, run_id: str, task: str, via: Any = None) -> str | None:
    """The run path that a task of a job run published last, if it is there; needs no task value."""
    store = open_store(base, via)
    found = sorted(_published(store, f"job-{run_id}.{task}."))
    return store.location(found[-1][1]) if found else None


def _published(store: Store, beginning: str) -> Iterator[tuple[str, str]]:
    """When the run paths in the folders of that beginning were published, and their keys; of complete ones alone."""
    for folder in _folders(store, beginning):
        for run in store.list(folder):
            with contextlib.suppress(StoreError, ValueError, KeyError):
                key = f"{folder}/{run.name}"
                yield str(json.loads(transfers.read(store, f"{key}/{MANIFEST}"))["created"]), key


def _folders(store: Store, beginning: str) -> list[str]:
    return [entry.name for entry in store.list() if entry.is_directory and entry.name.startswith(beginning)]


def published(base: str, run_id: str, task: str, made_of: str, via: Any = None) -> Published | None:
    """What an earlier attempt made of the same inputs, if nothing else was made since and it is still whole.

    One that is incomplete or altered is left to cleanup.
    """
    path = newest(base, run_id, task, via)
    if path is None or split(path)[0] != split(f"{folder(base, run_id, task, made_of)}/{split(path)[1]}")[0]:
        return None
    try:
        manifest = verify(path, via=via)
    except (NotAWheelhouseError, AlteredWheelhouseError):
        return None
    return Published(path, manifest.digest, manifest.format, reused=True)


def clear(base: str, run_id: str, via: Any = None) -> Cleared:
    """Remove every run path of a job run, complete or not, and the folders they lay in; never stops at a fault."""
    cleared = Cleared()
    try:
        store = open_store(base, via)
        for folder in _folders(store, f"job-{run_id}."):
            for path in store.list(folder):
                cleared.remove(store.location(f"{folder}/{path.name}"), via)
            cleared.close(store, folder)
    except DeploadError as error:
        cleared.faults.append(Fault("cleanup", str(error)))
    return cleared


def clear_one(path: str, cleared: Cleared, via: Any = None) -> None:
    """Remove one run path, and the job run's folder that it may be the last one of."""
    cleared.remove(path, via)
    folder, _ = split(path)
    base, name = split(folder)
    if name.startswith("job-"):
        with contextlib.suppress(DeploadError):
            open_store(base, via).rmdir(name)
