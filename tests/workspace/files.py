"""The Files API: files and directories of volumes (docs.databricks.com/api/workspace/files)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from workspace.disk import blocked, entries, milliseconds
from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from workspace.messages import Request
    from workspace.volumes import Volumes

FILE = "/api/2.0/fs/files(?P<path>/.*)"
DIRECTORY = "/api/2.0/fs/directories(?P<path>/.*)"
PAGE = 1000


class Files:
    """Files by their paths below /Volumes."""

    def __init__(self, volumes: Volumes, *, forgets_empty: bool) -> None:
        self._volumes = volumes
        self._forgets_empty = forgets_empty

    def routes(self) -> Iterable[Route]:
        yield Route("GET", FILE, self._download)
        yield Route("HEAD", FILE, self._download)
        yield Route("PUT", FILE, self._upload)
        yield Route("DELETE", FILE, self._delete)
        yield Route("PUT", DIRECTORY, self._create_directory)
        yield Route("HEAD", DIRECTORY, self._see_directory)
        yield Route("GET", DIRECTORY, self._list)
        yield Route("DELETE", DIRECTORY, self._delete_directory)

    def _download(self, request: Request) -> Answer:
        return Answer.file(self._file(request), request.headers)

    def _upload(self, request: Request) -> Answer:
        place = self._volumes.place(request.names["path"])
        overwrite = request.flag("overwrite")
        check = partial(writable, self._volumes, place, overwrite=overwrite)
        self._volumes.disk.write(place, request.body.pieces(), check)
        return Answer(204)

    def _delete(self, request: Request) -> Answer:
        with self._volumes.disk.lock:
            place = self._file(request)
            place.unlink()
            self._forget(place.parent)
        return Answer(204)

    def _create_directory(self, request: Request) -> Answer:
        place = self._volumes.place(request.names["path"])
        if place.is_file() or blocked(place, self._volumes.disk.root):
            raise ApiError(409, "ALREADY_EXISTS", "A file already exists at the path of the directory.")
        place.mkdir(parents=True, exist_ok=True)
        return Answer(204)

    def _see_directory(self, request: Request) -> Answer:
        self._directory(request)
        return Answer(200)

    def _list(self, request: Request) -> Answer:
        place = self._directory(request)
        size = min(int(request.query.get("page_size") or PAGE), PAGE)
        start = int(request.query.get("page_token") or 0)
        found = entries(place)
        said: dict[str, Any] = {"contents": [self._entry(place / each.name) for each in found[start : start + size]]}
        if start + size < len(found):
            said["next_page_token"] = str(start + size)
        return Answer.of(said)

    def _delete_directory(self, request: Request) -> Answer:
        with self._volumes.disk.lock:
            place = self._directory(request)
            if place == self._volumes.root_of(place):
                raise ApiError(400, "INVALID_PARAMETER_VALUE", "The root of a volume cannot be deleted.")
            if entries(place):
                words = "The directory being deleted is not empty."
                raise ApiError(400, "INVALID_PARAMETER_VALUE", words, reason="FILES_API_DIRECTORY_IS_NOT_EMPTY")
            place.rmdir()
            self._forget(place.parent)
        return Answer(204)

    def _entry(self, place: Path) -> dict[str, Any]:
        stat = place.stat()
        about = {"path": self._volumes.path(place), "name": place.name, "is_directory": place.is_dir()}
        if place.is_dir():
            return about
        return {**about, "file_size": stat.st_size, "last_modified": milliseconds(stat.st_mtime)}

    def _file(self, request: Request) -> Path:
        place = self._volumes.place(request.names["path"])
        if not place.is_file():
            words = "The file being accessed is not found."
            raise ApiError(404, "NOT_FOUND", words, reason="FILES_API_FILE_NOT_FOUND")
        return place

    def _directory(self, request: Request) -> Path:
        place = self._volumes.place(request.names["path"])
        empty_root = self._forgets_empty and place == self._volumes.root_of(place) and not entries(place)
        if empty_root or not place.is_dir():
            words = "The directory being accessed is not found."
            raise ApiError(404, "NOT_FOUND", words, reason="FILES_API_DIRECTORY_IS_NOT_FOUND")
        return place

    def _forget(self, folder: Path) -> None:
        """On object storage a directory is the prefix of its files, and a volume without files has no root to see."""
        while self._forgets_empty and folder != self._volumes.root_of(folder) and not entries(folder):
            folder.rmdir()
            folder = folder.parent


def writable(volumes: Volumes, place: Path, *, overwrite: bool) -> None:
    """Refuse what may not be written to."""
    if place.is_dir() or blocked(place, volumes.disk.root):
        raise ApiError(409, "ALREADY_EXISTS", "The file being created collides with a directory or a file above it.")
    if place.exists() and not overwrite:
        words = "The file being created already exists."
        raise ApiError(409, "ALREADY_EXISTS", words, reason="FILES_API_FILE_ALREADY_EXISTS")
