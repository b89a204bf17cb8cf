"""What becomes of a run and of its tasks, as records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class State(str, Enum):
    """Where a run or a task stands; upper case, these are the life cycle states of the Jobs API."""

    BLOCKED = "blocked"
    """It waits for other tasks."""
    PENDING = "pending"
    """It waits for what it runs on."""
    RUNNING = "running"
    WAITING_FOR_RETRY = "waiting_for_retry"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    SKIPPED = "skipped"
    """It has ended without having been started."""


class Result(str, Enum):
    """How a run or a task ended, as ``{{tasks.<task>.result_state}}`` says it; upper case, as the Jobs API does."""

    SUCCESS = "success"
    SUCCESS_WITH_FAILURES = "success_with_failures"
    FAILED = "failed"
    TIMEDOUT = "timedout"
    CANCELED = "canceled"
    EXCLUDED = "excluded"
    DISABLED = "disabled"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_CANCELED = "upstream_canceled"

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with it; what was left out on purpose counts as a success."""
        return self in _GOOD

    @property
    def canceled(self) -> bool:
        """Whether it is one because somebody said so."""
        return self in (Result.CANCELED, Result.UPSTREAM_CANCELED)


_GOOD = {Result.SUCCESS, Result.SUCCESS_WITH_FAILURES, Result.EXCLUDED, Result.DISABLED}
_ENDED = (State.TERMINATED, State.SKIPPED)


@dataclass(frozen=True)
class Ended:
    """How an attempt's process ended."""

    good: bool
    error: str = ""
    """``Type: message`` of what was raised, or why there is nothing of that kind."""
    trace: str = ""
    output: str | None = None
    """What the notebook gave to ``dbutils.notebook.exit``."""


@dataclass(frozen=True)
class TaskRun:
    """A task of a run, or an iteration of a for-each, as its last attempt left it."""

    key: str
    """The task key, with the iteration: ``one_run[2]``."""
    run_id: int
    kind: str
    state: State = State.BLOCKED
    result: Result | None = None
    attempt: int = 0
    """The number of its last attempt, from 0."""
    started: float | None = None
    """Seconds since 1970, as all times here."""
    ended: float | None = None
    error: str = ""
    trace: str = ""
    output: str | None = None
    outcome: str = ""
    """What a condition task found: ``true`` or ``false``."""
    log: Path | None = None
    iterations: tuple[TaskRun, ...] = ()

    @property
    def done(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in _ENDED

    def to_json(self) -> dict[str, Any]:
        """Every field, in plain data."""
        return {
            **_plain(
                self, ("key", "run_id", "kind", "attempt", "started", "ended", "error", "trace", "output", "outcome")
            ),
            "state": self.state.value,
            "result": self.result.value if self.result else None,
            "log": str(self.log) if self.log else None,
            "iterations": [each.to_json() for each in self.iterations],
        }


@dataclass(frozen=True)
class JobRun:
    """A run of a job, at one moment or in the end."""

    job: str
    job_id: int
    run_id: int
    parameters: Mapping[str, str]
    state: State = State.PENDING
    result: Result | None = None
    started: float | None = None
    ended: float | None = None
    repair_count: int = 0
    tasks: tuple[TaskRun, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it has succeeded."""
        return self.result is not None and self.result.good

    @property
    def every(self) -> Iterator[TaskRun]:
        """Its tasks, and what a for-each repeated in place of the for-each."""
        for task in self.tasks:
            yield from task.iterations or (task,)

    def task(self, key: str) -> TaskRun:
        """The task of that key, or the iteration. Raises KeyError."""
        for each in self.tasks:
            for found in (each, *each.iterations):
                if found.key == key:
                    return found
        raise KeyError(key)

    def to_json(self) -> dict[str, Any]:
        """Every field, in plain data."""
        return {
            **_plain(self, ("job", "job_id", "run_id", "started", "ended", "repair_count")),
            "parameters": dict(self.parameters),
            "state": self.state.value,
            "result": self.result.value if self.result else None,
            "tasks": [each.to_json() for each in self.tasks],
        }


def _plain(record: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}
