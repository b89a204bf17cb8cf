"""Tell what a source is, and why: the roots that wheels can be made from, what was passed over, what looks wrong."""

from __future__ import annotations

import ast
import fnmatch
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from depload.errors import ArchiveError, Fault, UnrecognisedSourceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Format = Literal["requirements", "pure_python", "packaged", "wheels", "mixed", "nested"]
Kind = Literal["requirements", "pylock", "modules", "project", "sdist", "wheel"]

_FORMAT_OF: dict[Kind, Format] = {
    "requirements": "requirements",
    "pylock": "requirements",
    "modules": "pure_python",
    "project": "packaged",
    "sdist": "packaged",
    "wheel": "wheels",
}

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
_UNREAD_LISTS = {
    "Pipfile": "pipenv",
    "Pipfile.lock": "pipenv",
    "poetry.lock": "poetry",
    "uv.lock": "uv",
    "pdm.lock": "pdm",
    "environment.yml": "conda",
    "environment.yaml": "conda",
}
_REQUIREMENTS = re.compile(r"(?:.*[-_.])?requirements(?:[-_.].*)?\.txt", re.IGNORECASE)
_PYLOCK = re.compile(r"pylock(?:\.[^.]+)?\.toml")  # PEP 751, "File Name"
_SDIST = re.compile(r"[A-Za-z0-9][\w.]*(?:-[\w.]+)*-\d[\w.!+]*\.tar\.gz")
_PROVIDED = {"pyspark", "py4j", "databricks", "dbutils", "dbruntime", "IPython"}  # by every runtime


@dataclass(frozen=True)
class Root:
    """A place in the source that wheels are made from."""

    kind: Kind
    path: str
    """Where it is, from the top of the source; ``inner.zip!/folder`` for what lies in a zip inside."""
    location: Path
    """Where it is on disk."""
    top: Path
    """The directory that nothing it refers to may leave."""
    files: tuple[Path, ...] = ()
    """Of modules: the files that come along."""


@dataclass(frozen=True)
class Ignored:
    """Something that was passed over."""

    path: str
    why: str


@dataclass(frozen=True)
class Detection:
    """What a source is."""

    format: Format
    roots: tuple[Root, ...]
    ignored: tuple[Ignored, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``depload detect --json`` prints it."""
        return {
            "format": self.format,
            "roots": [{"kind": root.kind, "path": root.path} for root in self.roots],
            "ignored": [{"path": item.path, "why": item.why} for item in self.ignored],
            "warnings": list(self.warnings),
        }


Opener = Callable[[Path], Path]
"""Extracts a zip that lies inside the source and returns the directory; raises ArchiveError."""


def detect(source: Path, opener: Opener, *, depth: int = 3, only: Path | None = None) -> Detection:
    """What the directory ``source`` is; zips inside are opened down to ``depth``. ``only`` looks at one file of it.

    Raises UnrecognisedSourceError where there is nothing to make wheels from, and what ``opener`` raises.
    """
    walk = _Walk(opener, depth)
    if only is not None:
        walk.file(only, source, _Place(source, ""))
    else:
        walk.top(_Place(source, ""))
    if not walk.roots:
        raise UnrecognisedSourceError(only.name if only else source.name, walk.nothing())
    roots = tuple(sorted(walk.roots, key=lambda root: (root.path.count("!"), root.path, root.kind)))
    return Detection(_format(roots), roots, tuple(walk.ignored), tuple(walk.warnings + _import_warnings(roots)))


def _format(roots: tuple[Root, ...]) -> Format:
    def at_top(root: Root) -> bool:
        parent = root.location if root.kind in ("modules", "project") else root.location.parent
        return parent == root.top and "!" not in root.path

    if not any(at_top(root) for root in roots) or any("!" in root.path for root in roots):
        return "nested"
    formats = {_FORMAT_OF[root.kind] for root in roots}
    return formats.pop() if len(formats) == 1 else "mixed"


# --- walking --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """The top of a source, or of a zip inside it."""

    top: Path
    prefix: str

    def show(self, path: Path) -> str:
        below = path.relative_to(self.top).as_posix()
        return f"{self.prefix}{below}" if self.prefix else below


@dataclass
class _Walk:
    opener: Opener
    depth: int
    roots: list[Root] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _seen: int = 0

    def top(self, place: _Place) -> None:
        """Look at everything below the top of a source or of a zip inside."""
        level = self._level(place)
        self._folder(level, place, _Anchor(level))

    def nothing(self) -> str:
        passed = f"; passed over: {', '.join(item.path for item in self.ignored[:5])}" if self.ignored else ""
        return ("nothing in it can be made into a wheel" if self._seen else "it is empty") + passed

    def _entries(self, folder: Path, place: _Place, *, say: bool = True) -> list[Path]:
        """What a folder holds, sorted, without what never belongs to a source."""
        kept = []
        for entry in sorted(folder.iterdir(), key=lambda path: path.name):
            why = _junk(entry)
            if why is None:
                kept.append(entry)
            elif say:
                self.ignored.append(Ignored(place.show(entry), why))
        self._seen += len(kept)
        return kept

    def _level(self, place: _Place) -> Path:
        """The folder where the source begins: below folders that only wrap it, as in a code host's "Download ZIP"."""
        level = place.top
        while True:
            entries = self._entries(level, place, say=False)
            if len(entries) != 1 or not entries[0].is_dir() or not _wraps(entries[0]):
                return level
            level = entries[0]

    def _folder(self, folder: Path, place: _Place, anchor: _Anchor) -> None:
        entries = self._entries(folder, place)
        if _is_project(folder):
            self._project(folder, entries, place)
            return
        marked = [entry for entry in entries if entry.name == "requirements.txt" or _PYLOCK.fullmatch(entry.name)]
        if marked and folder != anchor.folder and not (folder / "__init__.py").exists():
            anchor = _Anchor(folder)  # a source of its own: its modules are importable from its own folder
        own = anchor.folder == folder
        self._lists(entries, place)
        for entry in entries:
            if entry.is_dir():
                self._folder(entry, place, anchor)
            elif not self.file(entry, place.top, place, lists=False):
                anchor.files.append(entry)
        if own and any(file.suffix == ".py" for file in anchor.files):
            self._add("modules", folder, place, tuple(anchor.files))
        elif own:
            self._passed_over(anchor.files, place)

    def _passed_over(self, files: list[Path], place: _Place) -> None:
        for file in files:
            tool = _UNREAD_LISTS.get(file.name)
            why = f"{tool}'s list is not read; export a requirements.txt or a pylock.toml" if tool else "not Python"
            self.ignored.append(Ignored(place.show(file), why))

    def _project(self, folder: Path, entries: list[Path], place: _Place) -> None:
        """A project owns what lies below it; beside its own files only lists, wheels and workspace members count."""
        self._add("project", folder, place)
        self._lists(entries, place)
        for entry in entries:
            if entry.suffix == ".whl":
                self._add("wheel", entry, place)
            elif entry.name in ("dist", "build") and entry.is_dir():
                self.ignored.append(Ignored(place.show(entry), "what an earlier build of the project left"))
        for member in _workspace_members(folder):
            self._folder(member, place, _Anchor(member))

    def _lists(self, entries: list[Path], place: _Place) -> None:
        """The requirements.txt of a folder; a single one of another name serves where there is none."""
        found = [entry for entry in entries if entry.is_file() and _REQUIREMENTS.fullmatch(entry.name)]
        exact = [entry for entry in found if entry.name.lower() == "requirements.txt"]
        chosen = exact[:1] or (found if len(found) == 1 and not _for_developers(found[0].name) else [])
        for entry in found:
            if entry in chosen:
                self._add("requirements", entry, place)
            else:
                why = "only requirements.txt is read; include others in it with -r"
                self.ignored.append(Ignored(place.show(entry), why))

    def file(self, file: Path, top: Path, place: _Place, *, lists: bool = True) -> bool:
        """Take a file for what it is; False where it is none of depload's business."""
        name = file.name
        if _REQUIREMENTS.fullmatch(name) or (lists and name.endswith((".txt", ".in"))):
            if lists:
                self._add("requirements", file, place)
        elif _PYLOCK.fullmatch(name):
            self._add("pylock", file, place)
        elif name.endswith(".whl"):
            self._add("wheel", file, place)
        elif _SDIST.fullmatch(name):
            self._add("sdist", file, place)
        elif name.endswith(".zip"):
            return self._inner(file, place)
        elif lists and name.endswith(".py"):
            self.roots.append(Root("modules", name, top, top, (file,)))
        else:
            return False
        return True

    def _inner(self, file: Path, place: _Place) -> bool:
        """Open a zip inside; one that holds nothing recognisable is data like any other file."""
        shown = place.show(file)
        if self.depth == 0:
            raise ArchiveError(shown, [Fault(shown, "zips are nested deeper than the limit; raise it or unpack them")])
        below = _Walk(self.opener, self.depth - 1)
        try:
            below.top(_Place(self.opener(file), f"{shown}!/"))
        except ArchiveError as error:
            raise ArchiveError(shown, error.faults) from error
        if not below.roots:
            return False
        self.roots += below.roots
        self.ignored += below.ignored
        self.warnings += below.warnings
        return True

    def _add(self, kind: Kind, location: Path, place: _Place, files: tuple[Path, ...] = ()) -> None:
        self.roots.append(Root(kind, place.show(location), location, place.top, files))


@dataclass
class _Anchor:
    """The folder that loose modules are importable from, and what was found for it."""

    folder: Path
    files: list[Path] = field(default_factory=list)


# --- rules ----------------------------------------------------------------------------------------------------------


def _junk(entry: Path) -> str | None:
    """Why an entry never belongs to a source, or None."""
    name = entry.name
    if entry.is_symlink():
        return "a link"
    if entry.is_dir():
        if (entry / "pyvenv.cfg").exists():
            return "a virtual environment"
        return "build leftovers" if name.endswith((".egg-info", ".dist-info")) else _JUNK_FOLDERS.get(name)
    if name.startswith("._"):
        return "macOS metadata"
    return "bytecode cache" if name.endswith((".pyc", ".pyo")) else _JUNK_FILES.get(name)


def _for_developers(name: str) -> bool:
    return bool(re.search(r"dev|test|doc|lint|build|ci\b|constraint", name, re.IGNORECASE))


def _is_project(folder: Path) -> bool:
    """Whether a folder can be built: a setup.py, or configuration that is not only some tool's."""
    if (folder / "setup.py").is_file():
        return True
    if (folder / "pyproject.toml").is_file():
        data = _toml(folder / "pyproject.toml")
        return "project" in data or "build-system" in data or "poetry" in data.get("tool", {})
    if (folder / "setup.cfg").is_file():
        return bool(re.search(r"(?m)^\[metadata\]", (folder / "setup.cfg").read_text("utf-8", "replace")))
    return False


def _toml(file: Path) -> dict[str, Any]:
    """A TOML file; one that cannot be read is left to the build backend, whose message is better than ours."""
    try:
        data: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {"project": {}}
    return data


def _workspace_members(folder: Path) -> Iterator[Path]:
    """Projects that a uv workspace declares below its root (uv documentation, "Workspaces")."""
    if not (folder / "pyproject.toml").is_file():
        return
    workspace = _toml(folder / "pyproject.toml").get("tool", {}).get("uv", {}).get("workspace", {})
    excluded = workspace.get("exclude", [])
    for pattern in workspace.get("members", []):
        for member in sorted(folder.glob(str(pattern))):
            below = member.relative_to(folder).as_posix()
            if member.is_dir() and _is_project(member) and not any(fnmatch.fnmatch(below, out) for out in excluded):
                yield member


def _wraps(folder: Path) -> bool:
    """Whether the only folder of a level merely wraps the source, rather than being a package of loose modules."""
    if (folder / "__init__.py").exists() and not _is_project(folder):
        return False
    modules = [file for file in folder.rglob("*.py") if file.is_file()]
    return _is_project(folder) or not any(name == folder.name for file in modules for _, name in _imports(file))


# --- imports that nothing provides ----------------------------------------------------------------------------------


def unprovided_imports(roots: tuple[Root, ...], provided: set[str]) -> list[str]:
    """Imports of loose modules that neither Python, they themselves, a runtime nor ``provided`` has: a line each."""
    known = set(sys.stdlib_module_names) | _PROVIDED | provided | {"user_modules"}
    found = []
    for root in roots:
        if root.kind != "modules":
            continue
        own = {file.relative_to(root.location).parts[0].removesuffix(".py") for file in root.files}
        for file in root.files:
            beside = {entry.name.removesuffix(".py") for entry in file.parent.iterdir()}
            for line, name in _imports(file) if file.suffix == ".py" else ():
                if name not in known | own | beside:
                    shown = file.relative_to(root.top).as_posix()
                    found.append(f"{shown}:{line}: imports {name}, which nothing in the source provides")
    return found


def _import_warnings(roots: tuple[Root, ...]) -> list[str]:
    """Only where no root could provide anything: names of packages and of their modules differ."""
    return unprovided_imports(roots, set()) if all(root.kind == "modules" for root in roots) else []


def _imports(file: Path) -> list[tuple[int, str]]:
    """Line and first name of each absolute import that is not optional."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: list[tuple[int, str]] = []
    _collect(tree.body, found)
    return found


def _collect(body: list[ast.stmt], found: list[tuple[int, str]]) -> None:
    for node in body:
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.lineno, node.module.split(".")[0]))
        elif not _optional(node):
            for name in ("body", "orelse", "finalbody"):
                _collect([child for child in getattr(node, name, []) if isinstance(child, ast.stmt)], found)


def _optional(node: ast.stmt) -> bool:
    """A try that is ready for the import to fail, or a block for type checkers."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, ast.Try) and any(
        handler.type is None or re.search(r"ImportError|ModuleNotFoundError|'Exception'", ast.dump(handler.type))
        for handler in node.handlers
    )
