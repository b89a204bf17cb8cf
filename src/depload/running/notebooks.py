"""Notebooks in the source format, cell by cell.

https://docs.databricks.com/en/notebooks/notebook-export-import.html: a Python file that begins with ``# Databricks
notebook source``, whose cells are divided by ``# COMMAND ----------``, and in which the lines of a cell with a magic
begin with ``# MAGIC``.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload.errors import NotebookError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEADER = "# Databricks notebook source"
_DIVIDER = "# COMMAND ----------"
_MAGIC = "# MAGIC"
_TITLE = "# DBTITLE"
_RUN = re.compile(r"%run\s+(?:\"([^\"]+)\"|(\S+))((?:\s+\$\w+=(?:\"[^\"]*\"|\S+))*)\s*")
_GIVEN = re.compile(r"\$(\w+)=(?:\"([^\"]*)\"|(\S+))")
_TEXT = ("%md", "%md-sandbox")


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook; ``magic`` is empty where it is Python."""

    notebook: Path
    number: int
    line: int
    """Where its source begins, from 1."""
    magic: str
    source: str

    def fault(self, why: str, line: int | None = None) -> NotebookError:
        """An error that names this cell."""
        return NotebookError(str(self.notebook), why, self.number, line or self.line)


class ExitNotebook(BaseException):
    """``dbutils.notebook.exit`` was called, with ``value``; no error, so that no ``except Exception`` stops it."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


def read(notebook: Path) -> list[Cell]:
    """The cells of a notebook that do something. Raises NotebookError for one that cannot be run on this machine."""
    lines = notebook.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].strip() != HEADER:
        raise NotebookError(str(notebook), f"is not in the source format: its first line is not {HEADER!r}")
    cells = [cell for cell in _cells(notebook, lines) if cell.source.strip() and cell.magic not in _TEXT]
    for cell in cells:
        if cell.magic not in ("", "%python", "%run", "%sql"):
            raise cell.fault(f"{cell.magic} does not run on this machine; %md, %python, %run and %sql do")
    return cells


def _cells(notebook: Path, lines: list[str]) -> Iterator[Cell]:
    begin, number = 1, 1
    for end in [*(at for at, line in enumerate(lines) if line.startswith(_DIVIDER)), len(lines)]:
        yield _cell(notebook, number, lines[begin:end], begin + 1)
        begin, number = end + 1, number + 1


def _cell(notebook: Path, number: int, lines: list[str], line: int) -> Cell:
    """One cell; lines before its source are passed over, so that the line is that of its source."""
    while lines and (not lines[0].strip() or lines[0].startswith(_TITLE)):
        lines, line = lines[1:], line + 1
    if not lines or not lines[0].startswith(_MAGIC):
        return Cell(notebook, number, line, "", "\n".join(lines))
    source = [each.removeprefix(_MAGIC).removeprefix(" ") for each in lines if each.startswith(_MAGIC)]
    magic = source[0].split(maxsplit=1)[0] if source[0].strip().startswith("%") else ""
    if magic in ("%python", "%sql"):
        source[0] = source[0].strip().removeprefix(magic).strip()
    return Cell(notebook, number, line, magic, "\n".join(source))


# --- running --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """What a notebook's cells find: its namespace, and what its magics need."""

    names: dict[str, Any]
    give: Callable[[str, str], None]
    """Sets a widget, for ``%run ./other $name=value``."""
    sql: Callable[[str], None]

    def run(self, notebook: Path) -> None:
        """Every cell in order, in the one namespace. Raises NotebookError, which names the cell and the line."""
        for cell in read(notebook):
            if cell.magic == "%run":
                self._include(cell)
            elif cell.magic == "%sql":
                self._inside(cell, self._query)
            else:
                self._inside(cell, self._execute)

    def _include(self, cell: Cell) -> None:
        match = _RUN.fullmatch(cell.source.strip())
        if match is None:
            raise cell.fault("%run stands alone in its cell, with the path of a notebook and $name=value")
        for name, quoted, plain in _GIVEN.findall(match[3]):
            self.give(name, quoted or plain)
        found = beside(cell.notebook, match[1] or match[2])
        if found is None:
            raise cell.fault(f"%run: there is no notebook {match[1] or match[2]}")
        self.run(found)

    def _query(self, cell: Cell) -> None:
        self.sql(cell.source)

    def _execute(self, cell: Cell) -> None:
        # Empty lines before it, so that a traceback shows the lines of the file.
        code = compile("\n" * (cell.line - 1) + cell.source, str(cell.notebook), "exec")
        exec(code, self.names)  # noqa: S102 - that is what a notebook is for

    def _inside(self, cell: Cell, action: Callable[[Cell], None]) -> None:
        try:
            action(cell)
        except (ExitNotebook, NotebookError, KeyboardInterrupt):
            raise
        except SystemExit as ended:
            if ended.code not in (None, 0):
                raise cell.fault(f"SystemExit: {ended.code}", _line(cell, ended)) from ended
        except BaseException as error:
            raise cell.fault(f"{type(error).__name__}: {error}", _line(cell, error)) from error


def beside(notebook: Path, path: str) -> Path | None:
    """Another notebook, by a path that is relative to this one; with or without ``.py``."""
    there = notebook.parent / path
    return next((each for each in (there, Path(f"{there}.py")) if each.is_file()), None)


def _line(cell: Cell, error: BaseException) -> int | None:
    """The line of the notebook that was being run when the error came."""
    if isinstance(error, SyntaxError) and error.filename == str(cell.notebook):
        return error.lineno
    frames = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(cell.notebook)
    ]
    return frames[0] if frames else None
