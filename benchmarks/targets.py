"""What is to be reached, each as a figure of the results and its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import activating, converting, loading, memory, sets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.results import Results


@dataclass(frozen=True)
class Target:
    """A figure that must not exceed its limit."""

    what: str
    figure: Callable[[Results], float | None]
    limit: float
    unit: str

    def row(self, results: Results) -> tuple[str, str, str, str]:
        """What it is, the figure, the limit, and whether it is met."""
        found = self.figure(results)
        met = "not measured" if found is None else "met" if found <= self.limit else "**not met**"
        return self.what, "" if found is None else self._shown(found), f"≤ {self._shown(self.limit)}", met

    def _shown(self, value: float) -> str:
        shown = {"x": "{:.2f} x", "s": "{:.2f} s", "MB": "{:.2f} MB", "": "{:.0f}"}
        return f"{value * 1000:.0f} ms" if self.unit == "ms" else shown[self.unit].format(value)


def _ratio(key: str, way: str, other: str) -> Callable[[Results], float | None]:
    def figure(results: Results) -> float | None:
        one, two = results.median(key, way), results.median(key, other)
        return one / two if one is not None and two else None

    return figure


def _difference(key: str, way: str, other: str, measure: str = "seconds") -> Callable[[Results], float | None]:
    def figure(results: Results) -> float | None:
        one, two = results.median(key, way, measure), results.median(key, other, measure)
        return one - two if one is not None and two is not None else None

    return figure


def _value(key: str, way: str, measure: str = "seconds") -> Callable[[Results], float | None]:
    return lambda results: results.median(key, way, measure)


def _requests_when_warm(key: str) -> Callable[[Results], float | None]:
    def figure(results: Results) -> float | None:
        series = results.ways(key).get(converting.DEPLOAD_PYC)
        counts = [sample["requests"] for sample in series.samples] if series else []
        return counts[1] if len(counts) > 1 and counts[0] else None  # without requests when cold it shows nothing

    return figure


def _grows(phase: str) -> Callable[[Results], float | None]:
    def figure(results: Results) -> float | None:
        small, large = (results.median(f"memory/{size} MB", phase, memory.PHASES[phase]) for size in memory.SIZES)
        return large / small if small and large is not None else None

    return figure


_CONVERT = (
    ("cold without .pyc / pip wheel", "cold", converting.DEPLOAD, converting.PIP_WHEEL, 0.8, _ratio, "x"),
    ("cold with .pyc / uv venv + venv-pack, which has none", "cold", converting.DEPLOAD_PYC, converting.VENV_PACK, 0.8,
     _ratio, "x"),
    ("warm, the command, less the copy", "warm", converting.DEPLOAD_PYC, converting.COPY, 0.3, _difference, "s"),
    ("warm in a running process, less the copy", "warm", converting.IN_PROCESS, converting.COPY, 0.3, _difference, "s"),
)  # fmt: skip
_LOAD = (
    ("cold through Spark's files / .tar.gz by addArchive", loading.SENT, loading.TARGZ, 0.4),
    ("cold through Spark's files / uv on each executor", loading.SENT, loading.UV, 0.8),
    ("cold from the store / .tar.gz by addArchive", loading.SEEN, loading.TARGZ, 0.2),
    ("cold from the store / uv on each executor", loading.SEEN, loading.UV, 0.5),
    ("warm / installed already", loading.WARM, loading.FLOOR, 1.2),
)


def every() -> Iterator[Target]:
    """In the order of the parts."""
    for name in sets.EVERY:
        yield from _of_convert(name)
    for name in sets.EVERY:
        for case in loading.CASES:
            yield from _of_load(name, case)
    for name in sets.EVERY:
        cold, warm = f"activate/{name}/cold", f"activate/{name}/warm"
        against = _ratio(cold, activating.ACTIVATE, activating.UV_TARGET)
        yield Target(f"{name}: driver activation cold / uv pip install --target", against, 1.0, "x")
        yield Target(f"{name}: driver activation warm", _value(warm, activating.ACTIVATE), 0.05, "ms")
    for phase in memory.PHASES:
        yield Target(f"peak memory, wheel of 2 GB / of 100 MB: {phase}", _grows(phase), 1.2, "x")


def _of_convert(name: str) -> Iterator[Target]:
    for what, case, way, other, limit, figure, unit in _CONVERT:
        yield Target(f"{name}: convert {what}", figure(f"convert/{name}/{case}", way, other), limit, unit)
    asked = _requests_when_warm(f"convert/{name}/requests")
    yield Target(f"{name}: requests to the index by a warm convert", asked, 0, "")


def _of_load(name: str, case: str) -> Iterator[Target]:
    key = f"load/{name}/{case}"
    for what, way, other, limit in _LOAD:
        yield Target(f"{name}, {case}: load {what}", _ratio(key, way, other), limit, "x")
    shipped = _difference(key, loading.WARM, loading.FLOOR, "sent_mb")
    yield Target(f"{name}, {case}: MB sent to nodes that have it, more than by a job", shipped, 1.0, "MB")
