"""Projects, sdists and loose modules -> wheels: every backend, isolated, repeatable, and told where it fails."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from conftest import OFFLINE, below, make_wheel, project, runs_in, write_files, write_zip
from depload import IndexOptions, Target
from depload.errors import (
    BuildError,
    DeploadError,
    IndexUnavailableError,
    InterpreterMissingError,
    InvalidWheelError,
    SourceError,
    ToolMissingError,
)
from depload.making import tools
from depload.making.builder import Buildable, build
from depload.pipeline import convert
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Mapping

Files = dict[str, str | bytes]
RUNNING = Target.running()
CODE = "ANSWER = 42\n"


pytestmark = pytest.mark.usefixtures("temporary")


def built(
    tmp_path: Path, files: Mapping[str, str | bytes], target: Target = RUNNING, options: IndexOptions | None = None
) -> Path:
    """The wheel of a project made of the files."""
    source = write_files(tmp_path / "project", files)
    (found,) = build([Buildable(source, "the project")], target, options=_with(options), to=tmp_path / "work")
    return found


def _with(options: IndexOptions | None) -> IndexOptions:
    return IndexOptions.configured() if options is None else options


def modules(wheel: Path) -> list[str]:
    return [name for name in wheels.read(wheel).files if ".dist-info" not in name]


def with_code(code: str) -> Files:
    """A project whose backend runs the code first."""
    files = project("acme")
    return {**files, "backend.py": f"{code}\n{dedent(str(files['backend.py']))}"}


def pyproject(requires: str, backend: str, more: str = "") -> str:
    return (
        f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n\n'
        f'[project]\nname = "acme"\nversion = "1.0"\ndescription = "x"\n{more}'
    )


# --- backends -------------------------------------------------------------------------------------------------------

BACKENDS: dict[str, Files] = {
    "setuptools": {"pyproject.toml": pyproject("setuptools>=61", "setuptools.build_meta"), "acme/__init__.py": CODE},
    "setuptools, src layout": {
        "pyproject.toml": pyproject("setuptools>=61", "setuptools.build_meta"),
        "src/acme/__init__.py": CODE,
        "tests/test_acme.py": "",
    },
    "setuptools, one module": {
        "pyproject.toml": pyproject("setuptools>=61", "setuptools.build_meta"),
        "acme.py": CODE,
    },
    "setup.py only": {
        "setup.py": "from setuptools import setup\nsetup(name='acme', version='1.0', packages=['acme'])\n",
        "acme/__init__.py": CODE,
    },
    "setup.cfg only": {
        "setup.cfg": "[metadata]\nname = acme\nversion = 1.0\n[options]\npackages = acme\n",
        "acme/__init__.py": CODE,
    },
    "only a project table": {
        "pyproject.toml": '[project]\nname = "acme"\nversion = "1.0"\n',
        "acme/__init__.py": CODE,
    },
    "hatchling": {"pyproject.toml": pyproject("hatchling", "hatchling.build"), "src/acme/__init__.py": CODE},
    "flit": {"pyproject.toml": pyproject("flit_core>=3.4", "flit_core.buildapi"), "acme/__init__.py": CODE},
    "poetry": {
        "pyproject.toml": """\
            [build-system]
            requires = ["poetry-core"]
            build-backend = "poetry.core.masonry.api"
            [tool.poetry]
            name = "acme"
            version = "1.0"
            description = "x"
            authors = []
            """,
        "acme/__init__.py": CODE,
    },
    "poetry, which does not say so": {
        "pyproject.toml": '[tool.poetry]\nname = "acme"\nversion = "1.0"\ndescription = "x"\nauthors = []\n',
        "acme/__init__.py": CODE,
    },
    "pdm": {"pyproject.toml": pyproject("pdm-backend", "pdm.backend"), "src/acme/__init__.py": CODE},
    "uv": {"pyproject.toml": pyproject("uv_build", "uv_build"), "src/acme/__init__.py": CODE},
    "a backend of its own": project("acme"),
}


@pytest.mark.network
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_backend_builds_the_same_wheel_every_time(backend: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = (built(tmp_path / name, BACKENDS[backend]) for name in ("one", "two"))
    found = wheels.read(one)
    assert (found.name, found.version, found.native) == ("acme", "1.0", False)
    assert modules(one) in (["acme/__init__.py"], ["acme.py"])
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.network
def test_pip_builds_where_there_is_no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "uv", lambda: None)
    assert modules(built(tmp_path, BACKENDS["setuptools"])) == ["acme/__init__.py"]


def test_where_there_is_neither_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "uv", lambda: None)
    monkeypatch.setattr(tools, "pip", lambda: None)
    with pytest.raises(ToolMissingError, match=r"building a project needs uv or pip.*pip install uv"):
        built(tmp_path, project("acme"))


def _sdist(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        opened.add(write_files(Path(folder), files), "acme-1.0")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["acme-1.0.tar.gz", "acme-1.0.zip"])
def test_an_sdist_is_built_as_it_is(name: str, tmp_path: Path) -> None:
    if name.endswith(".zip"):
        sdist = write_zip(tmp_path / name, below("acme-1.0", project("acme")))
    else:
        sdist = tmp_path / name
        sdist.write_bytes(_sdist(project("acme")))
    (wheel,) = build([Buildable(sdist, "acme")], RUNNING, options=OFFLINE, to=tmp_path / "work")
    assert modules(wheel) == ["acme/__init__.py"]


def test_several_projects_come_in_the_order_asked(tmp_path: Path) -> None:
    names = [f"acme-{name}" for name in "dcbaef"]
    projects = [Buildable(write_files(tmp_path / name, project(name)), name) for name in names]
    found = build(projects, RUNNING, options=OFFLINE, to=tmp_path / "work")
    assert [wheels.read(wheel).name for wheel in found] == names


# --- native code ----------------------------------------------------------------------------------------------------

NATIVE: Files = {
    "setup.py": """\
        from setuptools import Extension, setup
        setup(name="acme", version="1.0", ext_modules=[Extension("acme", ["acme.c"])])
        """,
    "acme.c": """\
        #include <Python.h>
        static PyObject *answer(PyObject *self, PyObject *none) { return PyLong_FromLong(42); }
        static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {NULL}};
        static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "acme", "", -1, methods};
        PyMODINIT_FUNC PyInit_acme(void) { return PyModule_Create(&module); }
        """,
}
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="about glibc")


@pytest.mark.network
def test_a_c_extension_is_built_native_the_same_every_time_and_works(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = (built(tmp_path / name, NATIVE) for name in ("one", "two"))
    assert wheels.read(one).native
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as opened:
        opened.extractall(tmp_path / "site")
    code = "import acme; print(acme.answer())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, text=True, check=True
    )
    assert done.stdout == "42\n"


@linux_only
@pytest.mark.network
def test_native_code_that_needs_a_newer_c_library_than_the_target_has_is_refused(tmp_path: Path) -> None:
    old = Target(RUNNING.python, f"manylinux_2_17_{platform.machine()}")
    assert wheels.read(built(tmp_path / "plain", NATIVE, old)).native
    code = str(NATIVE["acme.c"]).replace("PyLong_FromLong(42)", "PyLong_FromLong(getrandom(NULL, 0, 0))")
    newer = {**NATIVE, "acme.c": code.replace("#include", "#include <sys/random.h>\n        #include", 1)}
    with pytest.raises(InvalidWheelError, match=r"acme\.cpython\S+ needs glibc 2\.25, .*manylinux_2_17_\w+ has 2\.17"):
        built(tmp_path / "newer", newer, old)


@pytest.mark.network
def test_a_native_wheel_for_another_platform_cannot_be_built_here_but_a_pure_one_can(tmp_path: Path) -> None:
    other = Target(RUNNING.python, "win_amd64")
    with pytest.raises(InvalidWheelError, match=r"its tags \(cp3\d+-cp3\d+-linux_\w+\) do not fit .*win_amd64"):
        built(tmp_path / "native", NATIVE, other)
    assert not wheels.read(built(tmp_path / "pure", project("acme"), other, OFFLINE)).native


# --- other Pythons --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("python", ["3.10", "3.12", "3.13"])
def test_a_project_is_built_by_the_targets_own_python(python: str, tmp_path: Path) -> None:
    if tools.interpreter(python) is None:
        pytest.skip(f"there is no python{python} here")
    files = project("acme")
    backend = str(files["backend.py"]).replace(
        'open("acme/__init__.py").read()', '"VERSION = %r" % (__import__("sys").version_info[:2],)'
    )
    wheel = built(tmp_path, {**files, "backend.py": backend}, Target(python, RUNNING.platform), OFFLINE)
    with zipfile.ZipFile(wheel) as opened:
        assert opened.read("acme/__init__.py").decode() == f"VERSION = (3, {python[2:]})"


@pytest.mark.network
def test_a_c_extension_for_another_python_is_that_pythons(tmp_path: Path) -> None:
    other = "3.10" if RUNNING.python != "3.10" else "3.12"
    if tools.interpreter(other) is None:
        pytest.skip(f"there is no python{other} here")
    assert f"cp{other.replace('.', '')}" in built(tmp_path, NATIVE, Target(other, RUNNING.platform)).name


def test_without_the_targets_python_every_project_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "interpreter", lambda _python: None)
    projects = [Buildable(tmp_path, "services/orders"), Buildable(tmp_path, "docopt 0.6.2")]
    with pytest.raises(InterpreterMissingError, match=r"services/orders, docopt 0\.6\.2 must be built.*no python3\.14"):
        build(projects, Target("3.14", RUNNING.platform), options=OFFLINE, to=tmp_path / "work")


# --- isolation ------------------------------------------------------------------------------------------------------


def _state(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(folder).as_posix(): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.network
@pytest.mark.parametrize("backend", ["setuptools, src layout", "setup.py only", "hatchling", "poetry"])
def test_a_build_leaves_the_users_directory_as_it_was(backend: str, tmp_path: Path) -> None:
    files = {**BACKENDS[backend], "build/lib/acme/stale.py": "", "dist/old.txt": "", ".git/HEAD": "ref: main\n"}
    source = write_files(tmp_path / "project", files)
    before = _state(source)
    found = built(tmp_path, files)
    assert _state(source) == before
    assert modules(found) == ["acme/__init__.py"]


SECRETS = [
    "DATABRICKS_TOKEN",
    "DATABRICKS_HOST",
    "AWS_SECRET_ACCESS_KEY",
    "AZURE_CLIENT_SECRET",
    "GITHUB_TOKEN",
    "OPENAI_API_KEY",
    "DB_PASSWORD",
    "DB_PASS",
    "SENTRY_DSN",
    "AZURE_DEVOPS_PAT",
    "STRIPE_KEY",
    "MY_SECRET_VALUE",
    "SSH_AUTH_SOCK",
    "UV_PUBLISH_TOKEN",
]


def test_other_peoples_code_sees_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, f"hidden-{name}")
    monkeypatch.setenv("DATABASE_URL", "postgres://me:hidden-url@host/db")
    monkeypatch.setenv("ORDINARY", "seen")
    monkeypatch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION", "1.2.3")
    code = f"import os\nopen({str(tmp_path / 'seen')!r}, 'w').write(str(dict(os.environ)))"
    built(tmp_path, with_code(code), options=OFFLINE)
    seen = (tmp_path / "seen").read_text()
    assert "hidden-" not in seen
    assert "'ORDINARY': 'seen'" in seen
    assert "1.2.3" in seen


def test_a_build_writes_its_temporary_files_where_they_go_with_it(tmp_path: Path) -> None:
    built(tmp_path, with_code("import tempfile\ntempfile.mkdtemp()"), options=OFFLINE)
    assert [path.name for path in (tmp_path / "work" / "0" / "tmp").iterdir()]


def test_what_is_no_file_does_not_stop_a_build(tmp_path: Path) -> None:
    source = write_files(tmp_path / "project", {"venv/pyvenv.cfg": "", "__pycache__/x.pyc": b""})
    os.mkfifo(source / "pipe")
    (source / "dangling").symlink_to("nowhere")
    assert modules(built(tmp_path, project("acme"), options=OFFLINE)) == ["acme/__init__.py"]
    assert stat.S_ISFIFO((source / "pipe").stat().st_mode)


@pytest.mark.parametrize("folder", ["build", "dist", "node_modules"])
def test_data_of_a_package_may_be_called_like_what_a_build_leaves(folder: str, tmp_path: Path) -> None:
    code = f"import os\nassert os.path.exists('acme/{folder}/data.txt') and not os.path.exists('{folder}')"
    files = {**with_code(code), f"acme/{folder}/data.txt": "", f"{folder}/stale.txt": ""}
    assert modules(built(tmp_path, files, options=OFFLINE)) == ["acme/__init__.py"]


def test_a_package_called_build_or_dist_is_built(tmp_path: Path) -> None:
    files = project("build")
    assert modules(built(tmp_path, files, options=OFFLINE)) == ["build/__init__.py"]


# --- failures -------------------------------------------------------------------------------------------------------


def _backend(code: str) -> Files:
    return {**project("acme"), "backend.py": f"def build_wheel(*arguments):\n    {code}\n"}


FAILURES: dict[str, tuple[Files, type[DeploadError], str]] = {
    "a backend that raises": (
        _backend("raise ValueError('the reason')"),
        BuildError,
        r"(?s)^the project could not be built; mend the project.*ValueError: the reason",
    ),
    "a backend that exits": (_backend("raise SystemExit(3)"), BuildError, "exit status: 3"),
    "a backend that makes nothing": (_backend("return 'acme-1.0-py3-none-any.whl'"), BuildError, "could not be built"),
    "a backend that is not there": (
        {"pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "nowhere"\n'},
        BuildError,
        "No module named 'nowhere'",
    ),
    "no TOML": ({"pyproject.toml": "[[[\n"}, BuildError, "(?s)could not be built.*TOML parse error"),
    "a wheel that is none": (
        _backend(
            "open(arguments[0] + '/acme-1.0-py3-none-any.whl', 'w').write('x')\n    return 'acme-1.0-py3-none-any.whl'"
        ),
        InvalidWheelError,
        r"the build of the project has wheels that cannot be used:\n  - acme-1\.0-py3-none-any\.whl: it is not a zip",
    ),
    "build requirements without an index": (
        {"pyproject.toml": pyproject("hatchling", "hatchling.build")},
        BuildError,
        "(?s)what its build requires was not found.*hatchling",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_build_that_fails_says_which_and_shows_the_last_lines(case: str, tmp_path: Path) -> None:
    files, error, message = FAILURES[case]
    with pytest.raises(error, match=message) as raised:
        built(tmp_path, files, options=OFFLINE)
    assert str(tmp_path / "work") not in str(raised.value)
    assert len(str(raised.value).splitlines()) < 35


def test_an_sdist_that_does_not_build_is_not_the_users_to_mend(tmp_path: Path) -> None:
    sdist = tmp_path / "acme-1.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as opened:
        opened.add(write_files(tmp_path / "acme-1.0", _backend("raise ValueError('the reason')")), "acme-1.0")
    with pytest.raises(BuildError, match="could not be built; ask for a version that has a wheel") as raised:
        build([Buildable(sdist, "acme 1.0")], Target.running(), options=OFFLINE, to=tmp_path / "work")
    assert "the reason" in raised.value.output


def test_passwords_in_what_a_backend_prints_are_masked(tmp_path: Path) -> None:
    options = IndexOptions(index_url="http://me:hidden@127.0.0.1:9/simple", no_index=True)
    with pytest.raises(BuildError) as raised:
        built(tmp_path, _backend("raise ValueError(__import__('os').environ['UV_DEFAULT_INDEX'])"), options=options)
    assert "hidden" not in str(raised.value)


FROM_GIT: dict[str, Files] = {
    "setuptools-scm": {
        "pyproject.toml": """\
            [build-system]
            requires = ["setuptools>=64", "setuptools-scm>=8"]
            build-backend = "setuptools.build_meta"
            [project]
            name = "acme"
            dynamic = ["version"]
            [tool.setuptools_scm]
            """,
        "acme/__init__.py": CODE,
    },
    "hatch-vcs": {
        "pyproject.toml": """\
            [build-system]
            requires = ["hatchling", "hatch-vcs"]
            build-backend = "hatchling.build"
            [project]
            name = "acme"
            dynamic = ["version"]
            [tool.hatch.version]
            source = "vcs"
            """,
        "acme/__init__.py": CODE,
    },
    "pbr": {
        "setup.py": "from setuptools import setup\nsetup(setup_requires=['pbr'], pbr=True)\n",
        "setup.cfg": "[metadata]\nname = acme\n[files]\npackages = acme\n",
        "acme/__init__.py": CODE,
    },
    "pdm": {
        "pyproject.toml": """\
            [build-system]
            requires = ["pdm-backend"]
            build-backend = "pdm.backend"
            [project]
            name = "acme"
            dynamic = ["version"]
            [tool.pdm.version]
            source = "scm"
            """,
        "acme/__init__.py": CODE,
    },
    "poetry-dynamic-versioning": {
        "pyproject.toml": """\
            [build-system]
            requires = ["poetry-core", "poetry-dynamic-versioning"]
            build-backend = "poetry_dynamic_versioning.backend"
            [tool.poetry]
            name = "acme"
            version = "0.0.0"
            description = "x"
            authors = []
            [tool.poetry-dynamic-versioning]
            enable = true
            strict = true
            """,
        "acme/__init__.py": CODE,
    },
}


@pytest.mark.network
@pytest.mark.parametrize("plugin", FROM_GIT)
def test_a_version_that_only_git_knows_is_an_error_that_says_what_to_do(plugin: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"its version comes from git metadata.*_PRETEND_VERSION=1\.2\.3"):
        built(tmp_path, FROM_GIT[plugin])


@pytest.mark.network
def test_the_remedy_for_a_version_that_only_git_knows_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION", "1.2.3")
    assert wheels.read(built(tmp_path, FROM_GIT["setuptools-scm"])).version == "1.2.3"


@pytest.mark.network
@pytest.mark.parametrize(
    "files",
    [
        {"pyproject.toml": '[project]\nname = "acme"\nversion = "1"\n', "main.py": "", "helpers.py": ""},
        {"pyproject.toml": '[project]\nname = "acme"\nversion = "1"\n', "one/a.py": "", "two/b.py": ""},
        {
            "pyproject.toml": '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'
            "[tool.poetry]\npackage-mode = false\n"
        },
        {"pyproject.toml": "[tool.poetry]\npackage-mode = false\n", "main.py": ""},
        {"pyproject.toml": pyproject("hatchling", "hatchling.build"), "jobs.py": ""},
    ],
)
def test_a_project_that_names_no_packages_is_told_how_to(files: Files, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="it does not say what its packages are: name them"):
        built(tmp_path, files)


def test_an_index_that_does_not_answer_while_building_is_named(tmp_path: Path) -> None:
    options = IndexOptions(index_url="http://127.0.0.1:9/simple", retries=0)
    with pytest.raises(IndexUnavailableError, match=r"^http://127\.0\.0\.1:9/simple/hatchling/ could not be read"):
        built(tmp_path, {"pyproject.toml": pyproject("hatchling", "hatchling.build")}, options=options)


# --- the whole way --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in FAILURES if case != "a wheel that is none"])
def test_after_a_failed_build_nothing_is_published(case: str, tmp_path: Path, base: Path) -> None:
    files, error, _ = FAILURES[case]
    with pytest.raises(error, match="acme-main"):
        convert(write_zip(tmp_path / "s.zip", below("acme-main", files)), base, options=OFFLINE)
    assert runs_in(base) == []


def test_two_versions_of_one_package_in_a_source_are_both_named(tmp_path: Path, base: Path) -> None:
    source = write_files(tmp_path / "source", below("acme", project("acme", "1.0")))
    make_wheel(source / "wheels", "acme", "2.0", {"acme.py": ""})
    with pytest.raises(InvalidWheelError, match=r"acme is there twice: 2\.0 \(wheels/acme-2\.0.*and 1\.0; keep one"):
        convert(source, base, options=OFFLINE)
    assert runs_in(base) == []


def test_modules_of_two_zips_that_would_hide_one_another_are_named_by_their_places(tmp_path: Path, base: Path) -> None:
    inner = [write_zip(tmp_path / f"{name}.zip", {"main.py": f"# {name}\n"}).read_bytes() for name in ("one", "two")]
    source = write_zip(tmp_path / "s.zip", {"one.zip": inner[0], "two.zip": inner[1]})
    with pytest.raises(SourceError, match=r"one\.zip!/main\.py and two\.zip!/main\.py would both be user_modules/main"):
        convert(source, base, options=OFFLINE)
    assert runs_in(base) == []
