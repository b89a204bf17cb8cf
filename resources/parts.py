"""What the jobs are made of: compute, tasks, and what every job has.

Paths are relative to the bundle's root. Parameters of wheel tasks are lists, not maps: job parameters are pushed down
to maps by themselves, and here every reference shall be seen where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from databricks.bundles.jobs import (
    ClusterSpec,
    CronSchedule,
    DataSecurityMode,
    Environment,
    Job,
    JobCluster,
    JobEmailNotifications,
    JobEnvironment,
    JobParameterDefinition,
    JobPermission,
    JobPermissionLevel,
    JobsHealthMetric,
    JobsHealthOperator,
    JobsHealthRule,
    JobsHealthRules,
    Library,
    NotebookTask,
    PauseStatus,
    PythonWheelTask,
    QueueSettings,
    RunIf,
    Task,
    TaskDependency,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from databricks.bundles.core import Bundle

WHEEL = "dist/*.whl"
"""What the bundle's artifact builds."""
CLUSTER, SERVERLESS = "main", "default"
RUN_ID = "{{job.run_id}}"
PROCESS, LOAD, CLEANUP = "process_dependencies", "load_and_validate", "cleanup"

_SLOW = 30 * 60  # seconds after which somebody is told
_TOO_SLOW = 60 * 60  # seconds after which a run is stopped
_RETRY_AFTER = 30_000  # milliseconds


# --- compute --------------------------------------------------------------------------------------------------------


def cluster(key: str = CLUSTER, *, runtime: str = "${var.spark_version}", shared: bool = False) -> JobCluster:
    """One driver and one worker; ``shared`` is standard access mode, else it is dedicated to who runs the job."""
    mode = DataSecurityMode.USER_ISOLATION if shared else DataSecurityMode.SINGLE_USER
    spec = ClusterSpec(spark_version=runtime, node_type_id="${var.node_type}", num_workers=1, data_security_mode=mode)
    return JobCluster(job_cluster_key=key, new_cluster=spec)


def environment() -> JobEnvironment:
    """Serverless compute that has depload."""
    spec = Environment(environment_version="${var.serverless_environment}", dependencies=[WHEEL])
    return JobEnvironment(environment_key=SERVERLESS, spec=spec)


# --- tasks ----------------------------------------------------------------------------------------------------------


def wheel_task(
    key: str,
    entry_point: str,
    parameters: Mapping[str, str],
    *,
    after: Iterable[str] = (),
    on: str | None = CLUSTER,
    run_if: RunIf | None = None,
    retries: int = 0,
) -> Task:
    """An entry point of depload's wheel, on a job cluster, or on serverless compute where ``on`` is None."""
    return Task(
        task_key=key,
        python_wheel_task=PythonWheelTask(
            package_name="depload",
            entry_point=entry_point,
            parameters=[f"--{name}={value}" for name, value in parameters.items()],
        ),
        depends_on=[TaskDependency(task_key=before) for before in after],
        run_if=run_if,
        job_cluster_key=on,
        environment_key=None if on else SERVERLESS,
        libraries=[Library(whl=WHEEL)] if on else [],
        max_retries=retries,
        min_retry_interval_millis=_RETRY_AFTER if retries else None,
        # Serverless compute retries by itself unless it is told not to; a cleanup that fails has said what it had to.
        disable_auto_optimization=None if on else not retries,
    )


def notebook_task(
    key: str,
    notebook: str,
    parameters: Mapping[str, str],
    *,
    after: Iterable[str] = (),
    on: str = CLUSTER,
    retries: int = 0,
) -> Task:
    """A notebook of ``notebooks/`` on a job cluster; those that set task values are notebooks, as documented."""
    return Task(
        task_key=key,
        notebook_task=NotebookTask(notebook_path=f"notebooks/{notebook}.py", base_parameters=dict(parameters)),
        depends_on=[TaskDependency(task_key=before) for before in after],
        job_cluster_key=on,
        libraries=[Library(whl=WHEEL)],
        max_retries=retries,
        min_retry_interval_millis=_RETRY_AFTER if retries else None,
    )


def cleanup_task(upstream: Sequence[str], *, on: str | None = CLUSTER) -> Task:
    """The last task: removes what the run published whatever happened, and fails where a task before it did.

    It waits for all of them, not for the last alone, so that nothing is removed from under one that still runs.
    """
    states = " ".join(f"{key}={{{{tasks.{key}.result_state}}}}" for key in upstream)
    parameters = {**of_job("volume_base_path", "cleanup_enabled"), "run_id": RUN_ID, "upstream": states}
    return wheel_task(CLEANUP, "cleanup", parameters, after=upstream, on=on, run_if=RunIf.ALL_DONE)


def of_job(*names: str) -> dict[str, str]:
    """References to parameters of the job, by the same name."""
    return {name: f"{{{{job.parameters.{name}}}}}" for name in names}


def value(task: str, key: str) -> str:
    """A reference to a task value."""
    return f"{{{{tasks.{task}.values.{key}}}}}"


# --- jobs -----------------------------------------------------------------------------------------------------------


def job(
    name: str,
    description: str,
    tasks: Sequence[Task],
    *,
    parameters: Mapping[str, str],
    clusters: Sequence[JobCluster] = (),
    serverless: bool = False,
    schedule: CronSchedule | None = None,
) -> Job:
    """A job with what all of them have: who is told, how long it may take, tags, and who may see it."""
    given = {"volume_base_path": "${var.volume_base_path}", "cleanup_enabled": "true", **parameters}
    return Job(
        name=name,
        description=description,
        tasks=list(tasks),
        parameters=[JobParameterDefinition(name=key, default=default) for key, default in given.items()],
        job_clusters=list(clusters),
        environments=[environment()] if serverless else [],
        schedule=schedule,
        # Runs that overlap do not meet: each publishes below folders of its own.
        max_concurrent_runs=20,
        queue=QueueSettings(enabled=True),
        timeout_seconds=_TOO_SLOW,
        email_notifications=JobEmailNotifications(
            on_failure=["${var.notify}"], on_duration_warning_threshold_exceeded=["${var.notify}"]
        ),
        health=JobsHealthRules(
            rules=[
                JobsHealthRule(
                    metric=JobsHealthMetric.RUN_DURATION_SECONDS, op=JobsHealthOperator.GREATER_THAN, value=_SLOW
                )
            ]
        ),
        tags={"project": "depload", "target": "${bundle.target}"},
        permissions=[JobPermission(level=JobPermissionLevel.CAN_VIEW, group_name="${var.viewers}")],
    )


def nightly(bundle: Bundle) -> CronSchedule:
    """At 04:30 UTC, and in prod alone."""
    status = PauseStatus.UNPAUSED if bundle.target == "prod" else PauseStatus.PAUSED
    return CronSchedule(quartz_cron_expression="0 30 4 * * ?", timezone_id="UTC", pause_status=status)


def artifact(name: str) -> str:
    """Where the workspace has an example zip."""
    return f"${{workspace.file_path}}/test_artifacts/{name}.zip"
