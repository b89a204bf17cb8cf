# Databricks notebook source
# MAGIC %md
# MAGIC # Job task: make the wheelhouse
# MAGIC
# MAGIC The first task of a job. It sets the task values `wheelhouse_path`, `wheelhouse_digest` and
# MAGIC `wheelhouse_format`; the tasks after it read them with `depload.from_task("process_dependencies", spark)`,
# MAGIC or are given `{{tasks.process_dependencies.values.wheelhouse_path}}` as a parameter.

# COMMAND ----------

for name, default in {
    "source": "",
    "volume_base_path": "/Volumes/main/default/depload",
    "run_id": "",  # {{job.run_id}} in a job, so that a retry finds what the first attempt published
    "task": "process_dependencies",  # this task's key, where a job has several of its kind
}.items():
    dbutils.widgets.text(name, default)

# COMMAND ----------

from depload.databricks import tasks

published = tasks.process_dependencies(
    source=dbutils.widgets.get("source"),
    volume_base_path=dbutils.widgets.get("volume_base_path"),
    run_id=dbutils.widgets.get("run_id"),
    task=dbutils.widgets.get("task"),
    dbutils=dbutils,
)
