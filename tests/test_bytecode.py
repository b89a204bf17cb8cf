"""The .pyc files of wheels: what their compiler meets is told of the wheel, and their cache is no more than that."""

from __future__ import annotations

import resource
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from conftest import make_wheel
from depload.errors import BuildError
from depload.making import bytecode
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from depload.standards.wheels import Wheel


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    return wheels.read(make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": "NAME = 'alpha'\n"}))


def interpreter(tmp_path: Path, first: str) -> str:
    """A Python that is killed where its first argument is ``first``."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\n[ "$1" = {first} ] && kill -KILL $$\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


@contextmanager
def limit(size: int) -> Iterator[None]:
    """No file may grow larger than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_interpreter_that_is_killed_before_it_says_what_it_is_costs_the_cache_alone(
    wheel: Wheel, tmp_path: Path
) -> None:
    (made,) = bytecode.compile_wheels([wheel], interpreter(tmp_path, "-S"), tmp_path, tmp_path / "cache")
    assert made.path.is_file()
    assert not (tmp_path / "cache").exists()


def test_a_compiler_that_is_killed_is_told_of_its_wheel(wheel: Wheel, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"alpha-1\.0-py3-none-any\.whl.*"):
        bytecode.compile_wheels([wheel], interpreter(tmp_path, "-s"), tmp_path, tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_left_without_half_a_file(tmp_path: Path) -> None:
    made, kept = tmp_path / "made.zip", tmp_path / "cache" / "kept.zip"
    made.write_bytes(b"x" * 100_000)
    with limit(4096):
        bytecode._keep(made, kept)
    assert list(kept.parent.iterdir()) == []
