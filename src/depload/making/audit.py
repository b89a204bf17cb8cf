"""Which packages of a lock have known vulnerabilities: asked of OSV, of PyPI, or of OSV's records on disk.

The forms are OSV's (https://ossf.github.io/osv-schema/, https://google.github.io/osv.dev/api/) and those of PyPI's JSON
API (https://docs.pypi.org/api/json/). What cannot be asked is an error: silence would look like a clean bill of health.
"""

from __future__ import annotations

import json
import zipfile
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlsplit

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from depload.errors import AuditError, Vulnerability, VulnerableError
from depload.making.hosts import AttemptError, Client, Patience, Route
from depload.making.indexes import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from depload.making.indexes import IndexOptions

_SERVICES = {"osv": "https://api.osv.dev/v1", "pypi": "https://pypi.org/pypi"}
_AT_ONCE = 8
_ECOSYSTEM = "PyPI"
_MOST_PAGES = 100
_LONGEST_SUMMARY = 120

Package = tuple[str, str]
"""Canonical name and version."""


class Source(Protocol):
    """Who knows of vulnerabilities."""

    def known(self, packages: Sequence[Package], options: IndexOptions) -> Iterator[Vulnerability]:
        """Those of the packages. Raises AuditError where that cannot be told of all of them."""


def source(text: str) -> Source:
    """What ``--audit`` names: ``osv``, ``pypi``, a URL of a service like one of them, or a path."""
    url = _SERVICES.get(text, text)
    if urlsplit(url).scheme in ("http", "https"):
        return _Pypi(url.rstrip("/")) if urlsplit(url).path.rstrip("/").endswith("/pypi") else _Osv(url.rstrip("/"))
    return _Records(Path(text))


def check(
    knows: Source,
    packages: Sequence[Package],
    *,
    ignored: Iterable[str],
    options: IndexOptions,
    required_by: Callable[[Sequence[str]], Mapping[str, Sequence[str]]],
) -> None:
    """Raise VulnerableError with every vulnerability of every package that is not ignored. AuditError where unknown."""
    passed_over = {each.strip().upper() for each in ignored}
    found = [
        each
        for each in knows.known(packages, options)
        if passed_over.isdisjoint(map(str.upper, (each.id, *each.aliases)))
    ]
    if found:
        who = required_by(sorted({each.package for each in found}))
        found = [each._replace(required_by=tuple(who.get(each.package, ()))) for each in found]
        raise VulnerableError(sorted(found, key=lambda each: (each.package, each.id)))


# --- services -------------------------------------------------------------------------------------


class _Service(ABC):
    """A service that is asked over HTTP, with the certificates and the proxy that packages are downloaded with."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.unknown: list[Package] = []
        """Packages that it has never heard of."""

    def known(self, packages: Sequence[Package], options: IndexOptions) -> Iterator[Vulnerability]:
        route = Route(options, Patience())

        def ask(package: Package) -> list[Vulnerability]:
            try:
                return list(self.of(package, _Caller(self.url, route)))
            except (KeyError, TypeError, AttributeError) as error:
                raise AuditError(
                    redact(self.url), f"its answer is not of the form that it should have: {error!r}", 1
                ) from error

        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for found in pool.map(ask, packages):
                    yield from found
            if len(self.unknown) == len(packages):  # a mirror without that API says 404 to everything
                names = ", ".join(name for name, _ in self.unknown)
                raise AuditError(redact(self.url), f"it knows none of the packages ({names})", 1)
        finally:
            route.close()

    @abstractmethod
    def of(self, package: Package, caller: _Caller) -> Iterator[Vulnerability]:
        """Those of one package, of its name and version."""


class _Osv(_Service):
    """``POST <url>/query``: OSV's records, which affect the version that was asked for."""

    def of(self, package: Package, caller: _Caller) -> Iterator[Vulnerability]:
        name, version = package
        query: dict[str, Any] = {"package": {"name": name, "ecosystem": _ECOSYSTEM}, "version": version}
        for _ in range(_MOST_PAGES):
            said = caller.json("/query", query)
            yield from (_of_record(package, record) for record in said.get("vulns", ()) if not record.get("withdrawn"))
            if not said.get("next_page_token"):
                return
            query["page_token"] = said["next_page_token"]
        raise AuditError(self.url, f"more than {_MOST_PAGES} pages for {name} {version}", 1)


class _Pypi(_Service):
    """``GET <url>/<name>/<version>/json``; what PyPI does not know, it has no vulnerabilities of."""

    def of(self, package: Package, caller: _Caller) -> Iterator[Vulnerability]:
        said = caller.json(f"/{quote(package[0])}/{quote(package[1])}/json", missing={})
        if not said:
            self.unknown.append(package)
            return
        if "vulnerabilities" not in said:
            raise AuditError(self.url, f"its answer for {package[0]} has no vulnerabilities, not even none", 1)
        for each in said["vulnerabilities"]:
            if not each.get("withdrawn"):
                said_so = str(each.get("summary") or each.get("details") or "")
                names, fixed = (tuple(map(str, each.get(key) or ())) for key in ("aliases", "fixed_in"))
                yield Vulnerability(*package, str(each["id"]), names, "", fixed, _first_line(said_so))


class _Caller:
    """Asks a service, again where that may help."""

    def __init__(self, url: str, route: Route) -> None:
        self._url = url
        self._route = route
        self._client = Client(route)

    def json(self, path: str, body: Any = None, *, missing: Any = None) -> Any:  # noqa: ANN401 - JSON
        """What the service says; ``missing`` where it has nothing there. Raises AuditError."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(path, body, missing)
            except (AttemptError, OSError, HTTPException, ValueError) as error:
                again = not isinstance(error, ValueError) and getattr(error, "again", True)
                if not again or attempt >= self._route.attempts:
                    raise AuditError(redact(self._url), str(error) or type(error).__name__, attempt) from error
                self._route.pause(attempt, getattr(error, "after", 0))

    def _attempt(self, path: str, body: Any, missing: Any) -> Any:  # noqa: ANN401 - JSON
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        method = "GET" if data is None else "POST"
        response = self._client.ask(f"{self._url}{path}", headers, method=method, body=data)
        text = response.read()
        if response.status == HTTPStatus.NOT_FOUND and missing is not None:
            return missing
        if response.status != HTTPStatus.OK:
            again = (
                response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status == HTTPStatus.TOO_MANY_REQUESTS
            )
            raise AttemptError(f"{response.status} {response.reason}", again=again)
        said = json.loads(text)
        if not isinstance(said, dict):
            raise ValueError("its answer is no JSON object")  # noqa: TRY004 - as one that is no JSON at all
        return said


# --- OSV's records --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Records:
    """OSV's export of an ecosystem (``all.zip``), a directory of its records, or one record or a list of them."""

    path: Path

    def known(self, packages: Sequence[Package], options: IndexOptions) -> Iterator[Vulnerability]:
        del options
        asked, count = dict(packages), 0
        try:
            for record in self._all():
                count += bool(record["id"])
                names = {canonicalize_name(each["package"]["name"]) for each in _affected(record)}
                for name in sorted(names & asked.keys()):
                    if not record.get("withdrawn") and _affects(record, name, asked[name]):
                        yield _of_record((name, asked[name]), record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            why = f"cannot be read as OSV's records: {getattr(error, 'strerror', None) or error}"
            raise AuditError(str(self.path), why, 1) from error
        if not count:
            raise AuditError(str(self.path), "cannot be read as OSV's records: there are none in it", 1)

    def _all(self) -> Iterator[dict[str, Any]]:
        if self.path.is_dir():
            files = sorted(self.path.rglob("*.json"))
            texts: Iterator[bytes] = (file.read_bytes() for file in files)
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as opened:
                yield from (json.loads(opened.read(name)) for name in opened.namelist() if name.endswith(".json"))
            return
        else:
            files, texts = [self.path], iter([self.path.read_bytes()])
        for text in texts:
            said = json.loads(text)
            yield from said if isinstance(said, list) else [said]


def _affected(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for each in record.get("affected", ()):
        if str(each.get("package", {}).get("ecosystem", "")).partition(":")[0] == _ECOSYSTEM:
            yield each


def _affects(record: Mapping[str, Any], name: str, version: str) -> bool:
    """Whether a version is affected: it is listed, or lies in a range (OSV schema, "Evaluation")."""
    for each in _affected(record):
        if canonicalize_name(each["package"]["name"]) == name:
            ranges = [one for one in each.get("ranges", ()) if one["type"] == "ECOSYSTEM"]
            if _is_listed(version, each.get("versions", ())) or any(
                _is_within(version, one["events"]) for one in ranges
            ):
                return True
    return False


def _is_listed(version: str, versions: Iterable[str]) -> bool:
    mine = _version(version)
    return any(each == version or (mine is not None and _version(each) == mine) for each in versions)


def _is_within(version: str, events: Iterable[Mapping[str, str]]) -> bool:
    mine = _version(version)
    if mine is None:
        return False
    within = False
    told = [(_moment(text), kind) for event in events for kind, text in event.items() if kind != "limit"]
    for at, kind in sorted((pair for pair in told if pair[0] is not None), key=lambda pair: pair[0]):
        if kind == "introduced" and mine >= at:
            within = True
        elif (kind == "fixed" and mine >= at) or (kind == "last_affected" and mine > at):
            within = False
    return within


def _moment(text: str) -> Any:  # noqa: ANN401 - a Version, or None
    return _version("0.dev0" if text == "0" else text)  # before every version


def _version(text: str) -> Version | None:
    with suppress(InvalidVersion):
        return Version(text)
    return None


def _of_record(package: Package, record: Mapping[str, Any]) -> Vulnerability:
    """What a record of OSV says, for an error."""
    affected = [each for each in _affected(record) if canonicalize_name(each["package"]["name"]) == package[0]]
    fixed = [
        event["fixed"]
        for each in affected
        for one in each.get("ranges", ())
        if one.get("type") == "ECOSYSTEM"
        for event in one.get("events", ())
        if "fixed" in event
    ]
    said_so = str(record.get("summary") or record.get("details") or "")
    names = tuple(map(str, record.get("aliases") or ()))
    severity = _severity(record, affected)
    return Vulnerability(
        *package, str(record["id"]), names, severity, tuple(dict.fromkeys(fixed)), _first_line(said_so)
    )


def _severity(record: Mapping[str, Any], affected: Sequence[Mapping[str, Any]]) -> str:
    """The word of the database that has it (``HIGH``), else the CVSS vector."""
    word = record.get("database_specific", {}).get("severity", "")
    scores = [*record.get("severity", ()), *(one for each in affected for one in each.get("severity", ()))]
    return str(word or next((one["score"] for one in scores if one.get("score")), ""))


def _first_line(text: str) -> str:
    line = " ".join(text.strip().partition("\n")[0].split())
    return line if len(line) <= _LONGEST_SUMMARY else f"{line[:_LONGEST_SUMMARY]}..."
