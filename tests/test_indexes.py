from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from depload.errors import StoreError
from depload.making.credentials import credentials
from depload.making.indexes import IndexOptions, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# What pip itself makes of its configuration and a command line: the rule that this module has to match. One process
# answers for all tests, as importing pip is what takes long.
_ORACLE = """
import json, os, sys
from pip._internal.commands.install import InstallCommand
names = ["index_url", "extra_index_urls", "find_links", "no_index", "pre", "prefer_binary", "trusted_hosts",
         "cert", "client_cert", "proxy", "timeout", "retries", "keyring_provider"]
for line in sys.stdin:
    environ, arguments = json.loads(line)
    os.environ.clear()
    os.environ.update(environ)
    options, _ = InstallCommand("install", "").parser.parse_args(arguments)
    found = {name: getattr(options, name) for name in names}
    found["only_binary"] = sorted(options.format_control.only_binary)
    found["no_binary"] = sorted(options.format_control.no_binary)
    print(json.dumps(found), flush=True)
"""
_DEFAULTS = {"proxy": "", "timeout": 15, "retries": 5, "keyring_provider": "auto"}


class Pip:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._default = self.says({"PIP_CONFIG_FILE": os.devnull})["index_url"]

    def says(self, environ: Mapping[str, str], arguments: Sequence[str] = ()) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([dict(environ), list(arguments)]), file=self._process.stdin, flush=True)
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said | {"proxy": said["proxy"] or ""}  # None in newer versions

    def agrees(self, options: IndexOptions, environ: Mapping[str, str], *arguments: str) -> None:
        ours = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(options).items()}
        assert ours.pop("index_for") == []  # pip has no such option
        ours |= {name: value for name, value in _DEFAULTS.items() if ours[name] is None}
        ours["index_url"] = ours["index_url"] or self._default
        ours |= {name: sorted(ours[name]) for name in ("only_binary", "no_binary")}
        assert ours == self.says(environ, arguments)


@pytest.fixture(scope="module")
def pip() -> Iterator[Pip]:
    pytest.importorskip("pip")
    command = [sys.executable, "-c", _ORACLE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Pip(process)
        assert process.stdin
        process.stdin.close()


class Home:
    """A user's configuration, and nobody else's but the machine's /etc/pip.conf."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"HOME": str(path), "XDG_CONFIG_DIRS": str(path / "xdg"), "PATH": os.environ["PATH"]}
        self.paths = {
            "everyone": path / "xdg/pip/pip.conf",
            "legacy": path / ".pip/pip.conf",
            "user": path / ".config/pip/pip.conf",
            "own": path / "own.conf",
        }

    def write(self, where: str, text: str) -> str:
        self.paths[where].parent.mkdir(parents=True, exist_ok=True)
        self.paths[where].write_text(text, encoding="utf-8")
        return str(self.paths[where])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name.upper().endswith("_PROXY") or name in ("NETRC", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


# --- configuration --------------------------------------------------------------------------------


def test_every_option_is_read_as_pip_reads_it(home: Home, pip: Pip) -> None:
    home.write(
        "user",
        "[global]\n"
        "index-url = http://index.test/simple\n"
        "extra_index_url =\n    http://one.test/simple\n    http://two.test/simple%%20\n"
        "find-links = /wheels http://links.test/page\n"
        "trusted-host = one.test two.test:8080\n"
        "cert = ~/ca.pem\nclient-cert = ~/me.pem\nproxy = http://proxy.test:3128\n"
        "timeout = 7.5\nretries = 2\nno-index = no\npre = on\nprefer-binary = y\n"
        "only-binary = :all:\nno-binary = Foo_Bar,baz\n",
    )
    options = IndexOptions.configured(home.environ)
    assert options.extra_index_urls == ("http://one.test/simple", "http://two.test/simple%%20")
    assert options.cert == str(Path("~/ca.pem").expanduser())
    assert options.pre
    pip.agrees(options, home.environ)


def test_nothing_configured_leaves_the_tools_their_defaults(home: Home) -> None:
    options = IndexOptions.configured(home.environ | {"PIP_CONFIG_FILE": os.devnull})
    assert options == IndexOptions()
    assert options.pip_arguments() == options.uv_compile_arguments() == options.uv_build_arguments() == []
    assert "UV_DEFAULT_INDEX" not in options.environment({})


def test_a_later_file_replaces_a_list_and_install_goes_over_global(home: Home, pip: Pip) -> None:
    home.write("everyone", "[global]\nextra-index-url = http://everyone.test\ntimeout = 1\n[install]\nretries = 9\n")
    home.write("legacy", "[global]\nextra-index-url = http://legacy.test\ntimeout = 2\nretries = 3\n")
    home.write(
        "user", "[global]\ntimeout = 3\n[install]\nindex-url = http://install.test\n[list]\nindex-url = http://x\n"
    )
    options = IndexOptions.configured(home.environ)
    assert options.extra_index_urls == ("http://legacy.test",)
    assert (options.timeout, options.retries, options.index_url) == (3, 9, "http://install.test")
    pip.agrees(options, home.environ)


def test_variables_go_over_files_and_an_empty_one_changes_nothing(home: Home, pip: Pip) -> None:
    home.write("user", "[install]\nindex-url = http://file.test\nfind-links = /file\ntimeout = 3\nno-index = 1\n")
    environ = home.environ | {"PIP_INDEX_URL": "http://variable.test", "PIP_FIND_LINKS": "", "PIP_NO_INDEX": "0"}
    options = IndexOptions.configured(environ | {"PIP_DEFAULT_TIMEOUT": "8"})
    assert options.index_url == "http://variable.test"
    assert options.find_links == ("/file",)
    assert not options.no_index
    pip.agrees(options, environ | {"PIP_DEFAULT_TIMEOUT": "8"})


def test_an_empty_value_in_a_later_file_unsets(home: Home, pip: Pip) -> None:
    home.write("everyone", "[global]\nindex-url = http://everyone.test\n")
    home.write("user", "[global]\nindex-url =\n")
    options = IndexOptions.configured(home.environ)
    assert options.index_url is None
    pip.agrees(options, home.environ)


def test_pip_config_file_replaces_the_users_files(home: Home, pip: Pip) -> None:
    home.write("everyone", "[global]\nretries = 1\n")
    home.write("user", "[global]\nretries = 2\ntimeout = 2\n")
    environ = home.environ | {"PIP_CONFIG_FILE": home.write("own", "[global]\nindex-url = http://own.test\n")}
    options = IndexOptions.configured(environ)
    assert (options.retries, options.timeout, options.index_url) == (1, None, "http://own.test")
    pip.agrees(options, environ)


def test_pip_config_file_at_devnull_turns_all_files_off(home: Home, pip: Pip) -> None:
    home.write("everyone", "[global]\nretries = 1\n")
    home.write("user", "[global]\ntimeout = 2\n")
    environ = home.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "4"}
    options = IndexOptions.configured(environ)
    assert options == IndexOptions(retries=4)
    pip.agrees(options, environ)


@pytest.mark.parametrize(
    "text",
    [
        "[global]\nonly-binary = :all:\n[install]\nno-binary = one\n",
        "[global]\nno-binary = one,two\n[install]\nonly-binary = two,three\n",
        "[global]\nno-binary = one,:all:,two\n[install]\nonly-binary = One\n",
        "[global]\nonly-binary = one,two\n[install]\nonly-binary = :none:,three\n",
        "[global]\nonly-binary = one\nno-binary = one\n",
    ],
)
def test_binary_restrictions_add_up_and_the_later_wins(home: Home, pip: Pip, text: str) -> None:
    home.write("user", text)
    pip.agrees(IndexOptions.configured(home.environ), home.environ)


@pytest.mark.parametrize("setting", ["PIP_TIMEOUT=soon", "PIP_RETRIES=1.5", "PIP_NO_INDEX=perhaps"])
def test_a_value_that_its_option_does_not_take_is_named(home: Home, setting: str) -> None:
    name, value = setting.split("=")
    with pytest.raises(StoreError, match=value) as caught:
        IndexOptions.configured(home.environ | {name: value})
    assert name[4:].lower().replace("_", "-") in str(caught.value)


def test_a_broken_file_is_named_without_what_it_holds(home: Home) -> None:
    path = home.write("user", "index-url = https://me:s3cret@index.test\n")
    with pytest.raises(StoreError) as caught:
        IndexOptions.configured(home.environ)
    assert path in str(caught.value)
    assert "s3cret" not in str(caught.value)


# --- explicit over configured ---------------------------------------------------------------------


def test_explicit_options_go_over_configured_ones_as_arguments_of_pip_do(home: Home, pip: Pip) -> None:
    home.write(
        "user",
        "[global]\nindex-url = http://file.test\nextra-index-url = http://one.test\nfind-links = /one\n"
        "trusted-host = one.test\nretries = 1\nno-index = 1\nonly-binary = :all:\n",
    )
    given = IndexOptions(
        index_url="http://given.test",
        extra_index_urls=("http://two.test",),
        find_links=("/two",),
        trusted_hosts=("two.test",),
        pre=True,
        timeout=4,
        no_binary=("Foo",),
    )
    options = given.over(IndexOptions.configured(home.environ))
    assert options.extra_index_urls == ("http://one.test", "http://two.test")
    assert options.no_index
    pip.agrees(
        options,
        home.environ,
        *("--index-url=http://given.test", "--extra-index-url=http://two.test", "--find-links=/two"),
        *("--trusted-host=two.test", "--pre", "--timeout=4", "--no-binary=Foo"),
    )


def test_given_twice_nothing_changes() -> None:
    options = IndexOptions(index_url="http://index.test", only_binary=("a", ":all:"), no_binary=("b",), retries=0)
    assert IndexOptions().over(options) == options
    assert options.over(IndexOptions(no_binary=(":all:",), only_binary=("b",))) == IndexOptions(
        index_url="http://index.test", only_binary=(":all:", "a"), no_binary=("b",), retries=0
    )


def test_pip_takes_from_arguments_and_environment_what_the_options_say_and_nothing_else(home: Home, pip: Pip) -> None:
    """Whatever is configured: the options were made from that already."""
    home.write("user", "[install]\nindex-url = http://file.test\nextra-index-url = http://file2.test\ntimeout = 3\n")
    inherited = home.environ | {"PIP_PRE": "1", "PIP_DEFAULT_TIMEOUT": "180", "PIP_FIND_LINKS": "/x", "PIP_CERT": "/x"}
    options = IndexOptions(
        index_url="http://me:s3cret@index.test",
        extra_index_urls=("http://one.test", "http://two.test"),
        find_links=("http://links.test/page",),
        only_binary=("foo", ":all:"),
        no_binary=("bar",),
        trusted_hosts=("one.test",),
        cert="/ca.pem",
        retries=2,
        prefer_binary=True,
    )
    arguments = options.pip_arguments()
    assert "s3cret" not in " ".join(arguments)
    expected = IndexOptions(**vars(options) | {"only_binary": (":all:", "foo")})
    pip.agrees(expected, inherited | options.environment(inherited), *arguments)


# --- what the tools are told ----------------------------------------------------------------------


def test_local_find_links_that_do_not_exist_are_dropped_and_others_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a, b").mkdir()
    monkeypatch.chdir(tmp_path)
    links = ("a, b", "~/a, b", (tmp_path / "a, b").as_uri(), "/not/here", "file:///not/here", "http://links.test")
    here = f"--find-links={tmp_path.as_uri()}/a%2C%20b"
    assert IndexOptions(find_links=links).pip_arguments() == [here] * 3
    assert IndexOptions(find_links=links[:-1]).uv_compile_arguments() == [here] * 3
    # To uv what stands in its command hides the variable, so all of them go there where one is remote.
    assert IndexOptions(find_links=links).uv_compile_arguments() == []
    variable = IndexOptions(find_links=links).environment({})["UV_FIND_LINKS"]
    assert variable.split(",") == ["http://links.test", *[here.removeprefix("--find-links=")] * 3]


def test_uv_build_is_told_of_packages_in_its_own_words() -> None:
    options = IndexOptions(
        only_binary=("a", ":all:"), no_binary=("b",), pre=True, trusted_hosts=("h:1",), no_index=True
    )
    assert options.uv_build_arguments() == [
        *("--no-index", "--prerelease=allow", "--allow-insecure-host=h:1"),
        *("--no-build", "--no-build-package=a", "--no-binary-package=b"),
    ]


def test_uv_keeps_what_it_was_told_itself() -> None:
    options = IndexOptions(extra_index_urls=("http://pip.test",), find_links=("http://links.test/a,b",))
    environment = options.environment({"UV_INDEX": "mine=http://uv.test", "UV_FIND_LINKS": "/uv"})
    assert environment["UV_INDEX"] == "mine=http://uv.test http://pip.test"
    assert environment["UV_FIND_LINKS"] == "/uv,http://links.test/a%2Cb"


def test_certificates_and_times_reach_uv(tmp_path: Path) -> None:
    options = IndexOptions(cert="/ca.pem", client_cert="/me.pem", timeout=0.5, retries=0)
    environment = options.environment({})
    found = {
        name: environment[name] for name in ("SSL_CERT_FILE", "SSL_CLIENT_CERT", "UV_HTTP_TIMEOUT", "UV_HTTP_RETRIES")
    }
    assert list(found.values()) == ["/ca.pem", "/me.pem", "1", "0"]
    assert IndexOptions(cert=str(tmp_path)).environment({})["SSL_CERT_DIR"] == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:s3cret@host.test/simple", "https://****@host.test/simple"),
        ("https://s3cret@host.test", "https://****@host.test"),
        ("https://me:s3@cret@host.test:8/x y", "https://****@host.test:8/x y"),
        (
            "see git+https://s3cret@a.test/b, http://a:s3cret@[::1]/c",
            "see git+https://****@a.test/b, http://****@[::1]/c",
        ),
        ("https://host.test/a.whl?sig=s3cret&x=1#sha256=0", "https://host.test/a.whl?****#sha256=0"),
        ("https://host.test/@scope/a", "https://host.test/@scope/a"),
        ("nothing at all: me@host.test?", "nothing at all: me@host.test?"),
    ],
)
def test_secrets_of_urls_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


# --- credentials ----------------------------------------------------------------------------------


def test_credentials_of_the_url_come_before_those_of_its_index_and_of_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine host.test login net password rc\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    options = IndexOptions(
        index_url="https://a:%40b@host.test/one/simple", extra_index_urls=("https://c:d@host.test/two",)
    )
    assert credentials(options, "https://x:y@host.test/one/f.whl") == ("x", "y")
    assert credentials(options, "https://host.test/one/f.whl") == ("a", "@b")
    assert credentials(options, "https://host.test:443/two/f.whl") == ("c", "d")
    options = IndexOptions(index_url="https://host.test/one/simple", extra_index_urls=("https://c:d@host.test/two",))
    assert credentials(options, "https://host.test/one/f.whl") == ("c", "d")
    assert credentials(IndexOptions(), "https://host.test/f.whl") == ("net", "rc")
    assert credentials(IndexOptions(), "https://token@host.test/f.whl") == ("net", "rc")


@pytest.mark.parametrize("url", ["http://host.test/f", "https://host.test:8443/f", "https://sub.host.test/f", "no url"])
def test_credentials_of_an_index_stay_with_its_scheme_host_and_port(url: str) -> None:
    assert credentials(IndexOptions(index_url="https://a:b@host.test/simple"), url) is None


def test_a_name_alone_is_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials(IndexOptions(), "https://token@host.test/f.whl") == ("token", "")
    monkeypatch.setenv("UV_INDEX", "one=https://a:b@one.test/x two=https://c:d@two.test/x")
    assert credentials(IndexOptions(), "https://two.test/f.whl") == ("c", "d")


def test_a_broken_netrc_is_no_netrc(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine\n")
    assert credentials(IndexOptions(), "https://host.test/f.whl") is None


# --- the real tools -------------------------------------------------------------------------------


def wheel(name: str, version: str) -> bytes:
    info = f"{name}-{version}.dist-info"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return file.getvalue()


class Index:
    """Simple repositories (PEP 503) for whoever knows the password: ``/public`` and ``/private``."""

    password = "s3cret"

    def __init__(self) -> None:
        released = {"public": ["tiny-1.0", "tiny-2.0rc1", "both-9.0"], "private": ["both-1.0", "hidden-1.0"]}
        self.files = {
            f"/{index}/{release.split('-')[0]}/{release}-py3-none-any.whl": wheel(*release.split("-"))
            for index, releases in released.items()
            for release in releases
        }
        self.asked: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self.server.server_address[1]}"

    def url(self, index: str) -> str:
        return f"http://me:{self.password}@{self.host}/{index}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        index = self
        expected = "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                index.asked.append(self.path)
                path = self.path.removeprefix(f"http://{index.host}")
                known = self.headers.get("Authorization") == expected
                body = index.page(path) if known else b""
                self.send_response(401 if not known else 200 if body else 404)
                self.send_header("WWW-Authenticate", "Basic")
                self.send_header("Content-Type", "application/zip" if path.endswith(".whl") else "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body if self.command == "GET" else b"")

            do_HEAD = do_GET  # noqa: N815 - as http.server wants it

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def page(self, path: str) -> bytes:
        inside = {name: data for name, data in self.files.items() if name.startswith(path.rstrip("/") + "/")}
        links = [
            f'<a href="{name}#sha256={hashlib.sha256(data).hexdigest()}">{Path(name).name}</a>'
            for name, data in inside.items()
        ]
        return self.files.get(path) or "\n".join(links).encode()


@pytest.fixture
def index() -> Iterator[Index]:
    index = Index()
    thread = threading.Thread(target=index.server.serve_forever, args=(0.02,))
    thread.start()
    yield index
    index.server.shutdown()
    index.server.server_close()
    thread.join()


class Tool:
    """Resolves with the real program, as depload's resolver will: options by arguments and environment."""

    def __init__(self, command: Sequence[str], kind: str, home: Path) -> None:
        self.command = list(command)
        self.kind = kind
        self.environ = {"HOME": str(home), "PATH": os.environ["PATH"], "UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1"}

    def resolve(self, options: IndexOptions, *requirements: str) -> str:
        """What was chosen, or what the program said when it failed."""
        arguments = options.pip_arguments() if self.kind == "pip" else options.uv_compile_arguments()
        command = [*self.command, *arguments, *(requirements if self.kind == "pip" else ("-",))]
        assert Index.password not in " ".join(command)
        done = subprocess.run(
            command,
            env=self.environ | options.environment({}),
            input="\n".join(requirements),
            capture_output=True,
            text=True,
            check=False,
        )
        chosen = [line for line in done.stdout.splitlines() if "==" in line or line.startswith("Would install")]
        return (
            " ".join(chosen).removeprefix("Would install ").replace("==", "-") if done.returncode == 0 else done.stderr
        )


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


@pytest.fixture(params=["uv", "pip"])
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Tool:
    if request.param == "pip":
        pytest.importorskip("pip")
        words = ("install", "--dry-run", "--ignore-installed", "--disable-pip-version-check", "--no-input")
        return Tool([sys.executable, "-m", "pip", *words], "pip", tmp_path)
    uv = _uv()
    if uv is None:
        pytest.skip("no uv here")
    arguments = ("pip", "compile", "--python", sys.executable, "--no-header", "--no-annotate", "--quiet")
    return Tool([uv, *arguments], "uv", tmp_path)


def test_an_index_with_a_password_is_used_and_the_password_is_no_argument(tool: Tool, index: Index) -> None:
    assert tool.resolve(IndexOptions(index_url=index.url("public")), "tiny") == "tiny-1.0"


def test_what_pip_is_configured_with_is_what_both_use(tool: Tool, index: Index, home: Home) -> None:
    url = index.url("public")
    home.write("user", f"[global]\nindex-url = {url}\nfind-links = /not/here\npre = yes\ntimeout = 5.5\n")
    assert tool.resolve(IndexOptions.configured(home.environ), "tiny") == "tiny-2.0rc1"


def test_an_extra_index_is_asked_too(tool: Tool, index: Index) -> None:
    options = IndexOptions(index_url=index.url("public"), extra_index_urls=(index.url("private"),))
    assert sorted(tool.resolve(options, "tiny", "hidden").split()) == ["hidden-1.0", "tiny-1.0"]


def test_a_private_name_on_a_public_index_does_not_win_in_uv(tool: Tool, index: Index) -> None:
    """Dependency confusion; pip takes the higher version wherever it is."""
    options = IndexOptions(index_url=index.url("public"), extra_index_urls=(index.url("private"),))
    assert tool.resolve(options, "both") == {"uv": "both-1.0", "pip": "both-9.0"}[tool.kind]


def test_find_links_without_an_index_asks_nobody(tool: Tool, index: Index, tmp_path: Path) -> None:
    (tmp_path / "some, wheels").mkdir()
    (tmp_path / "some, wheels/linked-1.0-py3-none-any.whl").write_bytes(wheel("linked", "1.0"))
    links = (str(tmp_path / "some, wheels"), "/not/here")
    options = IndexOptions(index_url=index.url("public"), no_index=True, find_links=links)
    assert tool.resolve(options, "linked") == "linked-1.0"
    assert "linked-1.0" not in tool.resolve(options, "linked", "tiny")
    assert index.asked == []


def test_find_links_pages_with_a_password_are_read(tool: Tool, index: Index) -> None:
    pages = (index.url("public/tiny"), index.url("private/hidden"))
    chosen = tool.resolve(IndexOptions(no_index=True, find_links=pages), "tiny", "hidden")
    assert sorted(chosen.split()) == ["hidden-1.0", "tiny-1.0"]


def test_no_binary_leaves_no_wheel_to_choose(tool: Tool, index: Index) -> None:
    options = IndexOptions(index_url=index.url("public"), no_binary=(":all:",))
    assert "tiny" in tool.resolve(options, "tiny")
    assert tool.resolve(options, "tiny") != "tiny-1.0"
    exempt = IndexOptions(index_url=index.url("public"), no_binary=(":all:",), only_binary=("tiny",))
    assert tool.resolve(exempt, "tiny") == "tiny-1.0"


def test_the_proxy_is_used_for_every_host(tool: Tool, index: Index) -> None:
    tool.environ |= {"NO_PROXY": "*", "no_proxy": "*"}
    url = f"http://me:{index.password}@nowhere.test/public"
    index.host, proxy = "nowhere.test", f"http://{index.host}"
    assert tool.resolve(IndexOptions(index_url=url, proxy=proxy, trusted_hosts=("nowhere.test",)), "tiny") == "tiny-1.0"
    assert index.asked[0].startswith("http://nowhere.test/public/tiny")


def test_a_host_that_says_no_is_an_error_of_the_tool_without_the_password(tool: Tool, index: Index) -> None:
    url = index.url("public").replace(index.password, "wr0ng")
    said = tool.resolve(IndexOptions(index_url=url, retries=0), "tiny")
    assert said.strip()
    assert "wr0ng" not in redact(said)
