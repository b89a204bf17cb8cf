# Databricks notebook source
# MAGIC %md
# MAGIC # Convert, load and validate one source
# MAGIC
# MAGIC What each iteration of a for-each runs, all at once on one cluster. They share the executors and nothing
# MAGIC else: with `isolation="process"` each has Python workers of its own. The job's cleanup task removes what all
# MAGIC of them published.

# COMMAND ----------

dbutils.widgets.text("source", "")
dbutils.widgets.text("volume_base_path", "/Volumes/main/default/depload")
dbutils.widgets.text("run_id", "")

# COMMAND ----------

from depload.databricks import tasks

published = tasks.process_dependencies(
    source=dbutils.widgets.get("source"),
    volume_base_path=dbutils.widgets.get("volume_base_path"),
    run_id=dbutils.widgets.get("run_id"),
    task="one_run",
    dbutils=dbutils,
)

# COMMAND ----------

loaded = tasks.load_and_validate(
    published.path,
    wheelhouse_digest=published.digest,
    isolation="process",
    spark=spark,
)
