"""What files and folders are, by their names and by what they hold."""

from __future__ import annotations

import contextlib
import fnmatch
import gzip
import io
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload.source import imports, installed
from depload.standards import toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_JUNK_FOLDERS = {
    "__pycache__": "bytecode cache",
    "__MACOSX": "macOS metadata",
    ".git": "version control",
    ".hg": "version control",
    ".svn": "version control",
    ".bzr": "version control",
    ".idea": "editor settings",
    ".vscode": "editor settings",
    ".ipynb_checkpoints": "notebook checkpoints",
    ".pytest_cache": "tool cache",
    ".mypy_cache": "tool cache",
    ".ruff_cache": "tool cache",
    ".hypothesis": "tool cache",
    ".tox": "environments of a test tool",
    ".nox": "environments of a test tool",
    ".eggs": "build leftovers",
    "node_modules": "JavaScript packages",
}
_JUNK_FILES = {".DS_Store": "macOS metadata", "Thumbs.db": "Windows metadata", "desktop.ini": "Windows metadata"}
UNREAD_LISTS = {
    "Pipfile": "pipenv",
    "Pipfile.lock": "pipenv",
    "poetry.lock": "poetry",
    "uv.lock": "uv",
    "pdm.lock": "pdm",
    "requirements.in": "pip-tools",
    "environment.yml": "conda",
    "environment.yaml": "conda",
    "conda.yml": "conda",
    "conda.yaml": "conda",
}
# Of tools, where there is no project.
SETTINGS = {"pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", "noxfile.py"}
REQUIREMENTS = re.compile(r"(?:.*[-_.])?requirements(?:[-_.].*)?\.txt", re.IGNORECASE)
CONSTRAINTS = re.compile(r"(?:.*[-_.])?constraints(?:[-_.].*)?\.txt", re.IGNORECASE)
FOR_DEVELOPERS = re.compile(r"(?:^|[-_.])(?:dev|test|doc|lint|mypy|typ|build|bench|example|ci[-_.])", re.IGNORECASE)
PYLOCK = re.compile(r"pylock(?:\.[^.]+)?\.toml")  # PEP 751, "File Name"
_SDIST = re.compile(r"[A-Za-z0-9][\w.]*(?:-[\w.]+)*-\d[\w.!+]*\.tar\.gz")
_BUILDS = re.compile(r"\b(?:setuptools|distutils|skbuild|cpp_extension)\b")  # what a setup.py that is one imports
_MOST_MEMBERS = 1000  # of a .tar.gz, looked at to see whether it is an sdist
_MOST_UNPACKED, _LARGEST_RECORD = 1 << 30, 1 << 20  # bytes of one that are passed, and of one header of tar's
_LONGEST_TEXT = 1 << 20  # bytes of a pyproject.toml, setup.py or setup.cfg
_LONGEST_PATH, _MOST_PATTERNS = 1024, 100


def junk(entry: Path) -> str | None:
    """Why an entry never belongs to a source, or None."""
    name = entry.name
    if entry.is_symlink():
        return "a link"
    if entry.is_dir():
        return _junk_folder(entry)
    if not entry.is_file():
        return "neither a file nor a folder"
    if name.startswith("._"):
        return "macOS metadata"
    if name.endswith((".pyc", ".pyo")):
        return "bytecode cache"
    return _JUNK_FILES.get(name) or ("hidden; settings and secrets of tools" if name.startswith(".") else None)


def _junk_folder(folder: Path) -> str | None:
    if (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").is_dir():
        return "a virtual environment"
    if folder.name.endswith(".egg-info") or (folder.name.endswith(".dist-info") and not installed.is_installed(folder)):
        return "build leftovers"
    return _JUNK_FOLDERS.get(folder.name) or ("hidden; settings of tools" if folder.name.startswith(".") else None)


def no_source(file: Path) -> str:
    """Why a lone file is nothing to make a wheel of."""
    if file.name.endswith((".tar.gz", ".tgz")):
        return "no sdist, and nothing else is read as a .tar.gz; make a zip of what it holds"
    return "a notebook; only .py modules can be imported" if file.suffix == ".ipynb" else "not Python"


def is_source_of_its_own(folder: Path, entries: Iterable[Path]) -> bool:
    """Whether a folder among loose modules is a source by itself, rather than a package of theirs."""
    own = any(
        entry.name == "requirements.txt" or PYLOCK.fullmatch(entry.name) or installed.is_installed(entry)
        for entry in entries
    )
    return own and not (folder / "__init__.py").exists()


def is_list(file: Path, folder: Path) -> bool:
    """Whether a file of a folder is a requirements file by its name; ``requirements/base.txt`` is one too."""
    named = REQUIREMENTS.fullmatch(file.name) or (folder.name == "requirements" and file.suffix == ".txt")
    return bool(named) and not CONSTRAINTS.fullmatch(file.name) and file.is_file()


def unread_list(name: str) -> str | None:
    """Why a list of packages is not read, or None."""
    if tool := UNREAD_LISTS.get(name):
        return f"{tool}'s list is not read; export a requirements.txt or a pylock.toml"
    if CONSTRAINTS.fullmatch(name):
        return "constraints are read where a requirements.txt says so: -c constraints.txt"
    return None


def is_left_by_a_build(entry: Path) -> bool:
    """Whether an entry of a project holds what was built of it before, which is older than what will be."""
    return entry.name in ("dist", "build") and entry.is_dir() and not (entry / "__init__.py").exists()


def is_scripts(entry: Path) -> bool:
    """Whether an entry beside installed packages is where their scripts are."""
    return entry.name == "bin" and entry.is_dir() and all(_is_script(file) for file in entry.glob("*.py"))


def _is_script(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == b"#!"


def is_wheelhouse(folder: Path) -> bool:
    """Whether depload wrote it."""
    return (folder / "manifest.json").is_file() and any(folder.glob("_depload_*/__init__.py"))


def is_project(folder: Path) -> bool:
    """Whether a folder can be built: a setup.py, or configuration that is not only some tool's."""
    if _is_file(folder / "pyproject.toml"):
        data = _toml(folder / "pyproject.toml")
        if "project" in data or "build-system" in data or "poetry" in _table(data, "tool"):
            return True
    if _is_file(folder / "setup.py") and _BUILDS.search(_text(folder / "setup.py")):
        return True
    if _is_file(folder / "setup.cfg"):
        return bool(re.search(r"(?m)^\[metadata\]", _text(folder / "setup.cfg")))
    return False


def only_poetry_builds(folder: Path) -> bool:
    """Whether a project is described in Poetry's own words alone, and does not say that Poetry builds it."""
    if not _is_file(folder / "pyproject.toml") or _is_file(folder / "setup.py"):
        return False
    data = _toml(folder / "pyproject.toml")
    return "poetry" in _table(data, "tool") and not {"project", "build-system"} & data.keys()


def _is_file(path: Path) -> bool:
    """Whether a file is there, rather than a link, which may lead out of the source."""
    return path.is_file() and not path.is_symlink()


def _text(file: Path) -> str:
    """As much of a file as somebody could have written by hand."""
    with file.open("rb") as opened:
        return opened.read(_LONGEST_TEXT).decode("utf-8", "replace")


def is_sdist(file: Path) -> bool:
    """Whether a file is a .tar.gz that holds a project, rather than a model or a backup that is named alike."""
    if not _SDIST.fullmatch(file.name):
        return False
    wanted = {"PKG-INFO", "pyproject.toml", "setup.py"}
    # Of hostile headers tarfile raises RecursionError, OverflowError, zlib.error and others; all mean that it is none.
    with contextlib.suppress(Exception), _Bounded(file) as data, tarfile.open(fileobj=data, mode="r:") as opened:
        for _, member in zip(range(_MOST_MEMBERS), opened, strict=False):
            parts = member.name.removeprefix("./").split("/")
            if len(parts) == 2 and parts[1] in wanted:  # noqa: PLR2004 - name-version/file
                return True
    return False


class _Bounded(gzip.GzipFile):
    """A .gz that nobody vouches for: it unpacks so far and no further, and hands out no large piece at once."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_RECORD or self.tell() + size > _MOST_UNPACKED:
            raise tarfile.ReadError("it unpacks to more than an sdist would")
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not 0 <= offset <= _MOST_UNPACKED:
            raise tarfile.ReadError("it unpacks to more than an sdist would")
        return super().seek(offset, whence)


def _toml(file: Path) -> dict[str, Any]:
    """A TOML file; one that cannot be read is left to the build backend, whose message is better than ours."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_LONGEST_TEXT + 1)
        return toml.read(data.decode("utf-8-sig")) if len(data) <= _LONGEST_TEXT else {"project": {}}
    except ValueError:
        return {"project": {}}


def _table(data: Any, *keys: str) -> dict[str, Any]:  # noqa: ANN401 - of anybody's TOML
    """The table at ``keys``; an empty one where it is something else."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def workspace_members(folder: Path) -> Iterator[Path]:
    """Projects that a uv workspace declares below its root (uv documentation, "Workspaces")."""
    if not _is_file(folder / "pyproject.toml"):
        return
    workspace = _table(_toml(folder / "pyproject.toml"), "tool", "uv", "workspace")
    members, excluded = (_patterns(workspace.get(key)) for key in ("members", "exclude"))
    found = {path for pattern in members for path in folder.glob(pattern) if path.is_dir() and path != folder}
    for member in sorted(found):
        below = member.relative_to(folder).as_posix()
        if is_project(member) and not any(fnmatch.fnmatch(below, out) for out in excluded):
            yield member


def path_dependencies(folder: Path) -> Iterator[Path]:
    """Projects and wheels beside a project that it declares by path, as uv and Poetry let it."""
    if not _is_file(folder / "pyproject.toml"):
        return
    tool = _table(_toml(folder / "pyproject.toml"), "tool")
    for declared in (_table(tool, "uv", "sources"), _table(tool, "poetry", "dependencies")):
        for value in declared.values():
            for choice in value if isinstance(value, list) else [value]:  # one for each marker
                path = choice.get("path") if isinstance(choice, dict) else None
                if isinstance(path, str) and len(path) <= _LONGEST_PATH and path.isprintable():
                    yield Path(os.path.realpath(folder / path))


def _patterns(value: object) -> list[str]:
    """What is a glob of something below, and not one that takes for ever: each ``**`` walks the whole tree."""
    patterns = [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
    return [each for each in patterns[:_MOST_PATTERNS] if _is_pattern(each)]


def _is_pattern(text: str) -> bool:
    parts = text.split("/")
    below = text.isprintable() and not text.startswith("/") and ".." not in parts
    deep = [part for part in parts if "**" in part]
    return bool(text) and len(text) <= _LONGEST_PATH and below and deep in ([], ["**"])


def wraps(folder: Path) -> bool:
    """Whether the only folder of a level merely wraps the source, rather than being a package of loose modules."""
    if folder.name == "user_modules" or not folder.name.isidentifier() or is_project(folder):
        return True
    if (folder / "__init__.py").exists():
        return False
    modules = (file for file in sorted(folder.rglob("*.py")) if file.is_file() and not file.is_symlink())
    return not any(name == folder.name for file in imports.bearable(modules) for _, name in imports.names(file))


def between(file: Path, folder: Path) -> Iterator[Path]:
    """The folders that a file lies in, below another folder."""
    yield from (parent for parent in file.parents if parent != folder and parent.is_relative_to(folder))
