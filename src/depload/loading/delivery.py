"""How the workers of a session get a wheelhouse, and the proof that they have it.

They get a reference to the run path first, a small zip, and the wheels themselves only where they cannot read that
path: from DBFS, where Spark reads it there itself, else from this driver. With ``shared`` isolation the zip goes on the
path of the application's own Python workers; with ``process`` isolation it lies aside, and a launcher starts workers of
the session's own that begin with it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import re
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload.errors import SparkSessionError, WorkerError
from depload.loading import sessions
from depload.published import wheelhouse
from depload.reporting.report import Process, Report, faults
from depload.travels import activation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from depload.loading.sessions import Session, Task
    from depload.published.runs import Run
    from depload.published.wheelhouse import Manifest

SHARED, PROCESS = "shared", "process"

_REFERENCE = "reference: the workers read the wheelhouse from the run path, which they see"
_URI = "uri: every executor fetches the wheelhouse from DBFS, because not every worker sees the run path"
_WHEELS = (
    "wheels: sent through Spark from a copy that lives as long as the session, because not every worker sees the run "
    "path, and Spark's file server cannot read it there"
)
_STRANGERS_REMEDY = (
    "The workers imported another version before the wheelhouse could be activated. Load with isolation='process', "
    "which gives this session Python workers of its own; or convert with the version that they have."
)
_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)")
_MISSING_REMEDY = (
    "Nothing in the wheelhouse requires the package that has {names}, and the workers do not have it either. Add it to "
    "the source, such as by a line in a requirements.txt, and convert again."
)
_IMPORT_REMEDY = (
    "Give the workers what importing it takes, such as a system library or an environment variable "
    "(spark.executorEnv.NAME); or say with imports=[...] what is to be proven in its place."
)
_NOT_ISOLATED = "this platform runs the session's functions in its own Python workers, whatever the session asks for"
_LAUNCHER_REMEDY = "load with isolation='shared', which needs no Python workers of its own"
_NOT_ISOLATED_REMEDY = (
    "Spark knows this from 3.5 on. Hand over the SparkContext (spark.sparkContext) to have all that is run with it in "
    "workers of its own, or load with isolation='shared'"
)
_OTHER_WAYS = "leave out ways=, or see what the workers said"
_NOT_SENT = "what was sent to the workers is not on their path"
_NOT_SENT_REMEDY = "see whether the executors can reach the driver's file server, and load again"


@dataclass(frozen=True)
class Delivered:
    """What the workers have."""

    workers: tuple[Process, ...]
    how: str
    module: str
    """The activation module as the workers have it."""
    warnings: tuple[str, ...]
    undo: Callable[[], None]
    """Puts the session back; workers that are running already, as far as it can be had."""


@dataclass(frozen=True)
class _Payload:
    """A zip that workers import from, and its activation module."""

    name: str
    module: str
    how: str
    file: Path | None
    """On this machine, where it lies as long as workers may come; None where Spark reads it elsewhere."""
    uri: str = ""
    read: str = ""
    """What workers read themselves."""

    @property
    def sent(self) -> str:
        """What Spark is told to send."""
        return str(self.file) if self.file else self.uri


WAYS = ("reference", "uri", "wheels")
"""How workers get a wheelhouse, in the order in which they are tried."""


def deliver(
    run: Run, session: Session, names: Sequence[str], isolation: str, *, ways: Sequence[str] = WAYS
) -> Delivered:
    """Send what the workers need and prove it; raises WorkerError or SparkSessionError, with the session put back.

    No way is chosen by what a platform is called: each is tried, and the workers' answers decide.
    """
    kept = session.keep() or _own_directory()
    refused = "none of them is open to this run path and session"
    met: list[str] = []
    with contextlib.ExitStack() as failing:
        failing.callback(_forget, run, session, met)
        for payload in _payloads(run, session, kept):
            if payload.how.partition(":")[0] in ways:
                try:
                    delivered = _delivered(run, session, payload, names, isolation, met)
                except _NotThisWayError as error:
                    refused = str(error)
                else:
                    failing.pop_all()
                    return delivered
        what = f"the workers cannot be given the wheelhouse ({', '.join(ways)})"
        raise SparkSessionError(f"{what}: {refused}", _OTHER_WAYS)


class _NotThisWayError(Exception):
    """A way that is not open here; the session is as it was."""


def _delivered(
    run: Run, session: Session, payload: _Payload, names: Sequence[str], isolation: str, met: list[str]
) -> Delivered:
    """One way; ``met`` lists the activation modules of the ways that failed, which workers have to forget."""
    try:
        put_back = (_isolated if isolation == PROCESS else _shared)(run, session, payload)
    except SparkSessionError as error:
        if payload.how != _URI:
            raise
        # This Spark has no file system for the address, and has refused before it changed anything.
        raise _NotThisWayError(error.reason) from error
    modules = [*met, payload.module] if isolation == SHARED else []

    def undo() -> None:
        if put_back() is not False:
            _forget(run, session, modules)

    try:
        answers = _ask(run, session, payload.module, names, isolation, read=payload.read)
        _refuse_unreachable(payload, answers)
        workers = _accepted(run, answers, payload.how, isolation)
        return Delivered(workers, payload.how, payload.module, tuple(_warnings(answers)), undo)
    except BaseException:
        if put_back() is not False:
            met[:] = modules
        raise


def _refuse_unreachable(payload: _Payload, answers: Iterable[dict[str, Any]]) -> None:
    """A worker that has the site already needs no wheelhouse, but one that comes late, elsewhere, will."""
    if payload.how != _REFERENCE:
        return
    errors = [each["error"] for each in answers if activation.UNREACHABLE in (each["error"] or "")]
    errors += [f"{payload.read} is not there" for each in answers if not each["reads"]]
    if errors:
        raise _NotThisWayError(errors[0])


def _payloads(run: Run, session: Session, kept: Path) -> Iterator[_Payload]:
    """What to try, the cheapest first.

    Whatever is sent must be there for executors that come later: this driver's file server hands out the file itself,
    so it lies where the session keeps files; on DBFS it is there as long as the run path.
    """
    if run.seen:
        yield _reference(run, run.seen, kept)
    if run.uri and session.reads_uris:
        yield _Payload(run.uri.rpartition("/")[2], activation.module_name(run.manifest.digest), _URI, None, run.uri)
    yield _wheels(run, kept)


def prove(run: Run, session: Session, delivered: Delivered, names: Sequence[str], isolation: str) -> Delivered:
    """Prove once more what was delivered before; raises WorkerError or SparkSessionError."""
    answers = _ask(run, session, delivered.module, names, isolation)
    return replace(
        delivered, workers=_accepted(run, answers, delivered.how, isolation), warnings=tuple(_warnings(answers))
    )


# --- shared: on the path of the application's workers ---------------------------------------------------------------


def _shared(run: Run, session: Session, payload: _Payload) -> Callable[[], object]:
    _there(run, payload)
    session.send(payload.sent)
    return functools.partial(session.take_back, payload.name)


def _forget(run: Run, session: Session, modules: Sequence[str]) -> None:
    """Have every shared worker take back what it met of these activation modules."""
    if modules:
        description = f"depload: unload {run.manifest.name} {run.manifest.digest[:12]} from every worker"
        with contextlib.suppress(SparkSessionError):  # a stopped session has no workers left
            sessions.everywhere(session, _forgetting(tuple(modules)), description)


def _forgetting(modules: Sequence[str]) -> Task:
    def forget() -> dict[str, Any]:
        import os
        import socket
        import sys

        answer: dict[str, Any] = {"host": socket.gethostname(), "executor": "", "pid": os.getpid()}
        for module in modules:
            if module in sys.modules:
                sys.modules[module].take_back()
                answer = dict(sys.modules[module].process())
        return answer

    return forget


# --- process: workers of the session's own --------------------------------------------------------------------------


def _isolated(run: Run, session: Session, payload: _Payload) -> Callable[[], object]:
    _there(run, payload)
    session.send_aside(payload.sent)
    pythons, folder = _as_workers_see(session, payload.name)
    launcher = _launcher(run, payload, pythons, session.keep() or _own_directory())
    session.send_aside(str(launcher))
    return session.use_python(f"{folder}/{launcher.name}")


def _as_workers_see(session: Session, name: str) -> tuple[list[str], str]:
    """The interpreters of the workers, and where they see a file that was sent: ``.`` or a path alike on all of them.

    Executors that are processes of their own run their workers in the directory of the files; with ``local[n]`` that is
    the driver's, and the files lie elsewhere (SparkFiles).
    """

    def see() -> dict[str, Any]:
        import os
        import sys

        from pyspark import SparkFiles

        folder = "." if os.path.exists(name) else os.path.dirname(SparkFiles.get(name))  # noqa: PTH110, PTH120
        return {"python": sys.executable, "folder": folder}

    answers = sessions.somewhere(session, see, "depload: ask the workers where their Python and their files are")
    folders = sorted({answer["folder"] for answer in answers})
    if len(folders) > 1:
        raise SparkSessionError(
            f"the workers see the files that Spark sends at different places ({', '.join(folders)})", _LAUNCHER_REMEDY
        )
    return sorted({answer["python"] for answer in answers}), folders[0]


_SCRIPT = """\
#!/bin/sh
# depload: Python workers that begin with the wheelhouse {name}, digest {digest}.
for python in {pythons}; do
  if [ -x "$python" ]; then
    exec "$python" -c {code} "$(dirname "$0")"/{zip} "$@"
  fi
done
echo "depload: none of the workers' interpreters is on this host:" {pythons} >&2
exit 127
"""
_CODE = """\
import os, sys
sys.path.insert(0, os.path.abspath(sys.argv[1]))
import {module}
{module}.work(sys.argv[2:])
"""


def _launcher(run: Run, payload: _Payload, pythons: Sequence[str], kept: Path) -> Path:
    """What Spark starts instead of Python, with the same arguments. Its name says what is in it, as Spark keeps it."""
    text = _SCRIPT.format(
        name=run.manifest.name,
        digest=run.manifest.digest,
        pythons=" ".join(map(shlex.quote, pythons)),
        code=shlex.quote(_CODE.format(module=payload.module)),
        zip=shlex.quote(payload.name),
    )
    stem = payload.name.removesuffix(".zip")
    path = kept / (f"{stem}.{hashlib.sha256(text.encode()).hexdigest()[:8]}.sh")

    def write(to: Path) -> None:
        to.write_text(text, encoding="utf-8")
        to.chmod(0o755)

    _make(path, write)
    return path


# --- what is sent ---------------------------------------------------------------------------------------------------


def _reference(run: Run, seen: str, kept: Path) -> _Payload:
    file = kept / _sent_name(run, kept, "reference")
    _make(file, lambda to: wheelhouse.write_reference(run.file, seen, to))
    return _Payload(file.name, f"{activation.module_name(run.manifest.digest)}_reference", _REFERENCE, file, read=seen)


def _wheels(run: Run, kept: Path) -> _Payload:
    file = kept / _sent_name(run, kept, "wheels")
    return _Payload(file.name, activation.module_name(run.manifest.digest), _WHEELS, file)


def _there(run: Run, payload: _Payload) -> None:
    """The wheels are linked or copied only once it is known that the reference is not enough."""

    def link(to: Path) -> None:
        try:
            to.hardlink_to(run.file)
        except OSError:
            shutil.copyfile(run.file, to)

    if payload.file:
        _make(payload.file, link)


def _make(file: Path, write: Callable[[Path], object]) -> None:
    """Make a file that is complete whenever it is there: other threads may load the same wheelhouse right now."""
    if file.exists():
        return
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".depload-") as beside:
        write(Path(beside, file.name))
        Path(beside, file.name).replace(file)


@functools.cache
def _own_directory() -> Path:
    """Where files lie that need to be there no longer than this process."""
    made = tempfile.mkdtemp(prefix="depload-sent-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def _sent_name(run: Run, kept: Path, what: str) -> str:
    """A name that no other file of the application has, because Spark keeps the first of a name and refuses the next.

    So it holds the digest, the place, and the directory, which is this process's own: other tasks of the application
    may load the same run path.
    """
    place = hashlib.sha256(f"{kept} {run.location}".encode()).hexdigest()[:8]
    return f"{run.manifest.name}-{run.manifest.digest[:16]}-{what}-{place}.zip"


# --- the proof ------------------------------------------------------------------------------------------------------


def _ask(
    run: Run, session: Session, module: str, names: Sequence[str], isolation: str, *, read: str = ""
) -> list[dict[str, Any]]:
    """What every worker answers after it has activated the wheelhouse and imported ``names``."""
    manifest = run.manifest
    description = f"depload: prove {manifest.name} {manifest.digest[:12]} on every worker"
    packages, wanted = manifest.packages(), list(names)

    def prove() -> dict[str, Any]:  # pickled by value, as it names no globals: workers do not have depload
        import importlib
        import os

        here = importlib.import_module(module)
        if read and not os.path.isfile(read):  # noqa: PTH113 - on a worker
            return {**here.process(), "error": None, "reads": False}  # another way comes next, and proves it
        return {**here.prove(wanted, packages), "reads": True}

    try:
        return sessions.everywhere(session, prove, description)
    except SparkSessionError as error:
        if f"No module named '{module}'" not in error.reason:
            raise
        if isolation == PROCESS:
            raise SparkSessionError(_NOT_ISOLATED, _NOT_ISOLATED_REMEDY) from error
        raise SparkSessionError(_NOT_SENT, _NOT_SENT_REMEDY) from error


def _accepted(run: Run, answers: Sequence[dict[str, Any]], how: str, isolation: str) -> tuple[Process, ...]:
    if isolation == PROCESS and not all(answer["isolated"] for answer in answers):
        raise SparkSessionError(_NOT_ISOLATED, _NOT_ISOLATED_REMEDY)
    workers = tuple(map(Process.of, answers))
    if found := faults(workers, run.manifest):
        report = Report(None, workers, how, run.manifest.digest, run.manifest.versions(), isolation=isolation)
        strangers = isolation == SHARED and any(worker.strangers for worker in workers)
        raise WorkerError(found, _STRANGERS_REMEDY if strangers else _remedy(workers, run.manifest), report)
    return workers


def _remedy(workers: Iterable[Process], manifest: Manifest) -> str:
    """What helps where imports fail, by what they say."""
    said = {module.error for worker in workers for module in worker.imported.values() if module.error}
    brought = {name.partition(".")[0] for wheel in manifest.wheels for name in wheel.names}
    missing = {name for each in said for name in _MISSING.findall(each)} - brought - sys.stdlib_module_names
    if missing:
        return _MISSING_REMEDY.format(names=" and ".join(sorted(missing)))
    return _IMPORT_REMEDY if said else ""


def _warnings(answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What goes wrong beside what was asked for."""
    for error in dict.fromkeys(answer["arrow"] for answer in answers if answer["arrow"]):
        yield (
            f"the pyarrow of the workers does not go with this wheelhouse ({error}): functions that Spark feeds by "
            "Arrow fail (pandas functions, UDFs with useArrow); bring a pyarrow along, or see what depload check says"
        )
