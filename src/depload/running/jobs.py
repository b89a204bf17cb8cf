"""A job as records: the settings of the Jobs API 2.2, of which everything that cannot be run here is named at once."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from depload.errors import Fault, JobDefinitionError
from depload.running import references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Settings = Mapping[str, Any]

RUN_IF = ("ALL_SUCCESS", "AT_LEAST_ONE_SUCCESS", "NONE_FAILED", "ALL_DONE", "AT_LEAST_ONE_FAILED", "ALL_FAILED")
OPERATORS = (
    "EQUAL_TO",
    "NOT_EQUAL",
    "GREATER_THAN",
    "GREATER_THAN_OR_EQUAL",
    "LESS_THAN",
    "LESS_THAN_OR_EQUAL",
)
_STANDARD = ("USER_ISOLATION", "DATA_SECURITY_MODE_STANDARD")
_MOST_AT_ONCE = 100
_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")


# --- what a task runs on --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cluster:
    """A job cluster, or the new cluster of one task."""

    key: str
    workers: int
    standard: bool
    """Standard access mode, where sessions are Spark Connect sessions."""
    conf: Mapping[str, str]
    variables: Mapping[str, str]
    """``spark_env_vars``, which may hold ``{{secrets/scope/key}}``."""


@dataclass(frozen=True)
class Serverless:
    """Serverless compute with an environment of packages."""

    key: str
    dependencies: tuple[str, ...] = ()


Where = Cluster | Serverless


# --- what a task does -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wheel:
    """``python_wheel_task``: an entry point of an installed package."""

    package: str
    entry_point: str
    parameters: tuple[str, ...]
    named: Mapping[str, str] | None
    """``named_parameters``; job parameters are pushed down to them, not to a list."""


@dataclass(frozen=True)
class Notebook:
    """``notebook_task``: a notebook, whose widgets get the parameters."""

    path: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Script:
    """``spark_python_task``: a Python file."""

    path: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """``condition_task``: compares two texts; it needs no compute."""

    operator: str
    left: str
    right: str


@dataclass(frozen=True)
class ForEach:
    """``for_each_task``: runs another task for each input."""

    inputs: str
    concurrency: int
    task: Task


Work = Wheel | Notebook | Script | Condition | ForEach


# --- tasks and jobs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dependency:
    """A task to wait for; ``outcome`` is what a condition task must have found, ``true`` or ``false``."""

    key: str
    outcome: str | None = None


@dataclass(frozen=True)
class Task:
    """One task of a job."""

    key: str
    work: Work
    on: Where | None = None
    """None where it needs no compute."""
    libraries: tuple[str, ...] = ()
    """Requirements and paths of wheels, installed for this task."""
    depends_on: tuple[Dependency, ...] = ()
    run_if: str = "ALL_SUCCESS"
    retries: int = 0
    """How often it is tried again; -1 is without end."""
    retry_wait: float = 0.0
    """Seconds between the start of one attempt and that of the next, at least."""
    retry_on_timeout: bool = False
    timeout: float = 0.0
    """Seconds that an attempt may take; 0 is without end."""
    disabled: bool = False


@dataclass(frozen=True)
class Job:
    """A job as it would be deployed."""

    name: str
    tasks: tuple[Task, ...]
    parameters: Mapping[str, str] = field(default_factory=dict)
    """The defaults, which may hold references."""
    timeout: float = 0.0
    most_at_once: int = 1
    """``max_concurrent_runs``."""

    @classmethod
    def of(cls, settings: Settings) -> Job:
        """The job of Jobs API 2.2 settings. Raises JobDefinitionError with every fault at once."""
        name = str(settings.get("name", "Untitled"))
        try:
            reading = _Reading(settings)
            job = cls(
                name=name,
                tasks=tuple(reading.task(each) for each in _records(settings, "tasks")),
                parameters={each["name"]: str(each.get("default", "")) for each in _records(settings, "parameters")},
                timeout=float(settings.get("timeout_seconds") or 0),
                most_at_once=int(settings.get("max_concurrent_runs") or 1),
            )
        except KeyError as error:
            raise JobDefinitionError(name, [Fault(str(error), "is missing where the Jobs API needs it")]) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise JobDefinitionError(name, [Fault("settings", f"are none of the Jobs API 2.2: {error}")]) from error
        if faults := [*reading.faults, *_graph(job), *_references(settings)]:
            raise JobDefinitionError(name, faults)
        return job

    @property
    def compute(self) -> tuple[Where, ...]:
        """What its tasks run on, each once."""
        found: dict[str, Where] = {}
        for task in self.tasks:
            on = task.work.task.on if isinstance(task.work, ForEach) else task.on
            if on is not None:
                found.setdefault(f"{type(on).__name__} {on.key}", on)
        return tuple(found.values())


def nested(task: Task) -> Task:
    """The task that a for-each repeats; any other is itself."""
    return task.work.task if isinstance(task.work, ForEach) else task


# --- reading --------------------------------------------------------------------------------------------------------


class _Reading:
    """Turns settings into records, and keeps what is wrong with them."""

    def __init__(self, settings: Settings) -> None:
        self.faults: list[Fault] = []
        self._clusters = {each["job_cluster_key"]: each["new_cluster"] for each in _records(settings, "job_clusters")}
        self._environments = {each["environment_key"]: each for each in _records(settings, "environments")}

    def task(self, given: Settings, *, within: bool = False) -> Task:
        """One task; ``within`` a for-each there may be no other one, and no condition."""
        key = str(given.get("task_key", ""))
        if not _KEY.fullmatch(key):
            self._fault(key, "a task_key has 1 to 100 letters, digits, _ and -")
        work = self._work(key, given, within=within)
        if (run_if := given.get("run_if") or "ALL_SUCCESS") not in RUN_IF:
            self._fault(key, f"run_if is {run_if!r}; it is one of {', '.join(RUN_IF)}")
        return Task(
            key=key,
            work=work,
            on=self._on(key, given, work),
            libraries=tuple(self._libraries(key, given)),
            depends_on=tuple(
                Dependency(each["task_key"], each.get("outcome")) for each in _records(given, "depends_on")
            ),
            run_if=run_if,
            retries=int(given.get("max_retries") or 0),
            retry_wait=float(given.get("min_retry_interval_millis") or 0) / 1000,
            retry_on_timeout=bool(given.get("retry_on_timeout")),
            timeout=float(given.get("timeout_seconds") or 0),
            disabled=bool(given.get("disabled")),
        )

    def _work(self, key: str, given: Settings, *, within: bool) -> Work:
        readers: dict[str, Callable[[str, Settings], Work]] = {
            "python_wheel_task": self._wheel,
            "notebook_task": self._notebook,
            "spark_python_task": self._script,
            **({} if within else {"condition_task": self._condition, "for_each_task": self._for_each}),
        }
        kinds = [name for name in given if name.endswith("_task") or name == "clean_rooms_notebook_task"]
        known = [name for name in kinds if name in readers]
        if len(kinds) != 1 or not known:
            unknown = [name for name in kinds if name not in readers]
            why = f"{unknown[0]} does not run on this machine" if unknown else f"it has {len(kinds)} kinds of task"
            self._fault(key, f"{why}; {', '.join(readers)} do, one for each task")
            return Script("", ())
        return readers[known[0]](key, given[known[0]])

    def _wheel(self, key: str, given: Settings) -> Wheel:
        self._need(key, given, "package_name", "entry_point")
        named = given.get("named_parameters")
        if named and given.get("parameters"):
            self._fault(key, "has parameters and named_parameters; a python_wheel_task takes one of them")
        listed = tuple(map(str, given.get("parameters") or ()))
        if named is None and not listed:
            named = {}
        return Wheel(str(given.get("package_name")), str(given.get("entry_point")), listed, _texts(named))

    def _notebook(self, key: str, given: Settings) -> Notebook:
        self._need(key, given, "notebook_path")
        if given.get("source") == "GIT":
            self._fault(key, "its notebook is in a git repository; run the job from a bundle that has it")
        return Notebook(str(given.get("notebook_path")), _texts(given.get("base_parameters")) or {})

    def _script(self, key: str, given: Settings) -> Script:
        self._need(key, given, "python_file")
        return Script(str(given.get("python_file")), tuple(map(str, given.get("parameters") or ())))

    def _condition(self, key: str, given: Settings) -> Condition:
        self._need(key, given, "op", "left", "right")
        if (operator := given.get("op")) not in OPERATORS:
            self._fault(key, f"op is {operator!r}; it is one of {', '.join(OPERATORS)}")
        return Condition(str(operator), str(given.get("left")), str(given.get("right")))

    def _for_each(self, key: str, given: Settings) -> ForEach:
        self._need(key, given, "inputs", "task")
        concurrency = int(given.get("concurrency") or 1)
        if not 1 <= concurrency <= _MOST_AT_ONCE:
            self._fault(key, f"concurrency is {concurrency}; it is 1 to {_MOST_AT_ONCE}")
        inputs = str(given.get("inputs", ""))
        if references.BEGIN not in inputs:
            try:
                references.items(inputs)
            except ValueError as error:
                self._fault(key, f"inputs: {error}")
        return ForEach(inputs, concurrency, self.task(given.get("task") or {}, within=True))

    def _on(self, key: str, given: Settings, work: Work) -> Where | None:
        if isinstance(work, (Condition, ForEach)):
            return None
        if cluster := given.get("job_cluster_key"):
            if cluster not in self._clusters:
                self._fault(key, f"there is no job cluster {cluster!r}")
            return _cluster(cluster, self._clusters.get(cluster, {}))
        if given.get("new_cluster"):
            return _cluster(f"{key}-cluster", given["new_cluster"])
        if given.get("existing_cluster_id"):
            self._fault(key, "existing_cluster_id names a cluster of a workspace; give it a job cluster")
        environment = given.get("environment_key")
        if environment and environment not in self._environments:
            self._fault(key, f"there is no environment {environment!r}")
        if not environment and not isinstance(work, Notebook):
            self._fault(key, "has neither a job_cluster_key nor an environment_key")
        spec = self._environments.get(environment, {}).get("spec") or {}
        return Serverless(environment or "", tuple(spec.get("dependencies") or ()))

    def _libraries(self, key: str, given: Settings) -> Iterator[str]:
        for library in _records(given, "libraries"):
            if "pypi" in library:
                yield str(library["pypi"]["package"])
            elif "whl" in library or "requirements" in library:
                yield str(library.get("whl") or f"-r {library['requirements']}")
            else:
                self._fault(key, f"libraries: {', '.join(library)} cannot be installed on this machine")

    def _need(self, key: str, given: Settings, *names: str) -> None:
        for name in names:
            if given.get(name) in (None, ""):
                self._fault(key, f"has no {name}")

    def _fault(self, key: str, what: str) -> None:
        self.faults.append(Fault(f"task {key}", what))


def _cluster(key: str, spec: Settings) -> Cluster:
    scale = spec.get("autoscale") or {}
    return Cluster(
        key=key,
        workers=int(scale.get("min_workers") or spec.get("num_workers") or 0),
        standard=spec.get("data_security_mode") in _STANDARD,
        conf=_texts(spec.get("spark_conf")) or {},
        variables=_texts(spec.get("spark_env_vars")) or {},
    )


def _records(given: Settings, name: str) -> Sequence[Settings]:
    return given.get(name) or ()


def _texts(given: Settings | None) -> dict[str, str] | None:
    """As the API takes them: a value that is no text is its JSON."""
    if given is None:
        return None
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


# --- what only the whole shows --------------------------------------------------------------------------------------


def _graph(job: Job) -> Iterator[Fault]:
    """Keys that are there twice, dependencies on what is not there, circles."""
    keys = [task.key for task in job.tasks]
    keys += [nested(task).key for task in job.tasks if nested(task) is not task]
    for key, count in Counter(keys).items():
        if count > 1:
            yield Fault(f"task {key}", f"{count} tasks have this key")
    if not keys:
        yield Fault("tasks", "there are none")
    outer = {task.key: task for task in job.tasks}
    for task in job.tasks:
        for dependency in task.depends_on:
            yield from _dependency(task, dependency, outer)
    try:
        TopologicalSorter({task.key: [each.key for each in task.depends_on] for task in job.tasks}).prepare()
    except CycleError as error:
        yield Fault("depends_on", f"goes in a circle: {' -> '.join(reversed(error.args[1]))}")


def _dependency(task: Task, dependency: Dependency, tasks: Mapping[str, Task]) -> Iterator[Fault]:
    upstream = tasks.get(dependency.key)
    if upstream is None:
        yield Fault(f"task {task.key}", f"depends on {dependency.key!r}, and there is no such task")
    elif dependency.outcome is not None:
        if not isinstance(upstream.work, Condition):
            yield Fault(f"task {task.key}", f"waits for an outcome of {dependency.key}, which is no condition task")
        elif dependency.outcome not in ("true", "false"):
            yield Fault(f"task {task.key}", f"waits for the outcome {dependency.outcome!r}; it is true or false")


def _references(settings: Settings) -> Iterator[Fault]:
    """References below ``job.`` and ``task.`` that Databricks does not have; it refuses these, and no others."""
    for name in sorted(references.misspelt(json.dumps(dict(settings), default=str))):
        yield Fault(f"{{{{{name}}}}}", f"is no reference; {references.KNOWN}")
