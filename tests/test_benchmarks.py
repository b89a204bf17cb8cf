from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import chart, drawing, measuring, model, results, scaling, tables, targets
from benchmarks.measuring import Series, UnmeasuredError, Way
from benchmarks.model import REFERENCE, WHEELS, Cluster, Parts
from benchmarks.results import Plan, Results

PARTS = Parts(
    fixed=0.5,
    executor_cpu=0.3,
    driver_cpu=0.002,
    verify=0.05,
    unpack=0.8,
    unpack_cpu=1.4,
    worker=1.0,
    worker_cpu=0.9,
    send=0.7,
    send_cpu=0.9,
    size=80e6,
    reference=20e3,
)


def failing() -> measuring.Sample:
    raise UnmeasuredError("exit code 1: no such tool")


def test_a_way_that_fails_has_a_row_that_says_so_and_the_others_go_on() -> None:
    found = measuring.in_turns([Way("broken", failing), Way("sound", lambda: {"seconds": 2.0})], 3)
    assert len(found["sound"].samples) == 3
    assert "| broken | failed | exit code 1: no such tool |" in "\n".join(tables.table(found))


LONG = """\
exit code 1: Traceback (most recent call last):
  File "/home/somebody/benchmarks/once.py", line 80, in <module>
py4j.protocol.Py4JJavaError: An error occurred while calling o42.addFile.
: java.nio.file.FileSystemException: /deps/x.zip -> /tmp/spark-1/files/x.zip: No space left on device
\tat java.base/sun.nio.fs.UnixException.translateToIOException(UnixException.java:100)
Caused by: java.io.IOException: file:///tmp/spark-1/files/x.zip cannot be written
\t... 1 more
"""


def test_what_a_failed_way_said_is_shown_in_full_and_kept_as_one_line_without_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> measuring.Sample:
        raise UnmeasuredError(LONG)

    monkeypatch.setattr(results, "machine", lambda: "two cores")
    found = measuring.in_turns([Way("broken", fails)], 3)
    Results(tmp_path / "results.json").put(Plan("convert", "M", "cold", lambda *_: {}), 3, found, 1.0)
    assert LONG in capsys.readouterr().err
    kept = Results(tmp_path / "results.json").ways("convert/M/cold")["broken"]
    assert kept.error == "java.io.IOException: x.zip cannot be written"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("exit code 127: /bin/sh: 1: pex: not found", "exit code 127: sh: 1: pex: not found"),
        ("exit code 2: warning: old\n  hint: none\nno such tool\n", "no such tool"),
        (
            "ValueError: https://pypi.org/simple/x/ has no file:/opt/y",
            "ValueError: https://pypi.org/simple/x/ has no y",
        ),
        ("OSError: '/a/b c/d' or (/e/f:/g/h)", "OSError: 'b c/d' or (h)"),
        (f"error: {'x' * 1000}", f"error: {'x' * 153}"),
        ("", ""),
    ],
)
def test_the_reason_is_the_line_that_says_why(said: str, kept: str) -> None:
    assert measuring.reason(said) == kept


def test_every_way_runs_once_however_small_its_share() -> None:
    found = measuring.in_turns([Way("slow", lambda: {"seconds": 9.0}, 0.1), Way("quick", lambda: {"seconds": 1.0})], 2)
    assert [len(series.samples) for series in found.values()] == [1, 2]


def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(UnmeasuredError, match="exit code 3: it said why"):
        measuring.timed("echo it said why >&2; exit 3", tmp_path)


def test_a_command_may_have_a_clock_of_its_own(tmp_path: Path) -> None:
    sample = measuring.timed("""echo '{"seconds": 0.25}'""", tmp_path, own_clock=True)
    assert sample["seconds"] == 0.25


def test_nothing_measured_can_be_drawn(tmp_path: Path) -> None:
    empty = Results(tmp_path / "results.json")
    assert "Nothing was measured." in tables.page(empty)
    assert chart.svg(empty).startswith("<svg")


def test_what_was_measured_is_drawn_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "machine", lambda: "two cores")
    plan = Plan("convert", "M", "cold", lambda *_: {})
    ways = {"depload, no .pyc": Series([{"seconds": 1.0}]), "pip wheel": Series([{"seconds": 2.0}])}
    Results(tmp_path / "results.json").put(plan, 5, ways, 60.0)
    again = Results(tmp_path / "results.json")
    assert plan.key in again
    assert targets.EVERY[0].cell(again, "M") == "0.50 x"
    assert "| depload, no .pyc | 1.00 | 1.00 to 1.00 | 1 |" in tables.page(again)


def test_a_figure_beyond_its_limit_is_said_to_be_so(tmp_path: Path) -> None:
    over = replace(targets.EVERY[0], figure=lambda *_: 0.9)
    assert over.cell(Results(tmp_path / "results.json"), "M") == "**0.90 x, not met**"


def test_a_page_gets_its_marked_blocks_drawn_anew_and_keeps_the_rest(tmp_path: Path) -> None:
    page = "before\n<!-- model: drawn by make bench -->\n\nold\n\n<!-- end -->\nafter\n"
    drawn = drawing.filled(page, Results(tmp_path / "results.json"))
    assert drawn == page.replace("old", "Not measured.")
    assert drawing.filled(drawn, Results(tmp_path / "results.json")) == drawn


def test_nodes_that_share_the_machine_wait_for_its_cores() -> None:
    one, many = (model.on_one_machine(PARTS, 16, nodes, cores=2) for nodes in (1, 16))
    assert many - one == pytest.approx(15 * PARTS.unpack_cpu / 2)


def test_a_node_that_has_the_site_reads_nothing_from_the_store() -> None:
    assert model.from_store(PARTS, 1000, REFERENCE, warm=True) == PARTS.size  # the driver's own reading
    assert model.from_store(PARTS, 1000, REFERENCE) == 1001 * PARTS.size


def test_the_wait_for_the_drivers_network_grows_with_the_executors() -> None:
    cluster = Cluster()
    few, many = (model.on_cluster(PARTS, count, cluster, WHEELS) for count in (10, 1000))
    assert many - few > 990 * PARTS.size / cluster.driver
    assert PARTS.size * model.narrow(cluster) / cluster.driver > PARTS.size / cluster.store


def test_the_model_needs_all_its_parts(tmp_path: Path) -> None:
    assert scaling.parts(Results(tmp_path / "results.json")) is None
