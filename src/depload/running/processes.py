"""The attempts of a run as processes: each in a group of its own, with a log of its own, and none outlives the run."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from depload.databricks.values import DIRECTORY, TASK
from depload.errors import DeploadError
from depload.local.servers import Process
from depload.running import handover, installation, references
from depload.running.compute import Cancelled
from depload.running.handover import Order
from depload.running.jobs import Notebook, Script, Serverless, Wheel, nested
from depload.running.results import Ended
from depload.running.scheduler import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from depload.running.addresses import Addresses
    from depload.running.compute import OfRun
    from depload.running.jobs import Job, Where
    from depload.running.scheduler import Attempt
    from depload.running.utilities import Secrets

_GRACE = 5.0  # seconds that a task which is stopped has to end by itself
_TAIL = 3000  # characters of a log that are told where there is nothing better


class Files(Protocol):
    """Where the files that a job names are on this machine: notebooks, Python files, wheels, lists of requirements."""

    def local(self, path: str) -> Path:
        """The file. Raises FileNotFoundError."""


@dataclass
class _Try:
    """One attempt: a thread that waits for its compute, starts its process and waits for its end."""

    attempt: Attempt
    log: Path
    stopped: threading.Event = field(default_factory=threading.Event)
    since: float | None = None
    ended: Ended | None = None
    thread: threading.Thread | None = None


@dataclass
class Processes:
    """Starts, watches and stops attempts for a scheduler."""

    job: Job
    compute: OfRun
    files: Files
    logs: Path
    scratch: Path
    addresses: Addresses
    parameters: Mapping[str, str]
    environment: Mapping[str, str]
    secrets: Secrets
    changed: Callable[[], None]

    def __post_init__(self) -> None:
        self._tries: dict[tuple[int, int], _Try] = {}
        self._installing = threading.Lock()
        for name in ("values", "tmp", "answers", "libraries"):
            (self.scratch / name).mkdir(parents=True, exist_ok=True)

    # --- what a scheduler asks for ---

    def start(self, attempt: Attempt) -> Path:
        """Begin it, in a thread of its own."""
        suffix = f".{attempt.number}" if attempt.number else ""
        one = _Try(attempt, self.logs / f"{attempt.key}{suffix}.log")
        one.thread = threading.Thread(target=self._run, args=(one,), name=f"task {attempt.key}", daemon=True)
        self._tries[attempt.run_id, attempt.number] = one
        one.thread.start()
        return one.log

    def progress(self, attempt: Attempt) -> Progress:
        """How far it is."""
        one = self._tries[attempt.run_id, attempt.number]
        return Progress(one.since, one.ended)

    def stop(self, attempt: Attempt) -> None:
        """Have its process killed, with all that it has started."""
        self._tries[attempt.run_id, attempt.number].stopped.set()

    def close(self) -> None:
        """Stop whatever is left, and wait for it."""
        for one in self._tries.values():
            one.stopped.set()
        for one in self._tries.values():
            if one.thread:
                one.thread.join()

    # --- one attempt, in its thread ---

    def _run(self, one: _Try) -> None:
        try:
            ended = self._attempted(one)
        except Cancelled:
            ended = Ended(good=False, error="canceled")
        except (DeploadError, OSError) as error:
            ended = Ended(good=False, error=f"{type(error).__name__}: {error}")
            self._note(one, ended.error)
        except Exception as error:  # noqa: BLE001 - a thread that died would leave the run waiting forever
            ended = Ended(good=False, error=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
            self._note(one, ended.trace)
        one.ended = ended
        self.changed()

    def _attempted(self, one: _Try) -> Ended:
        attempt = one.attempt
        one.log.touch()
        libraries = self._libraries(attempt.task.on)
        ready = self.compute.ready(attempt.task.on, libraries, one.stopped)
        answer = self.scratch / "answers" / f"{attempt.run_id}.{attempt.number}.json"
        order = self._order(attempt).other(session=ready.session, answer=str(answer))
        environment = {
            **ready.environment,
            **self.environment,
            DIRECTORY: str(self.scratch / "values"),
            TASK: attempt.key,
            "TMPDIR": str(self.scratch / "tmp"),
            "PYTHONUNBUFFERED": "1",
        }
        command = [ready.python, "-m", handover.MODULE]
        process = Process(command, place=self.scratch / "tmp", log=one.log, environment=environment, guarded=False)
        one.since = time.time()
        self.changed()
        try:
            process.tell(order.text())
            while (code := process.wait(0.05)) is None and not one.stopped.is_set():
                pass
        finally:
            process.stop(_GRACE)
        return handover.answered(answer) or _silent(one.log, code)

    def _note(self, one: _Try, text: str) -> None:
        with contextlib.suppress(OSError), one.log.open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")

    def _libraries(self, on: Where | None) -> Path | None:
        """The directory with what is listed for compute, installed once; a cluster's are for all of its tasks."""
        wanted = installation.others(on.dependencies if isinstance(on, Serverless) else self._of_cluster(on))
        if not wanted:
            return None
        python = self.compute.interpreter(on)
        with self._installing:
            name = f"{abs(hash((python, wanted))):x}"
            return installation.install(wanted, python, self.scratch / "libraries" / name, self.files.local)

    def _of_cluster(self, on: Where | None) -> list[str]:
        tasks = map(nested, self.job.tasks)
        return [library for task in tasks if task.on == on for library in task.libraries]

    # --- what it is told ---

    def _order(self, attempt: Attempt) -> Order:
        """What the task's process is to do, with every reference filled in that is known."""
        common = Order(
            kind="wheel",
            name="",
            values=str(self.scratch / "values"),
            task=attempt.key,
            secrets=self.secrets,
            root=str(self.addresses.root) if self.addresses.root else None,
        )

        def given(text: str) -> str:
            return self.addresses.parameter(references.fill(text, attempt.scope))

        # Databricks pushes job parameters down to tasks that take names and values, where they come first.
        pushed = {name: self.addresses.parameter(value) for name, value in self.parameters.items()}
        work = attempt.task.work
        if isinstance(work, Notebook):
            widgets = {**{name: given(value) for name, value in work.parameters.items()}, **pushed}
            return common.other(kind="notebook", name=str(self._local(work.path, attempt)), widgets=widgets)
        if isinstance(work, Script):
            file = str(self._local(work.path, attempt))
            return common.other(kind="script", name=file, arguments=tuple(map(given, work.parameters)))
        if not isinstance(work, Wheel):
            raise TypeError(type(work).__name__)
        arguments = tuple(map(given, work.parameters))
        if work.named is not None:
            named = {**{name: given(value) for name, value in work.named.items()}, **pushed}
            arguments = tuple(f"--{name}={value}" for name, value in named.items())
        return common.other(kind="wheel", name=work.package, entry_point=work.entry_point, arguments=arguments)

    def _local(self, path: str, attempt: Attempt) -> Path:
        return self.files.local(references.fill(path, attempt.scope)).absolute()


def _silent(log: Path, code: int | None) -> Ended:
    """What is known of a process that left no answer."""
    how = "it was stopped" if code is None else f"its process ended with code {code} before it could say why"
    said = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
    return Ended(good=False, error=how, trace=said)


def parameters_of(defaults: Mapping[str, str], given: Mapping[str, str], facts: Mapping[str, str]) -> dict[str, str]:
    """The job parameters of a run: the defaults, which may hold references, and what it was given."""
    scope = references.Scope(facts)
    return {name: references.fill(value, scope) for name, value in {**defaults, **given}.items()}


def read_values(directory: Path) -> Callable[[str, str], object]:
    """What reads a task value of a run, by task and key; it raises KeyError."""

    def read(task: str, key: str) -> object:
        from depload.databricks.values import FileTaskValues

        try:
            return json.loads(json.dumps(FileTaskValues(directory, "").get(task, key)))
        except ValueError as error:
            raise KeyError(key) from error

    return read
