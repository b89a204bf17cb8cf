"""Wheels -> their .pyc files, so that no worker spends its first import on compiling."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from depload.errors import BuildError
from depload.published.wheelhouse import Bytecode
from depload.standards.wheels import sha256_of
from depload.travels import compiler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from depload.standards.wheels import Wheel

_SHARD = 150  # modules; decides the bytes that come out, so it does not depend on the machine


def compile_wheels(wheels: Sequence[Wheel], interpreter: str, to: Path, cache: Path | None = None) -> list[Bytecode]:
    """Compile the modules of ``wheels`` with ``interpreter``; what ``cache`` has of an equal wheel is taken from there.

    The same wheels and interpreter give the same bytes, whatever the machine's number of processors.
    """
    shards = [(wheel, shard, count) for wheel in wheels for count in [_shards(wheel)] for shard in range(count)]
    shards.sort(key=lambda job: -job[0].size)
    key = _compiler_key(interpreter) if cache else None
    kept = cache / "bytecode" / key if cache and key else None
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        made = pool.map(lambda job: _shard(job[0], job[1], job[2], interpreter, to, kept), shards)
        return sorted(made, key=lambda bytecode: bytecode.filename)


def _shards(wheel: Wheel) -> int:
    with zipfile.ZipFile(wheel.path) as opened:
        return -(-len(compiler.sources(opened.namelist())) // _SHARD)


def _shard(wheel: Wheel, shard: int, shards: int, interpreter: str, to: Path, kept: Path | None) -> Bytecode:
    filename = f"bytecode/{wheel.filename.removesuffix('.whl')}.{shard}.zip"
    path = to / Path(filename).name
    cached = kept / wheel.sha256 / f"{shard}-of-{shards}.zip" if kept else None
    if cached and cached.exists():
        shutil.copyfile(cached, path)
    else:
        _compile(wheel, shard, shards, interpreter, path)
        if cached:
            _keep(path, cached)
    return Bytecode(path, filename, sha256_of(path), path.stat().st_size)


def _compile(wheel: Wheel, shard: int, shards: int, interpreter: str, path: Path) -> None:
    # The order of a set in bytecode depends on the hash seed; -s -S because nothing but the standard library is needed.
    command = [interpreter, "-s", "-S", compiler.__file__, str(wheel.path), str(shard), str(shards), str(path)]
    environment = {"PYTHONHASHSEED": "0", "PATH": os.environ.get("PATH", "")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(wheel.filename, done.stderr[-2000:], "convert with --no-compile")


def _keep(path: Path, cached: Path) -> None:
    """Put a copy into the cache; one that cannot be written is no cache, and no error."""
    with contextlib.suppress(OSError):
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cached.parent, delete=False) as work:
            try:
                work.write(path.read_bytes())
                work.flush()
                Path(work.name).replace(cached)
            except OSError:  # half a file on a full disk is of no use to anybody
                Path(work.name).unlink()


def _compiler_key(interpreter: str) -> str | None:
    """What the bytes depend on besides the wheel: the interpreter's exact build and the compiler script.

    None where the interpreter does not tell: the compiler meets what ails it, and says so of the wheel.
    """
    done = subprocess.run(
        [interpreter, "-S", "-c", "import sys, zlib; print(sys.version, sys.platform, zlib.ZLIB_RUNTIME_VERSION)"],
        env={"PATH": os.environ.get("PATH", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    script = Path(compiler.__file__).read_bytes()
    return hashlib.sha256(done.stdout.encode() + script + str(_SHARD).encode()).hexdigest()[:32]
