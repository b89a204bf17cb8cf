"""Run paths: publish a wheelhouse under a fresh one, and open one that was published.

A run path is ``<base>/<uuid4>``. It holds ``run.json``, written first, which says whose it is; the wheelhouse; and
``manifest.json``, written last, which is the commit: without it the run path does not exist for readers.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload._version import __version__
from depload.errors import AlteredWheelhouseError, Fault, NotAWheelhouseError
from depload.published import wheelhouse
from depload.published.wheelhouse import SUFFIX, Manifest
from depload.standards.wheels import sha256_of

if TYPE_CHECKING:
    from depload.published.stores import Store

MANIFEST = "manifest.json"
MARKER = "run.json"
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_GONE = "it may have been cleaned up: run the task that converts again, then this one"


@dataclass(frozen=True)
class Run:
    """A published wheelhouse."""

    path: str
    """The run path, or the wheelhouse file itself where that was given."""
    file: Path
    manifest: Manifest
    sha256: str | None
    """Of the file, as published; None where a file was given without its run path."""


def is_run_name(name: str) -> bool:
    """Whether a directory's name is one that ``publish`` gives."""
    return bool(_UUID4.fullmatch(name))


def publish(store: Store, file: Path, manifest: Manifest) -> Run:
    """Copy the wheelhouse to a fresh run path of ``store``, then write the manifest beside it, last.

    Whatever goes wrong, the run path is removed again; where even that fails, readers see no run path there.
    """
    run = str(uuid.uuid4())
    sha256 = sha256_of(file)
    about = {"depload": __version__, "run": run}
    outer: dict[str, Any] = {
        **about,
        **manifest.to_json(),
        "created": _now(),
        "wheelhouse": {"filename": file.name, "size": file.stat().st_size, "sha256": sha256},
    }
    try:
        started = {**about, "started": _now(), "host": socket.gethostname(), "pid": os.getpid()}
        store.write(f"{run}/{MARKER}", _json(started))
        store.put(f"{run}/{file.name}", file)
        store.write(f"{run}/{MANIFEST}", _json(outer))
    except BaseException:
        with contextlib.suppress(Exception):
            store.remove(run)
        raise
    return Run(store.location(run), Path(store.location(f"{run}/{file.name}")), manifest, sha256)


def open_run(path: str | os.PathLike[str]) -> Run:
    """What is published at a run path, or the wheelhouse file at ``path``. Raises NotAWheelhouseError."""
    place = Path(path)
    if "{{" in str(path):
        raise NotAWheelhouseError(
            str(path), "it is a reference that the platform did not fill in", "check the task's name"
        )
    if place.is_file():
        return Run(str(path), place, wheelhouse.read(place), None)
    if not place.is_dir():
        raise NotAWheelhouseError(str(path), "there is no such path", _GONE)
    outer = _outer_manifest(place)
    try:
        manifest = Manifest.from_json(outer)
        file, sha256 = place / str(outer["wheelhouse"]["filename"]), str(outer["wheelhouse"]["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise NotAWheelhouseError(str(path), f"its {MANIFEST} is damaged ({error})") from error
    if file.parent != place or not file.name.endswith(SUFFIX):
        raise NotAWheelhouseError(str(path), f"its {MANIFEST} names {file.name!r} as the wheelhouse")
    if not file.is_file():
        raise AlteredWheelhouseError(str(path), [Fault(file.name, "is missing")])
    return Run(str(path), file, manifest, sha256)


def _outer_manifest(place: Path) -> dict[str, Any]:
    try:
        data = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (place / MARKER).is_file():
            raise NotAWheelhouseError(str(place), "its publication was not completed", "run convert again") from None
        raise NotAWheelhouseError(str(place), f"it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise NotAWheelhouseError(str(place), f"its {MANIFEST} is damaged ({error})") from error
    if not isinstance(data, dict):
        raise NotAWheelhouseError(str(place), f"its {MANIFEST} is not a JSON object")
    return data


def check(run: Run) -> None:
    """Compare the published file with its manifest; raises AlteredWheelhouseError, which names what differs."""
    if run.sha256 is None or sha256_of(run.file) != run.sha256:
        wheelhouse.check_hashes(run.file)  # names the members that differ
        if run.sha256 is not None:
            raise AlteredWheelhouseError(run.path, [Fault(run.file.name, f"has another SHA-256 than {MANIFEST} says")])
    if wheelhouse.read(run.file) != run.manifest:
        raise AlteredWheelhouseError(run.path, [Fault(MANIFEST, "is not the manifest inside the wheelhouse")])


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def _json(data: dict[str, Any]) -> bytes:
    return json.dumps(data, indent=1).encode()
