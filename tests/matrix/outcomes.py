"""What became of each cell, and how it is shown: a table for people, Markdown, JSON and JUnit's XML."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree as ET

from matrix import plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matrix.plan import Cell

HEAD = ("session", "topology", "pyspark", "Python", "isolation", "result", "what was proven")
_PAGE = """\
# The matrix

One call, `depload.load(path, spark=spark)`, on every kind of session, in environments of their own. `make matrix` runs
it and writes this page; `make matrix MATRIX='--only connect'` or `MATRIX=--fast` runs a part and leaves the page as it
is. A part that needs no further environment is in `make test`.

- **shared**: another pandas than the workers have imported is refused, with `isolation="process"` as the remedy; then a
  pure package and a native one (in another version than is installed) are used inside each kind of function that this
  PySpark has, and come from the wheelhouse.
- **process**: the workers have imported the installed pandas and numpy; the session's functions see those of the
  wheelhouse, another session of the application sees the installed ones, and after `unload()` so does this one.
- **standalone** is a master with two workers that share no directory: each unpacks once, into its own. **connect** is a
  server in a process of its own, over two executors.
- **install** puts depload into the packages that a Databricks runtime preinstalls, and compares before and after.

{table}
"""


@dataclass(frozen=True)
class Outcome:
    """A cell with its result."""

    cell: Cell
    result: Literal["proven", "FAILED", "not run"]
    told: str
    """What was proven, why it failed, or why it was not run."""
    pyspark: str = ""
    python: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""
    """The end of what the cell wrote as errors."""

    @property
    def row(self) -> tuple[str, ...]:
        """As the table has it."""
        cell = self.cell
        pyspark = cell.runtime.name if cell.runtime else self.pyspark or cell.line.name
        if cell.runtime:
            pyspark = f"{cell.line.name} ({cell.runtime.name})"
        return (
            cell.session,
            cell.topology,
            pyspark,
            self.python or cell.python,
            cell.isolation,
            self.result,
            self.told.partition("\n")[0],
        )


def of(cell: Cell, answer: Mapping[str, Any], said: str) -> Outcome:
    """The outcome of a cell that answered."""
    faults = list(_faults(cell, answer))
    proven = not faults
    return Outcome(
        cell,
        "proven" if proven else "FAILED",
        _told(answer) if proven else "; ".join(faults),
        pyspark=str(answer["pyspark"] or plan.NOWHERE),
        python=".".join(str(answer["python"]).split(".")[:2]),
        answer=answer,
        said=said,
    )


def _faults(cell: Cell, answer: Mapping[str, Any]) -> list[str]:
    found = [f"{name}: {fact['failed']}" for name, fact in _facts(answer).items() if "failed" in fact]
    if cell.session == "none":
        return found
    if not any("proven" in fact for fact in answer["kinds"].values()):
        found.append("no kind of function was proven")
    wanted = 1 if cell.topology == plan.LOCAL else 2
    if len(answer["executors"]) != wanted:
        found.append(f"executors {answer['executors']} answered, expected {wanted}")
    if cell.topology == plan.STANDALONE and len(answer["sites"]) != wanted:
        found.append(f"the workers use {answer['sites']}, expected {wanted} directories")
    # What a process cell brings may have been unpacked before, by the shared cell that refused it.
    if cell.topology == plan.STANDALONE and cell.isolation == "shared" and answer["unpacked"] != answer["sites"]:
        found.append(f"unpacked in {answer['unpacked']}, expected once in each of {answer['sites']}")
    return found


def _facts(answer: Mapping[str, Any]) -> dict[str, Any]:
    named = ("driver", "refused", "undisturbed", "put back")
    return {**answer["kinds"], **{name: answer[name] for name in named if name in answer}}


def _told(answer: Mapping[str, Any]) -> str:
    facts = _facts(answer)
    kinds = {name: fact for name, fact in answer["kinds"].items() if "proven" in fact}
    seen = next(iter(kinds.values()), facts.get("driver", {})).get("proven", {})
    versions = ", ".join(f"{name} {version}" for name, (version, _) in seen.items())
    words = [f"{versions} in {', '.join(kinds) or 'the process'}"]
    if "refused" in facts:
        words.append(f"another pandas refused ({facts['refused']['proven']})")
    if "undisturbed" in facts:
        before = ", ".join(f"{name} {version}" for name, version in facts["undisturbed"]["proven"].items() if version)
        words.append(f"neighbour session and after unload: {before}")
    if len(answer.get("sites", ())) > 1:
        words.append(f"a site on each worker machine{', unpacked once' if answer['unpacked'] else ''}")
    words += [f"no {name}: {fact['reason']}" for name, fact in answer["kinds"].items() if "reason" in fact]
    return "; ".join(words)


# --- showing them ---------------------------------------------------------------------------------------------------


def table(outcomes: Sequence[Outcome]) -> str:
    """Aligned columns, the long one last; what failed is told in full below."""
    rows = [HEAD, *(outcome.row for outcome in outcomes)]
    widths = [*(max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)), 0]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
    results = [outcome.result for outcome in outcomes]
    counted = ", ".join(f"{results.count(result)} {result}" for result in ("proven", "FAILED", "not run"))
    failed = [f"\n--- {each.cell.name}\n{each.told}\n{each.said}" for each in outcomes if each.result == "FAILED"]
    return "\n".join([*lines, "", counted, *failed])


def page(outcomes: Sequence[Outcome]) -> str:
    """As docs/matrix.md has it."""
    rows = [HEAD, ("---",) * len(HEAD), *(outcome.row for outcome in outcomes)]
    return _PAGE.format(table="\n".join(f"| {' | '.join(row)} |" for row in rows))


def to_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Everything, the cells' own answers included."""
    return [{"name": outcome.cell.name, **asdict(outcome)} for outcome in outcomes]


def junit(outcomes: Sequence[Outcome]) -> bytes:
    """A test case for each cell."""
    failures = sum(each.result == "FAILED" for each in outcomes)
    suite = ET.Element("testsuite", {"name": "matrix", "tests": str(len(outcomes)), "failures": str(failures)})
    for outcome in outcomes:
        case = ET.SubElement(suite, "testcase", {"classname": "matrix", "name": outcome.cell.name})
        if outcome.result == "FAILED":
            ET.SubElement(case, "failure", {"message": outcome.told[:500]}).text = outcome.said
        elif outcome.result == "not run":
            ET.SubElement(case, "skipped", {"message": outcome.told})
    return ET.tostring(suite, encoding="unicode").encode()
