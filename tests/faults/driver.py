"""A driver on Spark that loads what it is told to: a line of JSON for each load, and one for each answer.

It has an application of its own, or attaches to the one that its environment names.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import depload
from depload.local.embedded import DEFAULT_MASTER as MASTER
from depload.local.embedded import attached_session, attachment, spark_session

QUICK = {f"spark.{process}.defaultJavaOptions": "-XX:TieredStopAtLevel=1" for process in ("driver", "executor")}
AGAIN = {"spark.task.maxFailures": "8", "spark.deploy.maxExecutorRetries": "-1"}


def main() -> None:
    attached = "PYSPARK_GATEWAY_PORT" in os.environ
    with attached_session() if attached else spark_session(MASTER, **QUICK, **AGAIN) as spark:
        context = spark.sparkContext
        work = context.applicationId, context.getConf().get("spark.driver.port")
        _say({"work": work, "attachment": {} if attached else attachment(spark)})
        for line in sys.stdin:
            _say(_answer(spark, json.loads(line)))


def _answer(spark: Any, told: dict[str, Any]) -> dict[str, Any]:
    try:
        with depload.load(told["path"], spark=spark, isolation=told["isolation"], driver=False):
            return {"values": _values(spark), "left": ""}
    except depload.DeploadError as error:
        return {"error": f"{type(error).__name__}: {error}", "told": True}
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return {"error": f"{type(error).__name__}: {error}"}


def _values(spark: Any) -> list[str]:
    """What the workers import."""

    def value(_: int) -> str:
        import importlib.metadata

        import engine  # type: ignore[import-not-found]
        import parts  # type: ignore[import-not-found]

        assert importlib.metadata.version("engine") == engine.VERSION
        return f"engine {engine.VERSION} with parts {parts.VERSION}, {engine.data()}"

    return sorted(set(spark.sparkContext.parallelize(range(4), 4).map(value).collect()))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
