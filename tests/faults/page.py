"""docs/faults.md, from what was kept of each row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from faults.outcomes import HEAD, LEFT, LONG, LOST, WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faults.outcomes import Outcome

_PAGE = Path(__file__).with_suffix(".md")


def of(outcomes: Sequence[Outcome]) -> str:
    """The page."""
    return _PAGE.read_text(encoding="utf-8").format(
        times=f"{sum(outcome.times for outcome in outcomes):,}",
        **{kind: sum(outcome.count(kind) for outcome in outcomes) for kind in (LOST, WRONG, LEFT)},
        table=_table(HEAD[:-1], [outcome.row[:-1] for outcome in outcomes], LONG),
        notes="\n".join(f"- {outcome.name}: {outcome.noted}" for outcome in outcomes if outcome.facts),
        minutes=f"{sum(outcome.seconds for outcome in outcomes) / 60:.0f}",
        runs=_table(("row", "date", "commit", "where", "seed", "s"), [_run(outcome) for outcome in outcomes], 4),
    )


def _run(outcome: Outcome) -> tuple[str, ...]:
    return (outcome.name, outcome.date, outcome.commit, outcome.where, str(outcome.seed), f"{outcome.seconds:.0f}")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """In Markdown; so many columns of words, the others are numbers."""
    rule = ("---",) * words + ("---:",) * (len(head) - words)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
