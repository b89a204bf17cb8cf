"""The programs that resolve and build: where they are, and what is made of what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from depload.errors import ToolMissingError
from depload.making import tools
from depload.making.resolver import _uv_error
from depload.standards.target import Target

SAID = {
    "uv 0.13, an index": (
        """\
error: Request failed after 3 retries in 11.3s
  cause: Failed to fetch: http://127.0.0.1:9/simple/six/
  cause: error sending request for url (http://127.0.0.1:9/simple/six/)
  cause: Connection refused (os error 111)
""",
        ("http://127.0.0.1:9/simple/six/", "Connection refused (os error 111)", 4),
    ),
    "uv 0.13, a file that is not there": (
        """\
error: Failed to download `six @ https://host/six-1.16.0-py2.py3-none-any.whl`
  cause: Failed to fetch: https://host/six-1.16.0-py2.py3-none-any.whl
  cause: HTTP status client error (404 Not Found) for url (https://host/six-1.16.0-py2.py3-none-any.whl)
""",
        ("https://host/six-1.16.0-py2.py3-none-any.whl", "HTTP status client error (404 Not Found)", 1),
    ),
    "uv 0.6, an index": (
        """\
error: Failed to fetch: `http://127.0.0.1:9/simple/six/`
  Caused by: Request failed after 3 retries
  Caused by: error sending request for url (http://127.0.0.1:9/simple/six/)
  Caused by: tcp connect error: Connection refused (os error 111)
""",
        ("http://127.0.0.1:9/simple/six/", "tcp connect error: Connection refused (os error 111)", 4),
    ),
    "pip 26, a file": (
        """\
error: connection-failed

\u00d7 Failed to connect to 127.0.0.1 while fetching http://127.0.0.1:9/six-1.16.0-py2.py3-none-any.whl
\u2570\u2500> [Errno 111] Connection refused

hint: Are you connected to the Internet?
""",
        ("http://127.0.0.1:9/six-1.16.0-py2.py3-none-any.whl", "[Errno 111] Connection refused", 1),
    ),
    "pip, a file that is not there": (
        """\
ERROR: Could not install requirement six @ https://host/six.whl from https://host/six.whl \
because of HTTP error 404 Client Error: Not Found for url: https://host/six.whl for URL https://host/six.whl
""",
        ("https://host/six.whl", "404 Client Error: Not Found", 1),
    ),
    "a conflict": ("error: No solution found when resolving dependencies\n  cause: Because a and b\n", None),
    "a build": ("error: Failed to build `acme`\n  cause: The build backend returned an error\n", None),
}


@pytest.mark.parametrize("case", SAID)
def test_a_host_that_does_not_answer_is_recognised_in_what_they_say(case: str) -> None:
    said, expected = SAID[case]
    error = tools.unreachable(said)
    assert (None if error is None else (error.url, error.reason, error.attempts)) == expected


def test_the_frames_of_older_uv_are_taken_off() -> None:
    said = """\
  \u00d7 No solution found when resolving dependencies:
  \u2570\u2500\u25b6 Because requests==2.31.0 depends on urllib3>=1.21.1,<3 and you require
      requests==2.31.0, we can conclude that you require urllib3>=1.21.1,<3.

      hint: something
"""
    assert str(_uv_error(said, Target.running())).splitlines()[1:] == [
        "Because requests==2.31.0 depends on urllib3>=1.21.1,<3 and you require",
        "requests==2.31.0, we can conclude that you require urllib3>=1.21.1,<3.",
        "hint: something",
    ]


def test_a_program_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError, match=f"{tmp_path}/nothing"):
        tools.run([str(tmp_path / "nothing")])


def test_what_a_program_says_is_its_errors_without_colours_else_its_output() -> None:
    assert tools.Finished(1, "out\n", "\x1b[31merr\x1b[0m\n").said == "err"
    assert tools.Finished(1, "out\n", " \n").said == "out"


def test_a_program_that_says_what_is_no_text_is_heard() -> None:
    code = "import sys; sys.stdout.buffer.write(b'a\\xffb')"
    assert tools.run([sys.executable, "-c", code]).stdout == "a\ufffdb"


def test_this_python_is_its_own_interpreter_and_one_that_never_was_is_none() -> None:
    assert tools.interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}") == sys.executable
    assert tools.interpreter("3.99") is None


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("DATABRICKS_TOKEN", "x", True),
        ("DATABRICKS_RUNTIME_VERSION", "14.3", False),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("AWS_CA_BUNDLE", "/x", False),
        ("DB_PASS", "x", True),
        ("COMPASS", "x", False),
        ("MONKEY", "x", False),
        ("API_KEY", "x", True),
        ("DATABASE_URL", "postgres://me:secret@host/db", True),
        ("HOMEPAGE", "https://host/a:b@c", False),
        ("HTTPS_PROXY", "http://me:secret@proxy:3128", True),
        ("HTTPS_PROXY", "http://proxy:3128", False),
        ("UV_INDEX_PRIVATE_PASSWORD", "x", True),
        ("UV_PUBLISH_TOKEN", "x", True),
        ("PIP_INDEX_URL", "https://me:secret@host/simple", True),
        ("PIP_INDEX_URL", "https://host/simple", False),
        ("SETUPTOOLS_SCM_PRETEND_VERSION", "1", False),
        ("CFLAGS", "-O2", False),
    ],
)
def test_which_variables_other_peoples_code_does_not_see(
    name: str, value: str, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert (name in tools.secrets()) is hidden
    code = f"import os; print(os.environ.get({name!r}))"
    assert (
        tools.run([sys.executable, "-c", code], environment=tools.secrets()).stdout == f"{None if hidden else value}\n"
    )


def test_a_program_has_another_home_and_the_caches_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    code = "import json, os, pathlib; print(json.dumps([str(pathlib.Path.home()), dict(os.environ)]))"
    environment = tools.at_home(tmp_path / "other")
    home, seen = json.loads(tools.run([sys.executable, "-c", code], environment=environment).stdout)
    assert home == str(tmp_path / "other")
    assert "XDG_CONFIG_HOME" not in seen
    assert Path(seen["PIP_CACHE_DIR"]).is_relative_to(tmp_path / "mine")
    assert Path(seen["UV_CACHE_DIR"]).is_relative_to(tmp_path / "mine")
