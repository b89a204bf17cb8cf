"""The programs that resolve and build: where they are, and running them so that what they say can be shown."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Names of variables that other people's build code has no business to see.
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY|^DATABRICKS_|^AZURE_|^AWS_|^GOOGLE_|^ARM_|^GITHUB_",
    re.IGNORECASE,
)
_PUBLIC = {"AWS_CA_BUNDLE", "DATABRICKS_RUNTIME_VERSION"}  # match the pattern, hold no secret
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


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> Finished:
    """Run a program to its end, with ``environment`` over this process's own."""
    done = subprocess.run(
        list(command),
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def secrets() -> dict[str, str]:
    """Variables of this process to blank before other people's code runs, ready for ``run``'s ``environment``."""
    return {name: "" for name in os.environ if _SECRET.search(name) and name not in _PUBLIC}


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
    return command if run([*command, "--version"]).code == 0 else None


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
        yield run([tool, "python", "find", "--no-project", "--no-python-downloads", python]).stdout.strip()
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")  # whose shims answer for one version only
    yield from map(str, pyenv.glob(f"versions/{python}.*/bin/python"))


def _is_version(command: str, python: str) -> bool:
    """Whether it runs and is that version; a version manager's shim may do neither."""
    if not command:
        return False
    done = run([command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    return done.code == 0 and done.stdout.strip() == python
