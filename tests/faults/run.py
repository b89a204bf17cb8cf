"""Kill, cut off, fill up and crowd: what is lost, what is wrong, what is left.

python tests/faults/run.py [--only NAME] [--points N] [--seed S] [--point POINT] [--json] [--page]

It prints a table; exit code 1 where anything was lost, wrong or left. What became of a row at all of its points is kept
in build/faults; where every row is there, docs/faults.md is written from them, by a run of all rows or by --page.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)

from faults import (
    clocks,
    clusters,
    crowds,
    disks,
    ground,
    indexes,
    kills,
    outcomes,
    page,
    rows,
    services,
    tools,
    unreliable,
)
from faults.outcomes import WRONG, Finding, Outcome
from faults.processes import forked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faults.rows import Row

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / "build" / "faults"
EVERY: tuple[Row, ...] = (
    *kills.ROWS,
    *tools.ROWS,
    *clusters.ROWS,
    *disks.ROWS,
    *unreliable.ROWS,
    *services.ROWS,
    *indexes.ROWS,
    *clocks.ROWS,
    *crowds.ROWS,
)
_ALL = 1_000_000
_PATIENCE = 1800.0  # seconds that a row may take


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where any row has anything but zeros."""
    asked = _parser().parse_args(arguments)
    if asked.page:
        return _page()
    chosen = [row for row in EVERY if re.search(asked.only, row.name)]
    if not chosen:
        sys.exit(f"no row matches {asked.only!r}; they are {', '.join(row.name for row in EVERY)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("it was told to stop"))
    whole = asked.points == _ALL and not asked.point
    found = [_outcome(row, asked, whole=whole) for row in chosen]
    if asked.json:
        sys.stdout.write(f"{json.dumps([each.to_json() for each in found], indent=1)}\n")
    else:
        sys.stdout.write(f"{outcomes.table(found)}\n")
    if chosen == list(EVERY) and whole:
        _page()
    return int(any(outcome.findings for outcome in found))


def _page() -> int:
    """Write docs/faults.md from what was kept of each row; exit code 1 where one is missing."""
    kept = [KEPT / f"{row.name}.json" for row in EVERY]
    if missing := [path.stem for path in kept if not path.is_file()]:
        sys.stderr.write(f"not run at all of their points yet: {', '.join(missing)}\n")
        return 1
    found = [Outcome.from_json(json.loads(path.read_text(encoding="utf-8"))) for path in kept]
    (ROOT / "docs" / "faults.md").write_text(page.of(found), encoding="utf-8")
    return 0


def _outcome(row: Row, asked: argparse.Namespace, *, whole: bool) -> Outcome:
    """A row in a process of its own: what it leaves in memory and in threads goes with it."""
    _say(f"{row.name}: {row.what} ...")
    started, date, commit = time.monotonic(), dt.datetime.now(dt.timezone.utc).date().isoformat(), _commit()
    scratch = Path(tempfile.mkdtemp(prefix="depload-faults-"))
    try:
        ended = forked(
            lambda: rows.run(row, scratch, asked.seed, asked.points, asked.point, _say), patience=_PATIENCE, quiet=False
        )
    finally:
        ground.remove(scratch)
    if isinstance(ended.answer, Outcome):
        outcome = ended.answer
    else:
        told = ended.error or ended.fault or "it was killed"
        outcome = Outcome(row.name, row.what, asked.seed, findings=[(asked.point, Finding(WRONG, told))])
    outcome.seconds, outcome.date, outcome.commit = time.monotonic() - started, date, commit
    outcome.where = f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.system()}"
    if whole and outcome.times:  # else it has not come to its end, and what was kept before says more
        KEPT.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{row.name}.json").write_text(json.dumps(outcome.to_json(), indent=1), encoding="utf-8")
    counts = ", ".join(f"{kind} {outcome.count(kind)}" for kind in (outcomes.LOST, WRONG, outcomes.LEFT))
    _say(f"{row.name}: {outcome.times} times in {outcome.seconds:.0f} s, {counts}")
    return outcome


def _commit() -> str:
    """What is checked out, and whether it was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "tests/faults")
    return (git("rev-parse", "--short", "HEAD") or "no commit") + (", changed" if changed else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", metavar="NAME", help="rows whose name matches, a regular expression")
    parser.add_argument("--points", type=int, default=_ALL, metavar="N", help="at most so many points of each row")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="what is left to chance; default: 1")
    parser.add_argument("--point", default="", help="this point alone, as a finding names it")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, with every finding")
    parser.add_argument("--page", action="store_true", help="run nothing; write docs/faults.md from what was kept")
    return parser


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
