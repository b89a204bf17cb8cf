"""What hosts that may want credentials are called to the tools that shall have none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from depload.making import credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

_USUAL = {"http": 80, "https": 443}


class Aliases:
    """Each host as ``http://host:port``, whatever its scheme; and the way back."""

    def __init__(self, origins: Iterable[tuple[str, str, int]] = ()) -> None:
        self._origins = sorted(set(origins))

    def add(self, origins: Iterable[tuple[str, str, int]]) -> None:
        """More hosts."""
        self._origins = sorted({*self._origins, *origins})

    @property
    def hosts(self) -> list[str]:
        """Host and port of each alias, as pip names those that it trusts."""
        return [_alias(*each).removeprefix("http://") for each in self._origins]

    def __contains__(self, url: str) -> bool:
        return credentials.origin(url) in self._origins

    def conceal(self, text: str) -> str:
        """The text with the aliases in the place of these hosts' URLs, and without users in them."""
        for scheme, host, port in self._origins:
            optional = "?" if _USUAL[scheme] == port else ""
            there = rf"{re.escape(authority(host))}(?::{port}){optional}(?![\w.:-])"
            text = re.sub(rf"(?i){scheme}://(?:[^/?#\s\"'<>]*@)?{there}", _alias(scheme, host, port), text)
        return text

    def reveal(self, text: str) -> str:
        """The text with these hosts' own URLs in the place of the aliases."""
        for scheme, host, port in self._origins:
            if scheme == "https":
                real = f"https://{authority(host, 0 if _USUAL[scheme] == port else port)}"
                text = re.sub(rf"(?i){re.escape(_alias(scheme, host, port))}(?!\d)", real, text)
        return text


def _alias(scheme: str, host: str, port: int) -> str:
    return f"http://{authority(host, 0 if (scheme, port) == ('http', 80) else port)}"


def authority(host: str, port: int = 0) -> str:
    """Host and port as they stand in a URL; without the port where it is 0."""
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host
