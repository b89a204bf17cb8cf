"""What a source is taken for: formats, roots, what is passed over and why, warnings."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from conftest import OFFLINE, make_wheel, write_files, write_zip
from depload import detect
from depload.errors import ArchiveError, UnrecognisedSourceError
from depload.pipeline import convert
from depload.standards.archive import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from depload.source.formats import Detection

Files = dict[str, str | bytes]

PROJECT = '[project]\nname = "acme"\nversion = "1.0"\n'
SETTINGS = "[tool.ruff]\nline-length = 100\n"
SETUP = "from setuptools import setup\nsetup(name='acme', version='1.0')\n"
MODULE = "ANSWER = 42\n"


def whl(name: str = "alpha", version: str = "1.0") -> bytes:
    """A wheel as bytes, for zips that are made in memory."""
    with TemporaryDirectory() as folder:
        return make_wheel(Path(folder), name, version, {f"{name}.py": MODULE}).read_bytes()


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return buffer.getvalue()


def tar_gz(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


def detected(tmp_path: Path, files: Mapping[str, str | bytes]) -> Detection:
    """What a zip of these files is detected as, and that the same as a directory says the same."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "source").mkdir()
    as_zip = detect(write_zip(tmp_path / "source.zip", files))
    as_directory = detect(write_files(tmp_path / "source", files))
    assert as_zip.to_json() == as_directory.to_json()
    return as_zip


def roots(found: Detection) -> list[tuple[str, str]]:
    return [(root.kind, root.path) for root in found.roots]


def ignored(found: Detection) -> dict[str, str]:
    return {item.path: item.why for item in found.ignored}


# --- formats --------------------------------------------------------------------------------------------------------

WHEEL = "alpha-1.0-py3-none-any.whl"
FORMATS: dict[str, tuple[Files, str, list[tuple[str, str]]]] = {
    "a requirements file": ({"requirements.txt": "six\n"}, "requirements", [("requirements", "requirements.txt")]),
    "a lock": ({"pylock.toml": ""}, "requirements", [("pylock", "pylock.toml")]),
    "modules": ({"calculator.py": MODULE, "utils/helpers.py": MODULE}, "pure_python", [("modules", ".")]),
    "modules with data": ({"a.py": MODULE, "data/rates.json": "{}"}, "pure_python", [("modules", ".")]),
    "modules and settings of tools": ({"a.py": MODULE, "pyproject.toml": SETTINGS}, "pure_python", [("modules", ".")]),
    "modules, one of them called setup": ({"setup.py": "X = 1\n", "a.py": MODULE}, "pure_python", [("modules", ".")]),
    "a project": ({"pyproject.toml": PROJECT, "acme.py": MODULE}, "packaged", [("project", ".")]),
    "a project with a byte order mark": (
        {"pyproject.toml": b"\xef\xbb\xbf" + PROJECT.encode(), "acme.py": MODULE},
        "packaged",
        [("project", ".")],
    ),
    "a setup.py": ({"setup.py": SETUP, "acme.py": MODULE}, "packaged", [("project", ".")]),
    "a setup.cfg": ({"setup.cfg": "[metadata]\nname = acme\n", "acme.py": MODULE}, "packaged", [("project", ".")]),
    "a poetry project": ({"pyproject.toml": '[tool.poetry]\nname = "acme"\n'}, "packaged", [("project", ".")]),
    "only a build system": ({"pyproject.toml": "[build-system]\nrequires = []\n"}, "packaged", [("project", ".")]),
    "a setup.cfg for tools": (
        {"setup.cfg": "[flake8]\nmax-line-length = 100\n", "a.py": MODULE},
        "pure_python",
        [("modules", ".")],
    ),
    "an sdist": (
        {"acme-1.0.tar.gz": tar_gz({"acme-1.0/PKG-INFO": "", "acme-1.0/setup.py": SETUP})},
        "packaged",
        [("sdist", "acme-1.0.tar.gz")],
    ),
    "wheels": ({WHEEL: whl()}, "wheels", [("wheel", WHEEL)]),
    "requirements beside modules": (
        {"requirements.txt": "six\n", "a.py": MODULE},
        "mixed",
        [("modules", "."), ("requirements", "requirements.txt")],
    ),
    "requirements beside a project": (
        {"requirements.txt": "six\n", "pyproject.toml": PROJECT},
        "mixed",
        [("project", "."), ("requirements", "requirements.txt")],
    ),
    "requirements beside a project in a folder": (
        {"requirements.txt": "six\n", "lib/pyproject.toml": PROJECT},
        "mixed",
        [("project", "lib"), ("requirements", "requirements.txt")],
    ),
    "a lock beside a project": (
        {"pylock.toml": "", "pyproject.toml": PROJECT},
        "mixed",
        [("project", "."), ("pylock", "pylock.toml")],
    ),
    "wheels beside a project": (
        {"pyproject.toml": PROJECT, f"wheels/{WHEEL}": whl()},
        "mixed",
        [("project", "."), ("wheel", f"wheels/{WHEEL}")],
    ),
    "wheels beside modules": ({WHEEL: whl(), "a.py": MODULE}, "mixed", [("modules", "."), ("wheel", WHEEL)]),
    "requirements and wheels in a folder": (
        {"requirements.txt": "alpha\n", f"wheels/{WHEEL}": whl()},
        "mixed",
        [("requirements", "requirements.txt"), ("wheel", f"wheels/{WHEEL}")],
    ),
    "a project below a folder": ({"acme-main/pyproject.toml": PROJECT}, "nested", [("project", "acme-main")]),
    "requirements two folders down": (
        {"a/b/requirements.txt": "six\n"},
        "nested",
        [("requirements", "a/b/requirements.txt")],
    ),
    "wheels below a folder": ({f"wheels/{WHEEL}": whl()}, "nested", [("wheel", f"wheels/{WHEEL}")]),
    "projects in sibling folders": (
        {"one/pyproject.toml": PROJECT, "two/setup.py": SETUP, "README.md": "# both\n"},
        "nested",
        [("project", "one"), ("project", "two")],
    ),
    "a zip in the zip": (
        {"inner.zip": zipped({"requirements.txt": "six\n"})},
        "nested",
        [("requirements", "inner.zip!/requirements.txt")],
    ),
    "a zip in upper case": ({"INNER.ZIP": zipped({"a.py": MODULE})}, "nested", [("modules", "INNER.ZIP!/")]),
    "modules beside a zip of modules": (
        {"a.py": MODULE, "inner.zip": zipped({"inner-1.0/b.py": MODULE})},
        "nested",
        [("modules", "."), ("modules", "inner.zip!/inner-1.0")],
    ),
}


@pytest.mark.parametrize("case", FORMATS)
def test_a_source_is_named_by_what_it_holds_and_where(case: str, tmp_path: Path) -> None:
    files, expected, where = FORMATS[case]
    found = detected(tmp_path, files)
    assert (found.format, roots(found)) == (expected, where)


def test_a_wheel_that_lies_deep_in_a_project_is_data_of_the_project(tmp_path: Path) -> None:
    found = detected(tmp_path, {"pyproject.toml": PROJECT, f"src/acme/bundled/{WHEEL}": whl(), "src/acme/a.py": MODULE})
    assert roots(found) == [("project", ".")]


def test_what_lies_below_a_project_belongs_to_it(tmp_path: Path) -> None:
    found = detected(
        tmp_path,
        {
            "pyproject.toml": PROJECT,
            "examples/small/setup.py": SETUP,
            "docs/requirements.txt": "sphinx\n",
            "tests/data.zip": zipped({"requirements.txt": "six\n"}),
            ".github/workflows/test.yml": "",
        },
    )
    assert roots(found) == [("project", ".")]
    assert not found.ignored


def test_members_of_a_uv_workspace_are_projects_too(tmp_path: Path) -> None:
    workspace = '[tool.uv.workspace]\nmembers = ["packages/*", "packages/one"]\nexclude = ["packages/old"]\n'
    found = detected(
        tmp_path,
        {
            "pyproject.toml": PROJECT + workspace,
            "packages/one/pyproject.toml": PROJECT,
            "packages/two/pyproject.toml": PROJECT,
            "packages/old/pyproject.toml": PROJECT,
            "packages/notes/readme.txt": "no project",
            "scripts/pyproject.toml": PROJECT,
        },
    )
    assert roots(found) == [("project", "."), ("project", "packages/one"), ("project", "packages/two")]


@pytest.mark.parametrize(
    "members",
    ['["../*"]', '["/etc"]', '[""]', '"packages/*"', "[1, {}]", '["**"]', "3"],
)
def test_a_workspace_that_makes_no_sense_finds_nothing_outside_of_the_source(members: str, tmp_path: Path) -> None:
    write_files(tmp_path, {"outside/pyproject.toml": PROJECT})
    found = detected(tmp_path, {"pyproject.toml": f"{PROJECT}[tool.uv.workspace]\nmembers = {members}\n"})
    assert roots(found) == [("project", ".")]


@pytest.mark.parametrize("content", ["tool = 1\n", "[tool]\nuv = 1\npoetry = 2\n", "project = 1\n", "[" * 5000, "\x00"])
def test_a_pyproject_of_odd_types_is_no_crash(content: str, tmp_path: Path) -> None:
    found = detected(tmp_path, {"pyproject.toml": content, "a.py": MODULE})
    assert roots(found) in ([("project", ".")], [("modules", ".")])


@pytest.mark.parametrize(
    "declared",
    [
        '[tool.uv.sources]\nlib = { path = "libs/lib", editable = true }\n',
        '[tool.uv.sources]\nlib = [{ path = "libs/lib", marker = "a" }, { index = "x" }]\n',
        '[tool.poetry.dependencies]\nlib = { path = "./libs/lib", develop = true }\nother = "^1"\n',
        '[tool.poetry.dependencies]\nlib = { path = "libs/lib" }\nout = { path = "../lib" }\nno = { path = "no" }\n',
    ],
)
def test_a_project_that_another_declares_by_its_path_is_one_too(declared: str, tmp_path: Path) -> None:
    found = detected(tmp_path, {"pyproject.toml": PROJECT + declared, "libs/lib/pyproject.toml": PROJECT})
    assert roots(found) == [("project", "."), ("project", "libs/lib")]


def test_projects_that_declare_each_other_are_found_once(tmp_path: Path) -> None:
    path = '[tool.uv.sources]\nx = {{ path = "../{}" }}\n'.format
    found = detected(tmp_path, {"a/pyproject.toml": PROJECT + path("b"), "b/pyproject.toml": PROJECT + path("a")})
    assert roots(found) == [("project", "a"), ("project", "b")]


# --- wrappers and single folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "importable"),
    [
        pytest.param({"tools/a.py": MODULE, "tools/b.py": MODULE}, {"a", "b"}, id="a plain folder wraps"),
        pytest.param({"acme-main/x/a.py": MODULE}, {"a"}, id="two plain folders wrap"),
        pytest.param({"mylib/__init__.py": "", "mylib/a.py": MODULE}, {"mylib"}, id="a package does not"),
        pytest.param(
            {"mylib/a.py": "from mylib.b import X\n", "mylib/b.py": "X = 1\n"},
            {"mylib"},
            id="nor does a folder that its modules import by name",
        ),
        pytest.param(
            {"mylib/sub/a.py": "import mylib.b\n", "mylib/b.py": "X = 1\n"}, {"mylib"}, id="wherever they are"
        ),
        pytest.param(
            {"acme-main/__init__.py": "", "acme-main/a.py": MODULE},
            {"__init__", "a"},
            id="a name that cannot be imported wraps",
        ),
        pytest.param(
            {"user_modules/a.py": "from user_modules import b\n", "user_modules/b.py": MODULE},
            {"a", "b"},
            id="a folder that is called user_modules already is it",
        ),
        pytest.param({"tools/a.py": MODULE, "README.md": ""}, {"tools"}, id="a folder beside something is a folder"),
        pytest.param({"tools/a.py": MODULE, ".DS_Store": ""}, {"a"}, id="but junk is nothing"),
    ],
)
def test_the_folder_where_a_source_begins(files: Files, importable: set[str], tmp_path: Path) -> None:
    found = detected(tmp_path, files)
    below = {module.below.split("/")[0].removesuffix(".py") for root in found.roots for module in root.modules()}
    assert below == importable


def test_a_folder_with_a_list_of_its_own_is_a_source_of_its_own(tmp_path: Path) -> None:
    found = detected(
        tmp_path, {"backend/requirements.txt": "six\n", "backend/app.py": MODULE, "frontend/index.html": "<html>"}
    )
    assert roots(found) == [("modules", "backend"), ("requirements", "backend/requirements.txt")]


def test_several_such_folders_are_importable_by_their_names_for_they_would_hide_one_another(tmp_path: Path) -> None:
    found = detected(
        tmp_path,
        {
            "orders/requirements.txt": "six\n",
            "orders/main.py": MODULE,
            "billing/requirements.txt": "six\n",
            "billing/main.py": MODULE,
        },
    )
    modules = next(root for root in found.roots if root.kind == "modules")
    assert [module.below for module in modules.modules()] == ["billing/main.py", "orders/main.py"]


# --- zips in zips ---------------------------------------------------------------------------------------------------


def _nested(depth: int) -> Files:
    files: Files = {"a.py": MODULE}
    for _ in range(depth):
        files = {"inner.zip": zipped(files)}
    return files


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_zips_in_zips_are_opened_down_to_the_limit(depth: int, tmp_path: Path) -> None:
    found = detect(write_zip(tmp_path / "s.zip", _nested(depth)))
    assert roots(found) == [("modules", "inner.zip!/" * depth)]


def test_a_zip_below_the_limit_is_refused_by_its_place(tmp_path: Path) -> None:
    source = write_zip(tmp_path / "s.zip", _nested(4))
    with pytest.raises(ArchiveError, match=r"(?s)^(?:inner\.zip!/){3}inner\.zip is .*deeper than the limit"):
        detect(source)
    assert detect(source, limits=Limits(depth=4)).format == "nested"


def test_a_damaged_zip_inside_is_named_by_its_place(tmp_path: Path) -> None:
    inner = zipped({"a.py": MODULE})
    with pytest.raises(ArchiveError, match=r"^outer\.zip!/inner\.zip is not an archive"):
        detect(write_zip(tmp_path / "s.zip", {"outer.zip": zipped({"inner.zip": inner[:-30]})}))


def test_a_zip_without_anything_recognisable_is_data(tmp_path: Path) -> None:
    found = detected(tmp_path, {"a.py": MODULE, "model.zip": zipped({"weights.bin": "0101"})})
    assert [file.name for file in found.roots[0].files] == ["a.py", "model.zip"]


def test_a_wheelhouse_is_taken_by_its_wheels(tmp_path: Path, base: Path) -> None:
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": MODULE})
    published = convert(tmp_path / "wheels", base, options=OFFLINE)
    found = detect(published.wheelhouse)
    assert (found.format, roots(found)) == ("wheels", [("wheel", WHEEL)])
    assert ignored(found)["pylock.toml"] == "what depload adds to a wheelhouse"
    again = convert(published.wheelhouse, base, options=OFFLINE)
    assert (again.digest, Path(again.wheelhouse).name) == (published.digest, "wheels.wheelhouse.zip")


# --- what is passed over --------------------------------------------------------------------------------------------

PASSED_OVER: dict[str, tuple[str | bytes, str, str]] = {
    "__pycache__/a.cpython-311.pyc": (b"", "__pycache__", "bytecode cache"),
    "b.pyc": (b"", "b.pyc", "bytecode cache"),
    "__MACOSX/._a.py": (b"", "__MACOSX", "macOS metadata"),
    "._a.py": (b"", "._a.py", "macOS metadata"),
    ".DS_Store": (b"", ".DS_Store", "macOS metadata"),
    "Thumbs.db": (b"", "Thumbs.db", "Windows metadata"),
    ".git/HEAD": ("ref: main", ".git", "version control"),
    ".vscode/settings.json": ("{}", ".vscode", "editor settings"),
    ".ipynb_checkpoints/a.py": (MODULE, ".ipynb_checkpoints", "notebook checkpoints"),
    ".env": ("TOKEN=secret", ".env", "hidden; settings and secrets of tools"),
    ".github/workflow.yml": ("", ".github", "hidden; settings of tools"),
    "venv/pyvenv.cfg": ("home = /usr", "venv", "a virtual environment"),
    "env/conda-meta/history": ("", "env", "a virtual environment"),
    "acme.egg-info/PKG-INFO": ("", "acme.egg-info", "build leftovers"),
    "acme-1.0.dist-info/METADATA": ("", "acme-1.0.dist-info", "build leftovers"),
    "node_modules/x/index.js": ("", "node_modules", "JavaScript packages"),
    "tox.ini": ("[tox]", "tox.ini", "settings of tools"),
    "requirements-dev.txt": ("pytest\n", "requirements-dev.txt", "only requirements.txt is read"),
    "constraints.txt": ("six<2\n", "constraints.txt", "constraints are read where a requirements.txt says so"),
    "uv.lock": ("", "uv.lock", "uv's list is not read; export a requirements.txt or a pylock.toml"),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_does_not_belong_is_left_out_and_listed_with_the_reason(name: str, tmp_path: Path) -> None:
    content, path, why = PASSED_OVER[name]
    found = detected(tmp_path, {"a.py": MODULE, name: content})
    assert list(ignored(found)) == [path]
    assert ignored(found)[path].startswith(why)
    assert [file.name for root in found.roots for file in root.files] == ["a.py"]


def test_links_of_a_directory_are_left_out(tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", {"a.py": MODULE})
    (source / "passwords.txt").symlink_to("/etc/passwd")
    assert ignored(detect(source)) == {"passwords.txt": "a link"}


def test_what_an_earlier_build_left_in_a_project_is_no_source(tmp_path: Path) -> None:
    found = detected(tmp_path, {"pyproject.toml": PROJECT, f"dist/{WHEEL}": whl(), "build/lib/acme.py": MODULE})
    assert roots(found) == [("project", ".")]
    assert set(ignored(found)) == {"build", "dist"}


def test_a_package_of_a_project_may_be_called_build(tmp_path: Path) -> None:
    assert not detected(tmp_path, {"pyproject.toml": PROJECT, "build/__init__.py": ""}).ignored


def test_other_files_beside_lists_are_told_a_line_each_folder(tmp_path: Path) -> None:
    found = detected(
        tmp_path,
        {
            "requirements.txt": "six\n",
            "README.md": "",
            "explore.ipynb": "{}",
            "data/2024/a.csv": "",
            "data/2024/b.csv": "",
            "data/c.csv": "",
        },
    )
    assert ignored(found) == {
        "README.md": "not Python",
        "explore.ipynb": "a notebook; only .py modules can be imported",
        "data": "3 files, none of them Python",
    }


# --- requirements files by name -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["requirements.txt"], ["requirements.txt"]),
        (["Requirements.TXT"], ["Requirements.TXT"]),
        (["requirements-cluster.txt"], ["requirements-cluster.txt"]),
        (["my_requirements.txt"], ["my_requirements.txt"]),
        (["requirements.txt", "requirements-gpu.txt"], ["requirements.txt"]),
        (["requirements-prod.txt", "requirements-dev.txt"], ["requirements-prod.txt"]),
        (["requirements-latest.txt"], ["requirements-latest.txt"]),
        (["requirements/base.txt", "requirements/dev.txt"], ["requirements/base.txt"]),
        (["pylock.toml", "pylock.gpu.toml"], ["pylock.toml"]),
        (["pylock.gpu.toml", "pylock.dev.toml"], ["pylock.gpu.toml"]),
    ],
)
def test_which_list_is_read(names: list[str], read: list[str], tmp_path: Path) -> None:
    found = detected(tmp_path, {"a.py": MODULE, **dict.fromkeys(names, "")})
    assert [root.path for root in found.roots if root.kind != "modules"] == read
    assert set(ignored(found)) == {*names} - {*read}


def test_where_several_lists_could_count_none_does_and_that_is_a_warning(tmp_path: Path) -> None:
    found = detected(tmp_path, {"a.py": MODULE, "requirements-cpu.txt": "", "requirements-gpu.txt": ""})
    assert [root.kind for root in found.roots] == ["modules"]
    assert found.warnings == (
        "none of requirements-cpu.txt, requirements-gpu.txt is read; name the one that counts requirements.txt",
    )


def test_beside_a_project_only_requirements_txt_counts(tmp_path: Path) -> None:
    found = detected(tmp_path, {"pyproject.toml": PROJECT, "requirements-mypy.txt": "mypy\n"})
    assert roots(found) == [("project", ".")]
    assert not found.warnings


@pytest.mark.parametrize("name", ["Pipfile", "poetry.lock", "environment.yml", "requirements.in"])
def test_a_list_that_is_not_read_is_a_warning_where_modules_may_need_it(name: str, tmp_path: Path) -> None:
    alone = detected(tmp_path, {"a.py": MODULE, name: ""})
    assert [warning.partition(":")[0] for warning in alone.warnings] == [name]
    assert not detected(tmp_path / "two", {"a.py": MODULE, name: "", "requirements.txt": ""}).warnings


# --- nothing to make wheels of --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "s.zip: it is empty; hand over"),
        (
            {"README.md": "# nothing"},
            "s.zip: nothing in it can be made into a wheel; passed over: README.md (not Python)",
        ),
        ({"a.ipynb": "{}"}, "a.ipynb (a notebook; only .py modules can be imported)"),
        ({"env/environment.yml": ""}, "env/environment.yml (conda's list is not read; export a requirements.txt"),
        ({"Pipfile": "", "Pipfile.lock": ""}, "Pipfile (pipenv's list is not read"),
        ({"__MACOSX/._x": b""}, "passed over: __MACOSX (macOS metadata)"),
        ({f"{at}.csv": "" for at in range(9)}, "and 4 more"),
        ({"model-2.tar.gz": tar_gz({"model/weights": "0101"})}, "model-2.tar.gz (no sdist, and"),
        ({"broken-2.tar.gz": b"\x1f\x8bnothing"}, "broken-2.tar.gz (no sdist, and"),
    ],
)
def test_a_source_without_anything_to_make_wheels_of_says_what_it_has(
    files: Files, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnrecognisedSourceError) as error:
        detect(write_zip(tmp_path / "s.zip", files))
    assert message in str(error.value)
    assert str(tmp_path) not in str(error.value)


# --- single files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("requirements.txt", "six\n", ("requirements", [("requirements", "requirements.txt")])),
        ("deps.in", "six\n", ("requirements", [("requirements", "deps.in")])),
        ("notes.txt", "six\n", ("requirements", [("requirements", "notes.txt")])),
        ("pylock.toml", "", ("requirements", [("pylock", "pylock.toml")])),
        ("calculator.py", MODULE, ("pure_python", [("modules", "calculator.py")])),
        (WHEEL, whl(), ("wheels", [("wheel", WHEEL)])),
        ("acme-1.0.tar.gz", tar_gz({"acme-1.0/setup.py": SETUP}), ("packaged", [("sdist", "acme-1.0.tar.gz")])),
        ("pyproject.toml", PROJECT, ("packaged", [("project", ".")])),
        ("setup.py", SETUP, ("packaged", [("project", ".")])),
    ],
)
def test_a_file_is_a_source_as_well(
    name: str, content: str | bytes, expected: tuple[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    write_files(tmp_path, {name: content})
    found = detect(tmp_path / name)
    assert (found.format, roots(found)) == expected


@pytest.mark.parametrize("name", ["settings.toml", "backup-1.0.tar.gz"])
def test_a_file_of_another_sort_is_named(name: str, tmp_path: Path) -> None:
    write_files(tmp_path, {name: ""})
    with pytest.raises(UnrecognisedSourceError, match=f"^{name}: nothing in it can be made into a wheel"):
        detect(tmp_path / name)


def test_what_lies_beside_a_single_module_does_not_come_along_and_its_import_is_a_warning(tmp_path: Path) -> None:
    write_files(tmp_path, {"calculator.py": "import helpers\n", "helpers.py": ""})
    found = detect(tmp_path / "calculator.py")
    assert [file.name for file in found.roots[0].files] == ["calculator.py"]
    assert found.warnings == ("calculator.py:1: imports helpers, which nothing in the source provides",)


# --- imports that nothing provides ----------------------------------------------------------------------------------


def _warned(tmp_path: Path, code: str, **more: str) -> list[str]:
    files: Files = {"calculator.py": code, **{f"{name}.py": text for name, text in more.items()}}
    return list(detected(tmp_path, files).warnings)


def test_an_import_that_nothing_provides_is_told_with_file_line_and_module(tmp_path: Path) -> None:
    assert _warned(tmp_path, "import os\n\nimport numpy.linalg\n") == [
        "calculator.py:3: imports numpy, which nothing in the source provides"
    ]


def test_one_sentence_for_all_the_places_that_import_a_name(tmp_path: Path) -> None:
    found = _warned(tmp_path, "import numpy\n", other="def f():\n    import numpy\n\nfrom numpy import x\n")
    assert found == ["calculator.py:1: imports numpy, which nothing in the source provides (2 more)"]


@pytest.mark.parametrize(
    "code",
    [
        "import numpy\n",
        "def f():\n    import numpy\n",
        "class A:\n    from numpy import array\n",
        "if True:\n    import numpy\n",
        "try:\n    import numpy\nfinally:\n    pass\n",
        "try:\n    import numpy\nexcept ValueError:\n    pass\n",
        "with open('x') as f:\n    import numpy\n",
        "async def f():\n    async with x:\n        import numpy\n",
    ],
)
def test_an_import_must_work_wherever_it_stands(code: str, tmp_path: Path) -> None:
    assert len(_warned(tmp_path, code)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n",
        "try:\n    import numpy\nexcept (ModuleNotFoundError, AttributeError):\n    numpy = None\n",
        "try:\n    import numpy\nexcept Exception:\n    numpy = None\n",
        "try:\n    import numpy\nexcept:\n    numpy = None\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n",
        "import typing as t\nif t.TYPE_CHECKING:\n    import numpy\n",
        "from contextlib import suppress\nwith suppress(ImportError):\n    import numpy\n",
        "import sys\nif sys.version_info < (3, 11):\n    import tomli\nelse:\n    import tomllib\n",
        "import sys\nif sys.platform == 'win32':\n    import winreg\n    import pywintypes\n",
        "from . import numpy\n",
        "import json, pyspark, user_modules\nfrom pyspark.sql import functions\nfrom databricks.sdk import x\n",
        "import calculator, other\n",
    ],
)
def test_an_import_that_may_fail_or_that_is_there_is_not_told(code: str, tmp_path: Path) -> None:
    assert _warned(tmp_path, code, other="") == []


def test_folders_are_imported_from_where_they_are(tmp_path: Path) -> None:
    files: Files = {
        "main.py": "import utils.helpers\n",
        "utils/helpers.py": "import tables\n",
        "utils/tables.py": "import main\n",
        "other/job.py": "import tables\n",
        "data/sets.csv": "",
        "late.py": "import data\n",
    }
    found = detected(tmp_path, files)
    assert [warning.partition(",")[0] for warning in found.warnings] == [
        "late.py:1: imports data",
        "other/job.py:1: imports tables",
    ]


def test_a_module_that_cannot_be_parsed_is_told_and_no_warning_of_the_parser_is_seen(tmp_path: Path) -> None:
    found = _warned(tmp_path, "print 'Python 2'\n", other="PATTERN = '\\d'\n")
    assert len(found) == 1
    assert found[0].startswith("calculator.py:1: Python 3.")
    assert found[0].endswith("so importing it will fail")


@pytest.mark.parametrize("content", [b"\x00", b"\xff\xfe", "(" * 3000, "x = " + "-" * 100_000 + "1\n"])
def test_modules_that_break_the_parser_break_nothing_else(content: str | bytes, tmp_path: Path) -> None:
    assert detect(write_zip(tmp_path / "s.zip", {"a.py": content})).format == "pure_python"


def test_what_wheels_and_requirements_bring_is_not_warned_of(tmp_path: Path, base: Path) -> None:
    make_wheel(tmp_path / "s", "py-yaml", "1.0", {"yaml/__init__.py": ""})
    write_files(tmp_path / "s", {"job.py": "import yaml\nimport yaml.loader\nimport numpy\n"})
    converted = convert(tmp_path / "s", base, options=OFFLINE)
    assert converted.warnings == ("job.py:3: imports numpy, which nothing in the source provides",)


# --- installed packages ---------------------------------------------------------------------------------------------


def _installed(name: str = "alpha", version: str = "1.0", tag: str = "py3-none-any") -> Files:
    dist_info = f"{name}-{version}.dist-info"
    return {
        f"{name}/__init__.py": f"VERSION = '{version}'\n",
        f"{name}/__pycache__/__init__.cpython-311.pyc": b"",
        f"{name}/setup.py": "from setuptools import setup\n",
        f"{dist_info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{dist_info}/WHEEL": f"Wheel-Version: 1.0\nTag: {tag}\n",
        f"{dist_info}/INSTALLER": "pip\n",
        f"{dist_info}/RECORD": dedent(f"""\
            ../../bin/{name},,
            bin/{name},,
            {name}/__init__.py,,
            {name}/setup.py,,
            {name}/gone.py,,
            {name}/__pycache__/__init__.cpython-311.pyc,,
            {dist_info}/METADATA,,
            {dist_info}/RECORD,,
            /etc/passwd,,
            """),
        f"bin/{name}": "#!/usr/bin/python\n",
    }


def test_packages_that_somebody_installed_are_found(tmp_path: Path) -> None:
    found = detected(tmp_path, {**_installed("alpha"), **_installed("beta")})
    assert found.format == "wheels"
    assert roots(found) == [("installed", "alpha-1.0.dist-info"), ("installed", "beta-1.0.dist-info")]
    assert ignored(found) == {"bin": "scripts of installed packages"}


def test_modules_beside_installed_packages_are_modules(tmp_path: Path) -> None:
    layer = {f"python/{name}": content for name, content in _installed().items()}
    found = detected(tmp_path, {**layer, "python/handler.py": "import alpha\n"})
    assert roots(found) == [("modules", "python"), ("installed", "python/alpha-1.0.dist-info")]
    modules = next(root for root in found.roots if root.kind == "modules")
    assert [file.name for file in modules.files] == ["handler.py"]


def test_installed_packages_become_the_wheels_that_they_were(tmp_path: Path, base: Path) -> None:
    source = write_zip(tmp_path / "layer.zip", {**_installed(), "handler.py": "import alpha\nimport numpy\n"})
    converted = convert(source, base, options=OFFLINE)
    assert [(wheel.filename, wheel.names) for wheel in converted.wheels if wheel.name == "alpha"] == [
        (WHEEL, ("alpha",))
    ]
    assert converted.warnings == ("handler.py:2: imports numpy, which nothing in the source provides",)
