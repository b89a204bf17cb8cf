"""The server: all parts of the workspace API that there are, behind one address and one token."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workspace.connections import Connections, Seen
from workspace.dbfs import Dbfs
from workspace.disk import Disk
from workspace.execution import LocalExecution, WorkspaceFiles
from workspace.faults import Faults
from workspace.files import Files
from workspace.identity import Identity
from workspace.jobruns import JobRuns
from workspace.jobs import Jobs
from workspace.messages import Answer, ApiError
from workspace.objects import Objects
from workspace.permissions import Permissions
from workspace.scopes import Scopes
from workspace.uploads import Uploads
from workspace.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from databricks.sdk import WorkspaceClient
    from typing_extensions import Self

    from depload.running.compute import Compute
    from workspace.messages import Api, Request, Route

VOLUMES = ("main.default.depload", "main.default.uploads")
OPEN = re.compile(r"^/(\.well-known|oidc|presigned|telemetry-ext)")  # what is asked without a credential


class Server:
    """A workspace below ``folder``, from ``with`` on.

    ``dbfs_root`` False refuses DBFS as accounts do that have none; with ``forgets_empty`` a directory of a volume goes
    with its last file, as on object storage. Jobs run on ``compute``, or on one of the workspace's own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        volumes: Iterable[str] = VOLUMES,
        dbfs_root: bool = True,
        forgets_empty: bool = False,
        compute: Compute | None = None,
    ) -> None:
        self.folder = folder
        self.token = f"dapi{secrets.token_hex(16)}"
        self.faults = Faults()
        self.seen: list[Seen] = []
        self._compute = compute
        self.volumes = Volumes(self._disk("volumes"), volumes)
        self.files = Files(self.volumes, forgets_empty=forgets_empty)
        self.uploads = Uploads(self.volumes, folder / "uploads", lambda: self.url)
        self.dbfs = Dbfs(self._disk("dbfs"), enabled=dbfs_root)
        self.objects = Objects(self._disk("workspace"))
        self.scopes = Scopes()
        self.permissions = Permissions()
        self.jobs = Jobs()
        self.runs = JobRuns(self.jobs, self._execution(), lambda: self.url)
        self._routes: list[Route] = []
        for files in (self.volumes, self.uploads, self.files, self.dbfs, self.objects):
            self.serve(files)
        for others in (Identity(), self.scopes, self.permissions, self.jobs, self.runs):
            self.serve(others)
        self._connections = Connections(self)
        self._thread = threading.Thread(target=self._connections.serve_forever, args=(0.02,), daemon=True)

    def serve(self, api: Api) -> None:
        """Answer what this part of the API answers as well."""
        self._routes += [replace(route, pattern=f"{route.pattern}$") for route in api.routes()]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._connections.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes this workspace the one that the SDK and the CLI talk to."""
        return {"DATABRICKS_HOST": self.url, "DATABRICKS_TOKEN": self.token}

    def client(self, **settings: Any) -> WorkspaceClient:
        """A client of the SDK that does not wait long; ``settings`` are those of its Config."""
        from databricks.sdk import WorkspaceClient
        from databricks.sdk.core import Config

        from workspace.clocks import Impatient

        given = {"retry_timeout_seconds": 20, "http_timeout_seconds": 5, "clock": Impatient(), **settings}
        config = Config(host=self.url, token=self.token, **given)
        config.files_ext_network_transfer_inactivity_timeout_seconds = given["http_timeout_seconds"]
        return WorkspaceClient(config=config)

    def requests(self, method: str = "", path: str = "") -> list[Seen]:
        """Those that were asked so far with this method and a path in which the expression is found."""
        return [seen for seen in list(self.seen) if method in {"", seen.method} and re.search(path, seen.path)]

    def answer(self, request: Request) -> Answer:
        """The workspace's own answer. Raises ApiError."""
        if not OPEN.search(request.path):
            self._admit(request.headers.get("Authorization", ""))
        found = False
        for route in self._routes:
            match = re.match(route.pattern, request.path)
            found = found or match is not None
            if match and route.method == request.method:
                return route.answer(replace(request, names=match.groupdict()))
        words = f"No API found for '{request.method} {request.path.removeprefix('/api')}'"
        raise ApiError(405 if found else 404, "ENDPOINT_NOT_FOUND", words)

    def _admit(self, credential: str) -> None:
        if not credential.startswith("Bearer "):
            words = "Credential was not sent or was of an unsupported type for this API."
            raise ApiError(401, "UNAUTHENTICATED", words)
        if not secrets.compare_digest(credential, f"Bearer {self.token}"):
            raise ApiError(403, "PERMISSION_DENIED", "Invalid access token.")

    def _disk(self, name: str) -> Disk:
        return Disk(self.folder / name, self.folder / "scratch")

    def _execution(self) -> LocalExecution:
        files = WorkspaceFiles(self.objects, self.volumes, self.dbfs)
        known = lambda: self.environment, self.scopes.known
        return LocalExecution(self.folder / "runs", self._compute, files, *known)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(self._connections.server_close)
            stack.callback(self._connections.hang_up)
            self._thread.start()
            stack.callback(self._thread.join)
            stack.callback(self._connections.shutdown)
            stack.callback(self.runs.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, raised, trace)
