"""Ask Python workers something through an ordinary function of the session, on a classic session or Spark Connect."""

from __future__ import annotations

import json
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def is_connect(spark: Any) -> bool:
    """Whether this is a Spark Connect session, which has no SparkContext."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def ask(spark: Any, question: Callable[[], dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``question``'s answers from ``count`` rows, one a partition, with ``host`` and ``pid`` of who answered.

    It is a UDF in a select. ``question`` is pickled by value, so it is a nested function that names no globals.
    """

    def answer(_: int) -> str:
        import json
        import os
        import socket
        import time

        found = {"host": socket.gethostname(), "pid": os.getpid(), **question()}
        time.sleep(0.05)  # so that the other rows go to other slots
        return json.dumps(found)

    functions = import_module("pyspark.sql.connect.functions" if is_connect(spark) else "pyspark.sql.functions")
    plain = {"useArrow": False} if "useArrow" in signature(functions.udf).parameters else {}  # from 3.5 on
    asking = functions.udf(answer, "string", **plain)
    rows = spark.range(0, count, 1, count).select(asking("id")).collect()
    return [json.loads(row[0]) for row in rows]
