"""Known vulnerabilities: asked of services in their own format and of records on disk, and never taken for none."""

from __future__ import annotations

import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from conftest import make_wheel, runs_in
from depload import IndexOptions, Policy, convert
from depload.errors import AuditError, VulnerableError
from depload.making import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from depload.pipeline import Converted

QUICK = IndexOptions(no_index=True, retries=1, timeout=5)

# Records as OSV publishes them (https://api.osv.dev/v1/vulns/<id>), without long texts, references and most versions.
GHSA: dict[str, Any] = {
    "id": "GHSA-q2q7-5pp4-w6pg",
    "summary": "Catastrophic backtracking in URL authority parser when passed URL containing many @ characters",
    "details": "### Impact\n...",
    "aliases": ["BIT-urllib3-2021-33503", "CVE-2021-33503", "PYSEC-2021-108"],
    "modified": "2024-11-19T18:51:01Z",
    "published": "2021-06-01T21:19:39Z",
    "database_specific": {"severity": "HIGH", "cwe_ids": ["CWE-400"], "github_reviewed": True},
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
    "affected": [
        {
            "package": {"name": "urllib3", "ecosystem": "PyPI", "purl": "pkg:pypi/urllib3"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.25.4"}, {"fixed": "1.26.5"}]}],
            "versions": ["1.25.4", "1.26.4"],
        }
    ],
    "schema_version": "1.6.0",
}
PYSEC: dict[str, Any] = {
    "id": "PYSEC-2099-1",
    "details": "Two lines\nof details.",
    "modified": "2024-11-19T18:51:01Z",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:C/C:L/I:L/A:N"}],
    "affected": [
        {
            "package": {"name": "Up.Stream", "ecosystem": "PyPI"},
            "ranges": [
                {"type": "GIT", "repo": "https://git.test", "events": [{"introduced": "0"}, {"fixed": "abc123"}]},
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.5"}]},
            ],
            "versions": [],
        },
        {"package": {"name": "up-stream", "ecosystem": "npm"}, "versions": ["9.0"]},
    ],
}
WITHDRAWN = {**GHSA, "id": "GHSA-gone", "withdrawn": "2022-01-01T00:00:00Z", "aliases": []}
# As PyPI answers (https://pypi.org/pypi/urllib3/1.26.4/json, "vulnerabilities").
PYPI = [
    {
        "id": "PYSEC-2021-108",
        "aliases": ["CVE-2021-33503", "GHSA-q2q7-5pp4-w6pg"],
        "details": "An issue was discovered in urllib3 before 1.26.5.",
        "fixed_in": ["1.26.5"],
        "link": "https://osv.dev/vulnerability/PYSEC-2021-108",
        "source": "osv",
        "summary": None,
        "withdrawn": None,
    },
    {"id": "PYSEC-0", "aliases": [], "details": "", "fixed_in": [], "withdrawn": "2022-01-01T00:00:00Z"},
]


class Service:
    """OSV's API below /v1 and PyPI's below /pypi, for as long as it is well; every request is remembered."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer: Callable[[str, Any], tuple[int, Any]] = self._usual
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._say(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_GET(self) -> None:
                self._say(None)

            def _say(self, body: Any) -> None:
                service.asked.append((self.path, body))
                status, answer = service.answer(self.path, body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @staticmethod
    def _usual(path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/query":
            name, version = body["package"]["name"], body["version"]
            assert body["package"]["ecosystem"] == "PyPI"
            if (name, version) != ("urllib3", "1.26.4"):
                return 200, {}
            if "page_token" not in body:
                return 200, {"vulns": [WITHDRAWN], "next_page_token": "more"}
            return 200, {"vulns": [GHSA]}
        known = {"/pypi/urllib3/1.26.4/json": PYPI, "/pypi/plain/1.0/json": []}
        return (200, {"info": {}, "vulnerabilities": known[path]}) if path in known else (404, {"message": "Not Found"})

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


@pytest.fixture
def converted(tmp_path: Path, base: Path) -> Callable[..., Converted]:
    """Convert wheels: urllib3 with a vulnerability, required by asks, and plain without one."""
    folder = tmp_path / "source"
    make_wheel(folder, "urllib3", "1.26.4", {"urllib3.py": ""})
    make_wheel(folder, "asks", "1.0", {"asks.py": ""}, "Requires-Dist: urllib3\n")
    make_wheel(folder, "plain", "1.0", {"plain.py": ""})
    (folder / "mine.py").write_text("")

    def run(**policy: Any) -> Converted:
        return convert(folder, base, options=QUICK, compile=False, policy=Policy(**policy))

    return run


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Records on disk, as OSV exports an ecosystem."""
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for record in (GHSA, PYSEC, WITHDRAWN):
            opened.writestr(f"{record['id']}.json", json.dumps(record))
    return path


@pytest.mark.parametrize("kind", ["osv", "pypi", "records"])
def test_a_vulnerability_is_told_with_what_one_needs_to_decide(
    kind: str, service: Service, records: Path, base: Path, converted: Callable[..., Converted]
) -> None:
    where = {"osv": f"{service.root}/v1", "pypi": f"{service.root}/pypi/", "records": str(records)}[kind]
    with pytest.raises(VulnerableError) as caught:
        converted(audit=where)
    (found,) = caught.value.vulnerabilities
    assert (found.package, found.version, found.fixed) == ("urllib3", "1.26.4", ("1.26.5",))
    assert found.severity == ("" if kind == "pypi" else "HIGH")
    assert "CVE-2021-33503" in found.aliases
    assert "asks" in found.required_by
    for word in (found.id, "1.26.5", "CVE-2021-33503", "required by urllib3-1.26.4-py3-none-any.whl, asks"):
        assert word in str(caught.value)
    assert runs_in(base) == []


def test_only_packages_are_asked_about_and_the_users_own_modules_are_nobodys_business(
    service: Service, converted: Callable[..., Converted]
) -> None:
    converted(audit=f"{service.root}/v1", audit_ignore=("CVE-2021-33503",))
    asked = {body["package"]["name"] for path, body in service.asked if path == "/v1/query"}
    assert asked == {"urllib3", "asks", "plain"}
    assert len(service.asked) == 4, "once each, and one more page"


@pytest.mark.parametrize("ignored", ["GHSA-q2q7-5pp4-w6pg", "cve-2021-33503", "PYSEC-2021-108"])
@pytest.mark.parametrize("kind", ["v1", "pypi"])
def test_what_is_ignored_may_be_named_by_any_of_its_names(
    kind: str, ignored: str, service: Service, converted: Callable[..., Converted]
) -> None:
    converted(audit=f"{service.root}/{kind}", audit_ignore=(ignored, "CVE-1"))
    with pytest.raises(VulnerableError):
        converted(audit=f"{service.root}/{kind}", audit_ignore=("CVE-1",))


@pytest.mark.parametrize(
    ("version", "affected"),
    [("0.1.dev0", True), ("1.5", True), ("1.5.0", True), ("1.5.1", False), ("2.0", False), ("9.0", False)],
)
def test_ranges_are_those_of_pep_440_and_of_python_packages_alone(version: str, affected: bool, records: Path) -> None:
    found = list(audit.source(str(records)).known([("up-stream", version)], QUICK))
    assert [each.id for each in found] == (["PYSEC-2099-1"] if affected else [])
    if affected:
        assert found[0].severity.startswith("CVSS:3.1/")
        assert found[0].summary == "Two lines"
        assert "no version is known to be without it" in str(found[0])


@pytest.mark.parametrize("events", ["in order", "reversed"])
def test_a_version_that_is_vulnerable_again_is_found(events: str, tmp_path: Path) -> None:
    told = [{"introduced": "1"}, {"fixed": "1.2"}, {"introduced": "2"}, {"fixed": "2.3"}]
    ranges = [{"type": "ECOSYSTEM", "events": told if events == "in order" else told[::-1]}]
    record = {"id": "X-1", "affected": [{"package": {"name": "a", "ecosystem": "PyPI"}, "ranges": ranges}]}
    (tmp_path / "x.json").write_text(json.dumps([record]))
    knows = audit.source(str(tmp_path / "x.json"))
    found = {text: bool(list(knows.known([("a", text)], QUICK))) for text in ("0.9", "1.1", "1.2", "2.2", "2.3")}
    assert found == {"0.9": False, "1.1": True, "1.2": False, "2.2": True, "2.3": False}


def _refused(path: str, body: Any) -> tuple[int, Any]:
    del path, body
    return 403, {}


def _ill(path: str, body: Any) -> tuple[int, Any]:
    del path, body
    return 503, {}


def _other(path: str, body: Any) -> tuple[int, Any]:
    del path, body
    return 200, b"<html>log in</html>"


def _strange(path: str, body: Any) -> tuple[int, Any]:
    del path, body
    return 200, {"vulns": [{"no": "id"}], "vulnerabilities": [{"no": "id"}]}


def _nothing(path: str, body: Any) -> tuple[int, Any]:
    del path, body
    return 404, {"message": "Not Found"}


def _silent_about_them(path: str, body: Any) -> tuple[int, Any]:
    del path, body
    return 200, {"info": {"name": "x"}}


FAILURES: Mapping[str, tuple[Callable[[str, Any], tuple[int, Any]], str, str]] = {
    "refused": (_refused, "v1", "403"),
    "ill": (_ill, "v1", "after 2 attempts: 503"),
    "ill as PyPI": (_ill, "pypi", "after 2 attempts: 503"),
    "a page to log in": (_other, "v1", "Expecting value"),
    "another form": (_strange, "v1", "not of the form"),
    "another form of PyPI": (_strange, "pypi", "not of the form"),
    "a mirror without the API": (_nothing, "pypi", "it knows none of the packages"),
    "no such API": (_nothing, "v1", "404"),
    "PyPI's without vulnerabilities": (_silent_about_them, "pypi", "no vulnerabilities, not even none"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_service_that_cannot_tell_is_an_error_and_no_clean_bill(
    name: str, service: Service, base: Path, converted: Callable[..., Converted]
) -> None:
    service.answer, kind, said = FAILURES[name]
    with pytest.raises(AuditError, match=said) as caught:
        converted(audit=f"{service.root}/{kind}")
    assert service.root in str(caught.value)
    assert runs_in(base) == []


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"affected": 3}', "{}"])
def test_records_that_cannot_be_read_are_an_error(
    content: str | None, tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    with pytest.raises(AuditError, match="cannot be read as OSV's records"):
        converted(audit=str(folder if content is None else _written(folder / "a.json", content)))


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_host_that_is_not_there_is_an_error(converted: Callable[..., Converted]) -> None:
    with pytest.raises(AuditError, match=r"127\.0\.0\.1:9/v1 could not be asked"):
        converted(audit="http://127.0.0.1:9/v1")
