"""What a task's process is told, and what it answers.

It is told on its standard input, a line of JSON: there may be secrets in it, which belong neither on a command line nor
on disk. Standard input stays open then, and its end means that whoever started the process is gone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from depload.running.results import Ended

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "depload.running.task"
"""What a task's process runs."""

Session = Literal["attached", "connect", "none"]


@dataclass(frozen=True)
class Order:
    """One attempt at one task."""

    kind: Literal["wheel", "notebook", "script"]
    name: str
    """The package of a wheel, else the file."""
    entry_point: str = ""
    arguments: tuple[str, ...] = ()
    """``sys.argv`` after the program."""
    widgets: dict[str, str] = field(default_factory=dict)
    session: Session = "none"
    values: str = ""
    """The directory of the run's task values."""
    task: str = ""
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    root: str | None = None
    """Where volumes and DBFS are."""
    answer: str = ""
    """The file that the answer is written to."""

    def other(self, **changes: Any) -> Order:
        """The same with other fields."""
        return replace(self, **changes)

    def text(self) -> str:
        """As ``read`` reads it."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def read(cls, line: str) -> Order:
        """What ``text`` made."""
        found = json.loads(line)
        return cls(**{**found, "arguments": tuple(found["arguments"])})


def answer(file: Path, ended: Ended) -> None:
    """Write how the attempt ended."""
    file.write_text(json.dumps(asdict(ended)), encoding="utf-8")


def answered(file: Path) -> Ended | None:
    """How the attempt ended by its own account; None where it left none."""
    try:
        return Ended(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
