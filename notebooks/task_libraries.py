# Databricks notebook source
# MAGIC %md
# MAGIC # A task of the isolation lab
# MAGIC
# MAGIC `examples/task_libraries` has three tasks with a version of pandas each. Here they run as tasks of a job
# MAGIC that share a cluster; on one machine `python examples/task_libraries/run.py` runs the same files. All that
# MAGIC differs is what a job gives its tasks: the session, and task values.

# COMMAND ----------

dbutils.widgets.text("task", "extract_prepare")
dbutils.widgets.text("wheelhouse_task", "process_extract_prepare")
dbutils.widgets.text("lab", "/Workspace/Users/you@example.com/.bundle/depload/test/files/examples/task_libraries")

# COMMAND ----------

import contextlib
import runpy
import sys

lab = dbutils.widgets.get("lab")
sys.path.insert(0, lab)

import job


def hand_on(_spark, _loaded, **values):
    for key, value in values.items():
        dbutils.jobs.taskValues.set(key, value)


job.session = lambda: contextlib.nullcontext(spark)
job.hand_on = hand_on

# COMMAND ----------

path = dbutils.jobs.taskValues.get(taskKey=dbutils.widgets.get("wheelhouse_task"), key="wheelhouse_path")
sys.argv[1:] = [path]
# As a script, not as a module: what workers are sent by name they would have to import.
runpy.run_path(f"{lab}/tasks/{dbutils.widgets.get('task')}.py", run_name="__main__")
