"""The Jobs API 2.2: runs of jobs, which are started, watched, cancelled and repaired."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from workspace import states
from workspace.identity import USER
from workspace.jobs import completed, page
from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from depload.running.results import JobRun, TaskRun
    from workspace.jobs import Jobs, Settings
    from workspace.messages import Request

MOST = 25  # runs on a page
SOME = 20
TOKEN = 64  # characters of an idempotency token
FIRST = 700_000_001


@dataclass
class Run:
    """A run of a job, as it stands."""

    run_id: int
    job_id: int
    settings: Settings
    parameters: dict[str, str]
    number: int
    kind: str = "JOB_RUN"
    asked: float = field(default_factory=time.time)
    state: str = "PENDING"  # as long as nothing is known of its tasks
    refusal: str = ""
    known: JobRun | None = None
    repairs: list[dict[str, Any]] = field(default_factory=list)
    cancel: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @property
    def is_active(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    @property
    def name(self) -> str:
        return str(self.settings.get("name") or "Untitled")

    def task(self, run_id: int) -> TaskRun | None:
        """The task of this run that has this id."""
        return next((task for task in _every(self.known) if task.run_id == run_id), None)


class Execution(Protocol):
    """What does the work of a run."""

    def __call__(self, run: Run, earlier: JobRun | None, rerun: Collection[str]) -> JobRun:
        """Run it to its end, or until it is cancelled, and keep what is known of it up to date."""


class JobRuns:
    """Runs by their ids, those of tasks included."""

    def __init__(self, jobs: Jobs, execute: Execution, url: Callable[[], str]) -> None:
        self._jobs = jobs
        self._execute = execute
        self._url = url
        self._numbers = itertools.count(FIRST)
        self._repairs = itertools.count(1)
        self._tokens: dict[str, int] = {}
        self._turn = threading.Condition()
        self._lock = threading.Lock()
        self.runs: dict[int, Run] = {}

    def routes(self) -> Iterable[Route]:
        answers: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("POST", "run-now"): self._run_now,
            ("POST", "runs/submit"): self._submit,
            ("GET", "runs/get"): self._get,
            ("GET", "runs/get-output"): self._output,
            ("GET", "runs/list"): self._list,
            ("POST", "runs/cancel"): self._cancel,
            ("POST", "runs/cancel-all"): self._cancel_all,
            ("POST", "runs/delete"): self._delete,
            ("POST", "runs/repair"): self._repair,
        }
        for (method, verb), answer in answers.items():
            yield Route(method, rf"/api/2\.[0-2]/jobs/{verb}", answer)

    def close(self) -> None:
        """Cancel whatever runs, and wait for its end."""
        for run in self.runs.values():
            run.cancel.set()
        for run in self.runs.values():
            if run.thread:
                run.thread.join()

    # --- starting ---

    def _run_now(self, request: Request) -> Answer:
        said = request.json()
        number = int(said["job_id"])
        settings = _overridden(self._jobs.settings(number), said)
        given = dict(said.get("job_parameters") or {})
        with self._lock:
            run = self._known_by(said) or self._start(number, settings, given, said)
        return Answer.of({"run_id": run.run_id, "number_in_job": run.number})

    def _submit(self, request: Request) -> Answer:
        said = request.json()
        settings = completed({"name": said.get("run_name", "Untitled"), **said})
        with self._lock:
            run = self._known_by(said) or self._start(self._jobs.number(), settings, {}, said, kind="SUBMIT_RUN")
        return Answer.of({"run_id": run.run_id})

    def _known_by(self, said: dict[str, Any]) -> Run | None:
        """The run that was started with the same token; a client that lost the answer asks again."""
        token = said.get("idempotency_token") or ""
        if len(token) > TOKEN:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"idempotency_token exceeds {TOKEN} characters.")
        return self.runs.get(self._tokens.get(token, 0))

    def _start(
        self, job_id: int, settings: Settings, given: dict[str, str], said: dict[str, Any], kind: str = "JOB_RUN"
    ) -> Run:
        run = Run(next(self._numbers), job_id, settings, given, len(self._of(job_id)) + 1, kind)
        self.runs[run.run_id] = run
        if token := said.get("idempotency_token"):
            self._tokens[token] = run.run_id
        self._go(run)
        return run

    def _go(self, run: Run, rerun: Collection[str] = ()) -> None:
        earlier = run.known if rerun else None
        run.cancel.clear()
        run.thread = threading.Thread(target=self._through, args=(run, earlier, rerun), name=f"run {run.run_id}")
        run.thread.start()

    def _through(self, run: Run, earlier: JobRun | None, rerun: Collection[str]) -> None:
        """A run from its turn to its end; this is its thread."""
        from depload.errors import DeploadError

        try:
            if self._its_turn(run):
                run.known = self._execute(run, earlier, rerun)
        except DeploadError as error:
            run.state, run.refusal = "INTERNAL_ERROR", str(error)
        finally:
            run.state = "TERMINATED" if run.state in {"RUNNING", "QUEUED"} else run.state
            with self._turn:
                self._turn.notify_all()

    def _its_turn(self, run: Run) -> bool:
        """Wait while as many runs are active as the job allows; without a queue, such a run is skipped."""
        with self._turn:
            while self._before(run) >= int(run.settings.get("max_concurrent_runs") or 1):
                if not (run.settings.get("queue") or {}).get("enabled"):
                    run.state, run.refusal = "SKIPPED", "This run was skipped: too many runs of the job are active."
                    return False
                run.state = "QUEUED"
                self._turn.wait(0.1)
                if run.cancel.is_set():
                    return False
            run.state = "RUNNING"
            return True

    def _before(self, run: Run) -> int:
        return sum(each.state == "RUNNING" for each in self._of(run.job_id) if each is not run)

    # --- watching ---

    def _get(self, request: Request) -> Answer:
        run, task = self._found(request.query["run_id"])
        return Answer.of(self._task(run, task) if task else self._about(run, tasks=True))

    def _list(self, request: Request) -> Answer:
        found = [run for run in reversed(self.runs.values()) if request.query.get("job_id") in {None, str(run.job_id)}]
        if request.flag("active_only"):
            found = [run for run in found if run.is_active]
        if request.flag("completed_only"):
            found = [run for run in found if not run.is_active]
        said = [self._about(run, tasks=request.flag("expand_tasks")) for run in found]
        return Answer.of(page("runs", said, request, SOME, MOST))

    def _output(self, request: Request) -> Answer:
        run, task = self._found(request.query["run_id"])
        if task is None:
            if run.known is None or len(run.known.tasks) != 1:
                words = "Retrieving the output of runs with multiple tasks is not supported."
                raise ApiError(400, "INVALID_PARAMETER_VALUE", words)
            (task,) = run.known.tasks
        return Answer.of(states.output(task, self._task(run, task)))

    def _about(self, run: Run, *, tasks: bool) -> dict[str, Any]:
        """A run as it is now."""
        known = run.known
        told = states.of_job_run(known) if known else _untold(run)
        if run.is_active and told["state"]["life_cycle_state"] in {"TERMINATED", "SKIPPED"}:
            told = {**told, **states.states("TERMINATING")}  # until its thread has put everything away
        about: dict[str, Any] = {
            **self._identity(run),
            **told,
            "start_time": int(run.asked * 1000),
            "job_parameters": [_parameter(run, name) for name in _names(run)],
            "repair_history": run.repairs,
        }
        if tasks:
            about["tasks"] = [_task(task, run) for task in (known.tasks if known else ())]
        return about

    def _task(self, run: Run, task: TaskRun) -> dict[str, Any]:
        """A task's run, which has an id of its own."""
        about = {**self._identity(run), **_task(task, run), "job_run_id": run.run_id}
        if task.iterations:
            about["iterations"] = [_task(each, run) for each in task.iterations]
        return about

    def _identity(self, run: Run) -> dict[str, Any]:
        return {
            "job_id": run.job_id,
            "run_id": run.run_id,
            "job_run_id": run.run_id,
            "number_in_job": run.number,
            "run_name": run.name,
            "run_type": run.kind,
            "trigger": "ONE_TIME",
            "creator_user_name": USER,
            "run_page_url": f"{self._url()}/?o=1#job/{run.job_id}/run/{run.run_id}",
            "format": "MULTI_TASK",
        }

    # --- stopping and repairing ---

    def _cancel(self, request: Request) -> Answer:
        self._found(request.json()["run_id"])[0].cancel.set()
        return Answer.of({})

    def _cancel_all(self, request: Request) -> Answer:
        said = request.json()
        for run in list(self.runs.values()):
            if said.get("all_queued_runs") or run.job_id == said.get("job_id"):
                run.cancel.set()
        return Answer.of({})

    def _delete(self, request: Request) -> Answer:
        run, _ = self._found(request.json()["run_id"])
        if run.is_active:
            raise ApiError(400, "INVALID_STATE", f"Run {run.run_id} is active and cannot be deleted.")
        del self.runs[run.run_id]
        return Answer.of({})

    def _repair(self, request: Request) -> Answer:
        said = request.json()
        run, _ = self._found(said["run_id"])
        if run.is_active or run.known is None:
            raise ApiError(400, "INVALID_STATE", f"Run {run.run_id} is in a state in which it cannot be repaired.")
        if (run.repairs[-1]["id"] if run.repairs else None) != said.get("latest_repair_id"):
            raise ApiError(400, "INVALID_PARAMETER_VALUE", "latest_repair_id is not that of the latest repair.")
        rerun = _rerun(run.known, run.settings, said)
        run.parameters |= said.get("job_parameters") or {}
        number = next(self._repairs)
        run.repairs.append({"type": "REPAIR", "id": number, "start_time": int(time.time() * 1000)})
        run.state = "PENDING"
        self._go(run, rerun)
        return Answer.of({"repair_id": number})

    # --- finding ---

    def _found(self, number: object) -> tuple[Run, TaskRun | None]:
        wanted = int(str(number))
        for run in list(self.runs.values()):
            if run.run_id == wanted:
                return run, None
            if task := run.task(wanted):
                return run, task
        raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Run {number} does not exist.")

    def _of(self, job_id: int) -> list[Run]:
        return [run for run in list(self.runs.values()) if run.job_id == job_id]


def _untold(run: Run) -> dict[str, Any]:
    """A run of which no task has begun."""
    result = {"SKIPPED": "MAXIMUM_CONCURRENT_RUNS_REACHED", "INTERNAL_ERROR": "INTERNAL_ERROR"}.get(run.state, "")
    if run.state == "TERMINATED":
        result = "CANCELED"
    told = states.states(run.state, result, run.refusal)
    if run.state == "INTERNAL_ERROR":
        del told["state"]["result_state"]
    return {**told, **states.times(run.asked, None if run.is_active else time.time())}


def _task(task: TaskRun, run: Run) -> dict[str, Any]:
    settings = {each["task_key"]: each for each in run.settings["tasks"]}
    own = settings.get(task.key)
    if own is None:  # an iteration of a for-each
        own = settings[task.key.partition("[")[0]]["for_each_task"]["task"] if "[" in task.key else {}
    return states.of_task(task, own)


def _overridden(settings: Settings, said: dict[str, Any]) -> Settings:
    """Settings with the parameters of tasks that run-now gives in place of them."""
    tasks = []
    for task in settings["tasks"]:
        changed = dict(task)
        for kind, name, given, whole in (
            ("notebook_task", "base_parameters", "notebook_params", False),
            ("python_wheel_task", "named_parameters", "python_named_params", False),
            ("python_wheel_task", "parameters", "python_params", True),
            ("spark_python_task", "parameters", "python_params", True),
        ):
            if kind in task and said.get(given):
                old = {} if whole else task[kind].get(name) or {}
                changed[kind] = {**changed[kind], name: said[given] if whole else {**old, **said[given]}}
        tasks.append(changed)
    return {**settings, "tasks": tasks}


def _rerun(known: JobRun, settings: Settings, said: dict[str, Any]) -> set[str]:
    """The keys of the tasks to run again."""
    rerun = set(said.get("rerun_tasks") or ())
    if said.get("rerun_all_failed_tasks"):
        rerun |= {task.key for task in known.tasks if not (task.result and task.result.good)}
    if unknown := rerun - {task.key for task in known.tasks}:
        raise ApiError(400, "INVALID_PARAMETER_VALUE", f"The run has no tasks {', '.join(sorted(unknown))}.")
    while said.get("rerun_dependent_tasks"):
        more = {task["task_key"] for task in settings["tasks"] if rerun & _upstream(task)} - rerun
        if not more:
            break
        rerun |= more
    return rerun


def _upstream(task: dict[str, Any]) -> set[str]:
    return {each["task_key"] for each in task.get("depends_on") or []}


def _names(run: Run) -> list[str]:
    return list({each["name"]: None for each in run.settings.get("parameters") or []} | run.parameters)


def _parameter(run: Run, name: str) -> dict[str, Any]:
    defaults = {each["name"]: each.get("default", "") for each in run.settings.get("parameters") or []}
    told = {"name": name, "default": defaults.get(name, "")}
    return {**told, "value": run.parameters[name]} if name in run.parameters else told


def _every(run: JobRun | None) -> Iterator[TaskRun]:
    for task in run.tasks if run else ():
        yield task
        yield from task.iterations
