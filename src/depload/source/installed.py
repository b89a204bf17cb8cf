"""Packages that somebody installed into the source (``pip install --target``): their files -> wheels again.

That is what many a zip of dependencies is, for without native code it can be put on ``sys.path`` as it is.
The ``.dist-info`` says which files are whose (packaging.python.org, "Recording installed projects").
"""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import os
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from depload.errors import Fault, InvalidWheelError
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What installers write and wheels do not have.
_OF_INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "RECORD.jws", "RECORD.p7s"}
_NATIVE = (".so", ".pyd", ".dylib")
_LONGEST_TEXT = 32 << 20  # characters of RECORD or METADATA: a RECORD of a hundred thousand files has 10 million
_MOST_ROWS, _MOST_TAGS, _LONGEST_PATH, _LONGEST_NAME = 100_000, 100, 4096, 255


def is_installed(dist_info: Path) -> bool:
    """Whether a directory is the .dist-info of a package whose files lie beside it."""
    return dist_info.name.endswith(".dist-info") and all(
        (dist_info / name).is_file() for name in ("METADATA", "RECORD")
    )


def files(dist_info: Path) -> list[Path]:
    """The package's files that are there: scripts lie elsewhere, and .pyc files are made anew."""
    beside = dist_info.parent
    lies_below = functools.cache(functools.partial(_lies_below, Path(os.path.realpath(beside))))
    listed = (beside / row for row in _recorded(dist_info))
    paths = [path for path in listed if lies_below(path.parent)]
    own = [dist_info / path.name for path in dist_info.iterdir() if path.name not in _OF_INSTALLERS]
    found = (path for path in (*paths, *own) if path.is_file() and not path.is_symlink())
    return [path for path in dict.fromkeys(found) if path.name not in _OF_INSTALLERS or path.parent != dist_info]


def _lies_below(top: Path, folder: Path) -> bool:
    """Whether a folder is really there, rather than behind a link."""
    return Path(os.path.realpath(folder)).is_relative_to(top)


def _text(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(_LONGEST_TEXT)


def _recorded(dist_info: Path) -> Iterator[str]:
    with contextlib.suppress(csv.Error):
        for row in itertools.islice(csv.reader(_text(dist_info / "RECORD").splitlines()), _MOST_ROWS):
            parts = PurePosixPath(row[0]).parts if row else ()
            script = parts[:1] in (("bin",), ("Scripts",)) and not parts[-1].endswith(".py")
            if parts and not script and not {"..", "__pycache__", "/", "//"} & {*parts} and _can_be(row[0], parts):
                yield row[0]


def _can_be(path: str, parts: Sequence[str]) -> bool:
    """Whether a file can have such a name at all; some systems raise where one looks."""
    long = len(path.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts)
    return not long and "\0" not in path


def pack(dist_info: Path, label: str, to: Path) -> Path:
    """Make the wheel that the package was installed from. Raises InvalidWheelError where it does not say what it is."""
    found = files(dist_info)
    try:
        metadata = HeaderParser().parsestr(_text(dist_info / "METADATA"))
        name, version = canonicalize_name(metadata["Name"]).replace("-", "_"), metadata["Version"]
        path = to / f"{name}-{version}-{_tags(dist_info, found)}.whl"
    except (TypeError, ValueError, AttributeError):
        path = to
    if path.parent != to or len(path.name.encode()) > _LONGEST_NAME or not wheels.tags_of(path.name):
        raise InvalidWheelError(label, [Fault(label, "an installed package that does not say what it is")])
    members: dict[str, bytes | Path] = {file.relative_to(dist_info.parent).as_posix(): file for file in found}
    members.setdefault(f"{dist_info.name}/WHEEL", wheels.PURE_WHEEL)
    return wheels.pack(path, dist_info.name, members)


def _tags(dist_info: Path, found: Sequence[Path]) -> str:
    """The tags of the wheel, as its WHEEL lists them; without one only pure Python can be told."""
    if (dist_info / "WHEEL").is_file():
        said = HeaderParser().parsestr(_text(dist_info / "WHEEL")).get_all("Tag", [])
        if len(said) > _MOST_TAGS:
            raise ValueError(dist_info.name)
        columns = itertools.zip_longest(*(tag.split("-") for tag in said), fillvalue="")
        return "-".join(".".join(dict.fromkeys(column)) for column in columns)
    if any(file.name.endswith(_NATIVE) for file in found):
        raise ValueError(dist_info.name)
    return "py3-none-any"
