"""What is sent to the workers where the run path lies in a workspace, and that it is there for those who come late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conftest import OFFLINE, make_wheel, run_on_spark
from depload import convert

if TYPE_CHECKING:
    from pathlib import Path

    from workspace import Server

pytest_plugins = ["workspace.fixture"]
pytestmark = pytest.mark.spark

LOAD = """\
    import os, shutil, signal, time
    from depload.published import runs
    from pyspark.sql.functions import udf

    def executor(_):
        import os, time
        time.sleep(0.2)
        with open(f"/proc/{os.getppid()}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1]), os.getcwd()

    with depload.load(sys.argv[1], spark, isolation=sys.argv[2]) as loaded:
        answer["delivery"] = loaded.report.delivery
        answer["workers"] = [worker.imported["alpha"].version for worker in loaded.report.workers]
        shutil.rmtree(runs._own_directory())  # what the driver fetched for itself
        before = spark.newSession().sparkContext.parallelize([0, 1], 2).map(executor).collect()
        for java, _ in before:
            os.kill(java, signal.SIGKILL)  # and the executors that have it
        time.sleep(1)

        @udf("string")
        def name(_):
            import alpha, os, time
            time.sleep(0.2)
            return f"{alpha.NAME} {os.getcwd()}"

        after = [row[0].split() for row in spark.range(0, 4, 1, 4).select(name("id")).collect()]
    answer["late"] = sorted({name for name, _ in after})
    answer["new"] = not {place for _, place in before} & {place for _, place in after}
    answer["after"] = spark.range(4).selectExpr("sum(id)").first()[0]
    """


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Executors on machines of their own, where the driver has unpacked nothing."""
    return {"spark.executorEnv.DEPLOAD_SITES": str(tmp_path / "sites-of-workers")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_wheel(tmp_path / "source", "alpha", "1.0", {"alpha/__init__.py": "NAME = 'alpha'\n"})
    return tmp_path / "source"


def hadoop(root: Path) -> dict[str, str]:
    """A file system for ``dbfs:``, as far as it can be had here: Hadoop's own that shows a directory under a scheme."""
    (root / "deps").mkdir(parents=True, exist_ok=True)
    viewfs = "spark.hadoop.fs.viewfs"
    return {
        "spark.hadoop.fs.dbfs.impl": "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
        f"{viewfs}.overload.scheme.target.file.impl": "org.apache.hadoop.fs.LocalFileSystem",
        f"{viewfs}.mounttable.default.link./deps": (root / "deps").as_uri(),
    }


@pytest.mark.parametrize("isolation", ["shared", "process"])
def test_executors_fetch_a_wheelhouse_on_dbfs_from_there_and_those_that_come_late_too(
    isolation: str, workspace: Server, source: Path, elsewhere: dict[str, str]
) -> None:
    config = {**elsewhere, **hadoop(workspace.folder / "dbfs")}
    path = convert(source, "dbfs:/deps", options=OFFLINE, via=workspace.client()).path
    answer = run_on_spark(LOAD, path, isolation, config=config, environment=workspace.environment)
    assert answer["delivery"].startswith("uri: every executor fetches the wheelhouse from DBFS")
    assert answer["workers"] == ["1.0", "1.0"]
    assert (answer["late"], answer["new"], answer["after"]) == (["alpha"], True, 6)


def test_a_spark_that_cannot_read_dbfs_is_sent_a_copy_that_stays(
    workspace: Server, source: Path, elsewhere: dict[str, str]
) -> None:
    path = convert(source, "dbfs:/deps", options=OFFLINE, via=workspace.client()).path
    answer = run_on_spark(LOAD, path, "shared", config=elsewhere, environment=workspace.environment)
    assert answer["delivery"].startswith("wheels: sent through Spark from a copy that lives as long as the session")
    assert (answer["late"], answer["new"], answer["after"]) == (["alpha"], True, 6)


def test_a_wheelhouse_on_a_volume_is_sent_as_a_copy_that_stays(
    workspace: Server, source: Path, elsewhere: dict[str, str]
) -> None:
    path = convert(source, "/Volumes/main/default/depload", options=OFFLINE, via=workspace.client()).path
    answer = run_on_spark(LOAD, path, "shared", config=elsewhere, environment=workspace.environment)
    assert answer["delivery"].startswith("wheels: sent through Spark from a copy that lives as long as the session")
    assert (answer["late"], answer["new"], answer["after"]) == (["alpha"], True, 6)
