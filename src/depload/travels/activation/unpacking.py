"""Fill a site with the wheels of a wheelhouse, each verified before anything of it is written."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import hashlib
import os
import struct
import sys
import threading
import zipfile
import zlib

from .payload import COMPLETE, ActivationError

TYPE_CHECKING = False  # importing typing costs a worker more than all of this module
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CHUNK = 1 << 20
_RATIO, _RATIO_FLOOR = 200, 16 << 20  # what a wheel may unpack to, as where it was converted (standards.archive)
THREADS = 4  # also where there are fewer cores: one waits for the disk while another inflates
_LIBDEFLATE = "libdeflate.so.0"  # its soname, which tells its ABI; where there is another one, zlib does it
# Bytes of a member, packed or unpacked. Every thread may hold a small one, and one of them a large one at a time; zlib
# does what is larger, and what comes meanwhile, in pieces. So all of them hold 40 MiB at most.
SMALL, LARGE = 1 << 20, 16 << 20

_of_thread = threading.local()
_large = threading.Lock()


def unpack(payload: str, manifest: dict[str, Any], to: str) -> list[str]:
    """Unpack every wheel of ``payload`` into ``to`` as an installer would ("Binary distribution format").

    Returns the files that were written.
    """
    wanted = [*manifest["wheels"], *manifest["bytecode"]]
    threads = concurrent.futures.ThreadPoolExecutor(THREADS, initializer=_use_libdeflate)
    with open(payload, "rb") as file, zipfile.ZipFile(file) as outer, threads as pool:
        before = _version_of(file.fileno())
        parts = list(pool.map(lambda part: _verified(file.fileno(), outer, part), wanted))
        # Of two wheels with the same file the later wins, as with installers; two threads must not both write it.
        jobs = list({job[2]: job for part in parts for job in _jobs(part, to)}.values())
        for folder in sorted({os.path.dirname(job[2]) for job in jobs}):
            os.makedirs(folder, exist_ok=True)
        size = max(1, len(jobs) // (8 * THREADS))
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
    if path[0].casefold() == COMPLETE:
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
        self._buffer = (self._bytes * SMALL)()
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
        buffer = self._buffer if size <= SMALL else (self._bytes * size)()
        if code := self._inflate(self._decompressor, packed, len(packed), buffer, size, None):
            raise zlib.error(f"libdeflate's error {code}")
        return memoryview(buffer).cast("B")[:size]


def _may_hold(size: int) -> bool:
    return size <= SMALL or (size <= LARGE and _large.acquire(blocking=False))


def _no_longer_hold(size: int) -> None:
    if size > SMALL:
        _large.release()


def _use_libdeflate() -> None:
    with contextlib.suppress(OSError, AttributeError, ImportError):  # no such library, a strange one, no ctypes
        _of_thread.libdeflate = _Libdeflate()
