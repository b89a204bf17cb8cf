"""The command line, as a shell and a script see it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from conftest import write_zip

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.pipeline import Converted

COMMANDS = ["detect", "convert", "inspect", "verify", "check", "load", "fingerprint", "cleanup", "prune", "demo"]


def depload(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "depload", *words], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(command: str) -> None:
    said = depload(command, "--help").stdout
    assert f"  $ depload {command}" in said
    assert "--json" in said


def test_the_way_of_a_source_from_detection_to_cleanup(examples: Path, base: Path) -> None:
    source = str(examples / "pure_python.zip")
    detected = json.loads(depload("detect", source, "--json").stdout)
    assert detected["format"] == "pure_python"
    assert detected["roots"] == [{"kind": "modules", "path": "."}]
    assert {item["path"] for item in detected["ignored"]} == {".DS_Store", "__MACOSX", "__pycache__"}
    assert detected["warnings"] == []
    done = depload("convert", source, "--base", str(base), "--name", "calc", "--no-index", "--json")
    converted = json.loads(done.stdout)
    assert Path(converted["wheelhouse"]).name == "calc.wheelhouse.zip"
    assert set(converted) >= {"path", "wheelhouse", "digest", "format", "target", "wheels", "seconds"}
    assert set(converted["wheels"][0]) >= {"filename", "name", "version", "sha256", "size", "native"}
    assert set(converted["seconds"]) >= {"detect", "resolve", "fetch", "build", "write", "publish", "total"}
    assert "resolve ..." in done.stderr, "progress goes to standard error"
    path = converted["path"]
    assert json.loads(depload("inspect", path, "--json").stdout)["digest"] == converted["digest"]
    assert json.loads(depload("verify", path, "--json").stdout)["verified"] is True
    assert json.loads(depload("cleanup", path, "--json").stdout)["removed"] is True
    assert depload("cleanup", path).stdout == f"{path} is already gone\n"
    assert list(base.iterdir()) == []


@pytest.mark.spark
def test_load_prints_the_proof_of_driver_and_workers(published: Callable[..., Converted], tmp_path: Path) -> None:
    converted = published(alpha=("1.0", {"alpha/__init__.py": "", "alpha/deep.py": ""}), beta=("2.0", {"beta.py": ""}))
    words = ["load", converted.path, "--master", "local-cluster[2,1,1024]", "--import", "alpha.deep", "--json"]
    junit, html = tmp_path / "report.xml", tmp_path / "report.html"
    report = json.loads(depload(*words, "--junit", str(junit), "--html", str(html)).stdout)
    assert len(ET.parse(junit).findall("testsuite/testcase[@name='import alpha.deep']")) == 3
    assert "driver and all 2 workers: the same" in html.read_text()
    assert {worker["executor"] for worker in report["workers"]} == {"0", "1"}
    for process in (report["driver"], *report["workers"]):
        assert set(process) >= {"host", "executor", "pid", "python", "site", "digest", "imported", "seconds"}
        assert list(process["imported"]) == ["alpha.deep"]
        assert process["imported"]["alpha.deep"]["version"] == "1.0"
        assert process["imported"]["alpha.deep"]["file"].startswith(process["site"])
    assert report["digest"] == converted.digest


@pytest.mark.spark
def test_a_load_that_fails_writes_its_report_too(published: Callable[..., Converted], tmp_path: Path) -> None:
    code = "import os\nif os.environ.get('DEPLOAD_WORKS_FOR'):\n    raise OSError('libgomp.so.1 is missing')\n"
    converted = published(broken=("1.0", {"broken.py": code}))
    junit = tmp_path / "report.xml"
    words = ["load", converted.path, "--master", "local[1]", "--isolation", "process", "--junit", str(junit)]
    done = depload(*words, code=1)
    assert "broken: expected 1.0, found OSError: libgomp.so.1 is missing" in done.stderr
    case = ET.parse(junit).find("testsuite/testcase[@name='import broken']/failure")
    assert case is not None
    assert "libgomp.so.1 is missing" in str(case.get("message"))


def test_two_fingerprints_are_compared_and_the_exit_code_tells(tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    before.write_text(depload("fingerprint", "--json").stdout)
    same = depload("fingerprint", "--compare", str(before))
    assert "driver: no difference in" in same.stdout
    written = json.loads(before.read_text())
    written["driver"]["packages"]["click"] = "0.1"
    before.write_text(json.dumps(written))
    differs = depload("fingerprint", "--compare", str(before), "--json", code=1)
    (pair,) = json.loads(differs.stdout)["pairs"]
    assert list(pair["differences"]["versions"]) == ["click"]
    assert pair["differences"]["versions"]["click"]["there"] == "0.1"


@pytest.mark.parametrize(
    ("content", "said"),
    [("nonsense", "cannot be read as JSON"), ("{}", "workers is NoneType, not list"), (None, "No such file")],
)
def test_what_is_no_fingerprint_is_not_compared(content: str | None, said: str, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    if content is not None:
        before.write_text(content)
    assert said in depload("fingerprint", "--compare", str(before), code=1).stderr


def test_an_error_is_one_paragraph_and_exit_code_1(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "source.zip", {"README.md": "hello"})
    done = depload("detect", str(source), code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "\n\n" not in done.stderr
    done = depload("detect", str(source), "--json", code=1)
    assert json.loads(done.stdout)["error"]["type"] == "UnrecognisedSourceError"


@pytest.mark.parametrize(
    "words", [["convert", "x.zip"], ["nonsense"], ["load"], ["convert", "x.zip", "--base", "b", "--resolver", "conda"]]
)
def test_a_call_that_cannot_be_understood_is_exit_code_2(words: list[str]) -> None:
    assert "Usage:" in depload(*words, code=2).stderr


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--python", "2.7"], "'2.7' is not a Python version that depload loads on; give one from 3.10 to 3.14"),
        (["--platform", "linux"], "'linux' is not a platform tag; give one as in a wheel's file name"),
        (["--runtime", "7.3"], "'7.3' is not a Databricks runtime known here; give one of 13.x"),
    ],
)
def test_a_target_that_is_not_known_says_what_is(option: list[str], said: str, tmp_path: Path) -> None:
    source = write_zip(tmp_path / "source.zip", {"module.py": ""})
    assert said in depload("convert", str(source), "--base", str(tmp_path / "base"), *option, code=1).stderr


def test_importing_depload_imports_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import depload; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("depload")} == {"depload", "depload._version"}
    assert {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) == {"depload"}
    assert not loaded & {"zipfile", "json", "subprocess", "pathlib", "tempfile", "http.client", "concurrent.futures"}


@pytest.mark.spark
@pytest.mark.network
def test_the_demo_takes_every_example_through_the_whole_job(examples: Path, tmp_path: Path) -> None:
    only = tmp_path / "examples"
    only.mkdir()
    for name in ("nested.zip", "mixed.zip"):
        (only / name).write_bytes((examples / name).read_bytes())
    done = depload("demo", "--artifacts", str(only), "--master", "local[2]", "--json")
    rows = json.loads(done.stdout)["examples"]
    assert [(row["name"], row["format"], row["workers"] > 0, row["cleaned_up"], row["error"]) for row in rows] == [
        ("mixed.zip", "mixed", True, True, ""),
        ("nested.zip", "nested", True, True, ""),
    ]
