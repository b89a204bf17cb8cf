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
from inspect import signature
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from depload.errors import SparkSessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

Task = Callable[[], "dict[str, Any]"]
"""Runs on a worker and answers in plain data. Pickled by value, so it is a nested function that names no globals."""

Run = Callable[[Task, int, str], "list[dict[str, Any]]"]
"""Runs a task so many times at once, with a description for Spark's UI; returns the answers."""

_ROUNDS = 8
_HOLD, _LONGEST_HOLD = 0.05, 0.4  # seconds that a task keeps its slot, so that the others go to other slots


class Session(Protocol):
    """A Spark session; nothing is assumed of where its workers are."""

    key: str
    """Names the session."""
    shared_key: str
    """Names what shares its Python workers and what is sent to them: the application, or the Connect session."""

    def keep(self) -> Path | None:
        """Where a file must lie when it is sent; None where it is copied away at once.

        Spark's file server hands out the file itself, to every executor that comes, for as long as the application
        lives. That can be longer than this process: the tasks of a Databricks job cluster share one application.
        """

    reads_uris: bool
    """Whether Spark itself fetches what is sent by an address of one of its file systems."""

    def send(self, file: str) -> None:
        """Put a zip on the path of the workers: a file of this machine, or an address where ``reads_uris`` says so."""

    def send_aside(self, file: str) -> None:
        """Give the workers a file, executable, that is on nobody's path."""

    def take_back(self, name: str) -> bool:
        """Whether functions that are made from now on no longer have the zip: not every kind of session allows it."""

    def use_python(self, path: str) -> Callable[[], None]:
        """Run this session's functions in workers that ``path`` starts, a file as the workers see it.

        Returns what undoes it.
        """

    def slots(self) -> dict[str, int]:
        """How many tasks each executor runs at once, by its id; ``""`` for all of them where Spark does not say."""

    def pools(self) -> list[Run]:
        """What runs tasks: one for each pool of Python workers that the session may have used by now."""


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
        raise SparkSessionError(f"the session hides its SparkContext ({reason(error)})", _USE_CONNECT) from error
    if not hasattr(context, "addPyFile"):
        raise SparkSessionError(
            f"{type(spark).__name__} is not a Spark session", "hand over a SparkSession or a SparkContext"
        )
    if getattr(context, "_jsc", None) is None:
        raise SparkSessionError("the Spark session was stopped", "start a new one")
    return _Context(context) if context is spark else _Classic(spark, context)


def everywhere(session: Session, task: Task, description: str) -> list[dict[str, Any]]:
    """The answer of every Python worker: of each slot of each executor, asked in rounds until all have answered.

    An answer has ``host``, ``executor`` and ``pid``, as ``activation.process`` gives them. Slots that others keep busy,
    or that are fewer than the cores (tasks that need a GPU), cannot all be had: then each executor must have answered,
    and a round must have brought nothing new. Raises SparkSessionError where an executor never does.
    """
    answers = [answer for run in session.pools() for answer in _everywhere(session, run, task, description)]
    return sorted(answers, key=itemgetter("host", "executor", "pid"))


def _everywhere(session: Session, run: Run, task: Task, description: str) -> Iterable[dict[str, Any]]:
    answers: dict[tuple[str, str, int], dict[str, Any]] = {}
    for attempt in range(_ROUNDS):
        slots = session.slots()
        known = len(answers)
        held = _held(task, min(_HOLD * 2**attempt, _LONGEST_HOLD))
        for answer in run(held, sum(slots.values()), description):
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
    return answers.values()


def somewhere(session: Session, task: Task, description: str) -> list[dict[str, Any]]:
    """The answers of as many workers as one round reaches."""
    return session.pools()[0](task, sum(session.slots().values()), description)


def _held(task: Task, seconds: float) -> Task:
    def run() -> dict[str, Any]:
        import time

        until = time.monotonic() + seconds
        answer = task()
        time.sleep(max(0.0, until - time.monotonic()))
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
def _running(
    what: str = "run a task on its workers",
    remedy: str = "the workers must run the driver's Python version, and Spark must be able to start them",
) -> Iterator[None]:
    """Whatever Spark raises becomes an error of ours: it is a page of Java, with the reason somewhere in it."""
    try:
        yield
    except Exception as error:
        why = reason(error)
        mend = _room(str(error)) if _FULL_DISK.search(why) else remedy
        raise SparkSessionError(f"Spark could not {what}: {why}", mend) from error


_SENDING = "send a file to its workers", "see whether Spark can read it where it lies"
_PYTHON_ERROR = re.compile(r"(?m)^\W*((?!py4j|(?:com|io|javax?|org|scala)\.|Caused by)[\w.]*(?:Error|Exception): .*)$")
_JAVA_ERROR = re.compile(r"(?m)^.*(?<![\w.$])((?:[a-z]\w*\.)+[A-Z][\w$]*(?:Error|Exception): .+)$")
_FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded")  # ENOSPC, EDQUOT
_LOST_TASK = re.compile(r"Lost task [\d.]+ in stage [\d.]+ \(TID \d+\) \((\S+) executor (\w+)\)")


def reason(error: Exception) -> str:
    """The Python error that a worker raised, out of the stack traces of both languages.

    Where there is none, the cause that Java names last, as the one that says most of it puts it; else the first line.
    """
    text = str(error)
    if found := _PYTHON_ERROR.findall(text):
        return str(found[-1])
    if found := _JAVA_ERROR.findall(text):
        message = found[-1].partition(": ")[2]
        return str(max((each for each in found if each.endswith(message)), key=len))
    return text.strip().partition("\n")[0] or type(error).__name__


def _room(text: str) -> str:
    """Which disk is to be freed: the one of the executor that lost its task, else the driver's."""
    found = _LOST_TASK.findall(text)
    host, executor = found[-1] if found else ("", "driver")
    whose = "the driver" if executor == "driver" else f"host {host}, on which executor {executor} ran,"
    return (
        f"{whose} has a full disk: free space there, or give Spark a larger one for what it keeps meanwhile "
        "(spark.local.dir, or what the cluster manager sets in its place; TMPDIR)"
    )


_PYTHON = "spark.sql.execution.pyspark.python"
"""A session's own Python (SQLConf.PYSPARK_WORKER_PYTHON_EXECUTABLE); it wins over what a function brings along."""


class _Context:
    """A SparkContext, handed over as it is: what is asked of it counts for all that is run with it."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.key = self.shared_key = str(context.applicationId)
        self.reads_uris = True

    def keep(self) -> Path | None:
        """This process's own directory that the JVM removes when it ends (SparkContext._do_init)."""
        made = getattr(self._context, "_temp_dir", None)
        return Path(made) if made else None

    def send(self, file: str) -> None:
        with _running(*_SENDING):
            self._context.addPyFile(file)

    def send_aside(self, file: str) -> None:
        with _running(*_SENDING):
            self._context.addFile(file)  # executors make what they fetch executable (Utils.fetchFile)

    def take_back(self, name: str) -> bool:
        with contextlib.suppress(AttributeError, ValueError):  # SparkContext has no public way to say so
            self._context._python_includes.remove(name)
        sys.path[:] = [entry for entry in sys.path if os.path.basename(entry) != name]  # noqa: PTH119
        return True

    def use_python(self, path: str) -> Callable[[], None]:
        before, self._context.pythonExec = self._context.pythonExec, path

        def undo() -> None:
            self._context.pythonExec = before

        return undo

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

    def pools(self) -> list[Run]:
        return [self._run_as_rdd]

    def _run_as_rdd(self, task: Task, count: int, description: str) -> list[dict[str, Any]]:
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


class _Classic(_Context):
    """A SparkSession with a SparkContext, which it may share with other sessions."""

    def __init__(self, session: Any, context: Any) -> None:
        super().__init__(context)
        self._session = session
        self.key = f"{self.shared_key}-{session._jsparkSession.hashCode()}"
        self._own_python = False

    def use_python(self, path: str) -> Callable[[], None]:
        """For this session alone: its conf, and a SparkContext object of its own for its RDD functions.

        That object shares all that matters, the Java context included; only ``pythonExec`` differs, which each function
        takes along from it.
        """
        restore = _set_conf(self._session, path)
        session, outer = self._session, self._session._sc
        session._sc = _with_python(outer, path)
        # A session made from this one is not this one.
        session.newSession = lambda: type(session)(outer, session._jsparkSession.newSession())
        self._own_python = True

        def undo() -> None:
            restore()
            session._sc = outer
            del session.newSession
            self._own_python = False

        return undo

    def pools(self) -> list[Run]:
        """RDD functions and SQL functions have workers of their own: Spark gives them other environment variables.

        The first SQL of an application takes seconds, so that pool is asked only where it is the session's own, or
        where SQL was used before.
        """
        if self._own_python:
            return [self._run_as_udf]
        return [self._run_as_rdd, self._run_as_udf] if self._sql_was_used() else [self._run_as_rdd]

    def _sql_was_used(self) -> bool:
        try:
            return int(self._session._jsparkSession.sharedState().statusStore().executionsCount()) > 0
        except Exception:  # noqa: BLE001 - py4j raises its own; some platforms forbid these calls
            return True

    def _run_as_udf(self, task: Task, count: int, description: str) -> list[dict[str, Any]]:
        with self._described(description):
            return _run_as_udf(self._session, import_module("pyspark.sql.functions"), task, count)


def _with_python(context: Any, path: str) -> Any:
    """A SparkContext object beside ``context`` that shares all it has, but gives RDD functions another Python.

    SQL functions take theirs from the context of the application's first session, whichever session runs them
    (UserDefinedFunction._create_judf), so they get the ordinary one: their session's conf decides.
    """

    def python(_: Any) -> str:
        asking = sys._getframe(1).f_globals.get("__name__", "")
        return str(context.pythonExec if asking.startswith("pyspark.sql") else path)

    own: Any = object.__new__(type(type(context).__name__, (type(context),), {"pythonExec": property(python)}))
    own.__dict__.update(context.__dict__)
    return own


class _Connect:
    """A Spark Connect session: no SparkContext, no RDDs, and artifacts that belong to this session alone."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._functions = import_module("pyspark.sql.connect.functions")
        self.key = self.shared_key = f"connect-{session.session_id}"
        self.reads_uris = False  # artifacts are files of the client

    def keep(self) -> Path | None:
        return None

    def send(self, file: str) -> None:
        self._add(file, pyfile=True)

    def send_aside(self, file: str) -> None:
        self._add(file, file=True)

    def _add(self, path: str, **kind: bool) -> None:
        add = getattr(self._session, "addArtifacts", None) or getattr(self._session, "addArtifact", None)
        if add is None:
            raise SparkSessionError(
                "this Spark Connect client cannot send files to its workers", "use PySpark 3.5 or newer, on both sides"
            )
        with _running(_SENDING[0], "see the server's log; its limits on artifacts may be too small"):
            add(path, **kind)

    def take_back(self, name: str) -> bool:
        """What was sent stays until the session ends, with no one else to see it."""
        del name
        return False

    def use_python(self, path: str) -> Callable[[], None]:
        return _set_conf(self._session, path)

    def slots(self) -> dict[str, int]:
        """A range has as many partitions as Spark runs tasks at once (``leafNodeDefaultParallelism``)."""
        ids = self._session.range(0, 1 << 12).select(self._functions.spark_partition_id().alias("id"))
        with _running():
            return {"": ids.agg(self._functions.max("id")).collect()[0][0] + 1}

    def pools(self) -> list[Run]:
        return [self._run]

    def _run(self, task: Task, count: int, description: str) -> list[dict[str, Any]]:
        del description  # Connect names its jobs itself
        return _run_as_udf(self._session, self._functions, task, count)


def _run_as_udf(session: Any, functions: Any, task: Task, count: int) -> list[dict[str, Any]]:
    """As an ordinary UDF, not by Arrow, which newer versions take by default: the workers need no pyarrow for it."""

    def answer(_: int) -> str:
        import json

        return json.dumps(task())

    plain = {"useArrow": False} if "useArrow" in signature(functions.udf).parameters else {}  # from 3.5 on
    ask = functions.udf(answer, "string", **plain)
    with _running():
        rows = session.range(0, count, 1, count).select(ask("id")).collect()
    return [json.loads(row[0]) for row in rows]


def _set_conf(session: Any, path: str) -> Callable[[], None]:
    """Set the session's own Python; returns what puts back what was set before."""
    before = session.conf.get(_PYTHON, None)
    try:
        session.conf.set(_PYTHON, path)
    except Exception as error:
        raise SparkSessionError(
            f"this session may not choose its Python workers ({reason(error)})", "load with isolation='shared'"
        ) from error

    def restore() -> None:
        with contextlib.suppress(Exception):  # a session that was stopped has nothing to put back
            session.conf.unset(_PYTHON) if before is None else session.conf.set(_PYTHON, before)

    return restore
