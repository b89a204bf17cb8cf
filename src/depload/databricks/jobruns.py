"""Where a job run publishes: a folder of the base for each task and what it is given, so that a rerun finds it.

    <base>/job-<run id>.<task>.<inputs>/<uuid4>/      the run path

The folder's name is the only record. No file says what was published, so none can be wrong, and none is shared: neither
a task that was killed in the middle nor two that run at once leave anything that cleanup does not find.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from depload import cleanup, verify
from depload.errors import AlteredWheelhouseError, DeploadError, Fault, NotAWheelhouseError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from depload import IndexOptions, Target

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_COMMIT = "manifest.json"  # what a run path holds once it is complete
_CHUNK = 1 << 20


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

    def remove(self, path: str | Path) -> None:
        """Remove a run path; a fault is kept, not raised."""
        try:
            with contextlib.suppress(OSError):  # one that was begun and never written to is no run path yet
                Path(path).rmdir()
            cleaned = cleanup(path)
        except DeploadError as error:
            self.faults.append(Fault("cleanup", str(error)))
            return
        self.size += cleaned.size
        if cleaned.removed:
            self.removed.append(cleaned.path)

    def close(self, place: Path) -> None:
        """Remove the folder of a task once it is empty."""
        try:
            place.rmdir()
        except FileNotFoundError:  # somebody else's cleanup was quicker
            pass
        except OSError as error:
            self.faults.append(Fault("cleanup", f"{place} could not be removed ({error.strerror or error})"))


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
) -> str:
    """What decides the outcome, as 16 hexadecimal digits: contents, not paths, and no credentials."""
    asked = json.dumps(asdict(options), sort_keys=True) if options else ""
    facts = [_contents(Path(source)), str(target), name or "", _without_credentials(asked)]
    facts += [_contents(Path(file)) for file in constraints]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def _contents(path: Path) -> str:
    """A digest of a file, or of every file of a directory with its name; empty where there is nothing."""
    digest = hashlib.sha256(path.name.encode())
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"\0{file.relative_to(path)}\0".encode())
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def _without_credentials(text: str) -> str:
    """URLs without user and password: not even a digest may be made of them."""

    def bare(match: re.Match[str]) -> str:
        parts = urlsplit(match[0])
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    return re.sub(r"\w+://[^\s\"',]+", bare, text)


def newest(base: str, run_id: str, task: str) -> Path | None:
    """The run path that a task of a job run published last, if it is there; needs no task value."""
    found = [(file.stat().st_mtime, file.parent) for file in Path(base).glob(f"job-{run_id}.{task}.*/*/{_COMMIT}")]
    return max(found)[1] if found else None


def published(base: str, run_id: str, task: str, made_of: str) -> Published | None:
    """What an earlier attempt made of the same inputs, if nothing else was made since and it is still whole.

    One that is incomplete or altered is left to cleanup.
    """
    path = newest(base, run_id, task)
    if path is None or path.parent != Path(folder(base, run_id, task, made_of)):
        return None
    try:
        manifest = verify(path)
    except (NotAWheelhouseError, AlteredWheelhouseError):
        return None
    return Published(str(path), manifest.digest, manifest.format, reused=True)


def clear(base: str, run_id: str) -> Cleared:
    """Remove every run path of a job run, complete or not, and the folders they lay in; never stops at a fault."""
    cleared = Cleared()
    for place in sorted(Path(base).glob(f"job-{run_id}.*")):
        for path in sorted(place.iterdir()):
            cleared.remove(path)
        cleared.close(place)
    return cleared


def clear_one(path: str, cleared: Cleared) -> None:
    """Remove one run path, and the job run's folder that it may be the last one of."""
    cleared.remove(path)
    with contextlib.suppress(OSError):
        if Path(path).parent.name.startswith("job-"):
            Path(path).parent.rmdir()
