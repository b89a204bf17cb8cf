"""The peak memory of every phase with wheels of two sizes, of what takes most to unpack: what grows is not streamed."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import flatindex
from benchmarks.loading import once
from benchmarks.measuring import PYTHON, Ground, Sample, Series, Way, in_turns, say, timed
from benchmarks.results import Plan
from depload.travels.activation import unpacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.sets import Set

PART = "memory"
SIZES = (100, 2000)  # MB
_SEEN, _SENT = "workers see the store", "through Spark's files"
PHASES = {
    "convert a directory of wheels": "megabytes",
    "convert from an index": "megabytes",
    "publish": "megabytes",
    "load on the driver": "megabytes",
    "activation, as a worker does it": "megabytes",
    "driver's Python, workers see the store": "driver_mb",
    "driver's Java, workers see the store": "driver_java_mb",
    "worker's Python, workers see the store": "worker_mb",
    "driver's Python, through Spark's files": "driver_mb",
    "driver's Java, through Spark's files": "driver_java_mb",
    "worker's Python, through Spark's files": "worker_mb",
}

EXPLAINED = """
Peaks (MB) with a wheelhouse of one wheel of 100 MB, and one of 2 GB, whose bytes cannot be compressed. Both have
members of the largest sizes that are held whole to unpack them, more than there are threads; the rest is one member.
The first five are processes without Spark; the others are measured on one executor.
"""

_HELD = {
    **{f"big/small{at}.bin": unpacking.SMALL for at in range(2 * unpacking.THREADS)},
    **{f"big/large{at}.bin": unpacking.LARGE for at in range(2)},
}
"""The members that unpacking holds whole, with the most bytes that they may have, packed."""
_FRAME = 10_000
"""Bytes that deflate adds at most to a member of that size that it cannot compress (5 for each 16 KB or more)."""


def plans(sets: list[Set]) -> list[Plan]:
    del sets
    return [Plan(PART, "", f"{size} MB", functools.partial(_plan, size)) for size in SIZES]


def _plan(size: int, runs: int, ground: Ground) -> dict[str, Series]:
    del runs  # a peak is not noisy
    scratch = ground.fresh("memory")
    wheels = scratch / "wheels"
    wheels.mkdir()
    _big_wheel(wheels / "big-1.0-py3-none-any.whl", size)
    base, requirements = scratch / "base", scratch / "requirements.txt"
    requirements.write_text("big==1.0\n", encoding="utf-8")
    convert = f"{PYTHON} -m depload convert"
    code = (
        "import sys; from pathlib import Path; from depload.published import runs, wheelhouse;"
        "from depload.stores.addresses import open_store; file = Path(sys.argv[1]);"
        "runs.publish(open_store(sys.argv[2]), file, wheelhouse.read(file))"
    )

    def file() -> Path:
        return next(base.glob("*-*/*.wheelhouse.zip"))

    def loaded(place: Path, **more: bool) -> Sample:
        request = {"way": "depload", "path": str(file().parent), "imports": ["big"], "memory": True, **more}
        return once(request, 1, place)

    measures: dict[str, Callable[[Path], Sample]] = {
        "convert a directory of wheels": lambda place: timed(f"{convert} {wheels} --base {base} --no-index", place),
        "convert from an index": lambda place: _from_index(convert, requirements, wheels, place),
        "publish": lambda place: timed(f'{PYTHON} -c "{code}" {file()} $WORK/published', place),
        "load on the driver": lambda place: timed(
            f"DEPLOAD_SITES=$WORK/sites {PYTHON} -c \"import depload; depload.load('{file().parent}')\"", place
        ),
        "activation, as a worker does it": lambda place: timed(
            f"cp {file()} $WORK/big.zip && DEPLOAD_SITES=$WORK/sites PYTHONPATH=$WORK/big.zip {PYTHON} -c 'import big'",
            place,
        ),
        _SEEN: loaded,
        _SENT: functools.partial(loaded, unseen=True),
    }
    found = in_turns([Way(name, functools.partial(_aside, measure, scratch)) for name, measure in measures.items()], 1)
    for where in (_SEEN, _SENT):
        series = found.pop(where)
        found |= {name: series for name in PHASES if name.endswith(where)}
    shutil.rmtree(scratch)
    return found


def _aside(measure: Callable[[Path], Sample], scratch: Path) -> Sample:
    """In a directory that goes at once: ten times 2 GB are more than some disks have, and no time is measured here."""
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as place:
        return measure(Path(place))


def _from_index(convert: str, requirements: Path, wheels: Path, place: Path) -> Sample:
    with flatindex.served(wheels) as index:
        return timed(f"{convert} {requirements} --base $WORK/base --index-url {index.url}", place)


def _big_wheel(path: Path, megabytes: int) -> None:
    """A sound wheel whose files cannot be compressed; deflated, as they are in a wheel."""
    say(f"making a wheel of {megabytes} MB ...")
    sizes = {name: most - _FRAME for name, most in _HELD.items()}
    sizes["big/data.bin"] = megabytes * 1_000_000 - sum(sizes.values())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=0) as opened:
        record = "".join(_random_member(opened, name, size) for name, size in sizes.items())
        texts = {
            "big/__init__.py": "",
            "big-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: big\nVersion: 1.0\n",
            "big-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        for name, text in texts.items():
            opened.writestr(name, text)
            record += f"{name},sha256={_encoded(hashlib.sha256(text.encode()).digest())},{len(text)}\n"
        opened.writestr("big-1.0.dist-info/RECORD", f"{record}big-1.0.dist-info/RECORD,,\n")


def _random_member(opened: zipfile.ZipFile, name: str, size: int) -> str:
    """Write it; its line of the RECORD."""
    digest, left = hashlib.sha256(), size
    with opened.open(name, "w", force_zip64=True) as member:
        while left:
            data = os.urandom(min(left, 1_000_000))
            left -= len(data)
            digest.update(data)
            member.write(data)
    return f"{name},sha256={_encoded(digest.digest())},{size}\n"


def _encoded(digest: bytes) -> str:
    """As a RECORD has it."""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
