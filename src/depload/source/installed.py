"""Packages that somebody installed into the source (``pip install --target``): their files -> wheels again.

That is what many a zip of dependencies is, for without native code it can be put on ``sys.path`` as it is.
The ``.dist-info`` says which files are whose (packaging.python.org, "Recording installed projects").
"""

from __future__ import annotations

import contextlib
import csv
import itertools
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion

from depload.errors import Fault, InvalidWheelError
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What installers write and wheels do not have.
_OF_INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "RECORD.jws", "RECORD.p7s"}
_NATIVE = (".so", ".pyd", ".dylib")


def is_installed(dist_info: Path) -> bool:
    """Whether a directory is the .dist-info of a package whose files lie beside it."""
    return dist_info.name.endswith(".dist-info") and all(
        (dist_info / name).is_file() for name in ("METADATA", "RECORD")
    )


def files(dist_info: Path) -> list[Path]:
    """The package's files that are there: scripts lie elsewhere, and .pyc files are made anew."""
    beside = dist_info.parent
    paths = [beside / row for row in _recorded(dist_info)]
    own = [dist_info / path.name for path in dist_info.iterdir() if path.name not in _OF_INSTALLERS]
    found = (path for path in (*paths, *own) if path.is_file() and not path.is_symlink())
    return [path for path in dict.fromkeys(found) if path.name not in _OF_INSTALLERS or path.parent != dist_info]


def _recorded(dist_info: Path) -> Iterator[str]:
    text = (dist_info / "RECORD").read_text("utf-8", "replace")
    with contextlib.suppress(csv.Error):
        for row in csv.reader(text.splitlines()):
            parts = PurePosixPath(row[0]).parts if row else ()
            script = parts[:1] in (("bin",), ("Scripts",)) and not parts[-1].endswith(".py")
            if parts and not script and not {"..", "__pycache__", "/"} & {*parts}:
                yield row[0]


def pack(dist_info: Path, label: str, to: Path) -> Path:
    """Make the wheel that the package was installed from. Raises InvalidWheelError where it does not say what it is."""
    found = files(dist_info)
    try:
        metadata = HeaderParser().parsestr((dist_info / "METADATA").read_text("utf-8", "replace"))
        name, version = canonicalize_name(metadata["Name"]).replace("-", "_"), metadata["Version"]
        path = to / f"{name}-{version}-{_tags(dist_info, found)}.whl"
        parse_wheel_filename(path.name)
    except (InvalidWheelFilename, InvalidVersion, TypeError, ValueError) as error:
        raise InvalidWheelError(label, [Fault(label, "an installed package that does not say what it is")]) from error
    members: dict[str, bytes | Path] = {file.relative_to(dist_info.parent).as_posix(): file for file in found}
    members.setdefault(f"{dist_info.name}/WHEEL", wheels.PURE_WHEEL)
    return wheels.pack(path, dist_info.name, members)


def _tags(dist_info: Path, found: Sequence[Path]) -> str:
    """The tags of the wheel, as its WHEEL lists them; without one only pure Python can be told."""
    if (dist_info / "WHEEL").is_file():
        said = HeaderParser().parsestr((dist_info / "WHEEL").read_text("utf-8", "replace")).get_all("Tag", [])
        columns = itertools.zip_longest(*(tag.split("-") for tag in said), fillvalue="")
        return "-".join(".".join(dict.fromkeys(column)) for column in columns)
    if any(file.name.endswith(_NATIVE) for file in found):
        raise ValueError(dist_info.name)
    return "py3-none-any"
