"""Progress on a terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import TaskID

    from depload.running.results import JobRun


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


class _Trees:
    """The tree of each run, drawn anew while it moves; what has ended stays on the screen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs: dict[int, JobRun] = {}
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """A line above the trees."""
        self._console.print(Text(text))

    def watch(self, run: JobRun) -> None:
        """Take note of a run."""
        with self._lock:
            self._runs[run.run_id] = run

    def __rich__(self) -> Text:
        from depload.running.rendering import tree

        with self._lock:
            return Text("\n".join(tree(run, time.time()) for _, run in sorted(self._runs.items())))


@contextlib.contextmanager
def trees() -> Iterator[_Trees]:
    """Trees of runs on standard error."""
    console = Console(stderr=True)
    shown = _Trees(console)
    with Live(shown, console=console, refresh_per_second=4, vertical_overflow="visible"):
        yield shown
