"""The stages in order: source -> detection -> wheels -> one file -> run path."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from depload.errors import AlteredWheelhouseError, Fault, SourceError, StoreError
from depload.making import bytecode, fetcher, tools
from depload.making.collector import Collection
from depload.making.indexes import IndexOptions
from depload.published import runs, wheelhouse
from depload.published.stores import open_store
from depload.source import formats, layouts
from depload.standards import archive, wheels
from depload.standards.archive import Limits
from depload.standards.target import Target

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from depload.making.resolver import ResolverName
    from depload.published.wheelhouse import Ingredient, Manifest, PackedWheel
    from depload.source.formats import Detection


class Progress(Protocol):
    """Told what happens while it happens; every verb may do nothing. Called from several threads."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def downloaded(self, filename: str, done: int, total: int | None) -> None:
        """Bytes of a file have arrived."""


class Silent:
    """Progress that nobody wants to see."""

    def phase(self, name: str) -> None:
        """Nothing."""

    def downloaded(self, filename: str, done: int, total: int | None) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Converted:
    """A source that became a published wheelhouse."""

    path: str
    """The run path: what to hand on to the tasks that load."""
    wheelhouse: str
    """The file."""
    manifest: Manifest
    detection: Detection
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    """Wall time by phase."""

    @property
    def digest(self) -> str:
        """SHA-256 over what the wheelhouse holds: equal contents, equal digest."""
        return self.manifest.digest

    @property
    def format(self) -> str:
        """What the source was."""
        return self.detection.format

    @property
    def target(self) -> Target:
        """What the wheels are for."""
        return self.manifest.target

    @property
    def wheels(self) -> tuple[PackedWheel, ...]:
        """What is in it."""
        return self.manifest.wheels

    def to_json(self) -> dict[str, Any]:
        """As ``depload convert --json`` prints it."""
        return {
            "path": self.path,
            "wheelhouse": self.wheelhouse,
            "digest": self.digest,
            "format": self.format,
            "target": asdict(self.target),
            "wheels": [{**asdict(wheel), "names": list(wheel.names)} for wheel in self.wheels],
            "warnings": list(self.warnings),
            "seconds": self.seconds,
        }


def detect(source: str | os.PathLike[str], *, limits: Limits | None = None) -> Detection:
    """Tell what a source is: its format, its roots, what is passed over and why. Nothing of it is run."""
    with _workspace(Path(source), limits or Limits()) as space:
        return space.detection


def convert(
    source: str | os.PathLike[str],
    base: str | os.PathLike[str],
    *,
    name: str | None = None,
    target: Target | None = None,
    options: IndexOptions | None = None,
    constraints: Sequence[str | os.PathLike[str]] = (),
    resolver: ResolverName | None = None,
    compile: bool = True,  # noqa: A002 - pip's name for it
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Turn ``source`` into a wheelhouse for ``target`` (default: this process), under a fresh run path of ``base``.

    ``options`` come on top of pip's configuration. ``compile`` adds .pyc files where the target's Python is on this
    machine. Whatever goes wrong, one DeploadError says so, nothing is published and nothing is left behind.
    """
    clock = _Clock(progress or Silent())
    target = target or Target.running()
    store = open_store(base)
    clock.phase("detect")
    with _workspace(Path(source), limits or Limits()) as space:
        collection = Collection(
            roots=space.detection.roots,
            label=Path(source).resolve().name,
            target=target,
            options=(options or IndexOptions()).over(IndexOptions.configured()),
            scratch=space.scratch,
            resolver=resolver,
            phase=clock.phase,
            progress=progress,
            warnings=list(space.detection.warnings),
        )
        ingredients = collection.wheels([Path(file) for file in constraints])
        clock.phase("compile")
        parts = _compile(ingredients, target, space.scratch, collection.warnings) if compile else []
        clock.phase("write")
        file, manifest = wheelhouse.write(
            ingredients,
            parts,
            target=target,
            name=_safe_name(name or space.name),
            source_format=space.detection.format,
            to=space.scratch,
        )
        clock.phase("publish")
        run = runs.publish(store, file, manifest)
        warnings = tuple(collection.warnings)
        return Converted(run.path, str(run.file), manifest, space.detection, warnings, clock.stop())


def _compile(
    ingredients: Sequence[Ingredient], target: Target, scratch: Path, warnings: list[str]
) -> list[wheelhouse.Bytecode]:
    """The .pyc files, where the target's Python is here to make them."""
    interpreter = tools.interpreter(target.python)
    if interpreter is None:
        warnings.append(f"no .pyc files inside, because there is no python{target.python} on this machine")
        return []
    to = scratch / "bytecode"
    to.mkdir()
    return bytecode.compile_wheels([item.wheel for item in ingredients], interpreter, to, fetcher.default_cache())


def verify(path: str | os.PathLike[str]) -> Manifest:
    """Check a wheelhouse whole: its hash, every wheel's, and every file of every wheel against the wheel's RECORD.

    Raises AlteredWheelhouseError with all that is wrong.
    """
    run = runs.open_run(path)
    runs.check(run)
    wheelhouse.check_hashes(run.file)
    with _scratch() as scratch:
        found: list[Fault] = []
        for wheel in wheelhouse.unpack_wheels(run.file, scratch):
            found += wheels.faults(wheel)
            wheel.unlink()
    if found:
        raise AlteredWheelhouseError(run.path, found)
    return run.manifest


def _safe_name(name: str) -> str:
    """A name that is a file name everywhere and no option of anything."""
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in name)
    return kept.strip(".-_")[:100] or "dependencies"


# --- the source -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Space:
    """A source as a directory, and a scratch directory beside it."""

    name: str
    detection: Detection
    scratch: Path


@contextlib.contextmanager
def _workspace(source: Path, limits: Limits) -> Iterator[_Space]:
    """The source, extracted where it is a zip; whatever happens, the scratch directory goes."""
    if not source.exists():
        raise SourceError(f"{source}: there is no such file or directory")
    with _scratch() as scratch:
        detection = _detected(source.resolve(), _Opened(scratch, limits), limits)
        yield _Space(_name(source.resolve()), detection, scratch)


_REMEDIES = {
    errno.ENOSPC: "free space in the temporary directory, or set TMPDIR to another one",
    errno.EDQUOT: "free space in the temporary directory, or set TMPDIR to another one",
    errno.EACCES: "let this user read and write it",
    errno.EPERM: "let this user read and write it",
}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary directory that goes, whatever happens; what a disk refuses meanwhile is told with its name."""
    try:
        with tempfile.TemporaryDirectory(prefix="depload-", ignore_cleanup_errors=True) as made:
            yield Path(made).resolve()
    except OSError as error:
        place = str(error.filename or tempfile.gettempdir())
        raise StoreError(place, error.strerror or str(error), _REMEDIES.get(error.errno or 0, "")) from error


def _detected(source: Path, opened: _Opened, limits: Limits) -> Detection:
    if source.name in ("pyproject.toml", "setup.py", "setup.cfg") and layouts.is_project(source.parent):
        source = source.parent
    if source.is_dir():
        return formats.detect(source, opened, depth=limits.depth)
    if source.suffix in (".whl", ".txt", ".in", ".toml", ".py") or source.name.endswith(".tar.gz"):
        return formats.detect(source.parent, opened, depth=limits.depth, only=source)
    return formats.detect(opened(source), opened, depth=limits.depth, label=source.name)


def _name(source: Path) -> str:
    """What the wheelhouse of a source is called: by the project's folder, the wheel's package, else the file."""
    if source.name in ("pyproject.toml", "setup.py", "setup.cfg"):
        return source.parent.name
    name = source.name.removesuffix(".wheelhouse.zip").removesuffix(".tar.gz")
    if source.suffix == ".whl":
        return name.split("-")[0]
    return name if source.is_dir() else name.removesuffix(Path(name).suffix if name == source.name else "")


class _Opened:
    """Extracts zips, each into a directory of its own."""

    def __init__(self, scratch: Path, limits: Limits) -> None:
        self._scratch = scratch
        self._limits = limits
        self._count = 0

    def __call__(self, file: Path) -> Path:
        self._count += 1
        to = self._scratch / "sources" / str(self._count)
        archive.extract(file, to, self._limits)
        return to


class _Clock:
    """Wall time by phase."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._name = ""
        self._since = time.perf_counter()

    def phase(self, name: str) -> None:
        """Begin a phase, which ends the one before."""
        self._end()
        self._name, self._since = name, time.perf_counter()
        self._progress.phase(name)

    def stop(self) -> dict[str, float]:
        """End the last phase; the seconds of each, and of all."""
        self._end()
        return {**self._seconds, "total": round(sum(self._seconds.values()), 3)}

    def _end(self) -> None:
        if self._name:  # a phase may begin again: sdists are built once they are there
            before = self._seconds.get(self._name, 0)
            self._seconds[self._name] = round(before + time.perf_counter() - self._since, 3)
