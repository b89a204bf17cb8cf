"""Virtual environments beside the one that the tests run in, kept until what they are made of changes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from depload.making import tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LISTS = Path(__file__).parent.parent / "environments"
KEPT = Path(sys.prefix) / "environments"


class NotMadeError(Exception):
    """An environment, or what is to be used in it, cannot be made; the message says why."""


class NotHereError(Exception):
    """This machine has not what a cell needs, which is no failure; the message says what."""


def ready(requirements: Path, python: str) -> Path:
    """The interpreter of an environment with a list of requirements, of that Python (``"3.11"``)."""
    text = requirements.read_text(encoding="utf-8")

    def fill(interpreter: Path) -> None:
        for version in _pysparks(text, python):
            _build_pyspark(version)
        _install(interpreter, "--find-links", str(_PYSPARKS), "-r", str(requirements))

    return _kept(f"{requirements.stem}-python-{python}", python, text, fill)


def install_depload(interpreter: Path, wheel: Path) -> None:
    """Put depload's wheel in as a user would, whatever version was there before."""
    _install(interpreter, "--reinstall-package", "depload", str(wheel))


def frozen(interpreter: Path) -> list[str]:
    """What is installed, a line each."""
    return _uv("pip", "freeze", "--quiet", "--python", str(interpreter)).splitlines()


def frozen_when_made(interpreter: Path) -> list[str]:
    """What was installed before depload was."""
    lines: list[str] = json.loads(_note(interpreter).read_text(encoding="utf-8"))["frozen"]
    return lines


# --- runtimes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """An environment made from the list of packages that a Databricks runtime preinstalls."""

    interpreter: Path
    listed: int
    left_out: dict[str, str]
    """Why, by requirement: names that no index has are packages of the operating system."""


def runtime(packages: Path, python: str, pyspark: str) -> Runtime:
    """As near to the runtime as packages can bring it: each of its list in the listed version, and pyspark beside."""
    lines = [line.strip() for line in packages.read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    name = f"{packages.stem}-python-{python}"

    def fill(interpreter: Path) -> None:
        left_out: dict[str, str] = {}
        _install_what_can_be(interpreter, wanted, left_out)
        _build_pyspark(pyspark)
        _install(interpreter, "--find-links", str(_PYSPARKS), f"pyspark=={pyspark}")
        note = {"left out": left_out, "frozen": frozen(interpreter)}
        _note(interpreter).write_text(json.dumps(note, indent=1), encoding="utf-8")

    interpreter = _kept(name, python, "\n".join([*wanted, f"pyspark=={pyspark}"]), fill)
    note = json.loads(_note(interpreter).read_text(encoding="utf-8"))
    return Runtime(interpreter, len(wanted), note["left out"])


def _note(interpreter: Path) -> Path:
    """What was true when an environment was made."""
    return interpreter.parent.parent / "made.json"


def _install_what_can_be(interpreter: Path, wanted: Sequence[str], left_out: dict[str, str]) -> None:
    """All at once, else each half by itself: uv installs nothing of a list of which one package cannot be had."""
    try:
        _install(interpreter, "--no-deps", *wanted)
    except NotMadeError as error:
        if len(wanted) == 1:
            left_out[wanted[0]] = _short(str(error))
            return
        middle = len(wanted) // 2
        _install_what_can_be(interpreter, wanted[:middle], left_out)
        _install_what_can_be(interpreter, wanted[middle:], left_out)


def _short(said: str) -> str:
    if re.search(r"not found in the package registry|no versions? of|no wheels? ", said):
        return "on no index"
    if re.search(r"Failed to build|build backend|build_wheel", said):
        return "does not build here"
    return " ".join(said.split())[:200]


# --- pyspark, which the index has as sources only -------------------------------------------------------------------

_PYSPARKS = Path(sys.prefix) / "pysparks"


def _pysparks(text: str, python: str) -> Iterator[str]:
    """The versions that a list asks for on that Python."""
    for line in text.splitlines():
        if line.startswith("pyspark"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                yield str(requirement.specifier).removeprefix("==")


def _build_pyspark(version: str) -> None:
    """Once, into a wheel for every Python: uv builds these 400 MB anew whenever the index lets its copy lapse."""
    with _alone(f"pyspark-{version}"):
        if any(_PYSPARKS.glob(f"pyspark-{version}-*.whl")):
            return
        quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        with tempfile.TemporaryDirectory(dir=KEPT) as scratch:
            command = [sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "--use-pep517", "-w", scratch]
            stored = "--config-settings=--build-option=--compression=stored"  # jars do not become smaller
            _run([*command, stored, f"pyspark=={version}"])
            _PYSPARKS.mkdir(exist_ok=True)
            for wheel in Path(scratch).glob("*.whl"):
                wheel.replace(_PYSPARKS / wheel.name)


# --- making them ----------------------------------------------------------------------------------------------------


def _kept(name: str, python: str, text: str, fill: Callable[[Path], None]) -> Path:
    """The environment of that name, made anew where ``text`` is not what it was made of."""
    interpreter = tools.interpreter(python)
    if interpreter is None:
        raise NotHereError(f"there is no Python {python} on this machine")
    place = KEPT / name
    made_of = place / "made-of"
    stamp = hashlib.sha256(f"{python}\n{text}".encode()).hexdigest()
    with _alone(name):
        if not made_of.exists() or made_of.read_text() != stamp:
            _uv("venv", "--quiet", "--clear", "--python", interpreter, str(place))
            fill(place / "bin" / "python")
            made_of.write_text(stamp)
    return place / "bin" / "python"


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process at a time makes an environment; tests may run in several."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(interpreter: Path, *arguments: str) -> None:
    _uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(interpreter), *arguments)


def _uv(*arguments: str) -> str:
    tool = tools.uv()
    if tool is None:
        raise NotMadeError("uv is missing: pip install uv")
    return _run([tool, *arguments])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(list(command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMadeError(done.stderr.strip())
    return done.stdout
