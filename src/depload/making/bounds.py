"""What a build may take, and running a program so that it takes no more."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from depload import travels
from depload.errors import BuildIsolationError, BuildLimitError, DeploadError, ToolMissingError
from depload.making import tools
from depload.standards.quantities import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import timedelta

_WARDEN = Path(travels.__file__).with_name("warden.py")  # not imported: there are systems that it is not for
Network = Literal["index", "all"]


@dataclass(frozen=True)
class BuildLimits:
    """What each build may take, and each run of uv or pip that may build to get at the metadata of a package.

    Spans and sizes are written as ``"30m"`` and ``"8GB"``. Raises DeploadError where they are not.
    """

    timeout: timedelta | str = "30m"
    memory: int | str = "8GB"
    """Of all its processes together; pages that they share count once."""
    disk: int | str = "20GB"
    """What it may add to its scratch directory, and the largest file that it may write anywhere."""
    processes: int = 1000
    network: Network | None = None
    """``index``: the indexes and pages that were named, and files that these list; with ``no_index`` that is nothing.
    ``all``: what this machine has. By default ``index`` with ``no_index`` where the system allows it, else ``all``."""

    def __post_init__(self) -> None:
        if self.network not in (None, *get_args(Network)):
            raise DeploadError(f"{self.network!r} is no network of a build; write {' or '.join(get_args(Network))}")
        if not (self.seconds > 0 and self.processes > 0 and min(size(self.memory), size(self.disk)) > 0):
            raise DeploadError("a build needs some time, memory, disk and processes; no limit may be 0")

    @classmethod
    def of(cls, **given: Any) -> BuildLimits:  # noqa: ANN401 - what a command line or a job says
        """Those that are given; where one is None or empty, the default."""
        return cls(**{name: value for name, value in given.items() if value})

    @property
    def seconds(self) -> float:
        """The timeout."""
        return duration(self.timeout).total_seconds()


@dataclass(frozen=True)
class Net:
    """What of the network a program gets."""

    own: bool = False
    """Whether it gets one of its own, without hosts."""
    required: bool = False
    """Whether it may not be run where the system refuses that."""
    port: int | None = None
    """The port of that network's loopback that leads out."""
    lead: Callable[[socket.socket], None] = lambda listener: listener.close()
    """Told the socket that listens there."""


@dataclass
class Bounds:
    """Runs programs within limits, each watched by a process of its own (travels/warden.py); from several threads."""

    limits: BuildLimits = field(default_factory=BuildLimits)
    net: Net = field(default_factory=Net)
    refused: str = ""
    """Once something was run: why it had this machine's network, where it should have had one of its own."""

    def __post_init__(self) -> None:
        self._running: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._over = False

    def refusal(self, what: str) -> str:
        """A warning that says what became of it."""
        return (
            f"{what}: built with this machine's network, because the system gives builds none of their own "
            f"({self.refused}); --build-network index makes that an error, --build-network all says that it is meant"
        )

    def close(self) -> None:
        """End what is running and all that it has started; ``run`` then raises CancelledError."""
        with self._lock:
            self._over = True
            for link in self._running:
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)

    def run(
        self, command: Sequence[str], *, what: str, environment: Mapping[str, str | None], cwd: Path
    ) -> tools.Finished:
        """Run a program to its end, with ``environment`` over this process's own; ``what`` is what errors call it.

        When it has ended, however that came about, nothing that it has started runs on.

        Raises BuildLimitError, BuildIsolationError, ToolMissingError.
        """
        if sys.platform == "win32":  # where neither limits nor the ends of processes are told in this way
            return tools.run(command, environment=environment, cwd=cwd)
        said = [cwd / name for name in ("said.out", "said.err")]
        answer = self._answer(command, environment, cwd, said)
        done = tools.Finished(answer.get("code") or 0, *map(_read, said))
        for file in said:
            file.unlink(missing_ok=True)
        if "missing" in answer:
            raise ToolMissingError(command[0], "this step", f"it cannot be run: {answer['missing']}")
        if "refused" in answer:
            raise BuildIsolationError(what, answer["refused"] or "it is told apart by network namespaces of Linux")
        if self.net.own and answer.get("network") != "own":
            self.refused = answer.get("why") or "the system does not say why"
        if limit := answer.get("limit"):
            raise self._passed(limit, answer, what, done.said)
        if answer.get("code") is None:
            raise BuildLimitError(what, "watcher", "", "the process that watched it was ended", done.said)
        return done

    def _answer(
        self, command: Sequence[str], environment: Mapping[str, str | None], cwd: Path, said: Sequence[Path]
    ) -> dict[str, Any]:
        """What the watcher says in the end. Whatever happens here, it is waited for, and it ends what it watches."""
        mine, theirs = socket.socketpair()
        with mine, contextlib.ExitStack() as files:
            with theirs:
                out, err = (files.enter_context(file.open("wb")) for file in said)
                watcher = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_WARDEN), str(theirs.fileno()), self._order(command, cwd)],
                    env=tools.over_mine(environment),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # so that Ctrl-C is told to this process alone
                )
            try:
                with self._listed(mine):
                    return self._heard(mine)
            finally:
                with contextlib.suppress(OSError):
                    mine.shutdown(socket.SHUT_RDWR)
                watcher.wait()

    def _order(self, command: Sequence[str], cwd: Path) -> str:
        limits = self.limits
        order = {
            "command": list(command),
            "watched": str(cwd),
            "seconds": limits.seconds,
            "memory": size(limits.memory),
            "disk": size(limits.disk),
            "processes": limits.processes,
            "network": "own" if self.net.own else "shared",
            "required": self.net.required,
            "port": self.net.port,
        }
        return json.dumps(order)

    @contextlib.contextmanager
    def _listed(self, link: socket.socket) -> Iterator[None]:
        with self._lock:
            if self._over:
                raise CancelledError
            self._running.add(link)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(link)

    def _heard(self, link: socket.socket) -> dict[str, Any]:
        text = b""
        while True:
            data, descriptors, _, _ = socket.recv_fds(link, 1 << 16, 1)
            for descriptor in descriptors:
                self.net.lead(socket.socket(fileno=descriptor))
            text += data
            if not data:
                break
        if self._over:
            raise CancelledError
        answer: dict[str, Any] = {}
        for line in text.splitlines():
            answer |= json.loads(line)
        return answer

    def _passed(self, limit: str, answer: Mapping[str, Any], what: str, said: str) -> BuildLimitError:
        limits = self.limits
        allowed = {
            "time": ("--build-timeout", f"it was not done after {_span(limits.seconds)}"),
            "memory": ("--build-memory", f"it took more memory than {_size(limits.memory)}"),
            "disk": ("--build-disk", f"it wrote more than {_size(limits.disk)}"),
            "processes": ("", f"it started more than {limits.processes} processes"),
        }
        option, why = allowed[limit]
        return BuildLimitError(_busy_with(answer.get("at", ())) or what, limit, option, why, said)


_IN_UV = re.compile(r"/sdists-v\d+/(?:pypi|index/\w+)/(?P<name>[\w.-]+)/(?P<version>[\w.!+]+)/")
_IN_PIP = re.compile(r"/pip-(?:install|wheel|req-build)-\w+/(?P<name>[\w.-]+)_[0-9a-f]{32}(?:/|$)")


def _busy_with(folders: Sequence[str]) -> str:
    """The package that was being built, by where uv or pip had unpacked it; nothing where that does not tell."""
    for folder in reversed(folders):
        if match := _IN_UV.search(folder):
            return f"{match['name']} {match['version']}"
        if match := _IN_PIP.search(folder):
            return match["name"]
    return ""


_MOST_SAID = 32 << 20


def _read(file: Path) -> str:
    """What a program has said; the end of it where it is more than can be of use."""
    with file.open("rb") as opened:
        opened.seek(max(0, os.fstat(opened.fileno()).st_size - _MOST_SAID))
        return opened.read().decode("utf-8", "replace").replace("\r\n", "\n")


def _span(seconds: float) -> str:
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit and seconds % unit == 0:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:g} seconds"


def _size(limit: int | str) -> str:
    return limit if isinstance(limit, str) else f"{limit / 1e9:g} GB"
