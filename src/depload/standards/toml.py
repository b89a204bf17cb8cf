"""TOML that nobody vouches for: read in bounded time and memory."""

from __future__ import annotations

import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LONGEST = 8 * 1024 * 1024  # characters: a lock of 500 packages with all their wheels is 3 MB
_FEW_DOTS = 20  # in one line: dates, addresses and versions have fewer
_MOST_WORK = 10_000_000  # the sum of squares of the dots of all lines with more: the parser keeps every prefix of a key
_MOST_TABLES = 100_000


def read(text: str) -> dict[str, Any]:
    """The tables of a TOML text. Raises ValueError where it is none, or would cost out of proportion to its size."""
    if why := _costly(text):
        raise ValueError(why)
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return tables


def _costly(text: str) -> str | None:
    """Why a text is not handed to the parser, or None."""
    if len(text) > LONGEST:
        return f"it has {len(text):,} characters; more than {LONGEST:,} are not read"
    if text.count("\n[") > _MOST_TABLES:
        return f"it has more than {_MOST_TABLES:,} tables"
    dots = (line.count(".") for line in text.splitlines())
    if sum(count * count for count in dots if count > _FEW_DOTS) > _MOST_WORK:
        return "it has keys of thousands of parts"
    return None
