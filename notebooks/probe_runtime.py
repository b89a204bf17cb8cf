# Databricks notebook source
# MAGIC %md
# MAGIC # What can this compute do?
# MAGIC
# MAGIC Asks what nobody can know beforehand: whether workers read the volume, whether a session may choose its
# MAGIC Python workers, how large a file it takes. Attach it to any compute and run it; the job `probe_runtime` runs
# MAGIC it in every mode.

# COMMAND ----------

dbutils.widgets.text("volume_base_path", "/Volumes/main/default/depload")
dbutils.widgets.text("folder", "")
dbutils.widgets.text("largest_mb", "64")

# COMMAND ----------

from depload.databricks import probe

probed = probe.probe_runtime(
    dbutils.widgets.get("volume_base_path"),
    mode="notebook",
    folder=dbutils.widgets.get("folder") or None,
    largest_mb=dbutils.widgets.get("largest_mb"),
    spark=spark,
    dbutils=dbutils,
)
