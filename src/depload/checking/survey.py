"""Ask the driver and every worker what can be imported there, with or without a wheelhouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from depload.loading import sessions
from depload.reporting.environments import Environment
from depload.reporting.report import Fingerprint
from depload.travels.activation import COMPLETE, here

if TYPE_CHECKING:
    from depload.loading.sessions import Task


def fingerprint(spark: Any = None) -> Fingerprint:  # noqa: ANN401 - a session of any kind
    """What the driver and, with a Spark session, each worker has: Python, prefix, platform, site, packages.

    ``spark`` is a SparkSession (classic or Connect), a SparkContext, or None for this process alone. Nothing is
    imported and nothing changed. Raises SparkSessionError.
    """
    session = sessions.session_of(spark)
    task = _task()
    answers = sessions.everywhere(session, task, "depload: fingerprint of every worker") if session else []
    return Fingerprint(Environment.of(task()), tuple(map(Environment.of, answers)))


def _task() -> Task:
    """What a process answers: as ``here.environment``, and ``site``, the first that is on its ``sys.path``."""
    environment, marker = sessions.by_source(here, "environment"), COMPLETE

    def ask() -> dict[str, Any]:
        import os
        import sys

        sites = (entry for entry in sys.path if os.path.isfile(os.path.join(entry, marker)))  # noqa: PTH113, PTH118
        return {**environment(), "site": next(sites, None)}

    return ask
