"""The tasks of a job: process_dependencies, load_and_validate, cleanup; and prune_wheelhouses, of a job of its own.

Each is a function for a thin notebook, with keyword arguments, and an entry point of the same name for a
``python_wheel_task`` (module ``entry``). What goes in are parameters, what comes out are task values and a printed
report, and an exception is the failure: none of them ends the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from depload import BuildLimits, Policy, Target, convert, load, prune
from depload.databricks import jobruns, secrets, validation, values
from depload.databricks import parameters as given
from depload.databricks.jobruns import Cleared, Published
from depload.errors import (
    DeploadError,
    Fault,
    JobFailedError,
    MissingWheelhouseError,
    ParameterError,
    PruneError,
    TaskValueError,
    UnresolvedParameterError,
    ValidationError,
    WheelhouseGoneError,
    WorkerError,
)
from depload.reporting import leftovers
from depload.stores.addresses import open_store, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from depload import IndexOptions, Loaded, Pruned

PROCESS = "process_dependencies"
"""The task key that the other tasks expect the first one to have."""

_GOOD = frozenset({"success", "excluded", "disabled"})  # the two others were left out on purpose


def process_dependencies(
    source: str,
    volume_base_path: str,
    *,
    run_id: str | None = None,
    task: str = PROCESS,
    name: str | None = None,
    runtime: str | None = None,
    options: IndexOptions | None = None,
    index_url_secret: str | None = None,
    extra_index_url_secrets: str | Iterable[str] | None = None,
    constraints: str | Iterable[str] | None = None,
    require_hashes: bool | str = False,
    no_build: bool | str = False,
    allow: str | Iterable[str] | None = None,
    deny: str | Iterable[str] | None = None,
    audit: str | None = None,
    audit_ignore: str | Iterable[str] | None = None,
    reuse: str | None = None,
    refresh: bool | str = False,
    build_timeout: str | None = None,
    build_memory: str | None = None,
    build_disk: str | None = None,
    build_network: Literal["index", "all"] | None = None,
    dbutils: Any = None,
) -> Published:
    """Convert ``source``, and set the task values ``wheelhouse_path``, ``wheelhouse_digest`` and ``wheelhouse_format``.

    With ``run_id`` (``{{job.run_id}}``) a second attempt of the same job run hands on what the first one published, as
    long as it is whole and was made of the same contents for the same target; after a cleanup it converts anew.
    ``task`` tells the wheelhouses of one job run apart where it has several. Without a dbutils and without
    ``DEPLOAD_TASK_VALUES`` no task value is set, and only the returned path, or ``run_id``, leads to it.

    ``index_url_secret`` names a secret, ``scope/key``, that holds the index URL with its password;
    ``extra_index_url_secrets`` names further ones. ``require_hashes`` to ``audit_ignore`` are those of
    ``depload.Policy``; a list whose versions have commas is a JSON list, or a file. ``reuse`` (``24h``) and ``refresh``
    are those of ``depload.convert``; wheels are kept in ``volume_base_path`` for all runs. ``build_timeout`` (``30m``),
    ``build_memory``, ``build_disk`` (``20GB``) and ``build_network`` are what ``depload.BuildLimits`` has.

    Raises ParameterError, OldRuntimeError, SecretError, TaskValueError, and what ``depload.convert`` raises.
    """
    asked = {"timeout": build_timeout, "memory": build_memory, "disk": build_disk, "network": build_network}
    given.refuse_references(
        **{f"build_{key}": value for key, value in asked.items()},
        source=source,
        volume_base_path=volume_base_path,
        run_id=run_id,
        task=task,
        name=name,
        runtime=runtime,
        index_url_secret=index_url_secret,
        extra_index_url_secrets=extra_index_url_secrets,
        constraints=constraints,
        allow=allow,
        deny=deny,
        audit=audit,
        audit_ignore=audit_ignore,
    )
    given.require(source=source, volume_base_path=volume_base_path)
    open_store(volume_base_path, dbutils)  # before anything is fetched for nothing
    builds = BuildLimits.of(**asked)
    known = values.task_values(dbutils, task=task)
    target = Target.of(runtime=runtime)
    limits = given.listed("constraints", constraints)
    policy = Policy(
        require_hashes=given.flag("require_hashes", require_hashes),
        no_build=given.flag("no_build", no_build),
        allow=tuple(given.listed("allow", allow)),
        deny=tuple(given.listed("deny", deny)),
        audit=audit,
        audit_ignore=tuple(given.listed("audit_ignore", audit_ignore)),
    )
    extra = given.listed("extra_index_url_secrets", extra_index_url_secrets)
    if index_url_secret or extra:
        options = secrets.with_secrets(options, index_url=index_url_secret, extra_index_urls=extra, dbutils=dbutils)
    place, published = volume_base_path, None
    if run_id:
        jobruns.check(run_id, task)
        made_of = jobruns.inputs(
            source, target=target, name=name, options=options, constraints=limits, policy=policy, via=dbutils
        )
        place = jobruns.folder(volume_base_path, run_id, task, made_of)
        published = jobruns.published(volume_base_path, run_id, task, made_of, dbutils)
    if published is None:
        converted = convert(
            source,
            place,
            name=name,
            target=target,
            options=options,
            constraints=limits,
            builds=builds,
            policy=policy,
            reuse=reuse,
            refresh=given.flag("refresh", refresh),
            cache=volume_base_path,  # for all runs, where the run path is one job run's own
            via=dbutils,
        )
        published = Published(converted.path, converted.digest, converted.format, reused=False)
        print(f"{'reused' if converted.reused else 'converted'}: {converted.why}")
        for warning in converted.warnings:
            print(f"warning: {warning}")
    return _handed_on(published, known, keep=bool(run_id))


def _handed_on(published: Published, known: values.TaskValues | None, *, keep: bool) -> Published:
    """Set the task values; where that fails and no rerun would find the wheelhouse, nothing of it stays."""
    told = published.values()
    for key, value in told.items():
        print(f"{key}: {value}")
    if published.reused:
        print("an earlier attempt of this job run had published it; nothing was converted")
    if known is None:
        print("no task values here: hand on the path, or run_id and volume_base_path")
        return published
    try:
        values.hand_on(known, told)
    except DeploadError:
        if not keep:
            Cleared().remove(published.path)
        raise
    return published


# --- load -----------------------------------------------------------------------------------------------------------


def load_and_validate(
    wheelhouse_path: str | None = None,
    *,
    volume_base_path: str | None = None,
    run_id: str | None = None,
    task: str = PROCESS,
    wheelhouse_digest: str | None = None,
    imports: str | Iterable[str] | None = None,
    isolation: Literal["shared", "process"] = "shared",
    junit: str | None = None,
    spark: Any = None,
) -> Loaded:
    """Load a wheelhouse, let a function of the session import it on every worker, print the report.

    Which one: ``wheelhouse_path``, as the task values say it; or ``volume_base_path`` and ``run_id``, which find what
    ``task`` of this job run published last and need no task values. ``imports`` are imported on the driver and on
    every worker. ``junit`` is a file for the report as JUnit XML, which is written whether or not it is good.

    Raises ParameterError, WheelhouseGoneError, ValidationError, and what ``depload.load`` raises.
    """
    asked = {"wheelhouse_path": wheelhouse_path, "wheelhouse_digest": wheelhouse_digest, "isolation": isolation}
    found_by = {"volume_base_path": volume_base_path, "run_id": run_id, "task": task}
    given.refuse_references(**asked, **found_by, imports=imports, junit=junit)
    names = given.listed("imports", imports) or None
    try:
        path = wheelhouse_path or _path_of_run(volume_base_path, run_id, task)
        session = spark if spark is not None else values.find_spark()
        loaded = _loaded(path, session, task, wheelhouse_digest, imports=names, isolation=isolation)
    except Exception as error:
        _write(junit, validation.junit(error.report if isinstance(error, WorkerError) else None, error=error))
        raise
    checked = validation.validate(session, loaded, names)
    print(loaded.report)
    print(checked)
    _write(junit, validation.junit(loaded.report, checked))
    if checked.faults:
        loaded.unload()
        raise ValidationError(checked.faults)
    return loaded


def _path_of_run(base: str | None, run_id: str | None, task: str) -> str:
    if not base or not run_id:
        raise ParameterError([Fault("wheelhouse_path", "is needed, or volume_base_path and run_id")])
    jobruns.check(run_id, task)
    found = jobruns.newest(base, run_id, task)
    if found is None:
        raise WheelhouseGoneError(f"{base.rstrip('/')}/job-{run_id}", task)
    return found


def _loaded(path: str, spark: Any, task: str, digest: str | None, **options: Any) -> Loaded:
    try:
        return load(path, spark, digest=digest, **options)
    except MissingWheelhouseError as error:
        raise WheelhouseGoneError(path, task) from error


def _write(file: str | None, text: str) -> None:
    if file is None:
        return
    folder, name = split(file)
    try:
        open_store(folder).write(name, text.encode())
    except DeploadError as error:
        raise ParameterError([Fault("junit", f"{file} cannot be written: {error}")]) from error


def from_task(
    task: str = PROCESS,
    spark: Any = None,
    *,
    key: str = "wheelhouse_path",
    imports: Iterable[str] | None = None,
    isolation: Literal["shared", "process"] = "shared",
    driver: bool | None = None,
    debug_path: str | None = None,
    dbutils: Any = None,
) -> Loaded:
    """Load what a task before this one published: ``depload.from_task("process_dependencies", spark=spark)``.

    The path is that task's value ``key``; ``debug_path`` is loaded where a notebook runs outside of a job. The rest is
    as for ``depload.load``.

    Raises TaskValueError, UnresolvedParameterError, WheelhouseGoneError, and what ``depload.load`` raises.
    """
    given.refuse_references(task=task, debug_path=debug_path)
    known = values.task_values(dbutils, task="")
    path = str(values.read(known, task, key, debug=debug_path))
    given.refuse_references(**{key: path})
    return _loaded(
        path,
        spark,
        task,
        _digest_of(known, task) if key == "wheelhouse_path" and path != debug_path else None,
        imports=list(imports) if imports is not None else None,
        isolation=isolation,
        driver=driver,
    )


def _digest_of(known: values.TaskValues | None, task: str) -> str | None:
    """What the task that published told beside the path; None where it told none."""
    try:
        return str(values.read(known, task, "wheelhouse_digest"))
    except TaskValueError:
        return None


# --- cleanup --------------------------------------------------------------------------------------------------------


def cleanup(
    wheelhouse_path: str | None = None,
    *,
    volume_base_path: str | None = None,
    run_id: str | None = None,
    upstream: str | Mapping[str, str] | None = None,
    cleanup_enabled: bool | str = True,
) -> Cleared:
    """Remove what this job run published, then fail where a task before this one did not succeed.

    It is the last task, with ``run_if: ALL_DONE``, so that it runs whatever happened; and a job whose last tasks
    succeed has succeeded. So it is told what became of the others, ``upstream`` being a ``task=state`` for each with
    the state as ``{{tasks.<task>.result_state}}``, and raises once everything is removed: the run stays failed, and
    its first error names the tasks to look at.

    ``volume_base_path`` and ``run_id`` remove all that any task of the job run published, even one that was killed
    before it could hand on a path; ``wheelhouse_path`` removes one run path. ``cleanup_enabled=False`` leaves them,
    for someone who wants to look; a failed run fails all the same.

    Raises JobFailedError, or UnresolvedParameterError where nothing but a reference is at fault.
    """
    enabled = given.flag("cleanup_enabled", cleanup_enabled)
    whole = {"wheelhouse_path": wheelhouse_path, "volume_base_path": volume_base_path, "run_id": run_id}
    blanks = given.unresolved(**whole)
    usable = {name: value for name, value in whole.items() if value and given.REFERENCE not in value}
    cleared = _cleared(usable) if enabled else Cleared()
    if not enabled:
        print("cleanup_enabled is false: nothing was removed")
    for path in cleared.removed:
        print(f"removed: {path}")
    failed = [
        Fault(f"task {task}", _why(state))
        for task, state in given.pairs("upstream", upstream).items()
        if state.lower() not in _GOOD
    ]
    if blanks and not failed and not cleared.faults:
        raise UnresolvedParameterError(blanks)
    if faults := [*failed, *cleared.faults, *blanks]:
        raise JobFailedError(faults, cleared.removed)
    return cleared


def _why(state: str) -> str:
    return f"its result is not known: {state} was not filled in" if given.REFERENCE in state else state


def _cleared(usable: Mapping[str, str]) -> Cleared:
    cleared = Cleared()
    if "volume_base_path" in usable and "run_id" in usable:
        jobruns.check(usable["run_id"], PROCESS)
        cleared = jobruns.clear(usable["volume_base_path"], usable["run_id"])
    elif "wheelhouse_path" not in usable:
        cleared.faults.append(Fault("cleanup", "needs wheelhouse_path, or volume_base_path and run_id"))
    if "wheelhouse_path" in usable:
        jobruns.clear_one(usable["wheelhouse_path"], cleared)
    return cleared


# --- prune ----------------------------------------------------------------------------------------------------------


def prune_wheelhouses(
    volume_base_path: str,
    *,
    older_than: str = "7d",
    max_size: str | None = None,
    dry_run: bool | str = False,
    dbutils: Any = None,
) -> Pruned:
    """Remove from the base what is old and not in use, and print what was found and what became of it.

    The parameters are those of ``depload.prune``.

    Raises UnresolvedParameterError, ParameterError, and what ``depload.prune`` raises.
    """
    asked = {"older_than": older_than, "max_size": max_size, "dry_run": dry_run}
    given.refuse_references(volume_base_path=volume_base_path, **asked)
    given.require(volume_base_path=volume_base_path)
    only_look = given.flag("dry_run", dry_run)
    try:
        pruned = prune(volume_base_path, older_than=older_than, max_size=max_size, dry_run=only_look, via=dbutils)
    except PruneError as error:
        print(leftovers.text(error.pruned))
        raise
    print(leftovers.text(pruned))
    return pruned
