"""``depload run``: what is shown while jobs of a bundle run on this machine, and what is written of them."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from depload.errors import DeploadError
from depload.running import rendering
from depload.running.bundle import Bundle, find, render
from depload.running.compute import Compute
from depload.running.runs import run_several

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from depload.running.jobs import Task
    from depload.running.results import JobRun, State

KEPT = "results.json"
"""The file of ``--results`` that has what ``--json`` prints."""


@dataclass(frozen=True)
class Asked:
    """The options of ``depload run``."""

    bundle: Path | None = None
    target: str | None = None
    variables: Sequence[str] = ()
    parameters: Sequence[str] = ()
    concurrent: int = 1
    clusters: int | None = None
    master: str | None = None
    serverless_python: str | None = None
    root: Path | None = None
    results: Path | None = None
    junit: Path | None = None
    secrets: Sequence[str] = ()
    secrets_file: Path | None = None
    retry_wait: float | None = None

    def rendered(self) -> Bundle:
        """The bundle. Raises BundleError, ToolMissingError."""
        return render(self.bundle or find(Path.cwd()), self.target, _pairs("--var", self.variables))


def listing(bundle: Bundle) -> dict[str, Any]:
    """The jobs of a bundle with their tasks; one that cannot run here says why."""
    jobs: dict[str, Any] = {}
    for key in sorted(bundle.jobs):
        about = {"description": bundle.jobs[key].get("description", "")}
        try:
            job = bundle.job(key)
        except DeploadError as error:
            jobs[key] = {**about, "error": str(error)}
        else:
            jobs[key] = {**about, "parameters": dict(job.parameters), "tasks": list(map(_listed, job.tasks))}
    return {"bundle": bundle.name, "target": bundle.target, "jobs": jobs}


def _listed(task: Task) -> dict[str, Any]:
    after = [each.key for each in task.depends_on]
    return {"key": task.key, "kind": type(task.work).__name__, "depends_on": after, "run_if": task.run_if}


def listed_text(listed: Mapping[str, Any]) -> str:
    """The same for a person."""
    lines = []
    for key, job in listed["jobs"].items():
        lines.append(f"{key}: {job['description']}" if job["description"] else key)
        lines += [f"  {task['key']}{_after(task['depends_on'])}" for task in job.get("tasks", ())]
        lines += [f"  {line}" for line in job.get("error", "").splitlines()]
    return "\n".join(lines)


def _after(keys: Sequence[str]) -> str:
    return f"  (after {', '.join(keys)})" if keys else ""


# --- running --------------------------------------------------------------------------------------------------------


def execute(key: str, asked: Asked) -> list[JobRun]:
    """Run a job, as often at once as was asked; what stays is in the directory of --results, if there is one.

    Raises DeploadError where it cannot be run at all.
    """
    bundle = asked.rendered()
    job = bundle.job(key)
    given = spread(asked.parameters, asked.concurrent)
    secrets = _secrets(asked)
    with contextlib.ExitStack() as stack:
        cancel = stack.enter_context(_cancelled_by_signals())
        scratch = stack.enter_context(_temporary())
        results = asked.results or scratch / "results"
        root = asked.root or scratch / "root"
        for folder in (results, root):
            folder.mkdir(parents=True, exist_ok=True)
        with _shown() as show:
            compute = Compute(
                scratch,
                master=asked.master,
                serverless_python=asked.serverless_python,
                clusters=asked.clusters,
                say=show.say,
            )
            with compute:
                runs = run_several(
                    job,
                    given,
                    job_id=bundle.job_id(key),
                    files=bundle,
                    compute=compute,
                    results=results.absolute(),
                    root=root.absolute(),
                    secrets=secrets,
                    watch=show.watch,
                    cancel=cancel,
                    retry_wait=asked.retry_wait,
                )
        _write(asked, runs)
        if asked.results is None:
            _show_logs(runs)
    return runs


def spread(parameters: Sequence[str], count: int) -> list[dict[str, str]]:
    """The parameters of each of ``count`` runs, which get the values of a name that is given several times in turn."""
    values: dict[str, list[str]] = {}
    for each in parameters:
        for name, value in _pairs("--param", [each]).items():
            values.setdefault(name, []).append(value)
    return [{name: given[at % len(given)] for name, given in values.items()} for at in range(count)]


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    found = [each.partition("=") for each in given]
    for name, equals, _ in found:
        if not (name and equals):
            raise click.UsageError(f"{option} takes NAME=VALUE, not {name!r}")
    return {name: value for name, _, value in found}


def _secrets(asked: Asked) -> dict[str, dict[str, str]]:
    """By scope and key: of --secrets, a JSON object of objects, and of --secret scope/key=VALUE."""
    found: dict[str, dict[str, str]] = {}
    if asked.secrets_file:
        try:
            read = json.loads(asked.secrets_file.read_text(encoding="utf-8"))
            found = {scope: {key: str(value) for key, value in keys.items()} for scope, keys in read.items()}
        except (OSError, ValueError, AttributeError):  # what the file holds is in no message
            raise click.UsageError('--secrets takes a JSON file as {"scope": {"key": "value"}}') from None
    for each in asked.secrets:
        where, equals, value = each.partition("=")
        scope, slash, key = where.partition("/")
        if not (scope and slash and key and equals):
            raise click.UsageError("--secret takes SCOPE/KEY=VALUE")
        found.setdefault(scope, {})[key] = value
    return found


@contextlib.contextmanager
def _cancelled_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C or a termination sets, so that every run can end what it has started."""
    cancel = threading.Event()
    before = {each: signal.signal(each, lambda *_: cancel.set()) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    """A directory that goes in the end, whatever happens."""
    path = Path(tempfile.mkdtemp(prefix="depload-run-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write(asked: Asked, runs: Sequence[JobRun]) -> None:
    """The files that were asked for."""
    junit = rendering.junit(runs)
    if asked.junit:
        _put(asked.junit, junit)
    if asked.results:
        _put(asked.results / KEPT, json.dumps(to_json(runs), indent=2))
        _put(asked.results / "junit.xml", junit)


def _put(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DeploadError(f"{file} cannot be written: {error.strerror}; name a file in a directory that is") from error


def _show_logs(runs: Sequence[JobRun]) -> None:
    """Where no log stays, the end of those of tasks that failed is shown."""
    for run in runs:
        for task in run.every:
            if task.log and task.result and not task.result.good:
                click.echo(
                    f"--- run {run.run_id}, {task.key}: the end of its log\n{rendering.tail(task.log)}", err=True
                )


def to_json(runs: Sequence[JobRun]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {"good": all(run.good for run in runs), "runs": [run.to_json() for run in runs]}


# --- what is shown --------------------------------------------------------------------------------------------------


@dataclass
class _Lines:
    """A line on standard error for each change."""

    told: dict[tuple[int, int], tuple[State, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def watch(self, run: JobRun) -> None:
        """Tell of every task that has moved on."""
        with self.lock:
            for top in run.tasks:
                for task in (top, *top.iterations):
                    now = (task.state, task.attempt)
                    if self.told.get((run.run_id, task.run_id), ("blocked", 0)) != now:
                        self.told[run.run_id, task.run_id] = now
                        self.say(rendering.change(run, task, time.time()))


@contextlib.contextmanager
def _shown() -> Iterator[Any]:
    """What is shown while jobs run: a tree that moves on a terminal, lines elsewhere."""
    if sys.stderr.isatty():
        from depload.command.terminal import trees

        with trees() as shown:
            yield shown
    else:
        yield _Lines()
