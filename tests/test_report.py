"""What is told of the driver and the workers: the rules, and every rendering, on records made by hand and on Spark."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

import depload
from conftest import run_on_spark, run_python
from depload.errors import DeploadError
from depload.reporting.environments import Environment, Imported, Process
from depload.reporting.plain import line, size, table
from depload.reporting.report import Fingerprint, Report
from depload.travels import activation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from depload.pipeline import Converted

DIGEST = "9c41d0f27be85a63" * 4
PACKAGES = {"numpy": "1.26.4", "pandas": "2.2.3", "pytz": "2025.1"}
OTHERS = {"koalas": "1.8.2", "numpy": "1.26.4", "pandas": "1.5.3"}
HOSTILE = "<script>alert('x')</script> & \"quoted\" \x00\x07\x1b[31m ]]> \ud800 \ufffe \u202e"


def environment(packages: Mapping[str, str] = PACKAGES, **changed: Any) -> Environment:
    facts = {"host": "a", "executor": "driver", "pid": 1, "python": "3.12.3", "prefix": "/usr", "platform": "Linux"}
    return Environment.of({**facts, "site": None, "packages": packages, **changed})


def process(packages: Mapping[str, str] = PACKAGES, **changed: Any) -> Process:
    """A process that has loaded; ``imported`` maps names to versions, or to an error that begins with ``!``."""
    imported = {
        name: {
            "version": None if said.startswith("!") else said,
            "file": f"/site/{name}.py",
            "package": name,
            "error": said[1:] if said.startswith("!") else None,
        }
        for name, said in changed.pop("imported", {"pandas": "2.2.3"}).items()
    }
    facts = vars(environment(packages)) | {
        "site": "/sites/x",
        "digest": DIGEST,
        "unpacked": False,
        "seconds": 0.25,
        "error": None,
        "strangers": [],
    }
    return Process.of({**facts, "imported": imported, **changed})


def workers(count: int, packages: Mapping[str, str] = PACKAGES, first: int = 0, **changed: Any) -> tuple[Process, ...]:
    """Workers, four to a host; the first on each host unpacked."""
    return tuple(
        process(packages, host=f"h{at // 4}", executor=str(at // 4), pid=100 + at, unpacked=at % 4 == 0, **changed)
        for at in range(first, first + count)
    )


def report(driver: Process | None, others: tuple[Process, ...], **changed: Any) -> Report:
    """A report of a wheelhouse that brings pandas."""
    return Report(driver, others, "reference: seen", DIGEST, {"pandas": "2.2.3"}, **changed)


# --- fingerprints ---


def test_a_fingerprint_is_what_sha256sum_says_of_the_sorted_lines() -> None:
    packages = {"a-b": "1.0", "a": "2.0", "zope-interface": "6.1+local", "b": "0"}
    lines = "a-b==1.0\na==2.0\nb==0\nzope-interface==6.1+local\n"
    assert environment(packages).fingerprint == hashlib.sha256(lines.encode()).hexdigest()
    if not (shutil.which("sort") and shutil.which("sha256sum")):
        pytest.skip("this machine has no coreutils")
    unsorted = "".join(f"{name}=={version}\n" for name, version in packages.items())
    done = subprocess.run(
        ["sh", "-c", "LC_ALL=C sort | sha256sum"], input=unsorted, capture_output=True, text=True, check=True
    )
    assert environment(packages).fingerprint == done.stdout.split()[0]


_SETS = st.dictionaries(st.sampled_from(["a", "b", "a-b", "numpy"]), st.sampled_from(["1", "1.0", "2", ""]))


@given(_SETS, _SETS)
def test_equal_packages_are_equal_fingerprints_and_others_are_not(one: dict[str, str], other: dict[str, str]) -> None:
    backwards = dict(reversed(other.items()))
    here, there = environment(one), environment(backwards, host="b", pid=2, python="3.10.1", prefix="/opt")
    assert (here.fingerprint == there.fingerprint) == (one == other)
    unlike = here.differences(there)
    assert bool(unlike.only_here or unlike.only_there or unlike.versions) == (one != other)


@given(st.dictionaries(st.text(), st.text()))
def test_whatever_a_package_calls_itself_it_has_a_fingerprint(packages: dict[str, str]) -> None:
    assert re.fullmatch("[0-9a-f]{64}", environment({**packages, "\ud800": "1"}).fingerprint)


# --- differences ---


def test_differences_name_what_is_only_here_only_there_and_in_other_versions() -> None:
    unlike = environment(OTHERS, python="3.11.1", prefix="/opt").differences(environment())
    assert unlike
    assert unlike.to_json() == {
        "python": {"here": "3.11.1", "there": "3.12.3"},
        "platform": None,
        "prefix": {"here": "/opt", "there": "/usr"},
        "only_here": {"koalas": "1.8.2"},
        "only_there": {"pytz": "2025.1"},
        "versions": {"pandas": {"here": "1.5.3", "there": "2.2.3"}},
    }
    assert str(unlike).splitlines()[2:] == [
        "Python  3.11.1  3.12.3",
        "prefix  /opt    /usr",
        "koalas  1.8.2   -",
        "pandas  1.5.3   2.2.3",
        "pytz    -       2025.1",
    ]


def test_where_a_process_runs_and_what_it_took_is_no_difference() -> None:
    unlike = process(host="a", pid=1, seconds=9.0, site="/one").differences(environment(host="b", pid=2, executor="7"))
    assert not unlike
    assert str(unlike) == "no difference"


@pytest.mark.parametrize(
    ("here", "there", "told"),
    [
        (report(process(), workers(4)), report(process(), workers(9)), ["", ""]),
        (report(process(), workers(4)), Fingerprint(environment(), ()), ["", "all 4 workers: only here"]),
        (report(None, workers(4)), report(process(), workers(4)), ["driver: only there", ""]),
        (
            report(None, workers(4)),
            report(None, (*workers(3), *workers(1, OTHERS, first=3))),
            [
                "all 4 workers here, 3 workers on h0 there: no",
                "all 4 workers here, executor 0 on h0, pid 103 there: 3 d",
            ],
        ),
        (
            report(None, (*workers(3), *workers(1, OTHERS, first=3))),
            report(None, workers(2, {**OTHERS, "pytz": "1"})),
            [
                "3 workers on h0 here, all 2 workers there: 3 d",
                "executor 0 on h0, pid 103 here, all 2 workers there: 1 d",
            ],
        ),
        (Fingerprint(None, ()), Fingerprint(None, ()), []),
    ],
)
def test_the_driver_is_compared_with_the_driver_and_each_kind_of_worker_with_the_nearest(
    here: Fingerprint, there: Fingerprint, told: list[str]
) -> None:
    comparison = here.compare(there)
    assert [said in str(pair) for said, pair in zip(told, comparison.pairs, strict=True)] == [True] * len(told)
    same = [said == "" or said.endswith(": no") for said in told]
    assert [pair.to_json()["same"] for pair in comparison.pairs] == same
    assert comparison.to_json()["same"] == all(same)
    assert bool(comparison) == (not all(same))
    assert str(comparison) == "\n\n".join(map(str, comparison.pairs))


# --- who differs within one report ---


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (report(process(), ()), "driver: 3 packages"),
        (report(process({"one": "1"}), ()), "driver: 1 package"),
        (report(process(), workers(1)), "driver and the worker: the same 3 packages"),
        (report(process(), workers(4)), "driver and all 4 workers: the same 3 packages"),
        (report(None, workers(4)), "all 4 workers: the same 3 packages"),
        (report(process(OTHERS), workers(4)), "all 4 workers: the same 3 packages; 1 of 5 processes differs"),
        (report(process(OTHERS), workers(1)), "driver: 3 packages; 1 of 2 processes differs"),
        (
            report(process(), (*workers(2), *workers(2, OTHERS, first=8))),
            "driver and 2 workers on h0: the same 3 packages; 2 of 5 processes differ",
        ),
        (
            report(process(OTHERS), (*workers(80), *workers(1, OTHERS, first=100))),
            "80 workers on 20 hosts: the same 3 packages; 2 of 82 processes differ",
        ),
        (Fingerprint(None, ()), "no process was asked"),
    ],
)
def test_the_verdict_says_who_has_the_same_packages(shown: Fingerprint, verdict: str) -> None:
    assert verdict in str(shown).splitlines()


def test_who_is_odd_is_named_with_the_difference_in_every_rendering() -> None:
    odd = process(OTHERS, host="h9", executor="3", pid=4713)
    shown = report(process(), (*workers(4), odd))
    assert shown.odd == (odd,)
    who, what = "executor 3 on h9, pid 4713", "pandas 1.5.3 here, 2.2.3 elsewhere"
    assert f"{who}: {what}; koalas 1.8.2 only here; pytz 2025.1 only elsewhere" in unwrapped(str(shown))
    (row,) = shown.to_json()["odd"]
    assert (row["process"], row["host"], row["pid"]) == ("executor 3", "h9", 4713)
    assert row["differences"]["versions"] == {"pandas": {"here": "1.5.3", "there": "2.2.3"}}
    suite = ET.fromstring(shown.to_junit()).find(f"testsuite[@name='{who}']")
    assert suite is not None
    assert [case.get("name") for case in suite.findall("testcase") if case.find("failure") is not None] == ["packages"]
    assert f"{who}: 3 differences" in read_html(shown._repr_html_()).text


def unwrapped(text: str) -> str:
    return " ".join(text.split())


# --- text ---


def test_the_text_of_a_small_load_has_a_row_for_each_process() -> None:
    text = str(report(process(), workers(2), isolation="process", warnings=("mind the gap",)))
    short = process().fingerprint[:12]
    assert text.splitlines()[:7] == [
        "warning: mind the gap",
        "",
        "process     host  pid  python  site      seconds  packages  fingerprint",
        "----------  ----  ---  ------  --------  -------  --------  ------------",
        f"driver      a     1    3.12.3  found     0.25     3         {short}",
        f"executor 0  h0    100  3.12.3  unpacked  0.25     3         {short}",
        f"executor 0  h0    101  3.12.3  found     0.25     3         {short}",
    ]
    facts = dict(each.split(":", 1) for each in text.splitlines()[10:])
    assert {key: value.strip() for key, value in facts.items()} == {
        "imported": "pandas 2.2.3",
        "slowest": "0.25 s, driver on a, pid 1",
        "wheelhouse": "pandas 2.2.3",
        "delivery": "reference: seen",
        "isolation": "process",
        "digest": DIGEST,
        "fingerprint": process().fingerprint,
        "platform": "Linux",
        "prefix": "/usr",
        "site": "/sites/x",
    }


def test_a_driver_that_was_left_alone_is_told() -> None:
    shown = report(None, workers(2))
    assert "driver:      left alone" in str(shown)
    assert shown.to_json()["driver"] is None
    assert "left alone" in read_html(shown._repr_html_()).text
    assert len(ET.fromstring(shown.to_junit()).findall("testsuite")) == 2


def test_what_is_not_alike_everywhere_is_told_with_who_has_it() -> None:
    text = str(report(process(python="3.12.1", prefix="/opt"), workers(3, platform="Linux-9")))
    for said in (
        "python:      3.12.3 (all 3 workers)",
        "3.12.1 (driver)",
        "/opt (driver)",
        "Linux-9 (all 3 workers)",
    ):
        assert said in text


def test_of_hundreds_of_workers_those_that_are_alike_are_one_row() -> None:
    many = (*workers(499), process(host="slow", executor="777", pid=5, seconds=31.5))
    shown = report(process(), (*many, *workers(4, OTHERS, first=800), *workers(1, first=900, error="OSError: full")))
    rows = [re.split(r"\s{2,}", row) for row in str(shown).splitlines()[2:6]]
    short, other = process().fingerprint[:12], process(OTHERS).fingerprint[:12]
    assert rows == [
        ["driver", "a", "1", "3.12.3", "found", "0.25", "3", short],
        ["500 workers", "126 hosts", "3.12.3", "unpacked by 125", "0.25 to 31.50", "3", short],
        ["4 workers", "h200", "3.12.3", "unpacked by 1", "0.25", "3", other],
        ["executor 225", "h225", "1000", "3.12.3", "failed", "0.25", "3", short],
    ]
    assert "slowest:     31.50 s, executor 777 on slow, pid 5" in str(shown)
    assert len(shown.to_json()["workers"]) == 505, "the full detail is in the JSON"


@pytest.mark.parametrize("kinds", [1, 500])
def test_no_rendering_of_hundreds_of_workers_is_beyond_reading(kinds: int) -> None:
    base = {f"package-{at}": f"{at}.0" for at in range(300)}
    others = tuple(
        process({**base, "odd": str(at % kinds)}, host=f"ip-10-0-0-{at}.internal", executor=str(at), pid=at)
        for at in range(500)
    )
    shown = report(process(base), others)
    text = str(shown).splitlines()
    assert len(text) < 120
    assert max(map(len, text)) <= 120
    assert len(shown._repr_html_()) < 1_000_000
    if kinds > 1:
        assert "  - and 480 other lists of packages" in text
        seen = read_html(shown._repr_html_()).text
        assert "and 480 other lists of packages, all in to_json()" in seen
        assert seen.count(": 1 difference") == 20


def test_workers_without_an_executor_are_just_workers() -> None:
    shown = report(process(), (process(pid=2), process(OTHERS, pid=3)))
    assert [row.split()[0] for row in str(shown).splitlines()[2:5]] == ["driver", "worker", "worker"]
    assert "  - worker on a, pid 3: pandas" in str(shown)


def test_the_repr_is_short_however_much_there_is() -> None:
    shown = report(process(), workers(500))
    assert repr(shown) == "<Report: driver and 500 workers>"
    assert repr(Fingerprint(None, workers(1))) == "<Fingerprint: 1 worker>"
    assert "2.2.3" not in repr(process())


# --- JSON ---

_ENVIRONMENT = ["host", "executor", "pid", "python", "prefix", "platform", "site", "package_count", "fingerprint"]


def test_the_keys_of_the_json_are_these() -> None:
    shown = report(process(), workers(1)).to_json()
    whole = ["digest", "delivery", "isolation", "lease", "warnings", "packages", "driver", "workers", "odd"]
    loaded = ["digest", "unpacked", "seconds", "error", "imported", "strangers"]
    assert list(shown) == whole
    assert list(shown["driver"]) == [*_ENVIRONMENT, "packages", *loaded]
    assert list(shown["driver"]["imported"]["pandas"]) == ["version", "file", "package", "error"]
    plain = Fingerprint(environment(), (environment(),)).to_json()
    assert list(plain) == ["driver", "workers", "odd"]
    assert list(plain["workers"][0]) == [*_ENVIRONMENT, "packages"]


@pytest.mark.parametrize(
    "shown",
    [
        report(process(), workers(3)),
        report(None, (*workers(3), *workers(1, OTHERS))),
        Fingerprint(environment({HOSTILE: HOSTILE}), (environment(OTHERS, site="/x"),)),
    ],
)
def test_what_was_written_as_json_is_read_again_without_a_difference(shown: Fingerprint) -> None:
    again = Fingerprint.from_json(json.loads(json.dumps(shown.to_json())))
    assert not again.compare(shown)
    assert [each.fingerprint for each in again.processes] == [each.fingerprint for each in shown.processes]
    assert [each.site for each in again.processes] == [each.site for each in shown.processes]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: [data], "it is list, not dict"),
        (lambda _: {"error": {"type": "WorkerError"}}, "workers is NoneType, not list"),
        (lambda data: {**data, "driver": "a"}, "driver is str, not dict"),
        (lambda data: {**data, "workers": [{**data["workers"][0], "pid": "1"}]}, "workers[0].pid is str, not int"),
        (
            lambda data: {**data, "driver": {**data["driver"], "packages": {"a": 1}}},
            "driver.packages.a is int, not str",
        ),
    ],
)
def test_json_that_is_no_report_is_refused_with_the_place(change: Callable[[Any], object], said: str) -> None:
    data = Fingerprint(environment(), (environment(),)).to_json()
    with pytest.raises(DeploadError) as raised:
        Fingerprint.from_json(change(data))
    assert said in str(raised.value)
    assert "depload fingerprint --json" in str(raised.value)


# --- JUnit XML ---


def test_junit_has_a_suite_for_each_process_and_a_case_for_each_module() -> None:
    imported = {"numpy": "1.26.4", "pandas": "2.2.3"}
    shown = report(process(imported=imported), workers(2, imported=imported), warnings=("mind",))
    root = ET.fromstring(shown.to_junit())
    assert root.tag == "testsuites"
    assert root.attrib == {"name": "depload loaded", "tests": "11", "failures": "0", "errors": "0"}
    names = ["driver on a, pid 1", "executor 0 on h0, pid 100", "executor 0 on h0, pid 101"]
    assert [suite.get("name") for suite in root] == names
    for suite in root:
        assert [child.tag for child in suite][:2] == ["properties", "testcase"]
        cases = [case.get("name") for case in suite.findall("testcase")]
        compared = [] if suite is root[0] else ["packages"]  # a driver may have more than workers
        assert cases == ["activation", "import numpy", "import pandas", *compared]
        properties = {each.get("name"): each.get("value") for each in suite.findall("properties/property")}
        assert (
            properties.items()
            >= {
                "python": "3.12.3",
                "prefix": "/usr",
                "platform": "Linux",
                "site": "/sites/x",
                "fingerprint": process().fingerprint,
                "isolation": "shared",
            }.items()
        )
    assert [said.text for said in root.iter("system-err")] == ["mind"]


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        (
            {"error": "OSError: disk full"},
            {"activation": "the wheelhouse: expected activated, found OSError: disk full"},
        ),
        ({"digest": "other"}, {"activation": f"the wheelhouse: expected digest {DIGEST}, found digest other"}),
        (
            {"imported": {"pandas": "1.5.3"}},
            {"import pandas": "pandas: expected 2.2.3, found 1.5.3 from /site/pandas.py"},
        ),
        ({"imported": {"pandas": "!OSError: no"}}, {"import pandas": "pandas: expected 2.2.3, found OSError: no"}),
        (
            {"imported": {"else": "!ImportError: x", "pandas": "2.2.3"}},
            {"import else": "else: expected importable, found ImportError: x"},
        ),
        (
            {"strangers": [{"package": "pandas", "module": "pandas._libs", "version": "1.5.3", "file": "/old"}]},
            {"import pandas._libs": "pandas: expected 2.2.3, found 1.5.3, imported before from /old"},
        ),
        ({"packages": OTHERS}, {"packages": "here is this process, there are most"}),
    ],
)
def test_what_is_wrong_in_a_process_fails_its_case_in_junit_and_is_told_elsewhere(
    changed: dict[str, Any], failed: dict[str, str]
) -> None:
    shown = report(process(), (*workers(2), process(executor="9", **changed)))
    root = ET.fromstring(shown.to_junit())
    assert root.get("failures") == root[-1].get("failures") == str(len(failed))
    found = {case.get("name"): case.find("failure") for case in root.iter("testcase")}
    told = {name: failure for name, failure in found.items() if failure is not None}
    assert told.keys() == failed.keys()
    for name, failure in told.items():
        assert str(failure.text).startswith(failed[str(name)])
        assert failure.get("type") == "difference"
        assert "\n" not in str(failure.get("message"))
    if "packages" not in failed:
        for text in (str(shown), read_html(shown._repr_html_()).text):
            assert all(unwrapped(said) in unwrapped(text) for said in failed.values())


@given(st.text())
def test_any_text_from_another_machine_is_well_formed_xml(said: str) -> None:
    shown = report(process(host=said), workers(1, prefix=said, imported={said: f"!{said}"}), warnings=(said,))
    root = ET.fromstring(shown.to_junit().encode("utf-8"))
    clean = "".join(each for each in said if each in "\t\n\r" or (each >= " " and each not in "\ufffe\uffff"))
    assert [each.get("value") for each in root[1].iter("property") if each.get("name") == "prefix"] == [clean]


# --- HTML ---


class Read(HTMLParser):
    """What a browser would see: the text, the elements and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.styles = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            self.styles += f"{value};"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_html(html: str) -> Read:
    read = Read()
    read.feed(html)
    read.close()
    assert read.open == []
    return read


_TAGS = {"div", "span", "strong", "table", "tr", "th", "td", "dl", "dt", "dd", "details", "summary"}


@given(st.text() | st.just(HOSTILE))
def test_nothing_from_another_machine_becomes_an_element_or_an_address(said: str) -> None:
    hostile = workers(1, {said: said}, prefix=said, imported={said: f"!{said}"}, python=said, error=said)
    read = read_html(report(process(host=said), hostile, warnings=(said,), isolation=said)._repr_html_())
    assert read.tags <= _TAGS
    assert read.attributes == {"style"}
    assert "url(" not in read.styles
    assert "http" not in read.styles
    assert line(said) in read.text


def test_the_html_says_what_the_text_says() -> None:
    shown = report(process(), (*workers(2), *workers(1, OTHERS, first=2)), warnings=("mind the gap",))
    read = read_html(shown._repr_html_())
    for said in ("mind the gap", "1 of 4 processes differs", "executor 0", process().fingerprint, DIGEST, "/sites/x"):
        assert said in read.text
    assert shown._repr_html_().count("<details") == 2, "a list of packages for each fingerprint"
    assert '<div style="font-weight:700">pandas 2.2.3</div>' in shown._repr_html_(), "what the wheelhouse brings"
    assert "<div>numpy 1.26.4</div>" in shown._repr_html_()


def test_the_page_is_a_document_of_its_own() -> None:
    page = report(process(), ()).to_html()
    assert page.startswith("<!doctype html>\n")
    assert '<meta charset="utf-8">' in page
    assert report(process(), ())._repr_html_() in page


@pytest.mark.parametrize("shown", [report(process(), workers(2)), Fingerprint(environment(), (environment(),))])
def test_a_plain_fingerprint_shows_nothing_of_a_load(shown: Fingerprint) -> None:
    loaded = isinstance(shown, Report)
    for text in (str(shown), read_html(shown._repr_html_()).text):
        assert all((word in text) == loaded for word in ("seconds", "imported", "isolation", "digest", "slowest"))
        assert "None" not in text
    cases = {case.get("name") for case in ET.fromstring(shown.to_junit()).iter("testcase")}
    assert cases == ({"activation", "import pandas", "packages"} if loaded else {"packages"})


# --- hostile and long words in text ---


def test_text_from_another_machine_steers_no_terminal() -> None:
    hostile = process({HOSTILE: HOSTILE}, host=HOSTILE, error=HOSTILE, prefix=HOSTILE, imported={HOSTILE: "1"})
    shown = report(process(), (*workers(1), hostile), warnings=(HOSTILE,))
    for text in (str(shown), str(shown.compare(report(process(), workers(1))))):
        assert all(each.isprintable() or each == "\n" for each in text)


def test_a_very_long_error_is_cut_in_text_and_whole_in_json() -> None:
    error = "ImportError: " + "x" * 100_000
    shown = report(process(), workers(1, imported={"pandas": f"!{error}"}))
    assert len(str(shown)) < 5_000
    assert "…" in str(shown)
    assert shown.to_json()["workers"][0]["imported"]["pandas"]["error"] == error


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("a\tb\n c", 300, "a b c"),
        ("\x1b[31mred", 300, "[31mred"),
        ("abcdef", 4, "abc…"),
        ("abcd", 4, "abcd"),
        (7, 9, "7"),
    ],
)
def test_a_line_is_one_line(text: object, most: int, shown: str) -> None:
    assert line(text, most) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (5e12, "5000.0 GB")]
)
def test_a_size_has_the_unit_that_reads_best(count: int, shown: str) -> None:
    assert size(count) == shown


def test_a_table_is_aligned_without_spaces_at_the_end() -> None:
    assert table([("a", "bb"), ("ccc", "")]) == "a    bb\n---  --\nccc"


# --- what is asked ---


def test_the_fingerprint_of_this_process_is_of_what_is_importable_in_it() -> None:
    found = depload.fingerprint()
    assert found.workers == ()
    assert found.driver == Environment.of({**activation.environment(), "site": None})
    assert found.driver.packages["pytest"] == pytest.__version__
    assert not found.compare(depload.fingerprint())


def test_a_load_of_the_driver_alone_shows_in_its_fingerprint(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    answer = run_python(
        """
        import json, sys
        import depload
        before = depload.fingerprint()
        loaded = depload.load(sys.argv[1])
        after = depload.fingerprint()
        answer = {
            "difference": after.compare(before).to_json()["pairs"][0]["differences"]["only_here"],
            "sites": [before.driver.site, after.driver.site == loaded.site],
            "same": not after.compare(loaded.report),
            "unneeded": sorted(
                {"depload.reporting.rendering", "html", "xml.etree.ElementTree", "pyspark"} & set(sys.modules)
            ),
        }
        print(json.dumps(answer))
        """,
        converted.path,
    )
    assert answer == {"difference": {"alpha": "1.0"}, "sites": [None, True], "same": True, "unneeded": []}


def test_no_module_hides_the_verb() -> None:
    assert "fingerprint" not in {module.name for module in pkgutil.iter_modules(depload.__path__)}


@pytest.mark.spark
def test_every_worker_tells_what_it_can_import_before_and_after_a_load(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}), beta=("2.0", {"beta.py": ""}))
    answer = run_on_spark(
        """
        before = depload.fingerprint(spark)
        loaded = depload.load(sys.argv[1], spark)
        after = depload.fingerprint(spark)
        answer["before"] = before.to_json()
        answer["gained"] = [pair.differences.to_json() for pair in after.compare(before).pairs]
        answer["same"] = str(loaded.report.compare(after))
        answer["sites"] = [worker.site == loaded.report.driver.site for worker in after.workers]
        answer["text"] = str(before)
        answer["junit"] = loaded.report.to_junit()
        """,
        converted.path,
    )
    assert [worker["executor"] for worker in answer["before"]["workers"]] == ["0", "1"]
    for worker in answer["before"]["workers"]:
        assert worker["python"] == sys.version.split()[0]
        assert worker["packages"]["pyspark"]
        assert worker["site"] is None
    gained = {"alpha": "1.0", "beta": "2.0"}
    assert [pair["only_here"] for pair in answer["gained"]] == [gained, gained]
    assert [pair["versions"] for pair in answer["gained"]] == [{}, {}]
    assert all(said.startswith(("driver: no diff", "all 2 workers: no diff")) for said in answer["same"].split("\n\n"))
    assert answer["sites"] == [True, True]
    assert "all 2 workers: the same" in answer["text"]
    assert ET.fromstring(answer["junit"]).get("failures") == "0"


def test_imported_modules_are_records() -> None:
    assert process().imported["pandas"] == Imported("2.2.3", "/site/pandas.py", "pandas", None)
    assert replace(process(), pid=2).fingerprint == process().fingerprint
