"""Runs for people and for CI: a tree of tasks as text, and JUnit XML."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from depload.reporting.plain import counted, line
from depload.running.results import Result, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from depload.running.results import JobRun, TaskRun

_TAIL = 4000  # characters of a log
_LEFT_OUT = (Result.EXCLUDED, Result.DISABLED, Result.UPSTREAM_FAILED, Result.UPSTREAM_CANCELED, Result.CANCELED)


# --- text -----------------------------------------------------------------------------------------------------------


def tree(run: JobRun, now: float) -> str:
    """The run and each of its tasks, a line each; what failed has its error below."""
    lines = [f"{run.job}, run {run.run_id}: {_stand(run, now)}"]
    for task in run.tasks:
        lines += _branch(task, now, "  ")
    return "\n".join(lines)


def _branch(task: TaskRun, now: float, indent: str) -> Iterator[str]:
    yield f"{indent}{task.key}: {_stand(task, now)}"
    if task.error and not task.iterations:
        yield f"{indent}  {line(task.error, 200)}"
    for each in task.iterations:
        yield from _branch(each, now, f"{indent}  ")


def _stand(one: JobRun | TaskRun, now: float) -> str:
    """``success in 12.3 s``, ``running for 3.0 s, attempt 2``."""
    tries = f", attempt {attempt + 1}" if (attempt := getattr(one, "attempt", 0)) else ""
    if one.result is not None:
        took = f" in {(one.ended or now) - one.started:.1f} s" if one.started else ""
        return f"{said(one.result)}{took}{tries}"
    since = f" for {now - one.started:.1f} s" if one.started and one.state is State.RUNNING else ""
    return f"{one.state.value.replace('_', ' ')}{since}{tries}"


def said(result: Result) -> str:
    """A result as a person reads it."""
    return result.value.replace("_", " ")


def change(run: JobRun, task: TaskRun, now: float) -> str:
    """One line for one task that has moved on."""
    error = f": {line(task.error, 300)}" if task.error and task.done else ""
    return f"run {run.run_id}  {task.key}: {_stand(task, now)}{error}"


def summary(runs: Sequence[JobRun]) -> str:
    """How many succeeded, and what went wrong in the others."""
    lines = [f"{sum(run.good for run in runs)} of {counted(len(runs), 'run')} succeeded"]
    for run in runs:
        bad = [task for task in run.every if task.result and not task.result.good and task.error]
        if not run.good:
            lines.append(f"run {run.run_id}: {said(run.result) if run.result else run.state.value}")
        lines += [f"  {task.key}: {line(task.error, 500)}{_kept(task)}" for task in bad]
    return "\n".join(lines)


def _kept(task: TaskRun) -> str:
    """Where its log is, if it stays."""
    return f" ({task.log})" if task.log and task.log.exists() else ""


# --- JUnit XML ------------------------------------------------------------------------------------------------------


def junit(runs: Sequence[JobRun]) -> str:
    """A suite for each run, and in it a case for each task or iteration, as its last attempt left it."""
    root = ET.Element("testsuites", name="depload run")
    root.extend(_suite(run) for run in runs)
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(run: JobRun) -> ET.Element:
    suite = ET.Element("testsuite", name=_xml(f"{run.job} {run.run_id}"), time=_seconds(run), errors="0")
    properties = ET.SubElement(suite, "properties")
    for name, value in {"run_id": run.run_id, "result": run.result.value if run.result else ""}.items():
        ET.SubElement(properties, "property", name=name, value=str(value))
    cases = [_case(run, task) for task in run.every]
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    return suite


def _case(run: JobRun, task: TaskRun) -> ET.Element:
    case = ET.Element("testcase", classname=_xml(run.job), name=_xml(task.key), time=_seconds(task))
    result = task.result or Result.CANCELED
    if result in _LEFT_OUT and not task.attempt and task.state is State.SKIPPED:
        ET.SubElement(case, "skipped", message=said(result))
    elif not result.good:
        failure = ET.SubElement(case, "failure", type=result.value, message=_xml(line(task.error or said(result))))
        failure.text = _xml(task.trace or task.error)
    if task.log and (text := tail(task.log)):
        ET.SubElement(case, "system-out").text = _xml(text)
    return case


def tail(log: Path) -> str:
    """The end of a log."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text if len(text) <= _TAIL else f"… {log} has all of it\n{text[-_TAIL:]}"


def _seconds(one: JobRun | TaskRun) -> str:
    return f"{one.ended - one.started:.3f}" if one.started and one.ended else "0"


def _xml(text: str) -> str:
    """Without what XML 1.0 forbids."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")
