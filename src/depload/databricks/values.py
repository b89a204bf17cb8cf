"""Task values, and the platform's objects that a task finds where it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from depload.errors import TaskValueError
from depload.stores.platform import RUNTIME, find_dbutils, find_spark, in_notebook, is_stand_in

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DIRECTORY",
    "LIMIT",
    "RUNTIME",
    "TASK",
    "FileTaskValues",
    "TaskValues",
    "find_dbutils",
    "find_spark",
    "hand_on",
    "in_notebook",
    "read",
    "task_values",
]

LIMIT = 48 * 1024
"""Bytes that the JSON of one task value may have on Databricks."""
DIRECTORY = "DEPLOAD_TASK_VALUES"
"""The environment variable that names a directory where task values are kept, off a cluster."""
TASK = "DEPLOAD_TASK_KEY"
"""The environment variable that says which task of the job this process is, off a cluster."""


class TaskValues(Protocol):
    """What the tasks of one job run tell each other: two verbs of ``dbutils.jobs.taskValues``.

    Nothing more is assumed: not that a value can be read by the task that set it, nor that one can be taken back.
    """

    def set(self, key: str, value: Any) -> None:
        """Set a value of this task; at most 48 KiB of JSON."""

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:  # noqa: N803 - Databricks' names
        """What a task before this one set; ``debugValue`` where this is no job run. Raises ValueError."""


class FileTaskValues:
    """Task values in a directory, a JSON file each: for jobs that run on this machine."""

    def __init__(self, directory: str | os.PathLike[str], task: str) -> None:
        self._directory = Path(directory)
        self._task = task

    def set(self, key: str, value: Any) -> None:
        """Set a value of this task; at most 48 KiB of JSON, as on Databricks."""
        text = _json(key, value)
        file = self._file(self._task, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f"{file.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(file)  # so that nobody reads half of it

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:  # noqa: N803 - Databricks' names
        """What a task set, else ``default``. Raises ValueError where there is neither, as on Databricks."""
        del debugValue  # it is for where no job runs
        try:
            return json.loads(self._file(taskKey, key).read_text(encoding="utf-8"))
        except FileNotFoundError:
            if default is None:
                raise ValueError(f"task {taskKey} has set no value {key}") from None
            return default

    def _file(self, task: str, key: str) -> Path:
        return self._directory / quote(task, safe="") / f"{quote(key, safe='')}.json"


def _json(key: str, value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise TaskValueError(f"task value {key}", f"is not JSON ({error})", "hand on text or plain data") from error
    if len(text.encode()) > LIMIT:
        raise TaskValueError(
            f"task value {key}",
            f"has {len(text.encode())} bytes of JSON, and Databricks takes {LIMIT} (48 KiB)",
            "write it to a file below the base, and hand on the path",
        )
    return text


# --- finding them ---------------------------------------------------------------------------------------------------


def task_values(dbutils: Any = None, *, task: str) -> TaskValues | None:
    """Where this process sets and reads task values; None where it is part of no job.

    In this order: of the ``dbutils`` that is handed in, in the directory of ``DEPLOAD_TASK_VALUES`` (as ``task``,
    unless ``DEPLOAD_TASK_KEY`` names another), of the runtime's dbutils. Raises TaskValueError where a dbutils is
    handed in that only pretends.
    """
    if dbutils is not None:
        if is_stand_in(dbutils):
            raise TaskValueError(
                "this dbutils",
                "is the SDK's for use off a cluster, whose task values never leave this process",
                f"leave it out, and set {DIRECTORY} to a directory",
            )
        return _of(dbutils)
    if directory := os.environ.get(DIRECTORY):
        return FileTaskValues(directory, os.environ.get(TASK) or task)
    return _of(find_dbutils())


def _of(dbutils: Any) -> TaskValues | None:
    found: TaskValues | None = getattr(getattr(dbutils, "jobs", None), "taskValues", None)
    return found


# --- using them -----------------------------------------------------------------------------------------------------


def hand_on(values: TaskValues, given: Mapping[str, Any]) -> None:
    """Set several values. Raises TaskValueError, before any is set where one is too large."""
    for key, value in given.items():
        _json(key, value)
    try:
        for key, value in given.items():
            values.set(key=key, value=value)
    except Exception as error:
        raise TaskValueError(
            f"task value {key}", f"was not taken ({error})", "hand on run_id and volume_base_path instead"
        ) from error


def read(values: TaskValues | None, task: str, key: str, *, debug: Any = None) -> Any:
    """What ``task`` set as ``key``; ``debug`` where no job runs. Raises TaskValueError."""
    what = f"task value {key} of task {task}"
    if values is None:
        if debug is not None:
            return debug
        remedy = f"run it in a job, give debug_path, or set {DIRECTORY} to the directory of a job that ran here"
        raise TaskValueError(what, "there is no dbutils here to ask", remedy)
    try:
        found = values.get(taskKey=task, key=key, debugValue=debug)
    except Exception as error:
        remedy = (
            f"let this task depend on {task}, and see there whether it succeeded; outside of a job, give debug_path"
        )
        raise TaskValueError(what, f"cannot be read ({error})", remedy) from error
    if found is None:
        raise TaskValueError(what, "is not set", f"see in the run whether {task} succeeded")
    return found
