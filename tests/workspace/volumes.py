"""Unity Catalog: the volumes that there are, and where their files lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from workspace.disk import Disk
    from workspace.messages import Request

VOLUME_PARTS = 4  # /Volumes/catalog/schema/volume
NAMED = "/api/2.1/unity-catalog/volumes/(?P<name>[^/]+)"


class Volumes:
    """Known volumes by their names, ``catalog.schema.volume``; no path leads anywhere else."""

    def __init__(self, disk: Disk, names: Iterable[str]) -> None:
        self.disk = disk
        self.names: set[str] = set()
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        self.names.add(name)
        self.disk.at(name.replace(".", "/")).mkdir(parents=True, exist_ok=True)

    def place(self, path: str) -> Path:
        """Where a path of the Files API lies, in a volume that there is."""
        parts = [part for part in path.split("/") if part]
        if not path.startswith("/") or parts[:1] != ["Volumes"]:
            words = f"Invalid path: unsupported first path component: {(parts or [''])[0]}"
            raise ApiError(400, "INVALID_PARAMETER_VALUE", words)
        name = ".".join(parts[1:VOLUME_PARTS])
        if len(parts) < VOLUME_PARTS:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Invalid path: {path} is not below a volume.")
        if name not in self.names:
            raise ApiError(404, "NOT_FOUND", f"Volume '{name}' does not exist.")
        return self.disk.at("/".join(parts[1:]))

    def path(self, place: Path) -> str:
        return f"/Volumes{self.disk.name(place)}"

    def root_of(self, place: Path) -> Path:
        return self.disk.root.joinpath(*place.relative_to(self.disk.root).parts[: VOLUME_PARTS - 1])

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/api/2.1/unity-catalog/volumes", self._create)
        yield Route("GET", "/api/2.1/unity-catalog/volumes", self._list)
        yield Route("GET", NAMED, self._get)
        yield Route("DELETE", NAMED, self._delete)
        yield Route("GET", "/api/2.1/unity-catalog/permissions/[^/]+/[^/]+", _everything)
        yield Route("GET", "/api/2.1/unity-catalog/effective-permissions/[^/]+/[^/]+", _everything)

    def _create(self, request: Request) -> Answer:
        said = request.json()
        name = f"{said['catalog_name']}.{said['schema_name']}.{said['name']}"
        if name in self.names:
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"Volume '{name}' already exists")
        self.add(name)
        return Answer.of(_info(name))

    def _list(self, request: Request) -> Answer:
        prefix = f"{request.query['catalog_name']}.{request.query['schema_name']}."
        return Answer.of({"volumes": [_info(name) for name in sorted(self.names) if name.startswith(prefix)]})

    def _get(self, request: Request) -> Answer:
        return Answer.of(_info(self._known(request)))

    def _delete(self, request: Request) -> Answer:
        self.names.discard(self._known(request))
        return Answer.of({})

    def _known(self, request: Request) -> str:
        name = request.names["name"]
        if name not in self.names:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Volume '{name}' does not exist.")
        return name


def _info(name: str) -> dict[str, Any]:
    catalog, schema, volume = name.split(".")
    return {
        "name": volume,
        "catalog_name": catalog,
        "schema_name": schema,
        "full_name": name,
        "volume_type": "MANAGED",
        "volume_id": f"volume-{name}",
    }


def _everything(_request: Request) -> Answer:
    privileges = [{"privilege": name} for name in ("READ_VOLUME", "WRITE_VOLUME", "USE_SCHEMA", "USE_CATALOG")]
    return Answer.of({"privilege_assignments": [{"principal": "someone@example.com", "privileges": privileges}]})
