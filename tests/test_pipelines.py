"""From commit to workspace: two pipelines that say the same, and name only what is there."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from conftest import ROOT, write_files
from test_bundle import render

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

GITHUB = ROOT / ".github" / "workflows" / "ci.yml"
AZURE = ROOT / "ci" / "azure-pipelines.yml"
TOOLS = ROOT / "ci" / "azure-tools.yml"
STAGES = {
    "tests": set(),
    "wheel": set(),
    "validate": set(),
    "deploy_test": {"tests", "wheel", "validate"},
    "deploy_prod": {"deploy_test"},
    "release": {"deploy_prod"},
}
WITH_CREDENTIALS = {"validate", "deploy_test", "deploy_prod"}
REPORTS = ("test-results.xml", "coverage.xml", "cov_html/index.html")


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return loaded


class Stage(NamedTuple):
    """A stage of Azure's, a job of GitHub's."""

    name: str
    needs: set[str]
    condition: str
    whole: dict[str, Any]


def github(workflow: dict[str, Any]) -> dict[str, Stage]:
    """GitHub's jobs but the one that publishes results, which Azure does with a task in each stage."""
    return {
        name: Stage(name, set(job.get("needs", [])), str(job.get("if", "")), job)
        for name, job in workflow["jobs"].items()
        if name != "results"
    }


def azure(pipeline: dict[str, Any]) -> dict[str, Stage]:
    return {
        stage["stage"]: Stage(stage["stage"], set(stage["dependsOn"]), stage.get("condition", ""), stage)
        for stage in pipeline["stages"]
    }


def values(found: Any) -> Iterator[str]:
    """Every text in what YAML gave."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield str(key)
            yield from values(value)
    elif isinstance(found, list):
        for value in found:
            yield from values(value)
    else:
        yield str(found)


# --- the schemas ----------------------------------------------------------------------------------------------------


def validate(schema: str, path: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    if schema == "vendor.azure-pipelines":  # as in the hook that check-jsonschema has for it
        command += ["--data-transform", "azure-pipelines", "--regex-variant", "nonunicode"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def known_to_the_schema(text: str) -> str:
    """Without the step whose second version the schema lists among the tasks, but gives no inputs."""
    step = r" *- task: PublishCodeCoverageResults@2\n.*\n *inputs:\n *summaryFileLocation: .*\n *pathToSources: .*\n"
    without, count = re.subn(step, "", text)
    assert count == 1
    return without


def test_the_workflow_of_github_fits_its_schema() -> None:
    done = validate("vendor.github-workflows", GITHUB)
    assert done.returncode == 0, done.stdout


def test_the_pipeline_of_azure_fits_its_schema(tmp_path: Path) -> None:
    done = validate("vendor.azure-pipelines", tmp_path / "ci.yml", known_to_the_schema(AZURE.read_text("utf-8")))
    assert done.returncode == 0, done.stdout[-2000:]
    done = validate("vendor.azure-pipelines", TOOLS)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("right", "wrong"), [("runs-on: ubuntu", "run-on: ubuntu"), ("timeout-minutes: 60", "timeout-minute: 60")]
)
def test_a_misspelt_key_does_not_fit_the_schema_of_github(right: str, wrong: str, tmp_path: Path) -> None:
    text = GITHUB.read_text("utf-8")
    assert right in text
    assert validate("vendor.github-workflows", tmp_path / "ci.yml", text.replace(right, wrong, 1)).returncode == 1


@pytest.mark.parametrize(
    ("right", "wrong"), [("dependsOn: []", "dependOn: []"), ("testResultsFiles: junit", "testResultFiles: junit")]
)
def test_a_misspelt_key_does_not_fit_the_schema_of_azure(right: str, wrong: str, tmp_path: Path) -> None:
    text = known_to_the_schema(AZURE.read_text("utf-8"))
    assert right in text
    assert validate("vendor.azure-pipelines", tmp_path / "ci.yml", text.replace(right, wrong, 1)).returncode == 1


# --- what they say --------------------------------------------------------------------------------------------------


def test_both_have_the_same_stages_in_the_same_order() -> None:
    assert {name: stage.needs for name, stage in github(read(GITHUB)).items()} == STAGES
    assert {name: stage.needs for name, stage in azure(read(AZURE)).items()} == STAGES


def test_both_test_every_python_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [
        line.rpartition(" ")[2]
        for line in project["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    matrix = read(AZURE)["stages"][0]["jobs"][0]["strategy"]["matrix"]
    assert read(GITHUB)["jobs"]["tests"]["strategy"]["matrix"]["python"] == named
    assert [variables["pythonVersion"] for variables in matrix.values()] == named


def test_both_use_one_version_of_the_databricks_cli() -> None:
    everywhere = "\n".join(path.read_text("utf-8") for path in (GITHUB, TOOLS))
    assert len(set(re.findall(r"databricks/setup-cli[@/](v[\d.]+\d)", everywhere))) == 1
    assert "setup-cli/main" not in everywhere


def test_every_action_and_task_is_pinned_to_a_version() -> None:
    steps = [step for job in read(GITHUB)["jobs"].values() for step in job["steps"]]
    assert {step["uses"] for step in steps if not re.search(r"@v\d+(\.\d+\.\d+)?$", step.get("uses", "@v1"))} == set()
    tasks = re.findall(r"task: (\S+)", AZURE.read_text("utf-8") + TOOLS.read_text("utf-8"))
    assert [task for task in tasks if not re.search(r"@\d+$", task)] == []


def test_nothing_runs_without_an_end() -> None:
    assert [name for name, job in read(GITHUB)["jobs"].items() if "timeout-minutes" not in job] == []
    jobs = [job for stage in read(AZURE)["stages"] for job in stage["jobs"]]
    assert [job for job in jobs if "timeoutInMinutes" not in job] == []


# --- what they name is there ----------------------------------------------------------------------------------------


def commands() -> str:
    """All that both of them run."""
    runs = [step.get("run", "") for job in read(GITHUB)["jobs"].values() for step in job["steps"]]
    azures = re.findall(r"(?:script|inlineScript): (.*(?:\n {18,}\S.*)*)", AZURE.read_text("utf-8"))
    assert len(azures) > 10
    return "\n".join([*runs, *azures])


def targets() -> set[str]:
    return set(re.findall(r"^([\w./-]+):(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_every_make_target_that_they_use_is_there() -> None:
    used = set(re.findall(r"\bmake ([\w./-]+)", commands()))
    assert used == {"ci", ".venv/dependencies"}
    assert used <= targets()
    assert "cli" not in targets()


def test_every_script_and_file_that_they_use_is_there() -> None:
    used = set(re.findall(r"\bci/[\w.-]+", commands()))
    assert used == {"ci/smoke.sh", "ci/deploy.sh", "ci/validation.sh"}
    assert [name for name in used if not os.access(ROOT / name, os.X_OK)] == []
    scripts = "\n".join((ROOT / name).read_text("utf-8") for name in used)
    artifacts = re.findall(r"test_artifacts/[\w.-]+", scripts)
    assert artifacts
    assert [name for name in artifacts if not (ROOT / name).is_file()] == []
    templates = re.findall(r"template: (\S+)", AZURE.read_text("utf-8"))
    assert {(AZURE.parent / name) for name in templates} == {TOOLS}


def test_every_target_that_they_use_is_one_of_the_bundle() -> None:
    used = set(re.findall(r"ci/(?:deploy|validation)\.sh (\w+)", commands()))
    listed = {word for words in re.findall(r"for target in ([\w ]+);", commands()) for word in words.split()}
    bundle = set(read(ROOT / "databricks.yml")["targets"])
    assert used == {"test", "prod"}
    assert listed == bundle


def test_the_validation_jobs_are_those_of_the_bundle_and_each_can_leave_junit(tmp_path: Path) -> None:
    jobs = render("test", tmp_path)["resources"]["jobs"]
    wanted = {name for name in jobs if name.startswith("test_")} | {"dynamic_deps_cluster"}
    assert set(validation_jobs()) == wanted
    assert [name for name in wanted if "junit" not in {given["name"] for given in jobs[name]["parameters"]}] == []


def validation_jobs() -> list[str]:
    found = re.search(r'^jobs="\n(.*?)^"', (ROOT / "ci" / "validation.sh").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1].split()


# --- credentials ----------------------------------------------------------------------------------------------------


def careless(workflow: dict[str, Any]) -> set[str]:
    """Jobs of GitHub's that have credentials and should not: without an environment, or for a pull request."""
    if "permissions" not in workflow or "pull_request_target" in workflow["on"]:
        return set(workflow["jobs"])
    found = set()
    for name, job in workflow["jobs"].items():
        has = "secrets." in " ".join(values(job)) or "id-token" in job.get("permissions", {})
        if has and not ("environment" in job and "github.event_name == 'push'" in str(job.get("if"))):
            found.add(name)
    return found


def careless_stages(pipeline: dict[str, Any]) -> set[str]:
    """Stages of Azure's that have credentials and would run for a pull request."""
    found = set() if set(pipeline) <= {"trigger", "pr", "parameters", "pool", "stages"} else {"the whole"}
    for stage in azure(pipeline).values():
        text = " ".join(values(stage.whole))
        has = any(word in text for word in ("group ", "azureSubscription", "System.AccessToken", "gitHubConnection"))
        if has and "ne(variables['Build.Reason'], 'PullRequest')" not in stage.condition:
            found.add(stage.name)
    return found


def test_credentials_are_where_a_workspace_is_needed_and_never_for_a_pull_request() -> None:
    workflow, pipeline = read(GITHUB), read(AZURE)
    assert careless(workflow) == set()
    assert careless_stages(pipeline) == set()
    assert {name for name, stage in github(workflow).items() if "environment" in stage.whole} == WITH_CREDENTIALS
    assert {name for name, stage in azure(pipeline).items() if "variables" in stage.whole} - {"tests"} == (
        WITH_CREDENTIALS
    )


def test_credentials_in_the_wrong_place_are_found() -> None:
    workflow = read(GITHUB)
    workflow["jobs"]["tests"]["env"] = {"TOKEN": "${{ secrets.TOKEN }}"}
    workflow["jobs"]["wheel"]["permissions"] = {"id-token": "write"}
    del workflow["jobs"]["validate"]["if"]
    assert careless(workflow) == {"tests", "wheel", "validate"}
    pipeline = read(AZURE)
    pipeline["stages"][0]["variables"] = [{"group": "databricks-test"}]
    pipeline["stages"][3]["condition"] = "succeeded()"
    assert careless_stages(pipeline) == {"tests", "deploy_test"}
    assert "the whole" in careless_stages({**read(AZURE), "variables": [{"group": "databricks-test"}]})


def test_permissions_are_to_read_unless_a_job_says_what_it_writes() -> None:
    workflow = read(GITHUB)
    assert workflow["permissions"] == {"contents": "read"}
    written = {
        name: {key for key, value in job["permissions"].items() if value == "write"}
        for name, job in workflow["jobs"].items()
        if "permissions" in job
    }
    writers = {name: {"id-token"} for name in WITH_CREDENTIALS}
    assert written == {**writers, "release": {"contents"}, "results": {"checks"}}
    checkouts = [
        step
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert [step for step in checkouts if step["with"] != {"persist-credentials": False}] == []


def test_prod_is_for_tags_alone() -> None:
    for stage in ("deploy_prod", "release"):
        assert "github.ref_type == 'tag'" in github(read(GITHUB))[stage].condition
        assert "startsWith(variables['Build.SourceBranch'], 'refs/tags/v')" in azure(read(AZURE))[stage].condition
    deployment = copy.deepcopy(read(AZURE)["stages"][4]["jobs"][0])
    assert (deployment["environment"], read(GITHUB)["jobs"]["deploy_prod"]["environment"]) == ("prod", "prod")


# --- make ci --------------------------------------------------------------------------------------------------------


TESTS = """\
from depload.standards.target import Target


def test_that_passes():
    assert Target.running()


def test_that_fails():
    assert not Target.running()
"""


def test_a_test_that_fails_fails_make_and_all_reports_are_there(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    write_files(tmp_path, {"tests/test_it.py": TESTS, "README.md": "", **dict.fromkeys(REPORTS, "of an earlier run")})
    done = make("reports", tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    suite = ET.parse(tmp_path / "test-results.xml").getroot().find("testsuite")
    assert suite is not None
    assert [suite.get(key) for key in ("tests", "failures", "errors")] == ["2", "1", "0"]
    named = {each.get("filename") for each in ET.parse(tmp_path / "coverage.xml").iter("class")}
    assert "src/depload/standards/target.py" in named, "as in the repository, and not where it is installed"
    assert "earlier" not in (tmp_path / "cov_html" / "index.html").read_text("utf-8")


def test_reports_of_an_earlier_run_do_not_outlive_one_that_cannot_start(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    write_files(tmp_path, {"pyproject.toml": "not toml", "README.md": "", **dict.fromkeys(REPORTS, "green")})
    assert make("reports", tmp_path).returncode == 2
    assert [name for name in REPORTS if (tmp_path / name).exists()] == []


def make(target: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As where the environment has been made: the stamps are newer than all that it is made of."""
    (folder / "src").symlink_to(ROOT / "src")
    stamps = [f".venv/{name}" for name in ("spark.jsa", "depload", "dependencies")]
    write_files(folder, dict.fromkeys(["requirements-dev.txt", *stamps], ""))
    for age, stamp in enumerate(stamps):
        later = time.time() + 60 - age
        os.utime(folder / stamp, (later, later))
    command = ["make", target, f"BIN={Path(sys.executable).parent}", f"PYTHON={sys.executable}", "PYTEST="]
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "PYTEST"}}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


# --- the scripts ----------------------------------------------------------------------------------------------------

BASE = "/Volumes/main/default/depload/test"
CLI = f"""\
#!/usr/bin/env bash
# Answers as the Databricks CLI does; what it was called with is a line of calls.txt, the volume is a folder.
here=$(dirname "$0")
echo "$*" >>"$here/calls.txt"
case "$1 $2" in
  "bundle validate") echo '{{"variables": {{"volume_base_path": {{"value": "{BASE}"}}}}}}' ;;
  "bundle deploy") rm -rf dist && uv build --quiet --wheel --out-dir dist ;;
  "bundle run")
    echo "log of $5"
    case $5 in *silent) exit 0 ;; *absent) exit 1 ;; esac
    mkdir -p "$here/volume" && echo "<testsuites/>" >"$here/volume/$5.xml"
    case $5 in *broken) exit 1 ;; esac ;;
  "fs cp") [ -d "$here/volume" ] && cp "$here"/volume/* "$6" ;;
esac
"""


@pytest.fixture
def cli(tmp_path: Path) -> Path:
    """The folder of a databricks that is on PATH."""
    folder = tmp_path / "bin"
    write_files(folder, {"databricks": CLI}).joinpath("databricks").chmod(0o755)
    return folder


def run(cli: Path, *words: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(cli), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def calls(cli: Path) -> list[str]:
    return (cli / "calls.txt").read_text("utf-8").splitlines()


def test_each_validation_job_runs_and_its_junit_is_fetched(cli: Path, tmp_path: Path) -> None:
    done = run(cli, "ci/validation.sh", "test", "7-1", tmp_path / "junit")
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in (tmp_path / "junit").iterdir()} == set(validation_jobs())
    ran = [line for line in calls(cli) if line.startswith("bundle run")]
    assert sorted(ran) == sorted(
        f"bundle run --target test {name} --params junit={BASE}/junit-7-1/{name}.xml" for name in validation_jobs()
    )
    assert calls(cli)[-1] == f"fs cp --recursive --overwrite dbfs:{BASE}/junit-7-1 {tmp_path}/junit"
    assert not any("destroy" in line or "rm " in line for line in calls(cli))


@pytest.mark.parametrize(
    ("job", "errors"), [("broken", []), ("silent", ["silent"]), ("absent", ["absent"])], ids=["fails", "silent", "both"]
)
def test_a_validation_job_that_fails_or_proves_nothing_fails_them_all_and_is_seen(
    job: str, errors: list[str], cli: Path, tmp_path: Path
) -> None:
    done = run(cli, "ci/validation.sh", "test", "7-1", tmp_path / "junit", JOBS=f"first {job} last")
    assert done.returncode == 1
    assert all(f"log of {name}" in done.stdout for name in ("first", job, "last")), "the others run all the same"
    parsed = {path.stem: ET.parse(path).getroot() for path in (tmp_path / "junit").iterdir()}
    assert set(parsed) == {"first", job, "last"}
    assert [name for name, root in parsed.items() if root.find(".//error") is not None] == errors


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a wheel is made of, and the scripts."""
    folder = tmp_path / "checkout"
    for name in ("src/depload", "ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.network
def test_what_is_deployed_is_the_wheel_that_was_tested(cli: Path, checkout: Path) -> None:
    built = run(cli, "uv", "build", "--quiet", "--wheel", "--out-dir", "tested", cwd=checkout)
    assert built.returncode == 0, built.stderr
    (wheel,) = (checkout / "tested").glob("*.whl")
    done = run(cli, "ci/deploy.sh", "test", wheel, cwd=checkout)
    assert done.returncode == 0, done.stderr
    assert calls(cli) == ["bundle deploy --target test"]

    with (checkout / "src" / "depload" / "errors.py").open("a", encoding="utf-8") as changed:
        changed.write("# of another commit\n")
    done = run(cli, "ci/deploy.sh", "test", wheel, cwd=checkout)
    assert done.returncode == 1
    assert "differ" in done.stdout
    assert calls(cli) == ["bundle deploy --target test"], "nothing was deployed again"
