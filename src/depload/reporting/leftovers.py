"""What a prune found in a base, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from depload.reporting.plain import counted, line, size, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from depload.published.bases import Found
    from depload.published.pruning import Pruned

_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))


def text(pruned: Pruned, *, verbose: bool = False) -> str:
    """A row for each thing that is depload's, with ``verbose`` for everything else too, and the sum of it."""
    shown = [each for each in pruned.found if verbose or each.kind != "other" or each.fate == "failed"]
    rows = [_row(each, dry_run=pruned.dry_run) for each in shown]
    listed = f"{table([('path', 'kind', 'size', 'age', 'fate', 'why'), *rows])}\n\n" if rows else ""
    return listed + "\n".join(_sums(pruned))


def _row(found: Found, *, dry_run: bool) -> tuple[str, ...]:
    fates = {"remove": "would be removed" if dry_run else "removed", "keep": "kept", "in use": "in use"}
    fate = fates.get(found.fate, "not removed")
    return line(found.place), found.kind, size(found.size), _span(found.age), fate, line(found.why)


def _span(seconds: float | None) -> str:
    """As a person says it: in the largest unit of which there is one."""
    if seconds is None:
        return "?"
    return next((f"{int(seconds // unit)}{name}" for name, unit in _UNITS if seconds >= unit), f"{int(seconds)}s")


def _sums(pruned: Pruned) -> Iterator[str]:
    word = "would be removed" if pruned.dry_run else "removed"
    yield f"{word}: {counted(len(pruned.removed), 'path')}, {size(pruned.freed)}; {size(pruned.kept)} stay"
    if faults := [each for each in pruned.found if each.fate == "failed"]:
        yield f"not removed although they should be: {len(faults)}"
