"""Entry points for python_wheel_task: the process's arguments become keyword arguments of the task.

Databricks looks for ``entry_point`` among all entry points of ``package_name``, whatever their group, and calls it with
nothing; named parameters stand in ``sys.argv`` as ``--name=value``. The job's own parameters are pushed down to every
such task as well, so one that a task does not know is passed over; with a warning where no task of depload's knows it.
"""

from __future__ import annotations

import sys
import warnings
from inspect import signature
from typing import TYPE_CHECKING, Any

from depload.databricks import parameters as given
from depload.errors import DeploadWarning, Fault, ParameterError, TaskValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OBJECTS = {"dbutils", "spark", "options"}  # what cannot be written as text
_INDEX = ("index_url", "extra_index_urls", "index_for", "find_links", "no_index", "only_binary")


def process_dependencies() -> None:
    """``source``, ``volume_base_path``; ``run_id``, ``task``, ``name``, ``runtime``, ``constraints``, options.

    Of an index with a password, ``index_url_secret`` and ``extra_index_url_secrets`` name the secrets: ``scope/key``.
    """
    from depload import IndexOptions
    from depload.databricks import tasks, values

    words = _arguments(tasks.process_dependencies, _INDEX)
    index = {name: words.pop(name) for name in _INDEX if name in words}
    given.refuse_references(**index)
    if not words.get("run_id") and values.task_values(task=words.get("task", tasks.PROCESS)) is None:
        raise TaskValueError(
            "the task values",
            "there is no dbutils here, and without run_id nobody would find what this task publishes",
            f"give run_id={{{{job.run_id}}}}, or set {values.DIRECTORY} to a directory",
        )
    options = IndexOptions(
        index_url=index.get("index_url"),
        extra_index_urls=tuple(given.listed("extra_index_urls", index.get("extra_index_urls"))),
        index_for=tuple(given.listed("index_for", index.get("index_for"))),
        find_links=tuple(given.listed("find_links", index.get("find_links"))),
        no_index=given.flag("no_index", index.get("no_index", "false")),
        only_binary=tuple(given.listed("only_binary", index.get("only_binary"))),
    )
    tasks.process_dependencies(**words, options=options if index else None)


def load_and_validate() -> None:
    """``wheelhouse_path``, or ``volume_base_path`` and ``run_id``; ``imports``, ``isolation``, ``junit``, ..."""
    from depload.databricks import tasks

    tasks.load_and_validate(**_arguments(tasks.load_and_validate))


def cleanup() -> None:
    """``volume_base_path`` and ``run_id``, or ``wheelhouse_path``; ``upstream``, ``cleanup_enabled``."""
    from depload.databricks import tasks

    tasks.cleanup(**_arguments(tasks.cleanup))


def prune_wheelhouses() -> None:
    """``volume_base_path``; ``older_than``, ``max_size``, ``dry_run``."""
    from depload.databricks import tasks

    tasks.prune_wheelhouses(**_arguments(tasks.prune_wheelhouses))


def probe_runtime() -> None:
    """``volume_base_path``; ``mode``, ``folder``, ``received``, ``largest_mb``."""
    from depload.databricks import probe

    probe.probe_runtime(**_arguments(probe.probe_runtime))


def probe_table() -> None:
    """``folder``; ``modes``, ``json_file``."""
    from depload.databricks import probe

    probe.probe_table(**_arguments(probe.probe_table))


def _arguments(task: Callable[..., Any], more: Sequence[str] = ()) -> dict[str, Any]:
    """The arguments of this process that ``task`` knows; all that are missing are named at once."""
    known = {name: about for name, about in signature(task).parameters.items() if name not in _OBJECTS}
    words = given.parse(sys.argv[1:])
    unknown = sorted(words.keys() - known.keys() - set(more) - _of_other_tasks())
    if unknown:
        told = f"not a parameter of {task.__name__}, passed over: {', '.join(unknown)}; it knows {', '.join(known)}"
        warnings.warn(told, DeploadWarning, stacklevel=3)
    missing = [name for name, about in known.items() if about.default is about.empty and name not in words]
    if missing:
        raise ParameterError([Fault(name, "is needed and was not given") for name in missing])
    return {name: value for name, value in words.items() if name in known or name in more}


def _of_other_tasks() -> set[str]:
    """What a job parameter may be called that is meant for another task of the job."""
    from depload.databricks import tasks

    verbs = (tasks.process_dependencies, tasks.load_and_validate, tasks.cleanup, tasks.prune_wheelhouses)
    return {name for verb in verbs for name in signature(verb).parameters} | set(_INDEX)
