"""Spans of time and sizes, as people write them: ``24h``, ``7d``, ``50GB``."""

from __future__ import annotations

import re
from datetime import timedelta

from depload.errors import DeploadError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {
    **{unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb", "tb"))},
    **{unit: 1024**power for power, unit in enumerate(("b", "kib", "mib", "gib", "tib"))},
}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", re.IGNORECASE)


def duration(text: str | timedelta) -> timedelta:
    """A span of time; weeks, days, hours, minutes and seconds. Raises DeploadError."""
    if isinstance(text, timedelta):
        return text
    return timedelta(seconds=_quantity(text, _SECONDS, "a span of time", "24h, 7d or 90m"))


def size(text: str | int) -> int:
    """Bytes; ``GB`` are 1000**3 and ``GiB`` 1024**3. Raises DeploadError."""
    return text if isinstance(text, int) else int(_quantity(text, _BYTES, "a size", "500MB, 50GB or 1.5GiB"))


def _quantity(text: str, units: dict[str, int], what: str, examples: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise DeploadError(f"{text!r} is not {what}; write it as {examples}")
    return float(match[1]) * units[match[2].lower()]
