"""The Secrets API (docs.databricks.com/api/workspace/secrets)."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

from workspace.disk import milliseconds
from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workspace.messages import Request


class Scopes:
    """Secrets by scope and key; they are kept in memory alone."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, tuple[bytes, int]]] = {}

    def put(self, scope: str, key: str, value: str) -> None:
        """A secret that is there from the start."""
        self._scopes.setdefault(scope, {})[key] = (value.encode(), milliseconds(time.time()))

    def known(self) -> dict[str, dict[str, str]]:
        """All of them, for the tasks of a run."""
        return {
            scope: {key: value.decode(errors="replace") for key, (value, _) in secrets.items()}
            for scope, secrets in self._scopes.items()
        }

    def routes(self) -> Iterable[Route]:
        answers: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("POST", "scopes/create"): self._create_scope,
            ("GET", "scopes/list"): self._list_scopes,
            ("POST", "scopes/delete"): self._delete_scope,
            ("POST", "put"): self._put,
            ("GET", "get"): self._get,
            ("GET", "list"): self._list,
            ("POST", "delete"): self._delete,
        }
        for (method, verb), answer in answers.items():
            yield Route(method, f"/api/2.0/secrets/{verb}", answer)

    def _create_scope(self, request: Request) -> Answer:
        scope = request.json()["scope"]
        if scope in self._scopes:
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"Scope {scope} already exists!")
        self._scopes[scope] = {}
        return Answer.of({})

    def _list_scopes(self, _request: Request) -> Answer:
        found = [{"name": name, "backend_type": "DATABRICKS"} for name in sorted(self._scopes)]
        return Answer.of({"scopes": found} if found else {})

    def _delete_scope(self, request: Request) -> Answer:
        scope = request.json()["scope"]
        self._scope(scope)
        del self._scopes[scope]
        return Answer.of({})

    def _put(self, request: Request) -> Answer:
        said = request.json()
        value = said["string_value"].encode() if "string_value" in said else base64.b64decode(said["bytes_value"])
        self._scope(said["scope"])[said["key"]] = (value, milliseconds(time.time()))
        return Answer.of({})

    def _get(self, request: Request) -> Answer:
        scope, key = request.query["scope"], request.query["key"]
        value, _ = self._scope(scope).get(key, (None, 0))
        if value is None:
            raise _no_secret(scope, key)
        return Answer.of({"key": key, "value": base64.b64encode(value).decode()})

    def _list(self, request: Request) -> Answer:
        found = sorted(self._scope(request.query["scope"]).items())
        secrets = [{"key": key, "last_updated_timestamp": at} for key, (_, at) in found]
        return Answer.of({"secrets": secrets} if secrets else {})

    def _delete(self, request: Request) -> Answer:
        said = request.json()
        if self._scope(said["scope"]).pop(said["key"], None) is None:
            raise _no_secret(said["scope"], said["key"])
        return Answer.of({})

    def _scope(self, name: str) -> dict[str, tuple[bytes, int]]:
        if name not in self._scopes:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Scope {name} does not exist!")
        return self._scopes[name]


def _no_secret(scope: str, key: str) -> ApiError:
    words = (
        f"Failed to get secret {key} for scope {scope}. Error: Secret does not exist with scope: {scope} and key: {key}"
    )
    return ApiError(404, "RESOURCE_DOES_NOT_EXIST", words)
