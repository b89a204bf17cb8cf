"""Attack every reader of what others wrote: by hand, with what was found before, by hypothesis, by atheris.

python tests/attack/run.py [--seconds N] [--only TARGET] [--way WAY] [--json]

It prints a table. A crash is an error that is no refusal. An escape is a file written or read, or a host asked, outside
of the input's own directory, or time or memory beyond the bound. Each new one goes into the corpus, with its traceback
beside it. Exit code 1 where there is any.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)

from attack import cases, guard, scenes, ways
from attack.ways import ATHERIS, HANDMADE, HYPOTHESIS, KEPT, Counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVERY = (*cases.CASES, *scenes.SCENES)
_FUZZED = (HYPOTHESIS, ATHERIS)
_HEAD = ("attacked", "how", "inputs", "crashes", "escapes", "slowest ms", "memory MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where anything was found."""
    asked = _parser().parse_args(arguments)
    rows = []
    for target, way in _plan(asked.only, asked.way, asked.seconds):
        _say(f"{target}: {way} ...")
        rows.append((target, way, _taken(way, target, asked.seconds)))
    if asked.json:
        sys.stdout.write(
            json.dumps([{"attacked": target, "how": way, **asdict(it)} for target, way, it in rows]) + "\n"
        )
    else:
        sys.stdout.write(_table(rows))
    return int(any(counted.crashes or counted.escapes for _, _, counted in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=30, help="for each target and way of fuzzing; 0 leaves it out")
    parser.add_argument("--only", choices=EVERY, help="one target")
    parser.add_argument("--way", choices=(HANDMADE, KEPT, HYPOTHESIS, ATHERIS), help="one way")
    parser.add_argument("--json", action="store_true", help="the rows as JSON, with every finding")
    return parser


def _plan(only: str | None, way: str | None, seconds: float) -> Iterator[tuple[str, str]]:
    chosen = [each for each in (HANDMADE, KEPT, HYPOTHESIS, ATHERIS) if way in (None, each)]
    if ATHERIS in chosen and seconds and importlib.util.find_spec("atheris") is None:
        chosen.remove(ATHERIS)
        _say("atheris is not here, so nothing is guided by coverage; pip install atheris (CPython 3.11 to 3.13, Linux)")
    for target in EVERY:
        if only in (None, target):
            for each in chosen:
                if each == HANDMADE or (target in cases.CASES and (each == KEPT or seconds)):
                    yield target, each


def _taken(way: str, target: str, seconds: float) -> Counted:
    """One way to one target, in a process of its own: one that dies is a crash as well."""
    patience = 900 if way not in _FUZZED else seconds + 120
    with tempfile.TemporaryDirectory(prefix="depload-attack-") as scratch:
        report = Path(scratch, "report.json")
        command = [sys.executable, ways.__file__, way, target, str(seconds), str(report)]
        environment = {**os.environ, "TMPDIR": scratch, "PYTHONHASHSEED": "0"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=patience, check=False)
            code, said = done.returncode, _end(done.stderr.decode(errors="replace"))
        except subprocess.TimeoutExpired:
            code, said = -1, f"not done after {patience:g} s"
        counted = Counted(**json.loads(report.read_text())) if report.exists() else Counted()
        if code:
            crashed = [
                file for file in Path(scratch).glob("*-*") if file.name.startswith(("crash-", "oom-", "timeout-"))
            ]
            for file in crashed:
                ways.keep(target, file.read_bytes(), said)
            counted.add("the process", guard.Tried(0.0, crash=f"it ended with {code}:\n{said}"))
    return counted


def _end(said: str) -> str:
    """The last that was said, of each line the start: one of hypothesis has a whole strategy in it."""
    return "\n".join(line[:300] for line in said.splitlines())[-4000:]


def _table(rows: Sequence[tuple[str, str, Counted]]) -> str:
    cells = [_HEAD, *(_cells(*row) for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(_HEAD))]
    lines = ["  ".join(_padded(text, at, widths[at]) for at, text in enumerate(row)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    for target, way, counted in rows:
        lines += [f"\n{target}, {way}, {label}:\n{finding}" for label, finding in counted.findings]
    return "\n".join(lines) + "\n"


def _cells(target: str, way: str, it: Counted) -> tuple[str, ...]:
    counts = (f"{number:,}" for number in (it.inputs, it.crashes, it.escapes, round(it.seconds * 1000), it.memory))
    return (target, way, *counts)


def _padded(text: str, at: int, width: int) -> str:
    return text.ljust(width) if at < 2 else text.rjust(width)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
