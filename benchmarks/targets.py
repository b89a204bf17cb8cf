"""What is to be reached: each a figure of the results, by set, and its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import activating, converting, loading, memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.results import Results

    Figure = Callable[[Results, str], float | None]
    """Of the results of a set; None where it was not measured."""

_SHOWN: dict[str, Callable[[float], str]] = {
    "x": lambda value: f"{value:.2f} x",
    "s": lambda value: f"{value:.2f} s",
    "ms": lambda value: f"{value * 1000:.0f} ms",
    "MB": lambda value: f"{value:.1f} MB",
    "": lambda value: f"{value:.0f}",
}


@dataclass(frozen=True)
class Target:
    """A figure that must not exceed its limit; one without a limit stands there to be compared with."""

    what: str
    figure: Figure
    limit: float | None
    unit: str = "x"

    def told(self) -> str:
        """The limit."""
        return "" if self.limit is None else f"≤ {_SHOWN[self.unit](self.limit)}"

    def cell(self, results: Results, name: str) -> str:
        """The figure of a set, and that it is not met where it is not."""
        found = self.figure(results, name)
        if found is None:
            return ""
        said = _SHOWN[self.unit](found)
        return said if self.limit is None or found <= self.limit else f"**{said}, not met**"


def _ratio(key: str, way: str, other: str) -> Figure:
    def figure(results: Results, name: str) -> float | None:
        one, two = (results.median(key.format(name), each) for each in (way, other))
        return one / two if one is not None and two else None

    return figure


def _difference(key: str, way: str, other: str, measure: str = "seconds") -> Figure:
    def figure(results: Results, name: str) -> float | None:
        one, two = (results.median(key.format(name), each, measure) for each in (way, other))
        return one - two if one is not None and two is not None else None

    return figure


def _requests_when_warm(results: Results, name: str) -> float | None:
    series = results.ways(f"convert/{name}/requests").get(converting.DEPLOAD_PYC)
    counts = [sample["requests"] for sample in series.samples] if series else []
    return counts[1] if len(counts) > 1 and counts[0] else None  # without requests when cold it shows nothing


_COLD, _WARM = "convert/{}/cold", "convert/{}/warm"
_CONVERT = (
    Target(
        "convert cold, no .pyc / pip wheel",
        _ratio(_COLD, converting.DEPLOAD, converting.PIP_WHEEL),
        0.8,
    ),
    Target(
        "convert cold, with .pyc / uv venv + venv-pack with .pyc",
        _ratio(_COLD, converting.DEPLOAD_PYC, converting.VENV_PACK_PYC),
        0.8,
    ),
    Target(
        "convert cold, with .pyc / uv venv + venv-pack without",
        _ratio(_COLD, converting.DEPLOAD_PYC, converting.VENV_PACK),
        0.8,
    ),
    Target(
        "convert warm, less the copy: the command",
        _difference(_WARM, converting.DEPLOAD_PYC, converting.COPY),
        0.3,
        "s",
    ),
    Target(
        "convert warm, less the copy: in a running process",
        _difference(_WARM, converting.IN_PROCESS, converting.COPY),
        0.3,
        "s",
    ),
    Target("requests to the index by a warm convert", _requests_when_warm, 0, ""),
)


def _load(case: str) -> tuple[Target, ...]:
    key = f"load/{{}}/{case}"
    ratios = (
        ("cold, through Spark's files / .tar.gz by addArchive", loading.SENT, loading.TARGZ, 0.4),
        ("the same, driver=False", loading.SENT_WORKERS, loading.TARGZ, 0.4),
        ("cold, through Spark's files / uv on each executor", loading.SENT, loading.UV, 0.8),
        ("the same, driver=False", loading.SENT_WORKERS, loading.UV, 0.8),
        ("cold, store seen / .tar.gz by addArchive", loading.SEEN, loading.TARGZ, 0.2),
        ("the same, driver=False", loading.SEEN_WORKERS, loading.TARGZ, 0.2),
        ("cold, store seen / uv on each executor", loading.SEEN, loading.UV, 0.5),
        ("the same, driver=False", loading.SEEN_WORKERS, loading.UV, 0.5),
        ("nothing sent, installed already / .tar.gz by addArchive", loading.FLOOR, loading.TARGZ, None),
        ("nothing sent, installed already / uv on each executor", loading.FLOOR, loading.UV, None),
        ("warm / installed already", loading.WARM, loading.FLOOR, 1.2),
    )
    shipped = _difference(key, loading.WARM, loading.FLOOR, "sent_mb")
    return (
        *(Target(f"load, {case}, {what}", _ratio(key, way, other), limit) for what, way, other, limit in ratios),
        Target(f"load, {case}, warm: sent, more than by a job that has all", shipped, 1.0, "MB"),
    )


_ACTIVATE = (
    Target(
        "driver activation cold / uv pip install --target",
        _ratio("activate/{}/cold", activating.ACTIVATE, activating.UV_TARGET),
        1.0,
    ),
    Target(
        "driver activation cold, neither with .pyc",
        _ratio("activate/{}/cold", activating.ACTIVATE_NO_PYC, activating.UV_TARGET),
        1.0,
    ),
    Target(
        "driver activation warm",
        lambda results, name: results.median(f"activate/{name}/warm", activating.ACTIVATE),
        0.05,
        "ms",
    ),
)

EVERY = (*_CONVERT, *(target for case in loading.CASES for target in _load(case)), *_ACTIVATE)


def _growth(results: Results, phase: str) -> float | None:
    small, large = (results.median(f"memory/{size} MB", phase, memory.PHASES[phase]) for size in memory.SIZES)
    return large / small if small and large is not None else None


GROWTH = Target("peak memory with the large wheel / with the small one", _growth, 1.2)
"""By phase in the place of the set."""
