"""A reader that opens every run path there is, all the time, while others are killed, and says what it was shown."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from depload.errors import AlteredWheelhouseError, NotAWheelhouseError
from depload.published import runs
from faults import processes
from faults.outcomes import WRONG, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

_PAUSE = 0.002
FEW = 20  # findings that are told; a reader that sees one thing sees it often


class Witness:
    """What the reader has seen so far."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def told(self) -> tuple[Counter[str], list[Finding]]:
        """Since it was asked last: how often it was answered how, and what may not be."""
        self._connection.send("tell")
        facts, findings = self._connection.recv()
        return facts, findings


@contextlib.contextmanager
def watching(bases: Path, *, altering: bool = False) -> Iterator[Witness]:
    """A process that reads every base below ``bases`` until the end.

    Where files are altered on purpose (``altering``), a reader that finds that out is right.
    """
    refusals = (NotAWheelhouseError, AlteredWheelhouseError) if altering else (NotAWheelhouseError,)
    with processes.aside(lambda connection: _watch(bases, refusals, connection)) as connection:
        yield Witness(connection)


def _watch(bases: Path, refusals: tuple[type[Exception], ...], connection: Connection) -> None:
    facts: Counter[str] = Counter()
    findings: list[Finding] = []
    took = 0.0
    while True:
        if connection.poll(max(_PAUSE, took)):  # half of the time, so that there is a processor for who is watched
            connection.recv()
            connection.send((facts, findings[:FEW]))
            facts, findings = Counter(), []
        started = time.monotonic()
        for base in _inside(bases):
            for run in _inside(base):
                if runs.is_run_name(os.path.basename(run)):  # noqa: PTH119
                    seen = _seen(run, refusals)
                    if not seen:
                        facts["run paths read whole"] += 1
                    elif seen == _NONE:
                        facts["run paths refused"] += 1
                    elif os.path.isdir(base):  # noqa: PTH112 - else it was put away by this harness
                        findings.append(Finding(WRONG, f"a reader of {run} met {seen}"))
        took = time.monotonic() - started


_NONE = "none"


def _seen(run: str, refusals: tuple[type[Exception], ...]) -> str:
    """What is wrong with what a reader gets; nothing where that is all of it, ``_NONE`` where there is none."""
    try:
        found = runs.open_run(run)
        runs.check(found)
    except refusals:
        return _NONE
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        time.sleep(_PAUSE)
        return f"{type(error).__name__}: {error}"
    return ""


def _inside(folder: str | Path) -> list[str]:
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
        return [os.path.join(folder, name) for name in names]  # noqa: PTH118
    return []
