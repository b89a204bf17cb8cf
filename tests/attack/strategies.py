"""Inputs that hypothesis makes, by target: built of what each reader knows, and of what it should not meet."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from attack import cases, targets, zips
from attack.zips import Member

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_NUMBERS = st.sampled_from([0, 1, 4, 9, 255, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]) | st.integers(0, 0xFFFFFFFF)
_BITS16 = st.integers(0, 0xFFFF)
_NAMES = st.sampled_from(
    [*cases.TRAVERSALS, "a", "A", "a/b", "a/b/c.py", "é", "e\u0301", "alpha.py", "x.pth"]
) | st.text(max_size=8)
_WORDS = st.text(st.characters(codec="utf-8"), max_size=12)

_MEMBERS = st.builds(
    Member,
    name=_NAMES.filter(lambda name: name.isascii() or name.encode("utf-8", "ignore").decode() == name),
    data=st.binary(max_size=40) | st.just(bytes(3000)),
    method=st.sampled_from([0, 8, 8, 8, 12, 14, 99]),
    mode=st.sampled_from([0, 0o100644, 0o100755, 0o120777, 0o040755, 0o010644, 0o020644]) | _BITS16,
    flags=st.sampled_from([1 << 11, 0, 1, 1 << 3]) | _BITS16,
    size=st.none() | _NUMBERS,
    crc=st.none() | _NUMBERS,
    packed=st.none() | st.binary(max_size=20),
    local_name=st.none() | st.sampled_from(["a", "../x", "a.py"]),
    at=st.none() | _NUMBERS,
    extra=st.just(b"") | st.binary(max_size=24) | st.just(b"\1\0\x08\0" + b"\xff" * 8),
    comment=st.just(b"") | st.binary(max_size=8),
)
_SOUND_MEMBERS = st.builds(
    Member, name=_NAMES.filter(str.isascii), data=st.binary(max_size=40), method=st.sampled_from([0, 8])
)
_LISTS = st.lists(_MEMBERS | _SOUND_MEMBERS, max_size=5)


@st.composite
def _damaged(draw: st.DrawFn, whole: SearchStrategy[bytes]) -> bytes:
    """A few bytes of it changed, and sometimes its end cut off."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


_ZIPS = st.builds(
    lambda members, count, comment: zips.zipped(*members, count=count, comment=comment),
    _LISTS,
    st.none() | _BITS16,
    st.just(b"") | st.binary(max_size=30),
)
_ORDINARY = st.dictionaries(
    _NAMES.filter(lambda name: name and "\0" not in name), st.binary(max_size=60), max_size=4
).map(zips.ordinary)
_ARCHIVES = _damaged(_ZIPS | _ORDINARY) | st.binary(max_size=200)


def _words(text: str) -> list[str]:
    return text.split()


def _lines(*pieces: str) -> SearchStrategy[bytes]:
    """Text of pieces that mean something, of line ends, and of anything."""
    piece = (
        st.sampled_from([*pieces, " ", "\n", "\n", "\t", "\\\n", '"', "'", "9" * 4400, "(" * 300, "x" * 300]) | _WORDS
    )
    return st.lists(piece, max_size=14).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))


# --- sources ------------------------------------------------------------------------------------------

_TOML = _lines(
    *_words(
        """
    [project] [tool.uv.workspace] [tool.uv.sources] [tool.poetry.dependencies] [build-system] name=
    members= exclude= ['**'] ['*/*'] ['../*'] a={path='..'} a={path='packages/one'} [[x]] {} [ ] = . ,
    true 1979-05-27 \"\"\"
    """
    ),
    "a.b.c.d = 1\n",
)
_PYTHON = _lines(
    *_words(
        """
    import from as if else: try: except with lambda: def class match case async await ( ) [ ] { } : , .
    = - + * @ x y
    """
    ),
    "import x\n",
    "if TYPE_CHECKING:\n ",
    "# coding: utf-16\n",
    "try:\n import y\nexcept ImportError:\n pass\n",
)
_RECORDS = _lines(
    "alpha.py,,\n", "//etc/passwd,,\n", "../x,,\n", "alpha/__init__.py,sha256=x,1\n", ",", "bin/run,,\n", "alpha,,\n"
)
_METADATA = _lines(
    *_words(
        """
    Name: Version: Requires-Dist: Requires-Python: Metadata-Version: Tag: alpha 1.0 >= == ~= ; @ os_name
    'x' extra and or
    """
    ),
    "Name: alpha\nVersion: 1.0\n",
    "Requires-Dist: a ; os_name ~= 'x'\n",
    "Requires-Python: >=3\n",
    "Tag: py3-none-any\n",
    "file:///etc/passwd",
)
_PATHS = st.sampled_from(
    _words(
        """
    requirements.txt pylock.toml pyproject.toml setup.py setup.cfg a.py b/c.py b/__init__.py a.whl x.zip
    acme-1.0.tar.gz a-1.dist-info/RECORD a-1.dist-info/METADATA a-1.dist-info/WHEEL venv/pyvenv.cfg
    p/pyproject.toml p/q/setup.py bin/run.py requirements/base.txt constraints.txt poetry.lock
    manifest.json _depload_x/__init__.py .git/config user_modules/m.py
    """
    )
)
_CONTENTS = _TOML | _PYTHON | _RECORDS | _METADATA | _ORDINARY | st.binary(max_size=40)
_TREES = st.dictionaries(_PATHS, _CONTENTS, max_size=6).map(zips.ordinary)
_TARS = st.lists(
    st.builds(
        zips.tar_header,
        st.sampled_from(["acme-1.0/PKG-INFO", "a", "../x", "", "acme-1.0/setup.py", "x" * 90]),
        st.sampled_from([0, 1, 20, 512, 1 << 20, 8 << 30]),
        st.sampled_from([b"0", b"x", b"g", b"L", b"K", b"S", b"2", b"5", b"\0", b"V", b"M"]),
    )
    | st.just(zips.negative_size())
    | st.binary(max_size=600)
    | st.sampled_from(
        [b"20 size=99999999999\n".ljust(512, b"\0"), b"18 path=../../x\n".ljust(512, b"\0"), bytes(1024)]
    ),
    max_size=5,
).map(b"".join)


def _as(form: bytes, rest: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    return rest.map(lambda data: form + data)


_DETECTION = (
    _TREES
    | _damaged(_TREES)
    | _as(b"p", _TOML)
    | _as(b"i", _PYTHON)
    | _as(b"r", _RECORDS)
    | _as(b"m", _METADATA)
    | _as(b"w", _METADATA)
    | _as(b"t", _damaged(_TARS))
    | _as(b"s", _PYTHON)
)
_REQUIREMENTS = _lines(
    *_words(
    """
    -r -c -e -i -f -- --hash= sha256: --only-binary :all: --pre --no-index --require-hashes
    --extra-index-url # ; @ six ==1 https://h/x-1.0.zip http://169.254.169.254/ file:/// git+ ./ ../
    /etc/passwd pkg more.txt libs/ [a] ${DATABRICKS_TOKEN} ${AWS_SECRET_ACCESS_KEY} os_name== ~= 'x'
    python_version extra and or in not %2e \\ \x00 é \u2028 @h
    """
),
    "six==1.0 --hash=sha256:" + "0" * 64 + "\n",
)  # fmt: skip

# --- locks --------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 70) | _WORDS | st.sampled_from(cases.LONG),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
_FILES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["alpha-1.0-py3-none-any.whl", "alpha-1.0.tar.gz", "../x.whl", ""]) | _WORDS,
        "url": st.sampled_from(cases.PLACES) | _WORDS,
        "path": st.sampled_from(cases.PLACES) | _WORDS,
        "size": st.integers(-5, 1 << 70) | _WORDS,
        "hashes": st.dictionaries(
            st.sampled_from(["sha256", "md5"]), st.sampled_from(["0" * 64, "", "Z" * 64]) | _WORDS, max_size=2
        ),
        "subdirectory": _WORDS,
    },
)
_PACKAGES = st.fixed_dictionaries(
    {"name": st.sampled_from(["alpha", "Alpha", "../x", ""]) | _WORDS},
    optional={
        "version": st.sampled_from(["1.0", "", "9" * 5000]) | _WORDS,
        "marker": st.sampled_from(cases.MARKERS) | _WORDS,
        "requires-python": st.sampled_from([">=3", "~=x", ">=" + "9" * 5000]),
        "wheels": st.lists(_FILES, max_size=2),
        "sdist": _FILES,
        "archive": _FILES,
        "directory": _FILES,
        "vcs": _FILES,
    },
)
_LOCKS = st.lists(_PACKAGES, max_size=3).map(
    lambda rows: b"lock-version = '1.0'\npackages = " + cases.toml(rows) + b"\n"
)

# --- wheels and wheelhouses ---------------------------------------------------------------------------

_WHEELS = st.builds(lambda members: zips.wheel({"alpha.py": b""}, more=members), _LISTS)
_WHEEL_INPUTS = (
    _WHEELS
    | _damaged(_WHEELS)
    | _as(b"m", _METADATA)
    | _as(b"m", _METADATA.map(lambda data: zips.METADATA + data))
    | _as(b"r", _RECORDS)
    | _as(b"p", _lines("a\n", "a/b\n", "../x\n", "import os\n", "/etc\n"))
    | _as(b"w", _METADATA)
    | _as(b"f", _lines("alpha", "-1.0", "-py3", "-none", "-any", ".", "-"))
)


@st.composite
def _lies(draw: st.DrawFn) -> bytes:
    """The true manifest with a few things in it that are not; the digest is right for that, or a lie as well."""
    manifest: dict[str, Any] = json.loads(json.dumps(zips.manifest_of(targets.SOUND)))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(_places(manifest)))
        place[draw(st.sampled_from(sorted(place)))] = draw(st.sampled_from(cases.VALUES) | _JSON)
    if draw(st.booleans()):
        manifest["digest"] = zips.digest_of(manifest)
    return b"j" + json.dumps(manifest).encode()


def _places(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Where a lie can be put; a lie before it may have left less than there was."""
    wheels = manifest["wheels"]
    inner = [manifest["target"], *(wheels[:1] if isinstance(wheels, list) else ())]
    return [manifest, *(place for place in inner if place and isinstance(place, dict))]


_ARBITRARY = _as(b"j", _JSON.map(lambda data: json.dumps(data).encode()) | st.binary(max_size=60))
_STORED = st.builds(
    lambda name, data: zips.ordinary(
        {"manifest.json": json.dumps(zips.manifest_of({name: data})).encode(), name: data}, zipfile.ZIP_STORED
    ),
    st.sampled_from(["alpha-1.0-py3-none-any.whl", "x.whl"]),
    _WHEELS,
)
_REFERENCES = _as(
    b"r",
    st.fixed_dictionaries({}, optional={"path": st.sampled_from(cases.PLACES), "size": _NUMBERS}).map(
        lambda data: json.dumps(data).encode()
    ),
)

STRATEGIES: dict[str, SearchStrategy[bytes]] = {
    "archive": _ARCHIVES,
    "detection": _DETECTION,
    "requirements": _REQUIREMENTS,
    "wheels": _WHEEL_INPUTS,
    "lock": _LOCKS | _damaged(_LOCKS) | _TOML,
    "manifest": _lies() | _ARBITRARY | _damaged(_STORED),
    "activation": _lies()
    | _ARBITRARY
    | _damaged(_STORED)
    | _STORED
    | _as(b"w", _WHEELS)
    | _as(b"w", _damaged(_WHEELS))
    | _REFERENCES,
}
