"""Bring Python dependencies into a running Spark or Databricks job: detect, convert, load, check, clean up."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from depload._version import __version__

if TYPE_CHECKING:
    from depload.archive import Limits
    from depload.errors import DeploadError
    from depload.formats import Detection
    from depload.indexes import IndexOptions
    from depload.loader import Loaded, load
    from depload.pipeline import Converted, convert, detect, verify
    from depload.removal import Cleaned, cleanup
    from depload.target import Target

__all__ = [
    "Cleaned",
    "Converted",
    "DeploadError",
    "Detection",
    "IndexOptions",
    "Limits",
    "Loaded",
    "Target",
    "__version__",
    "cleanup",
    "convert",
    "detect",
    "load",
    "verify",
]

_HOMES = {
    "Cleaned": "removal",
    "Converted": "pipeline",
    "DeploadError": "errors",
    "Detection": "formats",
    "IndexOptions": "indexes",
    "Limits": "archive",
    "Loaded": "loader",
    "Target": "target",
    "cleanup": "removal",
    "convert": "pipeline",
    "detect": "pipeline",
    "load": "loader",
    "verify": "pipeline",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for: a task that only loads never imports the resolver."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
