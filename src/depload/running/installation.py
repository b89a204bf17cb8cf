"""What a task's process can import: the depload that runs here, and the libraries that its definition names."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import depload
from depload.errors import DeploadError, ToolMissingError
from depload.making import tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_OWN = re.compile(r"(?:.*/)?depload-[^/]*\.whl|depload(?:\[[^\]]*\])?\s*(?:[<>=!~@;].*)?", re.IGNORECASE | re.DOTALL)


def alone(folder: Path) -> Path:
    """A directory from which an interpreter imports this depload, its entry points included, and nothing else."""
    if folder.exists():
        return folder
    fresh = folder.with_name(f"{folder.name}.new")
    about = fresh / f"depload-{depload.__version__}.dist-info"
    about.mkdir(parents=True)
    (fresh / "depload").symlink_to(Path(depload.__file__).parent)
    installed = metadata.distribution("depload")
    for name in ("METADATA", "entry_points.txt"):
        (about / name).write_text(installed.read_text(name) or "", encoding="utf-8")
    return fresh.rename(folder)


def others(libraries: Iterable[str]) -> tuple[str, ...]:
    """The libraries that are not depload itself, which is here."""
    return tuple(each for each in dict.fromkeys(libraries) if not _OWN.fullmatch(each))


def install(libraries: Iterable[str], python: str, to: Path, local: Callable[[str], Path]) -> Path:
    """Put libraries into a directory for ``sys.path``; ``local`` finds a wheel or a list of requirements.

    Raises DeploadError where they cannot be had.
    """
    if to.exists():
        return to
    program = tools.uv()
    if program is None:
        raise ToolMissingError("uv", "a task with libraries", "pip install uv")
    words = [word for each in libraries for word in _words(each, local)]
    fresh = to.with_name(f"{to.name}.new")
    done = tools.run([program, "pip", "install", "--quiet", "--python", python, "--target", str(fresh), *words])
    if done.code:
        raise DeploadError(f"the libraries {', '.join(libraries)} cannot be installed: {done.said}")
    return fresh.rename(to)


def _words(library: str, local: Callable[[str], Path]) -> list[str]:
    """A library as uv takes it."""
    if library.startswith("-r "):
        return ["-r", str(local(library.removeprefix("-r ")))]
    return [str(local(library))] if library.endswith(".whl") else [library]
