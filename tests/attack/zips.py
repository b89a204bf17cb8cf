"""Zips, tars and wheels whose headers say what a case wants them to say."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depload.published import wheelhouse as wheelhouse_
from depload.travels import activation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MIB = 1024**2


@dataclass(frozen=True)
class Member:
    """A member whose headers say what the case wants them to say."""

    name: str
    data: bytes = b"data"
    method: int = zipfile.ZIP_STORED
    mode: int = 0
    flags: int = 1 << 11
    size: int | None = None  # as declared
    crc: int | None = None  # as declared
    packed: bytes | None = None  # what stands in the archive instead of the data
    local_name: str | None = None
    at: int | None = None  # where the table says that the local header is
    extra: bytes = b""
    comment: bytes = b""

    def body(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflated(self.data) if self.method == zipfile.ZIP_DEFLATED else self.data

    def header(self, name: bytes, extra: bytes) -> bytes:
        size = len(self.data) if self.size is None else self.size
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        sizes = (len(self.body()), size, len(name), len(extra))
        return struct.pack("<5H3L2H", 20, self.flags, self.method, 0, 33, crc, *sizes)

    def local(self) -> bytes:
        name = (self.local_name or self.name).encode()
        return b"PK\3\4" + self.header(name, b"") + name + self.body()

    def entry(self, at: int) -> bytes:
        name, at = self.name.encode(), at if self.at is None else self.at
        tail = struct.pack("<3H2L", len(self.comment), 0, 0, self.mode << 16, at)
        return b"PK\1\2\x14\3" + self.header(name, self.extra) + tail + name + self.extra + self.comment


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9 if len(data) < 64 * MIB else 1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def zipped(*members: Member, count: int | None = None, disk: int = 0, comment: bytes = b"") -> bytes:
    body = table = b""
    for member in members:
        table += member.entry(len(body))
        body += member.local()
    count = len(members) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", disk, disk, count, count, len(table), len(body), len(comment))
    return body + table + end + comment


def patched(data: bytes, mark: bytes, offset: int, value: int) -> bytes:
    """``data`` with another byte ``offset`` bytes after where ``mark`` is."""
    at = data.index(mark) + offset
    return data[:at] + bytes([value]) + data[at + 1 :]


def ordinary(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """What zipfile makes of ``files``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as new:
        for name, data in files.items():
            new.writestr(name, data)
    return file.getvalue()


def crowded(names: Iterable[bytes], comment: bytes = b"") -> bytes:
    """Empty members by the million, with a zip64 end record where there are too many for the other."""
    body, table, count = io.BytesIO(), io.BytesIO(), 0
    for name in names:
        header = struct.pack("<5H3L2H", 20, 1 << 11, 0, 0, 33, 0, 0, 0, len(name), 0)
        table.write(
            b"PK\1\2\x14\3" + header + struct.pack("<3H2L", len(comment), 0, 0, 0, body.tell()) + name + comment
        )
        body.write(b"PK\3\4" + header + name)
        count += 1
    start, size = body.tell(), table.tell()
    if count < 0xFFFF:
        return (
            body.getvalue() + table.getvalue() + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, size, start, 0)
        )
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    end64 += struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return body.getvalue() + table.getvalue() + end64 + end


def quine() -> bytes:
    """A zip whose only member is a zip of a zip of a zip ... as deep as one cares to look."""
    data = ordinary({"bottom.py": b"x = 1\n"})
    for _ in range(40):
        data = ordinary({"again.zip": data}, zipfile.ZIP_STORED)
    return data


def nested(levels: int, copies: int) -> bytes:
    """Zips in zips, each level several times over: what any one of them unpacks to is little, and all of it is not."""
    data = ordinary({"zeros.txt": bytes(2 * MIB)})
    for _ in range(levels):
        data = ordinary({f"{copy}.zip": data for copy in range(copies)})
    return data


def fifield(copies: int, size: int) -> bytes:
    """Members that share one kernel of zeros (Fifield, "A better zip bomb", 2019), by pointing at the same place."""
    zeros = bytes(size)
    kernel = Member("0", zeros, zipfile.ZIP_DEFLATED)
    crc = zlib.crc32(zeros)
    others = (Member(f"{copy}", size=size, crc=crc, method=8, packed=b"", at=0) for copy in range(1, copies))
    return zipped(kernel, *others)


# --- tars -----------------------------------------------------------------------------------------


def tar_header(name: str = "a", size: int = 0, kind: bytes = tarfile.REGTYPE, **more: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    info.linkname = more.get("linkname", "")
    return info.tobuf(tarfile.GNU_FORMAT)


def negative_size() -> bytes:
    """A tar header whose size is less than nothing (CVE-2025-8194), so that what follows lies before it."""
    header = bytearray(tar_header())
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


def zeros_gzipped(start: bytes, size: int) -> bytes:
    """``start`` and then zeros: gzip makes a thousandth of them."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as opened:
        opened.write(start)
        for _ in range(size // MIB):
            opened.write(bytes(MIB))
    return packed.getvalue()


# --- wheels and wheelhouses -----------------------------------------------------------------------

DIST_INFO = "alpha-1.0.dist-info"
METADATA = b"Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"
WHEEL = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def record_row(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f'"{name}",sha256={digest},{len(data)}\n'


def wheel(
    files: Mapping[str, bytes] | None = None,
    *,
    metadata: bytes = METADATA,
    about: bytes = WHEEL,
    record: bytes | None = None,
    more: Iterable[Member] = (),
) -> bytes:
    """A wheel of ``alpha`` 1.0, sound but for what the case puts in; its RECORD is right unless it is given."""
    members = {**(files or {}), f"{DIST_INFO}/METADATA": metadata, f"{DIST_INFO}/WHEEL": about}
    rows = [record_row(name, data) for name, data in members.items()]
    rows += [record_row(member.name, member.data) for member in more]
    members[f"{DIST_INFO}/RECORD"] = "".join(rows).encode() if record is None else record
    deflate = zipfile.ZIP_DEFLATED
    return zipped(*(Member(name, data, deflate) for name, data in members.items()), *more)


def manifest_of(wheels: Mapping[str, bytes], /, **lies: Any) -> dict[str, Any]:
    """The manifest of a wheelhouse of these wheels; the digest is right, for the lies as well, unless it is one."""
    listed = [
        {
            "filename": name,
            "name": "alpha",
            "version": "1.0",
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "native": False,
            "origin": "here",
            "requested": True,
            "names": ["alpha"],
        }
        for name, data in wheels.items()
    ]
    manifest = {
        "format_version": wheelhouse_.FORMAT_VERSION,
        "name": "attack",
        "format": "wheels",
        "target": {"python": "3.11", "platform": "manylinux_2_35_x86_64"},
        "wheels": listed,
        "bytecode": [],
        "others": {},
        **lies,
    }
    return {"digest": digest_of(manifest), **manifest}


def digest_of(manifest: Mapping[str, Any]) -> str:
    """The digest as the manifest's own words make it; of nonsense, nothing's."""
    try:
        return activation.digest_of({"digest": "", **manifest})
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
        return hashlib.sha256(b"").hexdigest()


def wheelhouse(wheels: Mapping[str, bytes], manifest: Any = None, text: bytes | None = None) -> bytes:
    """A zip of wheels and a manifest: the true one, another, or any bytes at all."""
    manifest = manifest_of(wheels) if manifest is None else manifest
    said = json.dumps(manifest).encode() if text is None else text
    return zipped(
        Member("manifest.json", said, zipfile.ZIP_DEFLATED), *(Member(name, data) for name, data in wheels.items())
    )
