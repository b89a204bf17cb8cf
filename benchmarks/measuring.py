"""How a thing is measured: in directories of its own, after a sync, in turns with what it is compared with.

Directories are not deleted between runs: on ext4, files are created far slower for a minute where many were just
deleted. Only where the disk gets short does what is measured go, and then that minute is waited for. In memory, where
neither holds, each goes at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHON = sys.executable
UV = str(Path(PYTHON).with_name("uv"))
_PEERS = ROOT / ".venv" / "peers"
_CACHES = ("UV_CACHE_DIR", "PIP_CACHE_DIR", "DEPLOAD_CACHE_DIR", "PEX_ROOT", "TMPDIR")
_PATIENCE = 300.0  # seconds that one command may take
_ROOM, _SHARE_OF_ROOM = 20e9, 0.15  # bytes of the disk that stay free, and the share of a small one
_SETTLING = 65.0  # seconds for which ext4 looks for inodes past those that were just deleted (RECENTCY_MIN)


class UnmeasuredError(Exception):
    """A command failed or took too long; the message is what it said last."""


Sample = dict[str, float]
"""What one run came to, by measure: ``seconds``, ``megabytes`` and others."""


@dataclass(frozen=True)
class Way:
    """One way of doing what others do as well."""

    name: str
    measure: Callable[[], Sample]
    share: float = 1.0
    """Of the runs; slow ways whose place is clear get fewer."""


@dataclass
class Series:
    """The samples of one way."""

    samples: list[Sample] = field(default_factory=list)
    error: str = ""
    """Why it has no more of them, in one line that names no path of this machine."""


def in_turns(ways: list[Way], runs: float) -> dict[str, Series]:
    """Every way once, then every way again: a machine whose speed drifts slows all of them alike.

    Each gets its share of the runs, and one at least. One that fails is not tried again, and the others go on.
    """
    found = {way.name: Series() for way in ways}
    counts = {way.name: max(1, round(runs * way.share)) for way in ways}
    for number in range(max(counts.values())):
        for way in ways:
            series = found[way.name]
            if not series.error and number < counts[way.name]:
                say(f"  {number + 1}/{counts[way.name]} {way.name}: {_run(way, series)}")
    return found


def _run(way: Way, series: Series) -> str:
    """Add a run to the series; returns how it went."""
    try:
        sample = way.measure()
    except (UnmeasuredError, OSError, ValueError, subprocess.SubprocessError) as error:
        series.error = reason(str(error))
        return str(error)
    series.samples.append(sample)
    return f"{sample['seconds']:.3f} s"


_ERROR = re.compile(r"(?m)^(?:Caused by: |\W*)((?:[\w.]*(?:Error|Exception)|error): .*)$")
_PATH = re.compile(r"""(?:file:/{0,2}|(?<![\w.~/-]))/(?!/)(?:[^\s/'"<>()]+/)*([^\s/'"<>()]+)/?""")
_LONGEST_REASON = 160


def reason(said: str) -> str:
    """The line that says why a command failed, cut where it is long; of paths their last names.

    It is the last one that names an error, as what comes after it is stack traces; else the last that is not indented.
    """
    lines = [line for line in said.splitlines() if line.strip() and not line[0].isspace()]
    found = _ERROR.findall(said) or lines or [""]
    return _PATH.sub(r"\1", found[-1])[:_LONGEST_REASON]


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def said_by(command: list[str], environment: Mapping[str, str], place: Path) -> str:
    """The standard output of a command that is run in ``place``; where it takes too long, all that it started ends."""
    running = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
        env=environment,
        start_new_session=True,
    )
    try:
        said, error = running.communicate(timeout=_PATIENCE)
    except BaseException as ending:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        if isinstance(ending, subprocess.TimeoutExpired):
            raise UnmeasuredError(f"it took more than {_PATIENCE:.0f} s") from None
        raise
    if running.returncode:
        raise UnmeasuredError(f"exit code {running.returncode}: {error.strip()[-8000:]}")
    return said


@contextlib.contextmanager
def place_of_a_run(scratch: Path) -> Iterator[Path]:
    """A new directory below ``scratch``, which goes at the end where it is in memory."""
    work = Path(tempfile.mkdtemp(dir=scratch))
    try:
        yield work
    finally:
        if _is_in_memory(work):
            shutil.rmtree(work, ignore_errors=True)


def _is_in_memory(place: Path) -> bool:
    kind = subprocess.check_output(["stat", "--file-system", "--format=%T", place], text=True)
    return kind.strip() == "tmpfs"


def settle(place: Path) -> None:
    """Write out what earlier runs left to the file system of ``place``, so that no later one pays for it."""
    subprocess.run(["sync", "-f", str(place)], check=False)


def timed(
    command: str, scratch: Path, environment: Mapping[str, str] | None = None, *, own_clock: bool = False
) -> Sample:
    """Wall seconds and the peak memory (MB) of the largest process of a shell command, by default with empty caches.

    The clock runs from before the shell starts until it has ended. With ``own_clock`` the seconds are what the command
    prints in its last line, as JSON with other measures if it has any. ``$WORK`` is a new directory.
    """
    with place_of_a_run(scratch) as work:
        env = {
            **os.environ,
            **{name: str(work / name.lower()) for name in _CACHES},
            **(environment or {}),
            "WORK": str(work),
        }
        Path(env["TMPDIR"]).mkdir(exist_ok=True)
        settle(work)
        about = json.loads(said_by([PYTHON, str(HERE / "clock.py"), command], env, work))
    if about["code"]:
        raise UnmeasuredError(f"exit code {about['code']}: {about['said'].strip()[-2000:]}")
    sample: Sample = {name: about[name] for name in ("seconds", "cpu", "megabytes")}
    return {**sample, **json.loads(about["last"])} if own_clock else sample


def peers() -> Path:
    """The directory of the other tools' programs, an environment of their own that is made once."""
    if not (_PEERS / "complete").exists():
        say("setting up the other tools ...")
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", PYTHON, str(_PEERS)], check=True)
        install = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(_PEERS / "bin" / "python")]
        subprocess.run([*install, "-r", str(HERE / "requirements.txt")], check=True)
        (_PEERS / "complete").touch()
    return _PEERS / "bin"


def versions() -> dict[str, str]:
    """Of the other tools."""
    said = subprocess.run(
        [UV, "pip", "list", "--python", str(peers() / "python"), "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wanted = {"pip", "uv", "pex", "venv-pack", "cluster-pack"}
    return {row["name"]: row["version"] for row in json.loads(said) if row["name"] in wanted}


class Ground:
    """The directory below which everything is measured; it goes in the end."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="depload-bench-"))
        self._used: list[Path] = []

    def __enter__(self) -> Ground:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def fresh(self, name: str) -> Path:
        """A new directory; what was measured before goes where it is in memory, or the disk is short."""
        disk = shutil.disk_usage(self.path)
        if _is_in_memory(self.path):
            self._remove_used()
        elif disk.free < min(_ROOM, _SHARE_OF_ROOM * disk.total):
            say(f"the disk is short: removing what was measured, and waiting {_SETTLING:.0f} s")
            self._remove_used()
            settle(self.path)
            time.sleep(_SETTLING)
        made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.path))
        self._used.append(made)
        return made

    def _remove_used(self) -> None:
        for path in self._used:
            shutil.rmtree(path, ignore_errors=True)
        self._used.clear()

    def kept(self, name: str) -> Path:
        """A directory that stays until the end, and whether it is complete is its user's business."""
        made = self.path / name
        made.mkdir(exist_ok=True)
        return made
