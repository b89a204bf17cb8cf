# Databricks notebook source
# MAGIC %md
# MAGIC # Job task: work with what the first task published
# MAGIC
# MAGIC Load before anything else is imported: Python cannot replace a module that is there already.

# COMMAND ----------

dbutils.widgets.text("wheelhouse_task", "process_dependencies", "The task that made the wheelhouse")
dbutils.widgets.text("debug_path", "", "A run path, for running this outside of a job")

# COMMAND ----------

import depload

loaded = depload.from_task(
    dbutils.widgets.get("wheelhouse_task"),
    spark,
    isolation="process",
    debug_path=dbutils.widgets.get("debug_path") or None,
    dbutils=dbutils,
)
print(loaded.report)

# COMMAND ----------

# MAGIC %md
# MAGIC ## From here on it is your code
# MAGIC Functions that Spark runs import the packages where they run. This one answers where a worker has pandas
# MAGIC from.

# COMMAND ----------

from pyspark.sql.functions import udf


@udf("string")
def where(_):
    import pandas as pd

    return f"pandas {pd.__version__} from {pd.__file__}"


spark.range(2).select(where("id")).show(truncate=False)
