"""What uv alone was told: its variables and its uv.toml (https://docs.astral.sh/uv/reference/environment/)."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

URLS = ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS")
"""The variables that name indexes and pages; uv redacts their passwords in its lock."""
_NAMED = re.compile(r"UV_INDEX_\w+_(?:USERNAME|PASSWORD)")


def indexes() -> Iterator[tuple[str, str]]:
    """Name, where it has one, and URL of each index."""
    for variable in URLS:
        for match in re.finditer(r"(?:([\w.-]+)=)?(https?://\S+?)(?=,https?:|\s|$)", os.environ.get(variable, "")):
            yield match[1] or "", match[2]
    with contextlib.suppress(TypeError, AttributeError, KeyError):  # of a file that is not what uv takes uv tells
        yield from list(_in_file())


def _in_file() -> Iterator[tuple[str, str]]:
    settings = _settings()
    for table in (settings, settings.get("pip", {})):
        yield from ((each.get("name", ""), each["url"]) for each in table.get("index", ()))
        urls = [table.get("index-url", ""), *table.get("extra-index-url", ()), *table.get("find-links", ())]
        yield from (("", url) for url in urls if "://" in url)


def default_index() -> str | None:
    """The URL of the index that uv asks last, in place of PyPI."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        if url := os.environ.get(variable):
            return re.sub(r"^[\w.-]+=(?=https?:)", "", url)
    with contextlib.suppress(TypeError, AttributeError, KeyError):
        settings = _settings()
        for table in (settings.get("pip", {}), settings):
            defaults = (each["url"] for each in table.get("index", ()) if each.get("default"))
            if url := next(defaults, None) or table.get("index-url"):
                return str(url)
    return None


def user(name: str) -> tuple[str | None, str | None]:
    """What the variables of the index ``name`` say: user and password."""
    key = f"UV_INDEX_{re.sub('[^A-Z0-9]', '_', name.upper())}_"
    return (os.environ.get(f"{key}USERNAME"), os.environ.get(f"{key}PASSWORD")) if name else (None, None)


def users() -> list[str]:
    """The variables that hold users and passwords of named indexes."""
    return [name for name in os.environ if _NAMED.fullmatch(name)]


def file() -> Path | None:
    """The user's uv.toml, or the one that UV_CONFIG_FILE names; None where there is none."""
    if os.environ.get("UV_NO_CONFIG", "") not in ("", "0", "false"):
        return None
    if own := os.environ.get("UV_CONFIG_FILE"):
        found = Path(own)
    else:
        found = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "uv", "uv.toml")  # noqa: PTH111 - without a home it stays as it is
    return found if found.is_file() else None


def has_cache() -> bool:
    """Whether the file says where uv's cache is."""
    return "cache-dir" in _settings()


def _settings() -> dict[str, Any]:
    """What it holds; one that cannot be read says nothing here, and uv says why."""
    found = file()
    try:
        return tomllib.loads(found.read_text("utf-8")) if found else {}
    except (OSError, ValueError):
        return {}
