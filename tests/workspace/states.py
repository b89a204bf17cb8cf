"""How the Jobs API 2.2 tells of a run: life cycle and result states, their newer form ``status``, times, output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workspace.disk import milliseconds
from workspace.identity import USER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from depload.running.results import JobRun, TaskRun

LOG = 5 * 1024 * 1024  # what get-output returns of a log, and of what a notebook exits with
KINDS = ("python_wheel_task", "notebook_task", "spark_python_task", "condition_task", "for_each_task")
STATUS = {"WAITING_FOR_RETRY": "WAITING", "SKIPPED": "TERMINATED", "INTERNAL_ERROR": "TERMINATED"}
CODES = {
    "SUCCESS": ("SUCCESS", "SUCCESS"),
    "SUCCESS_WITH_FAILURES": ("SUCCESS_WITH_FAILURES", "SUCCESS"),
    "CANCELED": ("USER_CANCELED", "SUCCESS"),
    "DISABLED": ("DISABLED", "SUCCESS"),
    "MAXIMUM_CONCURRENT_RUNS_REACHED": ("MAX_CONCURRENT_RUNS_EXCEEDED", "CLIENT_ERROR"),
    "INTERNAL_ERROR": ("INTERNAL_ERROR", "INTERNAL_ERROR"),
}


def states(life_cycle: str, result: str = "", message: str = "") -> dict[str, Any]:
    """``state`` and ``status`` of a run or a task."""
    state: dict[str, Any] = {"life_cycle_state": life_cycle, "state_message": message}
    status: dict[str, Any] = {"state": STATUS.get(life_cycle, life_cycle)}
    if result:
        code, kind = CODES.get(result, ("RUN_EXECUTION_ERROR", "CLIENT_ERROR"))
        state |= {"result_state": result, "user_cancelled_or_timedout": result in {"CANCELED", "TIMEDOUT"}}
        status["termination_details"] = {"code": code, "type": kind, "message": message}
    return {"state": state, "status": status}


def of_job_run(run: JobRun) -> dict[str, Any]:
    return {**states(run.state.value.upper(), _result(run), _why(run)), **times(run.started, run.ended)}


def of_task(task: TaskRun, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A task of a run, with what the job says of it."""
    result = _result(task)
    return {
        **settings,
        "run_id": task.run_id,
        "task_key": task.key,
        "attempt_number": task.attempt,
        **states(task.state.value.upper(), result, task.error),
        **times(task.started, task.ended),
    }


def output(task: TaskRun, about: dict[str, Any]) -> dict[str, Any]:
    """What get-output says: logs of a process's streams, or what a notebook has exited with; and the error."""
    said: dict[str, Any] = {"metadata": about}
    if "notebook_task" in about:
        result = task.output or ""
        said["notebook_output"] = {"result": result[:LOG], "truncated": len(result) > LOG} if task.output else {}
    elif task.log and task.log.exists():
        content = task.log.read_bytes()
        said |= {"logs": content[-LOG:].decode(errors="replace"), "logs_truncated": len(content) > LOG}
    if task.error:
        said |= {"error": task.error, "error_trace": task.trace}
    return said


def times(started: float | None, ended: float | None) -> dict[str, Any]:
    start, end = (milliseconds(each) if each else 0 for each in (started, ended))
    duration = end - start if end else 0
    return {
        "start_time": start,
        "end_time": end,
        "setup_duration": 0,
        "execution_duration": duration,
        "run_duration": duration,
        "cleanup_duration": 0,
        "creator_user_name": USER,
    }


def _result(run: JobRun | TaskRun) -> str:
    return run.result.value.upper() if run.result else ""


def _why(run: JobRun) -> str:
    """The first thing that went wrong, as the API words it."""
    failed = sorted((task.ended or 0.0, task.key, task.error) for task in run.tasks if task.error)
    return f"Task {failed[0][1]} failed with message: {failed[0][2]}" if failed else ""
