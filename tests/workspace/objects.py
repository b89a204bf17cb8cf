"""The Workspace API (docs.databricks.com/api/workspace/workspace): notebooks and workspace files."""

from __future__ import annotations

import base64
import itertools
import shutil
import threading
from itertools import chain
from typing import TYPE_CHECKING, Any

from workspace.disk import blocked, entries, milliseconds
from workspace.forms import form
from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from workspace.disk import Disk
    from workspace.messages import Request

LIMIT = 10 * 1024 * 1024  # of an import and an export; import-file takes more
LANGUAGES = {".py": "PYTHON", ".sql": "SQL", ".scala": "SCALA", ".r": "R"}


class Objects:
    """Objects by their paths, with or without ``/Workspace`` before them.

    A notebook is a file whose name has no ending, and whose language is kept beside it.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._numbers = itertools.count(1)
        self._ids: dict[Path, int] = {}
        self._languages: dict[Path, str] = {}
        self._lock = threading.Lock()
        for home in ("Users", "Shared", "Repos"):
            self.disk.at(home).mkdir(exist_ok=True)

    def routes(self) -> Iterable[Route]:
        answers: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "get-status"): self._status,
            ("GET", "list"): self._list,
            ("GET", "export"): self._export,
            ("POST", "import"): self._import,
            ("POST", "mkdirs"): self._mkdirs,
            ("POST", "delete"): self._delete,
        }
        for (method, verb), answer in answers.items():
            yield Route(method, f"/api/2.0/workspace/{verb}", answer)
        yield Route("POST", "/api/2.0/workspace-files/import-file/(?P<path>.+)", self._import_file)
        yield Route("GET", "/api/2.0/workspace-files/(?P<path>.+)", self._file)

    def place(self, path: str) -> Path:
        return self.disk.at(f"/{path.lstrip('/')}".removeprefix("/Workspace") or "/")

    def is_notebook(self, path: str) -> bool:
        return self.place(path) in self._languages

    def _status(self, request: Request) -> Answer:
        path = request.query["path"]
        return Answer.of(self._about(self._there(path), path))

    def _list(self, request: Request) -> Answer:
        path = request.query["path"]
        place = self._there(path)
        if place.is_file():
            return Answer.of({"objects": [self._about(place, path)]})
        found = [self._about(place / each.name, f"{path.rstrip('/')}/{each.name}") for each in entries(place)]
        return Answer.of({"objects": found} if found else {})

    def _export(self, request: Request) -> Answer:
        place = self._there(request.query["path"])
        if place.is_dir():
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Path ({request.query['path']}) is a directory.")
        if place.stat().st_size > LIMIT:
            raise ApiError(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", f"The exported content exceeds {LIMIT} bytes.")
        if request.flag("direct_download"):
            return Answer.file(place, {})
        content = base64.b64encode(place.read_bytes()).decode()
        return Answer.of({"content": content, "file_type": place.suffix.removeprefix(".")})

    def _import(self, request: Request) -> Answer:
        if request.headers.get("Content-Type", "").startswith("multipart/form-data"):
            said, content = form(request)
        else:
            said = request.json()
            content = base64.b64decode(said.get("content") or "")
        if len(content) > LIMIT:
            raise ApiError(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", f"The imported content exceeds {LIMIT} bytes.")
        language = self._language(said, content)
        self._write(said["path"], [content], language, overwrite=request.flag("overwrite", said))
        return Answer.of({})

    @staticmethod
    def _language(said: dict[str, Any], content: bytes) -> str | None:
        """What a notebook is written in; None for a file."""
        kind = said.get("format") or "SOURCE"
        if kind == "SOURCE":
            if not said.get("language"):
                raise ApiError(400, "INVALID_PARAMETER_VALUE", "The language must be given for the format SOURCE.")
            return str(said["language"])
        if kind == "AUTO":
            return _notebook_language(said["path"], content)
        if kind == "RAW":
            return None
        raise ApiError(400, "INVALID_PARAMETER_VALUE", f"This workspace does not take the format {kind}.")

    def _import_file(self, request: Request) -> Answer:
        path, pieces = request.names["path"], request.body.pieces()
        first = next(pieces, b"")
        language = _notebook_language(path, first)
        self._write(path, chain([first], pieces), language, overwrite=request.flag("overwrite"), conflict=409)
        return Answer.of({})

    def _file(self, request: Request) -> Answer:
        return Answer.file(self._there(request.names["path"]), request.headers)

    def _write(
        self, path: str, pieces: Iterable[bytes], language: str | None, *, overwrite: bool, conflict: int = 400
    ) -> None:
        place = self.place(path)
        if language and place.suffix.lower() in LANGUAGES:
            place = place.with_suffix("")
        self.disk.write(place, pieces, lambda: self._check(place, overwrite=overwrite, conflict=conflict))
        with self._lock:
            self._languages.pop(place, None)
            if language:
                self._languages[place] = language

    def _check(self, place: Path, *, overwrite: bool, conflict: int) -> None:
        """Refuse what may not be written to."""
        if blocked(place, self.disk.root) or not place.parent.is_dir():
            folder = self.disk.name(place.parent)
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"The parent folder ({folder}) does not exist.")
        if place.is_dir() or (place.exists() and not overwrite):
            words = f"Path ({self.disk.name(place)}) already exists."
            raise ApiError(conflict, "RESOURCE_ALREADY_EXISTS", words)

    def _mkdirs(self, request: Request) -> Answer:
        path = request.json()["path"]
        place = self.place(path)
        if place.is_file() or blocked(place, self.disk.root):
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"A file already exists on the path {path}.")
        place.mkdir(parents=True, exist_ok=True)
        return Answer.of({})

    def _delete(self, request: Request) -> Answer:
        said = request.json()
        place = self._there(said["path"])
        if place.is_file():
            place.unlink()
        elif entries(place) and not request.flag("recursive", said):
            raise ApiError(400, "DIRECTORY_NOT_EMPTY", f"Folder ({said['path']}) is not empty")
        else:
            shutil.rmtree(place)
        with self._lock:
            for kept in (self._ids, self._languages):
                for each in [each for each in kept if each == place or place in each.parents]:
                    del kept[each]
        return Answer.of({})

    def _about(self, place: Path, path: str) -> dict[str, Any]:
        stat = place.stat()
        with self._lock:
            number = self._ids.setdefault(place, next(self._numbers))
        about: dict[str, Any] = {"path": path, "object_id": number, "resource_id": str(number)}
        if place.is_dir():
            return {**about, "object_type": "DIRECTORY"}
        about |= {"modified_at": milliseconds(stat.st_mtime), "created_at": milliseconds(stat.st_mtime)}
        if place in self._languages:
            return {
                **about,
                "object_type": "NOTEBOOK",
                "language": self._languages[place],
                "repos_export_format": "SOURCE",
            }
        return {**about, "object_type": "FILE", "size": stat.st_size}

    def _there(self, path: str) -> Path:
        place = self.place(path)
        if not place.exists():
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")
        return place


def _notebook_language(path: str, content: bytes) -> str | None:
    """Of a file that is imported as a notebook, by its first line."""
    ending = "." + path.rpartition(".")[2].lower()
    comment = {".py": "#", ".r": "#", ".sql": "--", ".scala": "//"}.get(ending)
    first = content.split(b"\n", 1)[0].strip()
    is_notebook = comment is not None and first == f"{comment} Databricks notebook source".encode()
    return LANGUAGES[ending] if is_notebook else None
