"""A run's work: depload's own runner does it, with this workspace as the one that the tasks talk to."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from depload.running.compute import Compute
    from depload.running.results import JobRun
    from workspace.dbfs import Dbfs
    from workspace.jobruns import Run
    from workspace.objects import Objects
    from workspace.volumes import Volumes


@dataclass(frozen=True)
class LocalExecution:
    """Runs a job's tasks as processes of this machine, which reach volumes and DBFS through the workspace's API.

    Without a ``compute``, each run gets one of its own.
    """

    folder: Path
    compute: Compute | None
    files: WorkspaceFiles
    environment: Callable[[], Mapping[str, str]]
    secrets: Callable[[], dict[str, dict[str, str]]]

    def __call__(self, run: Run, earlier: JobRun | None, rerun: Collection[str]) -> JobRun:
        from depload.running import runs
        from depload.running.compute import Compute
        from depload.running.jobs import Job

        def watch(known: JobRun) -> None:
            run.known = known

        folder = self.folder / str(run.run_id)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            return runs.run(
                Job.of(run.settings),
                run_id=run.run_id,
                job_id=run.job_id,
                files=self.files,
                place=runs.Place(results=folder / "logs", scratch=folder / "scratch", root=None),
                compute=self.compute or stack.enter_context(Compute(folder)),
                parameters=run.parameters,
                environment=self.environment(),
                secrets=self.secrets(),
                watch=watch,
                cancel=run.cancel,
                earlier=earlier,
                rerun=rerun,
            )


@dataclass(frozen=True)
class WorkspaceFiles:
    """Where notebooks, Python files and wheels lie that a job names by their addresses in the workspace."""

    objects: Objects
    volumes: Volumes
    dbfs: Dbfs

    def local(self, path: str) -> Path:
        """The file. Raises FileNotFoundError."""
        address = re.sub(r"^dbfs:/*", "dbfs:/", path)
        if address.removeprefix("dbfs:").startswith("/Volumes/"):
            place = self.volumes.place(address.removeprefix("dbfs:"))
        elif address.startswith("dbfs:"):
            place = self.dbfs.disk.at(address.removeprefix("dbfs:"))
        else:
            place = self.objects.place(address)
        if not place.is_file():
            raise FileNotFoundError(path)
        return place
