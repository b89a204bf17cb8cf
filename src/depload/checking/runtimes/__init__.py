"""What Databricks runtimes preinstall: a list for each long-term version, and what its packages require.

``<version>.json`` is written by ``scripts/update_runtimes.py``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from depload.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = re.compile(r"(?P<version>\d+\.\d+)(?:[. -].*)?")  # 15.4, and as clusters name it: 15.4.x-scala2.12


@dataclass(frozen=True)
class Preinstalled:
    """The packages of one runtime."""

    version: str
    spark: str
    """The version of Spark, which pyspark has there; it is in no list of packages."""
    packages: Mapping[str, str]
    """Version by normalised name (PEP 503)."""
    requires: Mapping[str, tuple[str, ...]]
    """What holds there of a package's Requires-Dist, without markers; what is not known of a package is left out."""


def known() -> tuple[str, ...]:
    """The versions that there is a list for, the oldest first."""
    names = (file.name for file in resources.files(__name__).iterdir())
    return tuple(sorted((name[:-5] for name in names if name.endswith(".json")), key=_order))


def read(runtime: str) -> Preinstalled:
    """The list of a runtime, as ``15.4`` or ``15.4.x-scala2.12``. Raises TargetError where there is none."""
    match = _VERSION.fullmatch(runtime.strip())
    version = match["version"] if match else ""
    if version not in known():
        raise TargetError(
            f"there is no list of what the runtime {runtime!r} preinstalls",
            f"give one of {', '.join(known())}, or check on a cluster of that runtime",
        )
    data = json.loads((resources.files(__name__) / f"{version}.json").read_text(encoding="utf-8"))
    requires = {name: tuple(lines) for name, lines in data["requires"].items()}
    return Preinstalled(version, data["spark"], data["packages"], requires)


def _order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
