"""Runs a program that may build within limits, and ends with it all that it has started.

A process of its own, run as a script: what it does to itself (namespaces, subreaper, limits) must not be done to the
process of a job. Its words are a connected socket's number and its order as JSON; what became of the program goes over
that socket, and when the other end closes it, the program is ended: also where that end was killed.

On Linux the program gets a namespace of processes of its own, where that is allowed (unshare(2), user_namespaces(7)):
it sees no other process, and all that it starts dies with the first of them. Else, and on other systems, processes are
known by their parents.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False  # importing typing costs a start that each build waits for
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 24, 36  # linux/prctl.h
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000  # linux/sched.h
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_SLAVE = 2, 4, 8, 0x4000, 0x80000  # linux/mount.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
# What root may do in a container by default, but for devices and raw sockets: capabilities(7) by number.
KEPT_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31})

LINUX = sys.platform == "linux"
LOOK = 0.1 if LINUX else 1.0  # seconds between two looks at the processes
LOOK_AT_DISK = 1.0
SHARE = 20  # a look that takes long is taken so many times its own length apart
THREADS = 4  # for each process, where the system counts both alike
LEAST_PID_MAX = 301  # what Linux keeps for itself, and one
GRACE = 3.0  # seconds that a program has to put away its own things once what it has started is ended
LONGEST_END = 15.0  # seconds that what was killed has to go


class NotAllowedError(Exception):
    """The system does not give the program a place of its own."""


def main(link: socket.socket, order: dict[str, Any]) -> None:
    """Run the program in the first place that the system allows; end what the watcher could not."""
    _subreaper()
    refused = ""
    for place in _places(order):
        ready, tell = os.pipe()
        child = os.fork()
        if not child:
            os.close(ready)
            _in_place(place, link, order, tell, refused)
        os.close(tell)
        with os.fdopen(ready) as said:
            failure = said.read()
        if not failure:
            link.close()  # the watcher has it
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        _end(set())
        if not failure:
            return
        refused = refused or failure
    link.sendall(_line({"refused": refused}))


# --- the place ------------------------------------------------------------------------------------------------------


def _places(order: dict[str, Any]) -> list[int]:
    """What to keep the program apart in, the best first: flags of unshare(2)."""
    if not LINUX:
        return [] if order["required"] else [0]
    net = CLONE_NEWNET if order["network"] == "own" else 0
    apart = CLONE_NEWPID | CLONE_NEWNS
    if os.geteuid() == 0:
        # Not first as a user of a namespace: there root may not give files to others, as tar does when root runs it.
        places = [apart | net] + ([CLONE_NEWUSER | apart | net] if net else [])
    else:
        places = [CLONE_NEWUSER | apart | net]
    if net:
        places.append(net if os.geteuid() == 0 else CLONE_NEWUSER | net)
        if order["required"]:
            return places
        places.append(places[0] & ~net)
    return [*places, 0]


def _in_place(flags: int, link: socket.socket, order: dict[str, Any], tell: int, refused: str) -> None:
    """Go there and watch; does not return."""
    code = 1
    try:
        _die_with_parent()
        if flags:
            _unshare(flags)
        if flags & CLONE_NEWPID:  # which holds for children
            child = os.fork()
            if child:
                link.close()
                os.close(tell)
                os.waitpid(child, 0)
                os._exit(0)
            _die_with_parent()
            _mount_proc()
        if flags & CLONE_NEWNET:
            _loopback(link, order)
        elif not LINUX and order["network"] == "own":
            refused = f"{sys.platform} has no network namespaces"
        _subreaper()
        os.close(tell)
        about = {
            "apart": bool(flags & CLONE_NEWPID),
            "network": "own" if flags & CLONE_NEWNET else "shared",
            "why": refused,
        }
        link.sendall(_line({**about, **_watched(link, order)}))
        code = 0
    except (OSError, NotAllowedError) as error:
        with contextlib.suppress(OSError):
            os.write(tell, str(error).encode() or b"refused")
    finally:
        os._exit(code)


def _unshare(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    if _libc().unshare(flags):
        raise NotAllowedError(f"unshare: {os.strerror(ctypes.get_errno())}")
    if flags & CLONE_NEWUSER:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


def _mount_proc() -> None:
    """A /proc of the program's own processes: the other one shows everybody's, with what they were started with."""
    libc = _libc()
    if libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None) or libc.mount(
        b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None
    ):
        raise NotAllowedError(f"mount of /proc: {os.strerror(ctypes.get_errno())}")


def _loopback(link: socket.socket, order: dict[str, Any]) -> None:
    """A network of its own begins with a loopback that is down. A port of it may lead out: to who gave the order."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))
    if order["port"]:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", order["port"]))
            listener.listen(128)
            socket.send_fds(link, [_line({"listener": True})], [listener.fileno()])


def _die_with_parent() -> None:
    if LINUX:
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _subreaper() -> None:
    """Whoever loses its parent below this process becomes a child of it (prctl(2))."""
    if LINUX:
        _libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# --- the program ----------------------------------------------------------------------------------------------------


def _watched(link: socket.socket, order: dict[str, Any]) -> dict[str, Any]:
    """Run the program until it ends, goes too far, or is not wanted any more; what became of it."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    watch = _Watch(order)
    before = time.monotonic()
    _go_first()
    program, failure = _started(order)
    if failure:
        return {"missing": os.strerror(failure)}
    code: int | None = None
    verdict: dict[str, Any] = {}
    while code is None and not verdict:
        sources: list[Any] = [link, woken]
        readable = select.select(sources, [], [], watch.pause(before))[0]
        if woken in readable:
            os.read(woken, 512)
        code = _reaped(program)
        if link in readable:
            verdict = {"limit": "stopped"}
        elif code is None:
            verdict = watch.verdict(time.monotonic() - before)
    if verdict:
        _let_go(program, watch.known)
    _end(watch.known, program)
    return {"code": code, **verdict}


class _Watch:
    """What the program's processes take, looked at now and then."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.known: set[tuple[int, str]] = set()
        """Every process of it that was seen: number and start, because numbers come again."""
        self._order = order
        self._next = self._next_disk = 0.0
        self._disk = _taken(order["watched"])

    def pause(self, before: float) -> float:
        """Seconds until there is something to look at."""
        now, end = time.monotonic(), before + float(self._order["seconds"])
        return max(0.0, min(self._next, end) - now)

    def verdict(self, seconds: float) -> dict[str, Any]:
        """The limit that was passed, what was measured and where; nothing while there is none."""
        now, order = time.monotonic(), self._order
        if seconds >= order["seconds"]:
            return {"limit": "time", "measured": seconds, "at": _at(_below(_table(), os.getpid()))}
        if now < self._next:
            return {}
        table = _table()
        rows = _below(table, os.getpid())
        self.known |= {(pid, table[pid].start) for pid in rows}
        memory = sum(table[pid].memory for pid in rows)
        if memory > order["memory"]:  # pages that several share count in each
            memory = sum(_proportional(pid, table[pid].memory) for pid in rows)
        found = [("processes", len(rows)), ("memory", memory)]
        if now >= self._next_disk:
            found.append(("disk", _taken(order["watched"]) - self._disk))
            self._next_disk = time.monotonic() + max(LOOK_AT_DISK, SHARE * (time.monotonic() - now))
        self._next = time.monotonic() + max(LOOK, SHARE * (time.monotonic() - now))
        for limit, measured in found:
            if measured > order[limit]:
                return {"limit": limit, "measured": measured, "at": _at(rows)}
        return {}


def _go_first() -> None:
    """Before a thousand processes that all want to run, as far as this user may."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def _started(order: dict[str, Any]) -> tuple[int, int]:
    """The program's number, and the error number where it cannot be run."""
    failed, tell = os.pipe()  # closed by a successful exec
    child = os.fork()
    if not child:
        try:
            _limited(order)
            os.execvp(order["command"][0], order["command"])  # noqa: S606 - a list, no shell
        except OSError as error:
            os.write(tell, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(tell)
    with os.fdopen(failed) as said:
        return child, int(said.read() or 0)


def _limited(order: dict[str, Any]) -> None:
    """What holds for each process of the program, set before it begins."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for name in ("SIGPIPE", "SIGXFSZ", "SIGCHLD"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    tasks = THREADS * order["processes"]
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, order["disk"])]
    if LINUX:  # of all tasks of this user, and root has none: the watcher sees to the limit, this to the pace
        limits.append((resource.RLIMIT_NPROC, _tasks_of_user() + tasks))
        with contextlib.suppress(OSError):  # of a namespace of its own, from Linux 6.14 on
            if os.getppid() == 1:
                with open("/proc/sys/kernel/pid_max", "w") as file:
                    file.write(str(max(LEAST_PID_MAX, tasks)))
    for kind, most in limits:
        hard = resource.getrlimit(kind)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))
    if LINUX:
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # where memory runs out, it is the build that the kernel ends, not the job
        for capability in range(64):
            if capability not in KEPT_CAPABILITIES:
                _libc().prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def _tasks_of_user() -> int:
    """The threads of all processes of this user that are to be seen."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == os.getuid():
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _reaped(program: int) -> int | None:
    """Take leave of every child that has ended; the program's exit code where it is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == program:
                code = os.waitstatus_to_exitcode(ended[1])
    return code


# --- processes ------------------------------------------------------------------------------------------------------


class _Process:
    def __init__(self, parent: int, start: str, memory: int) -> None:
        self.parent, self.start, self.memory = parent, start, memory


def _table() -> dict[int, _Process]:
    """Every process that there is to see, but for those that have ended: parent, start, resident bytes."""
    return _table_of_proc() if LINUX else _table_of_ps()


def _table_of_proc() -> dict[int, _Process]:
    table, page = {}, os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()  # proc(5), from the third on
                if fields[0] not in (b"Z", b"X"):
                    table[int(name)] = _Process(int(fields[1]), fields[19].decode(), int(fields[21]) * page)
    return table


def _table_of_ps() -> dict[int, _Process]:
    """The same where there is no /proc, as on macOS."""
    import subprocess

    table = {}
    with subprocess.Popen(["/bin/ps", "-axo", "pid=,ppid=,state=,rss=,lstart="], stdout=subprocess.PIPE) as ps:
        said = ps.communicate()[0].decode("utf-8", "replace")
    for line in said.splitlines():
        pid, parent, state, kilobytes, start = line.split(None, 4)
        if not state.startswith("Z") and int(pid) != ps.pid:
            table[int(pid)] = _Process(int(parent), start, int(kilobytes) * 1024)
    return table


def _below(table: dict[int, _Process], root: int) -> list[int]:
    """The processes that ``root`` has started, directly or not; the last ones last."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found = list(children.get(root, ()))
    for pid in found:
        found += children.get(pid, ())
    return found


def _proportional(pid: int, otherwise: int) -> int:
    """Resident bytes, each page shared by n processes as an n-th (proc(5), Pss)."""
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return otherwise


def _at(rows: list[int]) -> list[str]:
    """The directories that the processes are in: those of package tools tell what is being built."""
    found = []
    for pid in rows:
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/cwd"))
    return list(dict.fromkeys(found))[-10:]


def _let_go(program: int, known: set[tuple[int, str]]) -> None:
    """End what the program has started, but not itself: uv and pip then remove what they have put into their caches."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and _reaped(program) is None:
        _kill(known, program, spared=program)
        time.sleep(0.05)


def _end(known: set[tuple[int, str]], program: int = 0) -> None:
    """End every process below this one, and those of ``known`` that have left it."""
    deadline = time.monotonic() + LONGEST_END
    while time.monotonic() < deadline:
        _reaped(0)
        if not _kill(known, program):
            break
        time.sleep(0.01)


def _kill(known: set[tuple[int, str]], program: int, spared: int = 0) -> set[tuple[int, str]]:
    """Kill them, whoever they are. First they are stopped, until none is new: what is stopped starts no other."""
    with contextlib.suppress(OSError):  # most of them at once: all of a namespace, else the program's group
        if os.getpid() == 1:
            os.kill(-1, signal.SIGSTOP)
        elif program:
            os.killpg(program, signal.SIGSTOP)
    stopped: set[tuple[int, str]] = set()
    while new := {each for each in _present(known) if each[0] != spared} - stopped:
        _signalled(new, signal.SIGSTOP)
        stopped |= new
        known |= new
    _signalled(stopped, signal.SIGKILL)
    if spared:
        _signalled({(spared, "")}, signal.SIGCONT)
    return stopped


def _present(known: set[tuple[int, str]]) -> set[tuple[int, str]]:
    table = _table()
    below = {(pid, table[pid].start) for pid in _below(table, os.getpid())}
    return below | {(pid, start) for pid, start in known if pid in table and table[pid].start == start}


def _signalled(processes: set[tuple[int, str]], number: int) -> None:
    for pid, _ in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


# --- disk -----------------------------------------------------------------------------------------------------------


def _taken(folder: str) -> int:
    """The bytes that a directory takes on the disk."""
    total, folders = 0, [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    return total


def _line(answer: dict[str, Any]) -> bytes:
    return f"{json.dumps(answer)}\n".encode()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2]))
