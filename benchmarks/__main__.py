"""Measure depload side by side with other ways, and write results.json, RESULTS.md, the chart and the page on speed.

    python -m benchmarks [--only PART] [--set NAME] [--runs N] [--missing] [--draw] [--results FILE]

Every plan is written to results.json when it is complete, so a run that was interrupted goes on with ``--missing``; a
way that fails has a row that says so. ``--draw`` measures nothing.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import activating, converting, drawing, loading, memory, scaling, sets, starting
from benchmarks.measuring import HERE, Ground, UnmeasuredError, peers, say
from benchmarks.results import Plan, Results

PARTS = {part.PART: part for part in (starting, activating, converting, loading, scaling, memory)}


def main() -> None:
    asked = _parser().parse_args()
    # Sixteen executors have many files open.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results = Results(asked.results)
    failed = [] if asked.draw else _measure(_plans(asked), asked, results)
    drawing.draw(results, everywhere=asked.results == _parser().get_default("results"))
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def _plans(asked: argparse.Namespace) -> list[Plan]:
    wanted = [sets.EVERY[name] for name in asked.set or sets.EVERY]
    return [plan for name in asked.only or PARTS for plan in PARTS[name].plans(wanted)]


def _measure(plans: list[Plan], asked: argparse.Namespace, results: Results) -> list[str]:
    """Returns the plans that came to nothing; what was measured of them before stays."""
    failed: list[str] = []
    peers()
    started = time.monotonic()
    with Ground() as ground:
        for plan in plans:
            if asked.missing and plan.key in results:
                continue
            say(f"{plan.key} ... ({(time.monotonic() - started) / 60:.0f} min so far)")
            since = time.monotonic()
            try:
                found = plan.measure(asked.runs, ground)
            except (UnmeasuredError, OSError, subprocess.SubprocessError) as error:
                failed.append(plan.key)
                say(f"  what it starts from could not be made: {error}")
            else:
                results.put(plan, asked.runs, found, time.monotonic() - since)
    say(f"measured in {(time.monotonic() - started) / 60:.1f} min")
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    parser.add_argument("--set", action="append", choices=list(sets.EVERY), help="this set; may be repeated")
    parser.add_argument("--runs", type=int, default=5, help="of each way, but for slow ones; default: 5")
    parser.add_argument("--missing", action="store_true", help="only what the results do not have yet")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw what was measured")
    parser.add_argument(
        "--results", type=Path, default=HERE / "results.json", help="another file; then the tables are only printed"
    )
    return parser


main()
