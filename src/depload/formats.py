"""Tell what a source is, and why: the roots that wheels can be made from, what was passed over, what looks wrong."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from depload import imports, installed, layouts
from depload.errors import ArchiveError, Fault, UnrecognisedSourceError
from depload.imports import Module

if sys.version_info >= (3, 11):
    pass
else:
    pass

Format = Literal["requirements", "pure_python", "packaged", "wheels", "mixed", "nested"]
Kind = Literal["requirements", "pylock", "modules", "project", "sdist", "wheel", "installed"]

_FORMAT_OF: dict[Kind, Format] = {
    "requirements": "requirements",
    "pylock": "requirements",
    "modules": "pure_python",
    "project": "packaged",
    "sdist": "packaged",
    "wheel": "wheels",
    "installed": "wheels",
}

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

    def modules(self) -> list[Module]:
        """Of modules: those that are Python."""
        return [
            Module(file, self.show(file), file.relative_to(self.location).as_posix())
            for file in self.files
            if file.suffix == ".py"
        ]

    def show(self, file: Path) -> str:
        """What messages call a file below it."""
        below = file.relative_to(self.location).as_posix() if file != self.location else "."
        if self.path == "." or not self.location.is_dir():
            return below
        return self.path if below == "." else f"{self.path}/{below}"


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


def detect(
    source: Path, opener: Opener, *, depth: int = 3, only: Path | None = None, label: str | None = None
) -> Detection:
    """What the directory ``source`` is; zips inside are opened down to ``depth``. ``only`` looks at one file of it.

    ``label`` is what messages call the source. Raises UnrecognisedSourceError where there is nothing to make wheels
    from, and what ``opener`` raises.
    """
    walk = _Walk(opener, depth)
    if only is not None:
        walk.single(only, _Place(source, ""))
    else:
        walk.top(_Place(source, ""))
    if not walk.roots:
        raise UnrecognisedSourceError(label or (only or source).name, walk.nothing())
    roots = tuple(sorted(walk.roots, key=lambda root: (root.path.count("!"), root.path, root.kind)))
    modules = [module for root in roots for module in root.modules()]
    warnings = [*walk.warnings, *imports.unreadable(modules)]
    if all(root.kind == "modules" for root in roots):  # else names of packages and of their modules differ
        warnings += imports.unprovided(modules, set())
    return Detection(_format(roots), roots, tuple(walk.ignored), tuple(warnings))


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
class _Anchor:
    """The folder that loose modules are importable from, and what was found for it."""

    folder: Path
    files: list[Path] = field(default_factory=list)


@dataclass
class _Walk:
    opener: Opener
    depth: int
    roots: list[Root] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _seen: int = 0
    _claimed: set[Path] = field(default_factory=set)
    """Files of installed packages, and the folders that hold them."""

    def top(self, place: _Place) -> None:
        """Look at everything below the top of a source or of a zip inside."""
        level = self._level(place)
        if layouts.is_wheelhouse(level):
            self._wheelhouse(level, place)
        else:
            self._folder(level, place, _Anchor(level))

    def single(self, file: Path, place: _Place) -> None:
        """Look at one file that is the source."""
        if file.suffix == ".py":
            self.roots.append(Root("modules", file.name, file.parent, place.top, (file,)))
        elif file.name.endswith((".txt", ".in")):
            self._add("requirements", file, place)
        else:
            self._take(file, place)

    def nothing(self) -> str:
        passed = "; ".join(f"{item.path} ({item.why})" for item in self.ignored[:5])
        more = f" and {len(self.ignored) - 5} more" if len(self.ignored) > 5 else ""  # noqa: PLR2004 - as above
        what = "nothing in it can be made into a wheel" if self._seen or self.ignored else "it is empty"
        return f"{what}; passed over: {passed}{more}" if passed else what

    def _entries(self, folder: Path, place: _Place, *, say: bool = True) -> list[Path]:
        """What a folder holds, sorted, without what never belongs to a source."""
        kept = []
        for entry in sorted(folder.iterdir(), key=lambda path: path.name):
            why = layouts.junk(entry)
            if why is None:
                kept.append(entry)
            elif say and folder not in self._claimed:
                self._ignore(entry, place, why)
        self._seen += len(kept)
        return kept

    def _level(self, place: _Place) -> Path:
        """The folder where the source begins: below folders that only wrap it, as in a code host's "Download ZIP"."""
        level = place.top
        while True:
            entries = self._entries(level, place, say=False)
            if len(entries) != 1 or not entries[0].is_dir() or not layouts.wraps(entries[0]):
                return level
            level = entries[0]

    def _folder(self, folder: Path, place: _Place, anchor: _Anchor) -> None:
        entries = self._entries(folder, place)
        if folder not in self._claimed and layouts.is_project(folder):
            self._project(folder, entries, place)
            return
        if folder != anchor.folder and layouts.is_source_of_its_own(folder, entries):
            anchor = _Anchor(folder)  # its modules are importable from its own folder
        entries = self._without_installed(entries, place)
        lists = self._lists(folder, entries, place)
        for entry in entries:
            if entry.is_dir():
                self._folder(entry, place, anchor)
            elif entry not in self._claimed and entry not in lists and not self._take(entry, place):
                anchor.files.append(entry)
        if anchor.folder == folder:
            self._modules(anchor, place)

    def _modules(self, anchor: _Anchor, place: _Place) -> None:
        if any(file.suffix == ".py" for file in anchor.files):
            self._add("modules", anchor.folder, place, tuple(anchor.files))
            return
        below: dict[str, list[Path]] = defaultdict(list)
        for file in anchor.files:
            below[file.relative_to(anchor.folder).parts[0]].append(file)
        for first, files in below.items():
            many = f"{len(files)} files, none of them Python"
            self._ignore(anchor.folder / first, place, many if len(files) > 1 else layouts.no_source(files[0]))

    def _project(self, folder: Path, entries: list[Path], place: _Place) -> None:
        """A project owns what lies below it; beside its own files only lists, wheels and workspace members count."""
        self._add("project", folder, place)
        self._lists(folder, entries, place)
        for entry in entries:
            if entry.name in ("dist", "build") and entry.is_dir() and not (entry / "__init__.py").exists():
                self._ignore(entry, place, "what an earlier build of the project left")
            elif entry.is_dir():
                self._wheels_below(entry, place)
            elif entry.suffix == ".whl" or layouts.PYLOCK.fullmatch(entry.name):
                self._take(entry, place)
        for member in layouts.workspace_members(folder):
            self._folder(member, place, _Anchor(member))

    def _wheels_below(self, folder: Path, place: _Place) -> None:
        """Wheels that lie in a folder of their own beside a project."""
        files = [entry for entry in self._entries(folder, place, say=False) if entry.is_file()]
        if not any(file.suffix == ".py" for file in files):
            for file in files:
                if file.suffix == ".whl":
                    self._add("wheel", file, place)

    def _wheelhouse(self, folder: Path, place: _Place) -> None:
        """A wheelhouse that depload wrote: its wheels are the source, and the rest is made anew."""
        for entry in self._entries(folder, place):
            if entry.suffix == ".whl":
                self._add("wheel", entry, place)
            else:
                self._ignore(entry, place, "what depload adds to a wheelhouse")

    # --- one folder's lists and packages ---

    def _lists(self, folder: Path, entries: list[Path], place: _Place) -> set[Path]:
        """The requirements.txt of a folder; a single one of another name serves where there is none."""
        in_own_folder = folder.name == "requirements"
        found = [
            entry
            for entry in entries
            if entry.is_file() and (layouts.REQUIREMENTS.fullmatch(entry.name) or (in_own_folder and entry.suffix == ".txt"))
        ]
        exact = [entry for entry in found if entry.name.lower() == "requirements.txt"]
        others = [entry for entry in found if not layouts.FOR_DEVELOPERS.search(entry.name) and not layouts.is_project(folder)]
        chosen = exact[:1] or (others if len(others) == 1 else [])
        for entry in found:
            if entry in chosen:
                self._add("requirements", entry, place)
            else:
                self._ignore(entry, place, "only requirements.txt is read; include others in it with -r")
        if not chosen and len(others) > 1:
            names = ", ".join(place.show(entry) for entry in others)
            self.warnings.append(f"none of {names} is read; name the one that counts requirements.txt")
        return {*found, *self._unread(folder, entries, place, bool(chosen))}

    def _unread(self, folder: Path, entries: list[Path], place: _Place, has_list: bool) -> Iterator[Path]:
        """Lists that only their own tool reads; a warning where nothing else says what is needed."""
        has_list = has_list or any(layouts.PYLOCK.fullmatch(entry.name) for entry in entries) or layouts.is_project(folder)
        for entry in entries:
            if entry.name in layouts.UNREAD_LISTS:
                tool = layouts.UNREAD_LISTS[entry.name]
                why = f"{tool}'s list is not read; export a requirements.txt or a pylock.toml"
            elif layouts.CONSTRAINTS.fullmatch(entry.name):
                why = "constraints are read where a requirements.txt says so: -c constraints.txt"
            else:
                continue
            self._ignore(entry, place, why)
            if entry.name in layouts.UNREAD_LISTS and not has_list:
                self.warnings.append(f"{place.show(entry)}: {why}")
            yield entry

    def _without_installed(self, entries: list[Path], place: _Place) -> list[Path]:
        """The entries but for installed packages, which become roots."""
        dist_infos = [entry for entry in entries if installed.is_installed(entry)]
        for dist_info in dist_infos:
            self._add("installed", dist_info, place)
            for file in installed.files(dist_info):
                self._claimed |= {file, *layouts.between(file, dist_info.parent)}
        for entry in entries:
            if dist_infos and entry.name == "bin" and not any(entry.glob("*.py")):
                self._ignore(entry, place, "scripts of installed packages")
                self._claimed.add(entry)
        return [entry for entry in entries if entry not in dist_infos and not (entry.name == "bin" and dist_infos)]

    # --- one file ---

    def _take(self, file: Path, place: _Place) -> bool:
        """Take a file for what it is; False where it is none of depload's business."""
        name = file.name
        if layouts.PYLOCK.fullmatch(name):
            self._add("pylock", file, place)
        elif name.endswith(".whl"):
            self._add("wheel", file, place)
        elif _SDIST.fullmatch(name) and layouts.is_sdist(file):
            self._add("sdist", file, place)
        elif name.lower().endswith(".zip"):
            return self._inner(file, place)
        elif name in layouts.SETTINGS:
            self._ignore(file, place, "settings of tools")
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

    def _ignore(self, entry: Path, place: _Place, why: str) -> None:
        self.ignored.append(Ignored(place.show(entry), why))
