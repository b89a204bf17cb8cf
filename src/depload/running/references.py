"""Dynamic value references, ``{{...}}``, as Databricks documents them.

https://docs.databricks.com/en/jobs/dynamic-value-references.html: what is between the braces is a name, not an
expression; parts with other characters than letters, digits and _ stand in backticks; one that is not known stays as it
is, literally.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BEGIN = "{{"
KNOWN = (
    "job has id, name, run_id, repair_count, parameters.<name>, start_time.<part>, trigger.type, trigger.time.<part>; "
    "task has name, run_id, execution_count, notebook_path"
)
"""What may follow ``job.`` and ``task.``."""

_REFERENCE = re.compile(r"\{\{([^{}]+)\}\}")
_PART = re.compile(r"`([^`]+)`|([^.`\s]+)")
_OF_JOB = re.compile(
    r"job\.(?:id|name|run_id|repair_count|parameters\.(?:`[^`]+`|\w+)|start_time\.\w+|"
    r"trigger\.(?:type|time\.\w+|file_arrival\.location))"
)
_OF_TASK = re.compile(r"task\.(?:name|run_id|execution_count|notebook_path)")
_NOTHING: Any = object()

_LEGACY = {
    "job_id": "job.id",
    "parent_run_id": "job.run_id",
    "run_id": "task.run_id",
    "start_date": "job.start_time.iso_date",
    "start_time": "job.start_time.timestamp_ms",
    "task_key": "task.name",
}
"""Deprecated, and still filled in."""


@dataclass(frozen=True)
class Scope:
    """What references in one place can be filled in with."""

    facts: Mapping[str, str]
    """By name, as ``job.run_id`` or ``tasks.first.result_state``."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    values: Callable[[str, str], Any] | None = None
    """A task value, by task and key. Raises KeyError."""
    item: Any = _NOTHING
    """The input of this iteration of a for-each."""

    def having(self, **changes: Any) -> Scope:
        """The same with other fields."""
        return replace(self, **changes)


def fill(text: str, scope: Scope) -> str:
    """``text`` with every reference filled in that is known."""

    def filled(match: re.Match[str]) -> str:
        parts = _parts(match[1])
        found = _lookup(parts, scope) if parts else _NOTHING
        return match[0] if found is _NOTHING else _text(found)

    return _REFERENCE.sub(filled, text)


def items(inputs: str) -> list[Any]:
    """The inputs of a for-each, a JSON list. Raises ValueError."""
    try:
        found = json.loads(inputs)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ValueError(f"they are a JSON list, and this is none: {inputs[:200]}")  # noqa: TRY004 - as JSON's own
    return found


def misspelt(text: str) -> set[str]:
    """References below ``job.`` and ``task.`` that there are not, which Databricks refuses when a job is made."""
    names = {name for name in _REFERENCE.findall(text) if name.startswith(("job.", "task."))}
    return {name for name in names if not (_OF_JOB.fullmatch(name) or _OF_TASK.fullmatch(name))}


def of_time(prefix: str, seconds: float) -> dict[str, str]:
    """A moment, in UTC, by each of the parts that it can be asked for."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    parts = {
        "iso_date": at.date().isoformat(),
        "iso_datetime": at.replace(tzinfo=None).isoformat(timespec="milliseconds"),
        "iso_weekday": at.isoweekday(),
        "is_weekday": str(at.isoweekday() <= 5).lower(),  # noqa: PLR2004 - Friday
        "year": at.year,
        "month": at.month,
        "day": at.day,
        "hour": at.hour,
        "minute": at.minute,
        "second": at.second,
        "timestamp_ms": int(seconds * 1000),
    }
    return {f"{prefix}.{name}": str(value) for name, value in parts.items()}


def _parts(name: str) -> list[str]:
    """The parts of a name; none where it is not one."""
    found = list(_PART.finditer(name))
    if ".".join(match[0] for match in found) != name:
        return []
    return [match[1] or match[2] for match in found]


def _lookup(parts: list[str], scope: Scope) -> Any:
    name = ".".join(parts)
    name = _LEGACY.get(name, name)
    if name in scope.facts:
        return scope.facts[name]
    if parts[0] == "input":
        return _within(scope.item, parts[1:])
    if parts[:2] == ["job", "parameters"]:
        return scope.parameters.get(".".join(parts[2:]), _NOTHING)
    if parts[0] == "tasks" and parts[2:3] == ["values"] and len(parts) > 3 and scope.values:  # noqa: PLR2004 - tasks.X.values.Y
        try:
            return _within(scope.values(parts[1], parts[3]), parts[4:])
        except KeyError:
            return _NOTHING
    return _NOTHING


def _within(value: Any, path: list[str]) -> Any:
    """What lies in an object below the keys."""
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _NOTHING
        value = value[key]
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
