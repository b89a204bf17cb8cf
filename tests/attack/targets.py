"""What is attacked: each reader with bytes that nobody vouches for, and what must hold whatever they are.

The first byte of an input may choose the form in which the rest arrives: raw, or as one part of something sound.
"""

from __future__ import annotations

import gzip
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from attack import zips
from attack.guard import EscapeError
from depload.errors import (
    AlteredWheelhouseError,
    ArchiveError,
    DeploadError,
    InvalidWheelError,
    NotAWheelhouseError,
    RequirementsError,
    StoreError,
)
from depload.making import asks
from depload.published import wheelhouse
from depload.source import formats, installed
from depload.source.formats import Root
from depload.standards import archive, lockfile, requirements, wheels
from depload.standards.archive import Limits
from depload.standards.lockfile import InvalidLockError
from depload.standards.target import Target as MadeFor
from depload.travels import activation
from depload.travels.activation import sites

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.source.formats import Detection

LIMITS = Limits(size=256 * zips.MIB)
TARGET = MadeFor("3.11", "manylinux_2_35_x86_64")
ENVIRONMENT = {**TARGET.environment(), "extra": ""}
SECRET = "hush-hush-b7f3"
"""The value of every variable that a source must not get hold of."""
SECRETS = ("DATABRICKS_TOKEN", "AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET", "ARM_CLIENT_SECRET")


@dataclass(frozen=True)
class Target:
    """A reader, and a function that hands it an input in a directory of its own and raises what is no refusal."""

    name: str
    attack: Callable[[bytes, Path], None]
    modules: tuple[str, ...]
    """What a coverage-guided fuzzer is to look into."""


def expect(holds: object, what: str) -> None:
    """Raise EscapeError unless it holds: an ``assert`` that no refusal is mistaken for."""
    if not holds:
        raise EscapeError(what)


# --- archives and detection -------------------------------------------------------------------------


def _archive(data: bytes, inside: Path) -> None:
    path, to = inside / "source.zip", inside / "deep" / "to"
    path.write_bytes(data)
    faults = archive.inspect(path, LIMITS)
    try:
        left = archive.extract(path, to, LIMITS)
    except ArchiveError as error:
        expect(not to.exists() and not to.parent.exists(), "what was refused left something behind")
        expect(all(fault.what and str(fault).isprintable() for fault in error.faults), "a fault that cannot be printed")
        return
    expect(not faults, "what was found at fault was extracted")
    _expect_bounded(to, left)


def _expect_bounded(to: Path, left: Limits) -> None:
    size = count = 0
    for folder, folders, files in os.walk(to):
        for name in (*folders, *files):
            path = Path(folder, name)
            expect(not path.is_symlink() and (path.is_file() or path.is_dir()), f"{path} is neither file nor folder")
            size, count = size + (path.lstat().st_size if path.is_file() else 0), count + 1
    expect(size <= LIMITS.size - left.size, f"{size} bytes were unpacked, {LIMITS.size - left.size} were accounted for")
    expect(count <= LIMITS.members, f"{count} files and folders were made")


class Opener:
    """Extracts zips inside zips, all of them from one budget, as converting does."""

    def __init__(self, inside: Path) -> None:
        self._inside = inside
        self._left = LIMITS
        self._count = 0

    def __call__(self, file: Path) -> Path:
        self._count += 1
        to = self._inside / "opened" / str(self._count)
        self._left = archive.extract(file, to, self._left)
        return to


_FILES = {
    b"p": "pyproject.toml",
    b"c": "setup.cfg",
    b"s": "setup.py",
    b"g": "acme-1.0.tar.gz",
    b"r": "alpha-1.0.dist-info/RECORD",
    b"m": "alpha-1.0.dist-info/METADATA",
    b"w": "alpha-1.0.dist-info/WHEEL",
    b"i": "package/module.py",
}
_BESIDE = {
    "alpha-1.0.dist-info/RECORD": "alpha/__init__.py,,\n",
    "alpha-1.0.dist-info/METADATA": zips.METADATA.decode(),
    "alpha-1.0.dist-info/WHEEL": zips.WHEEL.decode(),
    "alpha/__init__.py": "",
    "alone.py": "import json\n",
}
_PROJECTS = {
    "packages/one/pyproject.toml": "[project]\nname = 'one'\n",
    "packages/a/b/c/d/e/f/g/setup.cfg": "[metadata]\n",
}


def _detection(data: bytes, inside: Path) -> None:
    form, rest = data[:1], data[1:]
    source = inside / "source"
    if form in (b"t", *_FILES):
        sound = _BESIDE if form in b"rmw" else {"package/other.py": ""} if form == b"i" else _PROJECTS
        for name, text in sound.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_text(text)
        place = source / ("acme-1.0.tar.gz" if form == b"t" else _FILES[form])
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(gzip.compress(rest, 1, mtime=0) if form == b"t" else rest)
    try:
        opener = Opener(inside)
        if not source.exists():
            (inside / "source.zip").write_bytes(data)
            source = opener(inside / "source.zip")
        _expect_sound(formats.detect(source, opener), inside)
    except StoreError as error:
        raise EscapeError(f"the disk refused what should have been: {error}") from error
    except DeploadError as error:
        expect("\x1b" not in str(error), "a terminal would obey the message")


def _expect_sound(found: Detection, inside: Path) -> None:
    json.dumps(found.to_json())
    for root in found.roots:
        places = [root.location, *root.files]
        expect(all(place.resolve().is_relative_to(inside) for place in places), f"{root} lies outside of the source")
        if root.kind == "installed":
            with suppress(InvalidWheelError):
                installed.pack(root.location, root.path, inside)


# --- requirements and locks -------------------------------------------------------------------------


def _requirements(data: bytes, inside: Path) -> None:
    source = inside / "source"
    for name in ("pkg/pyproject.toml", "libs/some_pkg-1.0-py3-none-any.whl", "libs/notes.txt", "more.txt"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("")
    (source / "requirements.txt").write_bytes(data)
    before = {name: os.environ.get(name) for name in SECRETS}
    os.environ.update(dict.fromkeys(SECRETS, SECRET))
    try:
        found = requirements.read(source / "requirements.txt", source)
    except RequirementsError as error:
        said = [str(fault) for fault in error.faults]
        expect(all(text.isprintable() and len(text) < 2000 for text in said), "a fault that cannot be printed")
        expect(not any(SECRET in text for text in said), "an error tells a secret")
        return
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    expect(SECRET not in repr(found), "a secret of the platform is sent to a host of the source's choice")
    for line in (*found.lines, *found.constraints):
        expect(line.path is None or line.path.is_relative_to(source), f"{line.path} is outside of the source")
        marker = Requirement(line.requirement).marker if line.name else None
        expect(marker is None or marker.evaluate(ENVIRONMENT) in (True, False), "no answer")


def _lock(data: bytes, inside: Path) -> None:
    (inside / "pylock.toml").write_bytes(data)
    root = Root("pylock", "pylock.toml", inside / "pylock.toml", inside)
    try:
        packages = lockfile.read(data.decode("utf-8", "replace"), TARGET)
        located = [asks._located(package, root) for package in packages]
    except InvalidLockError as error:
        expect(all(len(fault) < 2000 for fault in error.faults), "a fault that nobody reads to the end")
        return
    for package in located:
        for file in package.files:
            wheels.tags_of(file.filename)
            expect(Path(file.filename).name == file.filename != "..", f"{file.filename!r} is a path")
            local = "://" not in file.location
            expect(not local or Path(file.location).is_relative_to(inside), f"{file.location} is outside of the source")


# --- wheels -------------------------------------------------------------------------------------------

_OF_A_WHEEL = {b"m": "metadata", b"r": "record", b"w": "about"}


def _wheel(data: bytes, inside: Path) -> None:
    form, rest = data[:1], data[1:]
    name, whole = "alpha-1.0-py3-none-any.whl", data
    if form in _OF_A_WHEEL:
        parts: dict[str, Any] = {_OF_A_WHEEL[form]: rest}
        whole = zips.wheel({"alpha.py": b""}, **parts)
    elif form == b"p":
        whole = zips.wheel({"alpha.pth": rest, "a/b/c.py": b"", "alpha/__init__.py": b"", "d.py": b""})
    elif form == b"f":
        name = "".join(char for char in rest.decode("utf-8", "replace") if char not in "/\0")[:60] + ".whl"
        whole = zips.wheel({"alpha.py": b""})
    path = inside / name
    path.write_bytes(whole)
    faults = wheels.faults(path, TARGET)
    expect(all(str(fault).isprintable() and len(str(fault)) < 2000 for fault in faults), "a fault nobody can print")
    try:
        found = wheels.read(path)
    except InvalidWheelError:
        expect(faults, "a wheel without faults cannot be read")
        return
    for file in found.files:
        expect(".." not in file.split("/") and not file.startswith("/"), f"{file} leaves the site")
    for names in wheels.import_names([found]).values():
        expect(all(part.isidentifier() for each in names for part in each.split(".")), f"{names} are no names")


# --- wheelhouses --------------------------------------------------------------------------------------

SOUND = {"alpha-1.0-py3-none-any.whl": zips.wheel({"alpha.py": b"NAME = 'alpha'\n"})}


def _manifest(data: bytes, inside: Path) -> None:
    whole = zips.wheelhouse(SOUND, text=data[1:]) if data[:1] == b"j" else data
    path = inside / "attack.wheelhouse.zip"
    path.write_bytes(whole)
    try:
        manifest = wheelhouse.read(path)
    except NotAWheelhouseError:
        return
    expect(manifest == type(manifest).from_json(json.loads(json.dumps(manifest.to_json()))), "it is not what it says")
    names = [manifest.name, manifest.digest, *(wheel.filename for wheel in manifest.wheels)]
    expect(all(Path(name).name == name and name.isprintable() for name in names), "a name that is a path")
    with suppress(AlteredWheelhouseError):
        wheelhouse.check_hashes(path)


def _activation(data: bytes, inside: Path) -> None:
    form, rest = data[:1], data[1:]
    whole = data
    if form == b"w":
        whole = zips.wheelhouse({"alpha-1.0-py3-none-any.whl": rest})
    elif form == b"j":
        whole = zips.wheelhouse(SOUND, text=rest)
    elif form == b"r":
        manifest = json.dumps(zips.manifest_of(SOUND)).encode()
        whole = zips.ordinary({"manifest.json": manifest, "reference.json": rest})
    path = inside / "attack.zip"
    path.write_bytes(whole)
    activate(path, inside / "home")


def activate(path: Path, home: Path) -> str | None:
    """The site that activating makes, up to where it would go on ``sys.path`` and its .pth files would be run."""
    before = os.environ.get("DEPLOAD_SITES")
    os.environ["DEPLOAD_SITES"] = str(home)
    try:
        manifest = activation.manifest_of(str(path))
        site, _ = sites.ready(str(path), manifest)
    except activation.ActivationError:
        left = [entry.name for entry in (home / "sites").iterdir()] if (home / "sites").exists() else []
        expect(not left, f"what was refused left {left}")
        return None
    finally:
        os.environ.pop("DEPLOAD_SITES")
        os.environ.update({"DEPLOAD_SITES": before} if before else {})
    sites.no_longer_use(site)
    expect(site == str(home / "sites" / manifest["digest"]), f"{site} is not where sites are")
    expect(sites.is_sound(site, manifest["digest"]), "a site that is complete does not count as such")
    for folder, folders, files in os.walk(site):
        links = [name for name in (*folders, *files) if Path(folder, name).is_symlink()]
        expect(not links, f"links were made: {links}")
    return site


TARGETS = {
    target.name: target
    for target in (
        Target("archive", _archive, ("depload.standards.archive", "zipfile")),
        Target("detection", _detection, ("depload.source", "depload.standards", "zipfile", "tarfile", "tomllib")),
        Target("requirements", _requirements, ("depload.standards.requirements", "packaging")),
        Target("wheels", _wheel, ("depload.standards", "zipfile", "packaging", "email", "csv")),
        Target("lock", _lock, ("depload.standards", "tomllib", "packaging")),
        Target("manifest", _manifest, ("depload.published.wheelhouse", "depload.standards.archive", "zipfile", "json")),
        Target("activation", _activation, ("depload.travels.activation", "zipfile", "json")),
    )
}
