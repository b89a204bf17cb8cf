"""Pages of package indexes (PEP 503, 691): the files that they list, and how their URLs are compared."""

from __future__ import annotations

import contextlib
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from depload.making import credentials
from depload.making.aliases import authority
from depload.making.indexes import without_user

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


def plain(url: str) -> str:
    """The URL as it is compared: without user, fragment, and what uv adds for the metadata of a wheel (PEP 658)."""
    bare = without_user(url).partition("#")[0].removesuffix(".metadata")
    found = credentials.origin(bare)
    if found is None:
        return bare
    scheme, host, port = found
    return f"{scheme}://{authority(host, port)}{unquote(urlsplit(bare).path)}"


def links(url: str, text: str) -> Iterator[str]:
    """The files that a page lists: HTML (PEP 503) or JSON (PEP 691)."""
    with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError):
        yield from [urljoin(url, file["url"]) for file in json.loads(text)["files"]]
        return
    for link in re.findall(r"""(?i)<a\s[^>]*?href\s*=\s*["']?([^"'\s>]+)""", text):
        yield urljoin(url, html.unescape(link))
