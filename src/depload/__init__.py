"""Bring Python dependencies into a running Spark or Databricks job: detect, convert, load, check, clean up."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from depload._version import __version__

if TYPE_CHECKING:
    from depload.archive import Limits
    from depload.comparison import Comparison
    from depload.environments import Environment, Process
    from depload.errors import DeploadError, DeploadWarning
    from depload.formats import Detection
    from depload.indexes import IndexOptions
    from depload.loader import Loaded, load
    from depload.pipeline import Converted, convert, detect, verify
    from depload.preflight import Check, check
    from depload.removal import Cleaned, cleanup
    from depload.report import Fingerprint, Report
    from depload.survey import fingerprint
    from depload.target import Target

__all__ = [
    "Check",
    "Cleaned",
    "Comparison",
    "Converted",
    "DeploadError",
    "DeploadWarning",
    "Detection",
    "Environment",
    "Fingerprint",
    "IndexOptions",
    "Limits",
    "Loaded",
    "Process",
    "Report",
    "Target",
    "__version__",
    "check",
    "cleanup",
    "convert",
    "detect",
    "fingerprint",
    "load",
    "verify",
]

_HOMES = {
    "Check": "preflight",
    "Cleaned": "removal",
    "Comparison": "comparison",
    "Converted": "pipeline",
    "DeploadError": "errors",
    "DeploadWarning": "errors",
    "Detection": "formats",
    "Environment": "environments",
    "Fingerprint": "report",
    "IndexOptions": "indexes",
    "Limits": "archive",
    "Loaded": "loader",
    "Process": "environments",
    "Report": "report",
    "Target": "target",
    "check": "preflight",
    "cleanup": "removal",
    "convert": "pipeline",
    "detect": "pipeline",
    "fingerprint": "survey",
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
