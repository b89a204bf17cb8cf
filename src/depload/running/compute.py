"""What tasks run on: an application for each job cluster of a run, and one Spark Connect server for all runs.

Compute starts when the first task needs it. A job cluster ends with its run; the server, which stands for serverless
compute and for clusters in standard access mode, ends with ``Compute``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from depload.errors import DeploadError, SparkSessionError, ToolMissingError
from depload.local.servers import Process, connect_server, has_vector_module
from depload.making import tools
from depload.running import application, installation
from depload.running.jobs import Cluster, Serverless, Where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from depload.running.jobs import Job
    from depload.running.utilities import Secrets

SERVERLESS_MASTER = "local-cluster[1,2,1024]"
"""One executor with two slots: every session has Python workers of its own on each executor, and they cost most."""

_SMALL = {
    "spark.sql.shuffle.partitions": "2",  # what runs here is an example
    # Only the quick one of Java's two compilers: the other takes the cores that a short application starts on.
    "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.executor.defaultJavaOptions": "-XX:TieredStopAtLevel=1",
}
_PER_CLUSTER = 3 << 30  # bytes of memory: a driver's JVM, an executor's, and their Python workers
_PATIENCE = 120.0  # seconds until an application must have started
_LEAVE = 20.0  # seconds that it has to end by itself
_SECRET = re.compile(r"\{\{secrets/([^/{}]+)/([^/{}]+)\}\}")
# What speaks for this process's Spark and not for that of a task.
_OWN = re.compile(r"PYSPARK_(?:GATEWAY_\w+|PIN_THREAD|PYTHON|DRIVER_PYTHON)|SPARK_(?:HOME|REMOTE|CONNECT_MODE_ENABLED)")
# What is right for this interpreter alone.
_OF_INTERPRETER = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True)
class Ready:
    """What a task's process is started with."""

    python: str
    environment: Mapping[str, str]
    session: Literal["attached", "connect", "none"]


class Cancelled(Exception):  # noqa: N818 - somebody wanted it
    """The run was cancelled while it waited for compute."""


@dataclass
class Compute:
    """Spark for the tasks of any number of runs, each of which takes its part by ``of_run``.

    Nothing is started before a task needs it. ``master`` is Spark's, in place of what the job's cluster asks for.
    ``clusters`` is how many job clusters may be up at the same time. ``serverless_python`` is an interpreter with
    depload's dependencies and pyspark[connect] 4 or newer, where this one has not these.
    """

    scratch: Path
    master: str | None = None
    serverless_python: str | None = None
    clusters: int | None = None
    say: Callable[[str], None] = field(default=lambda _: None)

    def __post_init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._serving = threading.Lock()
        self._server: str | None = None
        self._python: str | None = None
        self._free = self.clusters or _clusters()
        self._change = threading.Condition()
        # Before there are threads: uv's own search for its program is not safe in several at once (sysconfig is not).
        self.uv = tools.uv()

    def __enter__(self) -> Compute:  # noqa: PYI034 - typing has Self from 3.11 on
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def of_run(self, job: Job, run_id: int, *, scratch: Path, secrets: Secrets) -> Iterator[OfRun]:
        """What the tasks of one run run on; its clusters end with it."""
        own = OfRun(self, job, run_id, scratch, secrets)
        try:
            yield own
        finally:
            own.close()

    def check(self, job: Job) -> None:
        """Raise ToolMissingError where this machine lacks what the tasks of a job run on."""
        if any(uses_connect(where) for where in job.compute):
            self.connecting()

    # --- places for clusters ---

    def take(self, count: int, cancelled: threading.Event) -> int:
        """Wait until so many clusters may be started, or all that ever may; how many. Raises Cancelled."""
        count = min(count, self.clusters or _clusters())
        with self._change:
            while self._free < count:
                if cancelled.is_set():
                    raise Cancelled
                self._change.wait(0.1)
            self._free -= count
        return count

    def give_back(self, count: int) -> None:
        """Let others start so many."""
        with self._change:
            self._free += count
            self._change.notify_all()

    # --- the server ---

    def server(self) -> str:
        """The URL of the Connect server, which starts when it is first asked for. Raises DeploadError."""
        with self._serving:
            if self._server is None:
                python, master = self.connecting(), self.master or SERVERLESS_MASTER
                self.say(f"a Spark Connect server starts on {master}, for serverless compute and standard access mode")
                place = self.scratch / "connect"
                # Of pyspark's environment nothing of this interpreter is taken over.
                blank = dict.fromkeys(_OF_INTERPRETER, "") if python != sys.executable else {}
                conf = {**_SMALL, **_kept_in(place / "tmp")}
                self._stack.callback(shutil.rmtree, place, ignore_errors=True)
                server = connect_server(Path(python), place, master=master, variables=blank, conf=conf)
                try:
                    self._server = self._stack.enter_context(server)
                except RuntimeError as error:
                    raise SparkSessionError(str(error), "check the master and Java") from error
            return self._server

    def connecting(self) -> str:
        """The interpreter of tasks that use Spark Connect. Raises ToolMissingError where it lacks something."""
        if self._python is not None:
            return self._python
        python = self.serverless_python or sys.executable
        missing = _missing(python)
        if missing:
            raise ToolMissingError(
                f"{', '.join(missing)} in {python}",
                "serverless compute on this machine",
                "make an environment (uv venv serverless; uv pip install --python serverless/bin/python "
                "'pyspark[connect]>=4' packaging uv) and give --serverless-python serverless/bin/python",
            )
        if not has_vector_module():
            raise ToolMissingError(
                "a Java with the module jdk.incubator.vector",
                "Spark 4",
                "install a JDK 17 or 21, and set JAVA_HOME to it",
            )
        self._python = python
        return python


def uses_connect(where: Where | None) -> bool:
    """Whether sessions there are Spark Connect sessions: serverless compute, and standard access mode."""
    return isinstance(where, Serverless) or (isinstance(where, Cluster) and where.standard)


class OfRun:
    """The part of one run: its clusters, its sessions on the server, and the libraries of its tasks."""

    def __init__(self, compute: Compute, job: Job, run_id: int, scratch: Path, secrets: Secrets) -> None:
        self._compute, self._job, self._run_id = compute, job, run_id
        self._scratch, self._secrets = scratch, secrets
        self._starting, self._installing = threading.Lock(), threading.Lock()
        self._taken = 0
        self._running: dict[str, tuple[Process, dict[str, str]]] = {}

    def ready(self, where: Where | None, libraries: Path | None, cancelled: threading.Event) -> Ready:
        """What a task on ``where`` is started with, once that is up. Raises DeploadError, Cancelled."""
        path = [str(libraries)] if libraries else []
        if where is None:
            return Ready(sys.executable, _environment(path), "none")
        if isinstance(where, Cluster) and not where.standard:
            attach = self._attachment(where, path, cancelled)
            return Ready(sys.executable, {**_environment(path), **self._variables(where), **attach}, "attached")
        more = self._variables(where) if isinstance(where, Cluster) else {}
        url = self._compute.server()
        python = self._compute.connecting()
        environment = self._connected(python, path)
        return Ready(python, {**environment, **more, "SPARK_REMOTE": url}, "connect")

    def interpreter(self, where: Where | None) -> str:
        """What runs tasks on ``where``. Raises ToolMissingError."""
        return self._compute.connecting() if uses_connect(where) else sys.executable

    def _connected(self, python: str, path: list[str]) -> dict[str, str]:
        """The environment of a process that uses Connect; another interpreter finds the depload that runs here."""
        if python == sys.executable:
            return {**_environment(path), "PYSPARK_PYTHON": python}
        with self._installing:
            alone = installation.alone(self._scratch / "depload")
        environment = {name: value for name, value in _environment([]).items() if name not in _OF_INTERPRETER}
        beside = str(Path(self._compute.uv).parent) if self._compute.uv else None
        programs = os.pathsep.join(filter(None, [environment.get("PATH"), beside]))
        return {
            **environment,
            "PATH": programs,
            "PYTHONPATH": os.pathsep.join([*path, str(alone)]),
            "PYSPARK_PYTHON": python,
        }

    # --- clusters ---

    def _attachment(self, cluster: Cluster, path: list[str], cancelled: threading.Event) -> dict[str, str]:
        with self._starting:
            if cluster.key in self._running and self._running[cluster.key][0].ended() is None:
                return self._running[cluster.key][1]
            if not self._taken:
                # For all of them at once: two runs that each hold one and wait for another would wait forever.
                mine = [on for on in self._job.compute if isinstance(on, Cluster) and not on.standard]
                self._taken = self._compute.take(len(mine), cancelled)
            self._running[cluster.key] = self._start(cluster, path, cancelled)
            return self._running[cluster.key][1]

    def _start(self, cluster: Cluster, path: list[str], cancelled: threading.Event) -> tuple[Process, dict[str, str]]:
        master = self._compute.master or f"local-cluster[{_workers(cluster)},1,1024]"
        self._compute.say(f"run {self._run_id}: cluster {cluster.key} starts on {master}")
        place = Path(tempfile.mkdtemp(prefix=f"cluster-{cluster.key}-", dir=self._scratch))
        file = place / "attachment.json"
        own = {"TMPDIR": str(place), "SPARK_LOCAL_DIRS": str(place)}
        environment = {**_environment(path), **self._variables(cluster), **own}
        command = [sys.executable, "-m", application.MODULE]
        process = Process(command, place=place, log=place / "log", environment=environment, guarded=False)
        conf = {**_SMALL, **_kept_in(place), **cluster.conf}
        process.tell(json.dumps({"master": master, "name": self._job.name, "conf": conf, "file": str(file)}))
        for _ in range(int(_PATIENCE / 0.1)):
            if file.exists():
                return process, json.loads(file.read_text(encoding="utf-8"))
            if cancelled.is_set() or process.wait(0.1) is not None:
                break
        process.stop()
        if cancelled.is_set():
            raise Cancelled
        raise SparkSessionError(
            f"cluster {cluster.key} did not start: {process.said()[-2000:]}", "check --master and Java"
        )

    def _variables(self, cluster: Cluster) -> dict[str, str]:
        """``spark_env_vars`` with the secrets that they name. Raises DeploadError where there is no such secret."""

        def value(match: re.Match[str]) -> str:
            try:
                return self._secrets[match[1]][match[2]]
            except KeyError:
                raise DeploadError(
                    f"cluster {cluster.key} asks for {match[0]}, and this run has no such secret; "
                    f"give --secret {match[1]}/{match[2]}=VALUE"
                ) from None

        return {name: _SECRET.sub(value, text) for name, text in cluster.variables.items()}

    def close(self) -> None:
        """Stop the clusters of this run."""
        for key, (process, _) in self._running.items():
            process.release()
            if process.wait(_LEAVE) is None:
                self._compute.say(f"run {self._run_id}: cluster {key} did not end by itself and is killed")
            process.stop()
            self._compute.say(f"run {self._run_id}: cluster {key} has stopped")
        self._running.clear()
        self._compute.give_back(self._taken)
        self._taken = 0


def _kept_in(place: Path) -> dict[str, str]:
    """So that executors' Python workers leave their temporary files in a directory that goes with the cluster."""
    return {"spark.executorEnv.TMPDIR": str(place)}


def _workers(cluster: Cluster) -> int:
    """As many as the job asks for, at least one and at most as many as this machine has cores."""
    return max(1, min(cluster.workers, os.cpu_count() or 1))


def _clusters() -> int:
    """How many clusters this machine's memory and cores allow at the same time."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(memory // _PER_CLUSTER, 2 * (os.cpu_count() or 1)))


def _environment(path: list[str]) -> dict[str, str]:
    """This process's environment without what speaks for its own Spark; ``path`` comes first on ``sys.path``."""
    kept = {name: value for name, value in os.environ.items() if not _OWN.fullmatch(name)}
    modules = os.pathsep.join(filter(None, [*path, kept.get("PYTHONPATH")]))
    return {**kept, **({"PYTHONPATH": modules} if modules else {})}


_ASK = """\
import importlib.metadata as m, importlib.util as u, sys
needed = ["packaging", "pandas", "pyarrow", "grpc"] + (["tomli"] if sys.version_info < (3, 11) else [])
missing = [name for name in needed if u.find_spec(name) is None]
try:
    new = int(m.version("pyspark").partition(".")[0]) >= 4
except m.PackageNotFoundError:
    new = False
print(*([] if new else ["pyspark[connect]>=4"]), *missing)
"""


def _missing(python: str) -> list[str]:
    """What an interpreter lacks to be a client of Spark Connect and its server."""
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolMissingError(python, "serverless compute", f"it cannot be run: {error.strerror}") from error
    return done.stdout.split() if done.returncode == 0 else [f"a Python that works ({done.stderr.strip()[-200:]})"]
