"""Where the addresses of a workspace lie on this machine, which has neither volumes nor DBFS.

    /Volumes/main/default/x    <root>/Volumes/main/default/x
    dbfs:/Volumes/…            <root>/Volumes/…
    dbfs:/tmp/x, /dbfs/tmp/x   <root>/dbfs/tmp/x
    file:/tmp/x                /tmp/x

In what a task is given, a value that begins with ``/Volumes/`` or ``dbfs:/`` is rewritten so; nothing else is, and no
value in which such an address stands further in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_REWRITTEN = ("/Volumes/", "dbfs:/")
_PARAMETER = re.compile(r"(--?[\w.-]+=)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Addresses:
    """Volumes and DBFS below ``root``; where that is None, every address stays as it is."""

    root: Path | None

    def local(self, address: str) -> str:
        """The path on this machine; one that is no address of a workspace is itself."""
        if address.startswith("file:"):
            return "/" + address.removeprefix("file:").lstrip("/")
        if self.root is None:
            return address
        path = address
        if address.startswith("dbfs:/"):
            path = "/" + address.removeprefix("dbfs:").lstrip("/")
            path = path if path.startswith("/Volumes/") else f"/dbfs{path}"
        if path.startswith(("/Volumes/", "/dbfs/")):
            return str(self.root / path.lstrip("/"))
        return path

    def parameter(self, text: str) -> str:
        """A parameter of a task, ``value`` or ``--name=value``, as the task is given it."""
        match = _PARAMETER.fullmatch(text)
        name, value = (match[1], match[2]) if match else ("", text)
        return f"{name}{self.local(value)}" if value.startswith(_REWRITTEN) else text
