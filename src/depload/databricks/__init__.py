"""Databricks jobs: their tasks, what these hand on, and what a workspace can do.

Nothing of Databricks is imported before a task runs, and nothing of it is needed: every platform object can be handed
in, and off a cluster task values live in files (``DEPLOAD_TASK_VALUES``).
"""
