"""Jobs in which several wheelhouses meet on one cluster: three tasks with a pandas each, and six sources at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from databricks.bundles.jobs import ForEachTask, Task

from resources import parts
from resources.examples import EXAMPLES
from resources.parts import PROCESS, RUN_ID

if TYPE_CHECKING:
    from databricks.bundles.core import Bundle
    from databricks.bundles.jobs import Job

LAB = ("extract_prepare", "ml_scoring", "notification")
"""The tasks of examples/task_libraries, in order."""


def jobs(bundle: Bundle) -> dict[str, Job]:
    """Both labs, the same for every target."""
    del bundle
    return {"task_libraries": _task_libraries(), "concurrent_runs": _concurrent_runs()}


def _task_libraries() -> Job:
    """Each task of the lab has a wheelhouse of its own; the three are made at the same time."""
    tasks = []
    for task, before in zip(LAB, (None, *LAB), strict=False):
        process = f"process_{task}"
        source = f"${{workspace.file_path}}/examples/task_libraries/requirements/{task}.txt"
        given = {"source": source, **parts.of_job("volume_base_path"), "run_id": RUN_ID, "task": process}
        tasks.append(parts.notebook_task(process, PROCESS, given, retries=1))
        lab = {"task": task, "wheelhouse_task": process, "lab": "${workspace.file_path}/examples/task_libraries"}
        tasks.append(parts.notebook_task(task, "task_libraries", lab, after=[process, *([before] if before else [])]))
    tasks.append(parts.cleanup_task([str(task.task_key) for task in tasks]))
    return parts.job(
        "task_libraries",
        "Three tasks with three versions of pandas on one cluster, whose Python workers never meet.",
        tasks,
        parameters={},
        clusters=[parts.cluster(runtime="${var.lab_spark_version}")],
    )


def _concurrent_runs() -> Job:
    """A for-each over the six example zips: each iteration converts, loads and validates beside the others."""
    sources = [parts.artifact(example.artifact) for example in EXAMPLES.values()]
    given = {"source": "{{input}}", **parts.of_job("volume_base_path"), "run_id": RUN_ID}
    each = parts.notebook_task("one_run", "one_run", given)
    every = Task(
        task_key="every_source",
        for_each_task=ForEachTask(inputs=json.dumps(sources), concurrency=len(sources), task=each),
    )
    return parts.job(
        "concurrent_runs",
        "Six sources at once on one cluster, each in Python workers of its own.",
        [every, parts.cleanup_task(["every_source"])],
        parameters={},
        clusters=[parts.cluster()],
    )
