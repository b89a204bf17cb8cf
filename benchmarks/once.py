"""One measured load, in a process and a Spark application of its own: prints what it came to, in JSON.

python benchmarks/once.py REQUEST, JSON with ``way``, ``master``, ``imports``, ``work`` (a new directory) and what the
way starts from. The clock runs from the call that begins to send until every executor has answered that it imported.
The application and its executors are there before it; no Python worker is.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

request = json.loads(sys.argv[1])
WORK = Path(request["work"])
# Nodes are apart by their sites alone: executor i is on node i modulo their number, the driver on node 0 or, apart, on
# one of its own. Executors run Python in directories that are named by their numbers.
SITES = Path(request.get("sites") or WORK / "sites")
_PYTHON = f"""#!/bin/sh
export DEPLOAD_SITES="{SITES}/$(( $(basename "$PWD") % {request["nodes"]} ))"
exec {sys.executable} "$@"
"""


def main() -> None:
    os.environ["DEPLOAD_SITES"] = str(SITES / ("driver" if request.get("apart") else "0"))
    from depload.local.embedded import spark_session  # DEPLOAD_SITES is set before anything may look at it

    python = WORK / "python"
    python.write_text(_PYTHON, encoding="utf-8")
    python.chmod(0o755)
    os.environ |= {"PYSPARK_PYTHON": str(python), "SPARK_HOME": str(_spark_home())}
    config = {"spark.executorEnv.UV_CACHE_DIR": str(WORK / "uv-cache"), **request.get("config", {})}
    with spark_session(request["master"], **config) as spark:
        executors = int(request["executors"])
        context = spark.sparkContext
        # So many executors are there; this runs in Java alone.
        context._jsc.sc().range(0, executors, 1, executors).count()
        way = WAYS[request["way"]]
        java = int(context._jvm.java.lang.ProcessHandle.current().pid())
        sent, cpu, start = _loopback(), _cpu(java), time.perf_counter()
        about = way(spark, executors)
        seconds = time.perf_counter() - start
        used = [after - before for after, before in zip(_cpu(java), cpu, strict=True)]
        about |= {"seconds": seconds, "sent_mb": (_loopback() - sent) / 1e6, "cpu": used[0], "driver_cpu": used[1]}
        about |= _memory(context) if request.get("memory") else {}
        print(json.dumps(about), flush=True)
        _leave()


def _spark_home() -> Path:
    """Spark by links, below which it makes the executors' directories: what archives are unpacked to is of this run."""
    from pyspark.find_spark_home import _find_spark_home

    home = WORK / "spark"
    home.mkdir()
    for entry in Path(_find_spark_home()).iterdir():
        if entry.name != "work":
            (home / entry.name).symlink_to(entry)
    return home


def _leave() -> NoReturn:
    """End everything at once, and delete nothing: what an archive was unpacked to would slow the next run's files."""
    for pid in _family() - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _load(spark: Any, executors: int, **options: Any) -> dict[str, float]:
    import depload

    path = Path(request["path"])
    if request.get("unseen"):  # a path that means something else to the executors
        os.chdir(path.parent)
        path = Path("/proc/self/cwd") / path.name
    report = depload.load(path, spark, **options).report
    found = {worker.executor for worker in report.workers}
    assert len(found) == executors, (found, executors)
    way = report.delivery.partition(":")[0]
    wanted = "wheels" if request.get("unseen") else "reference"
    assert way == wanted or request.get("warm"), report.delivery  # what a node has may travel some other way, or not
    return {}


def _load_workers_only(spark: Any, executors: int) -> dict[str, float]:
    return _load(spark, executors, driver=False)


def _job(spark: Any, executors: int, task: Callable[[Any], Any]) -> dict[str, float]:
    """As depload's own proof: a task for each slot, held for a moment where it was quicker, until all have answered."""
    answers: dict[str, list[str]] = {}
    for attempt in range(8):
        answers |= dict(spark.sparkContext.parallelize(range(executors), executors).map(task(attempt)).collect())
        if len(answers) == executors:
            break
    assert len(answers) == executors, answers
    own = Path(sysconfig.get_path("purelib"))
    strange = [file for files in answers.values() for file in files if Path(file).parent.parent == own]
    assert not strange, strange  # the benchmark's own packages, not the set's
    return {}


def _importing(prefix: str = "") -> Callable[[int], Callable[[Any], Any]]:
    names = request["imports"]

    def of_attempt(attempt: int) -> Callable[[Any], Any]:
        def run(_: Any) -> Any:
            import importlib
            import os
            import sys
            import time

            started = time.monotonic()
            if prefix:
                sys.path.insert(0, os.path.abspath(prefix))
            modules = [importlib.import_module(name) for name in names]
            time.sleep(max(0.0, min(0.05 * 2**attempt, 0.4) - (time.monotonic() - started)))
            return os.path.basename(os.getcwd()), [str(module.__file__) for module in modules]

        return run

    return of_attempt


def _floor(spark: Any, executors: int) -> dict[str, float]:
    return _job(spark, executors, _importing(request["tree"]))


def _archive(spark: Any, executors: int) -> dict[str, float]:
    spark.sparkContext.addArchive(f"{request['archive']}#tree")
    return _job(spark, executors, _importing("tree"))


def _venv(spark: Any, executors: int) -> dict[str, float]:
    spark.sparkContext.addArchive(f"{request['archive']}#environment")
    spark.sparkContext.pythonExec = "./environment/bin/python"
    return _job(spark, executors, _importing())


def _pex(spark: Any, executors: int) -> dict[str, float]:
    spark.sparkContext.addFile(request["archive"])
    spark.sparkContext.pythonExec = f"./{Path(request['archive']).name}"
    return _job(spark, executors, _importing())


def _uv(spark: Any, executors: int) -> dict[str, float]:
    names, wheels, wanted = request["imports"], request["wheels"], request["requirements"]
    uv, target = str(Path(sys.executable).with_name("uv")), str(WORK / "tree")

    def of_attempt(attempt: int) -> Callable[[Any], Any]:
        def run(_: Any) -> Any:
            import fcntl
            import importlib
            import os
            import subprocess
            import sys
            import time

            started = time.monotonic()
            place = f"{target}-{os.path.basename(os.getcwd())}"
            with open(f"{place}.lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not os.path.exists(place):
                    command = [uv, "pip", "install", "-q", "--python", sys.executable, "--target", place, "--no-index"]
                    subprocess.run([*command, "--find-links", wheels, *wanted], check=True)
            sys.path.insert(0, place)
            modules = [importlib.import_module(name) for name in names]
            time.sleep(max(0.0, min(0.05 * 2**attempt, 0.4) - (time.monotonic() - started)))
            return os.path.basename(os.getcwd()), [str(module.__file__) for module in modules]

        return run

    return _job(spark, executors, of_attempt)


def _file(spark: Any, executors: int) -> dict[str, float]:
    """Nothing but a file through Spark's file server: for the model."""
    spark.sparkContext.addFile(request["archive"])
    return _job(spark, executors, _importing())


WAYS: dict[str, Callable[[Any, int], dict[str, float]]] = {
    "depload": _load,
    "depload-workers-only": _load_workers_only,
    "floor": _floor,
    "archive": _archive,
    "venv": _venv,
    "pex": _pex,
    "uv": _uv,
    "file": _file,
}


def _loopback() -> int:
    """Bytes that went over the network of this machine to itself so far: between driver and executors."""
    with open("/proc/net/dev", encoding="ascii") as opened:
        return next((int(line.split()[1]) for line in opened if line.strip().startswith("lo:")), 0)


def _cpu(java: int) -> tuple[float, float]:
    """CPU seconds so far of this process and all that it has started, and those of the driver: this and its Java."""
    stats = _stats()
    ticks = {pid: [int(field) for field in stats[pid][11:15]] for pid in _family(stats)}
    tick = os.sysconf("SC_CLK_TCK")
    # Of the driver's own processes, not what they waited for: executors are children of its Java.
    return sum(map(sum, ticks.values())) / tick, sum(sum(ticks[pid][:2]) for pid in (os.getpid(), java)) / tick


def _family(stats: dict[int, list[str]] | None = None) -> set[int]:
    """This process and all that are below it."""
    parents = {pid: int(fields[1]) for pid, fields in (stats or _stats()).items()}
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return ours


def _stats() -> dict[int, list[str]]:
    """Of every process what ``/proc/PID/stat`` says, from its state on (proc(5))."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            text = stat.read_text(encoding="utf-8", errors="replace")
            found[int(stat.parent.name)] = text.rpartition(")")[2].split()
    return found


def _memory(context: Any) -> dict[str, float]:
    """Peaks (MB) of the driver's Python and Java, and of the workers' Python."""

    def peak(_: Any) -> int:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    workers = context.parallelize(range(1), 1).map(peak).collect()
    java = int(context._jvm.java.lang.ProcessHandle.current().pid())
    with open(f"/proc/{java}/status", encoding="ascii") as opened:
        high = next(int(line.split()[1]) for line in opened if line.startswith("VmHWM"))
    return {
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "driver_java_mb": high * 1024 / 1e6,
        "worker_mb": max(workers) * 1024 / 1e6,
    }


main()
