"""One measured load, in a process and a Spark application of its own: prints the seconds.

python benchmarks/load_once.py WAY PREPARED_JSON WORK
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

way, prepared, work = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
NAMES = ["pandas", "sklearn"]

config = {
    "spark.executorEnv.UV_CACHE_DIR": str(work / "uv-cache"),
    "spark.executorEnv.DEPLOAD_SITES": str(work / "sites"),
}
os.environ["DEPLOAD_SITES"] = str(work / "driver-sites")
if way == "depload-warm":
    config["spark.executorEnv.DEPLOAD_SITES"] = prepared["warm-sites"]
    os.environ["DEPLOAD_SITES"] = prepared["warm-sites"]
if way.startswith("floor"):
    config["spark.executorEnv.PYTHONPATH"] = prepared[way]

import depload  # noqa: E402 - DEPLOAD_SITES is set before anything may look at it
from depload.local.embedded import spark_session  # noqa: E402 - as above


def import_all(_rows: object) -> list[str]:
    import importlib

    return [importlib.import_module(name).__version__ for name in ("pandas", "sklearn")]


def install(wheels: str, target: str, uv: str):  # noqa: ANN201 - a function for workers, pickled by value
    def install_and_import(_rows: object) -> list[str]:
        import fcntl
        import importlib
        import os
        import subprocess
        import sys

        place = f"{target}-{os.path.basename(os.getcwd())}"  # an executor's directory is named by its number
        with open(f"{place}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(place):
                command = [uv, "pip", "install", "-q", "--python", sys.executable, "--target", place, "--no-index"]
                wanted = ["pandas==2.2.2", "scikit-learn==1.5.0"]
                subprocess.run([*command, "--find-links", wheels, *wanted], check=True)
        sys.path.insert(0, place)
        return [importlib.import_module(name).__version__ for name in ("pandas", "sklearn")]

    return install_and_import


with spark_session("local-cluster[2,1,1024]", **config) as spark:
    context = spark.sparkContext
    context._jsc.sc().range(0, 2, 1, 2).count()  # the executors are there; no Python worker is
    if way == "depload-sent":
        os.chdir(Path(prepared["depload"]).parent)  # a path that means something else to the executors
        path = f"/proc/self/cwd/{Path(prepared['depload']).name}"
    start = time.perf_counter()
    if way.startswith("floor"):
        got = context.parallelize(range(2), 2).mapPartitions(import_all).collect()
    elif way == "uv-install":
        uv = str(Path(sys.executable).with_name("uv"))
        task = install(prepared["wheels"], str(work / "tree"), uv)
        got = context.parallelize(range(2), 2).mapPartitions(task).collect()
    elif way in ("zip", "targz"):
        context.addArchive(f"{prepared[way]}#tree")
        context._python_includes.append("tree")
        got = context.parallelize(range(2), 2).mapPartitions(import_all).collect()
    else:
        path = path if way == "depload-sent" else prepared["depload-no-pyc" if way == "depload-no-pyc" else "depload"]
        report = depload.load(path, spark).report
        got = [worker.imported["pandas"].version for worker in report.workers]
    seconds = time.perf_counter() - start
    assert "2.2.2" in got, got
print(json.dumps(seconds))
