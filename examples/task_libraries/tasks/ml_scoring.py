"""Task 2: a model learns what orders are like, and silver.daily_sales_scored says of each how unusual it is."""

from __future__ import annotations

import pickle
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import job

import depload
from depload.errors import AlreadyImportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TABLE = "silver.daily_sales_scored"
SCHEMA = (
    "order_id INT, order_date STRING, region STRING, product STRING, net_cents INT, "
    "score DOUBLE, unusual BOOLEAN, scored_with STRING"
)


def main(path: str) -> None:
    """Load what ``path`` holds, train, score on the workers, store."""
    with suppress(AlreadyImportedError):  # then the workers have it, and the driver stays as it is
        depload.load(path)  # before all else: importing pyspark imports a numpy that is preinstalled
    with job.session() as spark:
        loaded = depload.load(path, spark, isolation="process")
        print(loaded.report)

        orders = spark.table("bronze.daily_sales")
        sorted_features = orders.orderBy("order_id").select("quantity", "unit_cents", "net_cents")
        features = [tuple(row) for row in sorted_features.collect()]
        model = job.here_or_there(trained, features, spark, loaded)
        spark.sql("CREATE DATABASE IF NOT EXISTS silver")
        frame = spark.createDataFrame(orders.rdd.map(tuple).mapPartitions(scoring(model)), SCHEMA)
        frame.write.mode("overwrite").saveAsTable(TABLE)

        unusual = spark.table(TABLE).where("unusual").count()
        print(f"\n{TABLE}: {unusual} of {len(features)} orders are unusual\n")
        job.hand_on(spark, loaded, table=TABLE)


def trained(features: list[tuple[int, ...]]) -> bytes:
    """A model of what is usual, pickled: who only hands it on need not have scikit-learn."""
    import pandas as pd
    from sklearn.ensemble import IsolationForest

    frame = pd.DataFrame(features, columns=["quantity", "unit_cents", "net_cents"])
    return pickle.dumps(IsolationForest(n_estimators=25, contamination=0.02, random_state=7).fit(frame))


def scoring(model: bytes) -> Callable[[Iterable[tuple[Any, ...]]], Iterator[tuple[Any, ...]]]:
    """What scores orders on a worker."""

    def scored(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        import pandas as pd
        import sklearn

        names = ["order_id", "order_date", "region", "product", "quantity", "unit_cents", "net_cents", "prepared_with"]
        frame = pd.DataFrame.from_records(list(rows), columns=names)
        if frame.empty:  # a partition may be
            return iter(())
        scores = pickle.loads(model).decision_function(frame[["quantity", "unit_cents", "net_cents"]])  # noqa: S301 - our own
        frame["score"], frame["unusual"] = scores, scores < 0
        frame["scored_with"] = f"pandas {pd.__version__}, scikit-learn {sklearn.__version__}"
        kept = ["order_id", "order_date", "region", "product", "net_cents", "score", "unusual", "scored_with"]
        return zip(*(frame[name].tolist() for name in kept), strict=True)

    return scored


if __name__ == "__main__":
    main(sys.argv[1])
