"""The Permissions API (docs.databricks.com/api/workspace/permissions), which records and refuses nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workspace.identity import USER
from workspace.messages import Answer, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workspace.messages import Request

OBJECT = "/api/2.0/permissions/(?P<kind>[^/]+)/(?P<id>[^/]+)"
WHO = ("user_name", "group_name", "service_principal_name")


class Permissions:
    """Who may do what with an object, by its kind and id; the one user owns everything."""

    def __init__(self) -> None:
        self.given: dict[tuple[str, str], dict[tuple[str, str], str]] = {}

    def routes(self) -> Iterable[Route]:
        yield Route("GET", OBJECT, self._get)
        yield Route("PUT", OBJECT, self._set)
        yield Route("PATCH", OBJECT, self._set)

    def _get(self, request: Request) -> Answer:
        kind, number = request.names["kind"], request.names["id"]
        owner = "IS_OWNER" if kind == "jobs" else "CAN_MANAGE"
        known = {("user_name", USER): owner, **self.given.get((kind, number), {})}
        said = [{who: name, "all_permissions": [_level(level)]} for (who, name), level in known.items()]
        kind_of_one = {"jobs": "job", "directories": "directory"}.get(kind, kind)
        return Answer.of({"object_id": f"/{kind}/{number}", "object_type": kind_of_one, "access_control_list": said})

    def _set(self, request: Request) -> Answer:
        given = {}
        for each in request.json().get("access_control_list", []):
            who = next(who for who in WHO if who in each)
            given[who, str(each[who])] = str(each["permission_level"])
        kept = self.given.get((request.names["kind"], request.names["id"]), {}) if request.method == "PATCH" else {}
        self.given[request.names["kind"], request.names["id"]] = {**kept, **given}
        return self._get(request)


def _level(level: str) -> dict[str, Any]:
    return {"permission_level": level, "inherited": False}
