"""The isolation lab: three tasks with dependencies of their own, alive at the same time on one Spark application.

python examples/task_libraries/run.py [--master M] [--base DIR] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import job
import orders

import depload
from depload.errors import ResolutionError
from depload.local.embedded import DEFAULT_MASTER, attachment, spark_session
from depload.making.resolver import resolve
from depload.reporting.plain import counted, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Fits = Callable[[Sequence[str], str], bool]

LAB = Path(__file__).resolve().parent
TASKS = ("extract_prepare", "ml_scoring", "notification")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
BRONZE = "bronze.daily_sales"
_OPTIONS = depload.IndexOptions(only_binary=(":all:",))  # pandas takes minutes to build, where it builds at all
_SMALL = {
    "spark.sql.shuffle.partitions": "2",  # a thousand orders need no more
    # Only the quick one of Java's two compilers: the other takes the cores that a short application starts on.
    "spark.driver.defaultJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.executor.defaultJavaOptions": "-XX:TieredStopAtLevel=1",
}
_PATIENCE = 60.0  # seconds that a task has to end once it is let go


class LabError(Exception):
    """The lab cannot go on; the message says why."""


class Table(NamedTuple):
    """What a table holds."""

    name: str
    rows: int
    net_cents: int


@dataclass
class Task:
    """One of the three, and what became of it."""

    name: str
    asked: Sequence[str]
    """Its requirements."""
    converted: depload.Converted | None = None
    unfit: str = ""
    """Why it cannot run on this Python."""
    needs: Sequence[str] = ()
    """The Pythons that it could run on, where it cannot run on this one."""
    values: dict[str, Any] = field(default_factory=dict)
    """What it handed on when its work was done."""
    proof: dict[str, Any] = field(default_factory=dict)
    """Its report of the moment when all tasks were alive."""

    @property
    def pandas(self) -> str:
        """The version that it asks for."""
        return next(line.removeprefix("pandas==") for line in self.asked if line.startswith("pandas=="))

    @property
    def driver(self) -> dict[str, Any] | None:
        """Its driver; None where that was left alone, because another version had been imported there."""
        found: dict[str, Any] | None = self.proof["driver"]
        return found

    @property
    def workers(self) -> list[dict[str, Any]]:
        """Its Python workers."""
        found: list[dict[str, Any]] = self.proof["workers"]
        return found

    def to_json(self) -> dict[str, Any]:
        """What it handed on and its proof; or why it cannot run here, and where it could."""
        found = {"name": self.name, "pandas": self.pandas, "runs": not self.unfit}
        became = {"why": self.unfit, "needs": self.needs} if self.unfit else {**self.values, "proof": self.proof}
        return {**found, **became}


def main() -> int:
    """Run the lab; the exit code is 1 where anything is not as it should be."""
    parser = argparse.ArgumentParser(description="Three tasks, three versions of pandas, one Spark application.")
    parser.add_argument("--master", default=DEFAULT_MASTER, help="Spark's master [default: %(default)s]")
    parser.add_argument("--base", metavar="DIR", help="where run paths are made [default: a temporary directory]")
    parser.add_argument("--json", action="store_true", help="print one JSON document; all else goes to standard error")
    asked = parser.parse_args()
    people = sys.stderr if asked.json else sys.stdout

    def tell(text: str) -> None:
        print(text, file=people, flush=True)

    with contextlib.ExitStack() as stack:
        base = asked.base or stack.enter_context(tempfile.TemporaryDirectory(prefix="depload-lab-"))
        try:
            tasks = [_convert(name, base, stack, tell) for name in TASKS]
            tables = _run(tasks, asked.master, tell)
        except (depload.DeploadError, LabError) as error:
            print(f"\nerror: {error}", file=sys.stderr, flush=True)
            return 1
        wrong = problems(tasks, tables)
    tell(f"\n{summary(tasks, wrong)}")
    if asked.json:
        told = {"tasks": [task.to_json() for task in tasks], "tables": [row._asdict() for row in tables]}
        print(json.dumps({**told, "problems": wrong}, indent=1))
    return int(bool(wrong))


# --- from requirements to wheelhouses --------------------------------------------------------------------------------


def _convert(name: str, base: str, stack: contextlib.ExitStack, tell: Callable[[str], None]) -> Task:
    """Publish what a task asks for, until the stack ends; where that cannot be had, say which Python could have it."""
    source = LAB / "requirements" / f"{name}.txt"
    task = Task(name, _lines(source))
    tell(f"{name}: converting {', '.join(task.asked)} ...")
    try:
        task.converted = depload.convert(source, base, options=_OPTIONS, cache=False)
    except ResolutionError:
        running = depload.Target.running().python
        task.unfit, task.needs = unfit(task.asked, running, _fits)
        tell(f"{name} cannot run on Python {running}: {task.unfit}; {needed(task.needs)}")
        return task
    stack.callback(_clean, task.converted.path, tell)
    seconds, count = task.converted.seconds["total"], len(task.converted.wheels)
    tell(f"{name}: {count} wheels in {seconds:.1f} s, {task.converted.path}")
    return task


def _clean(path: str, tell: Callable[[str], None]) -> None:
    depload.cleanup(path, leased="remove")  # the tasks have ended
    tell(f"removed {path}")


def _lines(requirements: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _fits(requirements: Sequence[str], python: str) -> bool:
    """Whether there are wheels that meet the requirements on that Python, on a machine like this one."""
    options = _OPTIONS.over(depload.IndexOptions.configured())
    with tempfile.TemporaryDirectory(prefix="depload-lab-") as scratch:
        try:
            resolve(requirements, [], depload.Target.of(python=python), options=options, scratch=Path(scratch))
        except ResolutionError:
            return False
    return True


def unfit(asked: Sequence[str], running: str, fits: Fits) -> tuple[str, list[str]]:
    """Why requirements cannot be met on the running Python, and on which they can."""
    missing = [each.replace("==", " ") for each in asked if not fits([each], running)]
    why = f"there is no wheel of {' or '.join(missing)} for it" if missing else "no wheels for it meet all it asks for"
    return why, [python for python in PYTHONS if python != running and fits(asked, python)]


def needed(pythons: Sequence[str]) -> str:
    """The Pythons that would do, as a person says it."""
    if not pythons:
        return f"nor on any other Python from {PYTHONS[0]} to {PYTHONS[-1]} on this platform"
    *others, last = pythons
    return f"it needs Python {', '.join(others)}{' or ' if others else ''}{last}"


# --- the tasks, each a driver of its own ----------------------------------------------------------------------------


def _run(tasks: Sequence[Task], master: str, tell: Callable[[str], None]) -> list[Table]:
    """Run in order what can run; then, with all of them alive, ask each again at the same time."""
    fit = {task.converted.path: task for task in tasks if task.converted}
    if not fit:
        return []
    tell(f"\nstarting one Spark application on {master} ...")
    with spark_session(master, "depload lab", **_SMALL) as spark, contextlib.ExitStack() as alive:
        if tasks[0].unfit:
            tell(f"{BRONZE} is made here without pandas, from the same orders, because {TASKS[0]} cannot run")
            _store_bronze(spark)
        running = []
        for path, task in fit.items():
            tell(f"\n=== {task.name}: a process of its own, attached to {spark.sparkContext.applicationId}\n")
            running.append(alive.enter_context(_started(task.name, path, attachment(spark), tell)))
            task.values = running[-1].values()
        tell(f"=== {counted(len(fit), 'task')} alive: each driver and all workers import pandas anew, at the same time")
        for process in running:
            process.ask()
        for task, process in zip(fit.values(), running, strict=True):
            task.proof = process.values()["report"]
        names = dict.fromkeys([BRONZE, *(task.values["table"] for task in fit.values())])
        return [Table(name, *spark.table(name).selectExpr("count(*)", "sum(net_cents)").first()) for name in names]


def _store_bronze(spark: Any) -> None:
    spark.sql("CREATE DATABASE IF NOT EXISTS bronze")
    frame = spark.createDataFrame(orders.prepared_without_pandas(orders.raw()), orders.SCHEMA)
    frame.write.mode("overwrite").saveAsTable(BRONZE)


class _Running:
    """A task's process; it prints for people and for the job, and stays until it is let go."""

    def __init__(self, name: str, path: str, environment: Mapping[str, str], tell: Callable[[str], None]) -> None:
        modules = os.pathsep.join(filter(None, [str(LAB), os.environ.get("PYTHONPATH")]))
        self._name, self._tell = name, tell
        self._popen = subprocess.Popen(
            [sys.executable, str(LAB / "tasks" / f"{name}.py"), path],
            env={**os.environ, **environment, "PYTHONPATH": modules},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def values(self) -> dict[str, Any]:
        """Wait for what it hands on next, and pass on what it prints for people. Raises LabError where it ends."""
        for line in self._popen.stdout or ():
            if line.startswith(job.MARK):
                found: dict[str, Any] = json.loads(line.removeprefix(job.MARK))
                return found
            self._tell(line.rstrip("\n"))
        raise LabError(f"{self._name} failed with exit code {self._popen.wait()}; what it said is above")

    def ask(self) -> None:
        """Ask for a proof, which ``values`` will bring."""
        with contextlib.suppress(BrokenPipeError):  # one that ended is told of by ``values``
            print("again", file=self._popen.stdin, flush=True)

    def end(self) -> int:
        """Let it go; its exit code."""
        try:
            self._popen.communicate(timeout=_PATIENCE)  # closes its input
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.communicate()
        return self._popen.returncode


@contextlib.contextmanager
def _started(name: str, path: str, environment: Mapping[str, str], tell: Callable[[str], None]) -> Iterator[_Running]:
    """Raises LabError where its work was done and it did not end well."""
    process = _Running(name, path, environment, tell)
    try:
        yield process
    finally:
        code = process.end()
    if code:
        raise LabError(f"{name} had done its work, and failed with exit code {code}")


# --- what was seen --------------------------------------------------------------------------------------------------


def problems(tasks: Sequence[Task], tables: Sequence[Table]) -> list[str]:
    """All that is not as it should be."""
    ran = [task for task in tasks if task.converted]
    found = [
        f"{task.name} has pandas {version} on {where}, not {task.pandas}"
        for task in ran
        for where, version in _versions(task)
        if version != task.pandas
    ]
    found += [f"{task.name} has workers that differ" for task in ran if len(_prints(task)) > 1]
    for where, prints in (
        ("workers", [each for task in ran for each in _prints(task)]),
        ("drivers", [task.driver["fingerprint"] for task in ran if task.driver]),
    ):
        if len(set(prints)) < len(prints):
            found.append(f"the {where} of different tasks have one fingerprint: {', '.join(prints)}")
    pids = [f"{worker['pid']} on {worker['host']}" for task in ran for worker in task.workers]
    if len(set(pids)) < len(pids):
        found.append(f"different tasks have Python workers in common, of pids {', '.join(pids)}")
    takings = sum(order.quantity * order.unit_cents for order in orders.raw())
    return found + [
        f"{name} has {rows} orders over {cents} cents, not {orders.COUNT} over {takings}"
        for name, rows, cents in tables
        if (rows, cents) != (orders.COUNT, takings)
    ]


def _versions(task: Task) -> Iterator[tuple[str, str]]:
    if task.driver:
        yield "the driver", task.driver["imported"]["pandas"]["version"]
    for worker in task.workers:
        yield f"a worker of executor {worker['executor']}", worker["imported"]["pandas"]["version"]


def _prints(task: Task) -> list[str]:
    """The fingerprints of its workers."""
    return sorted({worker["fingerprint"] for worker in task.workers})


def summary(tasks: Sequence[Task], wrong: Sequence[str]) -> str:
    """The table that the lab is for, and the verdict."""
    head = ("task", "asks for pandas", "driver has", "workers have", "packages", "fingerprint: driver", "workers")
    rows = [head, *map(_row, tasks)]
    ran = [task for task in tasks if task.converted]
    prints = counted(len({each for task in ran for each in _prints(task)}), "fingerprint")
    verdict = f"{len(ran)} of {len(tasks)} tasks ran, all on one Spark application: {prints} on its workers"
    if not ran:
        verdict = "no task can run on this Python, so Spark was not started"
    return "\n".join([table(rows), "", *([f"WRONG: {each}" for each in wrong] or [verdict])])


def _row(task: Task) -> tuple[str, ...]:
    if not task.converted:
        return (task.name, task.pandas, "-", needed(task.needs).removeprefix("it "), "-", "-", "-")
    driver = task.driver
    versions = sorted({version for where, version in _versions(task) if where != "the driver"})
    return (
        task.name,
        task.pandas,
        driver["imported"]["pandas"]["version"] if driver else "left as it was",
        f"{', '.join(versions)} ({counted(len(task.workers), 'worker')})",
        ", ".join(sorted({str(worker["package_count"]) for worker in task.workers})),
        driver["fingerprint"][:12] if driver else "-",
        ", ".join(each[:12] for each in _prints(task)),
    )


if __name__ == "__main__":
    sys.exit(main())
