"""Ways from requirements to something that can be shipped, cold and warm."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks import flatindex
from benchmarks.measuring import PYTHON, Ground, Series, Way, in_turns, peers, timed
from benchmarks.prepared import prepared
from benchmarks.results import of_each

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Plan
    from benchmarks.sets import Set

PART = "convert"
DEPLOAD, DEPLOAD_PYC = "depload, no .pyc", "depload, with .pyc"
IN_PROCESS = "depload.convert() in a running process, with .pyc"
COPY = "cp of the wheelhouse with .pyc"
PIP_DOWNLOAD, PIP_WHEEL = "pip download", "pip wheel"
UV_TARGET, UV_TARGET_PYC = "uv pip install --target + tar.gz", "uv pip install --target, .pyc + tar.gz"
VENV_PACK, VENV_PACK_PYC = "uv venv + venv-pack", "uv venv, .pyc + venv-pack"
PEX, CLUSTER_PACK = "pex", "cluster-pack"
_SHARES = {PEX: 0.2, CLUSTER_PACK: 0.2, UV_TARGET: 0.4, UV_TARGET_PYC: 0.2}
_WARM_SHARES = {**_SHARES, VENV_PACK: 0.2, VENV_PACK_PYC: 0.2}
_SHARES_OF_SETS = {"S": 0.6, "M": 1.0, "L": 0.4}

EXPLAINED = """
From a requirements.txt to the file or the wheels, each as a command of its own: the clock runs from the start of the
process to its end, the start of Python and imports included, from the index that pip is configured for. Cold: every
cache is empty, depload's base too. Warm: each tool has its own cache filled, and depload the base, with `--reuse 24h`:
the sets leave open what only others require, so without it an index is asked for newer versions, as by pip and uv.

depload publishes what it makes and reads it back; `pip download` and `pip wheel` leave wheels in a directory, which
still have to be brought to a cluster. Trees have no .pyc unless it says so. Memory is the peak of the largest single
process. The requests are those to an index on this machine: by a first conversion, then by a second.
"""


def plans(sets: list[Set]) -> list[Plan]:
    """Cold and warm for each set, and what is asked of an index meanwhile."""
    return of_each(sets, PART, {"cold": _cold, "warm": _warm, "requests": _requests})


def _commands(requirements: Path, base: str) -> dict[str, str]:
    tools = peers()
    wanted = f"-r {requirements}"
    depload = f"{PYTHON} -m depload convert {requirements} --base {base} --reuse 24h"
    tree = f"{tools}/uv pip install -q --python {PYTHON} --target tree {wanted}"
    packed = "tar -czf tree.tar.gz tree"
    installed = f"{tools}/uv venv -q --python {PYTHON} v && {tools}/uv pip install -q --python v/bin/python {wanted}"
    pack = f"from cluster_pack import packaging; packaging.pack_spec_in_pex('{requirements}', '$WORK/c.pex')"
    return {
        DEPLOAD: f"{depload} --no-compile",
        DEPLOAD_PYC: f"{depload} --compile",
        PIP_DOWNLOAD: f"{tools}/pip download -q -d d {wanted}",
        PIP_WHEEL: f"{tools}/pip wheel -q -w w {wanted}",
        UV_TARGET: f"{tree} && {packed}",
        UV_TARGET_PYC: f"{tree} --compile-bytecode && {packed}",
        VENV_PACK: f"{installed} && {tools}/venv-pack -q -p v -o v.tar.gz",
        VENV_PACK_PYC: f"{installed} --compile-bytecode && {tools}/venv-pack -q -p v -o v.tar.gz",
        PEX: f"{tools}/pex {wanted} -o p.pex",
        CLUSTER_PACK: f'PATH={tools}:$PATH {tools}/python -c "{pack}"',
    }


def _cold(wanted: Set, runs: int, ground: Ground) -> dict[str, Series]:
    scratch = ground.fresh("convert-cold")
    commands = _commands(_requirements(wanted, scratch), "$WORK/base")
    ways = [
        Way(name, functools.partial(timed, command, scratch), _SHARES.get(name, 1.0))
        for name, command in commands.items()
    ]
    return in_turns(ways, runs * _SHARES_OF_SETS[wanted.name])


def _warm(wanted: Set, runs: int, ground: Ground) -> dict[str, Series]:
    """The same commands once more, after one that is not counted."""
    scratch = ground.fresh("convert-warm")
    requirements = _requirements(wanted, scratch)
    names = ("UV_CACHE_DIR", "PIP_CACHE_DIR", "DEPLOAD_CACHE_DIR", "PEX_ROOT")
    caches = {name: str(scratch / name.lower()) for name in names}
    base = scratch / "base"
    commands = _commands(requirements, str(base))
    del commands[CLUSTER_PACK]  # runs pex
    for command in commands.values():
        timed(command, scratch, caches)
    file = max(base.glob("*-*/*.wheelhouse.zip"), key=lambda path: path.stat().st_size)
    code = (
        "import json, time; from depload import convert; start = time.perf_counter();"
        f"convert('{requirements}', '{base}', reuse='24h');"
        "print(json.dumps({'seconds': time.perf_counter() - start}))"
    )
    ways = [
        Way(COPY, functools.partial(timed, f"cp {file} $WORK/copy", scratch)),
        Way(IN_PROCESS, lambda: timed(f'{PYTHON} -c "{code}"', scratch, caches, own_clock=True)),
        *(
            Way(name, functools.partial(timed, command, scratch, caches), _WARM_SHARES.get(name, 1.0))
            for name, command in commands.items()
        ),
    ]
    return in_turns(ways, runs * _SHARES_OF_SETS[wanted.name])


def _requests(wanted: Set, runs: int, ground: Ground) -> dict[str, Series]:
    """How often an index on this machine, with the set's wheels, is asked by each tool, and when it has its caches."""
    del runs
    scratch = ground.fresh("convert-requests")
    requirements = _requirements(wanted, scratch)
    caches = {name: str(scratch / name.lower()) for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR", "DEPLOAD_CACHE_DIR")}
    with flatindex.served(prepared(ground, wanted).wheels) as index:
        environment = {**caches, "PIP_INDEX_URL": index.url, "UV_DEFAULT_INDEX": index.url, "PIP_FIND_LINKS": ""}
        commands = _commands(requirements, str(scratch / "base"))

        def counted(name: str) -> dict[str, float]:
            before = index.requests
            sample = timed(commands[name], scratch, environment)
            return {**sample, "requests": index.requests - before}

        ways = [Way(name, functools.partial(counted, name)) for name in (DEPLOAD_PYC, PIP_WHEEL, UV_TARGET)]
        return in_turns(ways, 2)


def _requirements(wanted: Set, scratch: Path) -> Path:
    file = scratch / "requirements.txt"
    file.write_text(wanted.text(), encoding="utf-8")
    return file
