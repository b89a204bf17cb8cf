"""What Databricks gives a process, found where it runs: the notebook's objects, the cluster's dbutils."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from typing import Any

from depload.errors import ToolMissingError

RUNTIME = "DATABRICKS_RUNTIME_VERSION"
"""The environment variable that says which runtime a cluster has, as ``14.3``; on serverless ``client.3.0``."""


def runtime() -> tuple[int, int] | None:
    """The Databricks runtime of this cluster; None elsewhere, and on serverless compute."""
    found = re.match(r"(\d+)\.(\d+)", os.environ.get(RUNTIME, ""))
    return (int(found[1]), int(found[2])) if found else None


def find_dbutils() -> Any:  # noqa: ANN401 - Databricks' object
    """The dbutils of this notebook or cluster; None off a cluster, where the SDK's own would only pretend."""
    found = in_notebook("dbutils")
    if found is None and RUNTIME in os.environ:
        found = _of_runtime() or _of_pyspark()
    return None if found is None or is_stand_in(found) else found


def is_stand_in(dbutils: Any) -> bool:  # noqa: ANN401
    """Whether this is ``databricks.sdk``'s stand-in, whose ``taskValues.set`` keeps the value to itself."""
    return type(dbutils).__module__.partition(".")[0] == "databricks"


def in_notebook(name: str) -> Any:  # noqa: ANN401
    """What the notebook, or else the script, calls ``name``; None where nothing is called that."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    places = [*([shell.user_ns] if shell else []), vars(sys.modules["__main__"])]
    return next((place[name] for place in places if place.get(name) is not None), None)


def _of_runtime() -> Any:  # noqa: ANN401
    try:
        found = import_module("databricks.sdk.runtime")
    except Exception:  # noqa: BLE001 - without a runtime it authenticates, and that fails in many ways
        return None
    return None if found.is_local_implementation else found.dbutils


def _of_pyspark() -> Any:  # noqa: ANN401
    try:
        return import_module("pyspark.dbutils").DBUtils(find_spark())
    except Exception:  # noqa: BLE001 - a module of Databricks' pyspark alone, which says in its own ways that it cannot
        return None


def find_spark() -> Any:  # noqa: ANN401
    """The notebook's Spark session, else the one of this process. Raises ToolMissingError without pyspark."""
    if (found := in_notebook("spark")) is not None:
        return found
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise ToolMissingError("pyspark", "a Spark session", "hand over spark=, or run where there is one") from None
    return SparkSession.builder.getOrCreate()
