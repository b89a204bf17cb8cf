"""Ways from wheels on this machine to an importable site of one process, without Spark."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks.measuring import PYTHON, UV, Ground, Series, Way, in_turns, peers, timed
from benchmarks.prepared import prepared
from benchmarks.results import of_each

if TYPE_CHECKING:
    from benchmarks.results import Plan
    from benchmarks.sets import Set

PART = "activate"
ACTIVATE, LOAD = "depload: activation alone", "depload.load(path): verified and proven too"
ACTIVATE_NO_PYC = "depload: activation alone, wheelhouse without .pyc"
ACTIVATE_ZLIB = "depload: activation alone, as where the system has no libdeflate"
UV_TARGET, UV_TARGET_PYC = "uv pip install --target", "uv pip install --target --compile-bytecode"
PIP_TARGET = "pip install --target"
_FEW = 0.2  # of the runs, for what decides no figure

EXPLAINED = """
Cold: each as a process of its own, its start included, from the same wheels on this disk, nothing cached; what depload
unpacks holds .pyc, which its wheelhouse brought along, and the site is verified against the manifest. Warm: the site is
there, and the clock runs in a new process around the call.
"""


def plans(sets: list[Set]) -> list[Plan]:
    """Cold and warm for each set."""
    return of_each(sets, PART, {"cold": _cold, "warm": _warm})


def _activating(file: object) -> str:
    return f"from depload.travels.activation import activate; activate('{file}')"


def _activating_by_zlib(file: object) -> str:
    switch = "from depload.travels.activation import unpacking; unpacking._LIBDEFLATE = 'none'"
    return f"{switch}; {_activating(file)}"


def _cold(wanted: Set, runs: int, ground: Ground) -> dict[str, Series]:
    made, scratch = prepared(ground, wanted), ground.fresh("activate")
    packages = f"--no-index --find-links {made.wheels} -r {made.requirements}"
    uv = f"{UV} pip install -q --python {PYTHON} --target $WORK/target {packages}"
    loading = f"import depload; depload.load('{made.run_path}')"
    depload = f"DEPLOAD_SITES=$WORK/sites {PYTHON} -c"
    commands = {
        ACTIVATE: (f'{depload} "{_activating(made.wheelhouse)}"', 1.0),
        LOAD: (f'{depload} "{loading}"', 1.0),
        ACTIVATE_NO_PYC: (f'{depload} "{_activating(made.wheelhouse_without_pyc)}"', 1.0),
        ACTIVATE_ZLIB: (f'{depload} "{_activating_by_zlib(made.wheelhouse)}"', 1.0),
        UV_TARGET: (uv, 1.0),
        UV_TARGET_PYC: (f"{uv} --compile-bytecode", _FEW),
        PIP_TARGET: (f"{peers()}/pip install -q --target $WORK/target {packages}", _FEW),
    }
    ways = [Way(name, functools.partial(timed, command, scratch), share) for name, (command, share) in commands.items()]
    return in_turns(ways, runs)


def _warm(wanted: Set, runs: int, ground: Ground) -> dict[str, Series]:
    made, scratch = prepared(ground, wanted), ground.fresh("activate")
    sites = {"DEPLOAD_SITES": str(scratch / "sites")}
    timed(f'{PYTHON} -c "{_activating(made.wheelhouse)}"', scratch, sites)

    def clocked(imports: str, call: str) -> str:
        code = (
            f"{imports}; import json, time; start = time.perf_counter(); {call};"
            "print(json.dumps({'seconds': time.perf_counter() - start}))"
        )
        return f'{PYTHON} -c "{code}"'

    activation = clocked("from depload.travels.activation import activate", f"activate('{made.wheelhouse}')")
    load = clocked("import depload; depload.load", f"depload.load('{made.run_path}')")
    ways = [
        Way(ACTIVATE, functools.partial(timed, activation, scratch, sites, own_clock=True)),
        Way(LOAD, functools.partial(timed, load, scratch, sites, own_clock=True)),
    ]
    return in_turns(ways, max(runs, 5))
