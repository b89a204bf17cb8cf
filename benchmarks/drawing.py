"""What the results become: RESULTS.md, the chart, and the tables in docs/performance.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks import chart, scaling, tables
from benchmarks.measuring import HERE, ROOT

if TYPE_CHECKING:
    from benchmarks.results import Results

_BLOCK = re.compile(r"(<!-- (?P<name>[a-z]+): drawn by make bench -->\n).*?(\n<!-- end -->)", re.DOTALL)


def draw(results: Results, *, everywhere: bool) -> None:
    """Print the tables; with ``everywhere`` also write what the repository keeps of them."""
    text = tables.page(results)
    print(text)
    if everywhere:
        (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
        (ROOT / "docs" / "speed.svg").write_text(chart.svg(results), encoding="utf-8")
        page = ROOT / "docs" / "performance.md"
        page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")


def filled(text: str, results: Results) -> str:
    """The page with its marked blocks drawn anew."""
    blocks = {"targets": tables.target_rows, "memory": tables.memory_rows, "model": scaling.rows}
    return _BLOCK.sub(lambda found: found[1] + "\n" + "\n".join(blocks[found["name"]](results)) + "\n" + found[3], text)
