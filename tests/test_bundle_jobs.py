"""Every job of the bundle, run on this machine: a cluster is an application of its own, serverless a Connect server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from conftest import ROOT, write_files, write_zip
from depload.published import conversions, wheelcache
from depload.running import rendering
from depload.running.bundle import Bundle, render
from depload.running.compute import Compute
from depload.running.jobs import Job
from depload.running.results import JobRun, Result
from depload.running.runs import run_several
from matrix import environments
from test_bundle import CLUSTER_JOBS, JOBS, SERVERLESS_JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

pytestmark = [pytest.mark.spark, pytest.mark.network]

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
WHEELS_OF_THE_LAB = ("3.10", "3.11")  # pandas 1.5.3 and 2.1.0 have none for a newer Python


@pytest.fixture(scope="module")
def serverless_python() -> str:
    """An interpreter with a Connect client and server."""
    return str(environments.ready(environments.LISTS / "spark-newest.txt", HERE))


@pytest.fixture(scope="module")
def compute(tmp_path_factory: pytest.TempPathFactory, serverless_python: str) -> Iterator[Compute]:
    """One server for all tests, and clusters as they are needed; nothing of it may stay."""
    scratch = tmp_path_factory.mktemp("compute")
    with Compute(scratch, serverless_python=serverless_python, say=print) as shared:
        yield shared
    assert list(scratch.iterdir()) == []


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return render(ROOT, "test")


@pytest.fixture
def ran(compute: Compute, bundle: Bundle, tmp_path: Path) -> Callable[..., list[JobRun]]:
    """Run a job; its logs are shown where a test fails, and all that it publishes lies below ``tmp_path / "root"``."""

    def start(job: str | Job, *given: Mapping[str, str], **more: Any) -> list[JobRun]:
        found = bundle.job(job) if isinstance(job, str) else job
        done = run_several(
            found,
            given or [{}],
            files=bundle,
            compute=compute,
            results=tmp_path / "results",
            root=tmp_path / "root",
            **more,
        )
        for each in done:
            sys.stdout.write(f"{rendering.tree(each, time.time())}\n")
            for log in (task.log for task in each.every if task.log):
                sys.stdout.write(f"--- {log.name}\n{rendering.tail(log)}\n")
        return done

    return start


def assert_green(runs: Sequence[JobRun]) -> None:
    root = ET.fromstring(rendering.junit(runs))
    counts = {key: root.get(key) for key in ("failures", "errors", "skipped")}
    assert counts == {"failures": "0", "errors": "0", "skipped": "0"}
    assert int(root.get("tests", "0")) == sum(len(list(run.every)) for run in runs)
    assert [run.result for run in runs] == [Result.SUCCESS] * len(runs)


def left(root: Path) -> list[str]:
    """What a run has left below its base: nothing, not even a directory, but what later conversions reuse."""
    base = root / "Volumes" / "main" / "default" / "depload" / "test"
    kept = (base / wheelcache.FOLDER, base / conversions.FOLDER)
    return sorted(str(each) for each in base.rglob("*") if not {each, *each.parents} & set(kept))


def log(run: JobRun, key: str) -> str:
    file = run.task(key).log
    assert file is not None
    return file.read_text(encoding="utf-8")


# --- as they are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLUSTER_JOBS)
def test_a_job_on_a_cluster_processes_loads_and_cleans_up(
    name: str, ran: Callable[..., list[JobRun]], tmp_path: Path
) -> None:
    junit = tmp_path / "junit.xml"
    (done,) = ran(name, {"junit": str(junit)})
    assert_green([done])
    assert left(tmp_path / "root") == []
    said = log(done, "load_and_validate")
    assert "executor 0" in said
    assert "isolation:   process" in said
    assert "validated: a UDF imported" in said
    assert ET.parse(junit).getroot().get("failures") == "0"


@pytest.mark.parametrize("name", SERVERLESS_JOBS)
def test_a_job_on_serverless_compute_processes_loads_and_cleans_up(
    name: str, ran: Callable[..., list[JobRun]], tmp_path: Path
) -> None:
    (done,) = ran(name)
    assert_green([done])
    assert left(tmp_path / "root") == []
    said = log(done, "load_and_validate")
    assert "executor 0" in said
    assert "validated: a UDF imported" in said


def test_three_tasks_have_a_pandas_each_on_one_cluster(ran: Callable[..., list[JobRun]], tmp_path: Path) -> None:
    (done,) = ran("task_libraries", retry_wait=0)
    assert left(tmp_path / "root") == []
    if HERE not in WHEELS_OF_THE_LAB:
        # The job names a runtime whose Python has these wheels; on this one it fails, and says what it lacks.
        assert done.result is Result.FAILED
        assert "pandas" in done.task("process_extract_prepare").error
        assert done.task("extract_prepare").result is Result.UPSTREAM_FAILED
        return
    assert_green([done])
    versions = {"extract_prepare": "1.5.3", "ml_scoring": "2.2.2", "notification": "2.1.0"}
    for task, version in versions.items():
        assert f"pandas {version}" in log(done, task)
    assert "1000 orders are valid" in log(done, "notification")


def test_six_sources_are_loaded_at_once_on_one_cluster(ran: Callable[..., list[JobRun]], tmp_path: Path) -> None:
    (done,) = ran("concurrent_runs")
    assert_green([done])
    assert left(tmp_path / "root") == []
    iterations = done.task("every_source").iterations
    assert len(iterations) == 6
    assert len({line for each in iterations for line in log(done, each.key).splitlines() if "digest:  " in line}) == 6


def test_every_mode_of_compute_answers_the_probe(ran: Callable[..., list[JobRun]], tmp_path: Path) -> None:
    (done,) = ran("probe_runtime", {"largest_mb": "1"})
    assert_green([done])
    (file,) = (tmp_path / "root").rglob("answers.json")
    modes = {each["mode"]: each for each in json.loads(file.read_text(encoding="utf-8"))["modes"]}
    assert {mode: answered["session"] for mode, answered in modes.items()} == {
        **dict.fromkeys(["notebook", "dedicated", "dedicated_after"], "classic"),
        **dict.fromkeys(["standard", "standard_after", "serverless", "serverless_after"], "Spark Connect"),
    }
    for mode in ("dedicated_after", "standard_after", "serverless_after"):
        said = {each["probe"]: each["answer"] for each in modes[mode]["answers"]}
        assert said["task_values_arrive"] == "yes"
        assert said["a_session_may_choose_its_python"] == "yes"


# --- as they should not be ------------------------------------------------------------------------------------------

NOTEBOOK = """\
# Databricks notebook source
dbutils.widgets.text("volume_base_path", "")
dbutils.widgets.text("run_id", "")

# COMMAND ----------

from depload.databricks import tasks

loaded = tasks.load_and_validate(
    volume_base_path=dbutils.widgets.get("volume_base_path"), run_id=dbutils.widgets.get("run_id"), spark=spark
)

# COMMAND ----------

from pyspark.sql.functions import udf


@udf("string")
def answer(_):
    from user_modules import answer

    return answer.VALUE


values = {row[0] for row in spark.range(0, 4, 1, 4).select(answer("id")).collect()}
dbutils.notebook.exit(" ".join(sorted(values)))
"""


def with_notebook(bundle: Bundle, folder: Path, text: str, **more: Any) -> Job:
    """The serverless job of pure Python, whose loading task is a notebook."""
    file = write_files(folder, {"load.py": text}) / "load.py"
    settings = json.loads(json.dumps(bundle.jobs["test_pure_python_serverless"]))
    loads = next(task for task in settings["tasks"] if task["task_key"] == "load_and_validate")
    for name in ("python_wheel_task", "environment_key"):
        del loads[name]
    loads["notebook_task"] = {"notebook_path": str(file), "base_parameters": {"run_id": "{{job.run_id}}"}}
    return Job.of({**settings, "tasks": [{**task, **(more if task is loads else {})} for task in settings["tasks"]]})


def source(folder: Path, value: str) -> str:
    folder.mkdir(exist_ok=True)
    return str(write_zip(folder / f"{value}.zip", {"answer.py": f"VALUE = {value!r}\n"}))


def test_twenty_runs_at_once_have_twenty_right_answers(
    ran: Callable[..., list[JobRun]], bundle: Bundle, tmp_path: Path
) -> None:
    values = [f"value-{number}" for number in range(20)]
    given = [{"source": source(tmp_path / "sources", value)} for value in values]
    runs = ran(with_notebook(bundle, tmp_path, NOTEBOOK), *given)
    assert_green(runs)
    assert [run.task("load_and_validate").output for run in runs] == values
    assert left(tmp_path / "root") == []


def test_a_source_that_is_not_there_fails_the_run_and_leaves_nothing(
    ran: Callable[..., list[JobRun]], tmp_path: Path
) -> None:
    (done,) = ran("test_pure_python_serverless", {"source": str(tmp_path / "nowhere.zip")}, retry_wait=0)
    assert done.result is Result.FAILED
    states = {task.key: task.result.value for task in done.tasks if task.result}
    assert states == {
        "process_dependencies": "failed",
        "load_and_validate": "upstream_failed",
        "cleanup": "failed",  # so that the run stays failed
    }
    assert "nowhere.zip" in done.task("process_dependencies").error
    assert done.task("process_dependencies").attempt == 1, "it was tried again"
    assert "task process_dependencies: failed" in done.task("cleanup").error
    assert left(tmp_path / "root") == []


def test_a_task_that_takes_too_long_is_stopped_and_what_it_had_is_cleaned_up(
    ran: Callable[..., list[JobRun]], bundle: Bundle, tmp_path: Path
) -> None:
    slow = NOTEBOOK.replace("from depload.databricks", "import time\ntime.sleep(600)\nfrom depload.databricks")
    job = with_notebook(bundle, tmp_path, slow, timeout_seconds=5)
    (done,) = ran(job, {"source": source(tmp_path / "sources", "one")})
    assert done.task("load_and_validate").result is Result.TIMEDOUT
    assert done.result is Result.FAILED
    assert "load_and_validate: timedout" in done.task("cleanup").error
    assert left(tmp_path / "root") == []


def test_a_retry_finds_what_the_first_attempt_published(
    ran: Callable[..., list[JobRun]], bundle: Bundle, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    once = f"\n# COMMAND ----------\n\nimport pathlib\nmark = pathlib.Path({str(mark)!r})\n"
    once += "if not mark.exists():\n    mark.touch()\n    raise RuntimeError('the first time')\n"
    job = with_notebook(bundle, tmp_path, NOTEBOOK.replace("\n# COMMAND", f"{once}\n# COMMAND", 1))
    (done,) = ran(job, {"source": source(tmp_path / "sources", "one")}, retry_wait=0)
    assert_green([done])
    assert (done.task("load_and_validate").attempt, done.task("load_and_validate").output) == (1, "one")
    assert left(tmp_path / "root") == []


# --- the command ----------------------------------------------------------------------------------------------------


def depload(*words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "depload", "run", *words],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr or code
    return done


def test_the_command_runs_a_job_and_keeps_what_it_is_told_to(temporary: Path, tmp_path: Path) -> None:
    kept, junit = tmp_path / "kept", tmp_path / "junit.xml"
    words = ["test_pure_python", "--param", "isolation=shared", "--json"]
    done = depload(*words, "--results", str(kept), "--junit", str(junit), TMPDIR=str(temporary))
    answer = json.loads(done.stdout)
    assert answer["good"] is True
    (run,) = answer["runs"]
    assert run["parameters"]["isolation"] == "shared"
    assert [task["result"] for task in run["tasks"]] == ["success"] * 3
    assert "cluster main starts on local-cluster[1,1,1024]" in done.stderr
    assert "cluster main has stopped" in done.stderr
    assert json.loads((kept / "results.json").read_text(encoding="utf-8")) == answer
    assert "isolation:   shared" in (kept / str(run["run_id"]) / "load_and_validate.log").read_text(encoding="utf-8")
    assert ET.parse(junit).getroot().get("tests") == "3"


def test_serverless_jobs_say_what_they_need_where_this_python_has_it_not(temporary: Path) -> None:
    said = depload("test_pure_python_serverless", code=1, TMPDIR=str(temporary)).stderr
    assert "serverless compute on this machine needs pyspark[connect]>=4" in said
    assert "--serverless-python serverless/bin/python" in said


def test_the_command_lists_jobs_and_names_those_that_there_are() -> None:
    listed = json.loads(depload("--list", "--json", "--target", "prod").stdout)
    assert set(listed["jobs"]) == JOBS
    assert [task["key"] for task in listed["jobs"]["test_mixed"]["tasks"]][-1] == "cleanup"
    said = depload("test_everything", code=1).stderr
    assert "it has no such job; there are: concurrent_runs" in said


SLOW = """\
bundle: {name: slow}
resources:
  jobs:
    slow:
      name: slow
      job_clusters: [{job_cluster_key: main, new_cluster: {num_workers: 1}}]
      tasks:
        - {task_key: wait, job_cluster_key: main, notebook_task: {notebook_path: wait.py}}
        - {task_key: after, job_cluster_key: main, depends_on: [{task_key: wait}], run_if: ALL_DONE,
           notebook_task: {notebook_path: wait.py}}
"""
WAIT = """\
# Databricks notebook source
import pathlib, time

def slow(rows):
    pathlib.Path(MARK).touch()
    time.sleep(600)
    return rows

spark.sparkContext.parallelize([1], 1).mapPartitions(slow).collect()
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_a_job_that_is_interrupted_leaves_no_process_and_no_file(
    sign: signal.Signals, temporary: Path, tmp_path: Path
) -> None:
    begun, mark = tmp_path / "begun", uuid.uuid4().hex
    folder = write_files(tmp_path / "slow", {"databricks.yml": SLOW, "wait.py": WAIT.replace("MARK", repr(str(begun)))})
    with subprocess.Popen(
        [sys.executable, "-m", "depload", "run", "slow", "--bundle", str(folder), "--json"],
        env={**os.environ, "TMPDIR": str(temporary), "DEPLOAD_TEST_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: begun.exists() or process.poll() is not None, "no function of the task has run")
        process.send_signal(sign)
        said, shown = process.communicate(timeout=120)
    assert process.returncode == 1, shown
    (run,) = json.loads(said)["runs"]
    assert [task["result"] for task in run["tasks"]] == ["canceled", "canceled"]
    # Spark's daemons of Python workers see for themselves that their executor has gone.
    wait_for(lambda: not marked(mark), "processes go on")
    assert sorted(each.name for each in folder.iterdir()) == ["databricks.yml", "wait.py"]


def marked(mark: str) -> list[str]:
    """The processes that have a mark in their environment."""
    return [place.name for place in Path("/proc").glob("[0-9]*") if mark.encode() in environment_of(place)]


def environment_of(place: Path) -> bytes:
    try:
        return (place / "environ").read_bytes()
    except OSError:  # it has ended meanwhile, or is not ours
        return b""


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
