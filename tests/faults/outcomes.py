"""What became of a row, and how it is shown: a table for people, Markdown and JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LOST, WRONG, LEFT = "lost", "wrong", "left"
HEAD = ("row", "what", "times", "lost", "wrong", "left", "s")
_LONG = 2  # columns of words; the others are numbers
_SHOWN = 5  # findings of a row that are told in full
_PAGE = """\
# Faults

`make faults` does to depload what goes wrong on a cluster, and writes this page. `make faults FAULTS='--only
kill-convert'` runs one row and leaves the page as it is; a small part of all is in `make test`. Every process that is
killed gets SIGKILL, files are files, servers are servers of this machine; nothing of depload is replaced. It took
{minutes} minutes with seed {seed}.

After each time: every run path that readers accept verifies, a second try succeeds, files that are not depload's are as
they were, and what `prune` leaves of a base in which everything is old is counted. Meanwhile a process opens every run
path that there is, again and again.

- **lost**: a completed run path, or somebody's file, is gone or altered.
- **wrong**: a reader saw half a run path, an answer was wrong, a second try failed, or an error was none of depload's.
- **left**: what is depload's and stays after `prune`, on the node after all sites were removed, or in the temporary
  directory where nothing was killed.

Three spans of time are shorter than in use, so that it takes minutes: a dead process's claim on a conversion is given
up after half a second in place of forty, hosts are asked again after hundredths of a second, and `crowd-prune` takes
what is two seconds old. "Everything is old" means that the files' times were set back. What a killed process had in its
temporary directory stays there for the system to remove. That an index without hashes gave another sound wheel than
before, nobody can see.

{table}

{notes}
"""


class Finding(NamedTuple):
    """What should not be."""

    kind: str
    """``lost``, ``wrong`` or ``left``."""
    told: str


@dataclass
class Outcome:
    """What became of a row."""

    name: str
    what: str
    seed: int
    times: int = 0
    seconds: float = 0.0
    findings: list[tuple[str, Finding]] = field(default_factory=list)
    """With the point of each."""
    facts: Counter[str] = field(default_factory=Counter)
    """What else happened, and how often."""

    def count(self, kind: str) -> int:
        """How many points had a finding of this kind."""
        return len({point for point, finding in self.findings if finding.kind == kind})

    @property
    def row(self) -> tuple[str, ...]:
        """As the table has it."""
        counts = (str(self.count(kind)) for kind in (LOST, WRONG, LEFT))
        return (self.name, self.what, str(self.times), *counts, f"{self.seconds:.0f}")

    @property
    def noted(self) -> str:
        """The facts, most frequent first."""
        return ", ".join(f"{what} {count}" for what, count in self.facts.most_common())

    def again(self, point: str) -> str:
        """The command that does exactly that once more."""
        asked = f"--only {self.name} --seed {self.seed} --point {shlex.quote(point)}"
        return f"make faults FAULTS={shlex.quote(asked)}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Aligned columns, and below what there is to say of each row."""
    rows = [HEAD, *(outcome.row for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    facts = [f"{outcome.name}: {outcome.noted}" for outcome in outcomes if outcome.facts]
    found = [text for outcome in outcomes for text in _told(outcome)]
    return "\n".join([*lines, "", *facts, *found])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = list(zip(row, widths, strict=True))
    return [word.ljust(width) for word, width in pairs[:_LONG]] + [word.rjust(width) for word, width in pairs[_LONG:]]


def _told(outcome: Outcome) -> list[str]:
    shown = [
        f"\n--- {outcome.name}, {finding.kind}: {outcome.again(point)}\n{finding.told}"
        for point, finding in outcome.findings[:_SHOWN]
    ]
    more = len(outcome.findings) - len(shown)
    return [*shown, *([f"\n--- {outcome.name}: {more} more, in --json"] if more else [])]


def page(outcomes: Sequence[Outcome]) -> str:
    """As docs/faults.md has it."""
    rows = [HEAD, ("---",) * _LONG + ("---:",) * (len(HEAD) - _LONG), *(outcome.row for outcome in outcomes)]
    notes = "\n".join(f"- {outcome.name}: {outcome.noted}" for outcome in outcomes if outcome.facts)
    minutes = f"{sum(outcome.seconds for outcome in outcomes) / 60:.0f}"
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return _PAGE.format(minutes=minutes, seed=outcomes[0].seed, table=lines, notes=notes)


def to_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Everything, with the command for each finding."""
    return [
        {
            **{key: getattr(each, key) for key in ("name", "what", "seed", "times", "seconds")},
            "facts": dict(each.facts),
            **{kind: each.count(kind) for kind in (LOST, WRONG, LEFT)},
            "findings": [
                {"point": point, "kind": finding.kind, "told": finding.told, "again": each.again(point)}
                for point, finding in each.findings
            ],
        }
        for each in outcomes
    ]
