"""Bring Python dependencies into a running Spark or Databricks job."""

__version__ = "0.1.0"
