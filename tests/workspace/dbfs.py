"""The DBFS API (docs.databricks.com/api/workspace/dbfs): blocks of at most 1 MB, in base64."""

from __future__ import annotations

import base64
import itertools
import shutil
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from workspace.disk import blocked, entries, milliseconds
from workspace.forms import form
from workspace.messages import Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from workspace.disk import Disk
    from workspace.messages import Request

BLOCK = 1024 * 1024


@dataclass
class Handle:
    """A file that is being written; what has come is there for readers already."""

    place: Path
    lock: threading.Lock = field(default_factory=threading.Lock)


class Dbfs:
    """Files by their absolute paths, without ``dbfs:``."""

    def __init__(self, disk: Disk, *, enabled: bool) -> None:
        self.disk = disk
        self._enabled = enabled
        self._numbers = itertools.count(1)
        self.open: dict[int, Handle] = {}

    def routes(self) -> Iterable[Route]:
        answers: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "get-status"): self._status,
            ("GET", "list"): self._list,
            ("GET", "read"): self._read,
            ("POST", "mkdirs"): self._mkdirs,
            ("POST", "delete"): self._delete,
            ("POST", "move"): self._move,
            ("POST", "create"): self._create,
            ("POST", "add-block"): self._add_block,
            ("POST", "close"): self._close,
            ("POST", "put"): self._put,
        }
        for (method, verb), answer in answers.items():
            yield Route(method, f"/api/2.0/dbfs/{verb}", answer)

    def _status(self, request: Request) -> Answer:
        return Answer.of(self._about(self._there(request.json()["path"])))

    def _list(self, request: Request) -> Answer:
        place = self._there(request.json()["path"])
        found = [place] if place.is_file() else [place / each.name for each in entries(place)]
        return Answer.of({"files": [self._about(each) for each in found]} if found else {})

    def _read(self, request: Request) -> Answer:
        said = request.json()
        place = self._there(said["path"])
        offset, length = int(said.get("offset") or 0), int(said.get("length") or BLOCK // 2)
        if place.is_dir() or offset < 0 or length < 0:
            words = f"Cannot read from {said['path']} at offset {offset}, length {length}"
            raise ApiError(400, "INVALID_PARAMETER_VALUE", words)
        if length > BLOCK:
            raise ApiError(400, "MAX_READ_SIZE_EXCEEDED", f"The read length {length} exceeds {BLOCK} bytes.")
        with place.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(length)
        return Answer.of({"bytes_read": len(content), "data": base64.b64encode(content).decode()})

    def _mkdirs(self, request: Request) -> Answer:
        path = request.json()["path"]
        place = self._place(path)
        if place.is_file() or blocked(place, self.disk.root):
            raise _exists(path)
        place.mkdir(parents=True, exist_ok=True)
        return Answer.of({})

    def _delete(self, request: Request) -> Answer:
        said = request.json()
        place = self._place(said["path"])
        if place.is_file():
            place.unlink()
        elif place.is_dir():
            if entries(place) and not request.flag("recursive", said):
                words = "Directory is not empty. Use recursive delete or remove contents first."
                raise ApiError(400, "IO_ERROR", words)
            shutil.rmtree(place)
        return Answer.of({})  # of what is not there too

    def _move(self, request: Request) -> Answer:
        said = request.json()
        place, to = self._there(said["source_path"]), self._place(said["destination_path"])
        if to.is_dir() and place.is_file():
            to /= place.name
        if to.exists():
            raise _exists(said["destination_path"])
        to.parent.mkdir(parents=True, exist_ok=True)
        place.replace(to)
        return Answer.of({})

    def _create(self, request: Request) -> Answer:
        said = request.json()
        place = self._new(said["path"], overwrite=request.flag("overwrite", said))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
        number = next(self._numbers)
        self.open[number] = Handle(place)
        return Answer.of({"handle": number})

    def _add_block(self, request: Request) -> Answer:
        said = request.json()
        handle = self._handle(said["handle"])
        content = base64.b64decode(said["data"])
        if len(content) > BLOCK:
            words = f"The block of {len(content)} bytes exceeds {BLOCK} bytes."
            raise ApiError(400, "MAX_BLOCK_SIZE_EXCEEDED", words)
        with handle.lock, handle.place.open("ab") as opened:
            opened.write(content)
        return Answer.of({})

    def _close(self, request: Request) -> Answer:
        number = request.json()["handle"]
        self._handle(number)
        del self.open[int(number)]
        return Answer.of({})

    def _put(self, request: Request) -> Answer:
        """Contents as base64 of at most 1 MB, or as a form with a file of any size."""
        if request.headers.get("Content-Type", "").startswith("multipart/form-data"):
            fields, content = form(request)
        else:
            fields = request.json()
            content = base64.b64decode(fields.get("contents") or "")
            if len(content) > BLOCK:
                raise ApiError(400, "MAX_BLOCK_SIZE_EXCEEDED", f"The contents exceed {BLOCK} bytes.")
        place = self._place(fields["path"])
        check = partial(self._new, fields["path"], overwrite=request.flag("overwrite", fields))
        self.disk.write(place, [content], check)
        return Answer.of({})

    def _about(self, place: Path) -> dict[str, Any]:
        stat = place.stat()
        return {
            "path": self.disk.name(place),
            "is_dir": place.is_dir(),
            "file_size": 0 if place.is_dir() else stat.st_size,
            "modification_time": milliseconds(stat.st_mtime),
        }

    def _place(self, path: str) -> Path:
        if not path.startswith("/"):
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Path must be absolute: {path}")
        if path.startswith("/Volumes/"):
            raise ApiError(403, "PERMISSION_DENIED", "No operations allowed on this path")
        if not self._enabled:
            words = f"Public DBFS root is disabled. Access is denied on path: {path}"
            raise ApiError(403, "PERMISSION_DENIED", words)
        return self.disk.at(path)

    def _there(self, path: str) -> Path:
        place = self._place(path)
        if not place.exists():
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"No file or directory exists on path {path}.")
        return place

    def _new(self, path: str, *, overwrite: bool) -> Path:
        """Where a file may be written; the directories above it are made."""
        place = self._place(path)
        if place.is_dir() or blocked(place, self.disk.root) or (place.exists() and not overwrite):
            raise _exists(path)
        return place

    def _handle(self, number: object) -> Handle:
        handle = self.open.get(int(str(number)))
        if handle is None:
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"No file handle with id {number} exists.")
        return handle


def _exists(path: str) -> ApiError:
    return ApiError(
        400, "RESOURCE_ALREADY_EXISTS", f"A file or directory already exists at the input path dbfs:{path}."
    )
