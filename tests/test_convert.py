"""Sources -> wheels, the whole way: one resolution over all that a source holds, for the target, or one clear error."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from conftest import OFFLINE, below, make_wheel, project, runs_in, write_files, write_zip
from depload import IndexOptions, Target
from depload.errors import (
    BuildError,
    DeploadError,
    HashMismatchError,
    IndexUnavailableError,
    InterpreterMissingError,
    InvalidWheelError,
    ProtectedPackageError,
    RequirementsError,
    ResolutionError,
    SourceError,
    StoreError,
    UnrecognisedSourceError,
)
from depload.making import tools
from depload.pipeline import convert, verify
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from depload.making.resolver import ResolverName
    from depload.pipeline import Converted

pytestmark = pytest.mark.usefixtures("temporary")

Files = dict[str, str | bytes]
RUNNING = Target.running()
OTHER = "3.10" if RUNNING.python != "3.10" else "3.12"
needs_other = pytest.mark.skipif(tools.interpreter(OTHER) is None, reason=f"there is no python{OTHER} here")

PACKAGES = {
    "alpha": {"1.0": "", "1.1": "", "2.0": "Requires-Dist: beta>=2\n", "3.0rc1": ""},
    "beta": {"1.0": "", "2.0": ""},
    "asks": {"1.0": "Requires-Dist: pyspark>=3\n"},
    "lacks": {"1.0": "Requires-Dist: nowhere>=1\n"},
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory to find links in."""
    folder = tmp_path_factory.mktemp("index")
    for name, versions in PACKAGES.items():
        for version, metadata in versions.items():
            make_wheel(folder, name, version, {f"{name}.py": f"VERSION = {version!r}\n"}, metadata)
    return folder


@pytest.fixture
def converted(tmp_path: Path, base: Path, index: Path) -> Callable[..., Converted]:
    """Convert a zip of the files, with only ``index`` to find packages in."""

    def run(files: Mapping[str, str | bytes], **more: Any) -> Converted:
        source = write_zip(tmp_path / "source.zip", files)
        more.setdefault("options", IndexOptions(no_index=True, find_links=(str(index),)))
        return convert(source, base, compile=False, **more)

    return run


def versions(found: Converted) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in found.wheels if wheel.name != "user-modules"}


def wheel(tmp_path: Path, name: str, version: str = "1.0", metadata: str = "", tag: str = "py3-none-any") -> Files:
    """A wheel of one module as a file of a source."""
    made = make_wheel(tmp_path / "made", name, version, {f"{name.replace('-', '_')}.py": ""}, metadata)
    return {made.name.replace("py3-none-any", tag): made.read_bytes()}


def sha(index: Path, name: str, algorithm: str = "sha256") -> str:
    path = index / f"{name}-py3-none-any.whl"
    return f"--hash={algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"


# --- one resolution over all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_project_requirements_wheels_and_modules_meet_in_one_answer(
    resolver: ResolverName, tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    found = converted(
        {
            "requirements.txt": "alpha\n",
            **below("orders", project("acme-orders", requires=["beta<2", "local-tool"])),
            **below("wheels", wheel(tmp_path, "local-tool", "5.0")),
            "job.py": "import alpha, acme_orders, local_tool\n",
        },
        resolver=resolver,
    )
    assert versions(found) == {"acme-orders": "1.0", "alpha": "1.1", "beta": "1.0", "local-tool": "5.0"}
    assert found.format == "mixed"
    assert found.warnings == ()
    by_name = {each.name: each for each in found.wheels}
    assert by_name["acme-orders"].origin == "built from orders"
    assert by_name["local-tool"].origin == "wheels/local_tool-5.0-py3-none-any.whl"
    assert [name for name, each in by_name.items() if not each.requested] == ["beta"]


@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_what_wheels_of_the_source_need_and_it_lacks_comes_from_the_index(
    resolver: ResolverName, tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    found = converted(wheel(tmp_path, "local", metadata="Requires-Dist: alpha==2.0\n"), resolver=resolver)
    assert versions(found) == {"alpha": "2.0", "beta": "2.0", "local": "1.0"}


def test_a_source_that_has_all_needs_no_index_and_no_resolver(
    tmp_path: Path, converted: Callable[..., Converted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "uv", lambda: None)
    monkeypatch.setattr(tools, "pip", lambda: None)
    files = {**wheel(tmp_path, "one", metadata="Requires-Dist: two>=1\n"), **wheel(tmp_path, "two")}
    assert versions(converted(files, options=OFFLINE)) == {"one": "1.0", "two": "1.0"}


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize(
    "requirement", ["./acme[fast]", "acme[fast]", "acme[fast] @ ./acme", "./acme[fast] ; python_version > '3'"]
)
def test_extras_of_a_local_project_count(
    requirement: str, resolver: ResolverName, converted: Callable[..., Converted]
) -> None:
    files = below("acme", project("acme", requires=["beta"], extras={"fast": ["alpha<2"], "slow": ["nowhere"]}))
    found = converted({**files, "requirements.txt": f"{requirement}\n"}, resolver=resolver)
    assert versions(found) == {"acme": "1.0", "alpha": "1.1", "beta": "2.0"}


def test_a_project_beside_its_requirements_file_is_built_once(converted: Callable[..., Converted]) -> None:
    files = {**project("acme", extras={"fast": ["alpha<2"]}), "requirements.txt": ".[fast]\nbeta\n"}
    assert versions(converted(files)) == {"acme": "1.0", "alpha": "1.1", "beta": "2.0"}


def test_a_project_that_is_required_by_its_path_is_required_by_name_where_both_are_in_the_source(
    tmp_path: Path, base: Path
) -> None:
    files = {
        **below("app", project("app", requires=["lib[fast] @ file:///somewhere/lib ; python_version > '3'"])),
        **below("lib", project("lib", extras={"fast": ["tool"]})),
        **below("wheels", wheel(tmp_path, "tool")),
    }
    source = write_zip(tmp_path / "source.zip", files)
    one, two = (convert(source, base, options=OFFLINE) for _ in range(2))
    assert versions(one) == {"app": "1.0", "lib": "1.0", "tool": "1.0"}
    assert one.digest == two.digest
    with zipfile.ZipFile(one.wheelhouse) as opened, opened.open("app-1.0-py3-none-any.whl") as inner:
        metadata = zipfile.ZipFile(io.BytesIO(inner.read())).read("app-1.0.dist-info/METADATA").decode()
    assert "Requires-Dist: lib[fast] ; python_version > '3'" in metadata
    verify(one.path)


def test_a_project_that_is_required_by_its_path_must_be_in_the_source(
    base: Path, converted: Callable[..., Converted]
) -> None:
    files = below("app", project("app", requires=["lib @ file:///somewhere/lib"]))
    with pytest.raises(SourceError, match=r"^app requires lib by path, which is not in the source; put that project"):
        converted(files)
    assert runs_in(base) == []


def test_constraints_hold_for_what_only_others_need(tmp_path: Path, converted: Callable[..., Converted]) -> None:
    write_files(tmp_path, {"given.txt": "alpha<1.1\n"})
    files: Files = {"requirements.txt": "-c limits.txt\nalpha\nbeta\n", "limits.txt": "beta<2\n"}
    assert versions(converted(files, constraints=[tmp_path / "given.txt"])) == {"alpha": "1.0", "beta": "1.0"}


def test_a_constraint_against_a_project_of_the_source_is_a_conflict(
    tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    write_files(tmp_path, {"given.txt": "acme<1\n"})
    with pytest.raises(ResolutionError, match="acme"):
        converted(project("acme"), constraints=[tmp_path / "given.txt"])


def test_pre_releases_are_taken_where_the_file_says_so(converted: Callable[..., Converted]) -> None:
    assert versions(converted({"requirements.txt": "--pre\nalpha\n"})) == {"alpha": "3.0rc1"}


def test_find_links_of_the_file_are_folders_of_the_source(tmp_path: Path, converted: Callable[..., Converted]) -> None:
    files = {
        "requirements.txt": "--no-index\n--find-links vendor\nlocal\n",
        **below("vendor", wheel(tmp_path, "local", "2.0")),
    }
    assert versions(converted(files, options=IndexOptions())) == {"local": "2.0"}


def test_the_same_source_gives_the_same_digest(tmp_path: Path, base: Path) -> None:
    source = write_zip(tmp_path / "s.zip", {**project("acme"), "wheels/x": ""})
    one, two = (convert(source, base, options=OFFLINE) for _ in range(2))
    assert one.digest == two.digest
    assert one.path != two.path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deps.zip", "deps"),
        ("deps.ZIP", "deps"),
        ("my deps (1).zip", "my-deps--1"),
        ("requirements.txt", "requirements"),
        ("job.py", "job"),
        ("alpha-1.0-py3-none-any.whl", "alpha"),
        ("folder", "folder"),
        ("folder/pyproject.toml", "folder"),
    ],
)
def test_a_wheelhouse_is_called_after_its_source(name: str, expected: str, tmp_path: Path, base: Path) -> None:
    make_wheel(tmp_path, "alpha", "1.0", {"alpha.py": ""})
    write_files(tmp_path, {"requirements.txt": "./alpha-1.0-py3-none-any.whl\n", "job.py": ""})
    write_files(tmp_path / "folder", project("acme"))
    if name.lower().endswith(".zip"):
        write_zip(tmp_path / name, {"a.py": ""})
    assert convert(tmp_path / name, base, options=OFFLINE).manifest.name == expected


def test_the_directory_that_one_stands_in_has_a_name_too(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_files(tmp_path / "folder", {"a.py": ""}))
    assert convert(".", base, options=OFFLINE).manifest.name == "folder"


# --- the target -----------------------------------------------------------------------------------------------------


def test_lines_for_another_target_do_not_count(converted: Callable[..., Converted]) -> None:
    here, there = f"python_version == '{RUNNING.python}'", "python_version == '3.99'"
    lines = [f"alpha==1.0 ; {here}", f"alpha==1.1 ; {there}", f"nowhere ; {there}", f"pyspark ; {there}"]
    assert versions(converted({"requirements.txt": "\n".join(lines)})) == {"alpha": "1.0"}


def test_a_wheel_by_path_for_another_target_does_not_count(tmp_path: Path, base: Path) -> None:
    source = tmp_path / "source"
    made = make_wheel(source / "wheels", "one", "1.0", {"one.py": ""})
    made.rename(made.with_name(made.name.replace("py3-none-any", "cp39-cp39-win_amd64")))
    make_wheel(source / "wheels", "two", "1.0", {"two.py": ""})
    lines = "wheels/one-1.0-cp39-cp39-win_amd64.whl ; sys_platform == 'nowhere'\nwheels/two-1.0-py3-none-any.whl\n"
    write_files(source, {"requirements.txt": lines})
    found = convert(source / "requirements.txt", base, options=OFFLINE)
    assert versions(found) == {"two": "1.0"}


def test_of_one_version_for_several_targets_the_best_is_taken(
    tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    python = RUNNING.python.replace(".", "")
    best = f"cp{python}-cp{python}-{RUNNING.platform}"
    tags = ["py3-none-any", "cp39-cp39-win_amd64", best, "py2.py3-none-any"]
    files = {name: data for tag in tags for name, data in wheel(tmp_path, "local", tag=tag).items()}
    assert [each.filename for each in converted(files).wheels] == [f"local-1.0-{best}.whl"]


def test_wheels_that_do_not_fit_are_all_named_at_once(tmp_path: Path, converted: Callable[..., Converted]) -> None:
    files = {
        **wheel(tmp_path, "one", tag="cp39-cp39-win_amd64"),
        **wheel(tmp_path, "two", metadata="Requires-Python: >=3.99\n"),
        **wheel(tmp_path, "three"),
    }
    with pytest.raises(InvalidWheelError) as error:
        converted(files)
    assert [fault.where for fault in error.value.faults] == [
        "one-1.0-cp39-cp39-win_amd64.whl",
        "two-1.0-py3-none-any.whl",
    ]


def test_a_wheel_that_asks_for_a_patch_of_the_targets_python_fits_where_no_patch_is_known(
    tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    files = wheel(tmp_path, "local", metadata="Requires-Python: >=3.12.2,<3.13\n")
    assert versions(converted(files, target=Target("3.12", "manylinux_2_17_x86_64"))) == {"local": "1.0"}


@needs_other
@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_another_python_gets_its_own_answer(
    resolver: ResolverName, tmp_path: Path, converted: Callable[..., Converted]
) -> None:
    files: Files = {
        "requirements.txt": f"alpha==1.0 ; python_version == '{OTHER}'\nalpha==1.1 ; python_version != '{OTHER}'\n",
        **wheel(tmp_path, "local", metadata=f"Requires-Dist: beta<2 ; python_version == '{OTHER}'\n"),
    }
    found = converted(files, target=Target(OTHER, RUNNING.platform), resolver=resolver)
    assert versions(found) == {"alpha": "1.0", "beta": "1.0", "local": "1.0"}


# --- hashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_file_with_the_hash_asked_for_is_taken(
    algorithm: str, resolver: ResolverName, index: Path, converted: Callable[..., Converted]
) -> None:
    line = f"alpha==1.0 {sha(index, 'alpha-1.1', algorithm)} {sha(index, 'alpha-1.0', algorithm)}\n"
    assert versions(converted({"requirements.txt": line}, resolver=resolver)) == {"alpha": "1.0"}


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_with_another_hash_is_refused_with_both(
    algorithm: str, resolver: ResolverName, index: Path, base: Path, converted: Callable[..., Converted]
) -> None:
    wrong, right = sha(index, "alpha-1.1", algorithm), sha(index, "alpha-1.0", algorithm)
    with pytest.raises(HashMismatchError) as error:
        converted({"requirements.txt": f"alpha==1.0 {wrong}\n"}, resolver=resolver)
    text = str(error.value)
    assert text.startswith("alpha")
    assert wrong.removeprefix("--hash=") in text
    assert right.removeprefix("--hash=") in text
    assert runs_in(base) == []


def test_each_line_has_its_own_hashes(index: Path, converted: Callable[..., Converted]) -> None:
    lines = (
        f"alpha==1.0 ; python_version == '{RUNNING.python}' {sha(index, 'alpha-1.0')}\n"
        f"alpha==1.1 ; python_version == '3.99' {sha(index, 'alpha-1.1')}\n"
    )
    assert versions(converted({"requirements.txt": lines})) == {"alpha": "1.0"}


def test_a_line_and_its_constraint_must_both_allow_the_hash(index: Path, converted: Callable[..., Converted]) -> None:
    one, other = sha(index, "alpha-1.0"), sha(index, "alpha-1.1")
    files: Files = {"requirements.txt": f"-c c.txt\nalpha {one}\n", "c.txt": f"alpha==1.0 {one} {other}\n"}
    assert versions(converted(files)) == {"alpha": "1.0"}
    files["c.txt"] = f"alpha==1.0 {other}\n"
    with pytest.raises(HashMismatchError, match="the constraint on alpha has another hash"):
        converted(files)
    files["c.txt"] = f"alpha==1.1 {one} {other}\n"
    with pytest.raises(HashMismatchError, match=r"alpha 1\.1"):
        converted(files)


def test_require_hashes_is_for_what_others_need_as_well(index: Path, converted: Callable[..., Converted]) -> None:
    line = f"--require-hashes\nalpha==2.0 {sha(index, 'alpha-2.0')}\n"
    with pytest.raises(RequirementsError, match="beta is needed as well and has no --hash"):
        converted({"requirements.txt": line})
    assert versions(converted({"requirements.txt": f"{line}beta==2.0 {sha(index, 'beta-2.0')}\n"})) == {
        "alpha": "2.0",
        "beta": "2.0",
    }


@pytest.mark.parametrize("line", ["./local-1.0-py3-none-any.whl", "local==1.0", "local @ ./local-1.0-py3-none-any.whl"])
def test_a_wheel_of_the_source_must_have_the_hash_as_well(
    line: str, tmp_path: Path, index: Path, converted: Callable[..., Converted]
) -> None:
    files = {**wheel(tmp_path, "local"), "requirements.txt": f"{line} {sha(index, 'beta-1.0')}\n"}
    with pytest.raises(HashMismatchError, match=r"local-1\.0-py3-none-any\.whl"):
        converted(files)


# --- what belongs to the platform -----------------------------------------------------------------------------------


PYSPARK_LOCK = """\
lock-version = "1.0"
[[packages]]
name = "PySpark"
wheels = [{ url = "https://host/pyspark-1-py3-none-any.whl" }]
"""
NEEDS_PYSPARK = "Requires-Dist: pyspark>=3\n"
PROTECTED: dict[str, tuple[Files, dict[str, str], str, str]] = {
    # files, wheels with metadata, what is protected, who asks
    "by a line": ({"requirements.txt": "alpha\npyspark>=3\n"}, {}, "pyspark", "requirements.txt:2"),
    "by two lines": ({"requirements.txt": "py4j\npy4j>=0\n"}, {}, "py4j", "requirements.txt:1, requirements.txt:2"),
    "by an included line": (
        {"requirements.txt": "-r more.txt\n", "more.txt": "Databricks.Connect\n"},
        {},
        "databricks-connect",
        "more.txt:1",
    ),
    "by a wheel of the source": ({}, {"local": NEEDS_PYSPARK}, "pyspark", "local"),
    "by a project": (project("acme", requires=["pyspark>=3"]), {}, "pyspark", "acme"),
    "by a package of the index": ({"requirements.txt": "asks\n"}, {}, "pyspark", "asks"),
    "by being there": ({}, {"pyspark": ""}, "pyspark", "pyspark-1.0-py3-none-any.whl"),
    "by being there and asked for": (
        {},
        {"pyspark": "", "local": "Requires-Dist: pyspark\n"},
        "pyspark",
        "pyspark-1.0-py3-none-any.whl",
    ),
    "by a lock": ({"pylock.toml": PYSPARK_LOCK}, {}, "pyspark", "pylock.toml"),
}


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("case", PROTECTED)
def test_who_asks_for_what_belongs_to_the_platform_is_named(
    case: str, resolver: ResolverName, tmp_path: Path, base: Path, converted: Callable[..., Converted]
) -> None:
    files, made, package, who = PROTECTED[case]
    for name, metadata in made.items():
        files = {**files, **wheel(tmp_path, name, metadata=metadata)}
    with pytest.raises(ProtectedPackageError) as error:
        converted(files, resolver=resolver)
    assert (error.value.package, ", ".join(error.value.asked_by)) == (package, who)
    assert runs_in(base) == []


# --- what cannot be -------------------------------------------------------------------------------------------------

CANNOT: dict[str, tuple[Files, type[DeploadError], str]] = {
    "a pin that disagrees with the project": (
        {**below("acme", project("acme", "1.2")), "requirements.txt": "acme==9\n"},
        ResolutionError,
        r"acme",
    ),
    "a pin that disagrees with what the project needs": (
        {**below("acme", project("acme", requires=["beta>=2"])), "requirements.txt": "beta==1.0\n"},
        ResolutionError,
        r"(?s)beta.*acme|acme.*beta",
    ),
    "a requirement that is nowhere": ({"requirements.txt": "nowhere\n"}, ResolutionError, "nowhere"),
    "a requirement of a requirement that is nowhere": ({"requirements.txt": "lacks\n"}, ResolutionError, "nowhere"),
    "a requirement of a project that is nowhere": (project("acme", requires=["nowhere"]), ResolutionError, "nowhere"),
    "lines that cannot be used": (
        {"requirements.txt": "-e .\ngit+https://host/x\n../outside\n"},
        RequirementsError,
        r"(?s)requirements\.txt:1.*requirements\.txt:2.*requirements\.txt:3",
    ),
    "a directory with a hash": (
        {**below("acme", project("acme")), "requirements.txt": f"./acme --hash=sha256:{'0' * 64}\n"},
        RequirementsError,
        r"requirements\.txt:1: a directory has no hash; put a wheel of it there",
    ),
    "a backend that fails": (
        {**project("acme"), "backend.py": "raise ValueError('the reason')\n"},
        BuildError,
        "(?s)^the project could not be built.*ValueError: the reason",
    ),
    "a wheel that is none": ({"alpha-1.0-py3-none-any.whl": b"PK"}, InvalidWheelError, "alpha-1.0-py3-none-any.whl: "),
    "a wheel with a name that is none": ({"alpha.whl": b""}, InvalidWheelError, r"alpha\.whl: .*name-version-python"),
    "nothing recognisable": ({"README.md": ""}, UnrecognisedSourceError, r"source\.zip: nothing in it"),
    "two versions of one package": (
        {**below("one", project("acme", "1.0")), **below("two", project("acme", "2.0"))},
        InvalidWheelError,
        r"built from two: acme is there twice: 1\.0 \(built from one\) and 2\.0; keep one",
    ),
}


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_is_one_clear_error_and_nothing_is_left(
    case: str, resolver: ResolverName, tmp_path: Path, base: Path, converted: Callable[..., Converted]
) -> None:
    files, kind, message = CANNOT[case]
    with pytest.raises(kind, match=message) as error:
        converted(files, resolver=resolver)
    assert not re.search(r"depload-\w{8}|Traceback \(most recent call last\):\n.*depload/src", str(error.value))
    assert str(tmp_path / "temporary") not in str(error.value)
    assert runs_in(base) == []


ASKED: dict[str, tuple[Files, list[tuple[str, str]]]] = {
    "three lists": (
        {
            "a/requirements.txt": "alpha==1.0\n",
            "b/requirements.txt": "# newer\nAlpha == 2.0\n",
            "c/requirements.txt": "beta\n",
        },
        [("a/requirements.txt:1", "alpha==1.0"), ("b/requirements.txt:2", "Alpha==2.0")],
    ),
    "a list, its constraints and a project": (
        {
            **below("acme", project("acme", requires=["beta>=2"])),
            "requirements.txt": "-c limits.txt\nbeta\n",
            "limits.txt": "beta<2",
        },
        [
            ("requirements.txt:2", "beta"),
            ("limits.txt:1", "beta<2 (a constraint)"),
            ("acme", "is acme 1.0"),
            ("acme", "requires beta>=2"),
        ],
    ),
}


@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("case", ASKED)
def test_of_a_conflict_it_is_told_where_the_source_asks_for_what(
    case: str, resolver: ResolverName, converted: Callable[..., Converted]
) -> None:
    files, expected = ASKED[case]
    with pytest.raises(ResolutionError) as error:
        converted(files, resolver=resolver)
    assert [tuple(fault) for fault in error.value.asked_by] == expected
    assert "\n".join(f"  - {where}: {what}" for where, what in expected) in str(error.value)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_without_an_index_what_is_missing_is_named(
    tmp_path: Path, base: Path, converted: Callable[..., Converted]
) -> None:
    with pytest.raises(ResolutionError, match=r"(?s)nowhere.*local|local.*nowhere"):
        converted(wheel(tmp_path, "local", metadata="Requires-Dist: nowhere>=1\n"), options=OFFLINE)
    assert runs_in(base) == []


@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_an_index_that_does_not_answer_is_named_and_nothing_is_left(
    resolver: ResolverName, base: Path, converted: Callable[..., Converted]
) -> None:
    options = IndexOptions(index_url="http://127.0.0.1:9/simple", retries=0)
    with pytest.raises(IndexUnavailableError, match=r"^http://127\.0\.0\.1:9/simple/alpha/ could not be read: "):
        converted({"requirements.txt": "alpha\n"}, options=options, resolver=resolver)
    assert runs_in(base) == []


def test_a_project_for_a_python_that_is_not_here_is_refused_by_name(
    base: Path, converted: Callable[..., Converted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "interpreter", lambda _python: None)
    files = below("services/orders", project("acme"))
    with pytest.raises(InterpreterMissingError, match=r"^services/orders must be built from source for Python 3\.14"):
        converted(files, target=Target("3.14", RUNNING.platform))
    assert runs_in(base) == []


@pytest.mark.parametrize("name", ["missing.zip", "missing/requirements.txt"])
def test_a_source_that_is_not_there_is_named(name: str, tmp_path: Path, base: Path) -> None:
    with pytest.raises(SourceError, match=f"{name}: there is no such file or directory"):
        convert(tmp_path / name, base)


def test_a_disk_that_refuses_is_named_and_nothing_is_left(
    tmp_path: Path, base: Path, converted: Callable[..., Converted], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "temporary" / "x"))

    monkeypatch.setattr(wheels, "write", full)
    with pytest.raises(StoreError, match=r"temporary/x: No space left on device; free space .* TMPDIR"):
        converted({"a.py": ""})
    assert runs_in(base) == []


# --- the real index -------------------------------------------------------------------------------------------------


@pytest.mark.network
@pytest.mark.parametrize("runtime", ["14.3", "15.4", "16.4"])
def test_every_wheel_matches_the_runtime_that_was_named(runtime: str, converted: Callable[..., Converted]) -> None:
    target = Target.of(runtime=runtime)
    lines = "markupsafe==3.0.2\npyyaml==6.0.1\ntomli ; python_version < '3.11'\n"
    found = converted({"requirements.txt": lines}, target=target, options=IndexOptions())
    assert all(target.rank(wheels.tags_of(each.filename)) is not None for each in found.wheels)
    python = target.python.replace(".", "")
    assert {each.filename.split("-")[2] for each in found.wheels if each.native} == {f"cp{python}"}
    assert ("tomli" in versions(found)) is (target.python == "3.10")


@pytest.mark.network
def test_uv_and_pip_give_the_same_wheels(tmp_path: Path, base: Path) -> None:
    lines = "requests==2.31.0\nidna<3.7\npyyaml==6.0.1\ndocopt==0.6.2\n"
    source = write_files(tmp_path / "source", {"requirements.txt": lines})
    uv, pip = (convert(source, base, resolver=name, compile=False) for name in ("uv", "pip"))
    assert [(each.filename, each.sha256) for each in uv.wheels] == [(each.filename, each.sha256) for each in pip.wheels]
    assert uv.digest == pip.digest
    by_name = {each.name: each for each in uv.wheels}
    assert by_name["docopt"].origin.endswith("docopt-0.6.2.tar.gz")


@pytest.mark.network
@needs_other
def test_a_package_that_is_only_there_as_source_is_built_for_another_python(
    converted: Callable[..., Converted],
) -> None:
    target = Target(OTHER, RUNNING.platform)
    found = converted({"requirements.txt": "docopt==0.6.2\n"}, target=target, options=IndexOptions())
    assert [each.filename for each in found.wheels] == ["docopt-0.6.2-py2.py3-none-any.whl"]


SIX_HASH = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"


@pytest.mark.network
@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize(
    "line", ["six @ {url}", "{url}", "six @ {url}#sha256={hash}", "six @ {url} --hash=sha256:{hash}"]
)
def test_a_direct_url_is_taken(
    line: str, resolver: ResolverName, six_url: str, converted: Callable[..., Converted]
) -> None:
    text = line.format(url=six_url, hash=SIX_HASH)
    found = converted({"requirements.txt": f"{text}\n"}, options=IndexOptions(), resolver=resolver)
    assert [(each.filename, each.sha256) for each in found.wheels] == [("six-1.16.0-py2.py3-none-any.whl", SIX_HASH)]


@pytest.mark.network
@pytest.mark.parametrize("resolver", ["uv", "pip"])
@pytest.mark.parametrize("line", ["six @ {url}#sha256={hash}", "six @ {url} --hash=sha256:{hash}"])
def test_a_direct_url_with_another_hash_is_refused(
    line: str, resolver: ResolverName, six_url: str, base: Path, converted: Callable[..., Converted]
) -> None:
    text = line.format(url=six_url, hash="0" * 64)
    with pytest.raises(HashMismatchError, match=f"six.*{'0' * 64}.*{SIX_HASH}"):
        converted({"requirements.txt": f"{text}\n"}, options=IndexOptions(), resolver=resolver)
    assert runs_in(base) == []


@pytest.mark.network
@pytest.mark.parametrize("resolver", ["uv", "pip"])
def test_a_project_with_requirements_is_resolved_on_the_real_index(
    resolver: ResolverName, converted: Callable[..., Converted]
) -> None:
    files = {**below("acme", project("acme", requires=["idna<3.5"])), "requirements.txt": "requests==2.31.0\n"}
    found = converted(files, options=IndexOptions(), resolver=resolver)
    assert versions(found)["idna"] == "3.4"
    assert versions(found)["acme"] == "1.0"
