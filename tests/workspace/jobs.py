"""The Jobs API 2.2 (docs.databricks.com/api/workspace/jobs): what the jobs are. ``jobruns`` runs them."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from workspace.disk import milliseconds
from workspace.identity import USER
from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workspace.messages import Request

Settings = dict[str, Any]

MOST = 100  # jobs on a page
SOME = 20
LONG = ("tasks", "job_clusters", "parameters", "environments")  # what a list of jobs leaves out
NAMED = {"tasks": "task_key", "job_clusters": "job_cluster_key", "environments": "environment_key"}


class Jobs:
    """Jobs by their ids. One that this machine could not run is refused when it is made, with every reason."""

    def __init__(self) -> None:
        self._numbers = itertools.count(101)
        self._jobs: dict[int, dict[str, Any]] = {}

    def routes(self) -> Iterable[Route]:
        answers: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("POST", "create"): self._create,
            ("GET", "get"): self._get,
            ("GET", "list"): self._list,
            ("POST", "reset"): self._reset,
            ("POST", "update"): self._update,
            ("POST", "delete"): self._delete,
        }
        for (method, verb), answer in answers.items():
            yield Route(method, rf"/api/2\.[0-2]/jobs/{verb}", answer)

    def settings(self, number: int) -> Settings:
        """The settings of a job. Raises ApiError."""
        return dict(self._job(number)["settings"])

    def number(self) -> int:
        """The id of a job that is in no list, for a run that is submitted."""
        return next(self._numbers)

    def _create(self, request: Request) -> Answer:
        settings = request.json()
        settings.pop("access_control_list", None)
        number = self.number()
        self._jobs[number] = {
            "job_id": number,
            "creator_user_name": USER,
            "run_as_user_name": USER,
            "created_time": milliseconds(time.time()),
            "settings": completed(settings),
        }
        return Answer.of({"job_id": number})

    def _get(self, request: Request) -> Answer:
        return Answer.of(self._job(request.query["job_id"]))

    def _list(self, request: Request) -> Answer:
        name = request.query.get("name", "").lower()
        found = [job for job in reversed(self._jobs.values()) if name in {"", job["settings"].get("name", "").lower()}]
        shown = found if request.flag("expand_tasks") else [_short(job) for job in found]
        return Answer.of(page("jobs", shown, request, SOME, MOST))

    def _reset(self, request: Request) -> Answer:
        said = request.json()
        self._job(said["job_id"])["settings"] = completed(said["new_settings"])
        return Answer.of({})

    def _update(self, request: Request) -> Answer:
        said = request.json()
        job = self._job(said["job_id"])
        removed = set(said.get("fields_to_remove") or ())
        kept = {key: value for key, value in job["settings"].items() if key not in removed}
        new = {key: _merged(key, kept.get(key), value) for key, value in (said.get("new_settings") or {}).items()}
        job["settings"] = completed({**kept, **new})
        return Answer.of({})

    def _delete(self, request: Request) -> Answer:
        del self._jobs[self._job(request.json()["job_id"])["job_id"]]
        return Answer.of({})

    def _job(self, number: object) -> dict[str, Any]:
        job = self._jobs.get(int(str(number)))
        if job is None:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Job {number} does not exist.")
        return job


def completed(settings: Settings) -> Settings:
    """Settings with what the API adds to them; those of a job that cannot be run here are refused."""
    from depload.errors import JobDefinitionError
    from depload.running.jobs import Job

    try:
        Job.of(settings)
    except JobDefinitionError as error:
        raise ApiError(400, "INVALID_PARAMETER_VALUE", str(error)) from error
    added = {"format": "MULTI_TASK", "max_concurrent_runs": 1, "timeout_seconds": 0}
    empty: Settings = {"email_notifications": {}, "webhook_notifications": {}}
    tasks = [{"run_if": "ALL_SUCCESS", "timeout_seconds": 0, **task} for task in settings.get("tasks") or []]
    return {**added, **empty, **settings, "tasks": tasks}


def page(name: str, found: Sequence[Any], request: Request, some: int, most: int) -> dict[str, Any]:
    """A page of a list, with the token of the next one."""
    limit = min(int(request.query.get("limit") or some), most)
    start = int(request.query.get("page_token") or request.query.get("offset") or 0)
    said: dict[str, Any] = {name: found[start : start + limit], "has_more": start + limit < len(found)}
    if not said[name]:
        del said[name]
    if said["has_more"]:
        said["next_page_token"] = str(start + limit)
    return said


def _short(job: dict[str, Any]) -> dict[str, Any]:
    return {**job, "settings": {key: value for key, value in job["settings"].items() if key not in LONG}}


def _merged(key: str, old: Any, new: Any) -> Any:
    """Tasks and clusters are replaced one by one, by their keys; anything else is replaced as a whole."""
    if key not in NAMED or not old:
        return new
    return list({each[NAMED[key]]: each for each in [*old, *new]}.values())
