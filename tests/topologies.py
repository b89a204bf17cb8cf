"""Real Spark clusters and Connect servers of a test's own: on free ports, and stopped whatever happens."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

from depload.local.servers import connect_server, has_vector_module, running, spark_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["HOSTS", "connect_jar", "connect_server", "has_hosts", "has_vector_module", "spark_home", "standalone"]

HOSTS = ("127.0.0.2", "127.0.0.3")
"""What the two workers of a standalone cluster call themselves; on Linux all of 127.0.0.0/8 is this machine."""


def has_hosts() -> bool:
    """Whether this machine answers to the addresses of the two workers; macOS does so only when told."""
    try:
        for host in HOSTS:
            with socket.socket() as one:
                one.bind((host, 0))
    except OSError:
        return False
    return True


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
        master = stack.enter_context(running(command, place / "master", {**there, "SPARK_LOCAL_IP": "127.0.0.1"}))
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
            workers.append(stack.enter_context(running(command, own, own_variables)))
        for worker in workers:
            worker.says(r"Successfully registered with master (spark://\S+)")
        yield url


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
