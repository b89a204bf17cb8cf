"""The Databricks CLI as client of the workspace on loopback: this repository's bundle, validated, deployed, run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from depload.making import tools
from workspace import ResetWhileReading, Server, TooManyRequests, Unavailable
from workspace.identity import USER

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["workspace.fixture"]
pytestmark = [pytest.mark.network]  # building the wheel asks the index for hatchling

ROOT = Path(__file__).parent.parent
NEEDED = (0, 275)  # the first one in which Python resources are no preview; databricks.yml says the same
TARGETS = ("dev", "test", "prod")
BUNDLE = ("databricks.yml", "pyproject.toml", "README.md", "LICENSE", ".gitignore")
FOLDERS = ("resources", "notebooks", "src", "examples", "test_artifacts")
JOB = "test_pure_python_serverless"
DEPLOYED = f"/Workspace/Users/{USER}/.bundle/depload/test"


class Done(NamedTuple):
    code: int
    said: str


@pytest.fixture(scope="module")
def cli() -> str:
    """The CLI; the tool of the same name that came as a Python package has versions below 0.100."""
    found = shutil.which("databricks")
    needs = (
        f"needs the Databricks CLI {NEEDED[0]}.{NEEDED[1]} or newer on PATH (docs.databricks.com/dev-tools/cli/install)"
    )
    if found is None:
        pytest.skip(needs)
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False, timeout=60)
    version = re.search(r"v?(\d+)\.(\d+)", said.stdout + said.stderr)
    if version is None or (int(version[1]), int(version[2])) < NEEDED:
        pytest.skip(f"{needs}; {found} is {said.stdout.strip() or 'another program'}")
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of this repository's bundle, rendered by the Python that runs the tests; its retries do not wait."""
    to = tmp_path / "bundle"
    to.mkdir()
    for name in BUNDLE:
        shutil.copy(ROOT / name, to / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    _change(to / "databricks.yml", "venv_path: .venv", f"venv_path: {sys.prefix}")
    _change(to / "resources" / "parts.py", "_RETRY_AFTER = 30_000", "_RETRY_AFTER = 1")
    return to


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def bundle(cli: str, copy: Path, tmp_path: Path) -> Callable[..., Done]:
    """Runs ``databricks bundle ...`` in the copy, against a workspace."""
    uv = tools.uv()
    assert uv is not None
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABRICKS_", "BUNDLE_VAR_"))}
    search = os.pathsep.join([str(Path(uv).parent), kept["PATH"]])
    own = {"PATH": search, "HOME": str(tmp_path / "home"), "DATABRICKS_BUNDLE_ENGINE": "direct"}

    def run(workspace: Server, *words: str, target: str = "test") -> Done:
        done = subprocess.run(
            [cli, "bundle", *words, "--target", target],
            cwd=copy,
            env={**kept, **own, **workspace.environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return Done(done.returncode, done.stdout + done.stderr)

    return run


def jobs(workspace: Server) -> dict[str, int]:
    """The ids of the jobs that are deployed, by name."""
    found = {}
    for job in workspace.client().jobs.list():
        assert job.settings is not None
        found[str(job.settings.name)] = int(str(job.job_id))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_the_bundle_validates(workspace: Server, bundle: Callable[..., Done], target: str) -> None:
    done = bundle(workspace, "validate", "--output", "json", target=target)
    assert done.code == 0, done.said
    rendered: dict[str, Any] = json.loads(done.said[done.said.index("{") : done.said.rindex("}") + 1])
    assert JOB in rendered["resources"]["jobs"]
    assert rendered["bundle"]["target"] == target


def test_what_is_deployed_is_there_whatever_went_wrong_on_the_way_and_what_is_destroyed_is_gone(
    workspace: Server, bundle: Callable[..., Done]
) -> None:
    workspace.faults.add(TooManyRequests(retry_after=1), path="import-file/.*zip", times=2)
    workspace.faults.add(Unavailable(retry_after=1), path="import-file/.*py", times=2)
    workspace.faults.add(ResetWhileReading(after_bytes=100), path="import-file/.*whl")
    workspace.faults.add(TooManyRequests(retry_after=1), path="jobs/create", times=3)
    done = bundle(workspace, "deploy")
    assert done.code == 0, done.said
    created = re.findall(r"Created jobs\.(\w+)$", done.said, re.MULTILINE)
    assert len(created) == len(jobs(workspace))
    assert JOB in created
    client = workspace.client()
    zipped = f"{DEPLOYED}/files/test_artifacts/pure_python.zip"
    assert client.workspace.get_status(zipped).size == (ROOT / "test_artifacts" / "pure_python.zip").stat().st_size
    wheels = [each.path for each in client.workspace.list(f"{DEPLOYED}/artifacts", recursive=True)]
    assert len([path for path in wheels if path and path.endswith(".whl")]) == 1
    given = workspace.permissions.given["jobs", str(jobs(workspace)[JOB])]
    assert given["group_name", "users"] == "CAN_VIEW"
    done = bundle(workspace, "destroy", "--auto-approve")
    assert done.code == 0, done.said
    assert jobs(workspace) == {}
    assert [place for place in (workspace.folder / "workspace").rglob("*") if place.is_file()] == []


@pytest.mark.spark
def test_a_job_runs_from_the_command_line(serverless: Server, bundle: Callable[..., Done]) -> None:
    done = bundle(serverless, "deploy")
    assert done.code == 0, done.said
    done = bundle(serverless, "run", JOB)
    assert done.code == 0, done.said
    assert "user_modules.calculator" in done.said
    assert list(serverless.folder.glob("volumes/main/default/depload/test/*")) == []
    done = bundle(serverless, "run", JOB, "--params", "source=/Volumes/main/default/uploads/none.zip")
    assert done.code == 1
    assert "none.zip" in done.said
    assert list(serverless.folder.glob("volumes/main/default/depload/test/*")) == []
    done = bundle(serverless, "destroy", "--auto-approve")
    assert done.code == 0, done.said
