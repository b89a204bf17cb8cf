"""Progress on a terminal."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID


class _Bars:
    """A line for the phase, and a bar for each file that is arriving."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._phase = progress.add_task("", total=None)
        self._files: dict[str, TaskID] = {}

    def phase(self, name: str) -> None:
        """Show the phase."""
        self._progress.update(self._phase, description=name)

    def downloaded(self, filename: str, done: int, total: int | None) -> None:
        """Move the file's bar; a file that is here needs none."""
        task = self._files.get(filename)
        if task is None:
            task = self._files[filename] = self._progress.add_task(f"  {filename[:60]}", total=total)
        self._progress.update(task, completed=done, total=total, visible=done != total)


@contextlib.contextmanager
def bars() -> Iterator[_Bars]:
    """Progress on standard error, gone when it is done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bars(progress)
