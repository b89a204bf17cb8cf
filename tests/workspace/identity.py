"""What a client asks before anything else: who it is, and how it can log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workspace.messages import Request

USER = "someone@example.com"


class Identity:
    """One user, known by a token."""

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/.well-known/databricks-config", self._not_here)
        yield Route("GET", "/oidc/.well-known/oauth-authorization-server", self._not_here)
        yield Route("GET", "/api/2.0/preview/scim/v2/Me", self._me)
        yield Route("GET", "/api/2.1/unity-catalog/current-metastore-assignment", self._metastore)
        yield Route("POST", "/telemetry-ext", self._telemetry)

    @staticmethod
    def _not_here(request: Request) -> Answer:
        raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for 'GET {request.path}'")

    @staticmethod
    def _me(_request: Request) -> Answer:
        return Answer.of({"id": "1000", "userName": USER, "displayName": "Someone", "active": True})

    @staticmethod
    def _metastore(_request: Request) -> Answer:
        return Answer.of({"default_catalog_name": "main", "metastore_id": "metastore", "workspace_id": 1})

    @staticmethod
    def _telemetry(_request: Request) -> Answer:
        return Answer.of({"errors": [], "numProtoSuccess": 0})
