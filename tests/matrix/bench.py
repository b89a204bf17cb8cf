"""What cells need - environments, wheelhouses, clusters - made when the first one needs it; and running them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import topologies
from depload.local.embedded import java_home
from depload.standards import wheels
from matrix import environments, outcomes, plan
from matrix.environments import NotHereError, NotMadeError
from matrix.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from matrix.plan import Cell

ROOT = Path(__file__).parent.parent.parent
LAB = ROOT / "examples" / "task_libraries" / "run.py"
CELL = Path(__file__).with_name("cell.py")
PURE = {"matrix_pure": "1.0"}
NATIVE = ("ujson==5.11.0",)
"""Compiled, and installed in every environment in another version, which nobody has imported."""

_PATIENCE = 300.0  # seconds that a cell may take
_CONVERT = "import depload, sys; print(depload.convert(sys.argv[1], sys.argv[2]).path)"
# What is true of the runner's process is not true of a cell's.
_OWN = ("PYTHONPATH", "DEPLOAD_SITES", "SPARK_HOME", "SPARK_REMOTE", "PYSPARK_PYTHON")


class Bench:
    """Takes cells through what they are to prove."""

    def __init__(self, scratch: Path, wheel: Path, runtimes: Path, say: Callable[[str], None]) -> None:
        self._scratch = scratch
        self._wheel = wheel
        self._runtimes = runtimes
        self._say = say
        self._numbers = itertools.count()
        self._made: dict[tuple[str, str], Path] = {}
        self._wheelhouses: dict[tuple[Path, tuple[str, ...]], str] = {}

    def outcomes(self, cells: Sequence[Cell]) -> Iterator[Outcome]:
        """Of cells that share environment and topology: where those cannot be had, that is the outcome of each."""
        done = 0
        try:
            _refuse(cells[0])
            with self._topology(cells[0]) as address:
                for cell in cells:
                    yield self._outcome(cell, address)
                    done += 1
        except NotHereError as error:
            yield from (Outcome(cell, "not run", str(error)) for cell in cells[done:])
        except (NotMadeError, RuntimeError, subprocess.SubprocessError) as error:
            yield from (Outcome(cell, "FAILED", str(error)) for cell in cells[done:])

    def _outcome(self, cell: Cell, address: str) -> Outcome:
        if cell.session == "install":
            return self._install(cell)
        if cell.session == "lab":
            return self._lab(cell)
        done = run_cell(self._interpreter(cell), self._job(cell, address), self._place())
        if done.answer is None:
            return Outcome(cell, "FAILED", done.fault, said=done.said)
        return outcomes.of(cell, done.answer, done.said)

    def _job(self, cell: Cell, address: str) -> dict[str, Any]:
        brings = cell.line.replacing if cell.isolation == "process" else NATIVE
        job = {
            "session": cell.session,
            "address": address,
            "isolation": cell.isolation,
            "path": self._wheelhouse(cell, brings),
            "expected": {**PURE, **_versions(brings)},
            "config": {"spark.cores.max": "2"} if cell.topology == plan.STANDALONE else {},
        }
        if cell.isolation == "process":
            job["before"] = list(_versions(brings))
        elif cell.line.replacing:
            job.update(before=["pandas"], refused=self._wheelhouse(cell, cell.line.replacing))
        return job

    def _install(self, cell: Cell) -> Outcome:
        """Whether installing depload left every preinstalled package as it was."""
        made = self._runtime(cell)
        before = environments.frozen_when_made(made.interpreter)
        after = environments.frozen(self._interpreter(cell))
        changed = sorted(set(before) - set(after))
        added = ", ".join(re.split(r"==| @ ", line)[0] for line in after if line not in before)
        out = ", ".join(f"{name} ({why})" for name, why in made.left_out.items()) or "none"
        if changed:
            return Outcome(cell, "FAILED", f"installing depload changed {', '.join(changed)}", python=cell.python)
        told = f"{made.listed - len(made.left_out)} of {made.listed} packages and pyspark, none changed; added: {added}"
        return Outcome(cell, "proven", f"{told}; left out: {out}", python=cell.python)

    def _lab(self, cell: Cell) -> Outcome:
        if not LAB.exists():
            return Outcome(cell, "not run", f"no lab yet: {LAB.relative_to(ROOT)} is not there")
        interpreter = self._interpreter(cell)
        code, stdout, said = _run([str(interpreter), str(LAB)], self._place(), 2 * _PATIENCE)
        if code:
            return Outcome(cell, "FAILED", f"the lab ended with code {code}", said=f"{stdout[-3000:]}\n{said}")
        return Outcome(cell, "proven", f"the lab: {stdout.strip().splitlines()[-1]}", python=cell.python)

    # --- made once --------------------------------------------------------------------------------------------------

    def _interpreter(self, cell: Cell) -> Path:
        """The interpreter of the cell's environment, with depload in it."""
        key = cell.runtime.name if cell.runtime else cell.line.requirements, cell.python
        if key not in self._made:
            self._say(f"environment {' python '.join(key)} ...")
            made = (
                self._runtime(cell).interpreter
                if cell.runtime
                else environments.ready(environments.LISTS / cell.line.requirements, cell.python)
            )
            environments.install_depload(made, self._wheel)
            self._made[key] = made
        return self._made[key]

    def _runtime(self, cell: Cell) -> environments.Runtime:
        assert cell.runtime
        packages = self._runtimes / f"{cell.runtime.name}.txt"
        if not packages.exists():
            raise NotHereError(f"there is no list of that runtime's packages here ({packages.name})")
        return environments.runtime(packages, cell.python, cell.runtime.pyspark)

    def _wheelhouse(self, cell: Cell, requirements: tuple[str, ...]) -> str:
        """One of these and a pure package, converted in the cell's environment, as a job's first task would."""
        interpreter = self._interpreter(cell)
        key = interpreter, requirements
        if key not in self._wheelhouses:
            self._say(f"wheelhouse {', '.join(requirements)} ...")
            source = self._place()
            (source / "requirements.txt").write_text("\n".join(requirements), encoding="utf-8")
            make_pure(source)
            command = [str(interpreter), "-c", _CONVERT, str(source), str(self._scratch / "base")]
            code, stdout, said = _run(command, self._place(), _PATIENCE)
            if code:
                raise NotMadeError(f"{', '.join(requirements)} could not be converted: {said}")
            self._wheelhouses[key] = stdout.splitlines()[-1]
        return self._wheelhouses[key]

    @contextlib.contextmanager
    def _topology(self, cell: Cell) -> Iterator[str]:
        """The master or server of the cell; what Spark starts by itself is only a name."""
        if cell.session == "connect":
            jars = []
            if cell.line == plan.V35_CONNECT:
                jars = [topologies.connect_jar(Path(sys.prefix, "jars"), *plan.CONNECT_JAR)]
            starting = topologies.connect_server(
                self._interpreter(cell), self._place(), master=cell.topology, jars=jars
            )
        elif cell.topology == plan.STANDALONE:
            if not topologies.has_hosts():
                raise NotHereError(f"this machine does not answer to {' and '.join(topologies.HOSTS)}")
            starting = topologies.standalone(self._interpreter(cell), self._place())
        else:
            yield cell.topology
            return
        self._say(f"{cell.session}, {cell.topology} ...")
        with starting as address:
            yield address

    def _place(self) -> Path:
        place = self._scratch / str(next(self._numbers))
        place.mkdir()
        return place


# --- running them ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """A cell that ended: what it answered, or why it did not."""

    answer: Mapping[str, Any] | None
    fault: str
    said: str


def run_cell(interpreter: Path, job: Mapping[str, Any], place: Path, **environment: str) -> Done:
    """Run cell.py with a job; what it leaves lies in ``place``."""
    code, stdout, said = _run([str(interpreter), str(CELL), json.dumps(job)], place, _PATIENCE, **environment)
    lines = stdout.splitlines()
    if code or not lines:
        return Done(None, (said.strip().splitlines() or [f"it ended with code {code}"])[-1], said)
    return Done(json.loads(lines[-1]), "", said)


def make_pure(folder: Path) -> None:
    """The wheel of ``PURE``."""
    folder.mkdir(exist_ok=True)
    for name, version in PURE.items():
        members = {f"{name}/__init__.py": f"__version__ = {version!r}\n".encode()}
        wheels.write(folder, name.replace("_", "-"), version, members, "")


def _refuse(cell: Cell) -> None:
    """Raises NotHereError for a cell that there cannot be, or not on this machine."""
    if cell.reason:
        raise NotHereError(cell.reason)
    if cell.needs_vector_module and not topologies.has_vector_module():
        raise NotHereError("Spark 4 asks Java for jdk.incubator.vector, which the Java at hand has not")


def _versions(requirements: Sequence[str]) -> dict[str, str]:
    return {name: version for name, _, version in (each.partition("==") for each in requirements)}


def _run(command: Sequence[str], place: Path, patience: float, **environment: str) -> tuple[int, str, str]:
    """Exit code, output and the end of what it said as errors; whatever it started ends with it."""
    kept = {name: value for name, value in os.environ.items() if name not in _OWN}
    own = {"JAVA_HOME": java_home(), "TMPDIR": str(place), "SPARK_LOCAL_DIRS": str(place / "local")}
    with (place / "stdout").open("w+") as stdout, (place / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            list(command),
            env={**kept, **own, **environment},
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            stderr.write(f"\nit took longer than {patience:.0f} s")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read())
    return process.returncode, texts[0], texts[1][-6000:]
