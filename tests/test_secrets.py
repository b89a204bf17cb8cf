"""Index URLs from Databricks secret scopes: by a dbutils, by the SDK, and told without what they hold."""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from conftest import write_zip
from depload import IndexOptions
from depload.databricks import entry, tasks
from depload.databricks.secrets import read, with_secrets
from depload.errors import SecretError, ToolMissingError, UnresolvedParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

URL = "https://me:hidden@host.test/simple"
SECRETS = {("builds", "index-url"): URL, ("builds", "newline"): f"{URL}\n", ("builds", "password"): "hidden"}
HELD_BACK = ("held-back", "index-url")


class Utilities:
    """``dbutils.secrets``, which answers as the one of a cluster does."""

    def __init__(self) -> None:
        self.secrets = self

    def get(self, scope: str, key: str) -> str:
        if (scope, key) == HELD_BACK:
            raise RuntimeError("com.databricks.DatabricksServiceHttpClientException: PERMISSION_DENIED: no\n\tat x")
        if (scope, key) not in SECRETS:
            raise RuntimeError(f"Secret does not exist with scope: {scope} and key: {key}\n\tat com.databricks.x\n" * 9)
        return SECRETS[scope, key]


class Workspace(BaseHTTPRequestHandler):
    """The secrets API as the SDK asks it."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        named = (asked.get("scope", ""), asked.get("key", ""))
        body: dict[str, str] = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"Scope {named[0]} does not exist!"}
        code = 404
        if parts.path == "/api/2.0/secrets/get" and named == HELD_BACK:
            code, body = 403, {"error_code": "PERMISSION_DENIED", "message": "User does not have READ permission"}
        elif parts.path == "/api/2.0/secrets/get" and named in SECRETS:
            code, body = 200, {"key": named[1], "value": base64.b64encode(SECRETS[named].encode()).decode()}
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def _no_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("DATABRICKS_", "DEPLOAD_TASK")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A workspace that the SDK is configured for."""
    pytest.importorskip("databricks.sdk")
    with ThreadingHTTPServer(("127.0.0.1", 0), Workspace) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("DATABRICKS_TOKEN", "x")
        yield
        server.shutdown()
        thread.join()


@pytest.fixture(params=["dbutils", "sdk"])
def asked(request: pytest.FixtureRequest) -> Any:
    """What is handed in: a dbutils, or nothing where the SDK finds its workspace."""
    if request.param == "dbutils":
        return Utilities()
    request.getfixturevalue("workspace")
    return None


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["index-url", "newline"])
def test_a_secret_is_read_without_the_newline_that_it_was_written_with(key: str, asked: Any) -> None:
    assert read(f"builds/{key}", asked) == URL


def test_a_workspace_client_may_be_handed_in(workspace: None) -> None:
    del workspace
    from databricks.sdk import WorkspaceClient

    assert read("builds/index-url", WorkspaceClient()) == URL


def test_the_runtime_s_dbutils_comes_before_the_sdk(monkeypatch: pytest.MonkeyPatch, workspace: None) -> None:
    del workspace
    mine = SimpleNamespace(secrets=SimpleNamespace(get=lambda _scope, _key: "https://of.the.runtime/simple"))
    monkeypatch.setattr(sys.modules["__main__"], "dbutils", mine, raising=False)
    assert read("builds/index-url") == "https://of.the.runtime/simple"


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("builds/nothing", r"^secret builds/nothing is not there \(.*does not exist.*list-secrets SCOPE$"),
        ("nowhere/index-url", r"^secret nowhere/index-url is not there .*list-scopes"),
        ("held-back/index-url", r"^secret held-back/index-url may not be read by who runs this .*put-acl"),
        ("builds/password", r"^secret builds/password holds no URL of http or https; let it hold the whole index URL"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_to_do(secret: str, message: str, asked: Any) -> None:
    with pytest.raises(SecretError, match=message) as raised:
        read(secret, asked)
    assert raised.value.secret == secret
    assert "hidden" not in f"{raised.value} {raised.value.args} {raised.value!r}"
    assert len(str(raised.value).splitlines()) == 1
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again)) == (SecretError, str(raised.value))


@pytest.mark.parametrize("secret", ["builds", "builds/", "/of-nothing", "a/b/c", "a b/c", "{{secrets/a/b}}", URL])
def test_a_secret_that_is_not_named_as_scope_and_key_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(SecretError, match="not named as scope/key; write it so: my-scope/index-url") as raised:
        read(secret, Utilities())
    assert secret not in str(raised.value.args)


def test_without_a_workspace_that_is_said() -> None:
    pytest.importorskip("databricks.sdk")
    with pytest.raises(SecretError, match="no workspace is configured here; log in"):
        read("builds/index-url")


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "databricks.sdk", None)
    with pytest.raises(ToolMissingError, match=r"secret builds/index-url needs .*pip install 'depload\[databricks\]'"):
        read("builds/index-url")


# --- options, tasks -------------------------------------------------------------------------------------------------


def test_the_secret_takes_the_place_of_the_index_and_extra_ones_are_added() -> None:
    options = IndexOptions(index_url="https://one.test", extra_index_urls=("https://two.test",), pre=True)
    found = with_secrets(
        options, index_url="builds/index-url", extra_index_urls=["builds/newline"], dbutils=Utilities()
    )
    assert found == IndexOptions(index_url=URL, extra_index_urls=("https://two.test", URL), pre=True)
    assert with_secrets(None, index_url=None, extra_index_urls=["builds/newline"], dbutils=Utilities()) == IndexOptions(
        extra_index_urls=(URL,)
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "s.zip", {"calculator.py": "ANSWER = 42\n"})


def test_the_task_takes_the_secret_as_a_parameter(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = tasks.process_dependencies(
        str(source),
        str(tmp_path / "base"),
        run_id="7",
        index_url_secret="builds/index-url",
        extra_index_url_secrets="builds/newline",
        dbutils=Utilities(),
    )
    assert published.format == "pure_python"
    assert "hidden" not in "".join(capsys.readouterr())
    assert "hidden" not in published.path


def test_the_entry_point_takes_it_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: None
) -> None:
    del workspace
    words = [f"--source={source}", f"--volume_base_path={tmp_path / 'base'}", "--run_id=7"]
    monkeypatch.setattr(sys, "argv", ["x", *words, "--index_url_secret=builds/nothing"])
    with pytest.raises(SecretError, match="builds/nothing is not there"):
        entry.process_dependencies()
    monkeypatch.setattr(sys, "argv", ["x", *words, "--index_url_secret=builds/index-url"])
    entry.process_dependencies()
    assert any((tmp_path / "base").iterdir())


def test_a_reference_in_the_place_of_a_secret_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UnresolvedParameterError, match=r"index_url_secret: is .\{\{job\.parameters\.secret\}\}"):
        tasks.process_dependencies(str(source), str(tmp_path), index_url_secret="{{job.parameters.secret}}")
