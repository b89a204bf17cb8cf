"""Jobs on the workspace on loopback, with the SDK as client: what the API says of them, and the whole story of one."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from databricks.sdk.errors import InvalidParameterValue, ResourceDoesNotExist
from databricks.sdk.service.jobs import RunLifeCycleState, RunLifecycleStateV2State, RunResultState
from databricks.sdk.service.workspace import ImportFormat

from depload.running import bundle
from workspace import (
    LostAnswer,
    ResetWhileReading,
    ResetWhileSending,
    Server,
    Slow,
    TooManyRequests,
    Unavailable,
    WrongByte,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.jobs import Run, RunOutput, RunTask

pytest_plugins = ["workspace.fixture"]

ROOT = Path(__file__).parent.parent
PATIENCE = 240
AS_LONG_AS_THE_PROCESS = ("depload-sent-", "depload-fetched-")  # a session's own, which a job has no time to remove
BASE = "/Volumes/main/default/depload/runs"
UPLOADED = "/Volumes/main/default/uploads/my deps.zip"


@pytest.fixture
def client(workspace: Server) -> WorkspaceClient:
    return workspace.client()


def condition(key: str, *, left: str = "1", right: str = "1", **more: Any) -> dict[str, Any]:
    """A task that needs nothing to run on."""
    return {"task_key": key, "condition_task": {"op": "EQUAL_TO", "left": left, "right": right}, **more}


def after(*keys: str) -> dict[str, Any]:
    return {"depends_on": [{"task_key": key} for key in keys]}


def create(client: WorkspaceClient, *tasks: dict[str, Any], **settings: Any) -> int:
    """A job of settings as they are sent."""
    said: Any = client.api_client.do(
        "POST", "/api/2.2/jobs/create", body={"name": "job", "tasks": list(tasks), **settings}
    )
    return int(said["job_id"])


def start(client: WorkspaceClient, job: int, **how: Any) -> int:
    started: Any = client.jobs.run_now(job, **how)
    return int(started.response.run_id)


def ended(client: WorkspaceClient, run_id: int) -> Run:
    """The run when it has ended; the SDK's own way to wait looks once a second at best."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        run = client.jobs.get_run(run_id)
        assert run.state is not None
        if run.state.life_cycle_state in {RunLifeCycleState.TERMINATED, RunLifeCycleState.SKIPPED}:
            return run
        assert run.state.life_cycle_state is not RunLifeCycleState.INTERNAL_ERROR, run.state.state_message
        time.sleep(0.05)
    pytest.fail(f"the run has not ended after {PATIENCE} seconds: {run.as_dict()}")


def result(run: Run | RunTask) -> RunResultState | None:
    assert run.state is not None
    return run.state.result_state


def task(run: Run, key: str) -> RunTask:
    return next(each for each in run.tasks or [] if each.task_key == key)


# --- what jobs are --------------------------------------------------------------------------------------------------


def test_a_job_is_there_until_it_is_deleted(client: WorkspaceClient) -> None:
    job = create(client, condition("one"), parameters=[{"name": "source", "default": "x"}])
    settings = client.jobs.get(job).settings
    assert settings is not None
    assert (settings.name, [each.task_key for each in settings.tasks or []]) == ("job", ["one"])
    client.jobs.delete(job)
    with pytest.raises(ResourceDoesNotExist, match=f"Job {job} does not exist"):
        client.jobs.get(job)


def test_jobs_are_listed_by_name_and_in_pages(client: WorkspaceClient) -> None:
    created = [create(client, condition("one"), name=f"job {number % 2}") for number in range(5)]
    assert [job.job_id for job in client.jobs.list(limit=2, expand_tasks=True)] == created[::-1]
    assert {job.job_id for job in client.jobs.list(name="JOB 1")} == {created[1], created[3]}


def test_an_update_changes_what_it_names_and_a_reset_everything(client: WorkspaceClient) -> None:
    job = create(client, condition("one"), condition("two"), tags={"a": "b"})
    change = {"tasks": [condition("two", right="2"), condition("three")], "name": "new"}
    client.api_client.do("POST", "/api/2.2/jobs/update", body={"job_id": job, "new_settings": change})
    settings = client.jobs.get(job).settings
    assert settings is not None
    assert [each.task_key for each in settings.tasks or []] == ["one", "two", "three"]
    assert (settings.name, settings.tags) == ("new", {"a": "b"})
    client.api_client.do(
        "POST", "/api/2.2/jobs/reset", body={"job_id": job, "new_settings": {"tasks": [condition("x")]}}
    )
    settings = client.jobs.get(job).settings
    assert settings is not None
    assert ([each.task_key for each in settings.tasks or []], settings.tags) == (["x"], None)


def test_a_job_that_could_not_be_run_is_refused_with_every_reason(client: WorkspaceClient) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        create(client, condition("one", **after("none")), {"task_key": "two", "sql_task": {}})
    assert "'none'" in str(refused.value)
    assert "sql_task" in str(refused.value)


def test_permissions_are_kept(client: WorkspaceClient) -> None:
    from databricks.sdk.service.jobs import JobAccessControlRequest, JobPermissionLevel

    job = str(create(client, condition("one")))
    client.jobs.set_permissions(
        job,
        access_control_list=[JobAccessControlRequest(group_name="users", permission_level=JobPermissionLevel.CAN_VIEW)],
    )
    found = client.jobs.get_permissions(job).access_control_list or []
    assert [each.group_name or each.user_name for each in found] == ["someone@example.com", "users"]


# --- what runs are --------------------------------------------------------------------------------------------------


def test_a_run_goes_through_its_tasks(client: WorkspaceClient) -> None:
    job = create(
        client, condition("one"), condition("two", left="a", **after("one")), parameters=[{"name": "p", "default": "x"}]
    )
    run = ended(client, start(client, job, job_parameters={"p": "y"}))
    assert result(run) is RunResultState.SUCCESS
    assert run.status is not None
    assert run.status.state is RunLifecycleStateV2State.TERMINATED
    assert [(each.task_key, result(each)) for each in run.tasks or []] == [
        ("one", RunResultState.SUCCESS),
        ("two", RunResultState.SUCCESS),
    ]
    assert [(each.name, each.default, each.value) for each in run.job_parameters or []] == [("p", "x", "y")]
    assert len({run.run_id, *(each.run_id for each in run.tasks or [])}) == 3


def test_a_token_starts_one_run_however_often_it_is_asked_with(workspace: Server, client: WorkspaceClient) -> None:
    job = create(client, condition("one"))
    workspace.faults.add(LostAnswer(), path="run-now")
    run = start(client, job, idempotency_token="once")
    assert start(client, job, idempotency_token="once") == run
    ended(client, run)
    assert [each.run_id for each in client.jobs.list_runs(job_id=job)] == [run]


def test_without_a_token_a_lost_answer_starts_two_runs(workspace: Server, client: WorkspaceClient) -> None:
    job = create(client, condition("one"), max_concurrent_runs=5)
    workspace.faults.add(LostAnswer(), path="run-now")
    start(client, job)
    assert len(list(client.jobs.list_runs(job_id=job))) == 2


def test_a_run_that_is_not_there_is_named(client: WorkspaceClient) -> None:
    with pytest.raises(ResourceDoesNotExist, match="Run 7 does not exist"):
        client.jobs.get_run(7)


def test_the_output_of_several_tasks_is_asked_for_one_by_one(client: WorkspaceClient) -> None:
    run = ended(client, start(client, create(client, condition("one"), condition("two"))))
    assert run.run_id is not None
    with pytest.raises(InvalidParameterValue, match="multiple tasks"):
        client.jobs.get_run_output(run.run_id)
    run_id = task(run, "one").run_id
    assert run_id is not None
    about = client.jobs.get_run_output(run_id).metadata
    assert about is not None
    assert about.run_id == run_id


def test_a_run_that_is_submitted_is_a_job_of_nobody(client: WorkspaceClient) -> None:
    said: Any = client.api_client.do(
        "POST", "/api/2.2/jobs/runs/submit", body={"run_name": "once", "tasks": [condition("one")]}
    )
    assert ended(client, said["run_id"]).run_name == "once"
    assert list(client.jobs.list()) == []


# --- with processes, but hardly with Spark --------------------------------------------------------------------------


def script(server: Server, key: str, code: str, **more: Any) -> dict[str, Any]:
    """A task that runs a Python file of the workspace."""
    path = f"/Workspace/Shared/{key}.py"
    server.client().workspace.upload(path, dedent(code).encode(), format=ImportFormat.AUTO, overwrite=True)
    return {"task_key": key, "spark_python_task": {"python_file": path}, "environment_key": "default", **more}


ENVIRONMENT = {"environments": [{"environment_key": "default", "spec": {"environment_version": "3"}}]}


def output(client: WorkspaceClient, run: Run, key: str) -> RunOutput:
    run_id = task(run, key).run_id
    assert run_id is not None
    return client.jobs.get_run_output(run_id)


@pytest.mark.spark
@pytest.mark.network
class TestScripts:
    def test_a_task_knows_the_workspace_that_it_runs_in(self, serverless: Server) -> None:
        client = serverless.client()
        code = f"""\
            import io
            from databricks.sdk import WorkspaceClient

            WorkspaceClient().files.upload("{BASE}/made", io.BytesIO(b"by the task"))
            print("it is done")
            """
        run = ended(client, start(client, create(client, script(serverless, "one", code), **ENVIRONMENT)))
        assert result(run) is RunResultState.SUCCESS
        assert "it is done" in (output(client, run, "one").logs or "")
        contents = client.files.download(f"{BASE}/made").contents
        assert contents is not None
        assert contents.read() == b"by the task"

    def test_what_a_task_raises_is_its_output(self, serverless: Server) -> None:
        client = serverless.client()
        job = create(
            client,
            script(serverless, "one", "def fail():\n    raise ValueError('no such thing')\nfail()"),
            condition("two", **after("one")),
            **ENVIRONMENT,
        )
        run = ended(client, start(client, job))
        assert (result(run), result(task(run, "two"))) == (RunResultState.FAILED, RunResultState.UPSTREAM_FAILED)
        assert run.state is not None
        assert run.state.state_message == "Task one failed with message: ValueError: no such thing"
        said = output(client, run, "one")
        assert said.error == "ValueError: no such thing"
        assert "in fail" in (said.error_trace or "")

    def test_a_run_that_is_cancelled_ends(self, serverless: Server) -> None:
        client = serverless.client()
        code = "import pathlib, time\npathlib.Path(__import__('os').environ['TMPDIR'], 'up').touch()\ntime.sleep(600)"
        run_id = start(client, create(client, script(serverless, "one", code), **ENVIRONMENT))
        wait_for(lambda: list(serverless.folder.glob("runs/*/scratch/tmp/up")))
        client.jobs.cancel_run(run_id)
        assert result(ended(client, run_id)) is RunResultState.CANCELED

    def test_a_repair_runs_what_failed_and_keeps_the_rest(self, serverless: Server) -> None:
        client = serverless.client()
        ask = f"from databricks.sdk import WorkspaceClient as W\nprint(W().files.get_metadata('{BASE}/late'))"
        first = script(serverless, "one", "print('once')")
        job = create(client, first, script(serverless, "two", ask, **after("one")), **ENVIRONMENT)
        run = ended(client, start(client, job))
        assert (result(run), result(task(run, "one"))) == (RunResultState.FAILED, RunResultState.SUCCESS)
        client.files.upload(f"{BASE}/late", io.BytesIO(b""))
        assert run.run_id is not None
        client.jobs.repair_run(run.run_id, rerun_all_failed_tasks=True)
        repaired = ended(client, run.run_id)
        assert result(repaired) is RunResultState.SUCCESS
        assert task(repaired, "one").start_time == task(run, "one").start_time
        assert task(repaired, "two").start_time != task(run, "two").start_time

    @pytest.mark.parametrize("queued", [True, False])
    def test_a_run_too_many_waits_where_there_is_a_queue_and_is_skipped_where_there_is_none(
        self, serverless: Server, *, queued: bool
    ) -> None:
        client = serverless.client()
        code = f"""\
            import time
            from databricks.sdk import WorkspaceClient

            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not list(WorkspaceClient().files.list_directory_contents("{BASE}")):
                time.sleep(0.1)
            """
        client.files.create_directory(BASE)
        job = create(client, script(serverless, "one", code), queue={"enabled": queued}, **ENVIRONMENT)
        first, second = start(client, job), start(client, job)
        state = client.jobs.get_run(second).state
        assert state is not None
        if queued:
            assert state.life_cycle_state is RunLifeCycleState.QUEUED
        else:
            assert result(ended(client, second)) is RunResultState.MAXIMUM_CONCURRENT_RUNS_REACHED
        client.files.upload(f"{BASE}/go", io.BytesIO(b""))
        assert result(ended(client, first)) is RunResultState.SUCCESS
        if queued:
            assert result(ended(client, second)) is RunResultState.SUCCESS


def wait_for(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- the whole story ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deployed() -> dict[str, Any]:
    """A job of the bundle as it is deployed: process, load and validate, clean up, on serverless compute."""
    job = dict(bundle.render(ROOT, "test").jobs["test_pure_python_serverless"])
    del job["permissions"]  # the CLI sets them by an API of their own
    job["tasks"] = [{**each, "min_retry_interval_millis": 0} for each in job["tasks"]]
    return job


def told(client: WorkspaceClient, deployed: dict[str, Any], examples: Path) -> Run:
    """Upload the zip, create the job, run it, see its end."""
    with (examples / "pure_python.zip").open("rb") as opened:
        client.files.upload(UPLOADED, opened, overwrite=True)
    said: Any = client.api_client.do("POST", "/api/2.2/jobs/create", body=deployed)
    given = {"source": UPLOADED, "volume_base_path": BASE}
    return ended(client, start(client, said["job_id"], job_parameters=given, idempotency_token="told once"))


def assert_nothing_is_left(server: Server) -> None:
    """Of the job, its transfers and its processes; the source and the logs stay."""
    found = [place.relative_to(server.folder) for place in server.folder.glob("volumes/**/*") if place.is_file()]
    assert found == [Path("volumes/main/default/uploads/my deps.zip")]
    assert (server.uploads.open, server.dbfs.open) == ({}, {})
    assert list((server.folder / "scratch").iterdir()) == []
    temporary = [place.name for place in server.folder.glob("runs/*/scratch/tmp/*")]
    assert [name for name in temporary if not name.startswith(AS_LONG_AS_THE_PROCESS)] == []
    assert list(server.client().files.list_directory_contents(BASE)) == []


@pytest.mark.spark
@pytest.mark.network
class TestStory:
    def test_a_job_brings_its_dependencies_and_leaves_nothing(
        self, serverless: Server, deployed: dict[str, Any], examples: Path
    ) -> None:
        client = serverless.client()
        run = told(client, deployed, examples)
        assert [(each.task_key, result(each)) for each in run.tasks or []] == [
            ("process_dependencies", RunResultState.SUCCESS),
            ("load_and_validate", RunResultState.SUCCESS),
            ("cleanup", RunResultState.SUCCESS),
        ]
        assert result(run) is RunResultState.SUCCESS
        report = output(client, run, "load_and_validate").logs or ""
        assert re.search(r"user_modules\.calculator", report)
        assert_nothing_is_left(serverless)

    def test_a_job_survives_what_goes_wrong_on_the_way(
        self, serverless: Server, deployed: dict[str, Any], examples: Path
    ) -> None:
        client = serverless.client()
        add = serverless.faults.add
        add(TooManyRequests(), method="PUT", path=UPLOADED)
        add(ResetWhileReading(after_bytes=100), method="PUT", path=UPLOADED)
        add(LostAnswer(), path="jobs/run-now")
        add(Unavailable(), path="jobs/runs/get", times=2)
        add(TooManyRequests(retry_after=1), path="create-download-url.*my deps")
        add(ResetWhileSending(after_bytes=100), method="GET", path=f"download{UPLOADED}")
        add(Unavailable(), method="PUT", path=f"files{BASE}/.*wheelhouse.zip")
        add(ResetWhileReading(after_bytes=1000), method="PUT", path=f"files{BASE}/.*wheelhouse.zip")
        add(LostAnswer(), method="PUT", path=f"files{BASE}/.*json")
        add(WrongByte(at=3000), method="GET", path=f"download{BASE}/.*wheelhouse.zip")
        add(Slow(start=0.5, pause=0.05, size=1000), method="GET", path=f"download{BASE}/.*wheelhouse.zip")
        add(TooManyRequests(), method="DELETE", path=f"{BASE}/")
        run = told(client, deployed, examples)
        assert [result(each) for each in run.tasks or []] == [RunResultState.SUCCESS] * 3, said_by(client, run)
        assert_nothing_is_left(serverless)

    def test_a_wrong_byte_is_found(self, serverless: Server, deployed: dict[str, Any], examples: Path) -> None:
        client = serverless.client()
        serverless.faults.add(WrongByte(at=5000), method="GET", path=f"download{BASE}/.*wheelhouse.zip", times=99)
        run = told(client, deployed, examples)
        serverless.faults.clear()
        assert result(run) is RunResultState.FAILED
        assert "TransferError" in (output(client, run, "process_dependencies").error or "")
        assert_nothing_is_left(serverless)


def said_by(client: WorkspaceClient, run: Run) -> str:
    return "\n".join(str(output(client, run, each.task_key).logs) for each in run.tasks or [])
