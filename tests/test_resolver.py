"""Requirements -> lock, by uv and by pip: the same answers, and the same errors told in each one's words."""

from __future__ import annotations

import io
import platform
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from conftest import make_wheel
from depload import IndexOptions, Target
from depload.errors import (
    BuildError,
    IndexUnavailableError,
    ProtectedPackageError,
    ResolutionError,
    TargetError,
    ToolMissingError,
)
from depload.making import tools
from depload.making.resolver import PROTECTED, resolve
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from depload.making.resolver import ResolverName

RUNNING = Target.running()
LINUX = sys.platform == "linux"

PACKAGES = {
    # name: version -> Requires-Dist
    "alpha": {"1.0": "", "1.1": "", "2.0": "Requires-Dist: beta>=2\n", "3.0rc1": ""},
    "beta": {"1.0": "", "2.0": ""},
    "needs-old": {"1.0": "Requires-Dist: beta<2\n"},
    "extras": {
        "1.0": "Provides-Extra: fast\nRequires-Dist: beta==1.0; extra == 'fast'\n"
        "Provides-Extra: spark\nRequires-Dist: pyspark>=3; extra == 'spark'\n"
    },
    "marked": {
        "1.0": "Requires-Dist: beta; python_version < '3.11'\nRequires-Dist: alpha<2; python_version >= '3.11'\n"
        "Requires-Dist: py4j; sys_platform == 'nowhere'\n"
    },
    "asks": {"1.0": "Requires-Dist: PySpark>=3\n"},
    "asks-too": {"1.0": "Requires-Dist: asks\nRequires-Dist: py4j\n"},
    "lacks": {"1.0": "Requires-Dist: nowhere>=1\n"},
    "newer": {"1.0": "Requires-Python: >=3.98\n", "2.0": "Requires-Python: >=3.99\n"},
    "newer-since": {"1.0": "", "2.0": "Requires-Python: >=3.99\n"},
    "pyspark": {"3.5.0": ""},
    "py4j": {"0.10": ""},
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to find links in."""
    folder = tmp_path_factory.mktemp("index")
    for name, versions in PACKAGES.items():
        for version, metadata in versions.items():
            make_wheel(folder, name, version, {f"{name.replace('-', '_')}.py": ""}, metadata)
    return folder


@pytest.fixture(params=["uv", "pip"])
def name(request: pytest.FixtureRequest) -> ResolverName:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def resolved(tmp_path: Path, index: Path, name: ResolverName) -> Callable[..., dict[str, str | None]]:
    """Resolve with each resolver: versions by name."""

    def run(
        *asked: str, constraints: Sequence[str] = (), target: Target = RUNNING, options: IndexOptions | None = None
    ) -> dict[str, str | None]:
        offline = IndexOptions(no_index=True, find_links=(str(index),))
        found = resolve(asked, constraints, target, options=options or offline, scratch=tmp_path, resolver=name)
        return {package.name: package.version for package in found}

    return run


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "constraints", "expected"),
    [
        (["beta"], [], {"beta": "2.0"}),
        (["alpha"], [], {"alpha": "2.0", "beta": "2.0"}),
        (["alpha<2"], [], {"alpha": "1.1"}),
        (["alpha", "needs-old"], [], {"alpha": "1.1", "beta": "1.0", "needs-old": "1.0"}),
        (["alpha"], ["alpha<1.1"], {"alpha": "1.0"}),
        (["alpha"], ["beta==1.0"], {"alpha": "1.1"}),
        (["alpha==3.0rc1"], [], {"alpha": "3.0rc1"}),
        (["extras"], [], {"extras": "1.0"}),
        (["extras[fast]"], [], {"beta": "1.0", "extras": "1.0"}),
        (["extras[fast]", "beta"], [], {"beta": "1.0", "extras": "1.0"}),
        (["beta; sys_platform == 'nowhere'", "alpha<2"], [], {"alpha": "1.1"}),
        (["Alpha_.x; python_version < '3'", "needs_old"], [], {"beta": "1.0", "needs-old": "1.0"}),
    ],
)
def test_both_resolvers_answer_alike(
    asked: list[str], constraints: list[str], expected: dict[str, str], resolved: Callable[..., dict[str, str]]
) -> None:
    assert resolved(*asked, constraints=constraints) == expected


def test_pre_releases_are_taken_where_they_are_allowed(index: Path, resolved: Callable[..., dict[str, str]]) -> None:
    options = IndexOptions(no_index=True, find_links=(str(index),), pre=True)
    assert resolved("alpha", options=options) == {"alpha": "3.0rc1"}


def test_a_file_is_a_requirement_too(index: Path, resolved: Callable[..., dict[str, str]]) -> None:
    wheel = index / "alpha-1.0-py3-none-any.whl"
    assert resolved(f"alpha @ {wheel.as_uri()}") == {"alpha": "1.0"}


def test_markers_are_judged_by_the_target_and_not_by_this_python(resolved: Callable[..., dict[str, str]]) -> None:
    expected = {
        "3.10": {"beta": "2.0", "marked": "1.0"},
        "3.11": {"alpha": "1.1", "marked": "1.0"},
        "3.12": {"alpha": "1.1", "marked": "1.0"},
    }
    pythons = [python for python in expected if tools.interpreter(python)]
    found = {python: resolved("marked", target=Target(python, RUNNING.platform)) for python in pythons}
    assert found == {python: expected[python] for python in pythons}


def test_names_and_hashes_of_files_come_along(tmp_path: Path, index: Path, name: ResolverName) -> None:
    options = IndexOptions(no_index=True, find_links=(str(index),))
    (package,) = resolve(["beta"], [], RUNNING, options=options, scratch=tmp_path, resolver=name)
    (file,) = [file for file in package.files if file.is_wheel]
    assert file.filename == "beta-2.0-py3-none-any.whl"
    assert str(index) in file.location


# --- no answer ------------------------------------------------------------------------------------------------------

UNSOLVABLE: dict[str, tuple[list[str], list[str], list[str]]] = {
    "versions that exclude each other": (["alpha==2.0", "needs-old"], [], ["alpha", "needs-old", "beta"]),
    "two pins of one package": (["alpha==1.0", "alpha==2.0"], [], ["alpha==1.0", "alpha==2.0"]),
    "a constraint that excludes": (["beta"], ["beta<1"], ["beta"]),
    "no such package": (["nowhere"], [], ["nowhere"]),
    "no such version": (["alpha==9"], [], ["alpha==9"]),
    "no such package further down": (["lacks"], [], ["nowhere", "lacks"]),
}


@pytest.mark.parametrize("case", UNSOLVABLE)
def test_what_cannot_be_is_explained_without_noise(
    case: str, tmp_path: Path, resolved: Callable[..., dict[str, str]]
) -> None:
    asked, constraints, named = UNSOLVABLE[case]
    with pytest.raises(ResolutionError) as error:
        resolved(*asked, constraints=constraints)
    text = str(error.value)
    assert text.startswith(f"no set of packages meets the requirements for {RUNNING}:\n")
    assert all(each in text for each in named), text
    noise = [
        "ERROR",
        "error:",
        "cause:",
        "WARNING",
        "Traceback",
        "requirements.in",
        "visit https",
        "\u00d7",
        str(tmp_path),
    ]
    assert [each for each in noise if each in text] == []
    assert len(text.splitlines()) < 12


@pytest.mark.parametrize(("asked", "least"), [("newer", "3.98"), ("newer", "3.99"), ("newer-since==2.0", "3.99")])
def test_a_package_for_another_python_is_named_with_what_can_be_done(
    asked: str, least: str, resolved: Callable[..., dict[str, str]]
) -> None:
    with pytest.raises(ResolutionError) as error:
        resolved(asked)
    assert asked.partition("==")[0] in error.value.explanation
    assert f">={least}" in error.value.explanation
    ours = RUNNING.python
    assert str(error.value).endswith(f"(--python, --runtime), or ask for versions that allow {ours}.")
    with pytest.raises(ResolutionError) as other:
        resolved("alpha==9")
    assert other.value.remedy == ""


def test_of_many_versions_only_the_last_are_told(tmp_path: Path) -> None:
    for minor in range(30):
        make_wheel(tmp_path / "many", "many", f"1.{minor}", {"many.py": ""})
    options = IndexOptions(no_index=True, find_links=(str(tmp_path / "many"),))
    with pytest.raises(ResolutionError) as error:
        resolve(["many==2"], [], RUNNING, options=options, scratch=tmp_path, resolver="pip")
    assert "many==2 (there are 30 versions, the last 1.25, 1.26, 1.27, 1.28, 1.29)" in str(error.value)


def test_what_lies_in_the_source_is_called_so_and_not_by_its_temporary_place(
    index: Path, resolved: Callable[..., dict[str, str]]
) -> None:
    with pytest.raises(ResolutionError) as error:
        resolved(f"alpha @ {(index / 'alpha-1.0-py3-none-any.whl').as_uri()}", "alpha==2.0")
    assert str(index) not in str(error.value)


# --- what belongs to the platform -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "package", "asked_by"),
    [
        (["asks"], "pyspark", ["asks"]),
        (["asks-too"], "py4j", ["asks-too"]),
        (["extras[spark]"], "pyspark", ["extras"]),
        (["pyspark"], "pyspark", []),
    ],
)
def test_who_asks_for_what_belongs_to_the_platform_is_named(
    asked: list[str], package: str, asked_by: list[str], resolved: Callable[..., dict[str, str]]
) -> None:
    with pytest.raises(ProtectedPackageError) as error:
        resolved(*asked)
    assert (error.value.package, list(error.value.asked_by)) == (package, asked_by)


def test_what_only_another_platform_or_extra_needs_is_no_reason(resolved: Callable[..., dict[str, str]]) -> None:
    found = resolved("extras", "marked")
    assert not PROTECTED & set(found)


def test_uv_tells_who_asks_without_looking_for_it_anywhere(tmp_path: Path) -> None:
    make_wheel(tmp_path / "only", "asks", "1.0", {"asks.py": ""}, "Requires-Dist: pyspark>=99\n")
    options = IndexOptions(no_index=True, find_links=(str(tmp_path / "only"),))
    with pytest.raises(ProtectedPackageError, match=r"^pyspark belongs to the platform .* asked for by asks"):
        resolve(["asks"], [], RUNNING, options=options, scratch=tmp_path, resolver="uv")


# --- indexes that do not answer -------------------------------------------------------------------------------------

NOWHERE = "http://127.0.0.1:9/simple"


@pytest.mark.parametrize(
    ("asked", "options", "url"),
    [
        ("alpha", IndexOptions(index_url=NOWHERE, retries=0), f"{NOWHERE}/alpha/"),
        ("alpha", IndexOptions(index_url=NOWHERE, retries=1), f"{NOWHERE}/alpha/"),
        ("alpha @ http://127.0.0.1:9/alpha-1.0-py3-none-any.whl", IndexOptions(no_index=True, retries=0), ""),
    ],
)
def test_an_index_that_does_not_answer_is_named(
    asked: str, options: IndexOptions, url: str, resolved: Callable[..., dict[str, str]]
) -> None:
    with pytest.raises(IndexUnavailableError, match="Connection refused") as error:
        resolved(asked, options=options)
    assert error.value.url == (url or "http://127.0.0.1:9/alpha-1.0-py3-none-any.whl")
    assert error.value.attempts == (options.retries or 0) + 1


def test_an_extra_index_that_does_not_answer_is_no_reason_to_take_what_is_elsewhere(
    index: Path, resolved: Callable[..., dict[str, str]]
) -> None:
    options = IndexOptions(index_url=NOWHERE, find_links=(str(index),), retries=0)
    with pytest.raises(IndexUnavailableError):
        resolved("alpha", options=options)


def test_the_password_of_an_index_is_not_told(resolved: Callable[..., dict[str, str]]) -> None:
    options = IndexOptions(index_url="http://me:hidden@127.0.0.1:9/simple", retries=0)
    with pytest.raises(IndexUnavailableError) as error:
        resolved("alpha", options=options)
    assert "hidden" not in str(error.value)


# --- packages whose metadata must be built --------------------------------------------------------------------------


def _sdist(folder: Path, setup: str) -> None:
    folder.mkdir()
    with tarfile.open(folder / "broken-1.0.tar.gz", "w:gz") as opened:
        files = {
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": setup,
        }
        for name, text in files.items():
            info = tarfile.TarInfo(f"broken-1.0/{name}")
            info.size = len(text)
            opened.addfile(info, io.BytesIO(text.encode()))


def test_an_sdist_whose_metadata_cannot_be_had_is_named_with_its_last_lines(
    tmp_path: Path, resolved: Callable[..., dict[str, str]]
) -> None:
    _sdist(tmp_path / "sdists", "raise ValueError('the reason')\n")
    options = IndexOptions(no_index=True, find_links=(str(tmp_path / "sdists"),))
    with pytest.raises(BuildError, match=r"(?s)^broken.*ValueError: the reason"):
        resolved("broken", options=options)


def test_other_peoples_code_sees_no_secrets_while_resolving(
    tmp_path: Path, resolved: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "hidden")
    _sdist(
        tmp_path / "sdists", "import os\nraise ValueError('TOKEN=' + os.environ.get('DATABRICKS_TOKEN', '') + '.')\n"
    )
    with pytest.raises(BuildError, match=r"TOKEN=\."):
        resolved("broken", options=IndexOptions(no_index=True, find_links=(str(tmp_path / "sdists"),)))


# --- tools and targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "asked", "missing"),
    [
        ([], None, "uv or pip"),
        ([], "pip", "pip"),
        (["pip"], "uv", "uv"),
        (["uv"], "pip", "pip"),
    ],
)
def test_without_the_tool_that_is_said(
    there: list[str],
    asked: ResolverName | None,
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for tool in ("uv", "pip"):
        if tool not in there:
            monkeypatch.setattr(tools, tool, lambda: None)
    with pytest.raises(ToolMissingError, match=f"^resolving requirements needs {missing}, .* pip install uv"):
        resolve(["six"], [], RUNNING, options=IndexOptions(no_index=True), scratch=tmp_path, resolver=asked)


def test_a_uv_that_is_too_old_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "uv"
    old.write_text("#!/bin/sh\necho \"error: unexpected argument '--format' found\" >&2\nexit 2\n")
    old.chmod(0o755)
    monkeypatch.setattr(tools, "uv", lambda: str(old))
    with pytest.raises(ToolMissingError, match=r"needs uv 0\.6\.15, which is not here; .* pip install -U uv"):
        resolve(["six"], [], RUNNING, options=IndexOptions(no_index=True), scratch=tmp_path)


def test_pip_stands_in_where_there_is_no_uv(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "uv", lambda: None)
    options = IndexOptions(no_index=True, find_links=(str(index),))
    (package,) = resolve(["beta"], [], RUNNING, options=options, scratch=tmp_path)
    assert package.version == "2.0"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            Target("3.11", "win_amd64"),
            "pip resolves for the platform that it runs on, not for win_amd64; let uv resolve",
        ),
        (Target("3.14", RUNNING.platform), r"there is no python3\.14; let uv resolve"),
    ],
)
def test_pip_is_not_asked_for_what_it_would_answer_wrongly(
    target: Target, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tools.interpreter
    monkeypatch.setattr(tools, "interpreter", lambda python: None if python == "3.14" else real(python))
    with pytest.raises(TargetError, match=message):
        resolve(["six"], [], target, options=IndexOptions(), scratch=tmp_path, resolver="pip")


# --- the real index -------------------------------------------------------------------------------------------------

TARGETS = [
    Target.of(runtime="13.3"),
    Target.of(runtime="15.4"),
    Target.of(runtime="16.4"),
    Target.of(runtime="serverless-2"),
    Target("3.13", "manylinux2014_aarch64"),
    Target("3.12", "musllinux_1_2_x86_64"),
    Target("3.11", "macosx_14_0_arm64"),
    Target("3.12", "win_amd64"),
]


@pytest.mark.network
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_for_any_target_there_is_a_file_that_fits(target: Target, tmp_path: Path) -> None:
    asked = ["markupsafe==3.0.2", "colorama; sys_platform == 'win32'", "tomli; python_version < '3.11'"]
    found = resolve(asked, [], target, options=IndexOptions.configured(), scratch=tmp_path, resolver="uv")
    for package in found:
        assert any(target.rank(wheels.tags_of(file.filename)) is not None for file in package.files), package
    names = {"markupsafe"} | ({"colorama"} if target.platform == "win_amd64" else set())
    assert {package.name for package in found} == names | ({"tomli"} if target.python == "3.10" else set())


@pytest.mark.network
@pytest.mark.skipif(not LINUX or platform.machine() != "x86_64", reason="pip resolves for its own platform")
@pytest.mark.parametrize("target", [RUNNING, Target("3.10", "manylinux_2_28_x86_64")], ids=str)
def test_uv_and_pip_find_the_same_on_the_real_index(target: Target, tmp_path: Path) -> None:
    if tools.interpreter(target.python) is None:
        pytest.skip(f"there is no python{target.python} here")

    def found(name: ResolverName) -> list[tuple[str, str | None]]:
        (tmp_path / name).mkdir()
        asked = ["requests==2.31.0", "pyyaml==6.0.1", "rich<13"]
        options = IndexOptions.configured()
        packages = resolve(asked, ["idna<3.7"], target, options=options, scratch=tmp_path / name, resolver=name)
        return sorted((package.name, package.version) for package in packages)

    assert found("uv") == found("pip")


@pytest.mark.network
def test_the_real_index_explains_a_conflict(resolved: Callable[..., dict[str, str]]) -> None:
    with pytest.raises(ResolutionError) as error:
        resolved("requests==2.31.0", "urllib3==1.20", options=IndexOptions.configured())
    text = str(error.value)
    assert "urllib3==1.20" in text
    assert "requests" in text
    assert len(text.splitlines()) < 6


@pytest.mark.network
def test_a_direct_url_that_is_not_there_is_named_however_narrow_the_terminal(
    resolved: Callable[..., dict[str, str]], six_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    url = six_url.partition("/packages/")[0] + "/packages/none/six-1.16.0-py2.py3-none-any.whl"
    with pytest.raises(IndexUnavailableError, match=r"404.*Not Found") as error:
        resolved(f"six @ {url}", options=IndexOptions.configured())
    assert error.value.url == url
