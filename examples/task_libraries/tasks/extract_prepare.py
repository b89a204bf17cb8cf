"""Task 1: raw orders become the table bronze.daily_sales, prepared on the workers with pandas 1.5.3."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import job
import orders

import depload
from depload.errors import AlreadyImportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TABLE = "bronze.daily_sales"


def main(path: str) -> None:
    """Load what ``path`` holds, prepare the orders, store them."""
    with suppress(AlreadyImportedError):  # then the workers have it, and the driver stays as it is
        depload.load(path)  # before all else: importing pyspark imports a numpy that is preinstalled
    with job.session() as spark:
        loaded = depload.load(path, spark, isolation="process")
        print(loaded.report)

        raw = spark.sparkContext.parallelize(list(map(tuple, orders.raw())), 2)  # workers have no module `orders`
        spark.sql("CREATE DATABASE IF NOT EXISTS bronze")
        frame = spark.createDataFrame(raw.mapPartitions(prepared), orders.SCHEMA)
        frame.write.mode("overwrite").saveAsTable(TABLE)

        first = [tuple(row) for row in spark.table(TABLE).orderBy("order_id").limit(3).collect()]
        print(f"\n{TABLE} begins with\n{job.here_or_there(shown, first, spark, loaded)}\n")
        job.hand_on(spark, loaded, table=TABLE)


def prepared(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """On a worker: the rows of the table, from raw orders."""
    import pandas as pd

    names = ["order_id", "ordered_at", "region", "product", "quantity", "unit_cents"]
    frame = pd.DataFrame.from_records(list(rows), columns=names)
    frame["order_date"] = pd.to_datetime(frame["ordered_at"]).dt.strftime("%Y-%m-%d")
    frame["region"] = frame["region"].str.strip().str.title()
    frame["net_cents"] = frame["quantity"] * frame["unit_cents"]
    frame["prepared_with"] = f"pandas {pd.__version__}"
    kept = ["order_id", "order_date", "region", "product", "quantity", "unit_cents", "net_cents", "prepared_with"]
    return zip(*(frame[name].tolist() for name in kept), strict=True)


def shown(rows: list[tuple[Any, ...]]) -> str:
    """Rows as pandas prints them."""
    import pandas as pd

    return str(pd.DataFrame(rows).to_string(index=False, header=False))


if __name__ == "__main__":
    main(sys.argv[1])
