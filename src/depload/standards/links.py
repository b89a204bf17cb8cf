"""Symbolic links of an archive: copies of what they lead to stand in their place, where that is in the archive itself.

Git keeps a link as a file whose content is the path that it leads to, and so does every "Download ZIP" of a code host
(APPNOTE 4.5.7). None is ever made on disk: what a link leads to is found by name, one step far, and unpacked twice.
"""

from __future__ import annotations

import bisect
import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["LONGEST", "Tree", "leads_to"]

LONGEST = 1024  # bytes of a link's content: PATH_MAX of macOS
_AFTER_SLASH = chr(ord("/") + 1)


def leads_to(link: str, target: str) -> str | None:
    """The path from the archive's top that a link at ``link`` leads to; None where that is no place below the top."""
    if not target.isprintable() or target.startswith("/") or re.search(r"\\|^[A-Za-z]:|^$", target):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(link), target))
    return None if path in (".", "..") or path.startswith("../") else path


class Tree:
    """What an archive holds: ``members`` are the paths of its files and folders, ``links`` those of its links.

    Each link has what its content says; nothing where that could not be read.
    """

    def __init__(self, members: Iterable[str], links: Mapping[str, str]) -> None:
        self._members, self._links, self._sorted_links = sorted(members), links, sorted(links)

    def why_not(self, link: str) -> str | None:
        """Why nothing can stand in the place of ``link``, or None."""
        path = leads_to(link, self._links[link])
        if path is None:
            return "which leads out of the archive" if self._links[link] else "which leads nowhere"
        if path in self._links:
            return "which is a link itself"
        if next(_below(path, self._sorted_links), None):
            return "which is a folder that holds links"
        return None if next(self.copies(link), None) else "which is not in the archive"

    def copies(self, link: str) -> Iterator[tuple[str, str]]:
        """What stands in the place of ``link``: each path, and that of the member whose copy it is."""
        path = leads_to(link, self._links[link]) or ""
        at = bisect.bisect_left(self._members, path)
        if self._members[at : at + 1] == [path]:
            yield link, path
        yield from ((f"{link}{found.removeprefix(path)}", found) for found in _below(path, self._members))

    def count(self, links: Iterable[str]) -> int:
        """How many members stand in the place of these links, or one more for each; found without making any."""
        spans = (_span(leads_to(link, self._links[link]) or "", self._members) for link in links)
        return sum(last - first + 1 for first, last in spans)


def _below(folder: str, paths: list[str]) -> Iterator[str]:
    """Of sorted paths those that lie in a folder."""
    return (paths[at] for at in range(*_span(folder, paths)))


def _span(folder: str, paths: list[str]) -> tuple[int, int]:
    """Where among sorted paths those begin and end that lie in a folder."""
    return bisect.bisect_left(paths, f"{folder}/"), bisect.bisect_left(paths, f"{folder}{_AFTER_SLASH}")
