"""One run of a job on this machine, and several at once."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depload.errors import Fault, JobDefinitionError
from depload.running import processes, references
from depload.running.addresses import Addresses
from depload.running.jobs import Notebook, Script, nested
from depload.running.processes import Files, Processes
from depload.running.results import JobRun
from depload.running.scheduler import Scheduler, of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from depload.running.compute import Compute
    from depload.running.jobs import Job
    from depload.running.utilities import Secrets

__all__ = ["Files", "Place", "run", "run_several"]

_POLL = 0.05  # seconds between two looks at timeouts and retries


@dataclass(frozen=True)
class Place:
    """The directories of one run."""

    results: Path
    """What stays: a log for each attempt, ``<task>[.attempt].log``."""
    scratch: Path
    """What does not: temporary files of the tasks, their libraries, and task values below ``values``."""
    root: Path | None = None
    """Where ``/Volumes/`` and ``dbfs:/`` lie; None leaves such addresses to the tasks as they are."""


def run(
    job: Job,
    *,
    run_id: int,
    files: Files,
    place: Place,
    compute: Compute,
    parameters: Mapping[str, str] | None = None,
    job_id: int = 1,
    environment: Mapping[str, str] | None = None,
    secrets: Secrets | None = None,
    watch: Callable[[JobRun], None] = lambda _: None,
    cancel: threading.Event | None = None,
    retry_wait: float | None = None,
    earlier: JobRun | None = None,
    rerun: Collection[str] = (),
) -> JobRun:
    """Run a job to its end; a task that fails is in what is returned, and raises nothing.

    ``parameters`` are job parameters, over the job's defaults; ``environment`` are more variables for each task's
    process; ``watch`` is called with the run at each change, in this thread. Once ``cancel`` is set, everything is
    stopped, and the result is canceled. ``retry_wait`` is seconds between attempts, in place of what the job says.
    A repair is given the ``earlier`` run and the keys of the tasks to ``rerun``; the others keep what they have.

    Raises JobDefinitionError where a file that a task names is not there, and ToolMissingError where this machine lacks
    what its compute needs; both before anything is started.
    """
    compute.check(job)
    if faults := list(_missing(job, files)):
        raise JobDefinitionError(job.name, faults)
    place.results.mkdir(parents=True, exist_ok=True)
    place.scratch.mkdir(parents=True, exist_ok=True)
    repairs = earlier.repair_count + 1 if earlier else 0
    bare = JobRun(job.name, job_id, run_id, {}, repair_count=repairs)
    known = processes.parameters_of(job.parameters, parameters or {}, of_run(bare, time.time()))
    fresh = JobRun(job.name, job_id, run_id, known, repair_count=repairs)
    changed = threading.Event()
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(compute.of_run(job, run_id, scratch=place.scratch, secrets=secrets or {}))
        attempts = Processes(
            job=job,
            compute=own,
            files=files,
            logs=place.results,
            scratch=place.scratch,
            addresses=Addresses(place.root),
            parameters=known,
            environment=environment or {},
            secrets=secrets or {},
            changed=changed.set,
        )
        stack.callback(attempts.close)
        values = processes.read_values(place.scratch / "values")
        scheduler = Scheduler(
            job,
            fresh,
            attempts,
            clock=time.time,
            values=values,
            retry_wait=retry_wait,
            earlier=earlier,
            rerun=rerun,
        )
        _drive(scheduler, changed, cancel or threading.Event(), watch)
        return scheduler.snapshot()


def _drive(
    scheduler: Scheduler, changed: threading.Event, cancel: threading.Event, watch: Callable[[JobRun], None]
) -> None:
    while not scheduler.done:
        if cancel.is_set():
            scheduler.cancel()
        if scheduler.step():
            watch(scheduler.snapshot())
        if not scheduler.done:
            changed.wait(_POLL)
            changed.clear()
    watch(scheduler.snapshot())


def _missing(job: Job, files: Files) -> Iterator[Fault]:
    """Files of tasks that are not there; a path with a reference in it is known only when the task runs."""
    for task in job.tasks:
        work = nested(task).work
        if isinstance(work, (Notebook, Script)) and references.BEGIN not in work.path:
            try:
                files.local(work.path)
            except FileNotFoundError:
                yield Fault(f"task {nested(task).key}", f"there is no file {work.path}")


# --- several at once ------------------------------------------------------------------------------------------------


def run_several(
    job: Job,
    given: Sequence[Mapping[str, str]],
    *,
    files: Files,
    compute: Compute,
    results: Path,
    root: Path,
    job_id: int = 1,
    secrets: Secrets | None = None,
    watch: Callable[[JobRun], None] = lambda _: None,
    cancel: threading.Event | None = None,
    retry_wait: float | None = None,
) -> list[JobRun]:
    """Runs of one job at the same time, as many as the job allows: one for each set of parameters in ``given``.

    Logs go to ``<results>/<run id>/``. Once ``cancel`` is set, all of them are cancelled.
    """
    stop, turns = cancel or threading.Event(), threading.BoundedSemaphore(job.most_at_once)
    done: dict[int, JobRun] = {}
    faults: list[BaseException] = []
    first = int(time.time() * 1000)

    def one(at: int) -> None:
        with turns, _scratch() as scratch:
            try:
                done[at] = run(
                    job,
                    run_id=first + at,
                    job_id=job_id,
                    files=files,
                    place=Place(results / str(first + at), scratch, root),
                    compute=compute,
                    parameters=given[at],
                    secrets=secrets,
                    watch=watch,
                    cancel=stop,
                    retry_wait=retry_wait,
                )
            except BaseException as error:  # noqa: BLE001 - it is raised below, in the thread that asked
                faults.append(error)
                stop.set()

    threads = [threading.Thread(target=one, args=(at,), name=f"run {at}") for at in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return [done[at] for at in sorted(done)]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A directory that goes in the end, even where a process that was killed is still writing to it."""
    path = Path(tempfile.mkdtemp(prefix="depload-run-"))
    try:
        yield path
    finally:
        for _ in range(5):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
            time.sleep(0.2)
