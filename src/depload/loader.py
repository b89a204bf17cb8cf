"""Make a wheelhouse importable on the driver and on every worker of a Spark session, and prove it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload import activation, runs, wheelhouse, wheels
from depload.errors import (
    AlreadyImportedError,
    Conflict,
    Fault,
    LoadError,
    SparkSessionError,
    TargetMismatchError,
    WheelhouseConflictError,
    WorkerError,
)
from depload.report import Process, Report, faults
from depload.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from depload.runs import Run
    from depload.wheelhouse import Manifest

_ROUNDS = 8
_HOLD = 0.05  # seconds that a proof task keeps its slot in the first round, so that the others go to other slots


@dataclass(frozen=True)
class Loaded:
    """A wheelhouse that is importable, with the proof."""

    path: str
    digest: str
    site: str
    """The directory that is first on the driver's ``sys.path``."""
    report: Report


_loaded: dict[tuple[str, str | None], Loaded] = {}  # by digest and Spark application
_manifests: dict[str, Manifest] = {}  # what this process has activated, by digest


def load(path: str | os.PathLike[str], spark: Any = None, *, imports: Sequence[str] | None = None) -> Loaded:
    """Make the wheelhouse at ``path`` importable here and, with a Spark session, on every worker.

    ``path`` is a run path or a ``.wheelhouse.zip``; ``spark`` a SparkSession or SparkContext, or None for this process
    alone. Workers import ``imports`` as the proof, by default what the source asked for; the driver imports only what
    ``imports`` names. Loading what is loaded is free.

    Raises NotAWheelhouseError, AlteredWheelhouseError, TargetMismatchError, AlreadyImportedError,
    WheelhouseConflictError, SparkSessionError, WorkerError; whichever it is, the driver's ``sys.path`` is as before.
    """
    run = runs.open_run(path)
    context = _context(spark)
    key = run.manifest.digest, context.applicationId if context else None
    if key in _loaded and imports is None:
        return Loaded(run.path, run.manifest.digest, _loaded[key].site, _loaded[key].report)
    runs.check(run)
    _check_target(run.manifest)
    _check_loaded(run.manifest)
    _check_imported(run.manifest)
    with _sys_path_restored_on_failure():
        loaded = _load(run, context, list(imports) if imports is not None else None)
    _loaded[key] = loaded
    _manifests[run.manifest.digest] = run.manifest
    return loaded


def _load(run: Run, context: Any, imports: list[str] | None) -> Loaded:
    manifest = run.manifest
    workers: tuple[Process, ...] = ()
    delivery = "driver only"
    if context:
        names = imports if imports is not None else proof_names(manifest)
        with concurrent.futures.ThreadPoolExecutor(1) as beside:  # the driver unpacks while the workers' nodes do
            beside.submit(activation.activate, str(run.file))
            workers, delivery = _on_workers(run, context, names)
    driver = _on_driver(run, imports)
    packages = {wheel.name: wheel.version for wheel in manifest.wheels}
    report = Report(driver, workers, delivery, manifest.digest, packages)
    return Loaded(run.path, manifest.digest, str(driver.site), report)


def proof_names(manifest: Manifest) -> list[str]:
    """What a worker imports to prove that it has what the source asked for.

    Of each requested package the module of its own name if it has one, else all its public ones but those that are
    merely along in the wheel. What only other packages need is proven by theirs.
    """
    names: list[str] = []
    for wheel in manifest.wheels:
        if wheel.requested:
            public = [name for name in wheel.names if not any(part.startswith("_") for part in name.split("."))]
            own = [name for name in public if name.replace("_", "-").replace(".", "-").lower() == wheel.name]
            names += own or [name for name in public if name.split(".")[0] not in _ALONG]
    return names


_ALONG = {
    "test",
    "tests",
    "testing",
    "example",
    "examples",
    "doc",
    "docs",
    "benchmark",
    "benchmarks",
    "scripts",
    "tools",
}


# --- the driver -----------------------------------------------------------------------------------------------------


def _on_driver(run: Run, imports: list[str] | None) -> Process:
    """Activate here. What was not asked for by name is located, not imported: imports have effects."""
    facts = activation.prove(imports or [], run.manifest.packages(), archive=str(run.file))
    if imports is None and not facts["error"]:
        wanted = set(proof_names(run.manifest))
        owners = {name: wheel.name for wheel in run.manifest.wheels for name in wheel.names if name in wanted}
        facts["imported"] = {name: activation.located(name, owner, facts["site"]) for name, owner in owners.items()}
    driver = Process.of(facts)
    broken = [f"{name}: {module.error}" for name, module in driver.imported.items() if module.error]
    if driver.error or broken:
        raise LoadError(
            "the driver cannot import what the wheelhouse brings:\n  - " + (driver.error or "\n  - ".join(broken))
        )
    return driver


def _check_target(manifest: Manifest) -> None:
    running = Target.running()
    unfit = [wheel.filename for wheel in manifest.wheels if running.rank(wheels.tags_of(wheel.filename)) is None]
    if unfit:
        raise TargetMismatchError(
            str(manifest.target),
            str(running),
            [Fault(filename, f"does not run on {running}") for filename in unfit],
            f"--python {running.python} --platform {running.platform}",
        )


def _check_loaded(manifest: Manifest) -> None:
    brings = {wheel.name: wheel.version for wheel in manifest.wheels}
    conflicts = [
        Conflict(wheel.name, wheel.version, brings[wheel.name], f"wheelhouse {other.name}, digest {other.digest[:12]}")
        for other in _manifests.values()
        for wheel in other.wheels
        if brings.get(wheel.name, wheel.version) != wheel.version
    ]
    if conflicts:
        raise WheelhouseConflictError(conflicts)


def _check_imported(manifest: Manifest) -> None:
    conflicts = []
    for wheel in manifest.wheels:
        for name in wheel.names:
            module = sys.modules.get(name)
            file = activation.module_file(module) if module else None
            if module and file:
                version = activation.version_of(module, wheel.name)
                if version != wheel.version:
                    conflicts.append(Conflict(wheel.name, version or "an unknown version", wheel.version, file))
                    break
    if conflicts:
        raise AlreadyImportedError(conflicts)


@contextlib.contextmanager
def _sys_path_restored_on_failure() -> Iterator[None]:
    before = list(sys.path)
    try:
        yield
    except BaseException:
        activation.forget(before)
        raise


# --- the workers ----------------------------------------------------------------------------------------------------


def _context(spark: Any) -> Any:
    """The SparkContext of a session or of itself; the kind is found from the object, never from the environment."""
    if spark is None:
        return None
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        raise SparkSessionError(
            "this is a Spark Connect session, which this version cannot load on",
            "use a classic session (dedicated access mode), or load(path) for the driver alone",
        )
    context = getattr(spark, "sparkContext", spark)
    if not hasattr(context, "addPyFile"):
        raise SparkSessionError(
            f"{type(spark).__name__} is not a Spark session", "hand over a SparkSession or SparkContext"
        )
    if getattr(context, "_jsc", None) is None:
        raise SparkSessionError("the Spark session was stopped", "start a new one")
    return context


def _on_workers(run: Run, context: Any, names: list[str]) -> tuple[tuple[Process, ...], str]:
    """Send what the workers need and prove it: a reference to the run path first, the wheels where that fails."""
    module = wheelhouse.module_name(run.manifest.digest)
    with tempfile.TemporaryDirectory(prefix="depload-") as scratch:
        stand_in = wheelhouse.write_reference(
            run.file, str(run.file.absolute()), Path(scratch) / _sent_name(run, "reference")
        )
        context.addPyFile(str(stand_in))
        workers = _prove(context, f"{module}_reference", names, run.manifest)
        delivery = "reference: the workers read the wheelhouse from the run path, which they see"
        if any(worker.error and activation.UNREACHABLE in worker.error for worker in workers):
            _take_back(context, stand_in.name)
            whole = Path(scratch) / _sent_name(run, "wheels")
            _link(run.file, whole)
            context.addPyFile(str(whole))
            workers = _prove(context, module, names, run.manifest)
            delivery = "wheels: sent through Spark, because not every worker sees the run path"
    if found := faults(workers, run.manifest):
        raise WorkerError(found, _remedy(workers))
    return workers, delivery


def _sent_name(run: Run, what: str) -> str:
    """The digest is in the name, because Spark keeps the first file of a name that it is given."""
    return f"{run.manifest.name}-{run.manifest.digest[:16]}-{what}.zip"


def _link(file: Path, to: Path) -> None:
    try:
        to.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, to)


def _take_back(context: Any, name: str) -> None:
    """Workers that start from now on do not get this file on their path; SparkContext has no public way to say so."""
    with contextlib.suppress(AttributeError, ValueError):
        context._python_includes.remove(name)
    sys.path[:] = [entry for entry in sys.path if os.path.basename(entry) != name]  # noqa: PTH119


def _remedy(workers: Sequence[Process]) -> str:
    if any(worker.strangers for worker in workers):
        return (
            "The workers imported another version before the wheelhouse could be activated: convert with the version "
            "that they have, or take the package out of the workers' environment."
        )
    return ""


def _prove(context: Any, module: str, names: list[str], manifest: Manifest) -> tuple[Process, ...]:
    """Ask every slot of every executor, in as many rounds as it takes until each executor has answered."""
    answers: dict[tuple[str, str, int], Process] = {}
    for attempt in range(_ROUNDS):
        slots = _slots(context)
        task = _task(module, names, manifest.packages(), _HOLD * 2**attempt)
        with _described(context, f"depload: prove {manifest.name} {manifest.digest[:12]} on every worker"):
            count = sum(slots.values())
            facts = context.parallelize(range(count), count).mapPartitions(task).collect()
        answers.update({(row["host"], row["executor"], row["pid"]): Process.of(row) for row in facts})
        answered = Counter(executor for _, executor, _ in answers)
        if all(answered[executor] >= count for executor, count in slots.items()) or "" in slots:
            break
    missing = [executor for executor in slots if executor and not answered[executor]]
    if missing:
        raise SparkSessionError(
            f"no proof from executor {', '.join(missing)}: in {_ROUNDS} rounds none of their slots took a task",
            "load again when the cluster is less busy",
        )
    return tuple(answers[key] for key in sorted(answers))


def _task(
    module: str, names: list[str], packages: dict[str, Any], hold: float
) -> Callable[[Any], list[dict[str, Any]]]:
    """What runs on a worker. A nested function without globals is pickled by value: workers do not have depload."""

    def prove(_rows: Any) -> list[dict[str, Any]]:
        import importlib
        import time

        facts = importlib.import_module(module).prove(names, packages)
        time.sleep(hold)
        return [facts]

    return prove


def _slots(context: Any) -> dict[str, int]:
    """How many tasks each executor runs at once, by its id; ``""`` for all where Spark does not say."""
    try:
        scala = context._jsc.sc()
        each = max(1, int(context.getConf().get("spark.task.cpus", "1")))
        executors = scala.statusStore().executorList(True)  # noqa: FBT003
        rows = [executors.apply(at) for at in range(executors.size())]
        slots = {str(row.id()): int(row.totalCores()) // each for row in rows}
        if found := {executor: count for executor, count in slots.items() if count}:
            return found
    except Exception:  # noqa: BLE001 - py4j raises its own; some platforms forbid these calls
        return {"": max(1, context.defaultParallelism)}
    return {"": max(1, context.defaultParallelism)}


@contextlib.contextmanager
def _described(context: Any, text: str) -> Iterator[None]:
    """Name the job in Spark's UI, and leave the thread's description as it was."""
    before = context.getLocalProperty("spark.job.description")
    context.setLocalProperty("spark.job.description", text)
    try:
        yield
    finally:
        context.setLocalProperty("spark.job.description", before)
