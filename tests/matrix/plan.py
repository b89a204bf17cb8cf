"""Which cells there are: session kind x topology x PySpark x Python x isolation, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "local[2]"
CLUSTER = "local-cluster[2,1,1024]"
STANDALONE = "standalone, 2 workers"
NOWHERE = "-"

CONNECT_JAR = "3.5.7", "15366e21273a874c760b51fa00743a2acb8fa78642cc35d7a076a3ade0c5eef6"
"""Version and SHA-256 of the Connect server's jar, for the version of PySpark in spark-3.5-connect.txt."""

OLD_NUMPY = ("pandas==2.3.3", "numpy==1.26.3")
NEW_NUMPY = ("pandas==2.3.3", "numpy==2.1.3")


@dataclass(frozen=True)
class Line:
    """A line of PySpark releases, with what its cells replace."""

    name: str
    requirements: str
    """The list in tests/environments that an environment of it is made from."""
    replacing: tuple[str, ...] = ()
    """pandas in another version than there, with a numpy that goes with the pyarrow there."""


@dataclass(frozen=True)
class Runtime:
    """A Databricks runtime, of which there is a list of packages."""

    name: str
    python: str
    pyspark: str
    replacing: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One thing to prove, or the reason why not."""

    session: str
    topology: str
    line: Line
    python: str
    isolation: str
    runtime: Runtime | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """One word for each column, as ``--only`` matches it."""
        where = self.runtime.name if self.runtime else f"spark-{self.line.name}"
        return f"{self.session}/{self.topology}/{where}/python-{self.python}/{self.isolation}"

    @property
    def needs_vector_module(self) -> bool:
        """Whether it starts a Spark 4."""
        return self.session in ("classic", "connect") and not self.line.name.startswith("3.")

    @property
    def bench(self) -> tuple[object, ...]:
        """Cells in a row that share this share an environment and a topology."""
        return self.session, self.topology, self.line, self.python, self.runtime, self.reason


NONE = Line("none", "no-spark.txt")
V34 = Line("3.4", "spark-3.4.txt", ("pandas==2.1.4", "numpy==1.26.3"))
V35 = Line("3.5", "spark-3.5.txt", OLD_NUMPY)
V35_CONNECT = Line("3.5", "spark-3.5-connect.txt", OLD_NUMPY)
V40 = Line("4.0", "spark-4.0.txt", NEW_NUMPY)
NEWEST = Line("newest", "spark-newest.txt", NEW_NUMPY)
RUNTIMES = (
    Runtime("dbr-14.3", "3.10", "3.5.0", ("pandas==2.1.4", "numpy==1.26.4")),
    Runtime("dbr-17.3", "3.12", "4.0.0", ("pandas==2.3.3", "numpy==2.2.6")),
)
PYTHONS = ("3.10", "3.11", "3.12")
MAIN = "3.11"
"""The Python of what is not proven with each."""


def cells() -> list[Cell]:
    """All of them, those of one environment and topology next to each other."""
    return [*_classic(), *_connect(), *_no_spark(), *_runtimes(), *_absent()]


def is_fast(cell: Cell) -> bool:
    """The part that shows most in a few minutes: the newest and 3.5, on executors of their own, with one Python."""
    return cell.python == MAIN and cell.line in (NEWEST, V35, V35_CONNECT) and cell.topology == CLUSTER


def _classic() -> Iterator[Cell]:
    yield Cell("classic", CLUSTER, V34, MAIN, "shared")
    for line, pythons in ((V35, PYTHONS), (V40, (MAIN,)), (NEWEST, PYTHONS)):
        for python in pythons:
            yield from _both(Cell("classic", CLUSTER, line, python, ""))
    for line in (V35, NEWEST):
        for topology in (LOCAL, STANDALONE):
            yield from _both(Cell("classic", topology, line, MAIN, ""))


def _connect() -> Iterator[Cell]:
    for line in (V35_CONNECT, NEWEST):
        for python in PYTHONS:
            yield from _both(Cell("connect", CLUSTER, line, python, ""))


def _no_spark() -> Iterator[Cell]:
    for python in (*PYTHONS, "3.13"):
        yield Cell("none", NOWHERE, NONE, python, "shared")


def _runtimes() -> Iterator[Cell]:
    for runtime in RUNTIMES:
        line = Line(runtime.pyspark, "", runtime.replacing)
        for session, isolation in (("install", "-"), ("classic", "shared"), ("classic", "process"), ("lab", "-")):
            topology = CLUSTER if session == "classic" else NOWHERE
            yield Cell(session, topology, line, runtime.python, isolation, runtime)


def _absent() -> Iterator[Cell]:
    """What there cannot be, so that nobody looks for it."""
    yield Cell("none", NOWHERE, NONE, "any", "process", reason="without Spark there are no workers to be apart from")
    oldest = Cell("connect", CLUSTER, V34, "any", "both")
    yield replace(oldest, reason="the Connect client of 3.4 cannot send files to workers; it can from 3.5 on")
    yield replace(oldest, line=V40, reason="3.5 and the newest stand for it")
    alone = "a session can name an interpreter of its own from PySpark 3.5 on (spark.sql.execution.pyspark.python)"
    yield Cell("classic", CLUSTER, V34, "any", "process", reason=alone)
    yield Cell("classic", CLUSTER, V34, "3.12", "both", reason="PySpark 3.4 is for Python 3.7 to 3.11")


def _both(cell: Cell) -> Iterator[Cell]:
    for isolation in ("shared", "process"):
        yield replace(cell, isolation=isolation)
