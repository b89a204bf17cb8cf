"""Take every example through the whole job, as the tasks of a job would: each load in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from depload.errors import DeploadError, SourceError
from depload.pipeline import convert
from depload.published.removal import cleanup
from depload.reporting.report import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Example:
    """What became of one example."""

    name: str
    format: str = ""
    wheels: int = 0
    convert_seconds: float = 0.0
    load_seconds: float = 0.0
    workers: int = 0
    proven: str = ""
    """What every worker process imported."""
    cleaned_up: bool = False
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """As ``depload demo --json`` prints it."""
        return asdict(self)


def demonstrate(artifacts: Path, master: str, say: Callable[[str], None]) -> list[Example]:
    """Convert, load on ``master`` and clean up each zip of ``artifacts``. Raises SourceError where there is none."""
    sources = sorted(artifacts.glob("*.zip"))
    if not sources:
        raise SourceError(f"{artifacts} holds no example zips; run this in depload's repository, or give --artifacts")
    with tempfile.TemporaryDirectory(prefix="depload-demo-") as base:
        rows = []
        for source in sources:
            say(f"{source.name}: detect, convert, load on {master}, clean up ...")
            rows.append(_example(source, base, master))
    return rows


def _example(source: Path, base: str, master: str) -> Example:
    try:
        converted = convert(source, base)
        started = time.perf_counter()
        report = _load(converted.path, master)
        seconds = round(time.perf_counter() - started, 2)
        cleaned = cleanup(converted.path)
    except DeploadError as error:
        return Example(source.name, error=str(error))
    return Example(
        name=source.name,
        format=converted.format,
        wheels=len(converted.wheels),
        convert_seconds=round(converted.seconds["total"], 2),
        load_seconds=seconds,
        workers=len(report["workers"]),
        proven=_proven(report),
        cleaned_up=cleaned.removed,
    )


def _load(path: str, master: str) -> dict[str, Any]:
    """Load in a process of its own, as another task would."""
    command = [sys.executable, "-m", "depload", "load", path, "--master", master, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeploadError(done.stderr.strip()[-2000:])
    loaded = json.loads(done.stdout)
    if not isinstance(loaded, dict):
        raise DeploadError(f"depload load printed {done.stdout[:200]!r}")
    return loaded


def _proven(report: Mapping[str, Any]) -> str:
    """What all workers have alike; ``load`` would have failed otherwise."""
    first = report["workers"][0]["imported"]
    return ", ".join(f"{name} {module['version']}" for name, module in first.items())


def summary(rows: Sequence[Example]) -> str:
    """The table that a newcomer reads."""
    head = ("example", "format", "wheels", "convert s", "load s*", "workers", "imported on every worker", "cleaned up")
    lines = [head]
    for row in rows:
        if row.error:
            lines.append((row.name, "FAILED", "", "", "", "", row.error.splitlines()[0], ""))
        else:
            seconds = f"{row.convert_seconds:.2f}", f"{row.load_seconds:.2f}"
            cleaned = "yes" if row.cleaned_up else "NO"
            lines.append((row.name, row.format, str(row.wheels), *seconds, str(row.workers), row.proven, cleaned))
    good = sum(not row.error for row in rows)
    told = f"* starting Spark and its executors included\n{good} of {len(rows)} examples loaded and proven"
    return f"{table(lines)}\n\n{told}"
