"""One to sixteen executors on this machine, the parts that a load is made of, and what they predict of a cluster."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from benchmarks import model
from benchmarks import sets as sets_
from benchmarks.loading import once
from benchmarks.measuring import PYTHON, Ground, Sample, Series, Way, in_turns, timed
from benchmarks.model import REFERENCE, URI, WHEELS, Cluster, Parts
from benchmarks.prepared import prepared
from benchmarks.results import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.prepared import Prepared
    from benchmarks.results import Results
    from benchmarks.sets import Set

PART = "scale"
_SET = sets_.MEDIUM
_HEAP = 512  # MiB: sixteen executors on one machine
_MOST = 16
_NOTHING = "an empty wheelhouse, 1 executor"
_NOTHING_TO_MANY = f"an empty wheelhouse, {_MOST} executors"
_VERIFY, _UNPACK, _WORKER = "the driver verifies", "one process unpacks", "one process imports and answers"
_NO_FILE, _FILE = "a job without a file, 1 executor", "the same with the wheelhouse by addFile"
_CASES: dict[str, tuple[str, bool, bool, tuple[int, ...]]] = {
    "cold, workers see the store, one node": (REFERENCE, False, False, (1, 2, 4, 8, 16)),
    "cold, workers see the store, a node each": (REFERENCE, False, True, (2, 4, 8, 16)),
    "cold, through Spark's files, a node each": (WHEELS, False, True, (1, 4, 16)),
    "the nodes have the site": (REFERENCE, True, False, (1, 4, 16)),
}
"""How it travels, whether it is warm, whether each executor has a node of its own, and how many there are."""

EXPLAINED = """
The model (benchmarks/model.py) adds up what the parts of a load take, each measured by itself; nothing in it is fitted
to the loads that it is compared with. Those run here, all executors and the driver on this machine's cores, nodes kept
apart by directories of their own.
"""


def plans(sets: list[Set]) -> list[Plan]:
    """The parts and the loads of the medium set."""
    if _SET not in sets:
        return []
    cases = [Plan(PART, _SET.name, case, functools.partial(_loads, case)) for case in _CASES]
    return [Plan(PART, _SET.name, "parts", _parts), *cases]


# --- measured -------------------------------------------------------------------------------------------------------


def _parts(runs: int, ground: Ground) -> dict[str, Series]:
    made, scratch = prepared(ground, _SET), ground.fresh("parts")
    warm = {"sites": str(scratch / "sites"), "apart": True}
    nothing = {"way": "depload", "path": _empty(scratch), "imports": [], **warm}
    job = {"way": "floor", "tree": str(made.tree_with_pyc), "imports": []}
    once(nothing, 1, scratch, heap=_HEAP)  # after which the node has the empty site
    sites = {"DEPLOAD_SITES": str(scratch / "set-sites")}
    verify = (
        f"import json, time; from depload.published import runs; run = runs.open_run('{made.run_path}');"
        "start = time.perf_counter(); runs.check(run); print(json.dumps({'seconds': time.perf_counter() - start}))"
    )
    activate = f"from depload.travels import activation; activation.activate('{made.wheelhouse}')"
    prove = f"from depload.travels import activation; activation.prove({list(_SET.imports)}, {{}}, '{made.wheelhouse}')"
    timed(f'{PYTHON} -c "{activate}"', scratch, sites)
    ways = [
        Way(_NOTHING, lambda: once(nothing, 1, scratch, heap=_HEAP)),
        Way(_NOTHING_TO_MANY, lambda: once(nothing, _MOST, scratch, heap=_HEAP), 0.5),
        Way(_VERIFY, lambda: _with_sizes(made, timed(f'{PYTHON} -c "{verify}"', scratch, own_clock=True))),
        Way(_UNPACK, lambda: timed(f'DEPLOAD_SITES=$WORK/sites {PYTHON} -c "{activate}"', scratch)),
        Way(_WORKER, lambda: timed(f'{PYTHON} -c "{prove}"', scratch, sites)),
        Way(_NO_FILE, lambda: once(job, 1, scratch, heap=_HEAP)),
        Way(_FILE, lambda: once({**job, "way": "file", "archive": str(made.wheelhouse)}, 1, scratch, heap=_HEAP)),
    ]
    return in_turns(ways, runs * 0.4)


def _with_sizes(made: Prepared, sample: Sample) -> Sample:
    from depload.published import wheelhouse

    reference = made.folder / "reference.zip"
    wheelhouse.write_reference(made.wheelhouse, str(made.wheelhouse), reference)
    return {
        **sample,
        "bytes": made.wheelhouse.stat().st_size,
        "reference_bytes": reference.stat().st_size,
        "cores": os.cpu_count() or 1,
    }


def _empty(scratch: Path) -> str:
    import depload

    source = scratch / "empty"
    source.mkdir()
    (source / "nothing.py").write_text("", encoding="utf-8")
    return depload.convert(source, scratch / "base").path


def _loads(case: str, runs: int, ground: Ground) -> dict[str, Series]:
    how, warm, apart, counts = _CASES[case]
    made, scratch = prepared(ground, _SET), ground.fresh("scale")
    request = {"way": "depload", "path": made.run_path, "imports": list(_SET.imports), "unseen": how == WHEELS}
    request["apart"] = True
    if warm:
        request["sites"] = str(scratch / "sites")
        once(request, 1, scratch, heap=_HEAP)

    def measured(executors: int) -> Sample:
        return once(request, executors, scratch, nodes=executors if apart else 1, heap=_HEAP)

    ways = [Way(_executors(count), functools.partial(measured, count)) for count in counts]
    return in_turns(ways, runs * 0.2)


def _executors(count: int) -> str:
    return f"{count} executor{'s' if count > 1 else ''}"


# --- told -----------------------------------------------------------------------------------------------------------


def parts(results: Results) -> Parts | None:
    """The model's input, from the results; None where something of it was not measured."""
    key = f"{PART}/{_SET.name}/parts"

    def value(way: str, measure: str = "seconds") -> float:
        found = results.median(key, way, measure)
        if found is None:
            raise LookupError(way)
        return found

    def further(measure: str) -> float:
        return (value(_NOTHING_TO_MANY, measure) - value(_NOTHING, measure)) / (_MOST - 1)

    try:
        return Parts(
            fixed=value(_NOTHING),
            executor_cpu=further("cpu"),
            driver_cpu=further("driver_cpu"),
            verify=value(_VERIFY),
            unpack=value(_UNPACK),
            unpack_cpu=value(_UNPACK, "cpu"),
            worker=value(_WORKER),
            worker_cpu=value(_WORKER, "cpu"),
            send=max(0.0, value(_FILE) - value(_NO_FILE)),
            send_cpu=max(0.0, value(_FILE, "cpu") - value(_NO_FILE, "cpu")),
            size=value(_VERIFY, "bytes"),
            reference=value(_VERIFY, "reference_bytes"),
        )
    except LookupError:
        return None


def rows(results: Results) -> list[str]:
    """The parts, the model beside what was measured, and what it says of a cluster."""
    found = parts(results)
    if found is None:
        return ["Not measured."]
    return [*_part_rows(found), "", *_checked(results, found), "", *_predicted(found), "", *_daily(found)]


def _part_rows(found: Parts) -> list[str]:
    size = _bytes(found.size)
    return [
        f"| part of a load of set {_SET.name} | s | CPU s |",
        "| --- | --- | --- |",
        f"| a proof job with one executor, nothing to unpack or import | {found.fixed:.2f} | |",
        f"| each further executor: its Python worker starts and answers | | {found.executor_cpu:.3f} |",
        f"| of it, on the driver | | {found.driver_cpu:.4f} |",
        f"| the driver verifies {size} | {found.verify:.2f} | |",
        f"| a node (or the driver) unpacks | {found.unpack:.2f} | {found.unpack_cpu:.2f} |",
        f"| a worker finds the site, imports and answers | {found.worker:.2f} | {found.worker_cpu:.2f} |",
        f"| {size} through the driver's file server to one executor | {found.send:.2f} | {found.send_cpu:.2f} |",
    ]


def _checked(results: Results, found: Parts) -> Iterator[str]:
    cores = int(results.median(f"{PART}/{_SET.name}/parts", _VERIFY, "cores") or 1)
    yield "| load | executors | nodes | predicted s | measured s | error |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for case, (how, warm, apart, counts) in _CASES.items():
        for count in counts:
            nodes = count if apart else 1
            seconds = results.median(f"{PART}/{_SET.name}/{case}", _executors(count))
            guess = model.on_one_machine(found, count, nodes, cores, how, warm=warm)
            told = f"{seconds:.1f} | {(guess - seconds) / seconds:+.0%}" if seconds else "failed |"
            yield f"| {case} | {count} | {nodes} | {guess:.1f} | {told} |"


def _predicted(found: Parts) -> Iterator[str]:
    cluster = Cluster()
    yield (
        f"On a cluster, by the model: a node for each executor, {cluster.cores} cores each; a node reads "
        f"{cluster.store / 1e6:.0f} MB/s from the store, and {cluster.driver * 8 / 1e9:.0f} Gbit/s leave the driver. "
        f"From {model.narrow(cluster)} executors on, a cold load waits longer for the driver's network than a node "
        "needs to read it from the store: from there the driver must not be the source."
    )
    yield ""
    yield "| executors | way | s, cold | s, warm | from the store, cold | warm | through the driver |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for executors in (10, 100, 1000):
        for way in (REFERENCE, URI, WHEELS):
            seconds = [f"{model.on_cluster(found, executors, cluster, way, warm=warm):.1f}" for warm in (False, True)]
            store = [_bytes(model.from_store(found, executors, way, warm=warm)) for warm in (False, True)]
            sent = _bytes(model.through_driver(found, executors, way))
            yield f"| {' | '.join([str(executors), way, *seconds, *store, sent])} |"


def _daily(found: Parts) -> Iterator[str]:
    runs, cluster = 10_000, Cluster()
    yield f"And {runs:,} runs a day, each of one load:"
    yield ""
    yield "| executors of a run | way | the nodes | hours in all | from the store | through drivers |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for executors in (10, 1000):
        for way in (REFERENCE, URI, WHEELS):
            for warm, nodes in ((False, "new"), (True, "have it")):
                hours = runs * model.on_cluster(found, executors, cluster, way, warm=warm) / 3600
                store = _bytes(runs * model.from_store(found, executors, way, warm=warm))
                sent = _bytes(runs * model.through_driver(found, executors, way))
                yield f"| {executors} | {way} | {nodes} | {hours:.0f} | {store} | {sent} |"


def _bytes(count: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
