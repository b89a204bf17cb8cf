"""The job that keeps the base small: what is old and not in use goes, every night."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources import parts

if TYPE_CHECKING:
    from databricks.bundles.core import Bundle
    from databricks.bundles.jobs import Job

PRUNE = "prune_wheelhouses"


def jobs(bundle: Bundle) -> dict[str, Job]:
    """One job, of one task on serverless compute; its schedule runs in prod alone."""
    given = parts.of_job("volume_base_path", "older_than", "max_size", "dry_run")
    job = parts.job(
        PRUNE,
        "Removes run paths, kept wheels and what crashed runs left, once they are old and nobody uses them.",
        [parts.wheel_task(PRUNE, PRUNE, given, on=None)],
        parameters={"older_than": "7d", "max_size": "", "dry_run": "false"},
        serverless=True,
        schedule=parts.nightly(bundle),
    )
    return {PRUNE: job}
