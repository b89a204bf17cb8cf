"""The stages in order: source -> detection -> wheels -> one file -> run path."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import functools
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from depload.errors import AlteredWheelhouseError, DeploadError, Fault, SourceError, StoreError
from depload.making import bytecode, documents, fetcher, inputs, tools
from depload.making.bindings import Bindings
from depload.making.collector import Collection
from depload.making.indexes import IndexOptions
from depload.making.policy import Candidate, Judge, Policy
from depload.published import runs, sbom, wheelhouse
from depload.published.conversions import Answer, Conversions
from depload.published.wheelcache import WheelCache
from depload.source import formats, layouts
from depload.standards import archive, wheels
from depload.standards.archive import Limits
from depload.standards.quantities import duration
from depload.standards.target import Target
from depload.stores.addresses import open_store
from depload.stores.transfers import on_this_machine

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from depload.making.bounds import BuildLimits
    from depload.making.resolver import ResolverName
    from depload.published.conversions import Record
    from depload.published.provenance import Circumstances
    from depload.published.wheelhouse import Ingredient, Manifest, PackedWheel
    from depload.source.formats import Detection


class Progress(Protocol):
    """Told what happens while it happens; every verb may do nothing. Called from several threads."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def downloaded(self, filename: str, done: int, total: int | None) -> None:
        """Bytes of a file have arrived, or have been published."""


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
    size: int
    """Its bytes."""
    manifest: Manifest
    detection: Detection
    warnings: tuple[str, ...]
    reused: bool
    """Whether an earlier conversion of the same base answered it."""
    why: str
    """Why it was, or why not."""
    started: str
    """When it began (RFC 3339)."""
    finished: str
    """When it was published."""
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
            "size": self.size,
            "digest": self.digest,
            "format": self.format,
            "target": asdict(self.target),
            "wheels": [{**asdict(wheel), "names": list(wheel.names)} for wheel in self.wheels],
            "warnings": list(self.warnings),
            "reused": self.reused,
            "why": self.why,
            "started": self.started,
            "finished": self.finished,
            "seconds": self.seconds,
        }


def detect(source: str | os.PathLike[str], *, limits: Limits | None = None, via: Any = None) -> Detection:  # noqa: ANN401
    """Tell what a source is: its format, its roots, what is passed over and why. Nothing of it is run.

    ``via`` is a ``WorkspaceClient`` or a dbutils, for a source on Databricks that is not mounted here.
    """
    with _workspace(source, limits or Limits(), via, Silent()) as space:
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
    builds: BuildLimits | None = None,
    progress: Progress | None = None,
    policy: Policy | None = None,
    reuse: timedelta | str | None = None,
    refresh: bool = False,
    cache: bool | str = True,
    via: Any = None,  # noqa: ANN401 - Databricks' objects
) -> Converted:
    """Turn ``source`` into a wheelhouse for ``target`` (default: this process), under a fresh run path of ``base``.

    Both may be paths or addresses: ``/Volumes/...``, ``dbfs:/...``, ``s3://...`` and others (docs/databricks.md). What
    is on Databricks and not mounted here is reached by ``via``, a ``WorkspaceClient`` or a dbutils; by default by the
    cluster's dbutils, else by a client made of what the environment says.

    A source that was converted before for the same target, with the same options, is answered from the base, if it pins
    every version; one that does not, if that was no longer ago than ``reuse`` (``"24h"``). ``refresh`` converts anew.
    Wheels that were downloaded or built are kept below the base (``wheels/``, ``conversions/``) until ``prune`` removes
    them; ``cache`` is another base to keep them in, or False for none.

    ``policy`` says what may be inside and how it may come about: hashes, builds, lists of what is allowed and denied,
    an audit. ``options`` come on top of pip's configuration. ``compile`` adds .pyc files where the target's Python is
    on this machine. ``builds`` is what building a project or an sdist may take: time, memory, disk, network. Whatever
    goes wrong, one DeploadError says so, nothing is published and nothing is left behind.
    """
    progress = progress or Silent()
    clock = _Clock(progress)
    options = (options or IndexOptions()).over(IndexOptions.configured())
    Bindings.of(options)  # what cannot be read is said before anything is done
    judge = Judge(policy or Policy(), options)
    window = duration(reuse) if reuse is not None else None
    target = target or Target.running()
    store = open_store(base, via)
    kept = open_store(cache, via) if isinstance(cache, str) else store if cache else None
    clock.phase("detect")
    with _workspace(source, limits or Limits(), via, progress) as space:
        collection = Collection(
            roots=space.detection.roots,
            label=space.source.name,
            target=target,
            options=options,
            scratch=space.scratch,
            resolver=resolver,
            phase=clock.phase,
            progress=progress,
            warnings=list(space.detection.warnings),
            cache=WheelCache(kept) if kept else None,
            builds=builds,
            judge=judge,
        )
        name = _safe_name(name or space.name)
        conversion = _Conversion(collection, options, [Path(file) for file in constraints], compile)
        with _reused_or_made(conversion, space, name, refresh=refresh, window=window) as made:
            _judge(made, judge, target)
            clock.phase("write")
            file, manifest = wheelhouse.write(
                made.ingredients,
                made.bytecode,
                target=target,
                name=name,
                source_format=space.detection.format,
                to=space.scratch,
                documents=functools.partial(documents.written, about=conversion.about(space.source, made.tools)),
            )
        clock.phase("publish")
        moved = functools.partial(progress.downloaded, file.name)
        told = {"reused": made.reused, "why": made.why}
        run = runs.publish(store, file, manifest, moved, lambda: {**told, **clock.times()})
        return Converted(
            path=run.path,
            wheelhouse=run.location,
            size=file.stat().st_size,
            manifest=manifest,
            detection=space.detection,
            warnings=made.warnings,
            reused=made.reused,
            why=made.why,
            started=clock.started,
            finished=_now(),
            seconds=clock.stop(),
        )


@dataclass(frozen=True)
class _Conversion:
    """What is to be done where no earlier conversion answers."""

    collection: Collection
    options: IndexOptions
    """Without those of the source's own files, which the collection adds to its own."""
    constraints: Sequence[Path]
    compile: bool

    def make(self) -> Answer:
        """The wheels, and the .pyc files of their modules."""
        collection = self.collection
        ingredients = collection.wheels(self.constraints)
        collection.phase("compile")
        parts = _compile(ingredients, collection) if self.compile else []
        return Answer(tuple(ingredients), tuple(parts), tuple(collection.warnings), dict(collection.tools))

    def about(self, source: Path, tools: Mapping[str, str]) -> Circumstances:
        """What the documents inside tell of it."""
        collection = self.collection
        return documents.about(
            inputs.extent(source, collection.target),
            options=self.options,
            policy=collection.judge.policy,
            constraints=self.constraints,
            tools=tools,
            more={"compile": self.compile, "resolver": collection.resolver},
        )

    def digest(self, source: Path, name: str) -> str:
        """Of all that decides the outcome."""
        collection = self.collection
        return inputs.digest(
            source,
            target=collection.target,
            name=name,
            options=collection.options,
            constraints=self.constraints,
            more=(str(collection.resolver), str(self.compile), *collection.judge.inputs),
        )


@contextlib.contextmanager
def _reused_or_made(
    conversion: _Conversion, space: _Space, name: str, *, refresh: bool, window: timedelta | None
) -> Iterator[_Made]:
    """What an earlier conversion of the base came to, else what this one does; of several at once, one does it.

    What was made is kept for later ones while the caller goes on with it.
    """
    cache = conversion.collection.cache
    if cache is None:
        yield _Made.of(conversion.make(), "nothing is kept without the cache")
        return
    if not any(root.kind in _COSTLY for root in space.detection.roots):
        yield _Made.of(conversion.make(), "nothing of it is worth keeping")
        return
    known = Conversions(conversion.digest(space.source, name), cache)
    while True:
        why = "--refresh asks for it" if refresh else "there was no earlier conversion of it"
        if not refresh:
            record = known.record()
            why = _why_not(record, window) if record else why
            if record and not why:
                conversion.collection.phase("reuse")
                if answer := known.answer(record, space.scratch / f"kept-{uuid.uuid4()}"):
                    yield _Made.of(answer, _why(record), reused=True)
                    return
                why = "not all of its wheels are kept any more"
            if error := known.failure():
                raise error
        with known.turn(waiting=lambda: conversion.collection.phase("wait")) as mine:
            if mine:
                try:
                    made = conversion.make()
                except DeploadError as error:
                    known.remember_failure(error)
                    raise
                with ThreadPoolExecutor(1) as beside:
                    kept = beside.submit(known.remember, made, conversion.collection.unpinned)
                    yield _Made.of(made, why)
                    kept.result()
                return
        refresh = False  # what another has made meanwhile is fresh enough


_COSTLY = frozenset({"requirements", "pylock", "project", "sdist"})
"""What takes an index, or a build."""


@dataclass(frozen=True)
class _Made:
    """What goes into the wheelhouse, and whether an earlier conversion had it."""

    ingredients: tuple[Ingredient, ...]
    bytecode: tuple[wheelhouse.Bytecode, ...]
    warnings: tuple[str, ...]
    tools: Mapping[str, str]
    reused: bool
    why: str

    @classmethod
    def of(cls, answer: Answer, why: str, *, reused: bool = False) -> _Made:
        return cls(answer.ingredients, answer.bytecode, answer.warnings, answer.tools, reused, why)


def _judge(made: _Made, judge: Judge, target: Target) -> None:
    """What goes in is judged, whoever made it: an earlier conversion may have had another policy."""
    requested = {item.wheel.name: item.origin for item in made.ingredients if item.requested}
    found = [item.wheel for item in made.ingredients]
    judge.judge(
        [Candidate(wheel.name, wheel.version) for wheel in found],
        lambda _: sbom.required_by(found, target, dict.fromkeys(requested, "the source")),
    )


def _why(record: Record) -> str:
    when = f"converted at {record.made:%Y-%m-%d %H:%M} UTC"
    return f"{when}, and it pins every version" if not record.unpinned else f"{when}, which is recent enough"


def _why_not(record: Record, window: timedelta | None) -> str:
    """Why a record does not answer; nothing where it does."""
    if not record.unpinned or (window is not None and record.age <= window):
        return ""
    few = ", ".join(record.unpinned[:3]) + (", ..." if len(record.unpinned) > 3 else "")  # noqa: PLR2004 - a line
    if window is None:
        return f"it does not pin {few}; within --reuse 24h, say, it would be taken as it was"
    return f"it does not pin {few}, and the earlier conversion is older than --reuse"


def _compile(ingredients: Sequence[Ingredient], collection: Collection) -> list[wheelhouse.Bytecode]:
    """The .pyc files, where the target's Python is here to make them."""
    python = collection.target.python
    interpreter = tools.interpreter(python)
    if interpreter is None:
        collection.warnings.append(f"no .pyc files inside, because there is no python{python} on this machine")
        return []
    to = collection.scratch / "bytecode"
    to.mkdir()
    return bytecode.compile_wheels([item.wheel for item in ingredients], interpreter, to, fetcher.default_cache())


def verify(path: str | os.PathLike[str], *, via: Any = None) -> Manifest:  # noqa: ANN401 - Databricks' objects
    """Check a wheelhouse whole: its hash, every wheel's, and every file of every wheel against the wheel's RECORD.

    ``via`` is a ``WorkspaceClient`` or a dbutils, for what is on Databricks and not mounted here.

    Raises AlteredWheelhouseError with all that is wrong.
    """
    run = runs.open_run(path, via, anew=True)
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
    source: Path
    """The source on this machine."""
    detection: Detection
    scratch: Path


@contextlib.contextmanager
def _workspace(source: str | os.PathLike[str], limits: Limits, via: Any, progress: Progress) -> Iterator[_Space]:  # noqa: ANN401
    """The source, fetched where it lies elsewhere, extracted where it is a zip; the scratch directory goes."""
    with _scratch() as scratch:
        here = on_this_machine(
            source,
            scratch / "arrived",
            via=via,
            members=limits.members,
            size=limits.size,
            moved=lambda name: functools.partial(progress.downloaded, name),
        )
        if not here.exists():
            raise SourceError(f"{here}: there is no such file or directory")
        here = here.resolve()
        detection = _detected(here, _Opened(scratch, limits), limits)
        yield _Space(_name(here), here, detection, scratch)


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
    """Extracts zips, each into a directory of its own; those inside a zip may not ask for more than it may itself."""

    def __init__(self, scratch: Path, limits: Limits) -> None:
        self._scratch = scratch
        self._limits = self._left = limits
        self._count = 0

    def __call__(self, file: Path) -> Path:
        self._count += 1
        to = self._scratch / "sources" / str(self._count)
        is_inside = file.is_relative_to(self._scratch / "sources")
        self._left = archive.extract(file, to, self._left if is_inside else self._limits)
        return to


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="milliseconds")


class _Clock:
    """Wall time by phase."""

    def __init__(self, progress: Progress) -> None:
        self.started = _now()
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._name = ""
        self._since = time.perf_counter()

    def phase(self, name: str) -> None:
        """Begin a phase, which ends the one before."""
        self._end()
        self._name, self._since = name, time.perf_counter()
        self._progress.phase(name)

    def times(self) -> dict[str, Any]:
        """When it began, now, and the seconds of each phase that has ended."""
        return {"started": self.started, "finished": _now(), "seconds": dict(self._seconds)}

    def stop(self) -> dict[str, float]:
        """End the last phase; the seconds of each, and of all."""
        self._end()
        return {**self._seconds, "total": round(sum(self._seconds.values()), 3)}

    def _end(self) -> None:
        if self._name:  # a phase may begin again: sdists are built once they are there
            before = self._seconds.get(self._name, 0)
            self._seconds[self._name] = round(before + time.perf_counter() - self._since, 3)
