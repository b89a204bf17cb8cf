"""The part of the matrix that needs no environment but the one at hand; `make matrix` runs all of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import topologies
from conftest import OFFLINE, write_files
from depload.pipeline import convert
from matrix import bench, outcomes, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matrix.outcomes import Outcome

AT_HAND = plan.Line("at hand", "")


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    bench.make_pure(tmp_path / "wheels")
    converted = convert(tmp_path / "wheels", tmp_path / "base", options=OFFLINE)
    return {"session": "classic", "isolation": "shared", "path": converted.path, "expected": bench.PURE}


def run(job: Mapping[str, Any], place: Path, topology: str, **environment: str) -> Outcome:
    place.mkdir()
    done = bench.run_cell(Path(sys.executable), job, place, **environment)
    assert done.answer is not None, f"{done.fault}\n{done.said}"
    outcome = outcomes.of(plan.Cell("classic", topology, AT_HAND, "", job["isolation"]), done.answer, done.said)
    assert outcome.result == "proven", f"{outcome.told}\n{outcome.said}"
    return outcome


@pytest.mark.spark
def test_a_session_with_workers_of_its_own_gets_what_shared_workers_refuse(job: dict[str, Any], tmp_path: Path) -> None:
    installed = write_files(tmp_path / "installed", {"matrix_pure.py": "__version__ = '0.1'\n"})
    job.update(address="local[2]", isolation="process", before=["matrix_pure"], refused=job["path"])
    answer = run(job, tmp_path / "cell", plan.LOCAL, PYTHONPATH=str(installed)).answer
    assert answer["refused"] == {"proven": "WorkerError"}
    assert answer["undisturbed"] == answer["put back"] == {"proven": {"matrix_pure": "0.1"}}
    for name in ("UDF", "RDD", "UDTF"):
        assert answer["kinds"][name]["proven"]["matrix_pure"][0] == "1.0"
    assert answer["kinds"]["data source"] == {"reason": "from PySpark 4.0 on"}


@pytest.mark.spark
@pytest.mark.skipif(not topologies.has_hosts(), reason="this machine does not answer to 127.0.0.2")
def test_two_machines_of_a_standalone_cluster_unpack_once_each(job: dict[str, Any], tmp_path: Path) -> None:
    cluster = tmp_path / "cluster"
    with topologies.standalone(Path(sys.executable), cluster) as master:
        job.update(address=master, config={"spark.cores.max": "2"})
        answer = run(job, tmp_path / "cell", plan.STANDALONE).answer
    sites = [str(site) for site in sorted(cluster.glob("worker-*/local/depload-*/sites/*/matrix_pure"))]
    assert [str(Path(site).parent) for site in sites] == answer["sites"] == answer["unpacked"]
    assert len(sites) == len(topologies.HOSTS)
