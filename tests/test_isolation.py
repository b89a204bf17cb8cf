"""Wheelhouses that disagree, at the same time in one application; and everything put back afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import depload
import topologies
from conftest import CLUSTER, run_on_spark, run_python, write_files
from depload.making.indexes import IndexOptions
from depload.pipeline import convert
from matrix import environments

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.pipeline import Converted

pytestmark = pytest.mark.spark

# The two of the release notes that everybody has pipelines on; the older one has no wheels for newer Pythons.
PANDAS = ("1.5.3" if sys.version_info < (3, 12) else "2.1.1", "2.2.2")


@pytest.fixture
def versions(published: Callable[..., Converted]) -> tuple[str, str]:
    """Run paths of two versions of one package."""
    return tuple(  # type: ignore[return-value]
        published(alpha=(version, {"alpha/__init__.py": f"NAME = {version!r}\n"})).path for version in ("1.0", "2.0")
    )


@pytest.fixture
def pandas_paths(tmp_path: Path, base: Path) -> tuple[str, str]:
    """Run paths of two versions of pandas."""
    paths = []
    for version in PANDAS:
        pins = f"pandas=={version}\nnumpy==1.26.4\n"
        source = write_files(tmp_path / version, {"requirements.txt": pins})
        paths.append(convert(source, base, options=IndexOptions(only_binary=(":all:",))).path)
    return paths[0], paths[1]


@pytest.mark.network
def test_two_sessions_of_one_application_never_see_the_wrong_pandas_in_200_interleaved_jobs(
    pandas_paths: tuple[str, str],
) -> None:
    answer = run_on_spark(
        """
        import threading
        from pyspark.sql.functions import udf

        def total(number):
            import pandas
            return f"{pandas.__version__} {int(pandas.DataFrame({'x': [number, 1]}).x.sum())}"

        wrong, done, errors = [], [], []

        def pipeline(path, version):
            session = spark.newSession()
            try:
                with depload.load(path, session, isolation="process", driver=False):
                    for job in range(100):
                        if job % 2:
                            found = session.sparkContext.parallelize(range(2), 2).map(total).collect()
                        else:
                            rows = session.range(0, 2, 1, 2).select(udf(total, "string")("id")).collect()
                            found = [row[0] for row in rows]
                        done.append(version)
                        if found != [f"{version} 1", f"{version} 2"]:
                            wrong.append([version, found])
            except Exception as error:
                errors.append(repr(error))

        threads = [threading.Thread(target=pipeline, args=pair) for pair in zip(sys.argv[1:3], sys.argv[3:])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        turns = sum(one != other for one, other in zip(done, done[1:]))
        answer.update(jobs=len(done), wrong=wrong, errors=errors, interleaved=turns > 20)
        answer["on the driver"] = "pandas" in sys.modules
        """,
        *pandas_paths,
        *PANDAS,
        master="local[4]",
    )
    assert answer == {"jobs": 200, "wrong": [], "errors": [], "interleaved": True, "on the driver": False}


CLIENT = """\
import json, sys, time, warnings
from pathlib import Path
sys.path.append(sys.argv[4])  # behind the client's own packages
import depload
from pyspark.sql import SparkSession
from pyspark.sql.functions import udf

warnings.simplefilter("ignore")
address, path, version = sys.argv[1:4]

def total(number):
    import pandas
    return f"{pandas.__version__} {int(pandas.DataFrame({'x': [number, 1]}).x.sum())}"

spark = SparkSession.builder.remote(address).create()
seen = []
with depload.load(path, spark, isolation="process", driver=False) as loaded:
    executors = sorted({worker.executor for worker in loaded.report.workers})
    Path(sys.argv[5]).touch()
    while not Path(sys.argv[6]).exists():  # until the other client has loaded as well
        time.sleep(0.05)
    for _ in range(100):
        rows = spark.range(0, 2, 1, 2).select(udf(total, "string", useArrow=False)("id")).collect()
        seen.append([row[0] for row in rows])
shared = spark.range(1).select(udf(lambda _: __import__("pandas").__version__, "string", useArrow=False)("id"))
answer = {"executors": executors, "wrong": [found for found in seen if found != [f"{version} 1", f"{version} 2"]]}
print(json.dumps({**answer, "jobs": len(seen), "after": shared.collect()[0][0] != version}))
"""


@pytest.mark.network
def test_two_clients_of_one_connect_server_never_see_the_wrong_pandas(
    pandas_paths: tuple[str, str], tmp_path: Path
) -> None:
    python = environments.ready(environments.LISTS / "spark-newest.txt", f"{sys.version_info[0]}.{sys.version_info[1]}")
    home = str(Path(depload.__file__).parent.parent)
    flags = [str(tmp_path / "one-has-loaded"), str(tmp_path / "two-has-loaded")]
    with topologies.connect_server(python, tmp_path / "server", master=CLUSTER) as address:
        clients = [
            subprocess.Popen(
                [str(python), "-c", CLIENT, address, path, version, home, *order],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for path, version, order in zip(pandas_paths, PANDAS, (flags, flags[::-1]), strict=True)
        ]
        said = [client.communicate(timeout=300) for client in clients]
    for (out, err), client in zip(said, clients, strict=True):
        assert client.returncode == 0, err[-3000:]
        assert json.loads(out.splitlines()[-1]) == {"executors": ["0", "1"], "wrong": [], "jobs": 100, "after": True}


@pytest.mark.network
def test_eight_threads_of_one_driver_each_get_their_own_pandas_in_200_jobs(pandas_paths: tuple[str, str]) -> None:
    answer = run_on_spark(
        """
        from concurrent.futures import ThreadPoolExecutor
        from pyspark.sql.functions import udf
        import warnings

        warnings.simplefilter("ignore", depload.DeploadWarning)

        def name(_):
            import pandas
            return pandas.__version__

        def pipeline(number):
            session = spark.newSession()
            with depload.load(sys.argv[1 + number % 2], session, isolation="process") as loaded:
                asked = session.range(0, 2, 1, 2).select(udf(name)("id"))
                seen = {row[0] for _ in range(24) for row in asked.collect()}
                seen |= set(session.sparkContext.parallelize(range(2), 2).map(name).collect())
            return sorted(seen)

        with ThreadPoolExecutor(8) as threads:
            answer["seen"] = list(threads.map(pipeline, range(8)))
        answer["left"] = [entry for entry in sys.path if "sites-of-this-test" in entry]
        """,
        *pandas_paths,
        master="local[4]",
    )
    assert answer == {"seen": [[version] for version in PANDAS] * 4, "left": []}


def test_everybody_else_goes_on_as_before_and_unloading_puts_back(versions: tuple[str, str], tmp_path: Path) -> None:
    installed = write_files(tmp_path / "installed", {"alpha.py": "NAME = 'installed'\n"})
    answer = run_on_spark(
        """
        from pyspark.sql.functions import udf

        def name(_):
            import alpha
            return alpha.NAME

        def seen(session):
            rows = session.range(0, 2, 1, 2).select(udf(name)("id")).collect()
            mapped = session.sparkContext.parallelize(range(2), 2).map(name).collect()
            return sorted({row[0] for row in rows} | set(mapped))

        def state(session):
            conf = session.conf.get("spark.sql.execution.pyspark.python", None)
            return [conf, session.sparkContext.pythonExec, session.sparkContext is sc, list(sys.path), dir(session)]

        other = spark.newSession()
        before = state(spark)
        with depload.load(sys.argv[1], spark, isolation="process") as loaded:
            answer["its own"] = seen(spark)
            answer["of a dataframe"] = spark.range(1).select(udf(name)("id").alias("n")).rdd.map(
                lambda row: [row.n, __import__("alpha").NAME]).collect()
            answer["another session"] = seen(other)
            answer["made from it"] = seen(spark.newSession())
            import alpha
            answer["driver"] = [alpha.NAME, loaded.report.isolation, len(loaded.report.workers)]
        answer["put back"] = state(spark) == before
        answer["after"] = seen(spark)
        answer["driver after"] = "alpha" in sys.modules
        with depload.load(sys.argv[2], spark, isolation="process"):
            import alpha
            answer["again"] = [alpha.NAME, seen(spark)]
        """,
        *versions,
        config={"spark.executorEnv.PYTHONPATH": str(installed)},
    )
    assert answer == {
        "its own": ["1.0"],
        "of a dataframe": [["1.0", "1.0"]],
        "another session": ["installed"],
        "made from it": ["installed"],
        "driver": ["1.0", "process", 2],
        "put back": True,
        "after": ["installed"],
        "driver after": False,
        "again": ["2.0", ["2.0"]],
    }


def test_shared_wheelhouses_take_turns_on_the_same_workers(versions: tuple[str, str]) -> None:
    answer = run_on_spark(
        """
        from pyspark.sql.functions import udf

        def name(_):
            try:
                import alpha
            except ImportError:
                return "none"
            return alpha.NAME

        def seen():
            rows = spark.range(0, 2, 1, 2).select(udf(name)("id")).collect()
            return sorted({row[0] for row in rows} | set(sc.parallelize(range(2), 2).map(name).collect()))

        answer["before"] = seen()
        for number in (1, 2, 1):
            with depload.load(sys.argv[number], spark):
                import alpha
                answer.setdefault("loaded", []).append([alpha.NAME, *seen()])
            answer.setdefault("after", []).append(seen())
        entries = [entry for entry in sys.path if "depload-sent" in entry or "sites-of-this-test" in entry]
        answer["left"] = [sc._python_includes, entries]
        """,
        *versions,
        master="local[2]",
    )
    assert answer["before"] == ["none"]
    assert answer["loaded"] == [["1.0", "1.0"], ["2.0", "2.0"], ["1.0", "1.0"]]
    assert answer["after"] == [["none"]] * 3
    assert answer["left"] == [[], []]


def test_a_version_that_only_sql_workers_have_imported_is_found_and_process_isolation_is_named(
    versions: tuple[str, str], tmp_path: Path
) -> None:
    installed = write_files(tmp_path / "installed", {"alpha.py": "__version__ = NAME = 'installed'\n"})
    answer = run_on_spark(
        """
        from pyspark.sql.functions import udf

        def name(_):
            import alpha
            return alpha.NAME

        answer["before"] = [row[0] for row in spark.range(0, 2, 1, 2).select(udf(name)("id")).collect()]
        try:
            depload.load(sys.argv[1], spark)
        except depload.DeploadError as error:
            answer["error"] = [type(error).__name__, str(error)]
        depload.load(sys.argv[1], spark, isolation="process")
        answer["then"] = [row[0] for row in spark.range(0, 2, 1, 2).select(udf(name)("id")).collect()]
        """,
        versions[0],
        master="local[2]",
        config={"spark.executorEnv.PYTHONPATH": str(installed)},
    )
    assert answer["before"] == ["installed", "installed"]
    assert answer["error"][0] == "WorkerError"
    assert "alpha: expected 1.0, found installed, imported before from" in answer["error"][1]
    assert "isolation='process'" in answer["error"][1]
    assert answer["then"] == ["1.0", "1.0"]


def test_a_driver_that_holds_another_version_is_left_alone_and_told(versions: tuple[str, str]) -> None:
    answer = run_on_spark(
        """
        import types, warnings
        alpha = types.ModuleType("alpha")
        alpha.__file__, alpha.__version__, alpha.NAME = "/installed/alpha.py", "0.9", "installed"
        sys.modules["alpha"] = alpha
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            loaded = depload.load(sys.argv[1], spark, isolation="process")
        answer["told"] = [str(told.message) for told in told if told.category is depload.DeploadWarning]
        answer["report"] = list(loaded.report.warnings)
        answer["driver"] = [loaded.site, loaded.report.driver, __import__("alpha").NAME]
        answer["workers"] = [worker.imported["alpha"].version for worker in loaded.report.workers]
        try:
            depload.load(sys.argv[1], spark, isolation="process", driver=True)
        except depload.DeploadError as error:
            answer["error"] = type(error).__name__
        answer["still"] = sc.parallelize([0], 1).count() and len(spark.conf.get("spark.sql.execution.pyspark.python"))
        """,
        versions[0],
        master="local[2]",
    )
    text = (
        "the driver was left as it is, only the workers have the wheelhouse: alpha: 0.9 is there "
        "(/installed/alpha.py), the wheelhouse brings 1.0"
    )
    assert answer["told"] == [text]
    assert answer["report"] == [text]
    assert answer["driver"] == [None, None, "installed"]
    assert answer["workers"] == ["1.0", "1.0"]
    assert answer["error"] == "AlreadyImportedError"
    assert answer["still"] > 0, "a call that fails leaves what was loaded before"


def test_what_cannot_go_together_is_refused_with_what_to_do(versions: tuple[str, str]) -> None:
    answer = run_on_spark(
        """
        def refused(*args, **kwargs):
            try:
                depload.load(*args, **kwargs)
            except depload.DeploadError as error:
                return str(error)

        one, two = sys.argv[1:]
        answer["spelling"] = refused(one, spark, isolation="none")
        answer["no spark"] = refused(one, isolation="process")
        answer["nothing"] = refused(one, driver=False)
        with depload.load(one, spark, isolation="process", driver=False):
            answer["two of a session"] = refused(two, spark, isolation="process", driver=False)
            answer["both ways"] = refused(one, spark)
            answer["still"] = bool(spark.conf.get("spark.sql.execution.pyspark.python", None))
        with depload.load(one, spark, driver=False):
            answer["shared"] = refused(two, spark.newSession(), driver=False)
        """,
        *versions,
        master="local[1]",
    )
    assert answer["spelling"] == "isolation is 'shared' or 'process', not 'none'"
    assert "hand over spark=" in answer["no spark"]
    assert "leaves nothing to load into" in answer["nothing"]
    assert "this session runs with the wheelhouse" in answer["two of a session"]
    assert "spark.newSession()" in answer["two of a session"]
    assert "isolation='process'" in answer["both ways"]
    assert answer["still"] is True
    assert "another wheelhouse is loaded and disagrees" in answer["shared"]


def test_a_platform_that_ignores_the_sessions_python_is_found_out(versions: tuple[str, str]) -> None:
    answer = run_on_spark(
        """
        from depload.loading import sessions
        sessions._PYTHON = "spark.sql.something.that.nobody.reads"  # as with PySpark 3.4, which has no such conf
        try:
            depload.load(sys.argv[1], spark, isolation="process")
        except depload.DeploadError as error:
            answer["error"] = [type(error).__name__, str(error)]
        answer["context"] = spark.sparkContext is sc
        with depload.load(sys.argv[1], spark.sparkContext, isolation="process", driver=False):
            answer["names"] = sc.parallelize([0], 1).map(lambda _: __import__("alpha").NAME).collect()
        """,
        versions[0],
        master="local[1]",
    )
    assert answer["error"][0] == "SparkSessionError"
    assert "runs the session's functions in its own Python workers" in answer["error"][1]
    assert "Hand over the SparkContext" in answer["error"][1]
    assert answer["context"] is True
    assert answer["names"] == ["1.0"], "what the message says to do instead works"


def test_a_failed_load_puts_the_session_back(published: Callable[..., Converted]) -> None:
    broken = published(broken=("1.0", {"broken.py": "raise OSError('libgomp.so.1 is missing')\n"}))
    answer = run_on_spark(
        """
        try:
            depload.load(sys.argv[1], spark, isolation="process")
        except depload.DeploadError as error:
            answer["error"] = str(error)
        answer["conf"] = spark.conf.get("spark.sql.execution.pyspark.python", None)
        answer["context"] = spark.sparkContext is sc
        answer["path"] = [entry for entry in sys.path if "sites-of-this-test" in entry]
        """,
        broken.path,
        master="local[1]",
    )
    assert "broken: expected 1.0, found OSError: libgomp.so.1 is missing" in answer["error"]
    assert (answer["conf"], answer["context"], answer["path"]) == (None, True, [])


def test_a_context_that_is_handed_over_runs_its_functions_in_workers_of_their_own(versions: tuple[str, str]) -> None:
    answer = run_on_spark(
        """
        def name(_):
            import alpha
            return [alpha.NAME, __import__("os").environ["DEPLOAD_WORKS_FOR"][:9]]

        before = sc.pythonExec
        with depload.load(sys.argv[1], sc, isolation="process"):
            answer["names"] = sc.parallelize(range(2), 2).map(name).collect()
        answer["put back"] = sc.pythonExec == before
        """,
        versions[0],
    )
    assert answer == {"names": [["1.0", "_depload_"]] * 2, "put back": True}


def test_isolated_workers_without_the_run_path_get_the_wheels_and_later_executors_too(
    versions: tuple[str, str], base: Path
) -> None:
    answer = run_on_spark(
        """
        import os, signal, time
        from pyspark.sql.functions import udf
        os.chdir(sys.argv[1])  # the executors have a working directory of their own, so this path is not theirs
        loaded = depload.load("/proc/self/cwd/" + os.path.relpath(sys.argv[2]), spark, isolation="process")
        answer["delivery"] = loaded.report.delivery.partition(":")[0]

        def ask(_):
            import alpha, os
            return alpha.NAME + " " + os.getcwd() + " " + str(os.getppid())

        def parent(pid):
            with open(f"/proc/{pid}/stat") as file:
                return int(file.read().rpartition(")")[2].split()[1])

        def asked():
            return [row[0].split() for row in spark.range(0, 2, 1, 2).select(udf(ask)("id")).collect()]

        before = asked()
        for _, _, daemon in before:
            os.kill(parent(int(daemon)), signal.SIGKILL)  # the executors' Java processes
        time.sleep(1)
        after = asked()
        answer["names"] = sorted({name for name, _, _ in [*before, *after]})
        answer["new"] = not {place for _, place, _ in before} & {place for _, place, _ in after}
        """,
        str(base),
        versions[0],
        config={"spark.executorEnv.DEPLOAD_SITES": str(base / "sites-of-the-workers")},
    )
    assert answer == {"delivery": "wheels", "names": ["1.0"], "new": True}


def test_a_worker_whose_disk_is_full_says_so_with_its_host(tmp_path: Path, published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha/__init__.py": "", "alpha/big.bin": bytes(range(256)) * 20_000}))
    small = tmp_path / "python-with-a-small-disk"
    small.write_text(f'#!/bin/sh\nulimit -f 1000\nexec {sys.executable} "$@"\n')  # blocks of 512 bytes
    small.chmod(0o755)
    answer = run_python(
        """
        import json, os, socket, sys
        os.environ["PYSPARK_PYTHON"] = sys.argv[2]
        import depload
        from depload.local.embedded import spark_session
        with spark_session("local-cluster[2,1,1024]", **{"spark.executorEnv.DEPLOAD_SITES": sys.argv[3]}) as spark:
            try:
                depload.load(sys.argv[1], spark)
            except depload.DeploadError as error:
                print(json.dumps([socket.gethostname(), str(error)]))
        """,
        converted.path,
        str(small),
        str(tmp_path / "sites-of-the-workers"),
    )
    host, message = answer
    for executor in "01":
        assert f"host {host}, executor {executor}" in message
    assert "the wheelhouse: expected activated, found ActivationError" in message
    assert "the wheels could not be unpacked there: [Errno 27] File too large" in message
    assert list((tmp_path / "sites-of-the-workers" / "sites").iterdir()) == []
