"""Jobs on this machine, without Spark: what is refused, when what runs, and what becomes of processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from conftest import ROOT, make_wheel, write_files
from depload.command.jobs import spread
from depload.errors import BundleError, JobDefinitionError, NotebookError
from depload.running import installation, notebooks, references, rendering
from depload.running.addresses import Addresses
from depload.running.bundle import find, merge, render
from depload.running.compute import Compute, OfRun, Ready
from depload.running.conditions import holds, leaving, of_leaves
from depload.running.jobs import Cluster, Job, Serverless
from depload.running.references import Scope, fill
from depload.running.results import Ended, JobRun, Result, State
from depload.running.runs import Place, run, run_several
from depload.running.scheduler import Attempt, Progress, Scheduler
from depload.running.utilities import Utilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Settings = dict[str, Any]
CLUSTERS = [{"job_cluster_key": "main", "new_cluster": {"num_workers": 1}}]


def task(key: str, *after: str, **more: Any) -> Settings:
    """A task of any kind; a Python file where nothing else is said."""
    kinds = [name for name in more if name.endswith("_task")]
    work: Settings = {} if kinds else {"spark_python_task": {"python_file": f"{key}.py"}}
    on = {} if {"condition_task", "for_each_task"} & set(kinds) else {"job_cluster_key": "main"}
    return {"task_key": key, "depends_on": [{"task_key": each} for each in after], **work, **on, **more}


def settings(*tasks: Settings, **more: Any) -> Settings:
    return {"name": "example", "tasks": list(tasks), "job_clusters": CLUSTERS, **more}


# --- definitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        (settings(task("a"), task("a")), "task a", "2 tasks have this key"),
        (settings(task("a", "b")), "task a", "depends on 'b', and there is no such task"),
        (settings(task("a", "b"), task("b", "a")), "depends_on", "goes in a circle"),
        (settings(task("a", job_cluster_key="other")), "task a", "there is no job cluster 'other'"),
        (settings(task("a", sql_task={"query": {}})), "task a", "sql_task does not run on this machine"),
        (settings(task("a", run_job_task={"job_id": 1})), "task a", "run_job_task does not run on this machine"),
        (settings(task("a", dbt_task={"commands": []})), "task a", "dbt_task does not run on this machine"),
        (settings(task("a", run_if="ALL_GOOD")), "task a", "run_if is 'ALL_GOOD'"),
        (settings(task("a", notebook_task={})), "task a", "has no notebook_path"),
        (settings(task("a b")), "task a b", "a task_key has 1 to 100 letters"),
        (settings(), "tasks", "there are none"),
        (settings(task("a"), parameters=[{}]), "'name'", "is missing where the Jobs API needs it"),
        (settings(task("a", max_retries="x")), "settings", "are none of the Jobs API 2.2"),
        (
            settings(task("a", for_each_task={"inputs": "1, 2", "task": task("b")})),
            "task a",
            "inputs: they are a JSON list",
        ),
        (
            settings(task("a", for_each_task={"inputs": "[]", "task": task("b", for_each_task={})})),
            "task b",
            "for_each_task does not run",
        ),
        (settings(task("a", libraries=[{"jar": "x.jar"}])), "task a", "libraries: jar cannot be installed"),
        (
            settings({**task("a"), "job_cluster_key": None}),
            "task a",
            "neither a job_cluster_key nor an environment_key",
        ),
        (
            settings({**task("a", environment_key="e"), "job_cluster_key": None}),
            "task a",
            "there is no environment 'e'",
        ),
        (settings(task("a", existing_cluster_id="1", job_cluster_key=None)), "task a", "existing_cluster_id"),
        (settings(task("a"), tags={"x": "{{job.naem}}"}), "{{job.naem}}", "is no reference"),
        (
            settings(task("a"), {**task("b"), "depends_on": [{"task_key": "a", "outcome": "true"}]}),
            "task b",
            "which is no condition task",
        ),
    ],
)
def test_what_cannot_run_here_is_refused_by_name(given: Settings, where: str, what: str) -> None:
    with pytest.raises(JobDefinitionError) as raised:
        Job.of(given)
    assert any(fault.where == where and what in fault.what for fault in raised.value.faults), raised.value.faults


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(JobDefinitionError) as raised:
        Job.of(settings(task("a", "z", run_if="X"), task("b", sql_task={}), task("c", job_cluster_key="other")))
    assert [fault.where for fault in raised.value.faults] == ["task a", "task b", "task c", "task a"]
    assert "nothing was started" in str(raised.value)


@pytest.mark.parametrize(
    ("mode", "standard"),
    [("USER_ISOLATION", True), ("DATA_SECURITY_MODE_STANDARD", True), ("SINGLE_USER", False), (None, False)],
)
def test_standard_access_mode_is_told_from_dedicated(mode: str | None, standard: bool) -> None:
    spec = {"num_workers": 3, "data_security_mode": mode, "spark_conf": {"a": 1}}
    job = Job.of(settings(task("a"), job_clusters=[{"job_cluster_key": "main", "new_cluster": spec}]))
    assert job.compute == (Cluster("main", 3, standard, {"a": "1"}, {}),)


def test_a_notebook_without_compute_is_serverless() -> None:
    job = Job.of(settings({"task_key": "a", "notebook_task": {"notebook_path": "n"}}))
    assert job.compute == (Serverless(""),)


# --- references -----------------------------------------------------------------------------------------------------

SCOPE = Scope(
    {"job.run_id": "7", "job.name": "example", "tasks.first.result_state": "success", "task.name": "here"},
    {"base": "/Volumes/x", "a b": "1"},
    lambda task, key: {("first", "path"): "/p", ("first", "made"): {"n": [1, 2]}}[task, key],
    {"name": "alpha", "deep": {"x": True}},
)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{job.run_id}}", "7"),
        ("a-{{job.run_id}}-{{job.name}}", "a-7-example"),
        ("{{job.parameters.base}}/x", "/Volumes/x/x"),
        ("{{job.parameters.`a b`}}", "1"),
        ("{{tasks.first.values.path}}", "/p"),
        ("{{tasks.first.values.made}}", '{"n": [1, 2]}'),
        ("{{tasks.first.values.made.n}}", "[1, 2]"),
        ("{{tasks.first.result_state}}", "success"),
        ("{{input}}", '{"name": "alpha", "deep": {"x": true}}'),
        ("{{input.name}}", "alpha"),
        ("{{input.deep.x}}", "true"),
        ("{{task_key}} {{parent_run_id}}", "here 7"),
        # What is not known stays as it is.
        ("{{job.parameters.other}}", "{{job.parameters.other}}"),
        ("{{tasks.first.values.other}}", "{{tasks.first.values.other}}"),
        ("{{tasks.second.result_state}}", "{{tasks.second.result_state}}"),
        ("{{input.other}}", "{{input.other}}"),
        ("{{ job.run_id }}", "{{ job.run_id }}"),
        ("{{job.run_id}", "{{job.run_id}"),
        ("{{job..run_id}}", "{{job..run_id}}"),
        ("{{1 + 1}}", "{{1 + 1}}"),
        ("{{}}", "{{}}"),
    ],
)
def test_a_reference_is_filled_in_where_it_is_known(text: str, filled: str) -> None:
    assert fill(text, SCOPE) == filled


def test_input_is_no_reference_outside_of_a_for_each() -> None:
    assert fill("{{input}} {{input.name}}", Scope({})) == "{{input}} {{input.name}}"


def test_a_moment_is_told_in_utc() -> None:
    facts = references.of_time("job.start_time", 1767225599.5)  # the last half second of 2025, a Wednesday
    told = {name.rpartition(".")[2]: value for name, value in facts.items()}
    assert told["iso_datetime"] == "2025-12-31T23:59:59.500"
    assert (told["iso_date"], told["iso_weekday"], told["is_weekday"]) == ("2025-12-31", "3", "true")
    assert told["timestamp_ms"] == "1767225599500"


# --- conditions -----------------------------------------------------------------------------------------------------

S, F, X, T = Result.SUCCESS, Result.FAILED, Result.EXCLUDED, Result.TIMEDOUT
C, UF, UC = Result.CANCELED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED


@pytest.mark.parametrize(
    ("run_if", "upstream", "left"),
    [
        ("ALL_SUCCESS", [], None),
        ("ALL_SUCCESS", [S, S], None),
        ("ALL_SUCCESS", [S, X], None),
        ("ALL_SUCCESS", [S, F], UF),
        ("ALL_SUCCESS", [S, T], UF),
        ("ALL_SUCCESS", [S, UF], UF),
        ("ALL_SUCCESS", [S, C], UC),
        ("ALL_SUCCESS", [UC, S], UC),
        ("ALL_SUCCESS", [F, C], UF),
        ("ALL_SUCCESS", [X, X], X),
        ("AT_LEAST_ONE_SUCCESS", [S, F], None),
        ("AT_LEAST_ONE_SUCCESS", [F, F], UF),
        ("AT_LEAST_ONE_SUCCESS", [X, F], UF),
        ("NONE_FAILED", [S, X], None),
        ("NONE_FAILED", [S, F], UF),
        ("ALL_DONE", [F, UF], None),
        ("ALL_DONE", [C, UC], None),
        ("ALL_DONE", [X, X], X),
        ("AT_LEAST_ONE_FAILED", [S, F], None),
        ("AT_LEAST_ONE_FAILED", [S, S], X),
        ("ALL_FAILED", [F, UF], None),
        ("ALL_FAILED", [S, F], X),
    ],
)
def test_a_task_runs_or_is_left_out_after_what_became_of_others(
    run_if: str, upstream: list[Result], left: Result | None
) -> None:
    assert leaving(run_if, upstream) == left


@pytest.mark.parametrize(
    ("leaves", "every", "came_to"),
    [
        ([S], [S, S], S),
        ([S], [F, S], Result.SUCCESS_WITH_FAILURES),
        ([S, F], [S, F], F),
        ([UF], [F, UF], F),
        ([T], [T], F),
        ([C], [C], C),
        ([X], [S, X], S),
    ],
)
def test_the_leaves_decide_what_a_run_has_come_to(leaves: list[Result], every: list[Result], came_to: Result) -> None:
    assert of_leaves(leaves, every) == came_to


@pytest.mark.parametrize(
    ("operator", "left", "right", "true"),
    [
        ("EQUAL_TO", "12", "12.0", False),
        ("EQUAL_TO", "a", "a", True),
        ("NOT_EQUAL", "a", "b", True),
        ("GREATER_THAN", "12", "3", True),
        ("GREATER_THAN_OR_EQUAL", "3.0", "3", True),
        ("LESS_THAN", "12", "3", False),
        ("LESS_THAN_OR_EQUAL", "3", "12", True),
    ],
)
def test_equality_compares_texts_and_the_others_compare_numbers(
    operator: str, left: str, right: str, true: bool
) -> None:
    assert holds(operator, left, right) is true


# --- the scheduler --------------------------------------------------------------------------------------------------


@dataclass
class Script:
    """Attempts that go as they are told: by key, how each try ends, and after how many seconds."""

    clock: Clock
    ends: Mapping[str, Sequence[tuple[float, bool]]]
    started: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    begun: dict[tuple[str, int], float] = field(default_factory=dict)
    scopes: dict[str, Scope] = field(default_factory=dict)

    def start(self, attempt: Attempt) -> None:
        self.started.append(attempt.key)
        self.begun[attempt.key, attempt.number] = self.clock.now
        self.scopes[attempt.key] = attempt.scope

    def progress(self, attempt: Attempt) -> Progress:
        since = self.begun[attempt.key, attempt.number]
        if attempt.key in self.stopped:
            self.stopped.remove(attempt.key)
            return Progress(since, Ended(good=False))
        ends = self.ends.get(attempt.key, [(1.0, True)])
        after, good = ends[min(attempt.number, len(ends) - 1)]
        if self.clock.now - since < after:
            return Progress(since)
        return Progress(since, Ended(good, "" if good else "ValueError: told to"))

    def stop(self, attempt: Attempt) -> None:
        self.stopped.append(attempt.key)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def no_values(task: str, key: str) -> Any:
    raise KeyError(task, key)


def scheduled(
    given: Settings,
    ends: Mapping[str, Sequence[tuple[float, bool]]] | None = None,
    *,
    values: Callable[[str, str], Any] = no_values,
    cancel_at: float | None = None,
    **more: Any,
) -> tuple[JobRun, Script]:
    """Let a scheduler have its way, with a clock that jumps by a second."""
    job, clock = Job.of(given), Clock()
    script = Script(clock, ends or {})
    scheduler = Scheduler(job, JobRun(job.name, 1, 5, {}), script, clock=clock, values=values, **more)
    for _ in range(1000):
        if scheduler.done:
            return scheduler.snapshot(), script
        if cancel_at is not None and clock.now - 1000 >= cancel_at:
            scheduler.cancel()
        before = scheduler.snapshot()
        moved = scheduler.step()
        assert moved or scheduler.snapshot() == before, "a change that nobody is told of"
        clock.now += 1
    raise AssertionError(f"the run does not end: {scheduler.snapshot()}")


def results(run: JobRun) -> dict[str, str]:
    return {each.key: each.result.value for each in run.tasks if each.result}


def test_tasks_run_in_the_order_of_their_dependencies() -> None:
    done, script = scheduled(settings(task("c", "b"), task("b", "a"), task("a"), task("d", "a")))
    assert script.started == ["a", "d", "b", "c"]
    assert done.result is Result.SUCCESS
    assert done.ended is not None
    assert done.state is State.TERMINATED


def test_a_task_whose_upstream_failed_does_not_run() -> None:
    done, script = scheduled(
        settings(task("a"), task("b", "a"), task("c", "b", run_if="ALL_DONE")), {"a": [(1, False)]}
    )
    assert script.started == ["a", "c"]
    assert results(done) == {"a": "failed", "b": "upstream_failed", "c": "success"}
    assert done.result is Result.SUCCESS_WITH_FAILURES
    assert done.task("a").error == "ValueError: told to"


def test_a_failed_leaf_fails_the_run() -> None:
    done, _ = scheduled(settings(task("a"), task("b")), {"b": [(1, False)]})
    assert done.result is Result.FAILED
    assert not done.good


def test_what_waits_for_a_task_can_refer_to_its_result_and_its_run() -> None:
    _, script = scheduled(settings(task("a"), task("b", "a", run_if="ALL_DONE")), {"a": [(1, False)]})
    text = "{{tasks.a.result_state}} {{job.run_id}} {{task.name}} {{task.execution_count}} {{tasks.b.result_state}}"
    assert fill(text, script.scopes["b"]) == "failed 5 b 1 {{tasks.b.result_state}}"


def test_a_task_is_tried_again_as_often_as_it_says_and_not_before_its_time() -> None:
    more = {"max_retries": 2, "min_retry_interval_millis": 20_000}
    done, script = scheduled(settings(task("a", **more)), {"a": [(1, False), (1, False), (1, True)]})
    assert done.result is Result.SUCCESS
    assert done.task("a").attempt == 2
    begun = [script.begun["a", number] for number in range(3)]
    assert [later - earlier >= 20 for earlier, later in itertools.pairwise(begun)] == [True, True]


def test_the_last_attempt_decides() -> None:
    done, script = scheduled(settings(task("a", max_retries=1)), {"a": [(1, False)]})
    assert script.started == ["a", "a"]
    assert results(done) == {"a": "failed"}


def test_retries_without_end_go_on_until_it_succeeds() -> None:
    done, script = scheduled(settings(task("a", max_retries=-1)), {"a": [*[(1, False)] * 7, (1, True)]})
    assert len(script.started) == 8
    assert done.good


def test_waits_between_attempts_can_be_shortened() -> None:
    more = {"max_retries": 1, "min_retry_interval_millis": 900_000}
    done, _ = scheduled(settings(task("a", **more)), {"a": [(1, False), (1, True)]}, retry_wait=0)
    assert done.ended is not None
    assert done.started is not None
    assert done.ended - done.started < 10


def test_a_task_that_takes_too_long_is_stopped_and_not_tried_again() -> None:
    given = settings(task("a", timeout_seconds=10, max_retries=3), task("b", "a"))
    done, script = scheduled(given, {"a": [(99, True)]})
    assert script.started == ["a"]
    assert results(done) == {"a": "timedout", "b": "upstream_failed"}
    assert "it took longer than 10 s" in done.task("a").error


def test_a_timeout_is_tried_again_where_the_task_says_so() -> None:
    more = {"timeout_seconds": 10, "max_retries": 1, "retry_on_timeout": True}
    done, _ = scheduled(settings(task("a", **more)), {"a": [(99, True), (1, True)]})
    assert done.good
    assert done.task("a").attempt == 1


def test_a_job_that_takes_too_long_stops_what_runs_and_starts_nothing_more() -> None:
    given = settings(task("a"), task("b", "a", run_if="ALL_DONE"), timeout_seconds=10)
    done, script = scheduled(given, {"a": [(99, True)]})
    assert script.started == ["a"]
    assert results(done) == {"a": "timedout", "b": "canceled"}
    assert done.result is Result.TIMEDOUT


def test_a_cancelled_run_stops_what_runs_and_starts_nothing_more() -> None:
    given = settings(task("a"), task("b", "a", run_if="ALL_DONE"), task("c", max_retries=5))
    done, script = scheduled(given, {"a": [(99, True)], "c": [(99, True)]}, cancel_at=3)
    assert sorted(script.started) == ["a", "c"]
    assert results(done) == dict.fromkeys("abc", "canceled")
    assert done.result is Result.CANCELED
    assert done.task("b").state is State.SKIPPED


def test_a_branch_that_is_not_taken_is_excluded() -> None:
    condition = {"op": "GREATER_THAN", "left": "{{tasks.count.values.rows}}", "right": "10"}
    given = settings(
        task("count"),
        task("many", "count", condition_task=condition),
        {**task("yes"), "depends_on": [{"task_key": "many", "outcome": "true"}]},
        {**task("no"), "depends_on": [{"task_key": "many", "outcome": "false"}]},
        task("after_no", "no"),
        task("join", "yes", "no", run_if="NONE_FAILED"),
    )
    done, script = scheduled(given, values=lambda _task, _key: 12)
    assert script.started == ["count", "yes", "join"]
    assert done.task("many").outcome == "true"
    assert results(done) == {
        **dict.fromkeys(["count", "many", "yes", "join"], "success"),
        **dict.fromkeys(["no", "after_no"], "excluded"),
    }
    assert done.result is Result.SUCCESS


def test_a_condition_that_cannot_be_compared_fails_its_task() -> None:
    condition = {"op": "LESS_THAN", "left": "{{tasks.a.values.x}}", "right": "1"}
    done, _ = scheduled(settings(task("is", condition_task=condition)))
    assert done.result is Result.FAILED
    assert "compares numbers, not '{{tasks.a.values.x}}'" in done.task("is").error


def test_a_for_each_runs_as_many_at_once_as_it_says_and_each_with_its_input() -> None:
    each = {"inputs": '["x", {"name": "y"}, 3, 4, 5]', "concurrency": 2, "task": task("one")}
    done, script = scheduled(settings(task("all", for_each_task=each)), {f"one[{at}]": [(3, True)] for at in range(5)})
    assert done.good
    moments = [script.begun[f"one[{at}]", 0] for at in range(5)]
    assert moments[0] == moments[1] < moments[2] == moments[3] < moments[4]
    assert [fill("{{input}}", script.scopes[f"one[{at}]"]) for at in (0, 2)] == ["x", "3"]
    assert fill("{{input.name}}", script.scopes["one[1]"]) == "y"
    assert [one.key for one in done.task("all").iterations] == [f"one[{at}]" for at in range(5)]


def test_iterations_that_fail_are_tried_again_and_fail_the_for_each_alone_in_the_end() -> None:
    each = {"inputs": "[1, 2, 3]", "concurrency": 3, "task": task("one", max_retries=1)}
    ends = {"one[0]": [(1, False), (1, True)], "one[1]": [(1, False)]}
    done, script = scheduled(settings(task("all", for_each_task=each)), ends)
    assert sorted(script.started) == ["one[0]", "one[0]", "one[1]", "one[1]", "one[2]"]
    assert results(done) == {"all": "failed"}
    assert done.task("all").error == "1 of 3 iterations: ValueError: told to"
    assert [str(one.result and one.result.value) for one in done.every] == ["success", "failed", "success"]


def test_inputs_may_be_a_task_value_and_none_is_no_failure() -> None:
    each = {"inputs": "{{tasks.a.values.found}}", "task": task("one")}
    given = settings(task("a"), task("all", "a", for_each_task=each))
    assert scheduled(given, values=lambda _task, _key: [])[0].good
    done, _ = scheduled(given)
    assert "{{tasks.a.values.found}}" in done.task("all").error
    assert done.result is Result.FAILED


def test_a_task_that_is_disabled_is_left_out() -> None:
    done, script = scheduled(settings(task("a", disabled=True), task("b")))
    assert script.started == ["b"]
    assert results(done) == {"a": "disabled", "b": "success"}
    assert done.good


def test_a_repair_runs_what_it_is_told_to_and_keeps_the_rest() -> None:
    given = settings(task("a"), task("b", "a"), task("c", "b", run_if="ALL_DONE"))
    earlier, _ = scheduled(given, {"b": [(1, False)]})
    done, script = scheduled(given, earlier=earlier, rerun=["b", "c"])
    assert script.started == ["b", "c"]
    assert done.result is Result.SUCCESS


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "local"),
    [
        ("/Volumes/main/default/x", "/r/Volumes/main/default/x"),
        ("--base=/Volumes/main/default/x", "--base=/r/Volumes/main/default/x"),
        ("dbfs:/Volumes/main/x", "/r/Volumes/main/x"),
        ("dbfs:/tmp/x", "/r/dbfs/tmp/x"),
        ("--a=dbfs:/tmp/x", "--a=/r/dbfs/tmp/x"),
        ("/tmp/x", "/tmp/x"),
        ("--a=b=/Volumes/x", "--a=b=/Volumes/x"),
        ("see /Volumes/main", "see /Volumes/main"),
        ("/VolumesOther/x", "/VolumesOther/x"),
        ("", ""),
    ],
)
def test_a_parameter_that_begins_as_an_address_of_a_workspace_lies_below_the_root(given: str, local: str) -> None:
    assert Addresses(Path("/r")).parameter(given) == local
    assert Addresses(None).parameter(given) == given


# --- notebooks ------------------------------------------------------------------------------------------------------

HEADER = "# Databricks notebook source\n"
CELL = "\n# COMMAND ----------\n\n"


@pytest.mark.parametrize("file", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda file: file.stem)
def test_every_notebook_of_the_bundle_can_be_read(file: Path) -> None:
    cells = notebooks.read(file)
    lines = file.read_text(encoding="utf-8").splitlines()
    assert cells
    for cell in cells:
        assert lines[cell.line - 1] == cell.source.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1\n", "is not in the source format"),
        (f"{HEADER}x = 1\n{CELL}# MAGIC %pip install x\n", "cell 2, line 6: %pip does not run on this machine"),
        (f"{HEADER}# MAGIC %sh ls\n", "cell 1, line 2: %sh does not run"),
        (f"{HEADER}# MAGIC %scala\n# MAGIC val x = 1\n", "%scala does not run"),
    ],
)
def test_what_a_notebook_cannot_do_here_is_told_before_any_cell_runs(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "n.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(NotebookError, match=why.replace("%", "%")) as raised:
        notebooks.read(file)
    assert str(file) in str(raised.value)


def played(folder: Path, name: str = "n.py") -> dict[str, Any]:
    names: dict[str, Any] = {"given": {}}
    notebooks.Session(names, names["given"].__setitem__, lambda query: names.update(query=query)).run(folder / name)
    return names


def test_cells_share_a_namespace_and_magics_do_what_they_say(tmp_path: Path) -> None:
    cells = [
        "x = 1",
        "# MAGIC %md\n# MAGIC # x = 2",
        "# MAGIC %python\n# MAGIC y = x + 1",
        "# MAGIC %sql\n# MAGIC SELECT 1",
    ]
    cells += ['# MAGIC %run ./deep/other $a="b c" $d=e', "# DBTITLE 1,A title\nw = z"]
    write_files(tmp_path, {"n.py": HEADER + CELL.join(cells), "deep/other.py": f"{HEADER}z = y + 1\n"})
    names = played(tmp_path)
    assert (names["y"], names["w"], names["query"].strip()) == (2, 3, "SELECT 1")
    assert names["given"] == {"a": "b c", "d": "e"}


@pytest.mark.parametrize(
    ("cell", "line", "why"),
    [
        ("def f():\n    raise ValueError('no')\n\nf()", 9, "ValueError: no"),
        ("import sys\nsys.exit('bad')", 7, "SystemExit: bad"),
        ("x = 1\nx ==", 7, "SyntaxError: invalid syntax"),
        ("# MAGIC %run ./nowhere", 6, "%run: there is no notebook ./nowhere"),
    ],
)
def test_an_error_names_the_notebook_the_cell_and_the_line(cell: str, line: int, why: str, tmp_path: Path) -> None:
    write_files(tmp_path, {"n.py": f"{HEADER}a = 1\n{CELL}{cell}\n"})
    with pytest.raises(NotebookError) as raised:
        played(tmp_path)
    assert (raised.value.cell, raised.value.line) == (2, line)
    assert str(raised.value).startswith(f"{tmp_path / 'n.py'}, cell 2, line {line}: {why}")


def test_sys_exit_without_a_fault_ends_a_cell_and_no_more(tmp_path: Path) -> None:
    write_files(tmp_path, {"n.py": f"{HEADER}import sys\nsys.exit(0)\n{CELL}after = 1\n"})
    assert played(tmp_path)["after"] == 1


# --- bundles --------------------------------------------------------------------------------------------------------

YAML = """\
bundle:
  name: small
include:
  - more/*.yml
variables:
  base: {default: "/Volumes/${bundle.target}/x"}
  size: {default: 2}
  notify:
    description: no default
targets:
  dev: {default: true, mode: development}
  prod:
    variables: {size: 5}
    resources:
      jobs:
        one:
          max_concurrent_runs: 9
          tasks:
            - {task_key: a, timeout_seconds: 7}
"""
MORE = """\
resources:
  jobs:
    one:
      name: first
      parameters:
        - {name: base, default: "${var.base}"}
        - {name: at, default: "${workspace.file_path}/x of ${resources.jobs.one.id}"}
      job_clusters:
        - {job_cluster_key: main, new_cluster: {num_workers: "${var.size}"}}
      tasks:
        - {task_key: a, job_cluster_key: main, notebook_task: {notebook_path: ../notebooks/n.py}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_files(tmp_path / "b", {"databricks.yml": YAML, "more/jobs.yml": MORE, "notebooks/n.py": HEADER})


def test_a_bundle_is_rendered_for_its_default_target(small: Path) -> None:
    bundle = render(small)
    job = bundle.job("one")
    assert (bundle.name, bundle.target) == ("small", "dev")
    assert job.name.endswith("] first")
    assert job.name.startswith("[dev ")
    assert job.parameters == {"base": "/Volumes/dev/x", "at": f"{small}/x of 1"}
    assert job.most_at_once == 4
    assert [on.workers for on in job.compute if isinstance(on, Cluster)] == [2]
    assert bundle.local(job.tasks[0].work.path) == small / "notebooks" / "n.py"  # type: ignore[union-attr]


def test_a_target_has_its_own_variables_and_lies_over_the_rest(small: Path) -> None:
    job = render(small, "prod").job("one")
    assert (job.name, job.most_at_once, job.tasks[0].timeout) == ("first", 9, 7)
    assert [on.workers for on in job.compute if isinstance(on, Cluster)] == [5]


def test_a_variable_is_given_on_the_command_line_else_in_the_environment_else_by_default(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUNDLE_VAR_base", "from the environment")
    assert render(small).job("one").parameters["base"] == "from the environment"
    assert render(small, variables={"base": "given"}).job("one").parameters["base"] == "given"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "${var.base}",
            "${var.notify}",
            "${var.notify} has no value; give it a default in `variables`, or --var notify=",
        ),
        ("${var.base}", "${var.nobody}", "${var.nobody} has no value"),
        ("${var.base}", "${workspace.nothing}", "${workspace.nothing} is nothing that is known on this machine"),
        ("name: first", "name: [first", "while parsing a flow sequence"),
    ],
)
def test_what_cannot_be_rendered_is_named_with_its_place(old: str, new: str, fault: str, small: Path) -> None:
    file = small / "more" / "jobs.yml"
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(BundleError) as raised:
        render(small)
    assert fault in str(raised.value)
    assert any(where in str(raised.value) for where in ("resources.jobs.one.parameters[0].default", "jobs.yml"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"target": "live"}, "there is no target live; there are: dev, prod"),
        ({"variables": {"bse": "x"}}, "there is no such variable; there are: base, size, notify"),
    ],
)
def test_a_target_or_variable_that_is_not_there_is_named(words: Settings, said: str, small: Path) -> None:
    with pytest.raises(BundleError, match=said):
        render(small, **words)


def test_a_job_that_is_not_there_is_named_with_those_that_are(small: Path) -> None:
    with pytest.raises(BundleError, match="no such job; there are: one"):
        render(small).job("two")


def test_the_nearest_bundle_is_found_from_a_directory_within(small: Path, tmp_path: Path) -> None:
    assert find(small / "more") == small
    with pytest.raises(BundleError, match="Give --bundle"):
        find(tmp_path)


def test_a_resource_in_python_that_fails_is_a_fault_of_the_bundle(small: Path) -> None:
    python = '\npython:\n  venv_path: nowhere\n  resources: ["broken:load_resources"]\n'
    write_files(small, {"databricks.yml": YAML + python, "broken.py": "raise ValueError('broken on purpose')\n"})
    with pytest.raises(BundleError, match="broken on purpose"):
        render(small)


def test_every_job_of_this_bundle_can_run_here() -> None:
    for target in ("dev", "test", "prod"):
        bundle = render(ROOT, target)
        for key in bundle.jobs:
            job = bundle.job(key)
            assert "${" not in json.dumps(bundle.jobs[key])
            assert job.parameters["volume_base_path"] == f"/Volumes/main/default/depload/{target}"
            assert {each for task in job.tasks for each in task.libraries if installation.others([each])} == set()


def test_lists_of_a_job_are_merged_by_the_names_of_their_items() -> None:
    one = {"tasks": [{"task_key": "a", "x": 1}, {"task_key": "b"}], "tags": {"a": 1}, "include": [1]}
    other = {"tasks": [{"task_key": "b", "y": 2}, {"task_key": "c"}], "tags": {"b": 2}, "include": [2]}
    assert merge(one, other) == {
        "tasks": [{"task_key": "a", "x": 1}, {"task_key": "b", "y": 2}, {"task_key": "c"}],
        "tags": {"a": 1, "b": 2},
        "include": [1, 2],
    }


@pytest.mark.parametrize(
    ("libraries", "others"),
    [
        (["dist/depload-0.1.0-py3-none-any.whl", "depload", "depload[cli]>=0.1", "depload @ file:///x"], []),
        (["depload-extras", "pandas==2.2.2", "lib/other-1-py3-none-any.whl"], None),
    ],
)
def test_depload_itself_is_never_installed_again(libraries: list[str], others: list[str] | None) -> None:
    assert installation.others(libraries) == tuple(libraries if others is None else others)


# --- processes ------------------------------------------------------------------------------------------------------


class _Bare(OfRun):
    def ready(self, where: Any, libraries: Path | None, cancelled: Any) -> Ready:
        del where, cancelled
        path = os.pathsep.join(filter(None, [str(libraries or ""), os.environ.get("PYTHONPATH")]))
        return Ready(sys.executable, {**os.environ, "PYTHONPATH": path}, "none")


class Bare(Compute):
    """Compute without Spark: a Python process."""

    @contextlib.contextmanager
    def of_run(self, job: Job, run_id: int, *, scratch: Path, secrets: Any) -> Iterator[OfRun]:
        yield _Bare(self, job, run_id, scratch, secrets)


@dataclass
class Here:
    """A folder with the files of jobs, and where they run."""

    folder: Path

    def local(self, path: str) -> Path:
        if not (self.folder / path).is_file():
            raise FileNotFoundError(path)
        return self.folder / path

    def run(self, given: Settings, files: Mapping[str, str], **more: Any) -> JobRun:
        write_files(self.folder, files)
        place = Place(self.folder / "results", self.folder / "scratch", self.folder / "root")
        with Bare(self.folder) as compute:
            return run(Job.of(given), run_id=9, files=self, place=place, compute=compute, **more)

    def log(self, name: str) -> str:
        return (self.folder / "results" / f"{name}.log").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def notebook(key: str, *after: str, given: Mapping[str, str] | None = None, **more: Any) -> Settings:
    return task(key, *after, notebook_task={"notebook_path": f"{key}.py", "base_parameters": given or {}}, **more)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_tasks_hand_on_values_parameters_and_results(here: Here) -> None:
    first = f"{HEADER}dbutils.jobs.taskValues.set('path', dbutils.widgets.get('base') + '/x')\nprint('hello')\n"
    last = (
        f"{HEADER}dbutils.widgets.text('found', '-')\ndbutils.widgets.text('own', 'default')\n{CELL}"
        "seen = dbutils.widgets.getAll()\nseen['value'] = dbutils.jobs.taskValues.get(taskKey='first', key='path')\n"
        "import json\ndbutils.notebook.exit(json.dumps(seen))\n"
    )
    found = {
        "found": "{{tasks.first.values.path}}",
        "state": "{{tasks.first.result_state}}",
        "x": "{{tasks.z.values.y}}",
    }
    given = settings(
        notebook("first", given={"base": "{{job.parameters.volume}}"}),
        notebook("last", "first", given=found),
        parameters=[{"name": "volume", "default": "/Volumes/a/{{job.run_id}}"}, {"name": "pushed", "default": "1"}],
    )
    done = here.run(given, {"first.py": first, "last.py": last}, parameters={"pushed": "2"})
    assert done.good, done
    base = f"{here.folder}/root/Volumes/a/9"
    assert json.loads(done.task("last").output or "") == {
        "found": f"{base}/x",
        "state": "success",
        "x": "{{tasks.z.values.y}}",
        "own": "default",
        "value": f"{base}/x",
        "volume": base,
        "pushed": "2",
    }
    assert here.log("first") == "hello\n"


def test_a_wheel_task_gets_its_words_and_job_parameters_are_pushed_down_to_names_alone(here: Here) -> None:
    """The package is depload's own, whose function of that name is called without arguments."""
    for kind, words in (
        ({"parameters": ["--a={{job.run_id}}", "b"]}, ["--a=9", "b"]),
        ({"named_parameters": {"a": "1", "p": "own"}}, ["--a=1", "--p=job's"]),
        ({}, ["--p=job's"]),
    ):
        wheel = {"package_name": "shouting", "entry_point": "shout", **kind}
        given = settings(task("a", python_wheel_task=wheel), parameters=[{"name": "p", "default": "job's"}])
        package = "import json, sys\n\ndef shout():\n    print(json.dumps(sys.argv))\n"
        info = {"shouting-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: shouting\nVersion: 1\n"}
        write_files(here.folder / "site", {"shouting.py": package, **info})
        path = os.pathsep.join(filter(None, [str(here.folder / "site"), os.environ.get("PYTHONPATH")]))
        done = here.run(given, {}, environment={"PYTHONPATH": path})
        assert done.good, done
        assert json.loads(here.log("a").splitlines()[-1]) == ["shout", *words]


def test_an_entry_point_is_found_whatever_its_group_and_one_that_is_not_there_is_named(here: Here) -> None:
    wheel = {"package_name": "depload", "entry_point": "cleanup", "parameters": ["--volume_base_path=/x", "--run_id=1"]}
    missing = {"package_name": "depload", "entry_point": "nothing"}
    other = {"package_name": "not-there", "entry_point": "nothing"}
    tasks = [task(key, python_wheel_task=work) for key, work in (("a", wheel), ("b", missing), ("c", other))]
    done = here.run(settings(*tasks), {})
    assert results(done) == {"a": "success", "b": "failed", "c": "failed"}
    assert "has neither an entry point nothing nor a function" in done.task("b").error
    assert "there is no package not-there here" in done.task("c").error


def test_what_a_task_raises_is_in_the_result_and_in_its_log(here: Here) -> None:
    files = {
        "a.py": "def f():\n    raise KeyError('lost')\n\nf()\n",
        "b.py": "import sys\nsys.exit(0)\n",
        "c.py": "import sys\nsys.exit(3)\n",
        "d.py": "import os\nprint('going', flush=True)\nos._exit(7)\n",
        "e.py": f"{HEADER}1 / 0\n",
    }
    done = here.run(settings(task("a"), task("b"), task("c"), task("d"), notebook("e")), files)
    assert results(done) == {"a": "failed", "b": "success", "c": "failed", "d": "failed", "e": "failed"}
    assert done.task("a").error == "KeyError: 'lost'"
    assert 'a.py", line 2, in f' in done.task("a").trace
    assert "KeyError: 'lost'" in here.log("a")
    assert done.task("c").error == "SystemExit: 3"
    assert done.task("d").error == "its process ended with code 7 before it could say why"
    assert "going" in done.task("d").trace
    assert done.task("e").error == f"{here.folder / 'e.py'}, cell 1, line 2: ZeroDivisionError: division by zero"


def test_an_attempt_that_fails_leaves_its_log_and_the_next_one_has_its_own(here: Here) -> None:
    code = (
        "import os, sys\nfirst = not os.path.exists('mark')\nopen('mark', 'w').close()\nprint(first)\nsys.exit(first)\n"
    )
    done = here.run(settings(task("a", max_retries=1)), {"a.py": code}, retry_wait=0)
    assert done.good
    assert done.task("a").attempt == 1
    assert (here.log("a").splitlines()[0], here.log("a.1").splitlines()[0]) == ("True", "False")


def test_a_task_that_takes_too_long_is_killed_with_all_that_it_started(here: Here) -> None:
    code = (
        "import subprocess, sys, os\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('pids', 'w').write(f'{os.getpid()} {child.pid}')\nchild.wait()\n"
    )
    given = settings(task("a", timeout_seconds=2), task("b", "a", run_if="ALL_DONE"))
    done = here.run(given, {"a.py": code, "b.py": "print('after')\n"})
    assert results(done) == {"a": "timedout", "b": "success"}
    pids = [int(pid) for pid in (here.folder / "scratch" / "tmp" / "pids").read_text(encoding="utf-8").split()]
    assert [alive(pid) for pid in pids] == [False, False]


def test_what_a_task_leaves_running_goes_with_it(here: Here) -> None:
    code = (
        "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('pid', 'w').write(str(child.pid))\n"
    )
    done = here.run(settings(task("a")), {"a.py": code})
    assert done.good
    assert not alive(int((here.folder / "scratch" / "tmp" / "pid").read_text(encoding="utf-8")))


def test_a_run_that_is_cancelled_ends_and_leaves_no_process(here: Here) -> None:
    cancel = threading.Event()
    pids: list[int] = []

    def watch(state: JobRun) -> None:
        file = here.folder / "scratch" / "tmp" / "pid"
        if state.task("a").state is State.RUNNING and not cancel.is_set():
            wait_for(lambda: file.exists() and file.read_text(encoding="utf-8"), "the task does not begin")
            pids.append(int(file.read_text(encoding="utf-8")))
            cancel.set()

    code = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    given = settings(task("a", max_retries=3), task("b", "a", run_if="ALL_DONE"))
    done = here.run(given, {"a.py": code, "b.py": ""}, watch=watch, cancel=cancel)
    assert done.result is Result.CANCELED
    assert results(done) == {"a": "canceled", "b": "canceled"}
    assert [alive(pid) for pid in pids] == [False]


RUNNER = """\
import sys
from pathlib import Path

from depload.running.jobs import Job
from depload.running.runs import Place, run
from test_running import Bare, Here, settings, task

folder = Path(sys.argv[1])
place = Place(folder / "results", folder / "scratch", None)
run(Job.of(settings(task("a"))), run_id=1, files=Here(folder), place=place, compute=Bare(folder))
"""


def test_a_runner_that_is_killed_takes_its_tasks_along(here: Here) -> None:
    code = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    write_files(here.folder, {"a.py": code})
    path = os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(here.folder)], env={**os.environ, "PYTHONPATH": path}
    ) as runner:
        file = here.folder / "scratch" / "tmp" / "pid"
        wait_for(lambda: file.exists() and file.read_text(encoding="utf-8"), "the task does not begin")
        pid = int(file.read_text(encoding="utf-8"))
        assert alive(pid)
        os.kill(runner.pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid), "the task goes on")


def test_secrets_reach_a_notebook_and_not_what_stays(here: Here) -> None:
    code = """\
        # Databricks notebook source
        secret = dbutils.secrets.get("scope", "key")
        assert dbutils.secrets.getBytes("scope", "key") == secret.encode()
        assert [each.key for each in dbutils.secrets.list("scope")] == ["key"]
        assert [each.name for each in dbutils.secrets.listScopes()] == ["scope"]
        print(f"it is {secret}.")
        raise ValueError(secret)
        """
    done = here.run(settings(notebook("a")), {"a.py": code}, secrets={"scope": {"key": "s3cr3t-value"}})
    assert "it is [REDACTED]." in here.log("a")
    assert "ValueError: [REDACTED]" in done.task("a").error
    written = [file for file in here.folder.rglob("*") if file.is_file() and b"s3cr3t-value" in file.read_bytes()]
    assert written == []
    assert "s3cr3t-value" not in json.dumps(done.to_json()) + rendering.junit([done])


def test_a_task_value_of_more_than_48_kib_is_refused(here: Here) -> None:
    code = f"{HEADER}dbutils.jobs.taskValues.set('x', 'y' * 48 * 1024)\n"
    done = here.run(settings(notebook("a")), {"a.py": code})
    assert "Databricks takes 49152 (48 KiB)" in done.task("a").error


def test_dbutils_moves_files_between_addresses_of_a_workspace(here: Here) -> None:
    code = """\
        # Databricks notebook source
        import os
        fs = dbutils.fs
        fs.mkdirs("dbfs:/a/b")
        fs.put("/Volumes/c/s/v/one.txt", "first", True)
        fs.cp("/Volumes/c/s/v/one.txt", "dbfs:/a/two.txt")
        fs.mv("dbfs:/a/two.txt", "dbfs:/a/b/")
        assert [each.path for each in fs.ls("dbfs:/a")] == ["dbfs:/a/b/"]
        assert [each.name for each in fs.ls("/Volumes/c/s/v")] == ["one.txt"]
        assert fs.head("dbfs:/a/b/two.txt", 3) == "fir"
        assert fs.rm("dbfs:/a", True) is True
        assert fs.rm("dbfs:/a") is False
        print(os.getcwd())
        """
    done = here.run(settings(notebook("a")), {"a.py": code})
    assert done.good, done.task("a").error
    assert (here.folder / "root" / "Volumes" / "c" / "s" / "v" / "one.txt").read_text(encoding="utf-8") == "first"
    assert not (here.folder / "root" / "dbfs" / "a").exists()


def test_a_notebook_runs_another_one_and_gets_what_it_exits_with(here: Here) -> None:
    files = {
        "a.py": f"{HEADER}print(dbutils.notebook.run('./b', 60, {{'x': 'given'}}))\ndbutils.notebook.run('b', 0)\n",
        "b.py": f"{HEADER}dbutils.notebook.exit('got ' + dbutils.widgets.get('x'))\n",
    }
    done = here.run(settings(notebook("a")), files)
    assert here.log("a").startswith("got given\n")
    assert "b.py, cell 1, line 2: ValueError: no widget is called x; there are none" in done.task("a").error


def test_what_a_notebook_defines_is_pickled_by_value_as_in_a_notebook(here: Here) -> None:
    code = (
        f"{HEADER}def f(): pass\nimport sys\nassert f.__module__ == '__main__'\nassert sys.modules['__main__'].f is f\n"
    )
    done = here.run(settings(notebook("a")), {"a.py": code})
    assert done.good, done.task("a").error


def test_a_stand_in_says_what_it_is_where_it_has_nothing() -> None:
    bare: Any = Utilities.__new__(Utilities)
    with pytest.raises(AttributeError, match=r"dbutils\.data is not there on this machine; this dbutils is a stand-in"):
        _ = bare.data


def test_a_file_that_is_not_there_is_told_before_anything_starts(here: Here) -> None:
    with pytest.raises(JobDefinitionError, match=r"task b: there is no file b\.py"):
        here.run(settings(task("a"), task("b")), {"a.py": "open('started', 'w')\n"})
    assert not (here.folder / "scratch").exists()


def test_libraries_are_for_all_tasks_of_a_cluster_and_for_no_other(here: Here) -> None:
    make_wheel(here.folder, "alpha", "1.0", {"alpha.py": "NAME = 'alpha'\n"})
    (wheel,) = here.folder.glob("*.whl")
    clusters = [*CLUSTERS, {"job_cluster_key": "other", "new_cluster": {"num_workers": 1}}]
    listed = [{"whl": wheel.name}, {"whl": "depload-9.9-py3-none-any.whl"}]
    tasks = [task("a", libraries=listed), task("b"), task("c", job_cluster_key="other")]
    code = "import depload, alpha\nprint(alpha.NAME)\n"
    done = here.run(settings(*tasks, job_clusters=clusters), dict.fromkeys(["a.py", "b.py", "c.py"], code))
    assert results(done) == {"a": "success", "b": "success", "c": "failed"}
    assert done.task("c").error == "ModuleNotFoundError: No module named 'alpha'"


def test_libraries_that_cannot_be_had_fail_the_task_with_what_the_installer_said(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    listed = [{"pypi": {"package": "depload-no-such-package==1"}}, {"whl": "nowhere/alpha-1.0-py3-none-any.whl"}]
    for library in listed:
        done = here.run(settings(task("a", libraries=[library])), {"a.py": ""})
        assert done.result is Result.FAILED
        assert any(said in done.task("a").error for said in ("cannot be installed", "FileNotFoundError"))


# --- several runs, and what is told of them -------------------------------------------------------------------------


def test_concurrent_runs_have_their_own_ids_values_and_logs(here: Here) -> None:
    code = f"{HEADER}dbutils.jobs.taskValues.set('x', dbutils.widgets.get('p'))\n"
    last = f"{HEADER}dbutils.notebook.exit(dbutils.jobs.taskValues.get('a', 'x'))\n"
    write_files(here.folder, {"a.py": code, "b.py": last})
    job = Job.of(settings(notebook("a"), notebook("b", "a"), parameters=[{"name": "p"}], max_concurrent_runs=2))
    given = spread(["p=one", "p=two", "q=same"], 5)
    assert [each["p"] for each in given] == ["one", "two", "one", "two", "one"]
    with Bare(here.folder) as compute:
        done = run_several(job, given, files=here, compute=compute, results=here.folder / "kept", root=here.folder)
    assert [each.task("b").output for each in done] == ["one", "two", "one", "two", "one"]
    assert len({each.run_id for each in done}) == 5
    assert sorted(each.name for each in (here.folder / "kept").iterdir()) == [str(each.run_id) for each in done]


def test_junit_has_a_suite_for_each_run_and_a_case_for_each_task(here: Here) -> None:
    each = {"inputs": "[1, 2]", "task": task("one")}
    given = settings(task("a"), task("b", "a"), task("all", for_each_task=each))
    done = here.run(given, {"a.py": "print('before')\nraise ValueError('told to')\n", "b.py": "", "one.py": ""})
    root = ET.fromstring(rendering.junit([done]))
    counts = {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "0", "skipped": "1"}
    (suite,) = root
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert list(cases) == ["a", "b", "one[0]", "one[1]"]
    failure = cases["a"].find("failure")
    assert failure is not None
    assert failure.get("message") == "ValueError: told to"
    assert "before" in (cases["a"].findtext("system-out") or "")
    assert cases["b"].find("skipped") is not None


def test_the_tree_tells_of_every_task_and_of_what_went_wrong(here: Here) -> None:
    each = {"inputs": "[1, 2]", "task": task("one")}
    given = settings(task("a"), task("b", "a"), task("all", for_each_task=each))
    done = here.run(given, {"a.py": "raise ValueError('told to')\n", "b.py": "", "one.py": ""})
    text = rendering.tree(done, time.time())
    assert [line.split(" in ")[0] for line in text.splitlines()] == [
        "example, run 9: failed",
        "  a: failed",
        "    ValueError: told to",
        "  b: upstream failed",
        "  all: success",
        "    one[0]: success",
        "    one[1]: success",
    ]
    assert "0 of 1 run succeeded\nrun 9: failed\n  a: ValueError: told to (" in rendering.summary([done])
