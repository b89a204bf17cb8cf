"""Job tasks: parameters in, task values out, and what is left when a run fails, is repaired, or is cleaned up."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

import depload
from conftest import ROOT, make_wheel, write_files, write_zip
from depload.databricks import entry, jobruns, parameters, probe, tasks, values
from depload.errors import (
    DeploadError,
    DeploadWarning,
    Fault,
    JobFailedError,
    LoadError,
    OldRuntimeError,
    ParameterError,
    SourceError,
    StoreError,
    TaskValueError,
    UnresolvedParameterError,
    ValidationError,
    WheelhouseGoneError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.databricks.jobruns import Published

RUN = "550315892394120"
GROUP = "depload.tasks"


class FakeTaskValues:
    """As ``dbutils.jobs.taskValues`` behaves in a job, for the task that ``current`` names."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], Any] = {}
        self.current = "process_dependencies"
        self.refuses = ""

    def set(self, key: str, value: Any) -> None:
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.values[self.current, key] = value

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:  # noqa: N803
        del debugValue
        if (taskKey, key) not in self.values and default is None:
            raise ValueError(f"No task value with key {key} in task {taskKey}")
        return self.values.get((taskKey, key), default)


class FakeWidgets:
    def __init__(self, **given: str) -> None:
        self._given = given

    def text(self, name: str, default: str, label: str = "") -> None:
        del label
        self._given.setdefault(name, default)

    def dropdown(self, name: str, default: str, choices: list[str]) -> None:
        assert default in choices
        self._given.setdefault(name, default)

    def get(self, name: str) -> str:
        return self._given[name]


def fake_dbutils(**widgets: str) -> Any:
    return SimpleNamespace(jobs=SimpleNamespace(taskValues=FakeTaskValues()), widgets=FakeWidgets(**widgets))


@pytest.fixture
def dbutils() -> Any:
    return fake_dbutils()


@pytest.fixture(autouse=True)
def _part_of_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (values.DIRECTORY, values.TASK, values.RUNTIME):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "my-deps.zip", {"greeting.py": "def hello():\n    return 'hello'\n"})


@pytest.fixture
def processed(source: Path, base: Path, dbutils: Any) -> Callable[..., Published]:
    def process(**given: Any) -> Published:
        arguments = {"source": str(source), "volume_base_path": str(base), "run_id": RUN, "dbutils": dbutils}
        return tasks.process_dependencies(**{**arguments, **given})

    return process


def run_task(name: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As Databricks runs a python_wheel_task: the entry point of that name, of whatever group, called with nothing."""
    code = f"""
import sys
from importlib import metadata

found = [each for each in metadata.distribution("depload").entry_points if each.name == {name!r}]
found[0].load()()
print("and the process goes on")
"""
    clean = {key: text for key, text in os.environ.items() if key != values.RUNTIME}
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


# --- process_dependencies -------------------------------------------------------------------------------------------


def test_the_task_values_are_path_digest_and_format(processed: Callable[..., Published], dbutils: Any) -> None:
    published = processed()
    assert dbutils.jobs.taskValues.values == {
        ("process_dependencies", "wheelhouse_path"): published.path,
        ("process_dependencies", "wheelhouse_digest"): depload.verify(published.path).digest,
        ("process_dependencies", "wheelhouse_format"): "pure_python",
    }


def test_a_second_attempt_of_the_same_run_hands_on_what_the_first_published(
    processed: Callable[..., Published], dbutils: Any
) -> None:
    first = processed()
    before = (Path(first.path) / "manifest.json").stat().st_mtime_ns
    dbutils.jobs.taskValues.values.clear()
    second = processed()
    assert (second.path, second.reused, first.reused) == (first.path, True, False)
    assert (Path(first.path) / "manifest.json").stat().st_mtime_ns == before
    assert dbutils.jobs.taskValues.values["process_dependencies", "wheelhouse_path"] == first.path


def test_an_attempt_with_the_inputs_before_last_converts_anew_so_that_the_newest_is_the_right_one(
    processed: Callable[..., Published], base: Path
) -> None:
    first, second = processed(name="one"), processed(name="two")
    os.utime(Path(first.path) / "manifest.json", (1, 1))
    os.utime(Path(second.path) / "manifest.json", (2, 2))
    third = processed(name="one")
    assert not third.reused
    assert tasks._path_of_run(str(base), RUN, "process_dependencies") == third.path


def test_another_run_another_task_and_another_source_publish_for_themselves(
    processed: Callable[..., Published], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = write_zip(tmp_path / "other" / "my-deps.zip", {"greeting.py": "def hello():\n    return 'hi'\n"})
    made = [processed(), processed(run_id="2"), processed(task="other"), processed(source=str(other))]
    assert len({each.path for each in made}) == 4
    assert not any(each.reused for each in made)


def test_tasks_of_one_run_publish_at_once_and_one_cleanup_takes_it_all(
    processed: Callable[..., Published], base: Path
) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda at: processed(task=f"task_{at % 5}", run_id="7"), range(6)))
    assert len({each.digest for each in made}) == 1
    assert len({Path(each.path).parent for each in made}) == 5
    assert len(tasks.cleanup(volume_base_path=str(base), run_id="7").removed) == len({each.path for each in made})
    assert list(base.iterdir()) == []


def test_the_run_id_leads_to_what_a_task_published_last(
    processed: Callable[..., Published], tmp_path: Path, base: Path
) -> None:
    first = processed()
    os.utime(Path(first.path) / "manifest.json", (1, 1))
    other = write_zip(tmp_path / "other.zip", {"greeting.py": "def hello():\n    return 'hi'\n"})
    second = processed(source=str(other))
    processed(task="other")
    assert first.path != second.path
    assert tasks._path_of_run(str(base), RUN, "process_dependencies") == second.path


def test_an_attempt_that_was_cut_short_or_altered_is_not_handed_on(processed: Callable[..., Published]) -> None:
    first = processed()
    (Path(first.path) / "manifest.json").unlink()
    second = processed()
    with next(Path(second.path).glob("*.zip")).open("ab") as opened:
        opened.write(b"more")
    third = processed()
    assert len({first.path, second.path, third.path}) == 3
    assert not third.reused


def test_credentials_of_an_index_decide_nothing_and_the_index_does(source: Path) -> None:
    def inputs(url: str) -> str:
        options = depload.IndexOptions(index_url=url)
        target = depload.Target.running()
        return jobruns.inputs(str(source), target=target, name=None, options=options, constraints=())

    assert inputs("https://me:secret@index/simple") == inputs("https://index/simple")
    assert inputs("https://me:secret@index/simple") != inputs("https://other/simple")


def test_after_a_cleanup_a_repaired_run_converts_anew(processed: Callable[..., Published], base: Path) -> None:
    first = processed()
    tasks.cleanup(volume_base_path=str(base), run_id=RUN)
    second = processed()
    assert not second.reused
    assert second.path != first.path
    assert second.digest == first.digest


def test_a_conversion_that_fails_is_its_own_error_and_leaves_nothing(
    processed: Callable[..., Published], tmp_path: Path, base: Path, dbutils: Any
) -> None:
    with pytest.raises(SourceError):
        processed(source=str(tmp_path / "missing.zip"))
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(b"no zip")
    with pytest.raises(DeploadError):
        processed(source=str(damaged))
    assert dbutils.jobs.taskValues.values == {}
    assert not base.exists() or list(base.iterdir()) == []


def test_a_reference_that_was_not_filled_in_is_refused_by_name(processed: Callable[..., Published], base: Path) -> None:
    with pytest.raises(UnresolvedParameterError, match=r"source.*\{\{job.parameters.sauce\}\}") as caught:
        processed(source="{{job.parameters.sauce}}", run_id="{{job.run_idd}}")
    assert [fault.where for fault in caught.value.faults] == ["source", "run_id"]
    assert not base.exists()


@pytest.mark.parametrize(("runtime", "base"), [("12.2", "/Volumes/a/b/c"), ("10.4", "dbfs:/Volumes/a/b/c/deps")])
def test_a_volume_on_an_old_runtime_is_refused(
    runtime: str, base: str, processed: Callable[..., Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(values.RUNTIME, runtime)
    with pytest.raises(OldRuntimeError, match=rf"{runtime}.*13\.3"):
        processed(volume_base_path=base)


@pytest.mark.parametrize("runtime", ["12.2", "13.3", "client.3.1"])
def test_anywhere_else_than_on_a_volume_and_on_any_newer_runtime_it_is_not(
    runtime: str, base: Path, processed: Callable[..., Published], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(values.RUNTIME, runtime)
    assert Path(processed().path).is_relative_to(base)
    if runtime != "12.2":
        with pytest.raises(StoreError, match="is not mounted here"):  # it got as far as the volume
            processed(volume_base_path="/Volumes/a/b/c")


@pytest.mark.parametrize("run_id", ["../../up", "a/b", "", "x" * 101])
def test_a_run_id_that_could_lead_elsewhere_is_refused(run_id: str) -> None:
    with pytest.raises(ParameterError, match="run_id"):
        jobruns.check(run_id, "process_dependencies")


def test_where_a_task_value_is_refused_nothing_stays_that_nobody_would_find(
    processed: Callable[..., Published], base: Path, dbutils: Any
) -> None:
    dbutils.jobs.taskValues.refuses = "quota"
    with pytest.raises(TaskValueError, match="quota"):
        processed(run_id=None)
    assert list(base.iterdir()) == []
    with pytest.raises(TaskValueError, match="quota"):
        processed()
    dbutils.jobs.taskValues.refuses = ""
    assert processed().reused  # the retry of the same run


# --- task values ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["files", "fake dbutils"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> values.TaskValues:
    if request.param == "files":
        return values.FileTaskValues(tmp_path / "values", "process_dependencies")
    return FakeTaskValues()


def test_a_task_value_comes_back_as_it_was_set(known: values.TaskValues) -> None:
    values.hand_on(known, {"wheelhouse_path": "/Volumes/ü/1", "count": 3})
    values.hand_on(known, {"count": 4})
    assert values.read(known, "process_dependencies", "wheelhouse_path") == "/Volumes/ü/1"
    assert values.read(known, "process_dependencies", "count") == 4


def test_a_task_value_that_nobody_set_names_task_and_remedy(known: values.TaskValues) -> None:
    with pytest.raises(TaskValueError, match=r"wheelhouse_path of task other.*let this task depend on other"):
        values.read(known, "other", "wheelhouse_path")
    assert known.get(taskKey="other", key="wheelhouse_path", default="x") == "x"
    with pytest.raises(ValueError, match="wheelhouse_path"):
        known.get(taskKey="other", key="wheelhouse_path")


def test_48_kib_of_json_are_taken_and_one_byte_more_is_not(known: values.TaskValues) -> None:
    most = "x" * (values.LIMIT - 2)  # two quotes
    values.hand_on(known, {"most": most})
    assert values.read(known, "process_dependencies", "most") == most
    with pytest.raises(TaskValueError, match=r"has 49153 bytes of JSON.*49152"):
        values.hand_on(known, {"small": 1, "large": most + "x"})
    with pytest.raises(TaskValueError, match="task value small"):
        values.read(known, "process_dependencies", "small")  # none of them was set


def test_the_stand_in_refuses_what_databricks_would(tmp_path: Path) -> None:
    stand_in = values.FileTaskValues(tmp_path, "a/b")
    with pytest.raises(TaskValueError, match="49153"):
        stand_in.set("large", "x" * (values.LIMIT - 1))
    with pytest.raises(TaskValueError, match="is not JSON"):
        stand_in.set("path", tmp_path)
    stand_in.set("../key", 1)
    assert stand_in.get("a/b", "../key") == 1
    assert [file.parent.parent for file in tmp_path.rglob("*.json")] == [tmp_path]


def test_the_sdk_s_stand_in_is_not_taken_for_a_dbutils(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = type("RemoteDbUtils", (), {"__module__": "databricks.sdk.dbutils", "jobs": fake_dbutils().jobs})()
    with pytest.raises(TaskValueError, match=r"never leave this process.*DEPLOAD_TASK_VALUES"):
        values.task_values(remote, task="x")
    monkeypatch.setattr(sys.modules["__main__"], "dbutils", remote, raising=False)
    assert values.task_values(task="x") is None


def test_on_a_cluster_the_runtime_s_dbutils_is_found_and_off_one_the_sdk_is_not_even_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = ModuleType("databricks.sdk.runtime")
    runtime.__dict__.update(dbutils=fake_dbutils(), is_local_implementation=False)
    for name in ("databricks", "databricks.sdk"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "databricks.sdk.runtime", runtime)
    assert values.find_dbutils() is None
    monkeypatch.setenv(values.RUNTIME, "15.4")
    assert values.find_dbutils() is runtime.__dict__["dbutils"]
    runtime.__dict__["is_local_implementation"] = True
    assert values.find_dbutils() is None


def test_the_notebook_s_dbutils_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    dbutils = fake_dbutils()
    ipython = ModuleType("IPython")
    ipython.__dict__["get_ipython"] = lambda: SimpleNamespace(user_ns={"dbutils": dbutils})
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert values.task_values(task="x") is dbutils.jobs.taskValues


# --- load -----------------------------------------------------------------------------------------------------------


def test_from_task_loads_in_one_line(processed: Callable[..., Published], dbutils: Any) -> None:
    published = processed()
    with depload.from_task("process_dependencies", dbutils=dbutils) as loaded:
        greeting = importlib.import_module("user_modules.greeting")
        assert greeting.hello() == "hello"
        assert loaded.digest == published.digest


def test_from_task_outside_of_a_job_takes_the_path_for_debugging(processed: Callable[..., Published]) -> None:
    published = processed()
    with pytest.raises(TaskValueError, match="give debug_path"):
        depload.from_task("process_dependencies")
    with depload.from_task("process_dependencies", debug_path=published.path) as loaded:
        assert loaded.path == published.path


def test_a_wheelhouse_that_was_cleaned_up_says_so_and_what_to_rerun(
    processed: Callable[..., Published], base: Path, dbutils: Any
) -> None:
    path = processed().path
    tasks.cleanup(volume_base_path=str(base), run_id=RUN)
    gone = r"cleanup task has removed.*repair the run with process_dependencies and the tasks after it"
    with pytest.raises(WheelhouseGoneError, match=gone):
        depload.from_task("process_dependencies", dbutils=dbutils)
    with pytest.raises(WheelhouseGoneError, match=gone):
        tasks.load_and_validate(path, spark=object())
    with pytest.raises(WheelhouseGoneError, match=gone):
        tasks.load_and_validate(volume_base_path=str(base), run_id=RUN, spark=object())


def test_load_refuses_references_and_needs_something_to_find_the_wheelhouse_by(tmp_path: Path) -> None:
    reference = "{{tasks.process.values.wheelhouse_path}}"
    with pytest.raises(UnresolvedParameterError, match="wheelhouse_path"):
        tasks.load_and_validate(reference)
    with pytest.raises(ParameterError, match="volume_base_path and run_id"):
        tasks.load_and_validate(run_id=RUN, junit=str(tmp_path / "out" / "junit.xml"))
    suite = ET.parse(tmp_path / "out" / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("name"), suite.get("failures")) == ("task", "1")


def test_another_wheelhouse_than_the_one_that_was_handed_on_is_not_used(processed: Callable[..., Published]) -> None:
    with pytest.raises(LoadError, match="find out who wrote there"):
        tasks._loaded(processed().path, None, "process_dependencies", "0" * 64)
    assert not any("job-" in entry for entry in sys.path)


# --- cleanup --------------------------------------------------------------------------------------------------------


def test_cleanup_removes_all_that_the_run_published_and_nothing_of_another_run(
    processed: Callable[..., Published], base: Path
) -> None:
    mine = {processed().path, processed(task="second").path}
    (Path(processed(task="cut_short").path) / "manifest.json").unlink()
    other = processed(run_id=f"{RUN}1")
    cleared = tasks.cleanup(volume_base_path=str(base), run_id=RUN, upstream="a=success, b=excluded")
    assert mine < set(cleared.removed)
    assert len(cleared.removed) == 3
    assert cleared.size > 0
    assert list(base.iterdir()) == [Path(other.path).parent]
    tasks.cleanup(other.path)
    assert list(base.iterdir()) == []


def test_cleaning_up_twice_and_where_nothing_was_published_is_success(base: Path) -> None:
    assert tasks.cleanup(volume_base_path=str(base), run_id=RUN).removed == []


@pytest.mark.parametrize("state", ["failed", "upstream_failed", "timedout", "canceled", "FAILED", "something new"])
def test_a_failed_run_stays_failed_after_everything_was_removed(
    state: str, processed: Callable[..., Published], base: Path
) -> None:
    path = processed().path
    upstream = {"process_dependencies": "success", "load_and_validate": state}
    with pytest.raises(JobFailedError, match=f"task load_and_validate: {state}") as caught:
        tasks.cleanup(volume_base_path=str(base), run_id=RUN, upstream=upstream)
    assert caught.value.removed == (path,)
    assert "process_dependencies:" not in str(caught.value)
    assert list(base.iterdir()) == []


def test_where_process_failed_its_value_is_a_reference_and_the_error_is_that_it_failed(base: Path) -> None:
    reference = "{{tasks.process_dependencies.values.wheelhouse_path}}"
    with pytest.raises(JobFailedError, match="task process_dependencies: failed"):
        tasks.cleanup(
            reference,
            volume_base_path=str(base),
            run_id=RUN,
            upstream="process_dependencies=failed load=upstream_failed",
        )


def test_a_reference_is_refused_after_what_can_be_removed_was_removed(
    processed: Callable[..., Published], base: Path
) -> None:
    processed()
    with pytest.raises(UnresolvedParameterError, match="wheelhouse_path"):
        tasks.cleanup("{{tasks.oops.values.path}}", volume_base_path=str(base), run_id=RUN, upstream="a=success")
    assert list(base.iterdir()) == []
    with pytest.raises(JobFailedError, match="task a: its result is not known"):
        tasks.cleanup(volume_base_path=str(base), run_id=RUN, upstream="a={{tasks.a.result_state}}")


def test_what_depload_did_not_put_there_is_left_and_the_rest_goes(
    processed: Callable[..., Published], base: Path
) -> None:
    kept, gone = Path(processed().path), Path(processed(task="second").path)
    (kept / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(JobFailedError, match=r"cleanup: .*notes\.txt"):
        tasks.cleanup(volume_base_path=str(base), run_id=RUN)
    assert (kept / "notes.txt").exists()
    assert not gone.exists()


def test_cleanup_that_is_switched_off_removes_nothing_and_still_fails_a_failed_run(
    processed: Callable[..., Published], base: Path
) -> None:
    path = Path(processed().path)
    tasks.cleanup(volume_base_path=str(base), run_id=RUN, cleanup_enabled="false", upstream="a=success")
    with pytest.raises(JobFailedError, match="nothing was left"):
        tasks.cleanup(volume_base_path=str(base), run_id=RUN, cleanup_enabled="False", upstream="a=failed")
    assert path.exists()
    with pytest.raises(ParameterError, match="cleanup_enabled: is 'maybe'"):
        tasks.cleanup(str(path), cleanup_enabled="maybe")


# --- entry points ---------------------------------------------------------------------------------------------------


def test_words_become_parameters_and_an_empty_one_counts_as_not_given() -> None:
    words = ["--source=a=b.zip", "--run-id", "7", "--imports=", "--junit", " "]
    assert parameters.parse(words) == {"source": "a=b.zip", "run_id": "7"}
    with pytest.raises(ParameterError) as caught:
        parameters.parse(["source", "--imports=x", "--last"])
    assert [fault.where for fault in caught.value.faults] == ["source", "last"]


def test_several_values_in_one_parameter_are_a_json_list_or_separated() -> None:
    assert parameters.listed("imports", "pandas, sklearn\nscipy") == ["pandas", "sklearn", "scipy"]
    assert parameters.listed("imports", '["a b", "c"]') == ["a b", "c"]
    assert parameters.listed("imports", None) == []
    with pytest.raises(ParameterError, match="imports"):
        parameters.listed("imports", "[oops")
    with pytest.raises(ParameterError, match="write task=state"):
        parameters.pairs("upstream", "process_dependencies")


def test_a_pushed_down_job_parameter_is_passed_over_and_a_strange_one_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["task", "--wheelhouse_path=x", "--source=for another task"])
    assert entry._arguments(tasks.cleanup) == {"wheelhouse_path": "x"}
    monkeypatch.setattr(sys, "argv", ["task", "--wheelhouse_pth=x"])
    with pytest.warns(DeploadWarning, match="passed over: wheelhouse_pth"):
        entry._arguments(tasks.cleanup)
    monkeypatch.setattr(sys, "argv", ["task", "--run_id=1"])
    with pytest.raises(ParameterError, match=r"(?s)source: is needed.*volume_base_path: is needed"):
        entry._arguments(tasks.process_dependencies)


def test_the_installed_wheel_has_an_entry_point_for_every_task() -> None:
    found = {each.name for each in importlib.metadata.distribution("depload").entry_points if each.group == GROUP}
    assert found == {
        "process_dependencies",
        "load_and_validate",
        "cleanup",
        "prune_wheelhouses",
        "probe_runtime",
        "probe_table",
    }


def test_a_failing_task_is_an_exception_and_not_an_exit(tmp_path: Path) -> None:
    done = run_task("process_dependencies", "--source=/no/such.zip", f"--volume_base_path={tmp_path}", "--run_id=1")
    assert done.returncode == 1
    assert "SourceError: /no/such.zip: there is no such file" in done.stderr
    assert "SystemExit" not in done.stderr
    done = run_task("process_dependencies", "--source=a.zip", f"--volume_base_path={tmp_path}")
    assert "give run_id={{job.run_id}}, or set DEPLOAD_TASK_VALUES" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_task_ends_the_process_by_itself() -> None:
    for file in (ROOT / "src" / "depload" / "databricks").glob("*.py"):
        assert "sys.exit" not in file.read_text(encoding="utf-8")


def test_the_notebooks_of_a_job_run_with_what_a_job_gives_them(source: Path, base: Path) -> None:
    given = {"source": str(source), "volume_base_path": str(base), "run_id": RUN}

    def run(name: str, dbutils: Any) -> dict[str, Any]:
        file = ROOT / "notebooks" / f"{name}.py"
        namespace = {"dbutils": dbutils, "spark": None, "__name__": "notebook"}
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
        return namespace

    dbutils = fake_dbutils(**given)
    published = run("process_dependencies", dbutils)["published"]
    assert dbutils.jobs.taskValues.values["process_dependencies", "wheelhouse_path"] == published.path
    cleared = run("cleanup", fake_dbutils(**given, upstream="process_dependencies=success"))["cleared"]
    assert cleared.removed == [published.path]


def test_the_lab_s_notebook_runs_a_task_as_a_script_with_the_session_and_task_values_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = write_files(
        tmp_path / "lab",
        {
            "job.py": "session = hand_on = None\n",
            "tasks/first.py": """\
                import sys

                import job

                with job.session() as spark:
                    job.hand_on(spark, None, said=f"{__name__} {sys.argv[1]} {spark}")
                """,
        },
    )
    monkeypatch.setattr(sys, "argv", ["notebook"])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "job", raising=False)
    dbutils = fake_dbutils(task="first", wheelhouse_task="process_first", lab=str(lab))
    dbutils.jobs.taskValues.values["process_first", "wheelhouse_path"] = "/a/path"
    dbutils.jobs.taskValues.current = "first"
    file = ROOT / "notebooks" / "task_libraries.py"
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), {"dbutils": dbutils, "spark": "session"})
    sys.modules.pop("job")
    assert dbutils.jobs.taskValues.values["first", "said"] == "__main__ /a/path session"


@pytest.mark.parametrize(
    "error",
    [
        ParameterError([Fault("a", "b")]),
        UnresolvedParameterError([Fault("a", "{{b}}")]),
        TaskValueError("a", "b", "c"),
        OldRuntimeError("/Volumes/a", "12.2"),
        WheelhouseGoneError("/a", "process_dependencies"),
        ValidationError([Fault("host", "b")]),
        JobFailedError([Fault("task a", "failed")], ["/a"]),
    ],
)
def test_errors_survive_pickling(error: DeploadError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


# --- on Spark -------------------------------------------------------------------------------------------------------

SPARK = {
    "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false pyspark-shell",
    "PYSPARK_PYTHON": sys.executable,
    "SPARK_LOCAL_IP": "127.0.0.1",
}


@pytest.mark.spark
def test_a_job_runs_from_source_to_cleanup_as_tasks_with_task_values_in_files(examples: Path, tmp_path: Path) -> None:
    from depload.local.embedded import java_home

    base, told, junit = tmp_path / "base", tmp_path / "values", tmp_path / "junit.xml"
    here = {**SPARK, "JAVA_HOME": java_home(), values.DIRECTORY: str(told)}
    where = [f"--volume_base_path={base}", f"--run_id={RUN}"]

    first = run_task("process_dependencies", f"--source={examples / 'pure_python.zip'}", *where, **here)
    assert first.returncode == 0, first.stderr
    path = json.loads((told / "process_dependencies" / "wheelhouse_path.json").read_text(encoding="utf-8"))
    again = run_task("process_dependencies", f"--source={examples / 'pure_python.zip'}", *where, **here)
    assert "nothing was converted" in again.stdout

    second = run_task(
        "load_and_validate",
        f"--wheelhouse_path={path}",
        "--imports=user_modules.calculator",
        "--isolation=process",
        f"--junit={junit}",
        **here,
    )
    assert second.returncode == 0, second.stderr
    assert "validated: a UDF imported user_modules.calculator in" in second.stdout
    assert "user-modules" in second.stdout
    suites = {suite.get("name"): suite for suite in ET.parse(junit).getroot()}
    assert int(suites["validation"].get("tests", "0")) >= 1
    assert {suite.get("failures") for suite in suites.values()} == {"0"}

    last = run_task("cleanup", *where, "--upstream=process_dependencies=success load_and_validate=failed", **here)
    assert last.returncode == 1
    assert "JobFailedError" in last.stderr
    assert list(base.iterdir()) == []
    repaired = run_task("load_and_validate", f"--wheelhouse_path={path}", **here)
    assert "repair the run with process_dependencies" in repaired.stderr


@pytest.mark.spark
def test_a_function_that_does_not_see_the_wheelhouse_is_found_and_told(tmp_path: Path, base: Path) -> None:
    from conftest import run_on_spark

    wheelhouse = depload.convert(
        make_wheel(tmp_path, "alpha", "1.0", {"alpha.py": "X = 1\n"}), base, options=depload.IndexOptions(no_index=True)
    )
    answer = run_on_spark(
        f"""\
        from depload.databricks import validation

        with depload.load({wheelhouse.path!r}, spark) as loaded:
            answer["good"] = [str(fault) for fault in validation.validate(spark, loaded).faults]
            answer["missing"] = [str(fault) for fault in validation.validate(spark, loaded, ["no_such"]).faults]
            for worker in loaded.report.workers:
                vars(worker.imported["alpha"])["file"] = "/elsewhere/alpha.py"
            answer["other"] = [str(fault) for fault in validation.validate(spark, loaded).faults]
        """,
        master="local[2]",
    )
    assert answer["good"] == []
    assert "no_such cannot be imported: ModuleNotFoundError" in answer["missing"][0]
    assert "not from the wheelhouse" in answer["other"][0]


@pytest.mark.spark
def test_every_probe_answers_here_and_leaves_nothing(tmp_path: Path, base: Path) -> None:
    from conftest import run_on_spark

    folder = tmp_path / "answers"
    answer = run_on_spark(
        f"""\
        from types import SimpleNamespace
        from depload.databricks import probe

        def refuse(key, value):
            raise RuntimeError("not in this kind of task")

        dbutils = SimpleNamespace(jobs=SimpleNamespace(taskValues=SimpleNamespace(set=refuse)))
        probed = probe.probe_runtime(
            {str(base)!r}, mode="here", folder={str(folder)!r}, received="{{{{tasks.a.values.b}}}}",
            largest_mb=4, spark=spark, dbutils=dbutils,
        )
        answer["said"] = {{each.probe: (each.answer, each.why) for each in probed.answers}}
        answer["python"] = spark.conf.get(probe.PYTHON, None)
        answer["table"] = probe.probe_table({str(folder)!r}, modes="here serverless")
        """,
        master="local[2]",
    )
    said = answer["said"]
    assert set(said) == {each.__name__ for each in probe.PROBES}
    assert said.pop("task_values_can_be_set") == ["no", "not in this kind of task"]
    assert said.pop("task_values_arrive")[0] == "no"
    assert said.pop("load_by_uri")[0] == "no", "the base is not on DBFS"
    assert {name: why for name, (found, why) in said.items() if found == "no"} == {}
    assert said["a_session_may_choose_its_python"][0] == "yes"
    assert said["large_files_can_be_sent"][1].startswith("1 MB in ")
    assert answer["python"] is None
    assert "did not run" in answer["table"]
    assert list(base.iterdir()) == []
    assert [file.name for file in folder.iterdir()] == ["here.json"]
