"""What a workspace can do that nobody can know beforehand, asked where it is run: one small question each.

A probe answers yes, no or unknown, and why, in plain data; it never raises, and it puts back what it changed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from depload import cleanup, convert
from depload.databricks import parameters as given
from depload.databricks import values, workers
from depload.errors import DeploadError
from depload.loading import delivery
from depload.loading.sessions import session_of
from depload.published.runs import open_run
from depload.reporting.plain import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PYTHON = "spark.sql.execution.pyspark.python"
VALUE = "depload_probe"
"""The task value that a probe sets, for a later task to be given as ``received``."""

_SIZES = (1, 4, 16, 64, 256, 1024)  # MB
_WORKERS = 4


class Said(NamedTuple):
    """What a probe found."""

    answer: Literal["yes", "no", "unknown"]
    why: str


@dataclass(frozen=True)
class Answer:
    """A question and what was found."""

    probe: str
    question: str
    answer: str
    why: str
    seconds: float


@dataclass(frozen=True)
class Setting:
    """Where the probes are run."""

    spark: Any
    base: Path
    """A folder of its own below the base, removed in the end."""
    local: Path
    """A folder on the driver's disk, which files to be sent must not leave while the session lives."""
    token: str
    """Names whatever a probe makes, so that no two runs meet."""
    task_values: values.TaskValues | None
    received: str | None
    largest_mb: int

    def sent(self, name: str) -> Path:
        """A zip with a module that nobody else has: ``<name>_<token>.ANSWER`` is 1."""
        file = self.local / f"{name}_{self.token}.zip"
        with zipfile.ZipFile(file, "w") as opened:
            opened.writestr(f"{name}_{self.token}.py", "ANSWER = 1\n")
        return file


@dataclass(frozen=True)
class Probed:
    """The answers of one mode of compute."""

    mode: str
    runtime: str
    python: str
    spark: str
    session: str
    answers: tuple[Answer, ...]

    def to_json(self) -> dict[str, Any]:
        """Every field, in plain data."""
        return asdict(self)

    def __str__(self) -> str:
        about = f"{self.mode}: runtime {self.runtime}, Python {self.python}, Spark {self.spark}, {self.session}"
        rows = [(each.probe, each.answer, _short(each.why)) for each in self.answers]
        return f"{about}\n\n{table([('probe', 'answer', 'why'), *rows])}"


# --- the questions --------------------------------------------------------------------------------------------------


def task_values_can_be_set(at: Setting) -> Said:
    """Can this kind of task set a task value?"""
    if at.task_values is None:
        return Said("no", "there is no dbutils with jobs.taskValues here")
    with _trying():
        at.task_values.set(key=VALUE, value=at.token)
    return Said("yes", "jobs.taskValues.set did not object; the task that is given the value tells the rest")


def task_values_arrive(at: Setting) -> Said:
    """Does a task value reach the parameters of a later task?"""
    if not at.received:
        return Said("unknown", "this task was given none; give received={{tasks.<task>.values.depload_probe}}")
    if given.REFERENCE in at.received:
        return Said("no", f"the parameter is still {at.received}")
    return Said("yes", f"it is {at.received}")


def workers_read_the_base(at: Setting) -> Said:
    """Do Python workers read a file below the base?"""
    file = at.base / "read-me"
    file.write_text(at.token, encoding="utf-8")
    path, token = str(file), at.token

    def question() -> dict[str, Any]:
        try:
            with open(path, encoding="utf-8") as opened:  # noqa: PTH123 - on a worker
                return {"why": "" if opened.read() == token else "it holds something else"}
        except OSError as error:
            return {"why": str(error)}

    return _all_of(workers.ask(at.spark, question, _WORKERS))


def a_zip_of_the_base_can_be_sent(at: Setting) -> Said:
    """Does addPyFile, or addArtifacts, take a zip that lies below the base?"""
    local = at.sent("from_base")
    file = at.base / local.name
    file.write_bytes(local.read_bytes())
    with _trying():
        _send(at.spark, file)
    return _imported(at, "from_base")


def a_local_zip_can_be_sent(at: Setting) -> Said:
    """Does a zip on the driver's disk reach the workers' sys.path?"""
    with _trying():
        _send(at.spark, at.sent("from_disk"))
    return _imported(at, "from_disk")


def a_sent_zip_comes_first(at: Setting) -> Said:
    """On a worker's sys.path, does a sent zip come before site-packages?"""
    _send(at.spark, at.sent("order"))
    token = at.token

    def question() -> dict[str, Any]:
        import sys

        zips = [index for index, entry in enumerate(sys.path) if token in entry]
        sites = [index for index, entry in enumerate(sys.path) if entry.rstrip("/").endswith("-packages")]
        if not zips:
            return {"why": f"it is not on sys.path: {sys.path}"}
        return {"why": "" if not sites or min(zips) < min(sites) else f"zip at {min(zips)}, packages at {min(sites)}"}

    return _all_of(workers.ask(at.spark, question, _WORKERS))


def a_sent_file_is_executable(at: Setting) -> Said:
    """Does a file arrive executable, by addFile or addArtifacts(file=True)?"""
    found = _launcher(at)
    if not found["path"]:
        return Said("no", "no worker finds it where files are put")
    return Said("yes", found["path"]) if found["executable"] else Said("no", f"{found['path']} is not executable")


def a_session_may_choose_its_python(at: Setting) -> Said:
    """Does a session whose spark.sql.execution.pyspark.python is set run functions in workers of its own?"""
    found = _launcher(at)
    if not found["executable"]:
        return Said("no", "there is no executable file to set it to")

    def question() -> dict[str, Any]:
        import os

        return {"why": "" if os.environ.get("DEPLOAD_PROBE") else "the functions run in the old workers"}

    before = at.spark.conf.get(PYTHON, None)
    try:
        with _trying():
            at.spark.conf.set(PYTHON, found["path"])
        return _all_of(workers.ask(at.spark, question, _WORKERS))
    finally:
        with contextlib.suppress(Exception):
            at.spark.conf.unset(PYTHON) if before is None else at.spark.conf.set(PYTHON, before)


def large_files_can_be_sent(at: Setting) -> Said:
    """How large a file does the session take?"""
    took: list[str] = []
    for size in (each for each in _SIZES if each <= at.largest_mb):
        file = at.local / f"large_{at.token}_{size}.zip"
        with file.open("wb") as opened, zipfile.ZipFile(opened, "w") as made:
            made.writestr("data", os.urandom(1 << 20) * size)
        started = time.perf_counter()
        try:
            _send(at.spark, file)
        except Exception as error:  # noqa: BLE001 - py4j and gRPC raise their own
            return Said("no", f"{size} MB was refused ({_line(error)}); went: {', '.join(took) or 'nothing'}")
        took.append(f"{size} MB in {time.perf_counter() - started:.1f} s")
    return Said("yes", f"{', '.join(took)}; more was not tried")


def temporary_files_outlive_a_worker(at: Setting) -> Said:
    """Does another Python worker of the node find what one left in its temporary directory?"""
    token = at.token

    def leave() -> dict[str, Any]:
        import os
        import pathlib
        import tempfile

        file = pathlib.Path(tempfile.gettempdir(), f"depload-probe-{token}-{os.getpid()}")
        file.write_text("", encoding="utf-8")
        return {"file": str(file)}

    def find() -> dict[str, Any]:
        import os
        import pathlib
        import tempfile

        names = [file.name for file in pathlib.Path(tempfile.gettempdir()).glob(f"depload-probe-{token}-*")]
        mine = f"depload-probe-{token}-{os.getpid()}"
        return {"others": [name for name in names if name != mine], "own": mine in names}

    def remove() -> dict[str, Any]:
        import pathlib
        import tempfile

        for file in pathlib.Path(tempfile.gettempdir()).glob(f"depload-probe-{token}-*"):
            file.unlink(missing_ok=True)
        return {}

    workers.ask(at.spark, leave, _WORKERS)
    found = workers.ask(at.spark, find, _WORKERS)
    workers.ask(at.spark, remove, _WORKERS)
    if any(each["others"] for each in found):
        return Said("yes", "a worker found a file of another process")
    if any(each["own"] for each in found):
        return Said("unknown", "the same processes answered; run it again on a cluster with more slots")
    return Said("no", "what a worker left was gone when the next one looked")


def load_by_reference(at: Setting) -> Said:
    """Does load's first way work: a small zip is sent, and workers read the wheelhouse from the run path?"""
    return _loaded(at, "reference")


def load_by_uri(at: Setting) -> Said:
    """Does load's second way work: executors fetch the wheelhouse from DBFS by its address?"""
    return _loaded(at, "uri")


def load_by_wheels(at: Setting) -> Said:
    """Does load's last way work: the wheelhouse is sent through Spark?"""
    return _loaded(at, "wheels")


def load_in_own_workers(at: Setting) -> Said:
    """Does load with isolation="process" work, by whichever way?"""
    return _loaded(at, *delivery.WAYS, isolation=delivery.PROCESS)


PROBES: tuple[Callable[[Setting], Said], ...] = (
    load_by_reference,
    load_by_uri,
    load_by_wheels,
    load_in_own_workers,
    task_values_can_be_set,
    task_values_arrive,
    workers_read_the_base,
    a_zip_of_the_base_can_be_sent,
    a_local_zip_can_be_sent,
    a_sent_zip_comes_first,
    a_sent_file_is_executable,
    a_session_may_choose_its_python,
    large_files_can_be_sent,
    temporary_files_outlive_a_worker,
)


def ask(probe: Callable[[Setting], Said], at: Setting) -> Answer:
    """One answer: no where the platform refused what was asked, unknown where something else went wrong."""
    started = time.perf_counter()
    try:
        said = probe(at)
    except _RefusedError as refused:
        said = Said("no", str(refused))
    except Exception as error:  # noqa: BLE001 - the platform raises its own, and the answer is what it says
        said = Said("unknown", _line(error))
    question = (probe.__doc__ or "").strip()
    return Answer(probe.__name__, question, said.answer, said.why, round(time.perf_counter() - started, 2))


# --- what the questions share ---------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """The platform refused the very thing that a probe is about."""


@contextlib.contextmanager
def _trying() -> Iterator[None]:
    """Around the very thing that a probe is about: what is raised in here is the answer."""
    try:
        yield
    except Exception as error:
        raise _RefusedError(_line(error)) from error


def _loaded(at: Setting, *ways: str, isolation: str = delivery.SHARED) -> Said:
    """What ``load`` itself makes of it, with a wheelhouse of one module that nobody else has."""
    name = f"probe_{at.token}_{uuid.uuid4().hex[:8]}"
    source = at.local / f"{name}.py"
    source.write_text("ANSWER = 1\n", encoding="utf-8")
    run = open_run(convert(source, at.base, cache=False).path)
    try:
        session = session_of(at.spark)
        if session is None:
            return Said("no", "there is no Spark session")
        with _trying():
            delivered = delivery.deliver(run, session, [f"user_modules.{name}"], isolation, ways=ways)
        delivered.undo()
    finally:
        cleanup(run.path)
    return Said("yes", f"{len(delivered.workers)} worker process(es) proved it; {delivered.how}")


def _send(spark: Any, file: Path) -> None:
    if workers.is_connect(spark):
        spark.addArtifacts(str(file), pyfile=True)
    else:
        spark.sparkContext.addPyFile(str(file))


def _imported(at: Setting, name: str) -> Said:
    module = f"{name}_{at.token}"

    def question() -> dict[str, Any]:
        import importlib

        try:
            return {"why": "" if importlib.import_module(module).ANSWER == 1 else "another module has its name"}
        except ImportError as error:
            return {"why": str(error)}

    return _all_of(workers.ask(at.spark, question, _WORKERS))


def _launcher(at: Setting) -> Mapping[str, Any]:
    """Send a script that starts the workers' own Python with a mark; where a worker finds it, and if it may run."""

    def which() -> dict[str, Any]:
        import sys

        return {"python": sys.executable}

    (first, *_) = workers.ask(at.spark, which, 1)
    file = at.local / f"launcher_{at.token}_{uuid.uuid4().hex[:8]}"
    file.write_text(f'#!/bin/sh\nDEPLOAD_PROBE=yes exec "{first["python"]}" "$@"\n', encoding="utf-8")
    with _trying():
        if workers.is_connect(at.spark):
            at.spark.addArtifacts(str(file), file=True)
        else:
            at.spark.sparkContext.addFile(str(file))
    name = file.name

    def question() -> dict[str, Any]:
        import os

        from pyspark import SparkFiles

        places = {f"./{name}": f"./{name}", SparkFiles.get(name): SparkFiles.get(name)}
        path = next((place for place in places if os.path.exists(place)), "")  # noqa: PTH110 - on a worker
        return {"path": path, "executable": bool(path) and os.access(path, os.X_OK)}

    (found, *_) = workers.ask(at.spark, question, 1)
    return found


def _all_of(answers: Sequence[Mapping[str, Any]]) -> Said:
    """Yes where every worker has nothing to say against it."""
    against = sorted({f"{each['host']}: {each['why']}" for each in answers if each["why"]})
    count = len({(each["host"], each["pid"]) for each in answers})
    return Said("no", "; ".join(against)) if against else Said("yes", f"{count} worker process(es) said so")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:99]}…"  # noqa: PLR2004 - a line of a log


# --- the tasks ------------------------------------------------------------------------------------------------------


def probe_runtime(
    volume_base_path: str,
    *,
    mode: str = "here",
    folder: str | None = None,
    received: str | None = None,
    largest_mb: int | str = 64,
    spark: Any = None,
    dbutils: Any = None,
) -> Probed:
    """Ask every question here, print the table, and write ``<folder>/<mode>.json``.

    ``received`` is a task value that an earlier run of this task set; it is the one parameter that may hold ``{{``,
    because that is an answer.
    """
    given.refuse_references(volume_base_path=volume_base_path, mode=mode, folder=folder)
    session = spark if spark is not None else values.find_spark()
    with _setting(session, Path(volume_base_path), dbutils, received, given.number("largest_mb", largest_mb)) as at:
        answers = tuple(ask(probe, at) for probe in PROBES)
    kind = "Spark Connect" if workers.is_connect(session) else "classic"
    runtime = os.environ.get(values.RUNTIME, "none")
    probed = Probed(mode, runtime, sys.version.split()[0], session.version, kind, answers)
    print(probed)
    if folder:
        _write(Path(folder, f"{mode}.json"), probed.to_json())
    return probed


@contextlib.contextmanager
def _setting(spark: Any, base: Path, dbutils: Any, received: str | None, largest_mb: int) -> Iterator[Setting]:
    token = uuid.uuid4().hex[:12]
    place = base / f"probe-{token}"
    place.mkdir(parents=True)
    # Not removed by a context manager: Spark may fetch what was sent from there for as long as the session lives.
    local = Path(tempfile.mkdtemp(prefix="depload-probe-"))
    atexit.register(shutil.rmtree, local, ignore_errors=True)
    known = values.task_values(dbutils, task="probe_runtime")
    try:
        yield Setting(spark, place, local, token, known, received, largest_mb)
    finally:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()


def probe_table(folder: str, *, modes: str | Iterable[str] | None = None, json_file: str | None = None) -> str:
    """Put the answers of all modes side by side: a row for each question, a column for each mode.

    ``modes`` are those that were asked for; one that did not answer has a column that says so.
    """
    given.refuse_references(folder=folder, modes=modes, json_file=json_file)
    read = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(Path(folder).glob("*.json"))]
    answered = {mode["mode"]: mode for mode in read if "mode" in mode}
    names = given.listed("modes", modes) or sorted(answered)
    if not answered:
        raise DeploadError(f"{folder} holds no answers; run the tasks of probe_runtime first, with folder={folder}")
    said = {name: {each["probe"]: each["answer"] for each in mode["answers"]} for name, mode in answered.items()}
    silent = {name: "did not run" for name in names if name not in answered}
    facts = [
        (fact, *(silent.get(name) or answered[name][fact] for name in names))
        for fact in ("runtime", "python", "spark", "session")
    ]
    rows = [(probe.__name__, *(said.get(name, {}).get(probe.__name__, "-") for name in names)) for probe in PROBES]
    text = table([("probe", *names), *facts, *rows])
    print(text)
    if json_file:
        _write(Path(json_file), {"asked": names, "modes": list(answered.values())})
    return text


def _write(file: Path, data: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, indent=2), encoding="utf-8")
