"""The shapes in which the processes of a session are shown: text, JUnit XML, HTML."""

from __future__ import annotations

import re
import textwrap
from html import escape
from typing import TYPE_CHECKING

from depload.reporting import summary
from depload.reporting.environments import Process
from depload.reporting.plain import counted, line, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from xml.etree.ElementTree import Element

    from depload.reporting.environments import Environment, Environments, Wrong

_WIDTH = 110
_MOST_GROUPS = 20
_LONGEST = 10_000


# --- text -----------------------------------------------------------------------------------------------------------


def text(shown: Environments) -> str:
    """Aligned lines for a terminal or a log."""
    odd = summary.odd(shown)
    return "\n".join(
        [
            *(f"{_hanging('warning: ', line(warning, _LONGEST))}\n" for warning in shown.warnings),
            table(summary.rows(shown)),
            "",
            _hanging("", summary.verdict(shown)),
            *(_hanging("  - ", f"{who}: {summary.phrase(unlike)}") for who, unlike in odd[:_MOST_GROUPS]),
            *([f"  - and {len(odd) - _MOST_GROUPS} other lists of packages"] if len(odd) > _MOST_GROUPS else []),
            "",
            *_facts(list(summary.facts(shown))),
        ]
    )


def _facts(facts: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Words and values in two columns."""
    width = max((len(word) for word, _ in facts), default=0) + 2
    for word, values in facts:
        for at, value in enumerate(values):
            yield _hanging(("" if at else f"{word}:").ljust(width), value)


def _hanging(head: str, words: str) -> str:
    """A paragraph whose first line begins with ``head``; a path or an address is not broken."""
    return textwrap.fill(
        words,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


# --- JUnit XML ------------------------------------------------------------------------------------------------------


def junit(shown: Environments) -> str:
    """A test suite for each process, as Jenkins and Surefire write them.

    Its test cases: ``activation``, ``import <module>`` for each, and ``packages``, which fails
    where the process has other packages than most.
    """
    from xml.etree import ElementTree as ET

    suites = [_suite(shown, process) for process in shown.processes]
    if suites and shown.warnings:
        ET.SubElement(suites[0], "system-err").text = _xml("\n".join(shown.warnings))
    counts = {key: str(sum(int(suite.attrib[key]) for suite in suites)) for key in ("tests", "failures", "errors")}
    root = ET.Element("testsuites", {"name": f"depload {shown.title}", **counts})
    root.extend(suites)
    ET.indent(root)
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _suite(shown: Environments, process: Environment) -> Element:
    from xml.etree.ElementTree import Element, SubElement

    cases = list(_cases(shown, process))
    seconds = f"{process.seconds:.4f}" if isinstance(process, Process) else "0"
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(failure is not None for _, failure in cases)),
        "errors": "0",
        "skipped": "0",
        "time": seconds,
    }
    suite = Element("testsuite", {"name": _xml(shown.place(process)), **counts, "hostname": _xml(process.host)})
    properties = SubElement(suite, "properties")
    for name, value in _properties(shown, process).items():
        SubElement(properties, "property", {"name": name, "value": _xml(value)})
    for name, failure in cases:
        attributes = {"classname": _xml(f"depload.{shown.name(process)}"), "name": _xml(name), "time": "0"}
        case = SubElement(suite, "testcase", attributes)
        if failure is not None:
            message, kind = _xml(line(failure)), "difference"
            SubElement(case, "failure", {"message": message, "type": kind}).text = _xml(failure)
    return suite


def _properties(shown: Environments, process: Environment) -> dict[str, str]:
    return {
        "python": process.python,
        "prefix": process.prefix,
        "platform": process.platform,
        "site": process.site or "",
        "package_count": str(process.package_count),
        "fingerprint": process.fingerprint,
        "pid": str(process.pid),
        **shown.about(),
    }


def _cases(shown: Environments, process: Environment) -> Iterator[tuple[str, str | None]]:
    """Test cases by name, with the reason of those that fail."""
    if isinstance(process, Process):
        cases: dict[str, list[Wrong]] = {"activation": [], **{f"import {name}": [] for name in process.imported}}
        for item in shown.wrong(process):
            cases.setdefault(f"import {item.module}" if item.module else "activation", []).append(item)
        yield from ((name, _failure(wrong)) for name, wrong in cases.items())
    if isinstance(process, Process) and process is shown.driver and shown.workers:
        return  # a proof asks for what the wheelhouse brings; that a driver has more than workers is no failure of it
    most = shown.alike[0][0]
    odd = process.fingerprint != most.fingerprint
    yield "packages", f"here is this process, there are most\n{process.differences(most)}" if odd else None


def _failure(wrong: Sequence[Wrong]) -> str | None:
    return "\n".join(map(str, wrong)) or None


_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(value: str) -> str:
    """Without the characters that XML 1.0 forbids (its production 2, ``Char``)."""
    return _NOT_XML.sub("", value)


# --- HTML -----------------------------------------------------------------------------------------------------------

# Inline, because notebooks drop style sheets; in tints of whatever colour the text has, because the page around may be
# light or dark.
_FONT = "font:13px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',sans-serif;text-align:left"
_MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12px"
_LINE = "1px solid rgba(128,128,128,.3)"
_FAINT = "opacity:.72"
_GOOD, _ODD, _WRONG = "#1a7f4b", "#9a6700", "#b3261e"
_TINTS = {_ODD: "rgba(217,149,6,.16)", _WRONG: "rgba(217,48,37,.16)"}
_NUMBERS = {"pid", "seconds", "packages"}
_CODE = {"fingerprint", "digest", "platform", "prefix", "site"}
_URGENT = "wrong"
_MOST_DIFFERENCES = 40


def page(shown: Environments) -> str:
    """The same as ``html``, as a page of its own."""
    head = f'<meta charset="utf-8"><meta name="color-scheme" content="light dark">{_tag("title", shown.title)}'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n'
        f'<body style="margin:24px">\n{html(shown)}\n</body></html>\n'
    )


def html(shown: Environments) -> str:
    """What a notebook shows below a cell."""
    facts = list(summary.facts(shown))
    colour = _WRONG if any(word == _URGENT for word, _ in facts) else _ODD if shown.odd else _GOOD
    pill = f"background:{colour};color:#fff;border-radius:10px;padding:1px 10px;font-weight:600"
    title = _tag("strong", f"depload: {shown.title}", "font-size:16px") + _tag("span", summary.verdict(shown), pill)
    parts = [
        _within("div", title, "display:flex;flex-wrap:wrap;gap:4px 12px;align-items:baseline;margin-bottom:8px"),
        *(_note(text, _WRONG) for word, values in facts if word == _URGENT for text in values),
        *(_note(f"Warning: {line(warning, _LONGEST)}", _ODD) for warning in shown.warnings),
        _processes(shown),
        *_odd_ones(shown),
        _html_facts([fact for fact in facts if fact[0] != _URGENT]),
        *_package_lists(shown),
    ]
    return _within("div", "\n".join(parts), f"{_FONT};max-width:1100px")


def _processes(shown: Environments) -> str:
    """A row for each process, or each kind of them; a fingerprint that is not that of most stands out."""
    heading, *rows = summary.rows(shown)
    odd = {process.fingerprint[: summary.SHORT] for process in shown.odd}
    marked = f";background:{_TINTS[_ODD]};font-weight:600"
    cells = [[(cell, marked if cell in odd else "") for cell in row] for row in rows]
    return _html_table(heading, cells)


def _odd_ones(shown: Environments) -> Iterator[str]:
    """Who differs from most, and in what."""
    groups = summary.odd(shown)
    for who, differences in groups[:_MOST_GROUPS]:
        rows = [[(cell, "") for cell in row] for row in differences.rows]
        told = _html_table(("", "here", "elsewhere"), rows[:_MOST_DIFFERENCES])
        if len(rows) > _MOST_DIFFERENCES:
            told += _tag("div", f"and {len(rows) - _MOST_DIFFERENCES} more, all in to_json()", _FAINT)
        yield _box(_tag("strong", f"{who}: {counted(len(rows), 'difference')}") + told, _ODD)
    if len(groups) > _MOST_GROUPS:
        yield _note(f"and {len(groups) - _MOST_GROUPS} other lists of packages, all in to_json()", _ODD)


def _html_facts(facts: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Words and values in two columns."""
    cells = []
    for word, values in facts:
        style = f"margin:0;overflow-wrap:anywhere;{_MONO if word in _CODE else ''}"
        cells.append(_tag("dt", word, f"margin:0;font-weight:400;{_FAINT}"))
        cells.append(_within("dd", "".join(_tag("div", value) for value in values), style))
    style = "display:grid;grid-template-columns:max-content minmax(0,1fr);gap:3px 16px;margin:0 0 10px"
    return _within("dl", "\n".join(cells), style)


def _package_lists(shown: Environments) -> Iterator[str]:
    """A list to open for each fingerprint; what the wheelhouse brings is bold."""
    brought = shown.brought()
    legend = _tag("div", "Bold: from the wheelhouse.", _FAINT) if brought else ""
    for group in shown.alike[:_MOST_GROUPS]:
        items = [
            _tag("div", f"{name} {version}", "font-weight:700" if brought.get(name) == version else "")
            for name, version in sorted(group[0].packages.items())
        ]
        head = _tag("summary", f"{counted(len(items), 'package')}: {shown.who(group)}", "cursor:pointer")
        columns = _within("div", "\n".join(items), f"columns:17em auto;column-gap:24px;margin:6px 0;{_MONO}")
        yield _within("details", head + legend + columns, f"border-top:{_LINE};padding:4px 0")


def _html_table(heading: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Cells with a style of their own below a heading; wider than the page, it scrolls."""
    lines = ["".join(_tag("th", word, f"{_cell(word)};font-weight:600;{_FAINT}") for word in heading)]
    for row in rows:
        styles = (f"{_cell(word)};border-top:{_LINE};{_MONO if word == 'fingerprint' else ''}" for word in heading)
        lines.append("".join(_tag("td", cell, own + more) for own, (cell, more) in zip(styles, row, strict=True)))
    body = "\n".join(_within("tr", cells, "background:none") for cells in lines)
    whole = _within("table", body, "border-collapse:collapse;border:0;margin:0;font-size:13px")
    return _within("div", whole, "overflow-x:auto;margin:0 0 8px")


def _cell(word: str) -> str:
    """Against the notebook's own rules for tables, which would align and stripe."""
    side = "right" if word in _NUMBERS else "left"
    return f"text-align:{side};padding:3px 20px 3px 0;background:none;white-space:nowrap;border:0"


def _note(content: str, colour: str) -> str:
    return _box(_tag("div", content, "overflow-wrap:anywhere"), colour)


def _box(markup: str, colour: str) -> str:
    """What is not to be missed."""
    style = f"border-left:4px solid {colour};background:{_TINTS[colour]};padding:6px 12px;margin:0 0 8px"
    return _within("div", markup, style)


def _tag(name: str, content: str, style: str = "") -> str:
    """An element with nothing but text in it, wherever that is from."""
    return _within(name, escape(line(content, _LONGEST)), style)


def _within(name: str, markup: str, style: str) -> str:
    return f'<{name} style="{style}">{markup}</{name}>' if style else f"<{name}>{markup}</{name}>"
