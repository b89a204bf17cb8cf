"""What every rendering says of the processes of a session, however many they are: rows, a verdict, facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from depload.reporting.environments import Process, grouped
from depload.reporting.plain import counted, line, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from depload.reporting.environments import Differences, Environment, Environments

_MOST_ROWS = 16
_MOST_PHRASES = 6
SHORT = 12  # hexadecimal digits that tell fingerprints of one table apart


def rows(shown: Environments) -> list[tuple[str, ...]]:
    """A heading, and a row for each process; where they are many, a row for those that are alike."""
    groups = [[process] for process in shown.processes]
    if len(groups) > _MOST_ROWS:
        groups = [group for _, group in grouped(shown.processes, lambda process: _kind(shown, process))]
        groups.sort(key=lambda group: group[0] is not shown.driver)
    cells = [_cells(shown, group) for group in groups[:_MOST_ROWS]]
    table = [tuple(cells[0]) if cells else ("process",), *(tuple(row.values()) for row in cells)]
    if left := groups[_MOST_ROWS:]:
        told = f"{sum(map(len, left))} more"
        table.append((told, *[""] * (len(table[0]) - 1)))
    return table


def _kind(shown: Environments, process: Environment) -> tuple[object, ...]:
    """What makes processes one row: all that is told but host, pid and seconds."""
    return process is shown.driver, process.python, process.fingerprint, shown.wrong(process), imported(process)


def _cells(shown: Environments, group: Sequence[Environment]) -> dict[str, str]:
    first, alone = group[0], len(group) == 1
    hosts = {process.host for process in group}
    cells = {
        "process": shown.name(first) if alone else f"{len(group)} workers",
        "host": line(first.host) if len(hosts) == 1 else counted(len(hosts), "host"),
        "pid": str(first.pid) if alone else "",
        "python": line(first.python),
    }
    loaded = [process for process in group if isinstance(process, Process)]
    if loaded:
        cells |= {"site": _unpacking(loaded), "seconds": _seconds(loaded)}
    return cells | {"packages": str(first.package_count), "fingerprint": first.fingerprint[:SHORT]}


def _unpacking(group: Sequence[Process]) -> str:
    if any(process.error for process in group):
        return "failed"
    unpacked = sum(process.unpacked for process in group)
    if unpacked in (0, len(group)):
        return "unpacked" if unpacked else "found"
    return f"unpacked by {unpacked}"


def _seconds(group: Sequence[Process]) -> str:
    least, most = (f"{pick(process.seconds for process in group):.2f}" for pick in (min, max))
    return most if least == most else f"{least} to {most}"


def verdict(shown: Environments) -> str:
    """Whether all have the same packages: ``driver and all 4 workers: the same 37 packages``."""
    if not shown.processes:
        return "no process was asked"
    most = shown.alike[0]
    same = "the same " if len(most) > 1 else ""
    text = f"{shown.who(most)}: {same}{counted(most[0].package_count, 'package')}"
    odd = len(shown.odd)
    return f"{text}; {odd} of {len(shown.processes)} processes {'differs' if odd == 1 else 'differ'}" if odd else text


def odd(shown: Environments) -> list[tuple[str, Differences]]:
    """Who differs from most, and in what."""
    return [(shown.who(group), group[0].differences(shown.alike[0][0])) for group in shown.alike[1:]]


def phrase(differences: Differences) -> str:
    """Differences in one line, ``here`` being those that are told of and ``elsewhere`` all others."""
    told = [
        *(f"{name} {here} here, {there} elsewhere" for name, (here, there) in differences.versions.items()),
        *(f"{name} {version} only here" for name, version in differences.only_here.items()),
        *(f"{name} {version} only elsewhere" for name, version in differences.only_there.items()),
    ]
    return some([line(each) for each in told], _MOST_PHRASES, "; ")


def facts(shown: Environments) -> Iterator[tuple[str, list[str]]]:
    """What is told below the rows: a word, and a value for all or one for each that differs, with who has it."""
    every = shown.processes
    if wrong := _wrong(shown):
        yield "wrong", wrong
    if shown.driver is None:
        yield "driver", ["left alone: nothing was activated or asked in it"]
    loaded = [process for process in every if isinstance(process, Process)]
    if loaded:
        yield "imported", _spread(shown, loaded, lambda process: imported(process) or "nothing")
    if len(loaded) > 1:
        slowest = max(loaded, key=lambda process: process.seconds)
        yield "slowest", [f"{slowest.seconds:.2f} s, {shown.place(slowest)}"]
    yield from ((word, [line(value, most=5000)]) for word, value in shown.about().items())
    yield "fingerprint", _spread(shown, every, lambda process: process.fingerprint)
    if len({process.python for process in every}) > 1:
        yield "python", _spread(shown, every, lambda process: process.python)
    yield "platform", _spread(shown, every, lambda process: process.platform)
    yield "prefix", _spread(shown, every, lambda process: process.prefix)
    if any(process.site for process in every):
        yield "site", _spread(shown, every, lambda process: process.site or "none")


def imported(process: Environment) -> str:
    """Modules with their versions or errors."""
    modules = process.imported if isinstance(process, Process) else {}
    return ", ".join(line(f"{name} {module.error or module.version or ''}") for name, module in modules.items())


def _wrong(shown: Environments) -> list[str]:
    told = [(line(item), process) for process in shown.processes for item in shown.wrong(process)]
    groups = grouped(told, lambda pair: pair[0])
    lines = [f"{text} ({shown.who([process for _, process in group])})" for text, group in groups[:_MOST_ROWS]]
    return lines + ([f"and {len(groups) - _MOST_ROWS} more"] if len(groups) > _MOST_ROWS else [])


def _spread(shown: Environments, processes: Sequence[Environment], value: Callable[[Environment], str]) -> list[str]:
    """The value that all have, or each value with who has it."""
    groups = grouped(processes, value)
    if len(groups) == 1:
        return [line(groups[0][0], most=5000)]
    told = [f"{line(text)} ({shown.who(group)})" for text, group in groups[:_MOST_ROWS]]
    return told + ([f"and {len(groups) - _MOST_ROWS} more"] if len(groups) > _MOST_ROWS else [])
