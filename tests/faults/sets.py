"""What is converted and loaded: sets of packages that differ, so that one that is taken for another shows."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conftest import make_wheel, write_files
from depload import IndexOptions

if TYPE_CHECKING:
    from pathlib import Path

_FILES, _SIZE = 24, 2048
"""Data files of a package and the bytes of each, so that unpacking it takes some time."""


@dataclass(frozen=True)
class Set:
    """A source with what it comes to."""

    number: int
    source: Path
    wheels: Path
    data: str
    """SHA-256 of the package's data."""

    @property
    def options(self) -> IndexOptions:
        return IndexOptions(no_index=True, find_links=(str(self.wheels),))

    @property
    def value(self) -> str:
        """What ``value()`` gives where this set is loaded."""
        return f"engine {self.number}.0 with parts {self.number}.0, {self.data}"


def make(folder: Path, number: int, files: int = _FILES) -> Set:
    """Two packages that every set has, each in a version of its own, and their requirements."""
    version, chance = f"{number}.0", random.Random(number)
    data = {f"engine/data/{at:05}.bin": chance.randbytes(_SIZE) for at in range(files)}
    code = {"engine/__init__.py": _ENGINE.format(version=version), "engine/data/__init__.py": ""}
    make_wheel(folder / "wheels", "engine", version, {**code, **data})
    parts = {"parts.py": f"VERSION = {version!r}\n", **{f"parts_{at}.py": f"NUMBER = {at}\n" for at in range(4)}}
    make_wheel(folder / "wheels", "parts", version, parts)
    source = write_files(folder / "source", {"requirements.txt": f"engine=={version}\nparts=={version}\n"})
    return Set(number, source, folder / "wheels", hashlib.sha256(b"".join(data.values())).hexdigest())


_ENGINE = """\
import hashlib
import pathlib

VERSION = {version!r}


def data():
    files = sorted(pathlib.Path(__file__).parent.joinpath("data").glob("*.bin"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
"""


def value() -> str:
    """What the packages that are importable here say of themselves."""
    engine, parts = importlib.import_module("engine"), importlib.import_module("parts")
    installed = importlib.metadata.version("engine")
    if installed != engine.VERSION:
        return f"engine {engine.VERSION} beside the metadata of {installed}"
    return f"engine {engine.VERSION} with parts {parts.VERSION}, {engine.data()}"
