"""Make a wheelhouse importable on the driver and on every worker of a Spark session, and prove it."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import functools
import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload import activation, runs, sessions, wheelhouse, wheels
from depload.errors import (
    AlreadyImportedError,
    Conflict,
    DriverError,
    Fault,
    TargetMismatchError,
    WheelhouseConflictError,
    WorkerError,
)
from depload.report import Process, Report, faults
from depload.target import Target

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from depload.runs import Run
    from depload.sessions import Session
    from depload.wheelhouse import Manifest


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

    ``path`` is a run path or a ``.wheelhouse.zip``; ``spark`` a SparkSession (classic or Connect), a SparkContext, or
    None for this process alone. Workers import ``imports`` as the proof, by default what the source asked for; the
    driver imports only what ``imports`` names. Loading what is loaded is free.

    Raises NotAWheelhouseError, AlteredWheelhouseError, TargetMismatchError, AlreadyImportedError,
    WheelhouseConflictError, SparkSessionError, WorkerError; whichever it is, the driver's ``sys.path`` is as before.
    """
    run = runs.open_run(path)
    session = sessions.session_of(spark)
    key = run.manifest.digest, session.key if session else None
    if key in _loaded and imports is None:
        return Loaded(run.path, run.manifest.digest, _loaded[key].site, _loaded[key].report)
    runs.check(run)
    _check_target(run.manifest)
    _check_loaded(run.manifest)
    _check_imported(run.manifest)
    with _sys_path_restored_on_failure():
        loaded = _load(run, session, list(imports) if imports is not None else None)
    _loaded[key] = loaded
    _manifests[run.manifest.digest] = run.manifest
    return loaded


def _load(run: Run, session: Session | None, imports: list[str] | None) -> Loaded:
    manifest = run.manifest
    workers: tuple[Process, ...] = ()
    delivery = "driver only"
    if session:
        names = imports if imports is not None else proof_names(manifest)
        with concurrent.futures.ThreadPoolExecutor(1) as beside:  # the driver unpacks while the workers' nodes do
            beside.submit(activation.activate, str(run.file))
            workers, delivery = _on_workers(run, session, names)
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
    broken = [Fault(name, module.error) for name, module in driver.imported.items() if module.error]
    if driver.error:
        broken = [Fault("", driver.error)]
    if broken:
        raise DriverError(broken)
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


def _on_workers(run: Run, session: Session, names: list[str]) -> tuple[tuple[Process, ...], str]:
    """Send what the workers need and prove it: a reference to the run path first, the wheels where that fails."""
    module = wheelhouse.module_name(run.manifest.digest)
    stand_in = _sent_directory() / _sent_name(run, "reference")
    wheelhouse.write_reference(run.file, str(run.file.absolute()), stand_in)
    with _sent(session, stand_in):
        workers = _prove(session, f"{module}_reference", names, run.manifest)
        if not any(worker.error and activation.UNREACHABLE in worker.error for worker in workers):
            _refuse_faults(workers, run.manifest)
            return workers, "reference: the workers read the wheelhouse from the run path, which they see"
    session.take_back(stand_in)
    whole = _sent_directory() / _sent_name(run, "wheels")
    _link(run.file, whole)
    with _sent(session, whole):
        workers = _prove(session, module, names, run.manifest)
        _refuse_faults(workers, run.manifest)
        return workers, "wheels: sent through Spark, because not every worker sees the run path"


@contextlib.contextmanager
def _sent(session: Session, file: Path) -> Iterator[None]:
    """Send a file that workers import from; take it back if what follows fails."""
    session.send(file)
    try:
        yield
    except BaseException:
        session.take_back(file)
        raise


@functools.cache
def _sent_directory() -> Path:
    """Where the files that were sent lie as long as this process lives.

    Spark's file server hands them out from there, not from a copy, and an executor may come at any time.
    """
    made = tempfile.mkdtemp(prefix="depload-sent-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def _sent_name(run: Run, what: str) -> str:
    """The digest is in the name, because Spark keeps the first file of a name that it is given; so is the place."""
    place = hashlib.sha256(str(run.file.absolute()).encode()).hexdigest()[:8]
    return f"{run.manifest.name}-{run.manifest.digest[:16]}-{what}-{place}.zip"


def _link(file: Path, to: Path) -> None:
    if to.exists():
        return
    try:
        to.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, to)


def _refuse_faults(workers: Sequence[Process], manifest: Manifest) -> None:
    if found := faults(workers, manifest):
        raise WorkerError(found, _STRANGERS_REMEDY if any(worker.strangers for worker in workers) else "")


_STRANGERS_REMEDY = (
    "The workers imported another version before the wheelhouse could be activated: convert with the version that they "
    "have, or take the package out of the workers' environment."
)


def _prove(session: Session, module: str, names: list[str], manifest: Manifest) -> tuple[Process, ...]:
    """What every worker answers after it has activated the wheelhouse and imported ``names``."""
    description = f"depload: prove {manifest.name} {manifest.digest[:12]} on every worker"
    packages = manifest.packages()

    def prove() -> dict[str, Any]:  # pickled by value, as it names no globals: workers do not have depload
        import importlib

        facts: dict[str, Any] = importlib.import_module(module).prove(names, packages)
        return facts

    return tuple(map(Process.of, sessions.everywhere(session, prove, description)))
