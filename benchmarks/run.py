"""Measure depload side by side with other ways of bringing packages to workers, and write RESULTS.md.

python benchmarks/run.py [--runs 5] [--only convert|load|start|memory]

Every run writes into directories of its own that are only deleted in the end (on ext4, creating files where many were
just deleted is far slower for a while), and the disk is synced before each clock starts. The ways take turns, so that a
machine whose speed drifts slows all of them alike; what counts is the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
SET = ["pandas==2.2.2", "scikit-learn==1.5.0"]
PYTHON = sys.executable
PEERS = HERE.parent / ".venv" / "peers"


def peers() -> Path:
    """An environment with the other tools."""
    if not (PEERS / "complete").exists():
        uv = str(Path(PYTHON).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", PYTHON, str(PEERS)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(PEERS / "bin" / "python")]
        subprocess.run([*install, "-r", str(HERE / "requirements.txt")], check=True)
        (PEERS / "complete").touch()
    return PEERS / "bin"


def timed(command: str, scratch: Path, **environment: str) -> dict[str, float]:
    """Wall seconds and the peak memory (MB) of the largest process of a shell command, with caches of its own."""
    work = Path(tempfile.mkdtemp(dir=scratch))
    caches = ("UV_CACHE_DIR", "PIP_CACHE_DIR", "DEPLOAD_CACHE_DIR", "PEX_ROOT", "TMPDIR")
    env = {**os.environ, **{name: str(work / name.lower()) for name in caches}, **environment, "WORK": str(work)}
    Path(env["TMPDIR"]).mkdir(exist_ok=True)
    os.sync()
    script = (
        "import json, resource, subprocess, sys, time; start = time.perf_counter();"
        "done = subprocess.run(sys.argv[1], shell=True, capture_output=True, text=True);"
        "seconds = time.perf_counter() - start;"
        "print(json.dumps([done.returncode, done.stderr[-2000:], seconds,"
        " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    outer = [PYTHON, "-c", script, command]
    said = subprocess.run(outer, capture_output=True, text=True, check=True, cwd=work, env=env)
    code, error, seconds, kilobytes = json.loads(said.stdout)
    if code:
        sys.exit(f"{command}\n{error}")
    return {"seconds": seconds, "megabytes": kilobytes / 1000}


def rounds(ways: dict[str, str], runs: int, scratch: Path, **environment: str) -> dict[str, list[dict[str, float]]]:
    """Every way in turn, ``runs`` times."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(runs):
        for name, command in ways.items():
            found[name].append(timed(command, scratch, **environment))
            print(f"  {number + 1}/{runs} {name}: {found[name][-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    return found


def median(rows: list[dict[str, float]], key: str = "seconds") -> float:
    return statistics.median(row[key] for row in rows)


def table(found: dict[str, list[dict[str, float]]], against: list[str], columns: tuple[str, ...] = ()) -> list[str]:
    """Median, range and ratios of each way."""
    heads = ["way", "median s", "min to max", *(f"x {name}" for name in against), *columns]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    for name, rows in found.items():
        seconds = [row["seconds"] for row in rows]
        cells = [name, f"{median(rows):.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}"]
        cells += [f"{median(rows) / median(found[other]):.2f}" for other in against]
        cells += [f"{median(rows, column):.0f}" for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


# --- convert ----------------------------------------------------------------------------------------------------------


def convert(runs: int, scratch: Path) -> list[str]:
    wanted, bin_ = " ".join(SET), peers()
    requirements = scratch / "requirements.txt"
    requirements.write_text("\n".join(SET))
    depload = f"{PYTHON} -m depload convert {requirements} --base $WORK/base"
    installed = f"{bin_}/uv venv -q --python {PYTHON} v && {bin_}/uv pip install -q --python v/bin/python {wanted}"
    pack = f"from cluster_pack import packaging; packaging.pack_spec_in_pex('{requirements}', '$WORK/c.pex')"
    ways = {
        "depload": f"{depload} --no-compile",
        "depload with .pyc": depload,
        "pip download": f"{bin_}/pip download -q -d d {wanted}",
        "pip wheel": f"{bin_}/pip wheel -q -w w {wanted}",
        "uv venv + venv-pack": f"{installed} && {bin_}/venv-pack -q -p v -o v.tar.gz",
        "pex": f"{bin_}/pex {wanted} -o p.pex",
        "cluster-pack": f'PATH={bin_}:$PATH {bin_}/python -c "{pack}"',
    }
    cold = rounds(ways, runs, scratch)
    caches = ("UV_CACHE_DIR", "PIP_CACHE_DIR", "DEPLOAD_CACHE_DIR")
    shared = {name: str(scratch / f"warm-{name.lower()}") for name in caches}
    warm_ways = {name: ways[name] for name in ("depload", "depload with .pyc", "pip wheel", "uv venv + venv-pack")}
    for command in warm_ways.values():
        timed(command, scratch, **shared)
    warm = rounds(warm_ways, runs, scratch, **shared)
    against = ["pip wheel", "uv venv + venv-pack"]
    return [
        "## Convert",
        f"\n`{wanted}`: 10 wheels, 80 MB. Cold: every cache empty. Memory is the peak of the largest single process.\n",
        *table(cold, against, ("megabytes",)),
        "\nWarm: each tool's own cache filled.\n",
        *table(warm, against),
    ]


# --- load -------------------------------------------------------------------------------------------------------------


_LOAD_EXPLAINED = """
Spark 3.5 on `local-cluster[2,1,1024]`: from the call until both executors have imported pandas and scikit-learn. Cold:
no site on the workers' node, and none left there by the driver, which has a place of its own. depload's time includes
verifying the file, activating the driver and the proof from every worker.
"""


def load(runs: int, scratch: Path) -> list[str]:
    """On two executor processes, from the call until both have imported pandas and scikit-learn."""
    prepared = _prepare(scratch)
    ways = {
        "floor: installed, with .pyc": "floor",
        "floor: installed, no .pyc": "floor-no-pyc",
        "depload, node has the site": "depload-warm",
        "depload, cold": "depload",
        "depload without .pyc, cold": "depload-no-pyc",
        "depload, store unseen, cold": "depload-sent",
        "uv install on each executor": "uv-install",
        "tree as stored .zip with .pyc, addArchive": "zip",
        "tree as .tar.gz, addArchive": "targz",
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for number in range(runs):
        for name, way in ways.items():
            found[name].append(_load_once(way, prepared, scratch))
            print(f"  {number + 1}/{runs} {name}: {found[name][-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    against = ["floor: installed, with .pyc", "uv install on each executor", "tree as .tar.gz, addArchive"]
    return [
        "## Load",
        _LOAD_EXPLAINED,
        *table(found, against),
    ]


def _prepare(scratch: Path) -> dict[str, str]:
    """The wheelhouses, trees and archives that the ways start from."""
    requirements = scratch / "requirements.txt"
    requirements.write_text("\n".join(SET))
    prepared = {}
    for name, option in (("depload", "--compile"), ("depload-no-pyc", "--no-compile")):
        command = [PYTHON, "-m", "depload", "convert", str(requirements), "--base", str(scratch / "base")]
        command += [option, "--json"]
        prepared[name] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["path"]
    wheels = scratch / "wheels"
    with zipfile.ZipFile(next(Path(prepared["depload-no-pyc"]).glob("*.zip"))) as opened:
        opened.extractall(wheels, [name for name in opened.namelist() if name.endswith(".whl")])
    prepared["wheels"] = str(wheels)
    for name, option in (("floor", "--compile-bytecode"), ("floor-no-pyc", "--no-compile-bytecode")):
        prepared[name] = str(scratch / name)
        command = [str(peers() / "uv"), "pip", "install", "-q", "--python", PYTHON, "--target", prepared[name], option]
        subprocess.run([*command, "--no-index", "--find-links", str(wheels), *SET], check=True)
    for path in Path(prepared["floor"]).rglob("*.pyc"):
        path.touch()
    prepared["targz"] = str(scratch / "tree.tar.gz")
    tree = prepared["floor-no-pyc"]  # without the leading ./ of make_archive, which Spark refuses
    subprocess.run(["tar", "-czf", prepared["targz"], *sorted(os.listdir(tree))], cwd=tree, check=True)
    prepared["zip"] = str(scratch / "tree.zip")
    shutil.copytree(prepared["floor-no-pyc"], scratch / "tree-with-pyc")
    # Not checked: some packages carry modules of other Pythons, which do not compile.
    compile_ = [PYTHON, "-W", "ignore", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    subprocess.run([*compile_, str(scratch / "tree-with-pyc")], check=False, capture_output=True)
    with zipfile.ZipFile(prepared["zip"], "w") as opened:
        for path in (scratch / "tree-with-pyc").rglob("*"):
            opened.write(path, path.relative_to(scratch / "tree-with-pyc"))
    prepared["warm-sites"] = str(scratch / "warm-sites")
    return prepared


def _load_once(way: str, prepared: dict[str, str], scratch: Path) -> dict[str, float]:
    work = tempfile.mkdtemp(dir=scratch)
    if way == "depload-warm" and not Path(prepared["warm-sites"]).exists():
        _load_once_in(way, prepared, work)
        work = tempfile.mkdtemp(dir=scratch)
    os.sync()
    time.sleep(1)  # what the run before left to the disk and to ending Java processes is not this one's time
    return _load_once_in(way, prepared, work)


def _load_once_in(way: str, prepared: dict[str, str], work: str) -> dict[str, float]:
    command = [PYTHON, str(HERE / "load_once.py"), way, json.dumps(prepared), work]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{way}\n{done.stderr[-4000:]}")
    seconds: float = json.loads(done.stdout.splitlines()[-1])
    return {"seconds": seconds}


# --- start, memory ----------------------------------------------------------------------------------------------------


def start(runs: int, scratch: Path) -> list[str]:
    ways = {
        "python -c pass": f"{PYTHON} -c pass",
        "python -c 'import depload'": f"{PYTHON} -c 'import depload'",
        "depload --help": f"{Path(PYTHON).with_name('depload')} --help",
    }
    found = rounds(ways, max(runs, 10), scratch)
    lines = ["| command | median ms |", "| --- | --- |"]
    lines += [f"| `{name}` | {median(rows) * 1000:.0f} |" for name, rows in found.items()]
    return ["## Start\n", *lines]


def memory(scratch: Path) -> list[str]:
    """A wheel of incompressible data, of two sizes: what grows with it is not streamed."""
    rows = []
    for megabytes in (100, 2000):
        source = scratch / f"wheel-{megabytes}"
        source.mkdir()
        _big_wheel(source / "big-1.0-py3-none-any.whl", megabytes)
        command = f"{PYTHON} -m depload convert {source} --base $WORK/base --no-index"
        convert_ = timed(command, scratch)["megabytes"]
        code = f"import depload, glob; depload.load(glob.glob('{scratch}/*/base/*-*-*')[-1])"
        load_ = timed(f'DEPLOAD_SITES=$WORK/s {PYTHON} -c "{code}"', scratch)
        rows.append(f"| {megabytes} | {convert_:.0f} | {load_['megabytes']:.0f} |")
        for path in scratch.glob("*/base"):
            shutil.rmtree(path)
    return ["## Memory\n", "| wheel MB | convert peak MB | load (driver) peak MB |", "| --- | --- | --- |", *rows]


def _big_wheel(path: Path, megabytes: int) -> None:
    """A sound wheel whose one file cannot be compressed."""
    import base64
    import hashlib

    digest, size, chunk = hashlib.sha256(), megabytes * 1_000_000, 1_000_000
    with zipfile.ZipFile(path, "w") as opened:
        with opened.open(zipfile.ZipInfo("big/data.bin"), "w", force_zip64=True) as member:
            for _ in range(size // chunk):
                data = os.urandom(chunk)
                digest.update(data)
                member.write(data)
        record = f"big/data.bin,sha256={base64.urlsafe_b64encode(digest.digest()).rstrip(b'=').decode()},{size}\n"
        texts = {
            "big/__init__.py": "",
            "big-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: big\nVersion: 1.0\n",
            "big-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        for name, text in texts.items():
            opened.writestr(name, text)
            hashed = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={hashed},{len(text)}\n"
        opened.writestr("big-1.0.dist-info/RECORD", f"{record}big-1.0.dist-info/RECORD,,\n")


def machine() -> str:
    memory_ = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores, {memory_:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["convert", "load", "start", "memory"])
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parts = {"start": start, "convert": convert, "load": load, "memory": lambda _runs, scratch: memory(scratch)}
    lines = [
        "# Results",
        f"\nMeasured with `make bench` on {machine()}; medians of {arguments.runs}, all ways in one run, taking turns.",
    ]
    with tempfile.TemporaryDirectory(prefix="depload-bench-") as made:
        for name, part in parts.items():
            if arguments.only in (None, name):
                print(f"{name} ...", file=sys.stderr, flush=True)
                scratch = Path(made, name)
                scratch.mkdir()
                lines += ["", *part(arguments.runs, scratch)]
    text = "\n".join(lines) + "\n"
    if arguments.only is None:
        (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
