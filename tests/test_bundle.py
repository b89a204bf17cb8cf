"""The bundle: it renders for every target, fits the schema of the CLI, and names only what is there."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from depload.databricks import probe, tasks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
SCHEMA = "DEPLOAD_BUNDLE_SCHEMA"
TARGETS = ("dev", "test", "prod")
EXAMPLES = (
    "dynamic_deps",
    "test_pure_python",
    "test_packaged",
    "test_existing_wheels",
    "test_mixed",
    "test_nested",
)
CLUSTER_JOBS = ("dynamic_deps_cluster", *EXAMPLES[1:])
SERVERLESS_JOBS = tuple(f"{name}_serverless" for name in EXAMPLES)
JOBS = {*CLUSTER_JOBS, *SERVERLESS_JOBS, "task_libraries", "concurrent_runs", "probe_runtime", "prune_wheelhouses"}
REFERENCE = re.compile(r"\{\{(.+?)\}\}")

Job = dict[str, Any]


def configuration() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load((ROOT / "databricks.yml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the CLI's Python support makes of resources/, by target."""
    return {target: render(target, tmp_path_factory.mktemp(f"bundle-{target}")) for target in TARGETS}


def render(target: str, folder: Path) -> dict[str, Any]:
    """As the CLI does it: the configuration goes in with its target and the values of its variables."""
    given = configuration()
    given["bundle"]["target"] = target
    for variable in given["variables"].values():
        variable["value"] = variable["default"]
    (folder / "in.json").write_text(json.dumps(given), encoding="utf-8")
    files = [
        word for name in ("input", "output", "diagnostics") for word in (f"--{name}", str(folder / f"{name}.json"))
    ]
    files[1] = str(folder / "in.json")
    command = [sys.executable, "-m", "databricks.bundles.build", "--phase", "load_resources", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    diagnostics = (folder / "diagnostics.json").read_text(encoding="utf-8")
    assert (done.returncode, diagnostics) == (0, ""), f"{diagnostics}\n{done.stderr}"
    found: dict[str, Any] = json.loads((folder / "output.json").read_text(encoding="utf-8"))
    del found["bundle"]["target"]  # what the CLI adds to a configuration is not part of one
    for variable in found["variables"].values():
        del variable["value"]
    return found


@pytest.fixture(scope="session")
def jobs(rendered: dict[str, dict[str, Any]]) -> dict[str, Job]:
    found: dict[str, Job] = rendered["dev"]["resources"]["jobs"]
    return found


def every_task(job: Job) -> list[dict[str, Any]]:
    """The tasks of a job, those inside a for-each as well."""
    return [each for task in job["tasks"] for each in (task, task.get("for_each_task", {}).get("task")) if each]


def parameters(task: dict[str, Any]) -> dict[str, str]:
    if "notebook_task" in task:
        return dict(task["notebook_task"].get("base_parameters", {}))
    words = task.get("python_wheel_task", {}).get("parameters", [])
    return dict(word.removeprefix("--").split("=", 1) for word in words)


def schema() -> Path:
    found = Path(os.environ.get(SCHEMA) or ROOT.parent / "shared" / "reference" / "databricks-bundle.schema.json")
    if not found.is_file():
        pytest.skip(f"needs the schema of a bundle: `databricks bundle schema > FILE`, and {SCHEMA}=FILE")
    return found


# --- the whole ------------------------------------------------------------------------------------------------------


def validate(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema()), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_databricks_yml_and_what_each_target_renders_to_fit_the_schema_of_a_bundle(
    rendered: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    files = [tmp_path / f"{target}.json" for target in TARGETS]
    for file in files:
        file.write_text(json.dumps(rendered[file.stem]), encoding="utf-8")
    done = validate(ROOT / "databricks.yml", *files)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_field_does_not_fit_the_schema(rendered: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    broken = json.loads(json.dumps(rendered["dev"]))
    broken["resources"]["jobs"]["test_mixed"]["tasks"][0]["run_iff"] = "ALL_DONE"
    (tmp_path / "broken.json").write_text(json.dumps(broken), encoding="utf-8")
    assert validate(tmp_path / "broken.json").returncode == 1


def test_every_target_has_every_job(rendered: dict[str, dict[str, Any]]) -> None:
    assert set(configuration()["targets"]) == set(TARGETS)
    assert {target: set(rendered[target]["resources"]["jobs"]) for target in TARGETS} == dict.fromkeys(TARGETS, JOBS)


def test_schedules_run_in_prod_alone(rendered: dict[str, dict[str, Any]]) -> None:
    states = {
        (target, job["schedule"]["pause_status"])
        for target in TARGETS
        for job in rendered[target]["resources"]["jobs"].values()
        if "schedule" in job
    }
    assert states == {("dev", "PAUSED"), ("test", "PAUSED"), ("prod", "UNPAUSED")}


def test_every_variable_that_is_used_is_declared_and_every_declared_one_is_used(
    rendered: dict[str, dict[str, Any]],
) -> None:
    used = set(re.findall(r"\$\{var\.(\w+)\}", json.dumps(rendered["prod"])))
    assert used == set(configuration()["variables"])


# --- each job -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(JOBS))
def test_somebody_is_told_when_a_run_fails_or_takes_long(name: str, jobs: dict[str, Job]) -> None:
    job = jobs[name]
    assert job["email_notifications"]["on_failure"] == ["${var.notify}"]
    assert job["email_notifications"]["on_duration_warning_threshold_exceeded"] == ["${var.notify}"]
    (rule,) = job["health"]["rules"]
    assert (rule["metric"], rule["op"]) == ("RUN_DURATION_SECONDS", "GREATER_THAN")
    assert rule["value"] < job["timeout_seconds"]
    assert job["tags"] == {"project": "depload", "target": "${bundle.target}"}
    assert job["permissions"] == [{"group_name": "${var.viewers}", "level": "CAN_VIEW"}]


@pytest.mark.parametrize("name", sorted(JOBS - {"probe_runtime", "prune_wheelhouses"}))
def test_cleanup_waits_for_every_task_runs_whatever_happened_and_is_told_what_did(
    name: str, jobs: dict[str, Job]
) -> None:
    *before, cleanup = jobs[name]["tasks"]
    keys = [task["task_key"] for task in before]
    assert cleanup["task_key"] == "cleanup"
    assert cleanup["run_if"] == "ALL_DONE"
    assert cleanup["max_retries"] == 0
    assert [each["task_key"] for each in cleanup["depends_on"]] == keys
    assert parameters(cleanup) == {
        "volume_base_path": "{{job.parameters.volume_base_path}}",
        "cleanup_enabled": "{{job.parameters.cleanup_enabled}}",
        "run_id": "{{job.run_id}}",
        "upstream": " ".join(f"{key}={{{{tasks.{key}.result_state}}}}" for key in keys),
    }


@pytest.mark.parametrize("name", CLUSTER_JOBS)
def test_the_tasks_of_a_cluster_job_share_one_driver_and_one_worker(name: str, jobs: dict[str, Job]) -> None:
    (cluster,) = jobs[name]["job_clusters"]
    assert cluster["new_cluster"]["num_workers"] == 1
    tasks_of_it = jobs[name]["tasks"]
    assert [task["task_key"] for task in tasks_of_it] == ["process_dependencies", "load_and_validate", "cleanup"]
    assert {task["job_cluster_key"] for task in tasks_of_it} == {cluster["job_cluster_key"]}
    assert all(task["libraries"] == [{"whl": "dist/*.whl"}] for task in tasks_of_it)


def test_task_values_are_set_by_notebooks_alone_because_only_there_they_are_documented(jobs: dict[str, Job]) -> None:
    for name, job in jobs.items():
        setters = {key for task in every_task(job) for key in re.findall(r"tasks\.(\w+)\.values", str(task))}
        kinds = {task["task_key"]: "notebook_task" in task for task in every_task(job)}
        if name != "probe_runtime":  # which asks whether it works elsewhere
            assert all(kinds[key] for key in setters), name


@pytest.mark.parametrize("name", SERVERLESS_JOBS)
def test_a_serverless_job_has_no_cluster_and_needs_no_task_value(name: str, jobs: dict[str, Job]) -> None:
    job = jobs[name]
    (environment,) = job["environments"]
    assert environment["spec"]["dependencies"] == ["dist/*.whl"]
    assert "job_clusters" not in job
    assert {task["environment_key"] for task in job["tasks"]} == {environment["environment_key"]}
    assert not any("job_cluster_key" in task or "libraries" in task for task in job["tasks"])
    assert ".values." not in json.dumps(job)


def test_the_isolation_lab_gives_each_of_its_tasks_a_wheelhouse_of_its_own(jobs: dict[str, Job]) -> None:
    found = {task["task_key"]: task for task in jobs["task_libraries"]["tasks"]}
    order = ["extract_prepare", "ml_scoring", "notification"]
    for at, key in enumerate(order):
        before = [each["task_key"] for each in found[key]["depends_on"]]
        assert before == [f"process_{key}", *order[max(0, at - 1) : at]]
        assert parameters(found[key])["wheelhouse_task"] == f"process_{key}"
        assert parameters(found[f"process_{key}"])["task"] == f"process_{key}"


def test_concurrent_runs_takes_every_example_at_once(jobs: dict[str, Job]) -> None:
    each = jobs["concurrent_runs"]["tasks"][0]["for_each_task"]
    names = [Path(source).name for source in json.loads(each["inputs"])]
    assert sorted(names) == sorted(file.name for file in (ROOT / "test_artifacts").glob("*.zip"))
    assert each["concurrency"] == len(names)
    assert parameters(each["task"])["source"] == "{{input}}"


# --- what they name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_reference_is_to_something_that_the_job_has(name: str, jobs: dict[str, Job]) -> None:
    job = jobs[name]
    keys = {task["task_key"] for task in every_task(job)}
    given = {each["name"] for each in job["parameters"]}
    for reference in REFERENCE.findall(json.dumps(job)):
        where, *rest = reference.split(".")
        if where == "tasks":
            task, what = rest[0], rest[1]
            assert task in keys, reference
            assert what in {"result_state", "values"}, reference
        elif reference.startswith("job.parameters."):
            assert rest[1] in given, reference
        else:
            assert reference in {"job.run_id", "input"}, reference


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_parameter_is_one_that_the_task_knows(name: str, jobs: dict[str, Job]) -> None:
    verbs: dict[str, Callable[..., Any]] = {
        "process_dependencies": tasks.process_dependencies,
        "load_and_validate": tasks.load_and_validate,
        "cleanup": tasks.cleanup,
        "prune_wheelhouses": tasks.prune_wheelhouses,
        "probe_runtime": probe.probe_runtime,
        "probe_table": probe.probe_table,
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry_points = project["entry-points"]["depload.tasks"]
    for task in every_task(jobs[name]):
        if wheel := task.get("python_wheel_task"):
            assert wheel["package_name"] == project["name"]
            assert wheel["entry_point"] in entry_points
            known = signature(verbs[wheel["entry_point"]]).parameters
            assert parameters(task).keys() <= known.keys()
            needed = {key for key, about in known.items() if about.default is about.empty}
            assert needed <= parameters(task).keys()


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_file_is_there_and_every_notebook_has_the_widgets_that_it_is_given(
    name: str, jobs: dict[str, Job]
) -> None:
    for path in re.findall(r"\$\{workspace\.file_path\}/([^\"\s\\]+)", json.dumps(jobs[name])):
        assert (ROOT / path).exists(), path
    for task in every_task(jobs[name]):
        if notebook := task.get("notebook_task"):
            text = (ROOT / notebook["notebook_path"]).read_text(encoding="utf-8")
            assert parameters(task).keys() <= set(re.findall(r"\"(\w+)\"", text)), notebook["notebook_path"]


def test_the_lab_has_what_its_notebook_lays_hands_on() -> None:
    lab = ROOT / "examples" / "task_libraries"
    defined = {
        getattr(node, "name", "") or ",".join(target.id for target in targets_of(node))
        for node in ast.parse((lab / "job.py").read_text(encoding="utf-8")).body
    }
    assert {"session", "hand_on"} <= defined
    for file in (lab / "tasks").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "def main(path: str)" in text
        assert re.findall(r"job\.(\w+)", text).count("session") == 1


def targets_of(node: ast.stmt) -> list[ast.Name]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [each for each in targets if isinstance(each, ast.Name)]


@pytest.mark.parametrize("file", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda file: file.stem)
def test_a_notebook_is_in_the_source_format_and_begins_with_what_it_is_for(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    cells = text.split("# COMMAND ----------\n")
    assert text.startswith("# Databricks notebook source\n# MAGIC %md\n# MAGIC # ")
    assert len(cells) >= 3
    compile(text, str(file), "exec")
    assert "sys.exit" not in text
