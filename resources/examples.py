"""A job for each of the six formats, on a job cluster and on serverless compute: process, load, clean up."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resources import parts
from resources.parts import LOAD, PROCESS, RUN_ID

if TYPE_CHECKING:
    from databricks.bundles.core import Bundle
    from databricks.bundles.jobs import Job


class Example(NamedTuple):
    """An example zip, and what a job of it shows."""

    artifact: str
    imports: str
    """What every worker imports; empty for what the source asked for."""
    shows: str
    replaces: bool = False
    """Whether it brings packages that a runtime has in other versions."""


EXAMPLES = {
    "dynamic_deps_cluster": Example(
        "requirements", "pandas,sklearn", "native packages in other versions than the runtime's", replaces=True
    ),
    "test_pure_python": Example("pure_python", "user_modules.calculator", "loose modules with data beside them"),
    "test_packaged": Example("packaged", "", "a project that is built where it will run"),
    "test_existing_wheels": Example("wheels", "", "ready wheels, completed with what they require"),
    "test_mixed": Example("mixed", "", "requirements, a project, a wheel and a module in one resolution"),
    "test_nested": Example("nested", "", "two projects and a zip in a zip"),
}


def jobs(bundle: Bundle) -> dict[str, Job]:
    """Both variants of each; the first one runs every night."""
    found = {}
    for name, example in EXAMPLES.items():
        found[name] = _on_cluster(name, example, bundle)
        found[f"{name.removesuffix('_cluster')}_serverless"] = _serverless(name, example)
    return found


def _on_cluster(name: str, example: Example, bundle: Bundle) -> Job:
    """The wheelhouse is handed on by task values, which a notebook sets and any task reads as a parameter."""
    found = {key: parts.value(PROCESS, key) for key in ("wheelhouse_path", "wheelhouse_digest")}
    tasks = [
        parts.notebook_task(
            PROCESS, PROCESS, {**parts.of_job("source", "volume_base_path"), "run_id": RUN_ID}, retries=1
        ),
        parts.wheel_task(
            LOAD, LOAD, {**found, **parts.of_job("imports", "isolation", "junit")}, after=[PROCESS], retries=1
        ),
        parts.cleanup_task([PROCESS, LOAD]),
    ]
    return parts.job(
        name,
        f"depload with {example.artifact}.zip on a job cluster: {example.shows}.",
        tasks,
        parameters=_parameters(example, isolation="process"),
        clusters=[parts.cluster()],
        schedule=parts.nightly(bundle) if name == "dynamic_deps_cluster" else None,
    )


def _serverless(name: str, example: Example) -> Job:
    """Wheel tasks alone, because notebooks have no ``environment_key``; so the run id leads to the wheelhouse.

    Task values are documented for notebooks only. ``{{job.run_id}}`` is there for every task.
    """
    where = {**parts.of_job("volume_base_path"), "run_id": RUN_ID}
    tasks = [
        parts.wheel_task(PROCESS, PROCESS, {**parts.of_job("source"), **where}, on=None, retries=1),
        parts.wheel_task(
            LOAD,
            LOAD,
            {**where, **parts.of_job("imports", "isolation", "junit")},
            after=[PROCESS],
            on=None,
            retries=1,
        ),
        parts.cleanup_task([PROCESS, LOAD], on=None),
    ]
    return parts.job(
        f"{name.removesuffix('_cluster')}_serverless",
        f"depload with {example.artifact}.zip on serverless compute: {example.shows}.",
        tasks,
        # Whether a session may choose its Python workers there is one of the questions of probe_runtime. What is to
        # replace packages of the runtime has no other way: Spark Connect imports pandas before a task begins.
        parameters=_parameters(example, isolation="process" if example.replaces else "shared"),
        serverless=True,
    )


def _parameters(example: Example, *, isolation: str) -> dict[str, str]:
    return {
        "source": parts.artifact(example.artifact),
        "imports": example.imports,
        "isolation": isolation,
        "junit": "",
    }
