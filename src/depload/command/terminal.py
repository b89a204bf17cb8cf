"""Progress on a terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID


class _Bars:
    """A line for the phase, and a bar for each file that is arriving."""

    def __init__(self, phases: Progress, files: Progress) -> None:
        self._phases = phases
        self._phase = phases.add_task("", total=None)
        self._files = files
        self._tasks: dict[str, TaskID] = {}

    def phase(self, name: str) -> None:
        """Show the phase."""
        self._phases.update(self._phase, description=name)

    def downloaded(self, filename: str, done: int, total: int | None) -> None:
        """Move the file's bar; a file that is here needs none."""
        task = self._tasks.get(filename)
        if task is None:
            task = self._tasks[filename] = self._files.add_task(f"  {filename[:60]}", total=total)
        self._files.update(task, completed=done, total=total, visible=done != total)


@contextlib.contextmanager
def bars() -> Iterator[_Bars]:
    """Progress on standard error, gone when it is done."""
    phases = Progress(SpinnerColumn(), TextColumn("{task.description}"))
    files = Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Live(Group(phases, files), console=Console(stderr=True), transient=True):
        yield _Bars(phases, files)
