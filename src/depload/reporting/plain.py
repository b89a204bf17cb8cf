"""Plain text for people: aligned columns, sizes, and what other machines said made fit for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def size(count: int) -> str:
    """Bytes as a person reads them."""
    number, units = float(count), iter(("B", "kB", "MB", "GB"))
    unit = next(units)
    while number >= 1000 and (larger := next(units, None)):  # noqa: PLR2004 - SI
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def line(text: object, most: int = 300) -> str:
    """``text`` on one line of at most ``most`` characters, without what would steer a terminal or turn text around."""
    clean = " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def counted(count: int, noun: str) -> str:
    """``1 worker``, ``4 workers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def some(texts: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first ``most`` of the texts, and how many more there are."""
    more = len(texts) - most
    return separator.join(texts[:most]) + (f" and {more} more" if more > 0 else "")
