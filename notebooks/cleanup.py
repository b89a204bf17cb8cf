# Databricks notebook source
# MAGIC %md
# MAGIC # Job task: remove what the run published
# MAGIC
# MAGIC The last task, with *Run if: All done*. It removes first, and then fails where a task before it did not
# MAGIC succeed: otherwise a job whose last task succeeds would count as a success. `upstream` holds `task=state`
# MAGIC for each, the state being `{{tasks.<task>.result_state}}`.

# COMMAND ----------

dbutils.widgets.text("volume_base_path", "/Volumes/main/default/depload")
dbutils.widgets.text("run_id", "")
dbutils.widgets.text("upstream", "")
dbutils.widgets.dropdown("cleanup_enabled", "true", ["true", "false"])

# COMMAND ----------

from depload.databricks import tasks

cleared = tasks.cleanup(
    volume_base_path=dbutils.widgets.get("volume_base_path"),
    run_id=dbutils.widgets.get("run_id"),
    upstream=dbutils.widgets.get("upstream"),
    cleanup_enabled=dbutils.widgets.get("cleanup_enabled"),
)
