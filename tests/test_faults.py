"""A small part of the fault harness; `make faults` runs all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from depload.errors import NotAWheelhouseError
from depload.published import runs
from faults import ground, outcomes, page, witness
from faults.outcomes import LEFT, LOST, WRONG, Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.pipeline import Converted

RUN = Path(__file__).parent / "faults" / "run.py"
ROWS = "^(kill-(convert|load|cleanup|prune)|disk-full|store-fails|clocks-differ|crowd-load)$"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the harness looks for processes where Linux has them")
def test_nothing_is_lost_wrong_or_left_by_what_is_killed_full_or_failing() -> None:
    command = [sys.executable, str(RUN), "--only", ROWS, "--points", "6", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env={**os.environ})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    rows = json.loads(done.stdout)
    assert [(row["lost"], row["wrong"], row["left"]) for row in rows] == [(0, 0, 0)] * 8
    assert all(row["times"] for row in rows)
    assert sum(row["facts"].get("killed at an operation of the store", 0) for row in rows) > 4


# --- it can fail ----------------------------------------------------------------------------------------------------


@pytest.fixture
def done(published: Callable[..., Converted], base: Path, tmp_path: Path) -> Path:
    """A run path in a base with what is not depload's."""
    path = Path(published(alpha=("1.0", {"alpha.py": "VERSION = '1.0'\n"})).path)
    ground.plant(base, tmp_path / "outside")
    return path


def half(run: Path) -> None:
    (file,) = run.glob("*.wheelhouse.zip")
    file.write_bytes(file.read_bytes()[:-100])


def test_a_base_that_is_as_it_should_be_has_no_findings(done: Path, base: Path) -> None:
    assert list(ground.findings(base, [str(done)])) == []
    assert list(ground.left_after_prune(base)) == []
    assert not done.exists()


def test_a_run_path_that_is_half_there_is_found(done: Path, base: Path) -> None:
    half(done)
    assert [finding.kind for finding in ground.findings(base, [str(done)])] == [LOST]
    assert [finding.kind for finding in ground.findings(base, [])] == [WRONG]
    assert witness._seen(str(done), (NotAWheelhouseError,)).startswith("AlteredWheelhouseError")


def test_a_completed_run_path_that_is_gone_is_found(done: Path, base: Path) -> None:
    (done / runs.MANIFEST).unlink()
    assert [finding.kind for finding in ground.findings(base, [str(done)])] == [LOST]
    assert list(ground.findings(base, [])) == []


def test_somebodys_file_that_is_gone_is_found(done: Path, base: Path) -> None:
    (base / "notes.txt").write_text("changed")
    (base / "link").unlink()
    assert [finding.kind for finding in ground.findings(base, [str(done)])] == [LOST, LOST]


def test_what_prune_leaves_is_found(base: Path, done: Path) -> None:
    (base / "conversions").mkdir(exist_ok=True)
    (base / "conversions" / "unknown.json").write_text("{}")
    (left,) = ground.left_after_prune(base)
    assert left == Finding(LEFT, "after prune: conversions, conversions/unknown.json")
    assert not done.exists()


def test_a_finding_is_told_with_the_command_that_does_it_again() -> None:
    outcome = Outcome("kill-convert", "SIGKILL", 7, times=3, facts=Counter({"killed": 3}))
    outcome.findings = [("fresh:store:4:half", Finding(WRONG, "half a run path")), ("x", Finding(LEFT, "a file"))]
    assert outcome.row == ("kill-convert", "SIGKILL", "3", "0", "1", "1", "0")
    table = outcomes.table([outcome])
    assert "--only kill-convert --seed 7 --point fresh:store:4:half" in table
    assert outcome.to_json()["findings"][0]["told"] == "half a run path"


def test_the_page_says_of_each_row_what_was_found_and_when_and_of_what_commit() -> None:
    outcome = Outcome("kill-convert", "SIGKILL", 7, 3, 61.0, facts=Counter({"killed": 3}), date="2026-11-28")
    outcome.commit, outcome.where = "abc1234", "2 processors"
    outcome.findings = [("fresh:time:0.5", Finding(WRONG, "half a run path"))]
    kept = Outcome.from_json(json.loads(json.dumps(outcome.to_json())))
    assert kept == outcome
    written = page.of([kept])
    assert "3 times, lost 0, wrong 1, left 0" in written
    assert "| kill-convert | SIGKILL | 3 | 0 | 1 | 0 |" in written
    assert "| kill-convert | 2026-11-28 | abc1234 | 2 processors | 7 | 61 |" in written
