"""Which tasks run after what became of others, and what a run has come to: the rules of Databricks, as values.

https://docs.databricks.com/en/jobs/run-if.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from depload.running.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SUCCEEDED = {Result.SUCCESS, Result.SUCCESS_WITH_FAILURES}
_LEFT_OUT = {Result.EXCLUDED, Result.DISABLED}

_RULES: dict[str, Callable[[Sequence[Result]], bool]] = {
    "ALL_SUCCESS": lambda upstream: all(each.good for each in upstream),
    "AT_LEAST_ONE_SUCCESS": lambda upstream: any(each in _SUCCEEDED for each in upstream),
    "NONE_FAILED": lambda upstream: all(each.good for each in upstream),
    "ALL_DONE": lambda _: True,
    "AT_LEAST_ONE_FAILED": lambda upstream: not all(each.good for each in upstream),
    "ALL_FAILED": lambda upstream: not any(each.good for each in upstream),
}
_FOR_FAILURES = ("AT_LEAST_ONE_FAILED", "ALL_FAILED")


def leaving(run_if: str, upstream: Sequence[Result]) -> Result | None:
    """What a task ends as without being run, after these results; None where it is to run.

    What was excluded counts as a success, but where everything before a task was excluded, so is the task, whatever
    its condition is.
    """
    if not upstream:
        return None
    if all(each in _LEFT_OUT for each in upstream):
        return Result.EXCLUDED
    if _RULES[run_if](upstream):
        return None
    if run_if in _FOR_FAILURES:
        return Result.EXCLUDED
    failed = any(not each.good and not each.canceled for each in upstream)
    canceled = any(each.canceled for each in upstream)
    return Result.UPSTREAM_CANCELED if canceled and not failed else Result.UPSTREAM_FAILED


def of_leaves(leaves: Sequence[Result], every: Sequence[Result]) -> Result:
    """What a run has come to: its leaf tasks decide, and a failure before them only shows."""
    bad = [each for each in leaves if not each.good]
    if any(not each.canceled for each in bad):
        return Result.FAILED
    if bad:
        return Result.CANCELED
    return Result.SUCCESS if all(each.good for each in every) else Result.SUCCESS_WITH_FAILURES


def holds(operator: str, left: str, right: str) -> bool:
    """Whether a condition task's comparison is true.

    Equality compares texts, and the others compare numbers. Raises ValueError where one of them is none.
    """
    if operator in ("EQUAL_TO", "NOT_EQUAL"):
        return (left == right) is (operator == "EQUAL_TO")
    try:
        difference = float(left) - float(right)
    except ValueError:
        raise ValueError(f"{operator} compares numbers, not {left!r} with {right!r}") from None
    rules = {
        "GREATER_THAN": difference > 0,
        "GREATER_THAN_OR_EQUAL": difference >= 0,
        "LESS_THAN": difference < 0,
        "LESS_THAN_OR_EQUAL": difference <= 0,
    }
    return rules[operator]
