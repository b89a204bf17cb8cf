"""The one file: wheels, lock and manifest, and what makes it importable as it is.

``<name>.wheelhouse.zip`` holds at its root the wheels (stored), ``pylock.toml``, ``manifest.json``, the activation
package as ``_depload_<digest>/`` and an import stub for each name that the wheels provide. So it is a wheelhouse in
pip's sense once unzipped, and a legal argument to ``SparkContext.addPyFile`` as it stands.
"""

from __future__ import annotations

import collections
import hashlib
import json
import re
import shutil
import zipfile
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depload.errors import AlteredWheelhouseError, Fault, MissingWheelhouseError, NotAWheelhouseError
from depload.standards import archive, lockfile, wheels
from depload.standards.target import Target
from depload.travels import activation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


SUFFIX = ".wheelhouse.zip"
LOCK = "pylock.toml"
FORMAT_VERSION = 3
_LONGEST_MANIFEST = 16 << 20  # bytes; that of a thousand wheels is 1 MB
# Names become files, members and words of a script, so what they may be made of is said here, and not what not.
_NAMES = {
    "digest": re.compile(r"[0-9a-f]{64}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "name": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"),
    "python": re.compile(r"\d{1,3}\.\d{1,3}"),
    "platform": re.compile(r"\w{1,100}"),
    "wheel": wheels.FILENAME,
    "bytecode": re.compile(r"bytecode/[\w.!+-]{1,251}\.zip"),
}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what is written here; others raise errors of their own
_UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)  # zipfile's ways


@dataclass(frozen=True)
class PackedWheel:
    """A wheel as the manifest lists it."""

    filename: str
    name: str
    version: str
    sha256: str
    size: int
    """Bytes."""
    native: bool
    origin: str
    """Where it came from: an address without credentials, or what of the source it was built from."""
    requested: bool
    """Whether the source asked for it itself; what only others need is not."""
    names: tuple[str, ...]
    """The names that importing starts at."""


@dataclass(frozen=True)
class PackedBytecode:
    """A zip of .pyc files as the manifest lists it."""

    filename: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a wheelhouse holds, for which target; equal contents have equal digests."""

    digest: str
    name: str
    format: str
    """The format of the source that it was made from."""
    target: Target
    wheels: tuple[PackedWheel, ...]
    bytecode: tuple[PackedBytecode, ...]
    others: Mapping[str, str]
    """SHA-256 of every other member, by name: what is not listed does not belong."""

    def to_json(self) -> dict[str, Any]:
        """The manifest as it stands in ``manifest.json``."""
        return {
            "format_version": FORMAT_VERSION,
            "digest": self.digest,
            "name": self.name,
            "format": self.format,
            "target": {"python": self.target.python, "platform": self.target.platform},
            "wheels": [{**asdict(wheel), "names": list(wheel.names)} for wheel in self.wheels],
            "bytecode": [asdict(part) for part in self.bytecode],
            "others": dict(self.others),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest that ``to_json`` wrote; raises ValueError where something is missing or of another type."""
        try:
            if data["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {data['format_version']!r}, this depload reads {FORMAT_VERSION}")
            return cls(
                digest=_named(data, "digest"),
                name=_named(data, "name"),
                format=_typed(data, "format", str),
                target=Target(_named(data["target"], "python"), _named(data["target"], "platform")),
                wheels=tuple(_packed_wheel(row) for row in data["wheels"]),
                bytecode=tuple(
                    PackedBytecode(_named(row, "filename", "bytecode"), _named(row, "sha256"), _size(row))
                    for row in data["bytecode"]
                ),
                others={str(key): str(value) for key, value in data["others"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the manifest lacks {error}") from error

    def versions(self) -> dict[str, str]:
        """Version by package."""
        return {wheel.name: wheel.version for wheel in self.wheels}

    def packages(self) -> dict[str, dict[str, Any]]:
        """Version and import names by package, as plain data for a worker."""
        return {wheel.name: {"version": wheel.version, "names": list(wheel.names)} for wheel in self.wheels}


def _typed(data: Mapping[str, Any], key: str, kind: type) -> Any:  # noqa: ANN401 - of that kind
    value = data[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{key} is {type(value).__name__}, expected {kind.__name__}")
    return value


def _named(data: Mapping[str, Any], key: str, rule: str = "") -> str:
    value: str = _typed(data, key, str)
    if not _NAMES[rule or key].fullmatch(value):
        raise ValueError(f"{key} is {value[:100]!a}")
    return value


def _size(row: Mapping[str, Any]) -> int:
    size: int = _typed(row, "size", int)
    if size < 0:
        raise ValueError(f"size is {size}")
    return size


def _packed_wheel(row: Mapping[str, Any]) -> PackedWheel:
    names = tuple(map(str, _typed(row, "names", list)))
    if strange := [name for name in names if not all(part.isidentifier() for part in name.split("."))]:
        raise ValueError(f"names has {strange[0][:100]!a}")
    return PackedWheel(
        filename=_named(row, "filename", "wheel"),
        name=_named(row, "name"),
        version=_typed(row, "version", str),
        sha256=_named(row, "sha256"),
        size=_size(row),
        native=_typed(row, "native", bool),
        origin=_typed(row, "origin", str),
        requested=_typed(row, "requested", bool),
        names=names,
    )


@dataclass(frozen=True)
class Bytecode:
    """A zip of .pyc files, each where it lies below the site."""

    path: Path
    filename: str
    """Its name inside the wheelhouse."""
    sha256: str
    size: int


# --- writing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ingredient:
    """A wheel that goes in, with where it came from."""

    wheel: wheels.Wheel
    origin: str
    requested: bool
    built_from: tuple[str, str] | None = None
    """Algorithm and digest of the sdist or the project that it was built from; None where it came as a wheel."""
    uploaded: str = ""
    """When the index got the file, where it says so (RFC 3339)."""


def write(
    ingredients: Sequence[Ingredient],
    bytecode: Sequence[Bytecode],
    *,
    target: Target,
    name: str,
    source_format: str,
    to: Path,
    documents: Callable[[Manifest, Sequence[Ingredient]], Mapping[str, str]] | None = None,
) -> tuple[Path, Manifest]:
    """Write ``<name>.wheelhouse.zip`` below ``to``; the same wheels for the same target give the same bytes.

    ``documents`` makes further texts by name, of the manifest as it is without them. The digest does not cover them,
    and a reference does not hold them.
    """
    ingredients = sorted(ingredients, key=lambda ingredient: ingredient.wheel.filename)
    packed = _packed(ingredients)
    parts = tuple(PackedBytecode(part.filename, part.sha256, part.size) for part in bytecode)
    draft = Manifest("", name, source_format, target, packed, parts, {})
    digest = activation.digest_of(_with_hashes(draft, dict(_texts(ingredients, draft))).to_json())
    draft = replace(draft, digest=digest)
    texts = dict(_texts(ingredients, draft))
    manifest = _with_hashes(draft, texts)
    if documents is not None:
        texts |= documents(manifest, ingredients)
        manifest = _with_hashes(draft, texts)
    path = to / f"{name}{SUFFIX}"
    with zipfile.ZipFile(path, "w") as opened:
        for member, text in {activation.MANIFEST: json.dumps(manifest.to_json(), indent=1), **texts}.items():
            opened.writestr(wheels.member_info(member), text)
        for file, member in [
            *((ingredient.wheel.path, ingredient.wheel.filename) for ingredient in ingredients),
            *((part.path, part.filename) for part in bytecode),
        ]:
            _store(opened, file, member)
    return path, manifest


def _with_hashes(draft: Manifest, texts: Mapping[str, str]) -> Manifest:
    return replace(draft, others={name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()})


def write_reference(wheelhouse: Path, path_for_workers: str, to: Path) -> Path:
    """Write a small stand-in that workers can import from: all but the wheels, which they read from where it says.

    Its activation module has a name of its own (``..._reference``), so that the wheelhouse itself can be sent after it
    to workers that could not read the path. What goes in is compared with the manifest as it is read; raises
    AlteredWheelhouseError.
    """
    manifest = read(wheelhouse)
    module = activation.module_name(manifest.digest)
    with zipfile.ZipFile(wheelhouse) as opened, zipfile.ZipFile(to, "w") as written:
        written.writestr(wheels.member_info(activation.MANIFEST), json.dumps(manifest.to_json()))
        for name, sha256 in manifest.others.items():
            if name in activation.DOCUMENTS:
                continue
            data = opened.read(name)
            if hashlib.sha256(data).hexdigest() != sha256:
                raise AlteredWheelhouseError(str(wheelhouse), [Fault(name, "is not what the manifest names")])
            renamed = activation.renamed(name, module, f"{module}_reference")
            if data == activation.stub(module).encode():
                data = activation.stub(f"{module}_reference").encode()
            written.writestr(wheels.member_info(renamed), data)
        reference = {"path": path_for_workers, "size": wheelhouse.stat().st_size}
        written.writestr(wheels.member_info(activation.REFERENCE), json.dumps(reference))
    return to


def _packed(ingredients: Sequence[Ingredient]) -> tuple[PackedWheel, ...]:
    names = wheels.import_names(ingredient.wheel for ingredient in ingredients)
    return tuple(
        PackedWheel(
            filename=ingredient.wheel.filename,
            name=ingredient.wheel.name,
            version=ingredient.wheel.version,
            sha256=ingredient.wheel.sha256,
            size=ingredient.wheel.size,
            native=ingredient.wheel.native,
            origin=ingredient.origin,
            requested=ingredient.requested,
            names=names[ingredient.wheel.name],
        )
        for ingredient in ingredients
    )


def _texts(ingredients: Sequence[Ingredient], draft: Manifest) -> Iterator[tuple[str, str]]:
    """The small members: lock, metadata, the activation module, stubs and the namespaces they lie in."""
    module = activation.module_name(draft.digest)
    yield LOCK, lockfile.write(draft.target, map(_locked, draft.wheels))
    for file in sorted(Path(activation.__file__).parent.glob("*.py")):
        yield f"{module}/{file.name}", file.read_text(encoding="utf-8")
    for ingredient in ingredients:  # importlib.metadata answers from here until the wheels are unpacked
        yield from ((path, text) for path, text in ingredient.wheel.dist_info.items() if "/" in path)
    names = sorted({name for wheel in draft.wheels for name in wheel.names})
    yield from ((f"{folder}/", "") for folder in sorted(_namespaces(names)))  # zipimport needs an entry for each
    for name in names:
        yield f"{name.replace('.', '/')}.py", activation.stub(module)


def _locked(wheel: PackedWheel) -> lockfile.LockedPackage:
    file = lockfile.LockedFile(wheel.filename, wheel.filename, wheel.sha256, wheel.size)
    return lockfile.LockedPackage(wheel.name, wheel.version, (file,))


def _namespaces(names: Iterable[str]) -> set[str]:
    parts = [name.split(".") for name in names]
    return {"/".join(part[:depth]) for part in parts for depth in range(1, len(part))}


def _store(opened: zipfile.ZipFile, file: Path, member: str) -> None:
    info = wheels.member_info(member, zipfile.ZIP_STORED)
    info.file_size = file.stat().st_size  # so that zipfile knows whether it needs zip64
    with file.open("rb") as data, opened.open(info, "w") as written:
        shutil.copyfileobj(data, written, wheels.CHUNK)


# --- reading --------------------------------------------------------------------------------------------------------


def read(path: Path) -> Manifest:
    """The manifest inside a wheelhouse. Raises NotAWheelhouseError where there is none."""
    try:
        with zipfile.ZipFile(path) as opened:
            return Manifest.from_json(json.loads(_manifest_in(opened)))
    except FileNotFoundError:
        raise MissingWheelhouseError(str(path)) from None
    except RecursionError as error:
        raise NotAWheelhouseError(str(path), f"its {activation.MANIFEST} is nested too deeply") from error
    except _UNREADABLE as error:
        raise NotAWheelhouseError(str(path), f"it cannot be read as a zip ({error})") from error
    except KeyError:
        raise NotAWheelhouseError(str(path), f"it has no {activation.MANIFEST}") from None
    except (ValueError, AttributeError) as error:
        raise NotAWheelhouseError(str(path), f"its {activation.MANIFEST} is damaged ({error})") from error


def _manifest_in(opened: zipfile.ZipFile) -> bytes:
    info = opened.getinfo(activation.MANIFEST)
    if info.file_size > _LONGEST_MANIFEST:
        raise ValueError(f"it has more than {_LONGEST_MANIFEST:,} bytes")
    if info.compress_type not in _METHODS:
        raise ValueError(f"it is compressed by method {info.compress_type}")
    return opened.read(info)


def document(path: Path, member: str) -> str:
    """A further text of a wheelhouse. Raises NotAWheelhouseError where there is none, AlteredWheelhouseError."""
    manifest = read(path)
    if member not in manifest.others:
        raise NotAWheelhouseError(str(path), f"it has no {member}", "convert the source again")
    with zipfile.ZipFile(path) as opened:
        if what := _difference(opened, member, manifest.others[member]):
            raise AlteredWheelhouseError(str(path), [Fault(member, what)])
        return opened.read(member).decode()


def unpack_wheels(path: Path, to: Path) -> Iterator[Path]:
    """Copy the wheels out of a wheelhouse, one after another, so that each can go before the next one comes."""
    manifest = read(path)
    with zipfile.ZipFile(path) as opened:
        for wheel in manifest.wheels:
            with opened.open(wheel.filename) as member, (to / Path(wheel.filename).name).open("wb") as file:
                shutil.copyfileobj(member, file, wheels.CHUNK)
            yield to / Path(wheel.filename).name


def check_hashes(path: Path, *, but_wheels: bool = False) -> Manifest:
    """The manifest, after every member was compared with it; raises AlteredWheelhouseError with all that differ.

    ``but_wheels`` leaves out wheels and .pyc files, the large members, which whoever unpacks them compares.
    """
    manifest = read(path)
    if found := tuple(_faults(path, manifest, but_wheels=but_wheels)):
        raise AlteredWheelhouseError(str(path), found)
    return manifest


def _faults(path: Path, manifest: Manifest, *, but_wheels: bool = False) -> Iterator[Fault]:
    if activation.digest_of(manifest.to_json()) != manifest.digest:
        yield Fault(activation.MANIFEST, "the digest is not that of what it lists")
    if costly := archive.hostile(path):
        yield from costly
        return  # hashing the members would take as long as somebody chose
    large = {wheel.filename: wheel.sha256 for wheel in manifest.wheels}
    large |= {part.filename: part.sha256 for part in manifest.bytecode}
    with zipfile.ZipFile(path) as opened:
        present = opened.namelist()
        for name in sorted(name for name, count in collections.Counter(present).items() if count > 1):
            yield Fault(name, "is there more than once")
        for name in sorted(set(present) - manifest.others.keys() - large.keys() - {activation.MANIFEST}):
            yield Fault(name, "does not belong here")
        for name, sha256 in sorted({**manifest.others, **({} if but_wheels else large)}.items()):
            if what := _difference(opened, name, sha256):
                yield Fault(name, what)


def _difference(opened: zipfile.ZipFile, name: str, expected: str) -> str | None:
    digest = hashlib.sha256()
    try:
        if (method := opened.getinfo(name).compress_type) not in _METHODS:
            return f"is compressed by method {method}, and was not when it was published"
        with opened.open(name) as member:
            while data := member.read(wheels.CHUNK):
                digest.update(data)
    except KeyError:
        return "is missing"
    except _UNREADABLE as error:
        return f"is damaged ({error})"
    return None if digest.hexdigest() == expected else f"has SHA-256 {digest.hexdigest()}, expected {expected}"
