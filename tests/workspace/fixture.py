"""The fixtures; a test file says ``pytest_plugins = ["workspace.fixture"]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workspace.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from depload.running.compute import Compute

UNMET = "a fault that nothing met proves nothing"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Server]:
    """An empty workspace; every fault that a test asked for must have happened when it ends."""
    with Server(tmp_path / "workspace") as server:
        yield server
    assert server.faults.waiting == [], UNMET


@pytest.fixture(scope="module")
def serverless_compute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    """What stands for serverless compute; its Connect server starts when the first task needs it."""
    from depload.running.compute import Compute
    from matrix import environments

    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    interpreter = environments.ready(Path(__file__).parent / "serverless.txt", python)
    scratch = tmp_path_factory.mktemp("compute")
    with Compute(scratch, master="local[2]", serverless_python=str(interpreter)) as compute:
        yield compute


@pytest.fixture
def serverless(tmp_path: Path, serverless_compute: Compute) -> Iterator[Server]:
    """A workspace whose jobs have serverless compute."""
    with Server(tmp_path / "workspace", compute=serverless_compute) as server:
        yield server
    assert server.faults.waiting == [], UNMET
