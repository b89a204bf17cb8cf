"""When which task of a run is started, tried again, stopped or left out.

Nothing here waits, and nothing is started but through ``Attempts``; time comes from a clock that is handed in.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from depload.running import references
from depload.running.conditions import holds, leaving, of_leaves
from depload.running.jobs import Condition, ForEach, nested
from depload.running.references import Scope
from depload.running.results import Ended, JobRun, Result, State, TaskRun

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from depload.running.jobs import Job, Notebook, Script, Task, Wheel


@dataclass(frozen=True)
class Attempt:
    """One try of one task, with all that its parameters may refer to."""

    task: Task
    key: str
    """The task key, with the iteration: ``one_run[2]``."""
    number: int
    run_id: int
    scope: Scope


class Progress(NamedTuple):
    """How far an attempt is: waiting for what it runs on, running since, or ended."""

    since: float | None = None
    ended: Ended | None = None


class Attempts(Protocol):
    """What starts, watches and stops attempts; none of its verbs waits."""

    def start(self, attempt: Attempt) -> Path | None:
        """Begin it; where its log is."""

    def progress(self, attempt: Attempt) -> Progress:
        """How far it is."""

    def stop(self, attempt: Attempt) -> None:
        """Have it stopped; ``progress`` says when it is."""


@dataclass
class _Step:
    """A task of the run, or an iteration, and where it stands."""

    task: Task
    key: str
    run_id: int
    item: Any = None
    iterates: bool = False
    state: State = State.BLOCKED
    result: Result | None = None
    tries: int = 0
    attempt: Attempt | None = None
    log: Path | None = None
    tried: float = 0.0
    started: float | None = None
    ended: float | None = None
    outcome: str = ""
    last: Ended = field(default_factory=lambda: Ended(good=True))
    stopping: Result | None = None
    """What it is to end as, once it has been stopped."""
    iterations: list[_Step] | None = None

    @property
    def done(self) -> bool:
        return self.result is not None

    def snapshot(self) -> TaskRun:
        return TaskRun(
            key=self.key,
            run_id=self.run_id,
            kind=type(self.task.work).__name__,
            state=self.state,
            result=self.result,
            attempt=max(0, self.tries - 1),
            started=self.started,
            ended=self.ended,
            error=self.last.error,
            trace=self.last.trace,
            output=self.last.output,
            outcome=self.outcome,
            log=self.log,
            iterations=tuple(each.snapshot() for each in self.iterations or ()),
        )


class Scheduler:
    """The state of one run; ``step`` moves it on as far as it goes at this moment."""

    def __init__(
        self,
        job: Job,
        run: JobRun,
        attempts: Attempts,
        *,
        clock: Callable[[], float],
        values: Callable[[str, str], Any],
        retry_wait: float | None = None,
        earlier: JobRun | None = None,
        rerun: Collection[str] = (),
    ) -> None:
        self._job, self._run, self._attempts = job, run, attempts
        self._clock, self._values, self._retry_wait = clock, values, retry_wait
        self._ids = itertools.count(run.run_id * 1000 + 1)
        self._started = clock()
        self._stopping: Result | None = None
        self._moved = False
        self._steps = {task.key: _Step(task, task.key, next(self._ids)) for task in job.tasks}
        for task in earlier.tasks if earlier else ():
            if task.key in self._steps and task.key not in rerun:
                _take_over(self._steps[task.key], task)

    # --- from outside ---

    @property
    def done(self) -> bool:
        """Whether every task has ended."""
        return all(step.done for step in self._steps.values())

    def step(self) -> bool:
        """Notice what has ended, start what can start; whether anything has changed."""
        if self._job.timeout and not self._stopping and self._clock() - self._started >= self._job.timeout:
            self._stop(Result.TIMEDOUT)
        for step in self._steps.values():
            self._move(step)
        if not self.done:  # what has ended just now may let others begin at once
            for step in self._steps.values():
                self._move(step)
        moved, self._moved = self._moved, False
        return moved

    def cancel(self) -> None:
        """Stop what runs, and start nothing more."""
        self._stop(Result.CANCELED)

    def snapshot(self) -> JobRun:
        """The run as it is."""
        ended = [step.ended or self._started for step in self._steps.values()]
        return JobRun(
            job=self._run.job,
            job_id=self._run.job_id,
            run_id=self._run.run_id,
            parameters=self._run.parameters,
            repair_count=self._run.repair_count,
            state=State.TERMINATED if self.done else State.TERMINATING if self._stopping else State.RUNNING,
            result=self._result() if self.done else None,
            started=self._started,
            ended=max(ended) if self.done else None,
            tasks=tuple(step.snapshot() for step in self._steps.values()),
        )

    # --- the run ---

    def _stop(self, result: Result) -> None:
        self._stopping = self._stopping or result
        for step in self._steps.values():
            self._abandon(step, result)

    def _abandon(self, step: _Step, result: Result) -> None:
        """Stop it where it runs; where it does not, it has ended."""
        for each in step.iterations or ():
            self._abandon(each, result)
        if step.done:
            return
        if step.attempt is not None and step.state in (State.PENDING, State.RUNNING, State.TERMINATING):
            self._kill(step, result)
        elif step.iterations is None:
            self._end(step, Result.CANCELED, State.TERMINATED if step.tries else State.SKIPPED)
        else:
            step.stopping = step.stopping or result

    def _result(self) -> Result:
        if self._stopping:
            return self._stopping
        inner = {dependency.key for task in self._job.tasks for dependency in task.depends_on}
        results = {key: step.result for key, step in self._steps.items() if step.result}
        return of_leaves([results[key] for key in results if key not in inner], list(results.values()))

    # --- one task ---

    def _move(self, step: _Step) -> None:
        if step.done:
            return
        if step.iterations is not None:
            self._iterate(step)
        elif step.state is State.BLOCKED:
            self._begin(step)
        elif step.state is State.WAITING_FOR_RETRY:
            if self._clock() >= step.tried + self._wait(step):
                self._start(step)
        else:
            self._watch(step)

    def _begin(self, step: _Step) -> None:
        """Where all that it waits for has ended: start it, or leave it out."""
        if self._stopping:
            self._end(step, Result.CANCELED, State.SKIPPED)
            return
        upstream = [] if step.iterates else list(self._upstream(step.task))
        if None in upstream:
            return
        if left := leaving(step.task.run_if, [each for each in upstream if each]):
            self._end(step, left, State.SKIPPED)
        elif step.task.disabled:
            self._end(step, Result.DISABLED, State.SKIPPED)
        elif isinstance(step.task.work, Condition):
            self._decide(step, step.task.work)
        elif isinstance(step.task.work, ForEach):
            self._unfold(step, step.task.work)
        else:
            self._start(step)

    def _upstream(self, task: Task) -> Iterator[Result | None]:
        """The results of what it waits for; a branch that was not taken is excluded."""
        for dependency in task.depends_on:
            step = self._steps[dependency.key]
            other_branch = dependency.outcome is not None and step.outcome not in ("", dependency.outcome)
            yield Result.EXCLUDED if other_branch and step.result else step.result

    def _start(self, step: _Step) -> None:
        self._moved = True
        step.tries += 1
        step.tried = self._clock()
        step.started = step.started or step.tried
        step.last = Ended(good=True)
        step.attempt = Attempt(step.task, step.key, step.tries - 1, step.run_id, self._scope(step))
        step.state = State.PENDING
        step.log = self._attempts.start(step.attempt)

    def _watch(self, step: _Step) -> None:
        if step.attempt is None:
            return
        progress = self._attempts.progress(step.attempt)
        if progress.ended:
            self._close(step, progress.ended)
        elif step.stopping is None and progress.since is not None:
            self._moved = self._moved or step.state is not State.RUNNING
            step.state = State.RUNNING
            if step.task.timeout and self._clock() - progress.since >= step.task.timeout:
                self._kill(step, Result.TIMEDOUT)

    def _kill(self, step: _Step, result: Result) -> None:
        if step.stopping is None and step.attempt is not None:
            self._moved = True
            step.stopping, step.state = result, State.TERMINATING
            self._attempts.stop(step.attempt)

    def _close(self, step: _Step, ended: Ended) -> None:
        """An attempt has ended: so has the task, or it is tried again."""
        self._moved = True
        result = step.stopping or (Result.SUCCESS if ended.good else Result.FAILED)
        step.stopping = None
        step.last = ended if result in (Result.SUCCESS, Result.FAILED) else self._why(step, result, ended)
        again = result is Result.FAILED or (result is Result.TIMEDOUT and step.task.retry_on_timeout)
        if again and not self._stopping and step.task.retries not in range(step.tries):
            step.state = State.WAITING_FOR_RETRY
            return
        self._end(step, result, State.TERMINATED)

    def _why(self, step: _Step, result: Result, ended: Ended) -> Ended:
        if result is Result.CANCELED:
            return Ended(good=False, error="canceled", trace=ended.trace)
        limit = self._job.timeout if self._stopping else step.task.timeout
        whose = "the job" if self._stopping else "it"
        return Ended(good=False, error=f"stopped, because {whose} took longer than {limit:g} s", trace=ended.trace)

    def _end(self, step: _Step, result: Result, state: State) -> None:
        self._moved = True
        step.result, step.state, step.ended = result, state, self._clock()

    def _wait(self, step: _Step) -> float:
        return step.task.retry_wait if self._retry_wait is None else self._retry_wait

    # --- conditions and for-each, which run here ---

    def _decide(self, step: _Step, condition: Condition) -> None:
        scope = self._scope(step)
        step.started = self._clock()
        left, right = references.fill(condition.left, scope), references.fill(condition.right, scope)
        try:
            step.outcome = str(holds(condition.operator, left, right)).lower()
        except ValueError as error:
            step.last = Ended(good=False, error=str(error))
        self._end(step, Result.SUCCESS if step.outcome else Result.FAILED, State.TERMINATED)

    def _unfold(self, step: _Step, work: ForEach) -> None:
        self._moved = True
        step.started = self._clock()
        try:
            found = references.items(references.fill(work.inputs, self._scope(step)))
        except ValueError as error:
            step.last = Ended(good=False, error=f"inputs: {error}")
            self._end(step, Result.FAILED, State.TERMINATED)
            return
        step.state = State.RUNNING
        step.iterations = [
            _Step(work.task, f"{work.task.key}[{at}]", next(self._ids), item=item, iterates=True)
            for at, item in enumerate(found)
        ]

    def _iterate(self, step: _Step) -> None:
        work, iterations = step.task.work, step.iterations or []
        if not isinstance(work, ForEach):
            return
        for each in iterations:
            active = sum(other.state is not State.BLOCKED and not other.done for other in iterations)
            if each.state is not State.BLOCKED or active < work.concurrency:
                self._move(each)
        if step.task.timeout and not step.stopping and self._clock() - (step.started or 0) >= step.task.timeout:
            self._abandon(step, Result.TIMEDOUT)
        if all(each.done for each in iterations):
            self._gather(step, iterations)

    def _gather(self, step: _Step, iterations: list[_Step]) -> None:
        bad = [each for each in iterations if each.result and not each.result.good]
        if bad:
            step.last = Ended(good=False, error=f"{len(bad)} of {len(iterations)} iterations: {bad[0].last.error}")
        result = step.stopping or (Result.FAILED if bad else Result.SUCCESS)
        self._end(step, result, State.TERMINATED)

    # --- references ---

    def _scope(self, step: _Step) -> Scope:
        """What references of this task can be filled in with."""
        facts = {
            **self._facts(),
            "task.name": nested(step.task).key if step.iterates else step.task.key,
            "task.run_id": str(step.run_id),
            "task.execution_count": str(step.tries),
            **_of_notebook("task", step.task.work),
        }
        scope = Scope(facts, self._run.parameters, self._values)
        return scope.having(item=step.item) if step.iterates else scope

    def _facts(self) -> dict[str, str]:
        facts = of_run(self._run, self._started)
        for key, step in self._steps.items():
            facts[f"tasks.{key}.run_id"] = str(step.run_id)
            facts |= _of_notebook(f"tasks.{key}", step.task.work)
            if step.result:
                facts[f"tasks.{key}.result_state"] = step.result.value
                facts[f"tasks.{key}.execution_count"] = str(step.tries)
        return facts


def of_run(run: JobRun, started: float) -> dict[str, str]:
    """What ``{{job.…}}`` says."""
    return {
        "job.id": str(run.job_id),
        "job.name": run.job,
        "job.run_id": str(run.run_id),
        "job.repair_count": str(run.repair_count),
        "job.trigger.type": "one_time",
        **references.of_time("job.start_time", started),
        **references.of_time("job.trigger.time", started),
    }


def _of_notebook(prefix: str, work: object) -> Mapping[str, str]:
    path: Notebook | Script | Wheel | Any = getattr(work, "path", None)
    return {f"{prefix}.notebook_path": path} if isinstance(path, str) else {}


def _take_over(step: _Step, task: TaskRun) -> None:
    """What an earlier attempt at the run has left, which is not run again."""
    step.state, step.result, step.outcome = task.state, task.result, task.outcome
    step.tries, step.log = task.attempt + 1, task.log
    step.started, step.ended = task.started, task.ended
    step.last = Ended(task.result is Result.SUCCESS, task.error, task.trace, task.output)
