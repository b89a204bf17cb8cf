"""What a task's process runs: an entry point of a package, a notebook, or a Python file.

``python -m depload.running.task``, told on standard input what to do (see ``handover``).
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
import uuid
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TextIO, cast

from depload.databricks.values import FileTaskValues
from depload.errors import DeploadError, NotebookError
from depload.local.embedded import attached_session
from depload.running import handover, notebooks
from depload.running.addresses import Addresses
from depload.running.handover import Order
from depload.running.notebooks import ExitNotebook
from depload.running.results import Ended
from depload.running.utilities import FileUtils, NotebookUtils, SecretUtils, Utilities, Widgets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def main() -> int:
    """Do what standard input says, and leave an answer; the exit code is 0 where the task has succeeded."""
    order = Order.read(sys.stdin.readline())
    _end_with_whom_started_this()
    secrets = SecretUtils(order.secrets)
    sys.stdout = cast("TextIO", _Hiding(sys.stdout, secrets))
    sys.stderr = cast("TextIO", _Hiding(sys.stderr, secrets))
    ended = attempt(order, secrets)
    handover.answer(Path(order.answer), ended)
    sys.stdout.flush()
    sys.stderr.flush()
    return 0 if ended.good else 1


def attempt(order: Order, secrets: SecretUtils) -> Ended:
    """Run it to its end; what it raises is the answer, and in its log."""
    try:
        with _session(order.session) as session:
            _KINDS[order.kind](order, session, secrets)
    except ExitNotebook as left:
        return Ended(good=True, output=secrets.hide(left.value))
    except SystemExit as ended:
        if ended.code in (None, 0):
            return Ended(good=True)
        return _failed(f"SystemExit: {ended.code}", secrets)
    except NotebookError as error:
        return _failed(str(error), secrets)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is why the task has failed
        return _failed(f"{type(error).__name__}: {error}", secrets)
    return Ended(good=True)


def _failed(error: str, secrets: SecretUtils) -> Ended:
    trace = secrets.hide(traceback.format_exc())
    print(trace, file=sys.stderr)
    return Ended(good=False, error=secrets.hide(error), trace=trace)


# --- the three kinds ------------------------------------------------------------------------------------------------


def _wheel(order: Order, session: Callable[[], Any], secrets: SecretUtils) -> None:
    del session
    function = entry_point(order.name, order.entry_point)
    # The runtime gives a wheel its dbutils by other ways; here it is found where a notebook has it.
    _as_main()["dbutils"] = _utilities(order, Widgets({}), secrets)
    sys.argv = [order.entry_point, *order.arguments]
    function()


def entry_point(package: str, name: str) -> Callable[[], Any]:
    """What ``name`` is among all entry points of a package, whatever their group; else a function of the package.

    https://docs.databricks.com/api/workspace/jobs/create, python_wheel_task. Raises DeploadError.
    """
    try:
        found = [each for each in metadata.distribution(package).entry_points if each.name == name]
    except metadata.PackageNotFoundError:
        raise DeploadError(f"there is no package {package} here; list its wheel in the task's libraries") from None
    if found:
        return cast("Callable[[], Any]", found[0].load())
    function = getattr(import_module(package.replace("-", "_")), name, None)
    if not callable(function):
        raise DeploadError(f"package {package} has neither an entry point {name} nor a function of that name")
    return cast("Callable[[], Any]", function)


def _script(order: Order, session: Callable[[], Any], secrets: SecretUtils) -> None:
    sys.argv = [order.name, *order.arguments]
    sys.path.insert(0, str(Path(order.name).parent))
    names = {"spark": session(), "dbutils": _utilities(order, Widgets({}), secrets), "display": display}
    runpy.run_path(order.name, names, run_name="__main__")


def _notebook(order: Order, session: Callable[[], Any], secrets: SecretUtils) -> None:
    notebooks.read(Path(order.name))  # all of its cells are judged before any is run
    names = _as_main()
    spark = session()
    widgets = Widgets(order.widgets)
    names |= {"spark": spark, "dbutils": _utilities(order, widgets, secrets), "display": display}
    if spark is not None and hasattr(spark, "_sc"):
        names["sc"] = spark.sparkContext
    os.chdir(Path(order.name).parent)  # as on Databricks, from runtime 14 on
    sys.path.insert(0, str(Path(order.name).parent))
    notebooks.Session(names, widgets.give, lambda query: display(spark.sql(query))).run(Path(order.name))


_KINDS = {"wheel": _wheel, "script": _script, "notebook": _notebook}


def _as_main() -> dict[str, Any]:
    """A fresh ``__main__``: what is defined there is sent to workers by value, and this module is in nobody's way."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    return vars(module)


def display(shown: Any, *_: Any, **__: Any) -> None:
    """What ``display`` does with a DataFrame, as text; anything else is printed."""
    if hasattr(shown, "show"):
        shown.show(truncate=False)
    else:
        print(shown)


def _utilities(order: Order, widgets: Widgets, secrets: SecretUtils) -> Utilities:
    addresses = Addresses(Path(order.root) if order.root else None)

    def start(path: str, seconds: float, given: Mapping[str, str]) -> str:
        return _other_notebook(order, path, seconds, given)

    values = FileTaskValues(order.values, order.task)
    # Without a root the addresses mean a workspace, which the SDK reaches and this machine's files are not.
    fs = FileUtils(addresses) if addresses.root is not None else None
    return Utilities(widgets, values, secrets, fs, NotebookUtils(start))


def _other_notebook(order: Order, path: str, seconds: float, given: Mapping[str, str]) -> str:
    """Run a notebook in a process of its own, on the same compute. Raises NotebookError where it fails."""
    found = notebooks.beside(Path(order.name), path)
    if found is None:
        raise NotebookError(path, f"there is no such notebook beside {order.name}")
    file = Path(order.answer).with_name(f"{uuid.uuid4()}.json")
    widgets = {name: str(value) for name, value in given.items()}
    other = order.other(name=str(found), widgets=widgets, answer=str(file))
    with subprocess.Popen([sys.executable, "-m", handover.MODULE], stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin  # noqa: S101 - it is a pipe
        process.stdin.write(other.text())
        process.stdin.flush()
        try:
            process.wait(seconds or None)
        except subprocess.TimeoutExpired:
            process.kill()
            raise NotebookError(str(found), f"took longer than {seconds:g} s") from None
    ended = handover.answered(file)
    if ended is None or not ended.good:
        why = ended.error if ended else f"its process ended with code {process.returncode}"
        raise NotebookError(str(found), why)
    return ended.output or ""


# --- sessions -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _session(kind: handover.Session) -> Iterator[Callable[[], Any]]:
    """What gives the task's Spark session, which ends with the task, as its own; the application goes on."""
    if kind == "attached":
        with attached_session() as spark:
            yield lambda: spark
    elif kind == "connect":
        try:
            yield _connected
        finally:
            _disconnect()
    else:
        yield lambda: None


def _connected() -> Any:
    """The session of the server that the environment names; a task that asks for none has none."""
    from pyspark.sql import SparkSession

    return SparkSession.builder.getOrCreate()


def _disconnect() -> None:
    connect = sys.modules.get("pyspark.sql.connect.session")
    session = connect and (connect.SparkSession.getActiveSession() or connect.SparkSession._get_default_session())  # noqa: SLF001 - pyspark has no other way to ask without starting one
    if session:
        with contextlib.suppress(Exception):  # whatever the server says to it, the session is over
            session.stop()


# --- the process ----------------------------------------------------------------------------------------------------


def _end_with_whom_started_this() -> None:
    """Keep standard input for that alone: where it ends, this process and all that it started are killed."""
    line = os.dup(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(line, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


class _Hiding:
    """A stream in which the values of secrets are hidden."""

    def __init__(self, stream: TextIO, secrets: SecretUtils) -> None:
        self._stream, self._secrets = stream, secrets

    def write(self, text: str) -> int:
        self._stream.write(self._secrets.hide(text))
        self._stream.flush()  # the log is read while the task runs
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    code = main()
    os._exit(code)  # as a job ends on Databricks: without what was registered to be done at exit
