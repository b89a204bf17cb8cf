"""The results as a picture: bars by way, a row for each part and a column for each set."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from benchmarks import converting, loading, sets
from benchmarks.results import median

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Results

_ROWS = (
    (
        "convert, cold",
        "convert/{}/cold",
        {
            converting.DEPLOAD: "depload, no .pyc",
            converting.DEPLOAD_PYC: "depload, with .pyc",
            converting.PIP_WHEEL: "pip wheel",
            converting.UV_TARGET: "uv install + tar.gz",
            converting.UV_TARGET_PYC: "uv install, .pyc + tar.gz",
            converting.VENV_PACK: "uv venv + venv-pack",
            converting.PEX: "pex",
            converting.CLUSTER_PACK: "cluster-pack",
        },
    ),
    (
        "load on 2 executors, cold",
        "load/{}/2 executors",
        {
            loading.SEEN: "depload, store seen",
            loading.SENT: "depload, through Spark",
            loading.UV: "uv install on each",
            loading.TARGZ: ".tar.gz, addArchive",
            loading.STORED: ".zip with .pyc, addArchive",
            loading.VENV: "venv-pack, addArchive",
            loading.PEX: "pex, addFile",
        },
    ),
    (
        "load where the node has it",
        "load/{}/2 executors",
        {loading.WARM: "depload", loading.FLOOR: "installed already"},
    ),
)
_WIDTH, _LABELS, _BAR, _GAP, _HEAD = 1000, 190, 15, 7, 34
_OWN, _OTHERS, _INK, _PALE = "#5b8def", "#c3c9d1", "#1b1f24", "#57606a"  # those of flow.svg
_FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"


def svg(results: Results) -> str:
    """With a ground of its own, so that it reads the same on a light and on a dark page."""
    lines: list[str] = []
    top = 44.0
    for title, key, labels in _ROWS:
        lines += _row(results, title, key, labels, top)
        top += _HEAD + len(labels) * (_BAR + _GAP) + 14
    column = (_WIDTH - _LABELS) / len(sets.EVERY)
    heads = [
        _text(_LABELS + number * column, 26, f"{each.name}: {each.title}", size=12.5, bold=True)
        for number, each in enumerate(sets.EVERY.values())
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top:.0f}" font-family="{_FONT}">',
            "<title>Seconds to convert and to load, depload beside other ways</title>",
            f'<rect width="{_WIDTH}" height="{top:.0f}" fill="#ffffff"/>',
            *heads,
            *lines,
            "</svg>\n",
        ]
    )


def _row(results: Results, title: str, key: str, labels: dict[str, str], top: float) -> Iterator[str]:
    yield f'<line x1="20" y1="{top:.0f}" x2="{_WIDTH - 20}" y2="{top:.0f}" stroke="#d0d7de"/>'
    yield _text(20, top + 22, f"{title}, seconds", size=13, bold=True)
    top += _HEAD
    for number, label in enumerate(labels.values()):
        yield _text(_LABELS - 10, top + number * (_BAR + _GAP) + _BAR - 3, label, size=12, anchor="end")
    column = (_WIDTH - _LABELS) / len(sets.EVERY)
    for at, name in enumerate(sets.EVERY):
        ways = results.ways(key.format(name))
        values = {way: median(ways[way]) if way in ways else None for way in labels}
        yield from _bars(values, _LABELS + at * column, top, column - 70)


def _bars(values: dict[str, float | None], left: float, top: float, room: float) -> Iterator[str]:
    longest = max((value for value in values.values() if value), default=1.0)
    for number, (way, value) in enumerate(values.items()):
        y = top + number * (_BAR + _GAP)
        width = room * (value or 0) / longest
        fill = _OWN if way.startswith("depload") else _OTHERS
        if value:
            yield f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{fill}"/>'
        said = "" if value is None else f"{value:.1f}"
        yield _text(left + width + 6, y + _BAR - 3, said, size=12, bold=way.startswith("depload"))


def _text(x: float, y: float, text: str, *, size: float, bold: bool = False, anchor: str = "start") -> str:
    weight = ' font-weight="600"' if bold else ""
    fill = _INK if bold else _PALE
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}"{weight}>{escape(text)}</text>'
