"""Tell what a source is, and why: the roots that wheels can be made from, what was passed over, what looks wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from depload.errors import ArchiveError, Fault, RequirementsError, UnrecognisedSourceError
from depload.source import imports, installed, layouts
from depload.source.imports import Module
from depload.standards import toml

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
        """What messages call one of its files."""
        below = file.relative_to(self.location).as_posix()
        return below if self.path in (".", below) else f"{self.path.rstrip('/')}/{below}"


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
    walk = _Walk(opener, depth, _Place(source, ""))
    try:
        walk.single(only) if only is not None else walk.all()
    except RecursionError:
        why = "its folders or projects lead to one another too deeply"
        raise UnrecognisedSourceError(label or (only or source).name, why) from None
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
        return f"{self.prefix}{'' if below == '.' else below}" if self.prefix else below


@dataclass
class _Anchor:
    """The folder that loose modules are importable from, and what was found for it."""

    folder: Path
    files: list[Path] = field(default_factory=list)

    @property
    def has_modules(self) -> bool:
        return any(file.suffix == ".py" for file in self.files)


@dataclass
class _Walk:
    """One place's way from files to roots."""

    opener: Opener
    depth: int
    place: _Place
    roots: list[Root] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _seen: bool = False
    _anchors: list[_Anchor] = field(default_factory=list)
    _projects: set[Path] = field(default_factory=set)
    _claimed: set[Path] = field(default_factory=set)
    """Files of installed packages, and the folders that hold them."""

    def all(self) -> None:
        """Look at everything below the top."""
        level = self._level()
        if layouts.is_wheelhouse(level):
            self._wheelhouse(level)
            return
        self._folder(level, self._anchored(level))
        with_modules = [anchor for anchor in self._anchors if anchor.has_modules]
        if len(with_modules) > 1:  # each importable from its own folder: they would hide one another
            self._add("modules", level, tuple(file for anchor in with_modules for file in anchor.files))
        for anchor in self._anchors:
            if not anchor.has_modules:
                self._pass_over(anchor)
            elif len(with_modules) == 1:
                self._add("modules", anchor.folder, tuple(anchor.files))

    def single(self, file: Path) -> None:
        """Look at one file that is the source."""
        self._seen = True
        if file.suffix == ".py":
            self.roots.append(Root("modules", file.name, file.parent, self.place.top, (file,)))
        elif file.suffix in (".txt", ".in"):
            self._add("requirements", file)
        elif not self._take(file):
            self._ignore(file, layouts.no_source(file))

    def nothing(self) -> str:
        """Why there are no roots."""
        most = 5
        passed = "; ".join(f"{item.path} ({item.why})" for item in self.ignored[:most])
        more = f"; and {len(self.ignored) - most} more" if len(self.ignored) > most else ""
        what = "nothing in it can be made into a wheel" if self._seen or self.ignored else "it is empty"
        return f"{what}; passed over: {passed}{more}" if passed else what

    # --- folders ---

    def _entries(self, folder: Path, *, say: bool) -> list[Path]:
        """What a folder holds, sorted, without what never belongs to a source."""
        kept = []
        for entry in sorted(folder.iterdir(), key=lambda path: path.name):
            why = layouts.junk(entry)
            if why is None:
                kept.append(entry)
            elif say and folder not in self._claimed:
                self._ignore(entry, why)
        self._seen = self._seen or bool(kept)
        return kept

    def _level(self) -> Path:
        """The folder where the source begins: below folders that only wrap it, as in a code host's "Download ZIP"."""
        level = self.place.top
        while True:
            entries = self._entries(level, say=False)
            if len(entries) != 1 or not entries[0].is_dir() or not layouts.wraps(entries[0]):
                return level
            level = entries[0]

    def _anchored(self, folder: Path) -> _Anchor:
        self._anchors.append(_Anchor(folder))
        return self._anchors[-1]

    def _folder(self, folder: Path, anchor: _Anchor) -> None:
        if folder not in self._claimed and layouts.is_project(folder):
            self._project(folder)
            return
        entries = self._entries(folder, say=True)
        if folder != anchor.folder and layouts.is_source_of_its_own(folder, entries):
            anchor = self._anchored(folder)
        entries = self._without_installed(entries)
        lists = self._lists(folder, entries)
        for entry in entries:
            if entry.is_dir():
                self._folder(entry, anchor)
            elif entry not in self._claimed and entry not in lists and not self._take(entry):
                anchor.files.append(entry)

    def _pass_over(self, anchor: _Anchor) -> None:
        below: dict[str, list[Path]] = defaultdict(list)
        for file in anchor.files:
            below[file.relative_to(anchor.folder).parts[0]].append(file)
        for first, files in below.items():
            many = f"{len(files)} files, none of them Python"
            self._ignore(anchor.folder / first, many if len(files) > 1 else layouts.no_source(files[0]))

    def _project(self, folder: Path) -> None:
        """A project owns what lies below it; beside its own files only lists, wheels and what it declares count."""
        if folder in self._projects:
            return
        self._projects.add(folder)
        self._add("project", folder)
        entries = self._entries(folder, say=False)
        self._lists(folder, entries, of_project=True)
        for entry in entries:
            if layouts.is_left_by_a_build(entry):
                self._ignore(entry, "what an earlier build of the project left")
            elif entry.is_dir():
                self._wheels_below(entry)
            elif entry.suffix == ".whl":
                self._add("wheel", entry)
        for member in layouts.workspace_members(folder):
            self._project(member)
        for path in layouts.path_dependencies(folder):
            if path.is_relative_to(self.place.top) and path.is_dir() and layouts.is_project(path):
                self._project(path)

    def _wheels_below(self, folder: Path) -> None:
        """Wheels that lie in a folder of their own beside a project."""
        files = [entry for entry in self._entries(folder, say=False) if entry.is_file()]
        if not any(file.suffix == ".py" for file in files):
            for file in files:
                if file.suffix == ".whl":
                    self._add("wheel", file)

    def _wheelhouse(self, folder: Path) -> None:
        """A wheelhouse that depload wrote: its wheels are the source, and the rest is made anew."""
        for entry in self._entries(folder, say=False):
            if entry.suffix == ".whl":
                self._add("wheel", entry)
            else:
                self._ignore(entry, "what depload adds to a wheelhouse")

    # --- one folder's lists and packages ---

    def _lists(self, folder: Path, entries: list[Path], *, of_project: bool = False) -> set[Path]:
        """Take the lists of a folder that count, and say why others do not."""
        lists = [entry for entry in entries if layouts.is_list(entry, folder)]
        locks = [entry for entry in entries if layouts.PYLOCK.fullmatch(entry.name)]
        chosen = self._choose("requirements", lists, "requirements.txt", alone=of_project)
        chosen |= self._choose("pylock", locks, "pylock.toml", alone=of_project)
        unread = {entry: why for entry in entries if (why := layouts.unread_list(entry.name))}
        for entry, why in unread.items():
            self._ignore(entry, why)
            if not of_project and not chosen and entry.name in layouts.UNREAD_LISTS:
                self.warnings.append(f"{self.place.show(entry)}: {why}")
        return {*lists, *locks, *unread}

    def _choose(self, kind: Kind, found: list[Path], name: str, *, alone: bool) -> set[Path]:
        """Of the lists of a kind the one with the name that counts, else a single other one, but not if ``alone``."""
        exact = [entry for entry in found if entry.name.lower() == name]
        others = [entry for entry in found if not alone and not layouts.FOR_DEVELOPERS.search(entry.name)]
        chosen = exact[:1] or (others if len(others) == 1 else [])
        for entry in found:
            if entry in chosen:
                self._add(kind, entry)
            else:
                more = "; include others in it with -r" if kind == "requirements" else ""
                self._ignore(entry, f"only {name} is read{more}")
        if not chosen and others:
            names = ", ".join(map(self.place.show, others))
            self.warnings.append(f"none of {names} is read; name the one that counts {name}")
        return set(chosen)

    def _without_installed(self, entries: list[Path]) -> list[Path]:
        """The entries but for installed packages, which become roots."""
        dist_infos = [entry for entry in entries if installed.is_installed(entry)]
        for dist_info in dist_infos:
            self._add("installed", dist_info)
            for file in installed.files(dist_info):
                self._claimed |= {file, *layouts.between(file, dist_info.parent)}
        scripts = [entry for entry in entries if dist_infos and layouts.is_scripts(entry)]
        for entry in scripts:
            self._ignore(entry, "scripts of installed packages")
        return [entry for entry in entries if entry not in dist_infos and entry not in scripts]

    # --- one file ---

    def _take(self, file: Path) -> bool:
        """Take a file for what it is; False where it is none of depload's business."""
        name = file.name
        if layouts.PYLOCK.fullmatch(name):
            self._add("pylock", file)
        elif file.suffix == ".whl":
            self._add("wheel", file)
        elif layouts.is_sdist(file):
            self._add("sdist", file)
        elif name.lower().endswith(".zip"):
            return self._inner(file)
        elif name in layouts.SETTINGS:
            self._ignore(file, "settings of tools")
        else:
            return False
        return True

    def _inner(self, file: Path) -> bool:
        """Open a zip inside; one that holds nothing recognisable is data like any other file."""
        shown = self.place.show(file)
        if self.depth == 0:
            raise ArchiveError(shown, [Fault("", "zips are nested deeper than the limit (Limits.depth); unpack them")])
        try:
            top = self.opener(file)
        except ArchiveError as error:
            raise ArchiveError(shown, error.faults) from error
        below = _Walk(self.opener, self.depth - 1, _Place(top, f"{shown}!/"))
        below.all()
        if not below.roots:
            return False
        self.roots += below.roots
        self.ignored += below.ignored
        self.warnings += below.warnings
        return True

    def _add(self, kind: Kind, location: Path, files: tuple[Path, ...] = ()) -> None:
        if kind == "pylock" and location.stat().st_size > toml.LONGEST:
            shown = self.place.show(location)
            raise RequirementsError(shown, [Fault(shown, f"a lock of more than {toml.LONGEST:,} bytes is not read")])
        self.roots.append(Root(kind, self.place.show(location), location, self.place.top, files))

    def _ignore(self, entry: Path, why: str) -> None:
        self.ignored.append(Ignored(self.place.show(entry), why))
