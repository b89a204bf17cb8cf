"""Make a wheelhouse importable in one process; this very file travels inside every wheelhouse.

It is standard library only and imports nothing of depload, because a Spark worker has neither. Inside a wheelhouse it
is called ``_depload_<digest>``, so that two wheelhouses never share one, and beside it lies an import stub for each
name that the wheels provide:

    the worker imports ``pandas``  ->  the stub calls ``hand_over("pandas")``  ->  ``activate()`` unpacks the wheels
    once per node and digest, puts that site first on ``sys.path``, and the real pandas takes the stub's place.

Everything here answers in plain data (dict, list, str, int, float, None), so that it travels back from a worker.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
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
_COMPLETE = ".depload.json"  # written into a site last: a site without it was never finished
UNREACHABLE = "cannot be read from host"  # in the message of a worker that does not see the run path
_CHUNK = 1 << 20
_THREADS = 4
# What Spark appends to a configured local directory: /local_disk0/spark-<uuid>/executor-<uuid>/blockmgr-<uuid>.
_SPARK_SCRATCH = re.compile(r"(?:blockmgr|executor|spark)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_lock = threading.RLock()
_active: dict[str, dict[str, Any]] = {}


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
        manifest = _member(archive, MANIFEST)
        path, unpacked = _ready_site(archive, manifest)
        _put_first(path)
        _active[archive] = {
            "site": path,
            "digest": manifest["digest"],
            "unpacked": unpacked,
            "seconds": round(time.perf_counter() - started, 4),
        }
        return dict(_active[archive])


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
    answer, ``imported`` maps each name to ``version`` and ``file`` or an ``error``, and ``strangers`` lists modules of
    the wheelhouse's packages that were imported from elsewhere before it could be activated.
    """
    started = time.perf_counter()
    facts: dict[str, Any] = {**process(), "site": None, "digest": None, "unpacked": False, "error": None}
    owners = {name: package for package, about in packages.items() for name in about["names"]}
    imported: dict[str, dict[str, Any]] = {}
    try:
        facts.update(activate(archive))
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}"
    else:
        imported = {name: _imported(name, _owner(name, owners)) for name in names}
    facts["imported"] = imported
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


def forget(path: list[str]) -> None:
    """Put ``sys.path`` back to what it was; a later ``activate`` starts anew."""
    with _lock:
        removed = set(sys.path) - set(path)
        sys.path[:] = path
        for archive in [archive for archive, about in _active.items() if about["site"] in removed]:
            del _active[archive]
        importlib.invalidate_caches()


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


def _strangers(site: str, packages: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    inside = os.path.join(site, "")
    found = []
    for package, about in packages.items():
        for name in about["names"]:
            module = sys.modules.get(name)
            file = module_file(module) if module else None
            if module and file and not file.startswith(inside):
                version = version_of(module, package)
                if version != about["version"]:
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
    """The unpacked site, and whether it was unpacked just now."""
    home = sites_home(native=any(wheel["native"] for wheel in manifest["wheels"]))
    path = os.path.join(home, manifest["digest"])
    if _is_complete(path, manifest["digest"]):
        return path, False
    with _exclusive(os.path.join(home, f"{manifest['digest']}.lock")):
        if _is_complete(path, manifest["digest"]):
            return path, False
        _remove_leftovers(home, manifest["digest"])
        work = tempfile.mkdtemp(prefix=f".{manifest['digest']}.", dir=home)
        try:
            _unpack(_payload(archive), manifest, work)
            _settle(work, path, manifest["digest"])
        except BaseException as error:
            shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, (OSError, EOFError, zipfile.BadZipFile, zlib.error)):
                raise ActivationError(f"{home}: the wheels could not be unpacked there: {error}") from error
            raise
    return path, True


def sites_home(*, native: bool = True) -> str:
    """The directory that holds the sites of this user on this node, readable by this user alone.

    ``DEPLOAD_SITES`` names it; otherwise it lies below Spark's local directories, else below the temporary directory. A
    candidate that belongs to someone else, that others can enter, or from which native code may not run is passed over.
    """
    named = os.environ.get("DEPLOAD_SITES")
    roots = [named] if named else [*_spark_local_dirs(), tempfile.gettempdir()]
    refused = []
    for root in roots:
        home = root if named else os.path.join(root, f"depload-{os.getuid() if hasattr(os, 'getuid') else 'user'}")
        why = _why_not(home, native) or _why_not(os.path.join(home, "sites"), native)
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


def _is_complete(path: str, digest: str) -> bool:
    try:
        with open(os.path.join(path, _COMPLETE), encoding="utf-8") as file:
            complete = json.load(file).get("digest") == digest
            return complete and (not hasattr(os, "getuid") or os.fstat(file.fileno()).st_uid == os.getuid())
    except (OSError, ValueError, AttributeError):
        return False


def _settle(work: str, path: str, digest: str) -> None:
    """Mark the work directory complete and give it its name; losing that race to an equal site is success."""
    with open(os.path.join(work, _COMPLETE), "w", encoding="utf-8") as file:
        json.dump({"digest": digest}, file)
    if os.path.lexists(path) and not _is_complete(path, digest):
        broken = f"{work}.broken"
        os.rename(path, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(work, path)
    except OSError:
        if not _is_complete(path, digest):
            raise
        shutil.rmtree(work, ignore_errors=True)


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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _put_first(path: str) -> None:
    """Put the site first on ``sys.path`` and run its .pth files as site-packages' are run (module ``site``)."""
    if path not in sys.path:
        sys.path.insert(0, path)
    before = list(sys.path)
    site_module.addsitedir(path)
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = [entry for entry in sys.path if entry not in added]
    sys.path[sys.path.index(path) + 1 : sys.path.index(path) + 1] = added
    importlib.invalidate_caches()


# --- unpacking ------------------------------------------------------------------------------------------------------


def _member(archive: str, name: str) -> Any:
    with zipfile.ZipFile(archive) as opened:
        return json.loads(opened.read(name))


def _payload(archive: str) -> str:
    """The file that holds the wheels: the zip itself, or the wheelhouse that it refers to."""
    with zipfile.ZipFile(archive) as opened:
        if REFERENCE not in opened.namelist():
            return archive
        reference = json.loads(opened.read(REFERENCE))
    path = str(reference["path"])
    try:
        found = os.stat(path).st_size
    except OSError as error:
        raise ActivationError(
            f"{path} {UNREACHABLE} {socket.gethostname()}: {error.strerror}; "
            "was the run path cleaned up? Convert and load again"
        ) from error
    if found != reference["size"]:
        raise ActivationError(f"{path} has {found} bytes on host {socket.gethostname()}, expected {reference['size']}")
    return path


def _unpack(payload: str, manifest: dict[str, Any], to: str) -> None:
    """Unpack every wheel of ``payload`` into ``to`` as an installer would ("Binary distribution format")."""
    wanted = [*manifest["wheels"], *manifest["bytecode"]]
    threads = concurrent.futures.ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
    with open(payload, "rb") as file, zipfile.ZipFile(file) as outer, threads as pool:
        parts = list(pool.map(lambda part: _verified(file.fileno(), outer, part), wanted))
        # Of two wheels with the same file the later wins, as with installers; two threads must not both write it.
        jobs = list({job[2]: job for part in parts for job in _jobs(part, to)}.values())
        for folder in sorted({os.path.dirname(job[2]) for job in jobs}):
            os.makedirs(folder, exist_ok=True)
        size = max(1, len(jobs) // (8 * _THREADS))
        batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        list(pool.map(_write_all, batches))


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
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    if crc != info.CRC or written != info.file_size:
        raise ActivationError(f"{part.name}: member {info.filename!r} is damaged")


def _inflated(part: _Part, info: zipfile.ZipInfo) -> Iterator[bytes]:
    offset, left = _data_offset(part, info), info.compress_size
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(part) as wheel, wheel.open(info) as member:  # as in _jobs
            yield from iter(lambda: member.read(_CHUNK), b"")
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
