"""The job that asks a workspace what nobody can know beforehand, in each mode of compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from databricks.bundles.jobs import RunIf

from resources import parts

if TYPE_CHECKING:
    from databricks.bundles.core import Bundle
    from databricks.bundles.jobs import Job

FOLDER = f"{{{{job.parameters.volume_base_path}}}}/probes-{parts.RUN_ID}"
MODES = {"dedicated": "dedicated", "standard": "standard", "serverless": None}
"""The job cluster of each mode."""


def jobs(bundle: Bundle) -> dict[str, Job]:
    """One job, the same for every target."""
    del bundle
    tasks = []
    for mode, on in MODES.items():
        given = {**parts.of_job("volume_base_path", "largest_mb"), "folder": FOLDER}
        tasks.append(parts.wheel_task(mode, "probe_runtime", {**given, "mode": mode}, on=on))
        # A second task, which can be told what the first one has set: whether task values work in wheel tasks.
        again = {**given, "mode": f"{mode}_after", "received": parts.value(mode, "depload_probe"), "largest_mb": "1"}
        tasks.append(parts.wheel_task(f"{mode}_after", "probe_runtime", again, on=on, after=[mode]))
    keys = [str(task.task_key) for task in tasks]
    notebook = parts.notebook_task(
        "notebook",
        "probe_runtime",
        {**parts.of_job("volume_base_path", "largest_mb"), "folder": FOLDER},
        on="dedicated",
    )
    modes = ["notebook", *keys]
    # A mode that this workspace does not have fails, and its column says so: the table is made all the same.
    table = {"folder": FOLDER, "json_file": f"{FOLDER}/answers.json", "modes": " ".join(modes)}
    last = parts.wheel_task("answers", "probe_table", table, on="dedicated", after=modes, run_if=RunIf.ALL_DONE)
    job = parts.job(
        "probe_runtime",
        "What this workspace can do, mode by mode, as a table and as JSON.",
        [notebook, *tasks, last],
        parameters={"largest_mb": "64"},
        clusters=[parts.cluster("dedicated"), parts.cluster("standard", shared=True)],
        serverless=True,
    )
    return {"probe_runtime": job}
