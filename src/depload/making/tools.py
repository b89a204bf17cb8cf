"""The programs that resolve and build: where they are, and running them so that what they say can be shown."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import site
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from depload.errors import IndexUnavailableError, ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Variables that other people's build code has no business to see, by name or by a password in a URL.
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY|SIGNING|DSN$|CONNECTION_STRING|"
    r"_(?:PASS|PWD|PAT|AUTH|KEY)$|^DATABRICKS_|^AZURE_|^AWS_|^GOOGLE_|^ARM_|^GITHUB_|^SSH_|^KUBECONFIG$",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"://[^/?#\s]*:[^/?#\s]*@")
# These match, and hold no secret.
_PUBLIC = re.compile(r"AWS_CA_BUNDLE|DATABRICKS_RUNTIME_VERSION", re.IGNORECASE)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Finished:
    """A program that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """What it printed as errors, without colours; where it printed none, its output."""
        return _ESCAPES.sub("", self.stderr.strip() or self.stdout.strip())


def run(
    command: Sequence[str], *, environment: Mapping[str, str | None] | None = None, cwd: Path | None = None
) -> Finished:
    """Run a program to its end, with ``environment`` over this process's own, as ``over_mine`` puts it.

    Raises ToolMissingError.
    """
    try:
        done = subprocess.run(
            list(command),
            env=over_mine(environment or {}),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ToolMissingError(command[0], "this step", f"it cannot be run: {error.strerror}") from error
    return Finished(done.returncode, done.stdout, done.stderr)


def over_mine(environment: Mapping[str, str | None]) -> dict[str, str]:
    """All that a program gets: ``environment`` over this process's own, where None takes a variable out."""
    mine = {**os.environ, "COLUMNS": "10000", **environment}  # uv breaks its lines where a terminal would end
    return {name: value for name, value in mine.items() if value is not None}


def secrets() -> dict[str, str | None]:
    """Variables of this process to take out before other people's code runs, ready for ``run``'s ``environment``."""
    return {
        name: None
        for name, value in os.environ.items()
        if (_SECRET.search(name) or _PASSWORD.search(value)) and not _PUBLIC.fullmatch(name)
    }


def at_home(home: Path) -> dict[str, str | None]:
    """Variables that give a program another home, where no netrc, configuration or token of this user lies.

    What is known by its place in the real one, and holds no secret, is named: caches, Pythons, the toolchains of Rust.
    """
    kept = {"PYTHONUSERBASE": site.getuserbase()}
    with contextlib.suppress(RuntimeError):  # a user without a home
        real = Path.home()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or real / ".cache")
        kept |= {
            "UV_CACHE_DIR": str(cache / "uv"),
            "UV_PYTHON_INSTALL_DIR": str(Path(os.environ.get("XDG_DATA_HOME") or real / ".local/share", "uv/python")),
            "PIP_CACHE_DIR": str((real / "Library/Caches" if sys.platform == "darwin" else cache) / "pip"),
        }
        there = {"PYENV_ROOT": real / ".pyenv", "RUSTUP_HOME": real / ".rustup"}
        kept |= {name: str(path) for name, path in there.items() if path.is_dir()}
    own = {name: value for name, value in kept.items() if name not in os.environ}
    return {**dict.fromkeys(("XDG_CONFIG_HOME", "XDG_DATA_HOME", "NETRC")), **own, "HOME": str(home)}


_FETCH_FAILED = re.compile(r"Failed to (?:fetch|download):? `?(?:[\w.\[\]-]+ @ )?(\S+?)`?$", re.MULTILINE)
_CAUSE = re.compile(r"^\s*(?:cause|Caused by): (.*?)(?: for url \(.*\))?$", re.MULTILINE)
_RETRIES = re.compile(r"after (\d+) retr(?:y|ies)")
_PIP_FETCH_FAILED = (
    re.compile(r"Failed to connect to \S+ while fetching (?P<url>\S+)\n[^\w\[]*(?P<why>.*)"),
    re.compile(r"because of HTTP error (?P<why>\d+ [^:]+: [^:]+) for url: (?P<url>\S+)"),
)


def unreachable(said: str) -> IndexUnavailableError | None:
    """The error that uv or pip tell of a host that does not answer or refuses; None where they tell of another."""
    for pattern in _PIP_FETCH_FAILED:
        if match := pattern.search(said):
            return IndexUnavailableError(match["url"], match["why"].strip(), 1)
    match = _FETCH_FAILED.search(said)
    if match is None:
        return None
    retries, causes = _RETRIES.search(said), _CAUSE.findall(said)
    return IndexUnavailableError(match[1], causes[-1] if causes else said, int(retries[1]) + 1 if retries else 1)


@functools.cache
def uv() -> str | None:
    """The uv that depload was installed with, else the one on PATH; None where there is none."""
    try:
        from uv import find_uv_bin

        return os.fsdecode(find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


@functools.cache
def pip() -> tuple[str, ...] | None:
    """The command that runs pip for this interpreter; None where it has none."""
    command = (sys.executable, "-m", "pip")
    return command if _answers([*command, "--version"]) else None


@functools.cache
def described(tool: Literal["uv", "pip"]) -> str:
    """The tool and its version, as ``uv 0.9.2``."""
    command = [uv() or "uv"] if tool == "uv" else [*(pip() or ("pip",))]
    return " ".join(_answers([*command, "--version"]).split()[:2]) or tool


@functools.cache
def interpreter(python: str) -> str | None:
    """An interpreter of that version (``"3.10"``) on this machine: this one, one on PATH, or one that uv knows of."""
    if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    for found in _interpreters(python):
        if _is_version(found, python):
            return found
    return None


def _interpreters(python: str) -> Iterator[str]:
    if found := shutil.which(f"python{python}"):
        yield found
    if tool := uv():
        yield _answers([tool, "python", "find", "--no-project", "--no-python-downloads", python])
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")  # whose shims answer for one version only
    yield from map(str, pyenv.glob(f"versions/{python}.*/bin/python"))


def _is_version(command: str, python: str) -> bool:
    """Whether it runs and is that version; a version manager's shim may do neither."""
    if not command:
        return False
    return _answers([command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) == python


def _answers(command: Sequence[str]) -> str:
    """What a program that may not be there prints; nothing where it fails."""
    try:
        done = run(command, environment=secrets())
    except ToolMissingError:
        return ""
    return done.stdout.strip() if done.code == 0 else ""
