"""What was measured, kept as JSON: results.json, from which everything else is drawn."""

from __future__ import annotations

import ctypes
import datetime as dt
import functools
import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import measuring
from benchmarks.measuring import Series
from depload._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from benchmarks.measuring import Ground
    from benchmarks.sets import Set

    Measure = Callable[[Set, int, Ground], dict[str, Series]]


@dataclass(frozen=True)
class Plan:
    """What is measured in one go, in turns; its ratios count, never those across two plans."""

    part: str
    set: str
    case: str
    measure: Callable[[int, Ground], dict[str, Series]]

    @property
    def key(self) -> str:
        """Names it in results.json."""
        return "/".join(filter(None, (self.part, self.set, self.case)))


def of_each(sets: list[Set], part: str, cases: Mapping[str, Measure]) -> list[Plan]:
    """The plans of a part that measures every set in the same cases."""
    return [
        Plan(part, each.name, case, functools.partial(measure, each))
        for each in sets
        for case, measure in cases.items()
    ]


class Results:
    """Series by plan and way; a plan is written when it is complete."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def put(self, plan: Plan, runs: int, found: dict[str, Series], seconds: float) -> None:
        """Keep what a plan came to, in the place of what it came to before; ``seconds`` is what it took in all."""
        when = f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M}"
        about = {"when": when, "took": round(seconds), "runs": runs, "machine": machine()}
        self._data[plan.key] = {**about, "ways": {name: asdict(series) for name, series in found.items()}}
        self.file.write_text(json.dumps(dict(sorted(self._data.items())), indent=1) + "\n", encoding="utf-8")

    def about(self, key: str) -> dict[str, Any]:
        """``when``, ``took``, ``runs`` and ``machine`` of a plan."""
        return {name: each for name, each in self._data[key].items() if name != "ways"}

    def ways(self, key: str) -> dict[str, Series]:
        """By name, in the order in which they took turns."""
        return {name: Series(**each) for name, each in self._data.get(key, {"ways": {}})["ways"].items()}

    def keys(self, part: str) -> list[str]:
        """Of the plans of a part; of all where it is empty."""
        return [key for key in self._data if part in ("", key.partition("/")[0])]

    def median(self, key: str, way: str, measure: str = "seconds") -> float | None:
        """None where it was not measured."""
        series = self.ways(key).get(way)
        return median(series, measure) if series else None


def median(series: Series, measure: str = "seconds") -> float | None:
    values = [sample[measure] for sample in series.samples if measure in sample]
    return statistics.median(values) if values else None


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    tools = ", ".join(f"{name} {version}" for name, version in sorted(measuring.versions().items()))
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}, "
        f"{_libdeflate()}, depload {__version__}, {tools}"
    )


def _libdeflate() -> str:
    """Whether this machine has what depload inflates by where it can."""
    try:
        ctypes.CDLL("libdeflate.so.0")
    except OSError:
        return "no libdeflate"
    return "libdeflate"
