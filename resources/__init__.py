"""The jobs of the bundle, in Python; databricks.yml has the targets and variables."""

from __future__ import annotations

from databricks.bundles.core import Bundle, Resources

from resources import examples, labs, maintenance, probes

__all__ = ["load_resources"]


def load_resources(bundle: Bundle) -> Resources:
    """Every job, for the target that is rendered."""
    resources = Resources()  # type: ignore[no-untyped-call]
    for module in (examples, labs, probes, maintenance):
        for name, job in module.jobs(bundle).items():
            resources.add_job(name, job)
    return resources
