"""A stand-in for the dbutils of a notebook, for runs on this machine.

It has what a job's notebooks use: widgets, jobs.taskValues, secrets, fs and notebook. It is not Databricks' own, and
what is missing says so by its name.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from depload.running.notebooks import ExitNotebook

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from depload.databricks.values import TaskValues
    from depload.running.addresses import Addresses

Secrets = dict[str, dict[str, str]]
"""Values, by scope and key."""
REDACTED = "[REDACTED]"


class Utilities:
    """``dbutils``: widgets, jobs.taskValues, secrets, fs and notebook."""

    def __init__(
        self, widgets: Widgets, values: TaskValues, secrets: SecretUtils, fs: FileUtils | None, notebook: NotebookUtils
    ) -> None:
        self.widgets, self.secrets, self.fs, self.notebook = widgets, secrets, fs, notebook
        self.jobs = Jobs(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"dbutils.{name} is not there on this machine; this dbutils is a stand-in")


@dataclass(frozen=True)
class Jobs:
    """``dbutils.jobs``."""

    taskValues: TaskValues  # noqa: N815 - Databricks' name


class Widgets:
    """``dbutils.widgets``: what the task was given, else what the notebook says is the default."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = dict(given)
        self._defaults: dict[str, str] = {}

    def text(self, name: str, defaultValue: str = "", label: str | None = None) -> None:  # noqa: N803 - Databricks' names
        """A field for text."""
        del label
        self._defaults.setdefault(name, str(defaultValue))

    def dropdown(self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None) -> None:  # noqa: N803
        """A list to choose one from."""
        if defaultValue not in choices:
            raise ValueError(f"the default of widget {name}, {defaultValue!r}, is not one of its choices")
        self.text(name, defaultValue, label)

    combobox = multiselect = dropdown

    def get(self, name: str) -> str:
        """The value. Raises ValueError where there is no such widget, as the platform does in its own words."""
        values = self.getAll()
        if name not in values:
            raise ValueError(f"no widget is called {name}; there are {', '.join(sorted(values)) or 'none'}")
        return values[name]

    def getAll(self) -> dict[str, str]:  # noqa: N802 - Databricks' name
        """Every value, by name."""
        return {**self._defaults, **self._given}

    def give(self, name: str, value: str) -> None:
        """What ``%run`` hands over."""
        self._given[name] = value

    def remove(self, name: str) -> None:
        """Forget one."""
        self._defaults.pop(name, None)
        self._given.pop(name, None)

    def removeAll(self) -> None:  # noqa: N802 - Databricks' name
        """Forget all of them."""
        self._defaults.clear()
        self._given.clear()


class SecretMetadata(NamedTuple):
    """What ``list`` says of a secret."""

    key: str


class SecretScope(NamedTuple):
    """What ``listScopes`` says of a scope."""

    name: str


@dataclass
class SecretUtils:
    """``dbutils.secrets``, from what the run was given; a value that was read is hidden in what the task prints."""

    known: Secrets
    shown: set[str] = field(default_factory=set)

    def get(self, scope: str, key: str) -> str:
        """The value. Raises ValueError where there is none."""
        try:
            value = self.known[scope][key]
        except KeyError:
            raise ValueError(f"Secret does not exist with scope: {scope} and key: {key}") from None
        self.shown.add(value)
        return value

    def getBytes(self, scope: str, key: str) -> bytes:  # noqa: N802 - Databricks' name
        """The value as bytes."""
        return self.get(scope, key).encode()

    def list(self, scope: str) -> list[SecretMetadata]:
        """The keys of a scope."""
        return [SecretMetadata(key) for key in sorted(self.known.get(scope, {}))]

    def listScopes(self) -> list[SecretScope]:  # type: ignore[valid-type]  # noqa: N802 - `list` is a method here
        """The scopes."""
        return [SecretScope(name) for name in sorted(self.known)]

    def hide(self, text: str) -> str:
        """``text`` without the values that were read."""
        for value in sorted(self.shown, key=len, reverse=True):
            text = text.replace(value, REDACTED) if value.strip() else text
        return text


class FileInfo(NamedTuple):
    """What ``ls`` says of a file; a directory's name and path end with a slash."""

    path: str
    name: str
    size: int
    modificationTime: int  # noqa: N815 - Databricks' name


@dataclass(frozen=True)
class FileUtils:
    """``dbutils.fs`` over local paths and the addresses of a workspace; ``dbfs:/`` is the default, as there."""

    addresses: Addresses

    def _path(self, address: str) -> Path:
        plain = address.startswith("/") and not address.startswith(("/Volumes/", "/dbfs/"))
        if plain and self.addresses.root is not None and not Path(address).exists():
            return Path(self.addresses.local(f"dbfs:{address}"))
        return Path(self.addresses.local(address))

    def ls(self, dir: str) -> list[FileInfo]:  # noqa: A002 - Databricks' name
        """What lies in a directory."""
        place = self._path(dir)
        found = sorted(place.iterdir()) if place.is_dir() else [place]
        return [self._info(each, dir.rstrip("/") if place.is_dir() else str(Path(dir).parent)) for each in found]

    def _info(self, file: Path, within: str) -> FileInfo:
        about, slash = file.stat(), "/" if file.is_dir() else ""
        size = 0 if slash else about.st_size
        return FileInfo(f"{within}/{file.name}{slash}", f"{file.name}{slash}", size, int(about.st_mtime * 1000))

    def mkdirs(self, dir: str) -> bool:  # noqa: A002 - Databricks' name
        """Make a directory and those above it."""
        self._path(dir).mkdir(parents=True, exist_ok=True)
        return True

    def cp(self, source: str, target: str, recurse: bool = False) -> bool:
        """Copy a file, or with ``recurse`` a directory."""
        here, there = self._path(source), self._path(target)
        there.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir() and recurse:
            shutil.copytree(here, there, dirs_exist_ok=True)
        else:
            shutil.copy2(here, there / here.name if there.is_dir() else there)
        return True

    def mv(self, source: str, target: str, recurse: bool = False) -> bool:
        """Move a file, or with ``recurse`` a directory."""
        self.cp(source, target, recurse)
        return self.rm(source, recurse)

    def rm(self, dir: str, recurse: bool = False) -> bool:  # noqa: A002 - Databricks' name
        """Remove a file or an empty directory, or with ``recurse`` all of a directory; whether there was one."""
        place = self._path(dir)
        if not place.exists():
            return False
        if place.is_dir():
            shutil.rmtree(place) if recurse else place.rmdir()
        else:
            place.unlink()
        return True

    def put(self, file: str, contents: str, overwrite: bool = False) -> bool:
        """Write text. Raises FileExistsError."""
        place = self._path(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("w" if overwrite else "x", encoding="utf-8") as opened:
            opened.write(contents)
        return True

    def head(self, file: str, maxBytes: int = 65536) -> str:  # noqa: N803 - Databricks' name
        """The beginning of a file."""
        with self._path(file).open("rb") as opened:
            return opened.read(maxBytes).decode("utf-8", errors="replace")


@dataclass(frozen=True)
class NotebookUtils:
    """``dbutils.notebook``."""

    start: Callable[[str, float, Mapping[str, str]], str]

    def exit(self, value: str = "") -> None:
        """End the notebook, with a value for who runs it."""
        raise ExitNotebook(str(value))

    def run(self, path: str, timeout_seconds: float = 0, arguments: Mapping[str, str] | None = None) -> str:
        """Run another notebook in a process of its own; what it gave to ``exit``."""
        return self.start(path, timeout_seconds, arguments or {})
