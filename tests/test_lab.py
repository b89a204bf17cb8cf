"""Drivers of one Spark application: processes that attach to it, and the isolation lab, which is made of them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from textwrap import dedent
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from conftest import CLUSTER, ROOT, run_python
from depload.errors import SparkSessionError
from depload.local.embedded import attached_session, attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from depload.pipeline import Converted

LAB = ROOT / "examples" / "task_libraries"
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


# --- the lab, as a user runs it ---

# Of each task the version of pandas, and the Pythons that have wheels of all it asks for.
SETS = {
    "extract_prepare": ("1.5.3", ["3.10", "3.11"]),
    "ml_scoring": ("2.2.2", ["3.10", "3.11", "3.12"]),
    "notification": ("2.1.0", ["3.10", "3.11"]),
}


@pytest.mark.spark
@pytest.mark.network
def test_every_task_has_its_own_pandas_while_all_are_alive_on_one_application(base: Path) -> None:
    command = [sys.executable, str(LAB / "run.py"), "--json", "--base", str(base)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    answer = json.loads(done.stdout)
    assert answer["problems"] == []
    tasks = {task["name"]: task for task in answer["tasks"]}
    assert list(tasks) == list(SETS)
    ran = [name for name, (_, pythons) in SETS.items() if HERE in pythons]
    for name, (pandas, pythons) in SETS.items():
        if name not in ran:
            assert (tasks[name]["runs"], tasks[name]["needs"]) == (False, pythons)
            assert f"{name} cannot run on Python {HERE}: there is no wheel of pandas {pandas}" in done.stderr
            assert f"it needs Python {', '.join(pythons[:-1])} or {pythons[-1]}" in done.stderr
            continue
        for report in (tasks[name]["report"], tasks[name]["proof"]):  # after its load, and with all the others there
            processes = [report["driver"], *report["workers"]]
            assert {process["imported"]["pandas"]["version"] for process in processes} == {pandas}
            assert {worker["executor"] for worker in report["workers"]} == {"0", "1"}
    for pick in (lambda proof: {proof["driver"]["fingerprint"]}, _fingerprints):
        assert len(set().union(*(pick(tasks[name]["proof"]) for name in ran))) == len(ran)
    assert _rows(answer) == {name: 1000 for name in ("bronze.daily_sales", "silver.daily_sales_scored") if ran}
    if "notification" in ran:
        assert tasks["notification"]["valid"] == 1000
        assert "1 2026-03-29 North   tea 1  450   450 pandas 1.5.3" in done.stderr
    assert list(base.glob("*")) == [], "every run path is removed; where nothing was converted there is not even a base"


def _fingerprints(proof: Mapping[str, Any]) -> set[str]:
    return {worker["fingerprint"] for worker in proof["workers"]}


def _rows(answer: Mapping[str, Any]) -> dict[str, int]:
    return {table["name"]: table["rows"] for table in answer["tables"]}


# --- what the lab says of what it saw ---


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module run.py."""
    monkeypatch.syspath_prepend(LAB)
    spec = importlib.util.spec_from_file_location("lab_run", LAB / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lab_run", module)
    spec.loader.exec_module(module)
    return module


def _index(requirements: Sequence[str], python: str) -> bool:
    """An index of three packages, of which two do not go together."""
    wheels = {"old==1.0": {"3.10", "3.11"}, "new==2.0": {"3.11", "3.12", "3.13"}, "any==1.0": {"3.10", "3.13"}}
    both = not {"new==2.0", "any==1.0"} <= set(requirements)
    return both and all(python in wheels[each] for each in requirements)


@pytest.mark.parametrize(
    ("asked", "running", "why", "needs"),
    [
        (["old==1.0"], "3.12", "there is no wheel of old 1.0 for it", ["3.10", "3.11"]),
        (["old==1.0", "new==2.0"], "3.12", "there is no wheel of old 1.0 for it", ["3.11"]),
        (["old==1.0", "any==1.0"], "3.12", "there is no wheel of old 1.0 or any 1.0 for it", ["3.10"]),
        (["new==2.0", "any==1.0"], "3.13", "no wheels for it meet all it asks for", []),
        (["old==1.0"], "3.14", "there is no wheel of old 1.0 for it", ["3.10", "3.11"]),
    ],
)
def test_what_cannot_run_here_says_why_and_on_which_python_it_could(
    lab: Any, asked: list[str], running: str, why: str, needs: list[str]
) -> None:
    assert lab.unfit(asked, running, _index) == (why, needs)


@pytest.mark.parametrize(
    ("pythons", "said"),
    [
        (["3.10"], "it needs Python 3.10"),
        (["3.10", "3.11"], "it needs Python 3.10 or 3.11"),
        (["3.10", "3.11", "3.12"], "it needs Python 3.10, 3.11 or 3.12"),
        ([], "nor on any other Python from 3.10 to 3.13 on this platform"),
    ],
)
def test_the_pythons_that_would_do_are_said_as_a_person_says_them(lab: Any, pythons: list[str], said: str) -> None:
    assert lab.needed(pythons) == said


def _process(pandas: str, fingerprint: str, pid: int) -> dict[str, Any]:
    imported = {"pandas": {"version": pandas}}
    facts = {"pid": pid, "host": "one", "executor": "0", "package_count": 5}
    return {**facts, "imported": imported, "fingerprint": fingerprint}


def _ran(lab: Any, name: str, asked: str, driver: Mapping[str, Any] | None, *workers: Mapping[str, Any]) -> Any:
    proof = {"driver": driver, "workers": workers}
    return lab.Task(name, [f"pandas=={asked}"], converted=SimpleNamespace(path=name), proof=proof)


def test_the_lab_is_content_with_a_driver_that_was_left_alone_and_a_task_that_cannot_run(lab: Any) -> None:
    first = _ran(lab, "first", "1.0", None, _process("1.0", "a", 1))
    absent = lab.Task("absent", ["pandas==3.0"], unfit="there is no wheel", needs=["3.10"])
    takings = sum(order.quantity * order.unit_cents for order in lab.orders.raw())
    assert lab.problems([first, absent], [lab.Table("bronze.daily_sales", 1000, takings)]) == []
    assert "needs Python 3.10" in lab.summary([first, absent], [])


def test_where_no_task_can_run_the_lab_claims_nothing_of_spark(lab: Any) -> None:
    absent = lab.Task("absent", ["pandas==3.0"], unfit="there is no wheel", needs=["3.10"])
    assert lab.summary([absent], []).splitlines()[-1] == "no task can run on this Python, so Spark was not started"


def test_the_lab_names_all_that_is_not_as_it_should_be(lab: Any) -> None:
    first = _ran(lab, "first", "1.0", _process("9.0", "same", 1), _process("1.0", "a", 2), _process("9.0", "b", 3))
    second = _ran(lab, "second", "2.0", _process("2.0", "same", 4), _process("2.0", "a", 2))
    assert [each.partition(",")[0] for each in lab.problems([first, second], [lab.Table("bronze.x", 999, 5)])] == [
        "first has pandas 9.0 on the driver",
        "first has pandas 9.0 on a worker of executor 0",
        "first has workers that differ",
        "the workers of different tasks have one fingerprint: a",
        "the drivers of different tasks have one fingerprint: same",
        "different tasks have Python workers in common",
        "bronze.x has 999 orders over 5 cents",
    ]


def test_a_task_that_fails_is_told_with_its_exit_code(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "broken.py").write_text("print('its last words')\nraise SystemExit(3)\n")
    monkeypatch.setattr(lab, "LAB", tmp_path)
    said: list[str] = []
    with (
        pytest.raises(lab.LabError, match="broken failed with exit code 3"),
        lab._started("broken", "path", {}, said.append) as process,
    ):
        process.values()
    assert said == ["its last words"]


def test_the_orders_are_the_same_every_time_and_tidied_without_pandas(lab: Any) -> None:
    assert lab.orders.raw() == lab.orders.raw()
    rows = lab.orders.prepared_without_pandas(lab.orders.raw())
    assert len(rows) == 1000
    assert rows[0] == (1, "2026-03-29", "North", "tea", 1, 450, 450, "no pandas")
    assert {row[2] for row in rows} == {"North", "East", "South", "West"}


# --- processes that attach to one application ---


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Spark application on two executors, as the environment variables of those who attach to it."""
    sites = tmp_path_factory.mktemp("sites-of-the-workers")
    config = {"spark.executorEnv.DEPLOAD_SITES": str(sites)}
    code = f"""
        import json, sys
        from depload.local.embedded import attachment, spark_session
        with spark_session({CLUSTER!r}, **{config!r}) as spark:
            print(json.dumps(attachment(spark)), flush=True)
            sys.stdin.read()
        """
    process = _start(code)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.communicate(timeout=60)
        assert process.returncode == 0


def _start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", dedent(code), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _together(code: str, application: Mapping[str, str], *arguments: Sequence[str]) -> list[Any]:
    """What processes answer that all are attached at once: each waits until every one of them is ready."""
    processes = [_start(code, *each, **application) for each in arguments]
    try:
        ready = [process.stdout.readline() for process in processes if process.stdout]
        assert ready == ["ready\n"] * len(processes)
        for process in processes:
            print("go", file=process.stdin, flush=True)
        answers = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0] * len(processes)
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


LOADING = """
    import json, sys
    import depload
    from depload.local.embedded import attached_session

    with attached_session() as spark:
        if sys.argv[2] == "first":
            print("ready", flush=True)
            input()
        loaded = depload.load(sys.argv[1], spark, isolation=sys.argv[3])
        if sys.argv[2] == "later":
            print("ready", flush=True)
            input()
        names = spark.sparkContext.parallelize(range(8), 4).map(lambda _: __import__("alpha").NAME).collect()
        import alpha
        workers = [worker.pid for worker in loaded.report.workers]
        print(json.dumps({"names": sorted(set(names)), "driver": alpha.NAME, "workers": workers}))
    """


@pytest.mark.spark
def test_two_attached_processes_have_a_version_each_at_the_same_time(
    application: Mapping[str, str], published: Callable[..., Converted]
) -> None:
    old = published(alpha=("1.0", {"alpha.py": "NAME = 'old'\n"}))
    new = published(alpha=("2.0", {"alpha.py": "NAME = 'new'\n"}))
    answers = _together(LOADING, application, *([each.path, "later", "process"] for each in (old, new)))
    assert [(answer["names"], answer["driver"]) for answer in answers] == [(["old"], "old"), (["new"], "new")]
    assert not set(answers[0]["workers"]) & set(answers[1]["workers"]), "no worker process in common"


@pytest.mark.spark
def test_two_attached_processes_load_the_same_run_path_at_the_same_moment(
    application: Mapping[str, str], published: Callable[..., Converted]
) -> None:
    converted = published(alpha=("3.0", {"alpha.py": "NAME = 'both'\n"}))
    answers = _together(LOADING, application, *[[converted.path, "first", "shared"]] * 2)
    assert [(answer["names"], answer["driver"]) for answer in answers] == [(["both"], "both")] * 2


@pytest.mark.spark
def test_what_a_process_sent_that_has_ended_is_there_for_executors_that_come_later(
    application: Mapping[str, str], published: Callable[..., Converted]
) -> None:
    """Spark has every new executor fetch all files of the application, whoever sent them."""
    converted = published(alpha=("3.0", {"alpha.py": "NAME = 'both'\n"}))  # what shared workers may have by now
    for isolation in ("shared", "process"):
        _together(LOADING, application, [converted.path, "later", isolation])
    code = """
        import json, os, signal
        from depload.local.embedded import attached_session

        def executor(_):
            daemon = os.getppid()
            with open(f"/proc/{daemon}/stat") as file:
                return [int(file.read().rpartition(")")[2].split()[1]), os.getcwd()]

        with attached_session() as spark:
            context = spark.sparkContext
            before = context.parallelize(range(2), 2).map(executor).collect()
            for java, _ in before:
                os.kill(java, signal.SIGKILL)
            after = context.parallelize(range(2), 2).map(executor).collect()
        print(json.dumps(not {place for _, place in before} & {place for _, place in after}))
        """
    assert run_python(code, **application) is True


@pytest.mark.spark
def test_an_attached_session_shares_tables_keeps_its_conf_and_leaves_the_application_running(
    application: Mapping[str, str],
) -> None:
    code = """
        import json
        from depload.local.embedded import attached_session

        answer = []
        for _ in range(2):  # a process may attach again
            with attached_session() as spark:
                from pyspark.sql import SparkSession

                java = spark.sparkContext._jvm.SparkSession
                answer.append({
                    "application": spark.sparkContext.applicationId,
                    "tables": [row.tableName for row in spark.sql("SHOW TABLES").collect()],
                    "conf": spark.conf.get("spark.sql.shuffle.partitions"),
                    "builder": SparkSession.builder.getOrCreate() is spark,
                    "default": java.getDefaultSession().get().hashCode() == spark._jsparkSession.hashCode(),
                })
                spark.conf.set("spark.sql.shuffle.partitions", "7")
                spark.range(3).write.mode("overwrite").saveAsTable("shared")
            answer[-1]["active"] = SparkSession.getActiveSession() is not None
        print(json.dumps(answer))
        """
    first, second = run_python(code, **application)
    assert first == {**second, "tables": []}
    assert second.pop("application").startswith("app-")
    assert second == {"tables": ["shared"], "conf": "200", "builder": True, "default": False, "active": False}


@pytest.mark.spark
def test_nobody_attaches_to_an_application_that_was_stopped() -> None:
    code = """
        import json, os, subprocess, sys
        from depload.local.embedded import attachment, spark_session

        with spark_session("local[1]") as spark:
            environment = {**os.environ, **attachment(spark)}
        attach = "from depload.local.embedded import attached_session\\nwith attached_session(): pass"
        done = subprocess.run([sys.executable, "-c", attach], env=environment, capture_output=True, text=True)
        print(json.dumps(done.stderr.splitlines()[-1]))
        """
    said = run_python(code)
    assert "SparkSessionError: this process cannot attach to the Spark application: it was stopped" in said


def test_a_process_that_was_told_of_no_application_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    with pytest.raises(SparkSessionError, match=r"start it with what embedded\.attachment"), attached_session():
        pass


@pytest.mark.parametrize(
    ("spark", "why"),
    [
        (object(), "a process attaches to the JVM of a classic Spark session"),
        (SimpleNamespace(_sc=SimpleNamespace(_jsc=None)), "the Spark session was stopped"),
    ],
)
def test_a_session_that_nobody_can_attach_to_says_so(spark: object, why: str) -> None:
    with pytest.raises(SparkSessionError, match=why):
        attachment(spark)
