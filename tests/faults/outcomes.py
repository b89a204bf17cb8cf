"""What became of a row, and how it is shown: a table for people, Markdown and JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

LOST, WRONG, LEFT = "lost", "wrong", "left"
HEAD = ("row", "what", "times", "lost", "wrong", "left", "s")
LONG = 2  # columns of words; the others are numbers
_PLAIN = ("name", "what", "seed", "times", "seconds", "date", "commit", "where")
_SHOWN = 5  # findings of a row that are told in full


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
    date: str = ""
    commit: str = ""
    """Of what it was done to."""
    where: str = ""
    """On what machine."""

    def count(self, kind: str) -> int:
        """How many findings are of this kind."""
        return sum(finding.kind == kind for _, finding in self.findings)

    @property
    def row(self) -> tuple[str, ...]:
        """As the table has it."""
        counts = (str(self.count(kind)) for kind in (LOST, WRONG, LEFT))
        return (self.name, self.what, str(self.times), *counts, f"{self.seconds:.0f}")

    @property
    def noted(self) -> str:
        """The facts, most frequent first."""
        return ", ".join(f"{what} {count}" for what, count in self.facts.most_common())

    def to_json(self) -> dict[str, Any]:
        """Everything, with the command for each finding."""
        return {
            **{key: getattr(self, key) for key in _PLAIN},
            "facts": dict(self.facts),
            **{kind: self.count(kind) for kind in (LOST, WRONG, LEFT)},
            "findings": [
                {"point": point, "kind": finding.kind, "told": finding.told, "again": self.again(point)}
                for point, finding in self.findings
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What ``to_json`` gave."""
        found = [(each["point"], Finding(each["kind"], each["told"])) for each in data["findings"]]
        return cls(**{key: data[key] for key in _PLAIN if key in data}, findings=found, facts=Counter(data["facts"]))

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
    return [word.ljust(width) for word, width in pairs[:LONG]] + [word.rjust(width) for word, width in pairs[LONG:]]


def _told(outcome: Outcome) -> list[str]:
    shown = [
        f"\n--- {outcome.name}, {finding.kind}: {outcome.again(point)}\n{finding.told}"
        for point, finding in outcome.findings[:_SHOWN]
    ]
    more = len(outcome.findings) - len(shown)
    return [*shown, *([f"\n--- {outcome.name}: {more} more, in --json"] if more else [])]
