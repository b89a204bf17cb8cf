"""Bases to do things to, made in advance and copied for each time, and what must be true of them afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

import depload
from depload.errors import DeploadError, NotAWheelhouseError
from depload.published import conversions, runs
from depload.published.pruning import prune
from faults.outcomes import LEFT, LOST, WRONG, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_OLD = 30 * 86_400.0  # seconds
FOREIGN = {
    "notes.txt": b"somebody's\n",
    "archive/model.bin": bytes(range(256)),
    f"{uuid.UUID(int=5, version=4)}/precious.txt": b"in a folder that is called like a run path\n",
    "wheels/notes.txt": b"beside what depload keeps\n",
}
_WORK = ("tmp", ".")
"""How files are called that are being written."""
LINKS = ("link", f"{uuid.UUID(int=6, version=4)}")


def hurry() -> None:
    """Have a dead one's claim given up in half a second in place of forty, in this process and those it forks."""
    conversions.RENEWAL, conversions._PATIENCE, conversions._POLL = 0.1, 0.5, 0.02


class Ground:
    """A directory for one row: bases below ``bases``, and what processes are told by their environment."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.bases = scratch / "bases"
        self._numbers = itertools.count(1)
        self.temporary, self.kept, self.sites = (scratch / name for name in ("temporary", "kept", "sites"))
        for folder in (self.bases, self.temporary, self.kept, self.sites):
            folder.mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        """What makes processes keep to this directory."""
        return {
            "TMPDIR": str(self.temporary),
            "DEPLOAD_SITES": str(self.sites / "shared"),
            "DEPLOAD_CACHE_DIR": str(self.kept / "depload"),
            "UV_CACHE_DIR": str(self.kept / "uv"),
        }

    def fresh(self, template: Path) -> Path:
        """A copy of a template: it appears whole."""
        aside = self.bases / f".{uuid.uuid4().hex}"
        shutil.copytree(template, aside, symlinks=True)
        _keep_times(template, aside)
        base = self.bases / str(next(self._numbers))
        aside.rename(base)
        return base

    def put_away(self, base: Path) -> None:
        """Remove a base: it disappears whole."""
        aside = self.bases / f".{uuid.uuid4().hex}"
        base.rename(aside)
        remove(aside)

    def left_in_temporary(self) -> list[str]:
        """What processes that were killed have left on this machine, outside of the base; it is removed."""
        names = sorted(path.name for path in self.temporary.iterdir())
        for path in self.temporary.iterdir():
            remove(path)
        return names

    def left_in_cache(self) -> list[str]:
        """What is half written in the cache of this machine; it is removed."""
        found = [path for path in (self.kept / "depload").rglob("*") if path.name.startswith(_WORK)]
        for path in found:
            remove(path)
        return sorted(path.name for path in found)


def plant(base: Path, outside: Path) -> None:
    """Put what is not depload's into a base."""
    for name, data in FOREIGN.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    outside.mkdir(exist_ok=True)
    (outside / "precious.txt").write_bytes(b"behind a link\n")
    for name in LINKS:
        (base / name).symlink_to(outside)


def findings(base: Path, complete: Iterable[str]) -> Iterator[Finding]:
    """What is wrong with a base in which these run paths were completed, and everything foreign is to stay."""
    must = {os.path.basename(path) for path in complete}  # noqa: PTH119
    for name in sorted({path.name for path in base.iterdir() if runs.is_run_name(path.name)} | must):
        yield from _of_run(base / name, must=name in must)
    yield from foreign_findings(base)


def foreign_findings(base: Path) -> Iterator[Finding]:
    """What is wrong with what is not depload's."""
    for name, data in FOREIGN.items():
        path = base / name
        if not path.is_file() or path.read_bytes() != data:
            yield Finding(LOST, f"{name}, which is not depload's, was changed or removed")
    for link in LINKS:
        if not (base / link / "precious.txt").is_file() or not (base / link).is_symlink():
            yield Finding(LOST, f"{link}, a link that is not depload's, or what it leads to, was changed or removed")


def _of_run(path: Path, *, must: bool) -> Iterator[Finding]:
    try:
        runs.open_run(path)
    except NotAWheelhouseError as error:
        if must:
            yield Finding(LOST, f"a completed run path is gone: {error}")
        return
    except DeploadError as error:
        yield Finding(WRONG, f"a reader of {path} meets {type(error).__name__}: {error}")
        return
    try:
        depload.verify(path)
    except DeploadError as error:
        yield Finding(LOST if must else WRONG, f"a run path that readers accept does not verify: {error}")


def age(base: Path, but: Sequence[Path] = ()) -> None:
    """Have everything below be a month old."""
    for path in [base, *base.rglob("*")]:
        if path not in but and not path.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (time.time() - _OLD,) * 2)


def left_after_prune(base: Path, address: str = "", via: Any = None) -> Iterator[Finding]:
    """What of depload's is there still when everything is old, and was pruned; by its ``address`` if it has one."""
    age(base)
    try:
        prune(address or base, older_than="1d", via=via)
    except DeploadError as error:
        yield Finding(WRONG, f"prune: {error}")
    theirs = {base / name for name in (*FOREIGN, *LINKS)}
    theirs |= {parent for path in theirs for parent in path.parents}
    if here := sorted(str(path.relative_to(base)) for path in base.rglob("*") if path not in theirs):
        yield Finding(LEFT, f"after prune: {', '.join(here[:10])}")
    yield from foreign_findings(base)


def remove(path: Path) -> None:
    """Whatever it is, even while a process that was left alone writes there."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _keep_times(template: Path, copy: Path) -> None:
    """Of directories as well, the deepest first, as copying into one changes its time."""
    for path in sorted(template.rglob("*"), reverse=True):
        if not path.is_symlink():
            about = path.stat()
            os.utime(copy / path.relative_to(template), (about.st_atime, about.st_mtime))
