"""Loading on real Spark: two executor processes, each with Python workers of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import packaging
import pytest

from conftest import OFFLINE, make_wheel, run_on_spark, run_python, write_files
from depload.errors import (
    AlreadyImportedError,
    AlteredWheelhouseError,
    DriverError,
    NotAWheelhouseError,
    SparkSessionError,
    TargetMismatchError,
    WheelhouseConflictError,
)
from depload.loading.loader import load, proof_names
from depload.making import tools
from depload.pipeline import convert
from depload.standards.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.pipeline import Converted


OTHER_PYTHONS = [f"3.{minor}" for minor in (10, 11, 12, 13) if minor != sys.version_info[1]]


@pytest.mark.spark
@pytest.mark.network
def test_native_packages_work_on_every_worker(examples: Path, base: Path) -> None:
    converted = convert(examples / "requirements.zip", base)
    answer = run_on_spark(
        """
        loaded = depload.load(sys.argv[1], spark)
        answer["report"] = loaded.report.to_json()

        def fit(rows):
            import numpy
            import pandas
            from scipy import linalg
            from sklearn.linear_model import LinearRegression

            frame = pandas.DataFrame({"x": list(rows)})
            model = LinearRegression().fit(frame[["x"]], 2 * frame["x"] + 1)
            return [[round(float(model.coef_[0]), 6), float(linalg.det(numpy.eye(2))), pandas.__file__]]

        answer["fits"] = sc.parallelize(range(100), 2).mapPartitions(fit).collect()

        from pyspark.sql.functions import udf

        @udf("string")
        def version(_):
            import sklearn
            return sklearn.__version__

        answer["udf"] = [row[0] for row in spark.range(2).select(version("id")).collect()]
        import pandas
        answer["driver"] = pandas.__file__
        """,
        converted.path,
    )
    site = answer["report"]["driver"]["site"]
    versions = {wheel.name: wheel.version for wheel in converted.wheels}
    assert {row["executor"] for row in answer["report"]["workers"]} == {"0", "1"}
    for worker in answer["report"]["workers"]:
        assert worker["digest"] == converted.digest
        assert worker["imported"]["pandas"]["version"] == versions["pandas"]
        assert worker["imported"]["sklearn"]["file"].startswith(site)
    unpacked = [process["unpacked"] for process in (answer["report"]["driver"], *answer["report"]["workers"])]
    assert unpacked.count(True) == 1, "once per node, whatever the number of processes"
    assert [fit[:2] for fit in answer["fits"]] == [[2.0, 1.0]] * 2
    assert all(fit[2].startswith(site) for fit in answer["fits"])
    assert answer["udf"] == [versions["scikit-learn"]] * 2
    assert answer["driver"].startswith(site)


WORKER_FEATURES = """
loaded = depload.load(sys.argv[1], spark)

def before_any_import(_):
    import importlib.metadata as metadata
    import sys
    points = metadata.entry_points(group="acme.plugins")
    assert "acme" not in sys.modules
    return [[metadata.version("acme-text"), [point.load()() for point in points]]]

def features(_):
    from importlib.resources import files
    import acme.numbers, acme.text, from_pth, _single
    return [{
        "namespace": [acme.numbers.NAME, acme.text.NAME],
        "resource": files("acme.text").joinpath("words.txt").read_text(),
        "pth": from_pth.NAME,
        "module": _single.NAME,
    }]

# Python workers are pooled by their environment: another one means processes that have activated nothing yet.
sc.environment["FRESH"] = "1"
answer["before"] = sc.parallelize([0, 1], 2).mapPartitions(before_any_import).collect()
answer["features"] = sc.parallelize([0, 1], 2).mapPartitions(features).collect()

import acme.text
answer["function"] = sc.parallelize(["a", "b"], 2).map(acme.text.shout).collect()
answer["instances"] = [str(word) for word in sc.parallelize([acme.text.Word("x"), acme.text.Word("y")], 2).collect()]
answer["classes"] = sc.parallelize(["p", "q"], 2).map(acme.text.Word).map(str).collect()
again = depload.load(sys.argv[1], spark)
answer["again"] = again.report == loaded.report and sys.path.count(loaded.site) == 1
other = depload.load(sys.argv[2], spark)
names = sc.parallelize([0, 1], 2).map(lambda _: __import__("unrelated").NAME + __import__("_single").NAME)
answer["both"] = names.collect()
try:
    depload.load(sys.argv[3], spark)
except depload.DeploadError as error:
    answer["conflict"] = [type(error).__name__, str(error)]
"""


@pytest.mark.spark
def test_everything_a_package_may_do_works_on_workers(tmp_path: Path, base: Path) -> None:
    source = tmp_path / "wheels"
    make_wheel(source, "acme-numbers", "1.0", {"acme/numbers.py": "NAME = 'numbers'\n"})
    text = """\
        NAME = "text"

        def shout(word):
            return word.upper()

        def plugin():
            return "plugged"

        class Word:
            def __init__(self, word):
                self.word = word

            def __str__(self):
                return f"<{self.word}>"
        """
    files = {
        "acme/text/__init__.py": text,
        "acme/text/words.txt": "some words",
        "acme_text-3.1.dist-info/entry_points.txt": "[acme.plugins]\nshouting = acme.text:plugin\n",
    }
    make_wheel(source, "acme-text", "3.1", files)
    make_wheel(source, "with-pth", "1.0", {"with_pth.pth": "hidden/lib\n", "hidden/lib/from_pth.py": "NAME = 'pth'\n"})
    make_wheel(source, "single", "1.0", {"_single.py": "NAME = 'single'\n"})
    converted = convert(source, base, options=OFFLINE)
    make_wheel(tmp_path / "agrees", "unrelated", "1.0", {"unrelated.py": "NAME = 'unrelated '\n"})
    make_wheel(tmp_path / "agrees", "single", "1.0", {"_single.py": "NAME = 'single'\n"})
    agrees = convert(tmp_path / "agrees", base, options=OFFLINE)
    make_wheel(tmp_path / "disagrees", "single", "2.0", {"_single.py": "NAME = 'other'\n"})
    disagrees = convert(tmp_path / "disagrees", base, options=OFFLINE)
    answer = run_on_spark(WORKER_FEATURES, converted.path, agrees.path, disagrees.path)
    expected = {"namespace": ["numbers", "text"], "resource": "some words", "pth": "pth", "module": "single"}
    assert answer["before"] == [["3.1", ["plugged"]]] * 2
    assert answer["features"] == [expected] * 2
    assert answer["function"] == ["A", "B"]
    assert answer["instances"] == ["<x>", "<y>"]
    assert answer["classes"] == ["<p>", "<q>"]
    assert answer["again"] is True
    assert answer["both"] == ["unrelated single"] * 2
    name, message = answer["conflict"]
    assert name == "WheelhouseConflictError"
    assert "single: 1.0 is there" in message
    assert "brings 2.0" in message


@pytest.mark.spark
def test_workers_that_cannot_see_the_run_path_get_the_wheels_themselves(
    published: Callable[..., Converted], base: Path
) -> None:
    converted = published(alpha=("1.0", {"alpha.py": "NAME = 'alpha'\n"}))
    answer = run_on_spark(
        """
        import os
        os.chdir(sys.argv[1])  # the executors have a working directory of their own, so this path is not theirs
        loaded = depload.load("/proc/self/cwd/" + sys.argv[2], spark)
        answer["delivery"] = loaded.report.delivery
        answer["workers"] = [worker.imported["alpha"].version for worker in loaded.report.workers]
        answer["names"] = sc.parallelize([0, 1], 2).map(lambda _: __import__("alpha").NAME).collect()
        """,
        str(base),
        os.path.relpath(converted.path, base),
        config={"spark.executorEnv.DEPLOAD_SITES": str(base / "sites-of-the-workers")},
    )
    assert answer["delivery"].startswith("wheels: sent through Spark")
    assert answer["workers"] == ["1.0", "1.0"]
    assert answer["names"] == ["alpha", "alpha"]


@pytest.mark.spark
def test_a_worker_with_another_version_already_imported_is_named(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(alpha=("2.0", {"alpha.py": "NAME = 'new'\n"}))
    old = {"alpha.py": "__version__ = '1.0'\n", "sitecustomize.py": "import alpha\n"}
    answer = run_on_spark(
        """
        try:
            depload.load(sys.argv[1], spark)
        except depload.DeploadError as error:
            answer["error"] = [type(error).__name__, [list(fault) for fault in error.faults]]
        answer["path"] = [entry for entry in sys.path if "sites-of-this-test" in entry or "reference" in entry]
        answer["includes"] = sc._python_includes
        """,
        converted.path,
        config={"spark.executorEnv.PYTHONPATH": str(write_files(tmp_path / "preinstalled", old))},
    )
    name, faults = answer["error"]
    assert name == "WorkerError"
    assert {(executor, package, expected) for _, executor, package, expected, _ in faults} == {
        ("0", "alpha", "2.0"),
        ("1", "alpha", "2.0"),
    }
    assert all(found.startswith("1.0, imported before from") for *_, found in faults)
    assert answer["path"] == answer["includes"] == [], "a failed load leaves driver and session as they were"


@pytest.mark.spark
@pytest.mark.parametrize(
    ("code", "found", "remedy"),
    [
        ("raise OSError('libgomp.so.1 is missing')", "OSError: libgomp.so.1 is missing", "such as a system library"),
        ("import absent.deep", "ModuleNotFoundError: No module named 'absent'", "requires the package that has absent"),
        ("import broken.gone", "ModuleNotFoundError: No module named 'broken.gone'", "such as a system library"),
    ],
)
def test_a_package_that_fails_to_import_on_workers_is_an_error_that_says_why_and_how_to_mend_it(
    code: str, found: str, remedy: str, published: Callable[..., Converted]
) -> None:
    converted = published(broken=("1.0", {"broken.py": f"{code}\n"}))
    answer = run_on_spark(
        """
        try:
            depload.load(sys.argv[1], spark)
        except depload.DeploadError as error:
            answer["error"] = str(error)
        """,
        converted.path,
        master="local[2]",
    )
    assert answer["error"].count("\n  - ") == 1, "two workers of one executor, and one thing that is wrong"
    assert f"broken: expected 1.0, found {found}" in answer["error"]
    assert remedy in answer["error"]


@pytest.mark.spark
def test_loose_modules_work_on_workers_as_they_did_in_their_folder(examples: Path, base: Path) -> None:
    converted = convert(examples / "pure_python.zip", base, options=OFFLINE)
    answer = run_on_spark(
        """
        depload.load(sys.argv[1], spark)
        from user_modules import calculator
        from user_modules.utils import helpers
        answer["net"] = sc.parallelize([119, 238], 2).map(calculator.net).collect()
        answer["same"] = calculator.helpers is helpers
        answer["leaked"] = "utils" in sys.modules
        """,
        converted.path,
        master="local[2]",
    )
    assert answer == {"net": [100.0, 200.0], "same": True, "leaked": False}


@pytest.mark.spark
def test_an_executor_that_comes_later_has_everything_too(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": "NAME = 'alpha'\n"}))
    answer = run_on_spark(
        """
        import os, signal, time
        loaded = depload.load(sys.argv[1], spark)

        def executor(_):
            return [os.getppid(), os.getcwd()]

        def parent(pid):
            with open(f"/proc/{pid}/stat") as file:
                return int(file.read().rpartition(")")[2].split()[1])

        before = sc.parallelize([0, 1], 2).map(executor).collect()
        for daemon, _ in before:
            os.kill(parent(daemon), signal.SIGKILL)  # the executors' Java processes
        time.sleep(1)
        task = lambda row: [__import__("alpha").NAME, os.getcwd()]
        after = sc.parallelize([0, 1], 2).map(task).collect()
        answer["names"] = [name for name, _ in after]
        answer["new"] = not {place for _, place in before} & {place for _, place in after}
        """,
        converted.path,
    )
    assert answer == {"names": ["alpha", "alpha"], "new": True}


@pytest.mark.spark
def test_a_job_whose_executor_is_killed_in_the_middle_ends_with_the_right_packages(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(alpha=("1.0", {"alpha.py": "NAME = 'alpha'\n"}))
    (tmp_path / "seen").mkdir()
    answer = run_on_spark(
        """
        import os, pathlib, signal, threading, time
        depload.load(sys.argv[1], spark)
        seen = pathlib.Path(sys.argv[2])

        def slow(row):
            import alpha, pathlib, os, time
            pathlib.Path(place, f"{row}-{os.getppid()}").touch()
            time.sleep(0.3)
            return [alpha.NAME, os.getcwd()]

        place = str(seen)
        names = []
        job = threading.Thread(target=lambda: names.extend(sc.parallelize(range(8), 8).map(slow).collect()))
        job.start()
        while not (begun := list(seen.iterdir())):
            time.sleep(0.01)
        daemon = begun[0].name.rpartition("-")[2]
        with open(f"/proc/{daemon}/stat") as file:
            os.kill(int(file.read().rpartition(")")[2].split()[1]), signal.SIGKILL)  # the executor's Java process
        job.join()
        answer.update(names=[name for name, _ in names], begun=len(list(seen.iterdir())) > 8)
        """,
        converted.path,
        str(tmp_path / "seen"),
    )
    assert answer == {"names": ["alpha"] * 8, "begun": True}


@pytest.mark.spark
def test_workers_of_another_python_are_an_error_that_says_so(published: Callable[..., Converted]) -> None:
    other = next((found for found in map(tools.interpreter, OTHER_PYTHONS) if found), None)
    if other is None:
        pytest.skip("there is no other Python on this machine")
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    answer = run_python(
        """
        import json, os, sys
        os.environ["PYSPARK_PYTHON"] = sys.argv[2]
        import depload
        from depload.local.embedded import spark_session
        with spark_session("local[2]") as spark:
            try:
                depload.load(sys.argv[1], spark)
            except depload.DeploadError as error:
                print(json.dumps([type(error).__name__, str(error)]))
        """,
        converted.path,
        other,
    )
    assert answer[0] == "SparkSessionError"
    assert "PYTHON_VERSION_MISMATCH" in answer[1]
    assert "\n" not in answer[1]


@pytest.mark.spark
def test_a_stopped_session_is_refused(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    answer = run_python(
        """
        import json, sys
        import depload
        from depload.local.embedded import spark_session
        with spark_session("local[1]") as spark:
            pass
        try:
            depload.load(sys.argv[1], spark)
        except depload.DeploadError as error:
            print(json.dumps([type(error).__name__, str(error)]))
        """,
        converted.path,
    )
    assert answer == ["SparkSessionError", "the Spark session was stopped; start a new one"]


# --- the driver alone ---


def test_the_driver_alone_needs_no_spark(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha/__init__.py": "NAME = 'alpha'\n"}))
    answer = run_python(
        """
        import json, sys
        import depload
        loaded = depload.load(sys.argv[1])
        heavy = {"pyspark", "click", "uv", "depload.making.resolver", "depload.pipeline"} & set(sys.modules)
        import alpha
        answer = {"file": alpha.__file__, "site": loaded.site, "heavy": sorted(heavy)}
        print(json.dumps({**answer, "workers": len(loaded.report.workers)}))
        """,
        converted.path,
    )
    assert answer["file"].startswith(answer["site"])
    assert answer["workers"] == 0
    assert answer["heavy"] == []


def test_a_module_imported_before_in_another_version_is_named_with_the_remedy(
    published: Callable[..., Converted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = published(earlier=("2.0", {"earlier.py": ""}))
    monkeypatch.syspath_prepend(write_files(tmp_path / "old", {"earlier.py": "__version__ = '1.0'\n"}))
    __import__("earlier")
    before = list(sys.path)
    with pytest.raises(AlreadyImportedError) as raised:
        load(converted.path)
    assert raised.value.conflicts[0][:3] == ("earlier", "1.0", "2.0")
    assert "restart the Python process, and load first" in str(raised.value)
    assert sys.path == before
    del sys.modules["earlier"]


def a_packaging(version: str) -> tuple[str, dict[str, str]]:
    """The packaging that is installed, as another version."""
    folder = Path(packaging.__file__).parent
    files = {f"packaging/{file.name}": file.read_text("utf-8") for file in folder.glob("*.py")}
    return version, {**files, "packaging/__init__.py": f"__version__ = {version!r}\n"}


def test_another_packaging_than_the_one_depload_stands_on_is_no_conflict(published: Callable[..., Converted]) -> None:
    answer = run_python(
        """
        import json, sys
        import depload
        before = depload.Target.of("3.12")
        with depload.load(sys.argv[1]) as loaded:
            from packaging import __version__ as inside, version
            depload.verify(sys.argv[1])
            same = depload.Target.of("3.12") == before
        print(json.dumps([inside, version.__file__.startswith(loaded.site), same]))
        """,
        published(packaging=a_packaging("99.0")).path,
    )
    assert answer == ["99.0", True, True]


@pytest.mark.parametrize(
    ("held", "version"),
    [
        ("import packaging", "99.0"),
        ("from packaging.version import Version", "99.0"),
        ("from packaging import utils", "99.0"),
        ("from packaging import version; mine = version.Version('1'); del version", "99.0"),
        ("", "21.2"),
    ],
)
def test_a_packaging_that_the_users_code_holds_or_that_is_too_old_is_a_conflict_as_any_other(
    held: str, version: str, published: Callable[..., Converted]
) -> None:
    answer = run_python(
        f"""
        import json, sys
        import depload
        {held}
        try:
            depload.load(sys.argv[1])
        except depload.DeploadError as error:
            print(json.dumps([type(error).__name__, error.conflicts[0][0]]))
        """,
        published(packaging=a_packaging(version)).path,
    )
    assert answer == ["AlreadyImportedError", "packaging"]


@pytest.mark.parametrize(
    ("attempt", "ending"),
    [
        ("import earlier; depload.load(sys.argv[1])", "AlreadyImportedError"),
        ("depload.load(sys.argv[1], imports=['packaging', 'unsound'])", "DriverError"),
        ("depload.load(sys.argv[1], imports=['packaging']).unload()", None),
    ],
)
def test_the_packaging_that_depload_stands_on_is_back_after_a_load_that_failed_or_was_unloaded(
    attempt: str, ending: str | None, published: Callable[..., Converted], tmp_path: Path
) -> None:
    answer = run_python(
        f"""
        import json, sys
        import depload
        from depload import Target
        sys.path.insert(0, sys.argv[2])

        def there():
            return {{name: id(module) for name, module in sys.modules.items() if name.partition(".")[0] == "packaging"}}

        before, ending = there(), None
        try:
            {attempt}
        except depload.DeploadError as error:
            ending = type(error).__name__
        print(json.dumps([ending, bool(before), before.items() <= there().items()]))
        """,
        published(
            packaging=a_packaging("99.0"),
            earlier=("2.0", {"earlier.py": ""}),
            unsound=("1.0", {"unsound.py": "raise OSError('libgomp.so.1 is missing')\n"}),
        ).path,
        str(write_files(tmp_path / "old", {"earlier.py": "__version__ = '1.0'\n"})),
    )
    assert answer == [ending, True, True]


@pytest.mark.parametrize("more", [{}, {"more": ("1.0", {"more.py": ""})}], ids=["the same once more", "another"])
def test_the_packaging_that_depload_stands_on_stays_away_until_no_wheelhouse_brings_one(
    more: dict[str, tuple[str, dict[str, str]]], published: Callable[..., Converted]
) -> None:
    answer = run_python(
        """
        import json, sys
        import depload
        from depload import Target
        own = id(sys.modules["packaging"])
        first, second = (depload.load(path) for path in sys.argv[1:])
        import packaging
        first.unload()
        import packaging
        meanwhile = [packaging.__version__, packaging.__file__.startswith(second.site)]
        del packaging
        second.unload()
        print(json.dumps([*meanwhile, id(sys.modules.get("packaging")) == own]))
        """,
        published(packaging=a_packaging("99.0")).path,
        published(packaging=a_packaging("99.0"), **more).path,
    )
    assert answer == ["99.0", True, True]


def test_a_name_that_the_driver_cannot_import_is_named_with_its_reason(published: Callable[..., Converted]) -> None:
    converted = published(unsound=("1.0", {"unsound.py": "raise OSError('libgomp.so.1 is missing')\n"}))
    before = list(sys.path)
    with pytest.raises(DriverError) as raised:
        load(converted.path, imports=["unsound"])
    assert raised.value.faults == (("unsound", "OSError: libgomp.so.1 is missing"),)
    assert sys.path == before


def test_two_wheelhouses_that_disagree_are_refused(published: Callable[..., Converted]) -> None:
    first = published(disagreed=("1.0", {"disagreed.py": ""}))
    second = published(disagreed=("2.0", {"disagreed.py": ""}))
    answer = run_python(
        """
        import json, sys
        import depload
        depload.load(sys.argv[1])
        try:
            depload.load(sys.argv[2])
        except depload.DeploadError as error:
            print(json.dumps([type(error).__name__, [conflict[:3] for conflict in error.conflicts]]))
        """,
        first.path,
        second.path,
    )
    assert answer == [WheelhouseConflictError.__name__, [["disagreed", "1.0", "2.0"]]]


def test_wheels_for_another_python_are_refused_with_the_command_that_mends_it(tmp_path: Path, base: Path) -> None:
    source = tmp_path / "wheels"
    made = make_wheel(source, "native", "1.0", {"native.py": ""})
    other = Target("3.10" if Target.running().python != "3.10" else "3.12", "manylinux_2_35_x86_64")
    tag = f"cp{other.python.replace('.', '')}"
    made.rename(made.with_name(f"native-1.0-{tag}-{tag}-manylinux_2_17_x86_64.whl"))
    converted = convert(source, base, target=other, options=OFFLINE)
    with pytest.raises(TargetMismatchError) as raised:
        load(converted.path)
    assert raised.value.made_for == str(other)
    assert f"--python {Target.running().python}" in str(raised.value)


def test_a_pure_wheelhouse_loads_on_another_python_than_it_was_made_for(tmp_path: Path, base: Path) -> None:
    make_wheel(tmp_path / "wheels", "anywhere", "1.0", {"anywhere.py": ""})
    other = Target("3.10" if Target.running().python != "3.10" else "3.12", "manylinux_2_35_x86_64")
    converted = convert(tmp_path / "wheels", base, target=other, options=OFFLINE)
    answer = run_python(
        """
        import json, sys, depload
        print(json.dumps(depload.load(sys.argv[1], imports=["anywhere"]).report.to_json()))
        """,
        converted.path,
    )
    assert answer["driver"]["imported"]["anywhere"]["version"] == "1.0"


def test_an_altered_wheelhouse_is_not_loaded(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": "NAME = 'alpha'\n"}))
    with Path(converted.wheelhouse).open("r+b") as file:
        file.seek(-200, 2)
        file.write(b"!")
    with pytest.raises((AlteredWheelhouseError, NotAWheelhouseError)):
        load(converted.path)


def test_what_is_no_spark_session_is_refused(published: Callable[..., Converted]) -> None:
    with pytest.raises(SparkSessionError, match="str is not a Spark session"):
        load(published(alpha=("1.0", {"alpha.py": ""})).path, "local[2]")


@pytest.mark.parametrize(
    ("name", "modules", "proven"),
    [
        ("setuptools", ["setuptools", "pkg_resources", "_distutils_hack"], ["setuptools"]),
        ("pyyaml", ["yaml", "_yaml"], ["yaml"]),
        ("attrs", ["attr", "attrs"], ["attrs"]),
        ("google-cloud-storage", ["google.cloud.storage", "google.cloud.storage_v2"], ["google.cloud.storage"]),
        ("messy", ["messy", "tests", "examples"], ["messy"]),
        ("pillow", ["PIL"], ["PIL"]),
        ("only-a-command", [], []),
    ],
)
def test_the_proof_imports_what_a_package_is_for(
    name: str, modules: list[str], proven: list[str], tmp_path: Path, base: Path
) -> None:
    files = {f"{module.replace('.', '/')}/__init__.py": "" for module in modules} or {"data.txt": ""}
    make_wheel(tmp_path / "wheels", name, "1.0", files)
    assert proof_names(convert(tmp_path / "wheels", base, options=OFFLINE).manifest) == proven
