"""Ways from a file on the driver's machine to imported packages on every executor, on a real Spark."""

from __future__ import annotations

import functools
import json
import os
import time
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import HERE, PYTHON, Ground, Sample, Series, Way, in_turns, place_of_a_run, said_by, settle
from benchmarks.prepared import Prepared, prepared
from benchmarks.results import of_each

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Plan
    from benchmarks.sets import Set

PART = "load"
CASES = {"2 executors": 2, "1 executor": 1}
"""On one node."""
FLOOR, FLOOR_NO_PYC = "floor: installed already, with .pyc", "floor: installed already, no .pyc"
WARM = "depload, the node has the site"
WARM_UNSEEN = "depload, the node has the site, store unseen"
SEEN, SENT = "depload, workers see the store", "depload, through Spark's files"
SEEN_WORKERS, SENT_WORKERS = f"{SEEN}, driver=False", f"{SENT}, driver=False"
SEEN_APART, SENT_APART = f"{SEEN}, a node more for the driver", f"{SENT}, a node more for the driver"
SEEN_NO_PYC = "depload without .pyc, workers see the store"
UV = "uv pip install on each executor"
TARGZ, STORED = "tree as .tar.gz, addArchive", "tree as stored .zip with .pyc, addArchive"
VENV, PEX = "venv-pack, addArchive", "pex, addFile"
_SOME, _FEW, _ONE = 0.6, 0.4, 0.2  # of the runs: for what takes long, and for what decides no figure
_SHARES = {"2 executors": {"S": 0.6, "M": 1.0, "L": 0.4}, "1 executor": {"S": 0.2, "M": 0.4, "L": 0.2}}

EXPLAINED = """
Spark 3.5 on `local-cluster`, each executor a process of its own with one core. The clock runs in a driver whose
executors are there and have no Python worker yet, from the call that begins to send until every executor has answered
that it imported the set's packages. Cold: nothing of the set is on this machine but what is sent; uv's cache is empty.
What each way starts from is made before the clock, and was read before.

depload's time includes more than the others': it verifies the file's hash, activates the driver, and every worker tells
all its packages as the proof. `driver=False` is the same for the workers only, which is all that the others do. Driver
and executors share what is unpacked, as processes of one machine do; "a node more for the driver" has the driver unpack
for itself, as on a cluster, but on the same cores. MB sent is what went over the machine's loopback between driver and
executors, all executors together.
"""


def plans(sets: list[Set]) -> list[Plan]:
    """Two executors of one node, and one alone."""
    return of_each(sets, PART, {case: functools.partial(_plan, case) for case in CASES})


def _plan(case: str, wanted: Set, runs: int, ground: Ground) -> dict[str, Series]:
    made, scratch = prepared(ground, wanted), ground.fresh("load")
    ways = [
        Way(name, functools.partial(_measured, way, made, CASES[case], scratch), of_runs)
        for name, way, of_runs in _ways(made, scratch)
    ]
    return in_turns(ways, runs * _SHARES[case][wanted.name])


def _ways(made: Prepared, scratch: Path) -> list[tuple[str, Any, float]]:
    """Each with what it asks of once.py, made when its turn comes; in the first turn what a warm one needs is made."""
    warm = {"sites": str(scratch / "warm-sites"), "warm": True}

    def asks(way: str, **more: Any) -> Any:
        return lambda: {"way": way, **{name: each() if callable(each) else each for name, each in more.items()}}

    seen, path = functools.partial(asks, "depload"), lambda: made.run_path
    workers_only = functools.partial(asks, "depload-workers-only")
    return [
        (FLOOR, asks("floor", tree=lambda: str(made.tree_with_pyc)), 1.0),
        (WARM, seen(path=path, **warm), 1.0),
        (SEEN, seen(path=path), 1.0),
        (SEEN_WORKERS, workers_only(path=path), _FEW),
        (SEEN_APART, seen(path=path, apart=True), _ONE),
        (SENT, seen(path=path, unseen=True), _SOME),
        (SENT_WORKERS, workers_only(path=path, unseen=True), _FEW),
        (SENT_APART, seen(path=path, unseen=True, apart=True), _ONE),
        (UV, asks("uv", wheels=lambda: str(made.wheels), requirements=made.set.requirements), _SOME),
        (TARGZ, asks("archive", archive=lambda: str(made.targz)), _FEW),
        (STORED, asks("archive", archive=lambda: str(made.stored_zip)), _ONE),
        (VENV, asks("venv", archive=lambda: str(made.venv_pack)), _ONE),
        (PEX, asks("pex", archive=lambda: str(made.pex)), _ONE),
        (WARM_UNSEEN, seen(path=path, unseen=True, **warm), _ONE),
        (SEEN_NO_PYC, seen(path=lambda: made.run_path_without_pyc), _ONE),
        (FLOOR_NO_PYC, asks("floor", tree=lambda: str(made.tree)), _ONE),
    ]


def _measured(way: Any, made: Prepared, executors: int, scratch: Path) -> Sample:
    asked = way()
    request = {**asked, "imports": made.set.imports}
    if asked.get("warm") and not os.path.isdir(asked["sites"]):
        once(request, executors, scratch)
    return once(request, executors, scratch)


def once(request: dict[str, Any], executors: int, scratch: Path, *, nodes: int = 1, heap: int = 1024) -> Sample:
    """One run of once.py: ``executors`` with so many MiB each, on so many nodes."""
    with place_of_a_run(scratch) as place:
        work, master = str(place), f"local-cluster[{executors},1,{heap}]"
        config = {
            "spark.executor.memory": f"{heap}m",
            "spark.executorEnv.PEX_ROOT": f"{work}/pex",
            "spark.local.dir": f"{work}/local",
            # Executors that start slowly, as sixteen do on two cores, are waited for.
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
        }
        whole = {"config": config, "nodes": nodes, **request, "master": master, "executors": executors, "work": work}
        settle(scratch)
        time.sleep(1)  # what the run before left to the disk and to ending Java processes is not this one's time
        said = said_by([PYTHON, str(HERE / "once.py"), json.dumps(whole)], {**os.environ, "TMPDIR": work}, place)
    sample: Sample = json.loads(said.splitlines()[-1])
    return sample
