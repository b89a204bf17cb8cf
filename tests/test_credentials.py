"""Who depload is to an index: found where pip and uv would find it, in their order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conftest import write_files
from depload import IndexOptions
from depload.making import credentials as module
from depload.making import tools
from depload.making.credentials import Credentials, credentials

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://host.test/simple"


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name in ("NETRC", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


# --- uv's settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "variables", "expected"),
    [
        ("acme={}", {"USERNAME": "me", "PASSWORD": "pw"}, ("me", "pw")),
        ("acme=https://you@host.test/simple", {"PASSWORD": "pw"}, ("you", "pw")),
        ("acme=https://you:old@host.test/simple", {"USERNAME": "me", "PASSWORD": "pw"}, ("me", "pw")),
        ("acme=https://you:old@host.test/simple", {}, ("you", "old")),
        ("other=https://one.test/simple acme={}", {"PASSWORD": "token"}, ("", "token")),
        ("other={}", {"USERNAME": "me", "PASSWORD": "pw"}, None),
        ("{}", {"USERNAME": "me", "PASSWORD": "pw"}, None),
    ],
)
def test_the_variables_of_a_named_index_go_over_its_url(
    index: str, variables: dict[str, str], expected: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX", index.format(URL))
    for name, value in variables.items():
        monkeypatch.setenv(f"UV_INDEX_ACME_{name}", value)
    assert credentials(IndexOptions(), f"{URL}/f.whl") == expected


def test_a_name_with_other_characters_has_underscores_in_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"acme-2.x={URL}")
    monkeypatch.setenv("UV_INDEX_ACME_2_X_PASSWORD", "pw")
    assert credentials(IndexOptions(), URL) == ("", "pw")


@pytest.mark.parametrize("where", [".config/uv/uv.toml", "own.toml"])
def test_the_users_uv_toml_counts(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f'[[index]]\nname = "acme"\nurl = "{URL}"\n[pip]\nextra-index-url = ["https://a:b@two.test/simple"]\n'
    write_files(tmp_path, {where: text})
    if where == "own.toml":
        monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / where))
    monkeypatch.setenv("UV_INDEX_ACME_USERNAME", "me")
    monkeypatch.setenv("UV_INDEX_ACME_PASSWORD", "pw")
    assert credentials(IndexOptions(), f"{URL}/f.whl") == ("me", "pw")
    assert credentials(IndexOptions(), "https://two.test/f.whl") == ("a", "b")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert credentials(IndexOptions(), f"{URL}/f.whl") is None


@pytest.mark.parametrize("text", ["[[[", "index = 3\n"])
def test_a_broken_uv_toml_is_left_to_uv(text: str, tmp_path: Path) -> None:
    write_files(tmp_path, {".config/uv/uv.toml": text})
    assert credentials(IndexOptions(), URL) is None


# --- keyrings -------------------------------------------------------------------------------------------------------

BACKEND = """\
import json, os
from keyring.backend import KeyringBackend
from keyring.credentials import SimpleCredential

KNOWN = {tuple(key): password for key, password in json.loads(os.environ["KNOWN"])}


class Backend(KeyringBackend):
    priority = 9

    def get_password(self, service, username):
        if not os.environ.get("A_TOKEN"):
            raise RuntimeError("this keyring wants a variable")
        with open(os.environ["ASKED"], "a") as asked:
            asked.write(json.dumps([service, username]) + "\\n")
        return KNOWN.get((service, username))

    def get_credential(self, service, username):
        names = [username] if username else [name for _, name in KNOWN]
        found = [(name, password) for name in names if (password := self.get_password(service, name))]
        return SimpleCredential(*found[0]) if found else None

    set_password = None
"""
# What pip makes of the same, once its index has answered 401.
PIP = """
import json, sys
from pip._internal.network.auth import MultiDomainBasicAuth
provider, url, *indexes = sys.argv[1:]
found = MultiDomainBasicAuth(prompting=False, index_urls=indexes, keyring_provider=provider)
print(json.dumps(found._get_new_credentials(url, allow_netrc=False, allow_keyring=found.use_keyring)))
"""
OURS = """
import json, sys
from depload import IndexOptions
from depload.making.credentials import Credentials
provider, url, *indexes = sys.argv[1:]
options = IndexOptions(index_url=indexes[0], extra_index_urls=tuple(indexes[1:]), keyring_provider=provider)
who = Credentials(options)
print(json.dumps(who.kept(url) or who.of(url) or (None, None)))
"""
FILE = "https://host.test/files/f.whl"
KEYRINGS = {
    "the index, with a slash": ([["https://host.test/simple/", "me"]], FILE, [URL]),
    "the host": ([["host.test", "me"]], FILE, [URL]),
    "the host with its port": ([["host.test:8443", "me"]], "https://host.test:8443/f", ["https://host.test:8443/s"]),
    "the nearest of two indexes": (
        [["https://host.test/one/", "me"], ["https://host.test/two/", "you"]],
        "https://host.test/two/f.whl",
        ["https://host.test/one", "https://host.test/two"],
    ),
    "a name in the URL": (
        [["https://host.test/simple/", "other"], ["https://host.test/simple/", "me"]],
        FILE,
        ["https://me@host.test/simple"],
    ),
    "another name in the URL": ([["https://host.test/simple/", "other"]], FILE, ["https://me@host.test/simple"]),
    "user and password in the URL": ([["host.test", "me"]], FILE, ["https://you:pw@host.test/simple"]),
    "nothing": ([], FILE, [URL]),
    "a host that is no index": ([["files.test", "me"]], "https://files.test/f.whl", [URL]),
}


@pytest.mark.parametrize(
    ("case", "provider"),
    [
        *((case, "import") for case in KEYRINGS),
        *((case, "subprocess") for case in ("the host", "a name in the URL", "nothing")),
        *(("the host", provider) for provider in ("auto", "disabled")),
    ],
)
def test_a_keyring_says_what_it_says_to_pip(
    case: str, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("keyring")
    known, url, indexes = KEYRINGS[case]
    folder = write_files(tmp_path / "on-path", {"keyring_of_this_test.py": BACKEND, "bin/keyring": "#!/bin/sh\n"})
    program = folder / "bin/keyring"  # not beside this Python, where pip looks for none
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m keyring "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring_of_this_test.Backend")
    monkeypatch.setenv("KNOWN", json.dumps([[each, "pw"] for each in known]))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setenv("A_TOKEN", "x")  # what other people's code does not see is there for a keyring

    def said(code: str) -> list[str | None]:
        command = [sys.executable, "-c", code, provider, url, *indexes]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: list[str | None] = json.loads(done.stdout)
        return found

    ours, pips = said(OURS), said(PIP)
    assert ours == [pips[0], pips[1] or ("" if pips[0] else None)]  # a name alone goes with an empty password
    assert "A_TOKEN" in tools.secrets()
    expected = provider in ("import", "subprocess") and case not in ("user and password in the URL", "nothing")
    assert (tmp_path / "asked").exists() is expected


def test_it_is_asked_once_for_all_files_of_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "_ask_module", lambda service, _name: asked.append(service))
    who = Credentials(IndexOptions(index_url=URL, keyring_provider="import"))
    for name in "abc":
        assert who.kept(f"https://host.test/files/{name}.whl") is None
    assert asked == [f"{URL}/", URL, "host.test"]


def test_pips_word_goes_before_uvs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_KEYRING_PROVIDER", "subprocess")
    assert Credentials(IndexOptions()).asks_keyring
    assert Credentials(IndexOptions(keyring_provider="import")).asks_keyring
    assert not Credentials(IndexOptions(keyring_provider="disabled")).asks_keyring
    monkeypatch.setenv("UV_KEYRING_PROVIDER", "disabled")
    assert not Credentials(IndexOptions()).asks_keyring


def test_without_a_keyring_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "keyring", None)
    for provider in ("import", "subprocess"):
        assert Credentials(IndexOptions(index_url=URL, keyring_provider=provider)).kept(URL) is None
