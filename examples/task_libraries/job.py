"""What a job gives to its tasks, on this machine: a session in the application that they share, and task values."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import depload
from depload.local.embedded import attached_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

session = attached_session
"""On Databricks: ``SparkSession.builder.getOrCreate()``, without ``with``."""

MARK = "::task-values::"
"""What begins a line that is for the job; every other line is for people."""


def here_or_there(function: Callable[[Any], Any], data: Sequence[Any], spark: Any, loaded: depload.Loaded) -> Any:
    """``function(data)``: on the driver where that has the wheelhouse, else on a worker, which always has."""
    if loaded.site:
        return function(data)
    return spark.sparkContext.parallelize([list(data)], 1).map(function).first()


def hand_on(spark: Any, loaded: depload.Loaded, **values: Any) -> None:
    """Give values to the job and stay, so that the tasks after this one load beside it.

    Whenever the job asks, the driver and every worker import pandas once more and say which it is.
    """
    _tell({**values, "report": loaded.report.to_json()})
    for _ in sys.stdin:
        again = depload.load(loaded.path, spark, imports=["pandas"], isolation="process")
        _tell({"report": again.report.to_json()})


def _tell(values: dict[str, Any]) -> None:
    print(f"{MARK}{json.dumps(values)}", flush=True)
