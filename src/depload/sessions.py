"""What loading needs of a Spark session, on each kind of session: classic, and Spark Connect.

The kind is found from the object that is handed over, never from the environment. pyspark is not imported for it: what
is needed of it comes from the session's own package.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from depload.errors import SparkSessionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

Task = Callable[[], "dict[str, Any]"]
"""Runs on a worker and answers in plain data. Pickled by value, so it is a nested function that names no globals."""

_ROUNDS = 8
_HOLD, _LONGEST_HOLD = 0.05, 0.4  # seconds that a task keeps its slot, so that the others go to other slots


class Session(Protocol):
    """A Spark session; nothing is assumed of where its workers are."""

    key: str
    """The application or Connect session: what was sent is there for all of it, and goes with it."""

    def send(self, file: Path) -> None:
        """Put a zip on the path of the workers. ``file`` must stay where it is as long as the session lives."""

    def take_back(self, file: Path) -> None:
        """Workers that start from now on do not get it, where the kind allows."""

    def slots(self) -> dict[str, int]:
        """How many tasks each executor runs at once, by its id; ``""`` for all of them where Spark does not say."""

    def run(self, task: Task, count: int, description: str) -> list[dict[str, Any]]:
        """The answers of ``count`` tasks that start together."""


def session_of(spark: Any) -> Session | None:
    """The session that was handed over: a SparkSession of either kind, a SparkContext, or None for none.

    Raises SparkSessionError where it is something else, or was stopped.
    """
    if spark is None:
        return None
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        return _Connect(spark)
    try:
        context = getattr(spark, "sparkContext", spark)
    except Exception as error:  # a property that some platforms have raise
        raise SparkSessionError(f"the session hides its SparkContext ({_reason(error)})", _USE_CONNECT) from error
    if not hasattr(context, "addPyFile"):
        raise SparkSessionError(
            f"{type(spark).__name__} is not a Spark session", "hand over a SparkSession or a SparkContext"
        )
    if getattr(context, "_jsc", None) is None:
        raise SparkSessionError("the Spark session was stopped", "start a new one")
    return _Classic(context)


def everywhere(session: Session, task: Task, description: str) -> list[dict[str, Any]]:
    """The answer of every Python worker: of each slot of each executor, asked in rounds until all have answered.

    An answer has ``host``, ``executor`` and ``pid``, as ``activation.process`` gives them. Slots that others keep busy,
    or that are fewer than the cores (tasks that need a GPU), cannot all be had: then each executor must have answered,
    and a round must have brought nothing new. Raises SparkSessionError where an executor never does.
    """
    answers: dict[tuple[str, str, int], dict[str, Any]] = {}
    for attempt in range(_ROUNDS):
        slots = session.slots()
        known = len(answers)
        held = _held(task, min(_HOLD * 2**attempt, _LONGEST_HOLD))
        for answer in session.run(held, sum(slots.values()), description):
            answers[answer["host"], answer["executor"], answer["pid"]] = answer
        answered = Counter(executor for _, executor, _ in answers)
        if "" in slots or all(answered[executor] >= count for executor, count in slots.items()):
            break
        if all(answered[executor] for executor in slots) and len(answers) == known:
            break
    if missing := [executor for executor in slots if executor and not answered[executor]]:
        raise SparkSessionError(
            f"no answer from executor {', '.join(missing)}: in {_ROUNDS} rounds none of their slots took a task",
            "load again when the cluster is less busy",
        )
    return [answers[key] for key in sorted(answers)]


def _held(task: Task, seconds: float) -> Task:
    def run() -> dict[str, Any]:
        import time

        answer = task()
        time.sleep(seconds)
        return answer

    return run


def by_source(module: ModuleType, function: str, *arguments: Any) -> Task:
    """A function of a module of ours for workers, which do not have depload: its source travels with the task.

    ``module`` imports nothing but the standard library.
    """
    source = Path(str(module.__file__)).read_text(encoding="utf-8")

    def run() -> dict[str, Any]:
        import types

        made = types.ModuleType("_depload_sent")
        exec(source, made.__dict__)  # noqa: S102 - our own
        answer: dict[str, Any] = getattr(made, function)(*arguments)
        return answer

    return run


_USE_CONNECT = "use a Spark Connect session there"


@contextlib.contextmanager
def _running() -> Iterator[None]:
    """Whatever Spark raises becomes an error of ours: it is a page of Java, with the reason somewhere in it."""
    try:
        yield
    except Exception as error:
        remedy = "the workers must run the driver's Python version, and Spark must be able to start them"
        raise SparkSessionError(f"Spark could not run a task on its workers: {_reason(error)}", remedy) from error


_PYTHON_ERROR = re.compile(r"(?m)^\W*((?!py4j|org\.|java\.|Caused by)[\w.]*(?:Error|Exception): .*)$")


def _reason(error: Exception) -> str:
    """The Python error that a worker raised, out of the stack traces of both languages; else the first line."""
    found = _PYTHON_ERROR.findall(str(error))
    return str(found[-1]) if found else str(error).strip().partition("\n")[0] or type(error).__name__


class _Classic:
    """A SparkContext and its sessions."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.key = str(context.applicationId)

    def send(self, file: Path) -> None:
        self._context.addPyFile(str(file))

    def take_back(self, file: Path) -> None:
        with contextlib.suppress(AttributeError, ValueError):  # SparkContext has no public way to say so
            self._context._python_includes.remove(file.name)
        sys.path[:] = [entry for entry in sys.path if os.path.basename(entry) != file.name]  # noqa: PTH119

    def slots(self) -> dict[str, int]:
        try:
            scala = self._context._jsc.sc()  # the status store has no Python counterpart
            each = max(1, int(self._context.getConf().get("spark.task.cpus", "1")))
            executors = scala.statusStore().executorList(True)  # noqa: FBT003
            rows = [executors.apply(at) for at in range(executors.size())]
            slots = {str(row.id()): int(row.totalCores()) // each for row in rows}
        except Exception:  # noqa: BLE001 - py4j raises its own; some platforms forbid these calls
            slots = {}
        found = {executor: count for executor, count in slots.items() if count}
        return found or {"": max(1, self._context.defaultParallelism)}

    def run(self, task: Task, count: int, description: str) -> list[dict[str, Any]]:
        with self._described(description), _running():
            rdd = self._context.parallelize(range(count), count)
            answers: list[dict[str, Any]] = rdd.map(lambda _: task()).collect()
            return answers

    @contextlib.contextmanager
    def _described(self, text: str) -> Iterator[None]:
        """Name the job in Spark's UI, and leave the thread's description as it was."""
        before = self._context.getLocalProperty("spark.job.description")
        self._context.setLocalProperty("spark.job.description", text)
        try:
            yield
        finally:
            self._context.setLocalProperty("spark.job.description", before)


class _Connect:
    """A Spark Connect session: no SparkContext, no RDDs, and artifacts that belong to this session alone."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._functions = import_module("pyspark.sql.connect.functions")
        self.key = f"connect-{session.session_id}"

    def send(self, file: Path) -> None:
        add = getattr(self._session, "addArtifacts", None) or self._session.addArtifact
        add(str(file), pyfile=True)

    def take_back(self, file: Path) -> None:
        """A Connect session has no way to: what was sent stays until it ends, with no one else to see it."""

    def slots(self) -> dict[str, int]:
        """A range has as many partitions as Spark runs tasks at once (``leafNodeDefaultParallelism``)."""
        ids = self._session.range(0, 1 << 12).select(self._functions.spark_partition_id().alias("id"))
        return {"": ids.agg(self._functions.max("id")).collect()[0][0] + 1}

    def run(self, task: Task, count: int, description: str) -> list[dict[str, Any]]:
        del description  # Connect names its jobs itself

        def answer(_: int) -> str:
            import json

            return json.dumps(task())

        # Not by Arrow, which newer versions take by default: the workers need no pyarrow for this.
        ask = self._functions.udf(answer, "string", useArrow=False)
        with _running():
            rows = self._session.range(0, count, 1, count).select(ask("id")).collect()
        return [json.loads(row[0]) for row in rows]
