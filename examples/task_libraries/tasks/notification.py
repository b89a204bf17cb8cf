"""Task 3: every scored order is validated with pydantic on the workers, and a summary is printed."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import job

import depload
from depload.errors import AlreadyImportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLE = "silver.daily_sales_scored"


def main(path: str) -> None:
    """Load what ``path`` holds, validate the table, print the summary."""
    with suppress(AlreadyImportedError):  # then the workers have it, and the driver stays as it is
        depload.load(path)  # before all else: importing pyspark imports a numpy that is preinstalled
    with job.session() as spark:
        loaded = depload.load(path, spark, isolation="process")
        print(loaded.report)

        columns = ("order_id", "order_date", "region", "net_cents", "score", "unusual")
        rows = spark.table(TABLE).select(*columns).rdd.map(lambda row: row.asDict())
        valid = rows.mapPartitions(validated).collect()
        print(f"\n{TABLE}: {len(valid)} orders are valid\n{job.here_or_there(summary, valid, spark, loaded)}\n")
        job.hand_on(spark, loaded, table=TABLE, valid=len(valid))


def validated(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """On a worker: each row through a model that raises where it is not as promised."""
    from datetime import date

    from pydantic import BaseModel, Field, create_model

    model: type[BaseModel] = create_model(
        "Order",
        order_id=(int, Field(ge=1)),
        order_date=(date, ...),
        region=(str, Field(pattern="^(North|East|South|West)$")),
        net_cents=(int, Field(gt=0)),
        score=(float, Field(ge=-1, le=1)),
        unusual=(bool, ...),
    )
    return (model.model_validate(row).model_dump() for row in rows)


def summary(orders: list[dict[str, Any]]) -> str:
    """Orders, takings and what is unusual, by region."""
    import pandas as pd

    regions = pd.DataFrame(orders).groupby("region")
    told = regions.agg(orders=("order_id", "count"), net_cents=("net_cents", "sum"), unusual=("unusual", "sum"))
    return str(told.to_string())


if __name__ == "__main__":
    main(sys.argv[1])
