"""Run paths: publish a wheelhouse under a fresh one, and open one that was published.

A run path is ``<base>/<uuid4>``. It holds ``run.json``, written first, which says whose it is; the wheelhouse; and
``manifest.json``, written last, which is the commit: without it the run path does not exist for readers.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import functools
import json
import os
import re
import shutil
import socket
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload._version import __version__
from depload.errors import (
    AlteredWheelhouseError,
    DeploadError,
    Fault,
    MissingWheelhouseError,
    NotAWheelhouseError,
    NotInStoreError,
    TransferError,
)
from depload.published import holds, leases, wheelhouse
from depload.published.holds import Hold
from depload.published.wheelhouse import SUFFIX, Manifest
from depload.standards.wheels import sha256_of
from depload.stores import transfers
from depload.stores.addresses import open_store, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from depload.stores.store import Moved, Store

MANIFEST = "manifest.json"
MARKER = "run.json"
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Run:
    """A published wheelhouse."""

    path: str
    """The run path, or the wheelhouse file itself where that was given."""
    file: Path
    """The wheelhouse on this machine: itself, or a copy that goes with this process."""
    manifest: Manifest
    sha256: str | None
    """Of the file, as published; None where a file was given without its run path."""
    location: str = ""
    """How a user calls the place of the wheelhouse."""
    seen: str | None = None
    """Where the workers of a cluster open the wheelhouse, if they see the store at all."""
    uri: str | None = None
    """How Spark's own file systems call it, where they can read it."""


def is_run_name(name: str) -> bool:
    """Whether a directory's name is one that ``publish`` gives."""
    return bool(_UUID4.fullmatch(name))


def publish(
    store: Store,
    file: Path,
    manifest: Manifest,
    moved: Moved | None = None,
    about_run: Callable[[], Mapping[str, Any]] | None = None,
) -> Run:
    """Copy the wheelhouse to a fresh run path of ``store``, then write the manifest beside it, last.

    ``about_run`` is asked then for what it shall say of this run alone, its times say.
    Whatever goes wrong, the run path is removed again; where even that fails, readers see no run path there.
    """
    run = str(uuid.uuid4())
    name = _published_name(store, file.name, run)
    about = {"depload": __version__, "run": run}
    try:
        started = {**about, "started": _now(), "host": socket.gethostname(), "pid": os.getpid()}
        store.write(f"{run}/{MARKER}", _json(started))
        with holds.held(store, run, "publish", beside=MARKER):
            sha256 = transfers.send(store, f"{run}/{name}", file, moved=moved)
            outer: dict[str, Any] = {
                **about,
                **manifest.to_json(),
                "created": _now(),
                "wheelhouse": {"filename": name, "size": file.stat().st_size, "sha256": sha256},
                "conversion": about_run() if about_run else {},
            }
            transfers.write(store, f"{run}/{MANIFEST}", _json(outer))
    except BaseException:
        with contextlib.suppress(Exception):
            for key in (f"{run}/{MANIFEST}", f"{run}/{name}", run):  # the marker last, so that it is known whose it is
                store.remove(key)
        raise
    key = f"{run}/{name}"
    return Run(store.location(run), store.path(key) or file, manifest, sha256, store.location(key))


def _published_name(store: Store, name: str, run: str) -> str:
    """What Spark can fetch from the store by itself it fetches under this name, which no other file may have."""
    if store.uri(name) is None:
        return name
    return f"{name.removesuffix(SUFFIX)}-{run[:8]}{SUFFIX}"


def open_run(path: str | os.PathLike[str], via: Any = None, *, anew: bool = False) -> Run:  # noqa: ANN401 - Databricks' objects
    """What is published at a run path, or the wheelhouse file at ``path``; ``via`` as for ``open_store``.

    From a store that is not mounted here the file is copied; the copy goes with this process, and serves every run path
    whose manifest names the same hash, unless ``anew`` wants to see what lies there. Raises NotAWheelhouseError,
    AlteredWheelhouseError, StoreError.
    """
    return _opened(*_located(path, via), anew=anew)


def hold_run(
    path: str | os.PathLike[str],
    via: Any = None,  # noqa: ANN401 - Databricks' objects
    *,
    ended: Callable[[], bool] | None = None,
) -> tuple[Run, Hold]:
    """``open_run``, with a lease that is written first; where there can be none, the hold says why.

    ``ended`` is asked now and then whether what it is for has come to its end.
    """
    store, name, text = _located(path, via)
    hold = _held(store, name, ended)
    try:
        return _opened(store, name, text), hold
    except BaseException:
        hold.abandon()
        raise


def _held(store: Store, name: str, ended: Callable[[], bool] | None) -> Hold:
    if not is_run_name(name):
        return Hold(why="none, because only a run path has one")
    try:
        if MANIFEST in {entry.name for entry in store.list(name)}:  # else the write would make a directory of nothing
            return holds.take(store, name, "load", beside=MANIFEST, ended=ended)
    except DeploadError as error:
        return Hold(why=f"none, because it could not be written: {error}")
    return Hold(why="none, because there is no such run path")


def _located(path: str | os.PathLike[str], via: Any) -> tuple[Store, str, str]:  # noqa: ANN401
    text = os.fspath(path)
    if "{{" in text:
        raise NotAWheelhouseError(text, "it is a reference that the platform did not fill in", "check the task's name")
    base, name = split(text)
    return open_store(base, via), name, text


def _opened(store: Store, name: str, text: str, *, anew: bool = False) -> Run:
    here = store.path(name)
    if name.endswith(SUFFIX) or (here and here.is_file()):
        return _lone(store, name, text)
    outer = _outer_manifest(store, name, text)
    try:
        manifest = Manifest.from_json(outer)
        filename, sha256 = str(outer["wheelhouse"]["filename"]), str(outer["wheelhouse"]["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise NotAWheelhouseError(text, f"its {MANIFEST} is damaged ({error})") from error
    if "/" in filename or not filename.endswith(SUFFIX):
        raise NotAWheelhouseError(text, f"its {MANIFEST} names {filename!r} as the wheelhouse")
    key = f"{name}/{filename}"
    try:
        file = _on_this_machine(store, key, sha256, anew=anew)
    except NotInStoreError:
        if MANIFEST not in {entry.name for entry in store.list(name)}:  # it is being removed
            raise MissingWheelhouseError(text) from None
        raise AlteredWheelhouseError(text, [Fault(filename, "is missing")]) from None
    except TransferError as error:
        fault = Fault(filename, f"has another SHA-256 than {MANIFEST} says: {error.found}")
        raise AlteredWheelhouseError(text, [fault]) from error
    return Run(text, file, manifest, sha256, store.location(key), store.seen(key), store.uri(key))


def _lone(store: Store, name: str, text: str) -> Run:
    try:
        file = _on_this_machine(store, name, None, anew=True)
    except NotInStoreError:
        raise MissingWheelhouseError(text) from None
    return Run(text, file, wheelhouse.read(file), None, store.location(name), store.seen(name))


def _on_this_machine(store: Store, key: str, sha256: str | None, *, anew: bool) -> Path:
    """The file, or a copy of it; one that was copied before, by its hash, is not copied again."""
    if file := store.path(key):
        if not file.is_file():
            raise NotInStoreError(store.location(key))
        return file
    folder = _own_directory() / (sha256 or str(uuid.uuid4()))
    file = folder / key.rpartition("/")[2]
    if anew or not file.exists():
        with tempfile.TemporaryDirectory(dir=_own_directory()) as beside:
            fresh = Path(beside, file.name)
            transfers.receive(store, key, fresh, sha256)
            folder.mkdir(exist_ok=True)
            fresh.replace(file)
    return file


@functools.cache
def _own_directory() -> Path:
    """Where wheelhouses lie that were fetched; it goes with this process."""
    made = tempfile.mkdtemp(prefix="depload-fetched-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def _outer_manifest(store: Store, name: str, text: str) -> dict[str, Any]:
    try:
        data = json.loads(transfers.read(store, f"{name}/{MANIFEST}"))
    except NotInStoreError:
        names = {entry.name for entry in store.list(name)}
        if MARKER in names:
            why = "its publication was not completed, or it is being removed"
            raise NotAWheelhouseError(text, why, "run convert again") from None
        if is_run_name(name) and all(map(leases.is_passing, names)):  # what a removal leaves last, beside readers
            raise MissingWheelhouseError(text) from None
        if names or name in {entry.name for entry in store.list() if entry.is_directory}:
            raise NotAWheelhouseError(text, f"it has no {MANIFEST}") from None
        raise MissingWheelhouseError(text) from None
    except ValueError as error:
        raise NotAWheelhouseError(text, f"its {MANIFEST} is damaged ({error})") from error
    if not isinstance(data, dict):
        raise NotAWheelhouseError(text, f"its {MANIFEST} is not a JSON object")
    return data


def check(run: Run) -> None:
    """Compare the published file with its manifest; raises AlteredWheelhouseError, which names what differs.

    MissingWheelhouseError where it is removed right now.
    """
    with _told(run):
        if run.sha256 is None or sha256_of(run.file) != run.sha256:
            wheelhouse.check_hashes(run.file)  # names the members that differ
            if run.sha256 is not None:
                raise AlteredWheelhouseError(
                    run.path, [Fault(run.file.name, f"has another SHA-256 than {MANIFEST} says")]
                )
        _compare_manifests(run)


def check_what_runs(run: Run) -> None:
    """Compare what is imported or run before any wheel is unpacked, in a moment; raises as ``check`` does.

    With the wheels, which whoever unpacks them compares, it is what the digest is made of.
    """
    with _told(run):
        wheelhouse.check_hashes(run.file, but_wheels=True)
        _compare_manifests(run)


@contextlib.contextmanager
def _told(run: Run) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, MissingWheelhouseError):
        raise MissingWheelhouseError(run.path) from None
    except NotAWheelhouseError as error:
        raise AlteredWheelhouseError(run.path, [Fault(run.file.name, error.why)]) from error


def _compare_manifests(run: Run) -> None:
    if wheelhouse.read(run.file) != run.manifest:
        raise AlteredWheelhouseError(run.path, [Fault(MANIFEST, "is not the manifest inside the wheelhouse")])


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=1).encode()
