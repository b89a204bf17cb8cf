"""Large files: uploads in parts and downloads, both through URLs that need no credential.

As databricks-sdk does it (mixins/files.py): initiate, ask for the URL of each part, put the parts, complete or abort.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from workspace.files import writable
from workspace.messages import PIECE, Answer, ApiError, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from workspace.messages import Request
    from workspace.volumes import Volumes

FILE = "/api/2.0/fs/files(?P<path>/.*)"
PART = "/presigned/(?P<token>[0-9a-f]+)/part/(?P<number>[0-9]+)(?P<path>/.*)"
WHOLE = "/presigned/(?P<token>[0-9a-f]+)/(?P<what>abort|download)(?P<path>/.*)"
EXPIRED = b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"  # as S3 words it


@dataclass
class Upload:
    """An upload under way: its parts lie in ``folder`` under their numbers."""

    path: str
    overwrite: bool
    folder: Path
    etags: dict[int, str] = field(default_factory=dict)

    def pieces(self, numbers: Iterable[int]) -> Iterator[bytes]:
        """The whole file of these parts."""
        for number in numbers:
            with (self.folder / str(number)).open("rb") as part:
                while piece := part.read(PIECE):
                    yield piece


class Uploads:
    """Uploads by their session tokens; ``presigned`` False refuses all these URLs, as some workspaces do."""

    def __init__(self, volumes: Volumes, folder: Path, url: Callable[[], str]) -> None:
        self._volumes = volumes
        self._folder = folder
        self._url = url
        self._downloads: dict[str, str] = {}
        self._lock = threading.Lock()
        self.open: dict[str, Upload] = {}
        self.presigned = True
        self.expired = 0  # so many URLs are refused as having expired

    def routes(self) -> Iterable[Route]:
        yield Route("POST", FILE, self._initiate_or_complete)
        yield Route("POST", "/api/2.0/fs/create-upload-part-urls", self._part_urls)
        yield Route("POST", "/api/2.0/fs/create-abort-upload-url", self._abort_url)
        yield Route("POST", "/api/2.0/fs/create-download-url", self._download_url)
        yield Route("PUT", PART, self._put)
        yield Route("DELETE", WHOLE, self._abort)
        yield Route("GET", WHOLE, self._download)

    def _initiate_or_complete(self, request: Request) -> Answer:
        action = request.query.get("action")
        if action == "initiate-upload":
            return self._initiate(request)
        if action == "complete-upload":
            return self._complete(request)
        raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Unknown action: {action}")

    def _initiate(self, request: Request) -> Answer:
        path, overwrite = request.names["path"], request.flag("overwrite")
        writable(self._volumes, self._volumes.place(path), overwrite=overwrite)
        token = secrets.token_hex(16)
        folder = self._folder / token
        folder.mkdir(parents=True)
        self.open[token] = Upload(path, overwrite, folder)
        return Answer.of({"multipart_upload": {"session_token": token}})

    def _part_urls(self, request: Request) -> Answer:
        said = request.json()
        upload = self._upload(said["session_token"], said["path"])
        self._allowed()
        first, count = int(said["start_part_number"]), int(said["count"])
        urls = [
            {
                "part_number": number,
                "url": f"{self._url()}/presigned/{said['session_token']}/part/{number}{upload.path}",
                "headers": [{"name": "x-part", "value": str(number)}],
            }
            for number in range(first, first + count)
        ]
        return Answer.of({"upload_part_urls": urls})

    def _put(self, request: Request) -> Answer:
        if self._has_expired():
            return Answer.bytes(EXPIRED, "application/xml", 403)
        upload = self._upload(request.names["token"], request.names["path"])
        number = int(request.names["number"])
        if request.headers.get("x-part") != str(number):
            return Answer.bytes(b"<Error><Code>SignatureDoesNotMatch</Code></Error>", "application/xml", 403)
        known = hashlib.md5(usedforsecurity=False)
        scratch = upload.folder / f"{number}.{secrets.token_hex(4)}"
        with scratch.open("wb") as opened:
            for piece in request.body.pieces():
                known.update(piece)
                opened.write(piece)
        scratch.replace(upload.folder / str(number))
        upload.etags[number] = f'"{known.hexdigest()}"'
        return Answer(200, headers={"ETag": upload.etags[number]})

    def _complete(self, request: Request) -> Answer:
        token = request.query["session_token"]
        upload = self._upload(token, request.names["path"])
        parts = [(int(part["part_number"]), part["etag"]) for part in request.json()["parts"]]
        if not parts or any(upload.etags.get(number) != etag for number, etag in parts):
            raise ApiError(400, "INVALID_PARAMETER_VALUE", "One or more of the parts could not be found.")
        place = self._volumes.place(upload.path)
        check = partial(writable, self._volumes, place, overwrite=upload.overwrite)
        self._volumes.disk.write(place, upload.pieces(number for number, _ in sorted(parts)), check)
        self._end(token)
        return Answer.of({})

    def _abort_url(self, request: Request) -> Answer:
        said = request.json()
        upload = self._upload(said["session_token"], said["path"])
        url = f"{self._url()}/presigned/{said['session_token']}/abort{upload.path}"
        return Answer.of({"abort_upload_url": {"url": url, "headers": []}})

    def _abort(self, request: Request) -> Answer:
        self._upload(request.names["token"], request.names["path"])
        self._end(request.names["token"])
        return Answer(200)

    def _download_url(self, request: Request) -> Answer:
        said = request.json()
        path = said.get("path") or request.query["path"]
        if not self._volumes.place(path).is_file():
            raise ApiError(404, "NOT_FOUND", "The file being accessed is not found.")
        self._allowed()
        token = secrets.token_hex(16)
        self._downloads[token] = path
        return Answer.of({"url": f"{self._url()}/presigned/{token}/download{path}", "headers": []})

    def _download(self, request: Request) -> Answer:
        place = self._volumes.place(request.names["path"])
        if self._has_expired() or self._downloads.get(request.names["token"]) != request.names["path"]:
            return Answer.bytes(EXPIRED, "application/xml", 403)
        if not place.is_file():
            return Answer.bytes(b"<Error><Code>NoSuchKey</Code></Error>", "application/xml", 404)
        return Answer.file(place, request.headers)

    def _upload(self, token: str, path: str) -> Upload:
        upload = self.open.get(token)
        if upload is None or upload.path != path:
            raise ApiError(404, "NOT_FOUND", "The upload session is not found.")
        return upload

    def _end(self, token: str) -> None:
        shutil.rmtree(self.open.pop(token).folder)

    def _allowed(self) -> None:
        if not self.presigned:
            words = "Presigned URLs API is not enabled"
            raise ApiError(403, "PERMISSION_DENIED", words, reason="FILES_API_API_IS_NOT_ENABLED")

    def _has_expired(self) -> bool:
        with self._lock:
            self.expired -= 1 if (expired := self.expired > 0) else 0
        return expired
