"""The results as tables of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import activating, converting, loading, memory, scaling, sets, starting, targets
from benchmarks.results import median

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.measuring import Series
    from benchmarks.results import Results

_AGAINST = {
    "convert": (converting.PIP_WHEEL, converting.VENV_PACK),
    "load": (loading.FLOOR, loading.UV, loading.TARGZ),
    "activate": (activating.UV_TARGET,),
}
"""What each part's ways are divided by."""
_MORE = {"megabytes": "peak MB", "sent_mb": "MB sent", "requests": "requests"}
_EXPLAINED = {
    converting.PART: converting.EXPLAINED,
    loading.PART: loading.EXPLAINED,
    activating.PART: activating.EXPLAINED,
    starting.PART: starting.EXPLAINED,
}


_TITLES = {
    converting.PART: "Convert",
    loading.PART: "Load",
    activating.PART: "Activate one process",
    starting.PART: "Start",
}


def page(results: Results) -> str:
    """RESULTS.md."""
    lines = ["# Results", "", *_measured(results), "", "## Targets", "", *target_rows(results)]
    for part, title in _TITLES.items():
        lines += ["", f"## {title}", _EXPLAINED[part].rstrip()]
        for key in results.keys(part):
            lines += ["", *_plan(results, part, key)]
    lines += ["", "## Memory", memory.EXPLAINED.rstrip(), "", *memory_rows(results)]
    lines += ["", "## Scale", scaling.EXPLAINED.rstrip(), "", *scaling.rows(results)]
    return "\n".join(lines) + "\n"


def _measured(results: Results) -> list[str]:
    seen = dict.fromkeys(results.about(key)["machine"] for key in results.keys(""))
    when = sorted(results.about(key)["when"] for key in results.keys(""))
    if not when:
        return ["Nothing was measured."]
    span = when[0] if when[0] == when[-1] else f"{when[0]} to {when[-1]}"
    minutes = sum(results.about(key)["took"] for key in results.keys("")) / 60
    told = (
        f"Drawn from results.json by `make bench`, measured {span} UTC in {minutes:.0f} minutes on {'; '.join(seen)}. "
        "The rows of one table took turns; seconds are medians. Ratios within a table count, seconds across them less."
    )
    return [
        told,
        "",
        *(f"- {each.name}: {each.what} (`{' '.join(each.requirements)}`)" for each in sets.EVERY.values()),
    ]


def target_rows(results: Results) -> list[str]:
    """Each with its limit and the figure of every set."""
    rows = (
        [target.what, target.told(), *(target.cell(results, name) for name in sets.EVERY)] for target in targets.EVERY
    )
    return _table(("what", "target", *sets.EVERY), rows)


def _plan(results: Results, part: str, key: str) -> list[str]:
    _, _, rest = key.partition("/")
    title = [f"### {rest.replace('/', ', ')}", ""] if rest else []
    return [*title, *table(results.ways(key), _AGAINST.get(part, ()))]


def table(ways: dict[str, Series], against: Sequence[str] = ()) -> list[str]:
    """Median, range, runs and ratios of each way."""
    present = [name for name in against if median(ways[name])] if set(against) <= set(ways) else []
    more = [name for name in _MORE if any(name in sample for each in ways.values() for sample in each.samples)]
    ratios, others = [f"x {name}" for name in present], [_MORE[name] for name in more]
    heads = ("way", "median s", "min to max", "runs", *ratios, *others)
    return _table(heads, (_row(name, ways, present, more) for name in ways))


def _row(name: str, ways: dict[str, Series], against: Sequence[str], more: Sequence[str]) -> Sequence[str]:
    series = ways[name]
    middle = median(series)
    if middle is None:
        return name, "failed", _why(series), *[""] * (1 + len(against) + len(more))
    seconds = [sample["seconds"] for sample in series.samples]
    span = f"{_seconds(min(seconds))} to {_seconds(max(seconds))}"
    ratios = [f"{middle / (median(ways[other]) or middle):.2f}" for other in against]
    return name, _seconds(middle), span, str(len(seconds)), *ratios, *(_measure(series, each) for each in more)


def _measure(series: Series, measure: str) -> str:
    if measure == "requests":  # the second time is what it is about
        return ", then ".join(f"{sample[measure]:.0f}" for sample in series.samples)
    found = median(series, measure)
    return "" if found is None else f"{found:.1f}"


def _why(series: Series) -> str:
    return series.error.replace("|", "/")


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def memory_rows(results: Results) -> list[str]:
    """Peaks by phase and size of the wheel."""
    rows = (
        [
            phase,
            *(_peak(results.ways(f"memory/{size} MB").get(phase), measure) for size in memory.SIZES),
            targets.GROWTH.cell(results, phase),
        ]
        for phase, measure in memory.PHASES.items()
    )
    heads = ("peak MB of", *(f"wheel of {size} MB" for size in memory.SIZES), f"ratio, target {targets.GROWTH.told()}")
    return _table(heads, rows)


def _peak(series: Series | None, measure: str) -> str:
    if series is None:
        return ""
    found = median(series, measure)
    return f"{found:.0f}" if found is not None else f"failed: {_why(series)}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
