"""Which store an address means.

| address | on a cluster, where it is mounted | elsewhere |
| --- | --- | --- |
| a path, ``file:...`` | the directory | the directory |
| ``/Volumes/...``, ``dbfs:/Volumes/...`` | the mount | dbutils, else the Files API |
| ``dbfs:/...``, ``/dbfs/...`` | the mount | dbutils, else the DBFS API |
| ``/Workspace/...`` (sources alone) | the mount | the Workspace API |
| ``s3://``, ``abfss://``, ``gs://`` | fsspec | fsspec |
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from depload.errors import OldRuntimeError, StoreError, ToolMissingError
from depload.stores import platform
from depload.stores.cloud import DRIVERS, CloudStore
from depload.stores.directory import DirectoryStore
from depload.stores.utilities import UtilitiesStore
from depload.stores.workspace import DbfsStore, VolumeStore, WorkspaceFilesStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.stores.store import Store

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)
_TOO_OLD = (12, 2)
_VOLUME_PARTS = 5  # "/", "Volumes", catalog, schema, volume


class _Place(NamedTuple):
    """An address of Databricks."""

    kind: str
    """``volume``, ``dbfs`` or ``workspace``."""
    path: str
    """As the API of its kind calls it."""

    @property
    def mount(self) -> Path:
        """Where a cluster has it."""
        return Path(f"/dbfs{self.path}" if self.kind == "dbfs" else self.path)

    @property
    def is_mounted(self) -> bool:
        """Whether this machine has it. Of a volume its own directory counts: the ones above it are made up."""
        parts = self.mount.parts
        return Path(*parts[: _VOLUME_PARTS if self.kind == "volume" else 2]).is_dir()


def open_store(base: str | os.PathLike[str], via: Any = None) -> Store:  # noqa: ANN401 - Databricks' objects
    """The store that ``base`` means.

    ``via`` is a ``WorkspaceClient`` or a dbutils for what is on Databricks and not mounted here; by default the
    cluster's dbutils, else a client made of what the environment says. Raises StoreError, OldRuntimeError, and
    ToolMissingError where an extra is missing.
    """
    text = os.fspath(base)
    if not text:
        raise StoreError("base", "is empty", "give a directory, or an address such as /Volumes/main/default/deps")
    if text.startswith("file:"):
        return DirectoryStore(re.sub(r"^file:(?://)?", "", text))
    if place := _on_databricks(text):
        return _open(place, text, via)
    if match := _SCHEME.match(text):
        if match[1].lower() not in DRIVERS:
            known = "dbfs:/, /Volumes/, " + ", ".join(f"{scheme}://" for scheme in ("s3", "abfss", "gs"))
            raise StoreError(text, f"{match[1]}: addresses are not known", f"give a directory, or one of {known}")
        return CloudStore(re.sub(r"^(\w+):/*", r"\1://", text))  # a Path has made one slash of two
    return DirectoryStore(str(Path(text).absolute()))


def split(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The address of what holds ``path``, and its name there."""
    text = os.fspath(path).rstrip("/")
    if is_local(text):
        here = Path(re.sub(r"^file:(?://)?", "", text)).absolute()
        return str(here.parent), here.name
    folder, _, name = text.rpartition("/")
    return folder, name


def is_local(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a file or directory of this machine, and no address of somewhere else."""
    text = os.fspath(path)
    if place := _on_databricks(text):
        return place.is_mounted and text.startswith("/")
    return text.startswith("file:") or not _SCHEME.match(text)


def _on_databricks(text: str) -> _Place | None:
    path = re.sub(r"^dbfs:/*", "/", text) if text.startswith("dbfs:") else text
    if path.startswith("/Volumes/"):
        return _Place("volume", path)
    if text.startswith("dbfs:"):
        return _Place("dbfs", path)
    if path.startswith("/dbfs/"):
        return _Place("dbfs", path.removeprefix("/dbfs"))
    return _Place("workspace", path) if path.startswith("/Workspace/") else None


def _open(place: _Place, text: str, via: Any) -> Store:  # noqa: ANN401
    runtime = platform.runtime()
    if place.kind == "volume" and runtime and runtime <= _TOO_OLD:
        raise OldRuntimeError(text, ".".join(map(str, runtime)))
    if place.is_mounted:
        return DirectoryStore(str(place.mount))
    utilities = via if via is not None else platform.find_dbutils()
    fs = getattr(utilities, "fs", None)
    if fs is not None and platform.is_stand_in(utilities):
        raise StoreError(text, "is not reached by the SDK's dbutils, which cannot tell a directory", "give its client")
    if fs is not None and place.kind != "workspace":
        return UtilitiesStore(fs, f"dbfs:{place.path}", text)
    client = via if hasattr(via, "dbfs") else _client(text)
    stores: dict[str, Callable[[Any, str, str], Store]]
    stores = {"volume": VolumeStore, "dbfs": DbfsStore, "workspace": WorkspaceFilesStore}
    return stores[place.kind](client, place.path, text)


def _client(address: str) -> Any:  # noqa: ANN401
    try:
        sdk = import_module("databricks.sdk")
    except ImportError:
        remedy = "pip install 'depload[databricks]', or run where it is mounted"
        raise ToolMissingError("databricks-sdk", f"{address}, which is not mounted here,", remedy) from None
    try:
        return sdk.WorkspaceClient()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        remedy = "run `databricks auth login`, or set DATABRICKS_HOST and DATABRICKS_TOKEN"
        raise StoreError(address, f"is not mounted here, and no workspace can be asked ({reason})", remedy) from error
