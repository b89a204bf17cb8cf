"""Whether a function of the user's session sees what was loaded, apart from depload's own proof; and as JUnit XML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from depload.databricks import workers
from depload.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from depload import Loaded, Report

_ROUNDS = 6


@dataclass(frozen=True)
class Seen:
    """What one Python worker imported when a function of the session asked it to."""

    host: str
    pid: int
    modules: dict[str, dict[str, str | None]]
    """By name: the ``file`` that was imported, or the ``error``."""


@dataclass(frozen=True)
class Validation:
    """The answers of the workers, and what is wrong with them."""

    names: tuple[str, ...]
    seen: tuple[Seen, ...]
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        workers = "1 worker process" if len(self.seen) == 1 else f"{len(self.seen)} worker processes"
        modules = ", ".join(self.names) or "nothing"
        return f"validated: a UDF imported {modules} in {workers} on {len({each.host for each in self.seen})} host(s)"


def validate(spark: Any, loaded: Loaded, names: Sequence[str] | None = None) -> Validation:
    """Run an ordinary UDF until every host of the report has answered; it imports ``names``, or what the proof did."""
    names = tuple(names or _proven(loaded.report))
    hosts = {worker.host for worker in loaded.report.workers}
    count = 2 * max(1, len(loaded.report.workers))
    seen: dict[tuple[str, int], Seen] = {}
    for _ in range(_ROUNDS):
        for answer in _ask(spark, names, count):
            seen[answer.host, answer.pid] = answer
        if hosts <= {host for host, _ in seen}:
            break
    faults = [*_unlike(loaded.report, seen.values()), *_silent(hosts - {host for host, _ in seen})]
    return Validation(names, tuple(seen.values()), tuple(dict.fromkeys(faults)))


def _proven(report: Report) -> list[str]:
    return sorted({name for worker in report.workers for name in worker.imported})


def _ask(spark: Any, names: Sequence[str], count: int) -> list[Seen]:
    """What workers import when a function of the session asks them to; nothing of depload is in it."""

    def question() -> dict[str, Any]:
        import importlib

        def imported(name: str) -> dict[str, str | None]:
            try:
                return {"file": getattr(importlib.import_module(name), "__file__", None), "error": None}
            except Exception as error:  # noqa: BLE001 - the answer is what it raised
                return {"file": None, "error": f"{type(error).__name__}: {error}"}

        return {"modules": {name: imported(name) for name in names}}

    return [Seen(**answer) for answer in workers.ask(spark, question, count)]


def _unlike(report: Report, seen: Iterable[Seen]) -> Iterator[Fault]:
    """What a UDF did not import, or imported from another file than the proof did."""
    files: dict[str, set[str | None]] = {}
    for worker in report.workers:
        for name, module in worker.imported.items():
            files.setdefault(name, set()).add(module.file)
    for answer in seen:
        for name, found in answer.modules.items():
            if found["error"]:
                yield Fault(answer.host, f"{name} cannot be imported: {found['error']}")
            elif name in files and found["file"] not in files[name]:
                yield Fault(answer.host, f"{name} comes from {found['file']}, not from the wheelhouse")


def _silent(hosts: set[str]) -> Iterator[Fault]:
    for host in sorted(hosts):
        yield Fault(host, f"no function reached it in {_ROUNDS} rounds")


# --- JUnit XML ------------------------------------------------------------------------------------------------------


def junit(report: Report | None, validation: Validation | None = None, error: Exception | None = None) -> str:
    """The report's test suites, one more for the validation, and one for what stopped the task."""
    root = ET.fromstring(report.to_junit()) if report else ET.Element("testsuites", name="depload")  # noqa: S314 - our own
    if validation:
        broken = [(fault.where, fault.what) for fault in validation.faults]
        passed = [
            f"{name} on {answer.host}, process {answer.pid}" for answer in validation.seen for name in answer.modules
        ]
        root.append(_suite("validation", passed, broken))
    if error:
        root.append(_suite("task", [], [(type(error).__name__, str(error))]))
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(name: str, passed: Sequence[str], failed: Sequence[tuple[str, str]]) -> ET.Element:
    counts = {"tests": str(len(passed) + len(failed)), "failures": str(len(failed)), "errors": "0", "skipped": "0"}
    suite = ET.Element("testsuite", {"name": name, **counts})
    for each in passed:
        ET.SubElement(suite, "testcase", classname=f"depload.{name}", name=_xml(each))
    for each, why in failed:
        case = ET.SubElement(suite, "testcase", classname=f"depload.{name}", name=_xml(each))
        failure = ET.SubElement(case, "failure", message=_xml(why).partition("\n")[0], type="difference")
        failure.text = _xml(why)
    return suite


def _xml(text: str) -> str:
    """Without what XML 1.0 forbids."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")
