"""What is told of an error of Spark's, out of the page of Java that it is."""

from __future__ import annotations

from textwrap import dedent
from typing import NoReturn

import pytest

from conftest import run_on_spark
from depload.errors import SparkSessionError
from depload.loading import sessions

# As PySpark said them, 3.5.9 and on Connect 4.3.0, with fewer lines of each stack trace.
EXECUTOR_FULL = """\
    An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
    : org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 0.0 failed 4 times, most \
recent failure: Lost task 0.3 in stage 0.0 (TID 6) (10.0.0.7 executor 3): java.io.IOException: No space left on device
    \tat java.base/java.io.FileOutputStream.writeBytes(Native Method)
    \tat org.apache.spark.util.Utils$.fetchFile(Utils.scala:454)
    \tat org.apache.spark.executor.Executor.$anonfun$updateDependencies$5(Executor.scala:1152)
    \tat java.base/java.lang.Thread.run(Thread.java:840)

    Driver stacktrace:
    \tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2898)
    \tat java.base/java.lang.Thread.run(Thread.java:840)
    Caused by: java.io.IOException: No space left on device
    \tat java.base/java.io.FileOutputStream.writeBytes(Native Method)
    \t... 1 more
    """
CONNECT_FULL = """\
    Job aborted due to stage failure: Task 0 in stage 0.0 failed 4 times, most recent failure: Lost task 0.3 in stage \
0.0 (TID 7) (10.0.0.7 executor 0): java.io.IOException: No space left on device
    \tat java.base/java.io.FileOutputStream.writeBytes(Native Method)
    \tat java.base/java.lang.Thread.run(Thread.java:840)

    Driver stacktrace:

    JVM stacktrace:
    org.apache.spark.SparkException
    \tat org.apache.spark.scheduler.DAGScheduler.$anonfun$abortStage$3(DAGScheduler.scala:4568)
    """
DRIVER_FULL = """\
    An error occurred while calling o42.addFile.
    : java.nio.file.FileSystemException: /deps/x.zip -> /tmp/spark-bd78/files/x.zip: No space left on device
    \tat java.base/sun.nio.fs.UnixException.translateToIOException(UnixException.java:100)
    \tat org.apache.spark.SparkContext.addFile(SparkContext.scala:1790)
    \tat java.base/java.lang.Thread.run(Thread.java:840)
    """
WORKER_FULL = """\
    An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
    : org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 0.0 failed 1 times, most \
recent failure: Lost task 1.0 in stage 0.0 (TID 1) (10.0.0.7 executor driver): \
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
      File "worker.py", line 1247, in main
    OSError: [Errno 28] No space left on device: 'x'

    \tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.handlePythonException(PythonRunner.scala:572)
    Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
      File "worker.py", line 1247, in main
    OSError: [Errno 28] No space left on device: 'x'

    \t... 1 more
    """
NO_PYTHON = """\
    An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
    : org.apache.spark.SparkException: Job aborted due to stage failure: Task 1 in stage 0.0 failed 4 times, most \
recent failure: Lost task 1.3 in stage 0.0 (TID 7) (10.0.0.7 executor 1): java.io.IOException: Cannot run program \
"/opt/python3": error=2, No such file or directory
    \tat java.base/java.lang.ProcessBuilder.start(ProcessBuilder.java:1143)
    Caused by: java.io.IOException: error=2, No such file or directory
    \tat java.base/java.lang.ProcessImpl.forkAndExec(Native Method)
    \t... 18 more

    Driver stacktrace:
    \tat org.apache.spark.scheduler.DAGScheduler.failJobAndIndependentStages(DAGScheduler.scala:2898)
    Caused by: java.io.IOException: Cannot run program "/opt/python3": error=2, No such file or directory
    \tat java.base/java.lang.ProcessBuilder.start(ProcessBuilder.java:1143)
    Caused by: java.io.IOException: error=2, No such file or directory
    \t... 18 more
    """


class Context:
    """A SparkContext that refuses what it is given."""

    applicationId = "app-1"  # noqa: N815 - as Spark has it
    _jsc = object()

    def __init__(self, refusal: str) -> None:
        self._refusal = dedent(refusal)

    def addPyFile(self, _: str) -> NoReturn:  # noqa: N802 - as Spark calls it
        raise RuntimeError(self._refusal)


def refused(text: str) -> SparkSessionError:
    session = sessions.session_of(Context(text))
    assert session is not None
    with pytest.raises(SparkSessionError) as raised:
        session.send("x.zip")
    return raised.value


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (EXECUTOR_FULL, "java.io.IOException: No space left on device"),
        (CONNECT_FULL, "java.io.IOException: No space left on device"),
        (
            DRIVER_FULL,
            "java.nio.file.FileSystemException: /deps/x.zip -> /tmp/spark-bd78/files/x.zip: No space left on device",
        ),
        (WORKER_FULL, "OSError: [Errno 28] No space left on device: 'x'"),
        (NO_PYTHON, 'java.io.IOException: Cannot run program "/opt/python3": error=2, No such file or directory'),
        ("The server is not there\nand will not come", "The server is not there"),
        ("", "RuntimeError"),
    ],
)
def test_the_cause_is_named_whichever_language_it_is_of(text: str, cause: str) -> None:
    assert refused(text).reason == f"Spark could not send a file to its workers: {cause}"


@pytest.mark.parametrize(
    ("text", "whose"),
    [
        (EXECUTOR_FULL, "host 10.0.0.7, on which executor 3 ran, has a full disk"),
        (CONNECT_FULL, "host 10.0.0.7, on which executor 0 ran, has a full disk"),
        (DRIVER_FULL, "the driver has a full disk"),
        (WORKER_FULL, "the driver has a full disk"),
    ],
)
def test_where_a_disk_is_full_the_remedy_says_which(text: str, whose: str) -> None:
    assert refused(text).remedy.startswith(f"{whose}: free space there, or give Spark a larger one")
    assert "see whether Spark can read it" in refused(NO_PYTHON).remedy


@pytest.mark.spark
def test_workers_that_spark_cannot_start_are_told_as_such() -> None:
    answer = run_on_spark(
        """
        from depload.loading import sessions
        sc.pythonExec = "/no/such/python"
        try:
            sessions.everywhere(sessions.session_of(sc), dict, "depload: a test")
        except depload.DeploadError as error:
            answer["reason"] = error.reason
        """,
        master="local[1]",
    )
    cause = 'java.io.IOException: Cannot run program "/no/such/python": '
    assert answer["reason"].startswith(f"Spark could not run a task on its workers: {cause}")
