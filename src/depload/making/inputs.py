"""What decides the outcome of a conversion or a build, as a digest: contents, not paths, and no credentials."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from depload._version import __version__
from depload.source import layouts
from depload.standards import lockfile, requirements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from depload.making.indexes import IndexOptions
    from depload.standards.target import Target

_CHUNK = 1 << 20
# What uv, build backends and compilers are told by the environment decides as well; where uv keeps and prints things
# does not, and secrets are none of it.
_INPUT = re.compile(
    r"UV_\w+|(?:SETUPTOOLS|PBR|PDM|POETRY|HATCH|FLIT|MATURIN|VERSIONINGIT|DUNAMAI)_\w+|CC|CXX|C(?:|XX|PP)FLAGS|LDFLAGS"
)
_NO_INPUT = re.compile(
    r"UV_(?:CACHE_DIR|NO_PROGRESS|CONCURRENT_\w+|HTTP_\w+|LOG_\w+)|\w*(?:PASSWORD|USERNAME|TOKEN|SECRET|AUTH)\w*"
)


def digest(
    source: Path,
    *,
    target: Target,
    name: str | None,
    options: IndexOptions | None,
    constraints: Iterable[Path],
    more: Iterable[str] = (),
) -> str:
    """SHA-256 of all that a conversion is made of: the source, the target, the options, and ``more`` as they are."""
    asked = json.dumps(asdict(options), sort_keys=True) if options else ""
    told = {key: text for key, text in os.environ.items() if _INPUT.fullmatch(key) and not _NO_INPUT.fullmatch(key)}
    facts = [
        __version__,
        *map(contents, extent(source, target)),
        str(target),
        name or "",
        _without_credentials(asked),
        _without_credentials(json.dumps(told, sort_keys=True)),
        *(contents(file) for file in constraints),
        *(_listing(Path(link)) for link in (options.find_links if options else ()) if "://" not in link),
        *more,
    ]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()


def extent(source: Path, target: Target) -> list[Path]:
    """The files and directories that a source consists of: itself first, and what a lone list of it leads to.

    Of a project whose pyproject.toml was handed over that is the project.
    """
    if source.name in ("pyproject.toml", "setup.py", "setup.cfg") and layouts.is_project(source.parent):
        return [source.parent]
    if source.suffix in (".txt", ".in") and source.is_file():
        return [source, *requirements.reached(source, source.parent)]
    if source.suffix == ".toml" and source.is_file():
        return [source, *_of_lock(source, target)]
    return [source]


def _of_lock(lock: Path, target: Target) -> list[Path]:
    """What a lock names by paths; convert tells what is wrong with it."""
    with contextlib.suppress(lockfile.InvalidLockError, OSError, UnicodeDecodeError):
        packages = lockfile.read(lock.read_text("utf-8"), target)
        named = [each.directory for each in packages if each.directory is not None]
        named += [file.location for each in packages for file in each.files if "://" not in file.location]
        return sorted({lock.parent / name for name in named})
    return []


def contents(path: Path) -> str:
    """A digest of a file, or of every file of a directory with its name; of the name alone where there is nothing."""
    found = hashlib.sha256(path.name.encode())
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            found.update(f"\0{file.relative_to(path)}\0".encode())
            with file.open("rb") as opened:
                while chunk := opened.read(_CHUNK):
                    found.update(chunk)
    return found.hexdigest()


def _listing(folder: Path) -> str:
    """Names, sizes and times: a directory of wheels may be large, and others add to it."""
    rows = []
    for file in sorted(folder.glob("*")) if folder.is_dir() else []:
        about = file.stat()
        rows.append(f"{file.name} {about.st_size} {about.st_mtime_ns}")
    return "\n".join(rows)


def _without_credentials(text: str) -> str:
    """URLs without user and password: not even a digest may be made of them."""

    def bare(match: re.Match[str]) -> str:
        parts = urlsplit(match[0])
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    return re.sub(r"\w+://[^\s\"',\\]+", bare, text)
