"""What one hostile input may do: nothing outside of its directory, in bounded time, and no error but a refusal."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PATIENCE = 10.0
"""Seconds that one input may take: what is small must be quick."""
LONG_PATIENCE = 60.0
"""Seconds that one may take that is as large as the limits allow, a hundred thousand files say."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {  # PEP 578 events by how many of their first arguments are paths
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.truncate": 1,
    "os.utime": 1,
    "os.rename": 2,
    "os.link": 2,
}
_REACHING = {
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
}
# Python imports what it needs when it needs it, and looks at itself.
_OWN = (sys.prefix, sys.base_prefix, Path(os.__file__).parent, Path(__file__).parents[2], "/proc", "/sys")
_READABLE = tuple(f"{os.path.realpath(path)}/" for path in _OWN)


class EscapeError(Exception):
    """The input reached something that it should not; an attack raises it for what only it can see."""


class TooLongError(BaseException):
    """Time is up; no ``except Exception`` keeps it from being told."""


@dataclass(frozen=True)
class Tried:
    """What came of one input."""

    seconds: float
    crash: str = ""
    """The traceback of an error that is no refusal."""
    escape: str = ""
    """What was written, read or asked outside of the directory, or that the bound of time was broken."""

    @property
    def finding(self) -> str:
        return self.escape or self.crash


class _Watch:
    """An audit hook (PEP 578), which cannot be removed again, so it is made once and listens when told."""

    def __init__(self) -> None:
        self._inside = ""
        self._folders: dict[str, str] = {}  # to what they really are, as a large archive asks often
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While an attack builds its scene."""
        inside, self._inside = self._inside, ""
        try:
            yield
        finally:
            self._inside = inside

    @contextmanager
    def over(self, inside: Path) -> Iterator[list[str]]:
        self._inside = f"{os.path.realpath(inside)}/"
        self._folders = {}
        self.seen = []
        try:
            yield self.seen
        finally:
            self._inside = ""

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._inside:
            return
        if event in _REACHING:
            self.seen.append(f"{event} {arguments!r:.300}")
        elif event == "open":
            self._judge(event, arguments[0], -1, writing=bool((arguments[2] or 0) & _WRITING))
        elif event in _CHANGING:
            for path in arguments[: _CHANGING[event]]:
                self._judge(event, path, arguments[-1], writing=True)

    def _judge(self, event: str, path: Any, folder: Any, *, writing: bool) -> None:
        if isinstance(path, int) or not isinstance(path, (str, bytes, os.PathLike)):
            return
        place, inside = os.fsdecode(path), self._inside
        if isinstance(folder, int) and folder >= 0:  # relative to a directory's descriptor, as shutil.rmtree has it
            place = f"{Path(f'/proc/self/fd/{folder}').readlink()}/{place}"
        above, _, name = place.rstrip("/").rpartition("/")
        real = f"{self._really(above or ('/' if place.startswith('/') else '.'))}/{name}"
        # To open follows a link; the others change the link itself.
        if name in (".", "..") or (event == "open" and Path(real).is_symlink()):
            real = os.path.realpath(real)
        if not f"{real}/".startswith(inside) and (writing or not real.startswith(_READABLE)):
            self.seen.append(f"{event} {real!r:.300}")

    def _really(self, folder: str) -> str:
        """What a folder is behind all links; of one in a folder that was asked for before, in no time."""
        if folder not in self._folders:
            above, _, name = folder.rpartition("/")
            known = self._folders.get(above) if name not in ("", ".", "..") else None
            real = f"{known}/{name}"
            linked = known is None or Path(real).is_symlink()
            self._folders[folder] = os.path.realpath(folder) if linked else real
        return self._folders[folder]


_watch: _Watch | None = None


def watch() -> _Watch:
    """The one audit hook of this process."""
    global _watch  # noqa: PLW0603 - hooks stay for as long as the process lives
    _watch = _watch or _Watch()
    return _watch


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLongError in the main thread once the time is up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(attack: Callable[[Path], object], *, patience: float = PATIENCE) -> Tried:
    """Let ``attack`` loose in a directory of its own; what it raises is a crash, for refusals it catches itself."""
    with tempfile.TemporaryDirectory(prefix="depload-attack-", ignore_cleanup_errors=True) as made:
        inside = Path(os.path.realpath(made), "inside")
        inside.mkdir()
        crash = escape = ""
        started = time.perf_counter()
        with watch().over(inside) as seen:
            try:
                with limited(patience):
                    attack(inside)
            except TooLongError:
                escape = f"it took more than {patience:g} s:\n{traceback.format_exc(limit=-6)}"
            except EscapeError as error:
                escape = str(error)
            except MemoryError:
                escape = f"it took more memory than there is:\n{traceback.format_exc(limit=-6)}"
            except Exception:  # noqa: BLE001 - whatever it is, it is the finding
                crash = traceback.format_exc()
        seconds = time.perf_counter() - started
        left = [path.name for path in Path(made).iterdir() if path != inside]
    outside = "\n".join(dict.fromkeys([*seen, *(f"left {name!r} outside" for name in left)]))
    return Tried(seconds, crash, outside or escape)


def digest(data: bytes) -> str:
    """A short name for an input."""
    return hashlib.sha256(data).hexdigest()[:12]
