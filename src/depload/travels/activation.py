"""Make a wheelhouse importable in one process; this very file travels inside every wheelhouse.

It is standard library only and imports nothing of depload, because a Spark worker has neither. Inside a wheelhouse it
is called ``_depload_<digest>``, so that two wheelhouses never share one, and beside it lies an import stub for each
name that the wheels provide:

    the worker imports ``pandas``  ->  the stub calls ``hand_over("pandas")``  ->  ``activate()`` unpacks the wheels
    once per node and digest, puts that site first on ``sys.path``, and the real pandas takes the stub's place.

With process isolation the worker process itself begins here: the launcher calls ``work()``.

Everything here answers in plain data (dict, list, str, int, float, None), so that it travels back from a worker.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import site as site_module
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
import zipfile
import zlib

try:
    import fcntl
except ImportError:  # Windows: without locks two processes may both unpack; the rename decides, and both are right
    fcntl = None  # type: ignore[assignment]

TYPE_CHECKING = False  # importing typing costs a worker more than all of this module
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

MANIFEST = "manifest.json"
REFERENCE = "reference.json"
_WORKS_FOR = "DEPLOAD_WORKS_FOR"  # in a worker of process isolation: the activation module that it began with
_COMPLETE = ".depload.json"  # written into a site last: a site without it was never finished
UNREACHABLE = "cannot be read from host"  # in the message of a worker that does not see the run path
_CHUNK = 1 << 20
_LONGEST_MANIFEST = 16 << 20  # bytes
_RATIO, _RATIO_FLOOR = 200, 16 << 20  # what a wheel may unpack to, as where it was converted (standards.archive)
_THREADS = 4  # also where there are fewer cores: one waits for the disk while another inflates
# What Spark appends to a configured local directory: /local_disk0/spark-<uuid>/executor-<uuid>/blockmgr-<uuid>.
_SPARK_SCRATCH = re.compile(r"(?:blockmgr|executor|spark)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_lock = threading.RLock()
_active: dict[str, dict[str, Any]] = {}  # by archive: what activate answered
_added: dict[str, list[str]] = {}  # by site: what it put on sys.path
_users: dict[str, int] = {}  # by site: the descriptor whose lock says that this process uses it
_parked: dict[str, dict[str, ModuleType]] = {}  # by site: its modules while it is deactivated


class ActivationError(ImportError):
    """The wheelhouse cannot be made importable here; an ImportError, because an import is what asked for it."""


# --- what the stubs and the loader call -----------------------------------------------------------------------------


def activate(archive: str | None = None) -> dict[str, Any]:
    """Put the site of ``archive`` (default: the zip this module was imported from) first on ``sys.path``.

    Returns ``site`` (a path), ``digest``, ``unpacked`` (by this process) and ``seconds``. Calling it again is free.
    """
    archive = os.path.abspath(archive or os.path.dirname(__file__))
    with _lock:
        if archive in _active:
            return dict(_active[archive])
        started = time.perf_counter()
        manifest = _manifest(archive)
        path, unpacked = _ready_site(archive, manifest)
        if path not in _added:
            _added[path] = _put_first(path)
            _put_back(_parked.pop(path, {}))
        _active[archive] = {
            "site": path,
            "digest": manifest["digest"],
            "unpacked": unpacked,
            "seconds": round(time.perf_counter() - started, 4),
        }
        return dict(_active[archive])


def deactivate(digest: str | None = None) -> None:
    """Take the site of ``digest`` (default: all) off ``sys.path`` again, and its modules out of ``sys.modules``.

    The modules are kept for the next activation of that site, because native code can be loaded only once by a process.
    """
    with _lock:
        for path in [path for path in _added if digest in (None, os.path.basename(path))]:
            added = _added.pop(path)
            sys.path[:] = [entry for entry in sys.path if entry not in added]
            _parked[path] = _parked.get(path, {}) | _take_modules(path)
            for archive in [archive for archive, about in _active.items() if about["site"] == path]:
                del _active[archive]
            _no_longer_use(path)
        importlib.invalidate_caches()


def take_back() -> None:
    """What ``Loaded.unload`` has a shared worker do: deactivate, and leave no stub that would activate again."""
    own = os.path.dirname(os.path.abspath(__file__))
    with _lock:
        deactivate()
        _take_modules(own, but=__name__)
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != own]
        importlib.invalidate_caches()


def work(arguments: list[str]) -> None:
    """Become one of Spark's Python workers, with the wheelhouse before everything else: what the launcher runs.

    ``arguments`` are what Spark gives to Python: ``-m pyspark.daemon pyspark.worker`` (PythonWorkerFactory).
    """
    import runpy

    own = os.path.dirname(os.path.abspath(__file__))
    os.environ[_WORKS_FOR] = __name__
    try:
        activate()
    except Exception as error:
        # The stubs stay first: importing what the wheelhouse has must fail, not give another version. Here it is told
        # to the executor's log, by the proof and by each import to the driver.
        sys.stderr.write(f"depload: {type(error).__name__}: {error}\n")
    else:
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != own]
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


def hand_over(name: str) -> ModuleType:
    """What a stub calls: activate, then let the real module take the stub's place in ``sys.modules``.

    The import system returns what stands in ``sys.modules`` after a module's code has run, so whoever imported the stub
    gets the real module. The lock of ``activate`` is not held while the real one is imported: another thread may hold
    that module's import lock and wait for us.
    """
    activate()
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def prove(names: list[str], packages: dict[str, dict[str, Any]], archive: str | None = None) -> dict[str, Any]:
    """Activate, import ``names``, and say what is true in this process.

    ``packages`` maps each package of the wheelhouse to its ``version`` and the import ``names`` it provides. In the
    answer, ``imported`` maps each name to ``version`` and ``file`` or an ``error``, ``strangers`` lists modules of the
    wheelhouse's packages that were imported from elsewhere before it could be activated, and ``arrow`` says why an
    isolated worker cannot import the pyarrow that is installed there, which Spark's pandas functions need.
    """
    started = time.perf_counter()
    facts: dict[str, Any] = {**process(), "site": None, "digest": None, "unpacked": False, "error": None}
    facts["isolated"] = os.environ.get(_WORKS_FOR) == __name__
    owners = {name: package for package, about in packages.items() for name in about["names"]}
    imported: dict[str, dict[str, Any]] = {}
    try:
        facts.update(activate(archive))
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}"
    else:
        imported = {name: _imported(name, _owner(name, owners)) for name in names}
    facts["imported"] = imported
    facts["arrow"] = _imported("pyarrow", None)["error"] if facts["isolated"] and _is_there("pyarrow") else None
    facts["strangers"] = _strangers(facts["site"], packages) if facts["site"] else []
    facts["packages"] = packages_here()
    # Another thread may have activated it meanwhile: then that is what it took.
    facts["seconds"] = round(max(time.perf_counter() - started, facts.get("seconds", 0.0)), 4)
    return facts


def located(name: str, package: str, site: str) -> dict[str, Any]:
    """What importing ``name`` would give, without importing it; an answer as in ``prove``'s ``imported``."""
    try:
        spec = importlib.util.find_spec(name)  # imports the packages above a dotted name
    except Exception as error:
        return {"version": None, "file": None, "package": package, "error": f"{type(error).__name__}: {error}"}
    if spec is None:
        return {
            "version": None,
            "file": None,
            "package": package,
            "error": f"ModuleNotFoundError: No module named {name!r}",
        }
    version = next((found.version for found in importlib.metadata.distributions(name=package, path=[site])), None)
    return {"version": version, "file": spec.origin, "package": package, "error": None}


# --- what is true in this process -----------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """This process and what can be imported in it, wheelhouse or not."""
    return {**process(), "packages": packages_here()}


def process() -> dict[str, Any]:
    """Which process this is, and on what it runs."""
    return {
        "host": socket.gethostname(),
        "executor": _executor(),
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "prefix": sys.prefix,
        "platform": platform.platform(),
    }


def packages_here() -> dict[str, str]:
    """Version by normalised name (PEP 503) of every package on ``sys.path``; of several, the one that is imported."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name, version = _named(distribution)
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return dict(sorted(found.items()))


def _named(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Name and version, from the directory's name where it has both: parsing every METADATA takes ten times as long."""
    stem, _, suffix = os.path.basename(str(getattr(distribution, "_path", ""))).rpartition(".")
    name, _, version = stem.partition("-")
    if suffix == "dist-info" and name and version:
        return name, version
    metadata = distribution.metadata
    return str(metadata["Name"] or ""), str(metadata["Version"] or "")


def _owner(name: str, owners: dict[str, str]) -> str | None:
    """The package that a module is of: ``google.cloud.storage.blob`` is of what has ``google.cloud.storage``."""
    while name not in owners and "." in name:
        name = name.rpartition(".")[0]
    return owners.get(name)


def _imported(name: str, package: str | None) -> dict[str, Any]:
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        return {"version": None, "file": None, "package": package, "error": f"{type(error).__name__}: {error}"[:2000]}
    return {"version": version_of(module, package), "file": module_file(module), "package": package, "error": None}


def module_file(module: ModuleType) -> str | None:
    """Where a module was loaded from: its file, or the first folder of a namespace package."""
    file = getattr(module, "__file__", None)
    return file or next(iter(getattr(module, "__path__", ())), None)


def version_of(module: ModuleType, package: str | None) -> str | None:
    """The version of an imported module: of the distribution it was loaded from, else what the module says itself."""
    file = module_file(module)
    folder = os.path.dirname(file) if file else None
    depth = module.__name__.count(".") + (1 if hasattr(module, "__path__") and getattr(module, "__file__", None) else 0)
    for _ in range(depth):
        folder = os.path.dirname(folder) if folder else None
    if package and folder:
        for found in importlib.metadata.distributions(name=package, path=[folder]):
            return found.version
    said = getattr(module, "__version__", None)
    return str(said) if said is not None else None


def _is_there(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def same_version(one: str | None, other: str | None) -> bool:
    """Whether two versions are one (PEP 440): ``2023.07.22`` and ``2023.7.22``, ``1.0`` and ``1.0.0``."""
    if one is None or other is None:
        return one is other
    return _release(one) == _release(other)


def _release(version: str) -> list[str]:
    parts = [part.lstrip("0") for part in re.findall(r"[0-9]+|[a-z]+", version.lower().removeprefix("v"))]
    while parts and not parts[-1]:
        parts.pop()
    return parts


def _strangers(site: str, packages: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    inside = os.path.join(site, "")
    found = []
    for package, about in packages.items():
        for name in about["names"]:
            module = sys.modules.get(name)
            file = module_file(module) if module else None
            if module and file and not file.startswith(inside):
                version = version_of(module, package)
                if not same_version(version, about["version"]):
                    found.append({"package": package, "module": name, "version": version, "file": file})
    return found


def _executor() -> str:
    """The executor that this Python worker belongs to; ``driver`` where it has none (``local[n]``, the driver itself).

    Spark does not tell its Python workers. The worker's ancestor is the executor's Java process, and every cluster
    manager starts that with ``--executor-id`` (CoarseGrainedExecutorBackend).
    """
    pid = os.getppid()
    for _ in range(4):  # daemon, its worker, a wrapper script, the Java process
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
            with open(f"/proc/{pid}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            break
        if "--executor-id" in words:
            return words[words.index("--executor-id") + 1]
        pid = parent
    return "driver"


# --- the site: once per node and digest ----------------------------------------------------------------------------


def _ready_site(archive: str, manifest: dict[str, Any]) -> tuple[str, bool]:
    """The unpacked site, marked as in use by this process, and whether it was unpacked just now."""
    home = sites_home(native=any(wheel["native"] for wheel in manifest["wheels"]))
    path = os.path.join(home, manifest["digest"])
    try:
        _use(path)
        if _is_sound(path, manifest["digest"]):
            return path, False
        with _exclusive(f"{path}.lock"):
            if _is_sound(path, manifest["digest"]):
                return path, False
            _make_site(archive, manifest, path)
        remove_sites(home, *_limits())
    except BaseException as error:
        _no_longer_use(path)
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
    home, digest = os.path.split(path)
    work = tempfile.mkdtemp(prefix=f".{digest}.", dir=home)
    try:
        files = _unpack(_payload(archive), manifest, work)
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


def _no_longer_use(path: str) -> None:
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


def _is_sound(path: str, digest: str) -> bool:
    """Whether the site was completed by this user, and every file of it is as it was then."""
    try:
        with open(os.path.join(path, _COMPLETE), encoding="utf-8") as file:
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
    with open(os.path.join(work, _COMPLETE), "w", encoding="utf-8") as complete:
        complete.write(json.dumps({"digest": digest, "files": marks}))  # json.dump never takes the encoder in C
    if os.path.lexists(path) and not _is_sound(path, digest):
        _remove_site(path)
    try:
        os.rename(work, path)
    except OSError:
        if not _is_sound(path, digest):
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
            with open(os.path.join(home, name, _COMPLETE), encoding="utf-8") as file:
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


def _put_first(path: str) -> list[str]:
    """Put the site first on ``sys.path`` and run its .pth files as site-packages' are run (module ``site``).

    Returns what was added: the site, and the directories that its .pth files name.
    """
    if path not in sys.path:
        sys.path.insert(0, path)
    before = list(sys.path)
    site_module.addsitedir(path)
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = [entry for entry in sys.path if entry not in added]
    sys.path[sys.path.index(path) + 1 : sys.path.index(path) + 1] = added
    importlib.invalidate_caches()
    return [path, *added]


def _take_modules(folder: str, but: str = "") -> dict[str, ModuleType]:
    """Take every module that was loaded from below ``folder`` out of ``sys.modules``, with all that is below them."""
    inside = os.path.join(folder, "")
    names = {name for name, module in list(sys.modules.items()) if (module_file(module) or "").startswith(inside)}
    names |= {name for name in list(sys.modules) if any(above in names for above in _above(name))}
    return {name: sys.modules.pop(name) for name in sorted(names - {but}) if name in sys.modules}


def _put_back(modules: dict[str, ModuleType]) -> None:
    """Into ``sys.modules`` again, but nothing of a package that was imported from elsewhere meanwhile."""
    here = modules.keys() & sys.modules.keys()
    sys.modules.update({name: each for name, each in modules.items() if not here & {name, *_above(name)}})


def _above(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


# --- unpacking ------------------------------------------------------------------------------------------------------


# What is beside the wheels and never imported or run: it may tell more than what the wheels are, such as what they were
# made of, and equal wheels still have one digest.
DOCUMENTS = ("pylock.toml", "sbom.cdx.json", "provenance.json")


def digest_of(manifest: dict[str, Any]) -> str:
    """SHA-256 over the target and all of a wheelhouse that is unpacked, imported or run; ``manifest`` as it is written.

    The activation module and the stubs have the digest in their names and texts. They count as what they are, so that
    the result does not depend on the digest that the manifest claims.
    """
    module = module_name(manifest["digest"])
    names = {f"{module}.py": "activation"}
    texts = {hashlib.sha256(stub(module).encode()).hexdigest(): "stub"}
    parts = [(part["filename"], part["sha256"]) for part in (*manifest["wheels"], *manifest["bytecode"])]
    beside = [
        (names.get(name, name), texts.get(sha256, sha256))
        for name, sha256 in manifest["others"].items()
        if name not in DOCUMENTS
    ]
    target = manifest["target"]["python"], manifest["target"]["platform"]
    return hashlib.sha256(json.dumps([target, parts, sorted(beside)]).encode()).hexdigest()


def module_name(digest: str) -> str:
    """What this module is called inside a wheelhouse: no two wheelhouses share one."""
    return f"_depload_{digest[:16]}"


def stub(module: str) -> str:
    """The text of an import stub, for the activation module of that name."""
    return f"from {module} import hand_over\n\nhand_over(__name__)\n"


def _manifest(archive: str) -> dict[str, Any]:
    """The manifest, whose digest is that of what it lists: it names the site, which can hold nothing else then."""
    manifest = _member(archive, MANIFEST)
    try:
        rules = [
            *(type(part["size"]) is int for part in (*manifest["wheels"], *manifest["bytecode"])),
            *(type(wheel["native"]) is bool for wheel in manifest["wheels"]),
        ]
        digest = digest_of(manifest)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ActivationError(f"{archive}: its {MANIFEST} is damaged ({type(error).__name__}: {error})") from error
    if not all(rules) or manifest.get("digest") != digest:
        raise ActivationError(f"{archive}: its {MANIFEST} is not what was published; the digest is of other wheels")
    return dict(manifest)


def _member(archive: str, name: str) -> Any:
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(name)
            return json.loads(opened.read(info)) if info.file_size <= _LONGEST_MANIFEST else None
    except Exception as error:  # zipfile has a dozen ways of not reading something
        raise ActivationError(f"{archive}: its {name} cannot be read ({type(error).__name__}: {error})") from error


def _payload(archive: str) -> str:
    """The file that holds the wheels: the zip itself, or the wheelhouse that it refers to."""
    with zipfile.ZipFile(archive) as opened:
        if REFERENCE not in opened.namelist():
            return archive
    reference = _member(archive, REFERENCE)
    if not isinstance(reference, dict) or "\0" in (path := str(reference.get("path"))):
        raise ActivationError(f"{archive}: its {REFERENCE} is damaged")
    try:
        status = os.stat(path)
    except OSError as error:
        raise ActivationError(
            f"{path} {UNREACHABLE} {socket.gethostname()}: {error.strerror}; "
            "was the run path cleaned up? Convert and load again"
        ) from error
    found, expected = status.st_size, reference.get("size")
    if found != expected or not stat.S_ISREG(status.st_mode):  # a device can be read without end
        raise ActivationError(f"{path} has {found} bytes on host {socket.gethostname()}, expected {expected!a:.20}")
    return path


def _unpack(payload: str, manifest: dict[str, Any], to: str) -> list[str]:
    """Unpack every wheel of ``payload`` into ``to`` as an installer would ("Binary distribution format").

    Returns the files that were written.
    """
    wanted = [*manifest["wheels"], *manifest["bytecode"]]
    threads = concurrent.futures.ThreadPoolExecutor(_THREADS, initializer=_use_libdeflate)
    with open(payload, "rb") as file, zipfile.ZipFile(file) as outer, threads as pool:
        before = _version_of(file.fileno())
        parts = list(pool.map(lambda part: _verified(file.fileno(), outer, part), wanted))
        # Of two wheels with the same file the later wins, as with installers; two threads must not both write it.
        jobs = list({job[2]: job for part in parts for job in _jobs(part, to)}.values())
        for folder in sorted({os.path.dirname(job[2]) for job in jobs}):
            os.makedirs(folder, exist_ok=True)
        size = max(1, len(jobs) // (8 * _THREADS))
        batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        list(pool.map(_write_all, batches))
        _refuse_change(file.fileno(), before, payload)
    return [job[2] for job in jobs]


def _refuse_change(descriptor: int, before: tuple[int, int], payload: str) -> None:
    """What was unpacked must be what was hashed; only the file's owner could write to it and put its time back."""
    if _version_of(descriptor) != before:
        raise ActivationError(f"{payload} was changed while it was unpacked; load again, and find out who writes there")


def _version_of(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


class _Part:
    """A zip stored inside the payload, read in place; a seekable file for ``zipfile``, and positions for ``_write``."""

    def __init__(self, descriptor: int, name: str, start: int, size: int) -> None:
        self.descriptor = descriptor
        self.name = name
        self.start = start
        self.size = size
        self._at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def read(self, count: int = -1) -> bytes:
        count = self.size - self._at if count < 0 else min(count, self.size - self._at)
        data = self.pread(count, self._at)
        self._at += len(data)
        return data

    def pread(self, count: int, offset: int) -> bytes:
        return os.pread(self.descriptor, count, self.start + offset) if count > 0 else b""

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for offset in range(0, self.size, _CHUNK):
            digest.update(self.pread(min(_CHUNK, self.size - offset), offset))
        return digest.hexdigest()


def _verified(descriptor: int, outer: zipfile.ZipFile, wanted: dict[str, Any]) -> _Part:
    """The wheel inside the payload, after its bytes were compared with the manifest's hash."""
    try:
        info = outer.getinfo(wanted["filename"])
    except KeyError:
        raise ActivationError(f"{outer.filename}: {wanted['filename']} is missing") from None
    whole = _Part(descriptor, wanted["filename"], 0, os.fstat(descriptor).st_size)
    part = _Part(descriptor, wanted["filename"], _data_offset(whole, info), info.file_size)
    if info.compress_type != zipfile.ZIP_STORED or part.size != wanted["size"] or part.sha256() != wanted["sha256"]:
        raise ActivationError(f"{wanted['filename']} is not the file that the manifest names (size or SHA-256 differ)")
    return part


def _data_offset(part: _Part, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: the local header's extra field has a length of its own (APPNOTE 4.3.7)."""
    header = part.pread(30, info.header_offset)
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + int(name_length) + int(extra_length)


def _jobs(part: _Part, to: str) -> Iterator[tuple[_Part, zipfile.ZipInfo, str]]:
    with zipfile.ZipFile(part) as wheel:  # enough of a file for zipfile
        if sum(info.file_size for info in wheel.infolist()) > max(_RATIO_FLOOR, _RATIO * part.size):
            raise ActivationError(f"{part.name} unpacks to more than {_RATIO} times its size, as a zip bomb does")
        for info in wheel.infolist():
            if not info.is_dir() and not _is_pythons_own(info.filename):
                yield part, info, os.path.join(to, *_installed(part.name, info.filename))


def _is_pythons_own(member: str) -> bool:
    """Whether a member is a module of the standard library's name, such as the ``argparse.py`` of some old wheels.

    Where an installer puts it, behind the standard library, it is never imported; first on ``sys.path`` it would be.
    """
    parts = member.split("/")
    if parts[0].endswith(".data") and parts[1:2] in (["purelib"], ["platlib"]):
        parts = parts[2:]
    return bool(parts) and parts[0].split(".")[0] in sys.stdlib_module_names


def _installed(wheel: str, member: str) -> list[str]:
    """Where an installer puts a member, as parts below the site: ``*.data/`` folders go to their scheme's place."""
    parts = member.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise ActivationError(f"{wheel}: member {member!r} would leave the site")
    path = _below_the_site(parts)
    if path[0].casefold() == _COMPLETE:
        raise ActivationError(f"{wheel}: member {member!r} has the name of what says that a site is complete")
    return path


def _below_the_site(parts: list[str]) -> list[str]:
    if not parts[0].endswith(".data") or len(parts) < 3:  # noqa: PLR2004 - folder, scheme, file
        return parts
    scheme, rest = parts[1], parts[2:]
    if scheme in ("purelib", "platlib", "data"):
        return rest
    return {"scripts": ["bin"], "headers": ["include", parts[0].split("-")[0]]}.get(scheme, parts[:2]) + rest


def _write_all(jobs: list[tuple[_Part, zipfile.ZipInfo, str]]) -> None:
    for job in jobs:
        _write(*job)


def _write(part: _Part, info: zipfile.ZipInfo, path: str) -> None:
    """Write one member, whatever its size, with a bounded amount of memory, and check its CRC."""
    mode = 0o755 if info.external_attr >> 16 & 0o111 else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        crc, written = 0, 0
        for data in _inflated(part, info):
            crc = zlib.crc32(data, crc)
            written += len(data)
            if written > info.file_size:
                break  # it declares less than it holds; how much that is, nobody needs to know
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
    except zlib.error as error:
        raise ActivationError(f"{part.name}: member {info.filename!r} is damaged ({error})") from error
    finally:
        os.close(descriptor)
    if crc != info.CRC or written != info.file_size:
        raise ActivationError(f"{part.name}: member {info.filename!r} is damaged")


def _inflated(part: _Part, info: zipfile.ZipInfo) -> Iterator[bytes | memoryview]:
    offset, left = _data_offset(part, info), info.compress_size
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        own = _Part(part.descriptor, part.name, part.start, part.size)  # no other thread moves its position
        with zipfile.ZipFile(own) as wheel, wheel.open(info) as member:
            yield from iter(lambda: member.read(_CHUNK), b"")
        return
    whole: _Libdeflate | None = getattr(_of_thread, "libdeflate", None)
    if whole and info.compress_type == zipfile.ZIP_DEFLATED and _may_hold(size := max(left, info.file_size)):
        try:
            yield whole.inflate(part.pread(left, offset), info.file_size)
        finally:
            _no_longer_hold(size)
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if info.compress_type == zipfile.ZIP_DEFLATED else None
    while left:
        data = part.pread(min(_CHUNK, left), offset)
        if not data:
            raise ActivationError(f"{part.name}: ends in the middle of {info.filename!r}")
        offset, left = offset + len(data), left - len(data)
        if inflate is None:
            yield data
            continue
        while data:
            yield inflate.decompress(data, _CHUNK)
            data = inflate.unconsumed_tail
    if inflate is not None:
        yield inflate.flush()


class _Libdeflate:
    """The system's libdeflate, for one thread: it inflates in about half of zlib's time what fits into memory.

    Debian and Ubuntu have it where they have libtiff, R say. Raises OSError where it is not there.
    """

    def __init__(self) -> None:
        import ctypes

        self._library = ctypes.CDLL(_LIBDEFLATE)
        self._library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
        self._bytes = ctypes.c_char
        self._buffer = (self._bytes * _SMALL)()
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        self._inflate = self._library.libdeflate_deflate_decompress
        self._inflate.argtypes = [pointer, ctypes.c_char_p, size, pointer, size, pointer]
        self._decompressor = pointer(self._library.libdeflate_alloc_decompressor())
        if not self._decompressor:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def __del__(self) -> None:
        if decompressor := getattr(self, "_decompressor", None):
            self._library.libdeflate_free_decompressor(decompressor)

    def inflate(self, packed: bytes, size: int) -> memoryview:
        """What is unpacked, until the next call; raises zlib.error where it does not have just that size."""
        buffer = self._buffer if size <= _SMALL else (self._bytes * size)()
        if code := self._inflate(self._decompressor, packed, len(packed), buffer, size, None):
            raise zlib.error(f"libdeflate's error {code}")
        return memoryview(buffer).cast("B")[:size]


_LIBDEFLATE = "libdeflate.so.0"  # its soname, which tells its ABI; where there is another one, zlib does it
# Bytes of a member, packed or unpacked. Every thread may hold a small one, and one of them a large one at a time; zlib
# does what is larger, and what comes meanwhile, in pieces.
_SMALL, _LARGE = 4 << 20, 64 << 20
_of_thread = threading.local()
_large = threading.Lock()


def _may_hold(size: int) -> bool:
    return size <= _SMALL or (size <= _LARGE and _large.acquire(blocking=False))


def _no_longer_hold(size: int) -> None:
    if size > _SMALL:
        _large.release()


def _use_libdeflate() -> None:
    with contextlib.suppress(OSError, AttributeError, ImportError):  # no such library, a strange one, no ctypes
        _of_thread.libdeflate = _Libdeflate()
