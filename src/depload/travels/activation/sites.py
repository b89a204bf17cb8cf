"""The sites of a node: one directory for each digest, unpacked once, used by many processes, removed when none does."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import time

from .payload import COMPLETE, ActivationError, payload_of

try:
    import fcntl
except ImportError:  # Windows: without locks two processes may both unpack; the rename decides, and both are right
    fcntl = None  # type: ignore[assignment]

TYPE_CHECKING = False  # importing typing costs a worker more than all of this module
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# What Spark appends to a configured local directory: /local_disk0/spark-<uuid>/executor-<uuid>/blockmgr-<uuid>.
_SPARK_SCRATCH = re.compile(r"(?:blockmgr|executor|spark)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_users: dict[str, int] = {}  # by site: the descriptor whose lock says that this process uses it


def ready(archive: str, manifest: dict[str, Any]) -> tuple[str, bool]:
    """The unpacked site, marked as in use by this process, and whether it was unpacked just now."""
    home = sites_home(native=any(wheel["native"] for wheel in manifest["wheels"]))
    path = os.path.join(home, manifest["digest"])
    try:
        _use(path)
        if is_sound(path, manifest["digest"]):
            return path, False
        with _exclusive(f"{path}.lock"):
            if is_sound(path, manifest["digest"]):
                return path, False
            _make_site(archive, manifest, path)
        remove_sites(home, *_limits())
    except BaseException as error:
        no_longer_use(path)
        with contextlib.suppress(OSError), _sole_user(path):
            pass  # what marks its users goes with it
        if isinstance(error, Exception) and not isinstance(error, ActivationError):  # whatever zipfile makes of it
            where = f"{home} on host {socket.gethostname()}"
            raise ActivationError(f"{where}: the wheels could not be unpacked there: {error}") from error
        raise
    return path, True


def _make_site(archive: str, manifest: dict[str, Any], path: str) -> None:
    """Unpack; where the disk is full, what nobody uses makes room first."""
    home, digest = os.path.split(path)
    _remove_leftovers(home, digest)
    try:
        _unpack_as(archive, manifest, path)
    except OSError as error:
        if error.errno != errno.ENOSPC or not remove_sites(home, unused_for=0, size=0):
            raise
        _unpack_as(archive, manifest, path)


def _unpack_as(archive: str, manifest: dict[str, Any], path: str) -> None:
    from . import unpacking  # a process that finds the site does without it

    home, digest = os.path.split(path)
    work = tempfile.mkdtemp(prefix=f".{digest}.", dir=home)
    try:
        files = unpacking.unpack(payload_of(archive), manifest, work)
        _settle(work, path, digest, files)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _use(path: str) -> None:
    """Mark the site as in use for as long as this process, and what it forks, lives."""
    if fcntl is None or path in _users:
        return
    descriptor = _locked(f"{path}.use", fcntl.LOCK_SH)
    os.utime(descriptor)  # when it was last used
    _users[path] = descriptor


def no_longer_use(path: str) -> None:
    """Take that mark away; a site that is not marked stays so."""
    if path in _users:
        os.close(_users.pop(path))


def sites_home(*, native: bool = True) -> str:
    """The directory that holds the sites of this user on this node, readable by this user alone.

    ``DEPLOAD_SITES`` names it; otherwise it lies below Spark's local directories, else below the temporary directory. A
    candidate that belongs to someone else, that others can enter, or from which native code may not run is passed over.
    """
    named = os.path.abspath(said) if (said := os.environ.get("DEPLOAD_SITES")) else None
    roots = [named] if named else [*_spark_local_dirs(), tempfile.gettempdir()]
    refused = []
    for root in roots:
        home = root if named else os.path.join(root, f"depload-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
        # A directory that the user names is the user's choice; the others are in everybody's reach.
        why = None if named else _replaceable(root)
        why = why or _why_not(home, native) or _why_not(os.path.join(home, "sites"), native)
        if why is None:
            return os.path.join(home, "sites")
        refused.append(f"{home} ({why})")
    raise ActivationError(
        f"no directory to unpack into: {', '.join(refused)}; set DEPLOAD_SITES to a directory of this user"
    )


def _why_not(home: str, native: bool) -> str | None:
    """Why sites may not be kept in ``home``, or None; it is made where it is missing."""
    try:
        os.makedirs(os.path.dirname(home), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(home, 0o700)
        found = os.lstat(home)
        if not stat.S_ISDIR(found.st_mode):
            return "not a directory of its own"
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
            return "others can write to it"
        if not os.access(home, os.W_OK | os.X_OK):
            return "not writable"
        if native and hasattr(os, "statvfs") and os.statvfs(home).f_flag & getattr(os, "ST_NOEXEC", 0):
            return "mounted noexec, native code cannot be loaded from it"
    except OSError as error:
        return error.strerror or str(error)
    return None


def _replaceable(root: str) -> str | None:
    """Why others could put a directory of theirs in the place of ours below ``root``, or None.

    Who may write to a directory that has no sticky bit may rename what lies in it, whoever that belongs to.
    """
    place = os.path.realpath(root)
    while hasattr(os, "getuid"):
        with contextlib.suppress(OSError):  # not there yet
            mode = os.stat(place).st_mode
            if mode & 0o022 and not mode & stat.S_ISVTX:
                return f"others can rename what lies in {place}, which has no sticky bit"
        if place == os.path.dirname(place):
            break
        place = os.path.dirname(place)
    return None


def _spark_local_dirs() -> list[str]:
    """Spark's local directories as configured: what it adds for one executor goes when that executor goes."""
    found = []
    for path in os.environ.get("SPARK_LOCAL_DIRS", os.environ.get("LOCAL_DIRS", "")).split(","):
        root = path.strip()
        while _SPARK_SCRATCH.fullmatch(os.path.basename(root)):
            root = os.path.dirname(root)
        if root and root not in found:
            found.append(root)
    return found


def is_sound(path: str, digest: str) -> bool:
    """Whether the site was completed by this user, and every file of it is as it was then."""
    try:
        with open(os.path.join(path, COMPLETE), encoding="utf-8") as file:
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                return False
            complete = json.load(file)
        return complete["digest"] == digest and all(
            _mark(os.path.join(path, name)) == mark for name, mark in complete["files"].items()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _mark(path: str) -> list[int]:
    """What changes with every change of a file: its size, and the time in ns that nobody can set (``st_ctime``)."""
    found = os.lstat(path)
    return [found.st_size, found.st_ctime_ns]


def _settle(work: str, path: str, digest: str, files: list[str]) -> None:
    """Mark the work directory complete and give it its name; losing that race to an equal site is success."""
    inside = len(os.path.join(work, ""))
    marks = {file[inside:]: _mark(file) for file in files}
    with open(os.path.join(work, COMPLETE), "w", encoding="utf-8") as complete:
        complete.write(json.dumps({"digest": digest, "files": marks}))  # json.dump never takes the encoder in C
    if os.path.lexists(path) and not is_sound(path, digest):
        _remove_site(path)
    try:
        os.rename(work, path)
    except OSError:
        if not is_sound(path, digest):
            raise
        shutil.rmtree(work, ignore_errors=True)


def _remove_site(path: str) -> None:
    """Under another name first, so that nobody ever sees half of it."""
    home, name = os.path.split(path)
    aside = tempfile.mkdtemp(prefix=f".{name}.", dir=home)
    os.rename(path, os.path.join(aside, name))
    shutil.rmtree(aside, ignore_errors=True)


def remove_sites(home: str, unused_for: float, size: float) -> list[str]:
    """Remove sites that no process uses: those unused for so many seconds, and the oldest while all exceed ``size``.

    Returns the names of what was removed, digests. Work directories that a killed process left go as well.
    """
    sites = sorted(_sites(home))
    total = sum(bytes_ for _, bytes_, _ in sites)
    removed = []
    for used, bytes_, name in sites:
        if used > time.time() - unused_for and total <= size:
            continue
        path = os.path.join(home, name)
        with contextlib.suppress(OSError), _sole_user(path):
            _remove_site(path)
            _remove_leftovers(home, name)
            removed.append(name)
            total -= bytes_
    return removed


def _sites(home: str) -> Iterator[tuple[float, int, str]]:
    """When each site was last used, its size in bytes, and its name."""
    for name in os.listdir(home):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            with open(os.path.join(home, name, COMPLETE), encoding="utf-8") as file:
                bytes_ = sum(size for size, _ in json.load(file)["files"].values())
            yield os.stat(os.path.join(home, f"{name}.use")).st_mtime, bytes_, name


@contextlib.contextmanager
def _sole_user(path: str) -> Iterator[None]:
    """Raises OSError where any process uses or unpacks the site; nobody begins to meanwhile."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "this platform cannot tell what is in use")
    with contextlib.ExitStack() as stack:
        for name in (f"{path}.use", f"{path}.lock"):
            stack.callback(os.close, _locked(name, fcntl.LOCK_EX | fcntl.LOCK_NB))
        yield
        for name in (f"{path}.use", f"{path}.lock"):
            os.unlink(name)


def _limits() -> tuple[float, float]:
    """After how many seconds without use a site goes, and how many bytes all of them may have."""
    limits = []
    for name, default, unit in (("DEPLOAD_SITES_MAX_DAYS", 7, 86_400), ("DEPLOAD_SITES_MAX_GB", 50, 10**9)):
        said = os.environ.get(name, str(default))
        try:
            limits.append(float(said) * unit)
        except ValueError:
            raise ActivationError(f"the environment variable {name} is {said!r}, not a number") from None
    return limits[0], limits[1]


def _remove_leftovers(home: str, digest: str) -> None:
    """Work directories of processes that died: whoever holds the lock is the only one unpacking."""
    if fcntl is None:
        return
    for name in os.listdir(home):
        if name.startswith(f".{digest}."):
            shutil.rmtree(os.path.join(home, name), ignore_errors=True)


@contextlib.contextmanager
def _exclusive(path: str) -> Iterator[None]:
    """Hold a lock among the processes of this node; the kernel lets go of it when its holder dies."""
    if fcntl is None:
        yield
        return
    descriptor = _locked(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(path: str, kind: int) -> int:
    """A descriptor of the file at ``path`` with a lock (``fcntl.flock``); raises OSError where it may not wait."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            fcntl.flock(descriptor, kind)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last user removed the file meanwhile
