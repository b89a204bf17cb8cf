"""Package names that are bound to an index, and what that index then serves, so that nobody else can stand in for it.

NuGet calls this package source mapping: a name has one source, and a source that is named for that alone serves
nothing else. It holds twice: the tools that resolve and build see only what the binding allows (``gateway``), and what
they come to is held against the pages of the index (``check``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name

from depload.errors import Fault, IndexBindingError, IndexUnavailableError, OptionError
from depload.making import pages, uvsettings
from depload.making.hosts import AttemptError, Client, Patience, Route
from depload.making.indexes import redact, without_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from depload.making.indexes import IndexOptions

_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]*\*?|\*")


@dataclass(frozen=True)
class Bindings:
    """Which index a name must come from."""

    urls: Mapping[str, str]
    """URL by canonical name, or by prefix with ``*`` behind it."""
    shared: frozenset[str] = frozenset()
    """In plain form the indexes that are for every other name; one that is named for a binding alone is not."""

    @classmethod
    def of(cls, options: IndexOptions) -> Bindings:
        """Those of ``NAME=URL`` and ``PREFIX*=URL``. Raises OptionError with every one that cannot be read."""
        urls: dict[str, str] = {}
        faults = []
        for text in options.index_for:
            pattern, url = split(text)
            if why := _unusable(pattern, url) or (urls.get(pattern, url) != url and "is bound to two indexes"):
                faults.append(Fault(redact(text), why))
            urls[pattern] = url
        if faults:
            raise OptionError("--index-for", faults)
        general = [options.index_url or "", *options.extra_index_urls, *(url for _, url in uvsettings.indexes())]
        return cls(urls, frozenset(pages.plain(url).rstrip("/") for url in general))

    def __bool__(self) -> bool:
        return bool(self.urls)

    def index_of(self, name: str) -> str | None:
        """The URL of the index that ``name`` is bound to: the name itself counts first, then the longest prefix."""
        name = canonicalize_name(name)
        fitting = [each for each in self.urls if each == name or (each[-1] == "*" and name.startswith(each[:-1]))]
        return self.urls[max(fitting, key=lambda each: (each == name, len(each)))] if fitting else None

    def refuses(self, url: str, indexes: Iterable[str]) -> bool:
        """Whether ``url`` is below the page of a name that its index, one of ``indexes``, may not serve."""
        url = pages.plain(url)
        places = [place for each in indexes if url.startswith(f"{(place := pages.plain(each).rstrip('/'))}/")]
        if not places:
            return False
        place = max(places, key=len)
        name, _, below = url[len(place) + 1 :].partition("/")
        if bound := self.index_of(name):
            return pages.plain(bound).rstrip("/") != place
        is_page = name and not below.strip("/")  # files may lie anywhere below an index
        return bool(is_page) and place not in self.shared and place in self._places()

    def _places(self) -> set[str]:
        return {pages.plain(each).rstrip("/") for each in self.urls.values()}


def split(text: str) -> tuple[str, str]:
    """Pattern, in canonical form, and URL of ``NAME=URL``."""
    pattern, _, url = text.partition("=")
    return re.sub(r"[-_.]+", "-", pattern.strip()).lower(), url.strip()


def _unusable(pattern: str, url: str) -> str | None:
    if not _PATTERN.fullmatch(pattern):
        return "write NAME=URL or PREFIX*=URL, as acme-*=https://packages.acme.example/simple"
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        return "an index has a URL that begins with https:// or http://"
    return None


def check(found: Sequence[tuple[str, str]], options: IndexOptions) -> None:
    """Raise IndexBindingError with every pair of package and URL, or path, that the package's index does not list.

    IndexUnavailableError where an index does not answer. Nothing is asked for packages that are bound to none.
    """
    bindings = Bindings.of(options)
    bound = [(name, location, index) for name, location in found if (index := bindings.index_of(name))]
    if not bound:
        return
    route = Route(options, Patience())
    try:
        client = Client(route)
        listed = {(name, index): _listed(client, index, name) for name, _, index in bound}
    finally:
        route.close()
    faults = [
        Fault(name, f"would come from {_place(location)}, and is bound to {without_user(index)}")
        for name, location, index in bound
        if pages.plain(location) not in listed[name, index]
    ]
    if faults:
        raise IndexBindingError(faults)


def _place(location: str) -> str:
    return redact(location) if "://" in location and not location.startswith("file:") else "a file on this machine"


def _listed(client: Client, index: str, name: str) -> set[str]:
    """The files that the index lists for a package; none where it does not know the name."""
    url = f"{index.rstrip('/')}/{canonicalize_name(name)}/"
    try:
        response = client.get(url, {"Accept": pages.ACCEPT})
        text = response.read().decode("utf-8", "replace")
    except (AttemptError, OSError) as error:
        raise IndexUnavailableError(redact(url), str(error), 1) from error
    if response.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
        raise IndexUnavailableError(redact(url), f"{response.status} {response.reason}", 1)
    return {pages.plain(link) for link in pages.links(url, text)} if response.status == HTTPStatus.OK else set()
