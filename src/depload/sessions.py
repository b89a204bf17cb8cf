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
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from depload.errors import SparkSessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Task = Callable[[Any], "list[dict[str, Any]]"]
"""Runs on a worker: takes the rows of a partition, answers in plain data. Pickled by value, so it names no globals."""


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

    def run(self, task: Task, count: int, description: str) -> Iterable[dict[str, Any]]:
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

    def run(self, task: Task, count: int, description: str) -> Iterable[dict[str, Any]]:
        with self._described(description), _running():
            rows: list[dict[str, Any]] = self._context.parallelize(range(count), count).mapPartitions(task).collect()
            return rows

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

    def run(self, task: Task, count: int, description: str) -> Iterable[dict[str, Any]]:
        del description  # Connect names its jobs itself

        def answer(_: int) -> str:
            import json

            return json.dumps(task([])[0])

        # Not by Arrow, which newer versions take by default: the workers need no pyarrow for this.
        ask = self._functions.udf(answer, "string", useArrow=False)
        with _running():
            rows = self._session.range(0, count, 1, count).select(ask("id")).collect()
        return [json.loads(row[0]) for row in rows]
