"""What is true in this process, wheelhouse or not: which it is, and what can be imported in it.

The source of this module alone also travels to workers that have no wheelhouse, so it imports nothing from beside it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import sys

TYPE_CHECKING = False  # importing typing costs a worker more than all of this module
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def environment() -> dict[str, Any]:
    """This process and what can be imported in it, wheelhouse or not."""
    return {**process(), "packages": packages_here()}


def process() -> dict[str, Any]:
    """Which process this is, and on what it runs."""
    return {
        "host": socket.gethostname(),
        "executor": _executor(),
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "prefix": sys.prefix,
        "platform": platform.platform(),
    }


def packages_here() -> dict[str, str]:
    """Version by normalised name (PEP 503) of every package on ``sys.path``; of several, the one that is imported."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name, version = _named(distribution)
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return dict(sorted(found.items()))


def _named(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Name and version, from the directory's name where it has both: parsing every METADATA takes ten times as long."""
    stem, _, suffix = os.path.basename(str(getattr(distribution, "_path", ""))).rpartition(".")
    name, _, version = stem.partition("-")
    if suffix == "dist-info" and name and version:
        return name, version
    metadata = distribution.metadata
    return str(metadata["Name"] or ""), str(metadata["Version"] or "")


def module_file(module: ModuleType) -> str | None:
    """Where a module was loaded from: its file, or the first folder of a namespace package."""
    file = getattr(module, "__file__", None)
    return file or next(iter(getattr(module, "__path__", ())), None)


def version_of(module: ModuleType, package: str | None) -> str | None:
    """The version of an imported module: of the distribution it was loaded from, else what the module says itself."""
    file = module_file(module)
    folder = os.path.dirname(file) if file else None
    depth = module.__name__.count(".") + (1 if hasattr(module, "__path__") and getattr(module, "__file__", None) else 0)
    for _ in range(depth):
        folder = os.path.dirname(folder) if folder else None
    if package and folder:
        for found in importlib.metadata.distributions(name=package, path=[folder]):
            return found.version
    said = getattr(module, "__version__", None)
    return str(said) if said is not None else None


def same_version(one: str | None, other: str | None) -> bool:
    """Whether two versions are one (PEP 440): ``2023.07.22`` and ``2023.7.22``, ``1.0`` and ``1.0.0``."""
    if one is None or other is None:
        return one is other
    return _release(one) == _release(other)


def _release(version: str) -> list[str]:
    parts = [part.lstrip("0") for part in re.findall(r"[0-9]+|[a-z]+", version.lower().removeprefix("v"))]
    while parts and not parts[-1]:
        parts.pop()
    return parts


def _executor() -> str:
    """The executor that this Python worker belongs to; ``driver`` where it has none (``local[n]``, the driver itself).

    Spark does not tell its Python workers. The worker's ancestor is the executor's Java process, and every cluster
    manager starts that with ``--executor-id`` (CoarseGrainedExecutorBackend).
    """
    pid = os.getppid()
    for _ in range(4):  # daemon, its worker, a wrapper script, the Java process
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
            with open(f"/proc/{pid}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            break
        if "--executor-id" in words:
            return words[words.index("--executor-id") + 1]
        pid = parent
    return "driver"
