"""Make a wheelhouse importable on the driver and on every worker of a Spark session, prove it, and put it back."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from depload.errors import (
    AlreadyImportedError,
    Conflict,
    DeploadWarning,
    DriverError,
    Fault,
    LoadError,
    TargetMismatchError,
    WheelhouseConflictError,
)
from depload.loading import apart, delivery, sessions
from depload.loading.delivery import PROCESS, SHARED
from depload.published import runs
from depload.reporting.report import Process, Report
from depload.standards import wheels
from depload.standards.target import Target
from depload.travels import activation

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from depload.loading.delivery import Delivered
    from depload.loading.sessions import Session
    from depload.published.holds import Hold
    from depload.published.runs import Run
    from depload.published.wheelhouse import Manifest

Isolation = Literal["shared", "process"]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A wheelhouse that is importable, with the proof; as a context manager it is unloaded in the end."""

    path: str
    digest: str
    site: str | None
    """The directory that is first on the driver's ``sys.path``; None where the driver was left alone."""
    report: Report
    _state: _State = field(repr=False)

    def unload(self) -> None:
        """Put back what loading changed, on the driver and for the session's workers.

        Where the same wheelhouse was loaded more than once, the last one does it. Modules of it that are imported
        leave ``sys.modules``; who holds one goes on with it. A Connect session keeps the file it was sent until it
        ends, so its shared workers can go on importing from it.
        """
        with self._state.busy:
            self._state.holders.discard(self)
            if not self._state.holders:
                self._state.end()

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def __enter__(self) -> Loaded:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unload()


class _State:
    """One wheelhouse in one session (or in the driver alone), however often it was loaded."""

    def __init__(self, manifest: Manifest, session: Session | None, isolation: str) -> None:
        self.manifest = manifest
        self.session = session
        self.isolation = isolation
        self.busy = threading.RLock()
        self.holders: weakref.WeakSet[Loaded] = weakref.WeakSet()
        self.report: Report | None = None
        self.delivered: Delivered | None = None
        self.on_driver = False
        self._holds: dict[str, Hold] = {}
        self._undo = contextlib.ExitStack()

    def keep(self, hold: Hold) -> None:
        """Hold a run path until the end, once for all loads of it."""
        before, self._holds[hold.place] = self._holds.get(hold.place), hold
        if before:
            before.release()

    def also_undo(self, undo: Callable[[], None]) -> None:
        self._undo.callback(undo)

    def end(self) -> None:
        """Put everything back, in reverse order."""
        with _changing:
            for key in [key for key, state in _states.items() if state is self]:
                del _states[key]
        self.report = None
        self._undo.close()
        for hold in self._holds.values():
            hold.release()


_changing = threading.RLock()  # held while it is decided who may change the driver, never while Spark works
_states: dict[tuple[str, str | None], _State] = {}  # by digest and session


def load(
    path: str | os.PathLike[str],
    spark: Any = None,
    *,
    imports: Sequence[str] | None = None,
    isolation: Isolation = "shared",
    driver: bool | None = None,
    digest: str | None = None,
    via: Any = None,
) -> Loaded:
    """Make the wheelhouse at ``path`` importable here and, with a Spark session, on every worker.

    ``path`` is a run path or a ``.wheelhouse.zip``; ``spark`` a SparkSession (classic or Connect), a SparkContext, or
    None for this process alone. Workers import ``imports`` as the proof, by default what the source asked for; the
    driver imports only what ``imports`` names. Loading what is loaded is free.

    ``isolation="process"`` gives the session's functions Python workers of their own, in which the wheelhouse comes
    before everything that is installed. ``driver`` says whether this process gets it as well: True or an error, False,
    or, by default, True but with ``isolation="process"`` only where nothing here stands in the way (a DeploadWarning
    and the report say so). ``via`` is a ``WorkspaceClient`` or a dbutils, for a run path on Databricks that is not
    mounted here.

    ``digest`` is the one that ``convert`` told: another is an error before anything of the wheelhouse is run. A lease
    tells ``cleanup`` and ``prune`` that the run path is in use, until it is unloaded, the session or the process ends.

    Raises NotAWheelhouseError, AlteredWheelhouseError, TargetMismatchError, AlreadyImportedError,
    WheelhouseConflictError, SparkSessionError, WorkerError; whichever it is, driver and session are as before.
    """
    run, hold = runs.hold_run(path, via, ended=functools.partial(_is_stopped, spark))
    with contextlib.ExitStack() as failing:
        failing.callback(hold.release)
        session = sessions.session_of(spark)
        _check_options(session, isolation, driver)
        _check_digest(run, digest)
        with _state_of(run.manifest, session, isolation) as state:
            if state.report is None or imports is not None or (driver and not state.on_driver):
                runs.check_what_runs(run)
                _check_target(run.manifest)
                with _checked_meanwhile(run):
                    report = _load(run, state, list(imports) if imports is not None else None, driver)
                state.report = replace(report, lease=hold.why)
            site = state.report.driver.site if state.report.driver else None
            loaded = Loaded(run.path, run.manifest.digest, site, state.report, state)
            state.holders.add(loaded)
            state.keep(hold)
            failing.pop_all()
    for warning in loaded.report.warnings:
        warnings.warn(warning, DeploadWarning, stacklevel=2)
    return loaded


def _is_stopped(spark: Any) -> bool:
    """Whether a session was stopped, as far as the objects of this process know: no server is asked."""
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        return getattr(spark, "is_stopped", False) is True  # from 3.5 on
    context = getattr(spark, "_sc", spark)
    gone = (getattr(context, name, True) is None for name in ("_jsc", "_active_spark_context"))
    return spark is not None and any(gone)


@contextlib.contextmanager
def _checked_meanwhile(run: Run) -> Iterator[None]:
    """Hash the whole file while Spark works; that it was altered explains whatever else may have gone wrong."""
    with ThreadPoolExecutor(1) as beside:
        whole = beside.submit(runs.check, run)
        try:
            yield
        finally:
            whole.result()


def _check_digest(run: Run, digest: str | None) -> None:
    if digest and run.manifest.digest != digest:
        raise LoadError(
            f"{run.path} holds digest {run.manifest.digest}, and {digest} had been published there; convert again, and "
            "find out who wrote there since"
        )


def _check_options(session: Session | None, isolation: str, driver: bool | None) -> None:
    if isolation not in (SHARED, PROCESS):
        raise LoadError(f"isolation is {SHARED!r} or {PROCESS!r}, not {isolation!r}")
    if session is None and isolation == PROCESS:
        raise LoadError(f"isolation={PROCESS!r} is for Spark's Python workers; hand over spark=, or leave it out")
    if session is None and driver is False:
        raise LoadError("driver=False without a Spark session leaves nothing to load into; hand over spark=")


@contextlib.contextmanager
def _state_of(manifest: Manifest, session: Session | None, isolation: str) -> Iterator[_State]:
    """The one state of this wheelhouse and session, for one thread at a time; it ends where nothing was loaded.

    Raises where the session already has what does not go with it.
    """
    key = manifest.digest, session.key if session else None
    while True:
        with _changing:
            if session:
                _check_session(manifest, session, isolation)
            state = _states.setdefault(key, _State(manifest, session, isolation))
        with state.busy:
            if _states.get(key) is not state:  # another thread unloaded it while this one waited
                continue
            try:
                yield state
            finally:
                if state.report is None:
                    state.end()
            return


def _check_session(manifest: Manifest, session: Session, isolation: str) -> None:
    for other in _states.values():
        if other.session is None:
            continue
        same = other.manifest.digest == manifest.digest and other.isolation == isolation
        if PROCESS in (isolation, other.isolation) and other.session.key == session.key and not same:
            raise LoadError(
                f"this session runs with the wheelhouse {other.manifest.name}, digest {other.manifest.digest[:12]}, "
                f"and isolation={other.isolation!r}; unload that first, or load into another session "
                "(spark.newSession())"
            )
        if SHARED == isolation == other.isolation and other.session.shared_key == session.shared_key:
            _refuse_disagreement(manifest, [other.manifest])


def _load(run: Run, state: _State, imports: list[str] | None, driver: bool | None) -> Report:
    with contextlib.ExitStack() as undo:
        told = _claim_driver(state, driver, undo)
        with ThreadPoolExecutor(1) as beside:  # the driver unpacks while the workers' nodes do
            if state.on_driver:
                beside.submit(activation.activate, str(run.file))
            delivered = _on_workers(run, state, imports, undo)
        process = _on_driver(run, imports) if state.on_driver else None
        state.also_undo(undo.pop_all().close)
    state.delivered = delivered
    return Report(
        driver=process,
        workers=delivered.workers if delivered else (),
        delivery=delivered.how if delivered else "driver only",
        digest=run.manifest.digest,
        packages=run.manifest.versions(),
        isolation=state.isolation,
        warnings=(*told, *(delivered.warnings if delivered else ())),
    )


def _on_workers(run: Run, state: _State, imports: list[str] | None, undo: contextlib.ExitStack) -> Delivered | None:
    session, names = state.session, imports if imports is not None else proof_names(run.manifest)
    if session is None:
        return None
    if state.delivered:
        return delivery.prove(run, session, state.delivered, names, state.isolation)
    delivered = delivery.deliver(run, session, names, state.isolation)
    undo.callback(delivered.undo)
    return delivered


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


def _claim_driver(state: _State, driver: bool | None, undo: contextlib.ExitStack) -> tuple[str, ...]:
    """Decide whether this process gets the wheelhouse; returns what there is to say where it is left alone."""
    if state.on_driver or driver is False:
        return ()
    with _changing, contextlib.ExitStack() as refused:
        if brought := _brought_packaging(state.manifest):
            apart.let_go(brought)
        refused.callback(_put_packaging_back)
        try:
            others = [other.manifest for other in _states.values() if other.on_driver and other is not state]
            _refuse_disagreement(state.manifest, others)
            _refuse_imported(state.manifest)
        except (WheelhouseConflictError, AlreadyImportedError) as error:
            if driver or state.isolation == SHARED:
                raise
            found = "; ".join(map(str, error.conflicts))
            return (f"the driver was left as it is, only the workers have the wheelhouse: {found}",)
        refused.pop_all()
        state.on_driver = True
    undo.callback(_leave_driver, state)
    return ()


def _leave_driver(state: _State) -> None:
    with _changing:
        state.on_driver = False
        if all(other.manifest.digest != state.manifest.digest for other in _states.values() if other.on_driver):
            activation.deactivate(state.manifest.digest)
        _put_packaging_back()


def _put_packaging_back() -> None:
    """What depload itself stands on, once no wheelhouse here brings another."""
    if not any(_brought_packaging(other.manifest) for other in _states.values() if other.on_driver):
        apart.put_back()


def _brought_packaging(manifest: Manifest) -> str | None:
    return manifest.versions().get("packaging")


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


def _refuse_disagreement(manifest: Manifest, others: Sequence[Manifest]) -> None:
    brings = manifest.versions()
    conflicts = [
        Conflict(wheel.name, wheel.version, brings[wheel.name], f"wheelhouse {other.name}, digest {other.digest[:12]}")
        for other in others
        for wheel in other.wheels
        if brings.get(wheel.name, wheel.version) != wheel.version
    ]
    if conflicts:
        raise WheelhouseConflictError(conflicts)


def _refuse_imported(manifest: Manifest) -> None:
    conflicts = []
    for wheel in manifest.wheels:
        for name in wheel.names:
            module = sys.modules.get(name)
            file = activation.module_file(module) if module else None
            if module and file:
                version = activation.version_of(module, wheel.name)
                if not activation.same_version(version, wheel.version):
                    conflicts.append(Conflict(wheel.name, version or "an unknown version", wheel.version, file))
                    break
    if conflicts:
        raise AlreadyImportedError(conflicts)
