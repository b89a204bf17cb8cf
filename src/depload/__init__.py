"""Bring Python dependencies into a running Spark or Databricks job: detect, convert, load, check, clean up."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from depload._version import __version__

if TYPE_CHECKING:
    from depload.checking.preflight import Check, check
    from depload.checking.survey import fingerprint
    from depload.databricks.tasks import from_task
    from depload.errors import DeploadError, DeploadWarning
    from depload.loading.loader import Loaded, load
    from depload.making.bounds import BuildLimits
    from depload.making.indexes import IndexOptions
    from depload.making.policy import Policy
    from depload.pipeline import Converted, convert, detect, verify
    from depload.published.pruning import Pruned, prune
    from depload.published.removal import Cleaned, cleanup
    from depload.reporting.comparison import Comparison
    from depload.reporting.environments import Environment, Process
    from depload.reporting.report import Fingerprint, Report
    from depload.source.formats import Detection
    from depload.standards.archive import Limits
    from depload.standards.target import Target

__all__ = [
    "BuildLimits",
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
    "Policy",
    "Process",
    "Pruned",
    "Report",
    "Target",
    "__version__",
    "check",
    "cleanup",
    "convert",
    "detect",
    "fingerprint",
    "from_task",
    "load",
    "prune",
    "verify",
]

_HOMES = {
    "BuildLimits": "making.bounds",
    "Check": "checking.preflight",
    "Cleaned": "published.removal",
    "Comparison": "reporting.comparison",
    "Converted": "pipeline",
    "DeploadError": "errors",
    "DeploadWarning": "errors",
    "Detection": "source.formats",
    "Environment": "reporting.environments",
    "Fingerprint": "reporting.report",
    "IndexOptions": "making.indexes",
    "Limits": "standards.archive",
    "Loaded": "loading.loader",
    "Policy": "making.policy",
    "Process": "reporting.environments",
    "Pruned": "published.pruning",
    "Report": "reporting.report",
    "Target": "standards.target",
    "check": "checking.preflight",
    "cleanup": "published.removal",
    "convert": "pipeline",
    "detect": "pipeline",
    "fingerprint": "checking.survey",
    "from_task": "databricks.tasks",
    "load": "loading.loader",
    "prune": "published.pruning",
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
