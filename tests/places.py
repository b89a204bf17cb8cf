"""Every kind of store as a fixture; a test file says ``pytest_plugins = ["workspace.fixture", "places"]``."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from depload.running.addresses import Addresses
from depload.running.utilities import FileUtils
from depload.stores import cloud
from depload.stores.addresses import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from depload.stores.store import Store
    from workspace import Server

VOLUME = "/Volumes/main/default/depload"
KINDS = ("directory", "volume by SDK", "DBFS by SDK", "volume by dbutils", "DBFS by dbutils", "memory", "s3")
REMOTE = KINDS[1:]


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A server of S3's API on this machine (moto), with a bucket; and what a client of it finds in its environment."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("depload-tests")
        yield "s3://depload-tests"
    server.stop()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any]:
    """An address that nothing lies at, and through what it is reached."""
    kind, fresh = request.param, uuid.uuid4().hex
    if kind == "directory":
        return str(tmp_path / "store"), None
    if kind == "memory":
        return f"memory://{fresh}", None
    if kind == "s3":
        return f"{request.getfixturevalue('s3')}/{fresh}", None
    address = f"{VOLUME}/{fresh}" if kind.startswith("volume") else f"dbfs:/{fresh}"
    if kind.endswith("dbutils"):  # that of local runs: the cluster's own is not to be had here
        return address, SimpleNamespace(fs=FileUtils(Addresses(tmp_path / "root")))
    workspace: Server = request.getfixturevalue("workspace")
    return address, workspace.client()


@pytest.fixture
def store(place: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setitem(cloud.DRIVERS, "memory", "fsspec")
    return open_store(*place)
