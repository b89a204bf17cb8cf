"""Write src/depload/checking/runtimes/<version>.json from the lists of what runtimes preinstall.

    python scripts/update_runtimes.py LISTS [--runtime 15.4] [--only NAME ...] [--installed ENVIRONMENT ...]

LISTS is a directory with a file ``dbr-<version>.txt`` for each runtime, a line ``name==version`` for each package. What
the packages require is read from environments that have the same versions installed (``--installed``: those that
``make matrix`` makes from the lists, say), or asked of pip, with its configured index: of those that ``--only`` names,
else of all. What is known already is kept, and a package without a wheel for the runtime stays unknown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from depload.standards.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DATA = Path(__file__).parent.parent / "src" / "depload" / "checking" / "runtimes"
# Databricks release notes, "System environment": Apache Spark.
SPARK = {"13.3": "3.4.1", "14.3": "3.5.0", "15.4": "3.5.0", "16.4": "3.5.2", "17.3": "4.0.0"}
OTHER_PYTHONS = ("3.11", "3.10")


def main() -> None:
    """Bring the data of the runtimes up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", type=Path)
    parser.add_argument("--runtime", action="append", choices=sorted(SPARK), help="this one alone")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="ask for what these require, and no others")
    parser.add_argument("--installed", nargs="+", type=Path, default=[], metavar="ENVIRONMENT", help="read from these")
    given = parser.parse_args()
    for version in given.runtime or SPARK:
        packages = listed(given.lists / f"dbr-{version}.txt")
        named = {canonicalize_name(name) for name in given.only or ()}
        asked = packages.keys() & named if given.only or given.installed else packages.keys()
        requires = kept(version, packages)
        requires |= installed(
            version, {name: packages[name] for name in packages.keys() - requires.keys()}, given.installed
        )
        requires |= required(version, {name: packages[name] for name in sorted(asked - requires.keys())})
        write(version, packages, requires)


def listed(file: Path) -> dict[str, str]:
    """Version by normalised name."""
    rows = (line.strip().partition("==") for line in file.read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(name): version for name, _, version in rows if version}


def kept(version: str, packages: Mapping[str, str]) -> dict[str, list[str]]:
    """What the file says already of packages that have not changed."""
    file = DATA / f"{version}.json"
    if not file.exists():
        return {}
    data = json.loads(file.read_text(encoding="utf-8"))
    return {name: lines for name, lines in data["requires"].items() if data["packages"].get(name) == packages.get(name)}


def installed(version: str, packages: Mapping[str, str], environments: Iterable[Path]) -> dict[str, list[str]]:
    """What packages require on the runtime, where an environment has the very version."""
    target = Target.of(runtime=version)
    folders = [str(folder) for place in environments for folder in place.glob("lib/python*/site-packages")]
    return {
        canonicalize_name(found.metadata["Name"]): sorted(without_markers(found.requires or (), target))
        for found in distributions(path=folders)
        if packages.get(canonicalize_name(found.metadata["Name"])) == found.version
    }


def required(version: str, packages: Mapping[str, str]) -> dict[str, list[str]]:
    """What packages require on the runtime, as far as pip finds wheels of them."""
    target = Target.of(runtime=version)
    found = {}
    for name, release in packages.items():
        pythons = dict.fromkeys(
            [target.python, *OTHER_PYTHONS]
        )  # some are in an image that has no wheel for its Python
        answers = (ask_pip(f"{name}=={release}", target, python) for python in pythons)
        lines = next((lines for lines in answers if lines is not None), None)
        if lines is None:
            sys.stderr.write(f"{version}: {name}=={release} has no wheel: what it requires stays unknown\n")
        else:
            found[name] = sorted(without_markers(lines, target))
    return found


def ask_pip(requirement: str, target: Target, python: str) -> list[str] | None:
    """The Requires-Dist of one package, which pip reads from the index without downloading the wheel where it can."""
    platforms = dict.fromkeys(tag.platform for tag in Target(python, target.platform).tags)
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"),
                *("--report=-", "--only-binary=:all:", f"--target={nowhere}", f"--python-version={python}"),
                *(f"--platform={platform}" for platform in platforms),
                requirement,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return None
    (package,) = json.loads(done.stdout)["install"]
    return list(package["metadata"].get("requires_dist", ()))


def without_markers(lines: Iterable[str], target: Target) -> set[str]:
    """The requirements that hold on the target, no extra being asked for."""
    found = set()
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({**target.environment(), "extra": ""}):
            requirement.marker = None
            found.add(str(requirement))
    return found


def write(version: str, packages: Mapping[str, str], requires: Mapping[str, list[str]]) -> None:
    """Write the runtime's file: a line for each package, sorted, so that a new list is a readable change."""
    data = {"packages": packages, "requires": requires, "runtime": version, "spark": SPARK[version]}
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    (DATA / f"{version}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
