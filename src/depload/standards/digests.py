"""Digests of files and directories, named and made as in-toto has them ("DigestSet", v1)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from depload.standards.wheels import sha256_of

if TYPE_CHECKING:
    from pathlib import Path


def of(path: Path) -> tuple[str, str]:
    """Algorithm and hex digest: ``sha256`` of a file, ``dirHash`` of a directory (Go's ``h1:``, in hex)."""
    if not path.is_dir():
        return "sha256", sha256_of(path)
    rows = {file.relative_to(path).as_posix(): sha256_of(file) for file in path.rglob("*") if file.is_file()}
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(rows.items()))
    return "dirHash", hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
