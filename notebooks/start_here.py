# Databricks notebook source
# MAGIC %md
# MAGIC # depload: bring a zip of dependencies to this session
# MAGIC
# MAGIC Run it cell by cell. You need the wheel of depload (on the cluster as a library, or on serverless compute in
# MAGIC the *Environment* panel), a zip, and a directory on a volume.

# COMMAND ----------

dbutils.widgets.text("source", "", "Zip of dependencies")
dbutils.widgets.text("volume_base_path", "/Volumes/main/default/depload", "Where run paths are made")

source = dbutils.widgets.get("source")
base = dbutils.widgets.get("volume_base_path")

# COMMAND ----------

# MAGIC %md
# MAGIC ## What is it?
# MAGIC Nothing of the zip is run for this.

# COMMAND ----------

import depload

detection = depload.detect(source)
print(detection.format, *(f"{root.kind}: {root.path}" for root in detection.roots), sep="\n")

# COMMAND ----------

# MAGIC %md
# MAGIC ## Make a wheelhouse of it
# MAGIC One file, for exactly this Python and platform, below a fresh run path.

# COMMAND ----------

wheelhouse = depload.convert(source, base)
print(wheelhouse.path)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What would loading meet here?
# MAGIC What is replaced, what is hidden, what cannot work together. Nothing is loaded yet.

# COMMAND ----------

print(depload.check(wheelhouse.path, spark, isolation="process"))

# COMMAND ----------

# MAGIC %md
# MAGIC ## Load it, and see the proof
# MAGIC With `isolation="process"` the functions of this session run in Python workers of their own, in which your
# MAGIC packages come before the runtime's. Leave it out where the wheelhouse only adds what the runtime lacks.

# COMMAND ----------

loaded = depload.load(wheelhouse.path, spark, isolation="process")
print(loaded.report)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Put everything back

# COMMAND ----------

loaded.unload()
depload.cleanup(wheelhouse.path)
