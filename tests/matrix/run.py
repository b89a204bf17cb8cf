"""Run the matrix: every session kind, topology, PySpark, Python and isolation, each cell in a process of its own.

python tests/matrix/run.py [--only PATTERN] [--fast] [--json FILE] [--junit FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)

from matrix import outcomes, plan
from matrix.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matrix.outcomes import Outcome

ROOT = Path(__file__).parent.parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where any cell failed."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was told to stop"))  # so that clusters are stopped as well
    every = plan.cells()
    chosen = [cell for cell in every if re.search(asked.only, cell.name) and (plan.is_fast(cell) or not asked.fast)]
    if not chosen:
        sys.exit(f"no cell matches {asked.only!r}; they are named like {every[0].name}")
    found: list[Outcome] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="depload-matrix-") as scratch:
        bench = Bench(Path(scratch), asked.wheel.resolve(), asked.runtimes.resolve(), _say)
        for _, group in itertools.groupby(chosen, key=lambda cell: cell.bench):
            for outcome in bench.outcomes(list(group)):
                found.append(outcome)
                at = f"{len(found)}/{len(chosen)}, {time.monotonic() - started:.0f} s"
                why = f"\n{outcome.told}" if outcome.result == "FAILED" else ""
                _say(f"[{at}] {outcome.cell.name}: {outcome.result}{why}")
    print(outcomes.table(found))
    if asked.json:
        asked.json.write_text(json.dumps(outcomes.to_json(found), indent=1), encoding="utf-8")
    if asked.junit:
        asked.junit.write_bytes(outcomes.junit(found))
    if len(chosen) == len(every):
        (ROOT / "docs" / "matrix.md").write_text(outcomes.page(found), encoding="utf-8")
    return int(any(outcome.result == "FAILED" for outcome in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prove depload on every kind of session.")
    parser.add_argument("--only", default="", metavar="PATTERN", help="cells whose name matches, a regular expression")
    parser.add_argument("--fast", action="store_true", help="the part that shows most in a few minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every answer there")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit's XML there")
    built = max(Path(sys.prefix, "wheel").glob("*.whl"), default=None)
    parser.add_argument("--wheel", type=Path, default=built, required=not built, help="depload's; default: make's")
    lists = ROOT.parent / "shared" / "reference" / "runtimes"
    parser.add_argument("--runtimes", type=Path, default=lists, metavar="DIR", help="the runtimes' lists of packages")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
