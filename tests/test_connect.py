"""Loading on a real Spark Connect server: no SparkContext, no RDDs."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

import depload
from depload.local.embedded import java_home
from matrix import environments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from depload.pipeline import Converted

pytestmark = [pytest.mark.spark, pytest.mark.network]

TASK = """\
import json, os, sys
os.environ.update(PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
import depload
from pyspark.sql import SparkSession

answer = {}
spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
try:
    loaded = depload.load(sys.argv[2], spark)
    answer["report"] = loaded.report.to_json()

    from pyspark.sql.functions import udf
    import alpha

    @udf("string")
    def name(_):
        import alpha.sub
        return alpha.sub.NAME

    answer["names"] = [row[0] for row in spark.range(0, 2, 1, 2).select(name("id")).collect()]
    answer["by reference"] = [row[0] for row in spark.range(2).select(udf(alpha.shout, "string")("id")).collect()]
    answer["again"] = depload.load(sys.argv[2], spark).report == loaded.report
finally:
    print(json.dumps(answer))
    sys.stdout.flush()
    spark.stop()
"""


@pytest.fixture(scope="session")
def connect_python() -> Path:
    """An interpreter with a Connect client and server, kept beside the environment that the tests run in."""
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return environments.ready(environments.LISTS / "spark-newest.txt", python)


@pytest.fixture
def port_of_connect() -> Iterator[None]:
    """The port that pyspark gives to the server of a local Connect session, always the same, for one test at a time."""
    with Path(tempfile.gettempdir(), "depload-tests-15002.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("port_of_connect")
@pytest.mark.parametrize("remote", ["local[2]", "local-cluster[2,1,1024]"])
def test_a_connect_session_loads_and_proves_it(
    remote: str, connect_python: Path, published: Callable[..., Converted], tmp_path: Path
) -> None:
    code = "def shout(word):\n    return str(word) + '!'\n"
    converted = published(alpha=("1.0", {"alpha/__init__.py": code, "alpha/sub.py": "NAME = 'sub'\n"}))
    alone = tmp_path / "alone"  # nothing else of the place that the depload under test lies in
    alone.mkdir()
    (alone / "depload").symlink_to(Path(depload.__file__).parent)
    bootstrap = f"import sys; sys.path.insert(0, {str(alone)!r})\n"
    done = subprocess.run(
        [str(connect_python), "-c", bootstrap + dedent(TASK), remote, converted.path],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "JAVA_HOME": java_home()},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    executors = {worker["executor"] for worker in answer["report"]["workers"]}
    assert executors == ({"driver"} if remote == "local[2]" else {"0", "1"})
    assert all(worker["imported"]["alpha"]["version"] == "1.0" for worker in answer["report"]["workers"])
    assert answer["names"] == ["sub", "sub"]
    assert answer["by reference"] == ["0!", "1!"]
    assert answer["again"] is True
