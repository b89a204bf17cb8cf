"""Why an embedded Spark does not start, and what it leaves on disk: nothing of its own, and what is another's."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import run_on_spark, run_python
from depload.errors import SparkSessionError
from depload.local import embedded


@pytest.mark.spark
def test_executors_of_an_application_that_started_in_the_same_second_keep_their_directories() -> None:
    answer = run_on_spark(
        """
        from pathlib import Path

        own = sorted(sc.parallelize(range(8), 8).map(lambda _: str(Path.cwd())).distinct().collect())
        other = Path(own[0]).with_name("7")
        other.mkdir()
        command = '"--driver-url" "spark://CoarseGrainedScheduler@127.0.0.1:1" "--executor-id" "7"'
        (other / "stderr").write_text(f"Spark Executor Command: {command}\\\\n", "utf-8")
        answer.update(own=own, other=str(other))
        """
    )
    own, other = [Path(each) for each in answer["own"]], Path(answer["other"])
    try:
        assert {each.parent for each in own} == {other.parent}
        assert list(other.parent.iterdir()) == [other]
    finally:
        shutil.rmtree(other.parent, ignore_errors=True)


@pytest.mark.spark
def test_nothing_is_left_of_an_applications_executors() -> None:
    answer = run_on_spark(
        """
        from pathlib import Path
        answer["own"] = sc.parallelize(range(8), 8).map(lambda _: str(Path.cwd())).distinct().collect()
        """
    )
    assert answer["own"]
    assert not Path(answer["own"][0]).parent.exists()


@pytest.mark.spark
@pytest.mark.parametrize(
    ("master", "why"),
    [
        ("local[many]", "Could not parse Master URL: 'local[many]'"),
        ("local-cluster[1,1,1]", "Asked to launch cluster with 1 MiB/worker but requested 1024 MiB/executor"),
    ],
)
def test_why_spark_does_not_start_is_said_in_one_line(master: str, why: str) -> None:
    with pytest.raises(SparkSessionError) as raised, embedded.spark_session(master):
        pass
    assert str(raised.value) == (
        f"Spark did not start on {master}: org.apache.spark.SparkException: {why}; check the master and Java"
    )


@pytest.mark.spark
def test_applications_that_start_at_once_have_names_of_their_own() -> None:
    code = """
        import json
        from depload.local.embedded import spark_session
        with spark_session("local-cluster[1,1,1024]") as spark:
            print(json.dumps(spark.sparkContext.applicationId))
    """
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: run_python(code), range(4)))) == 4
