"""What the ways of loading start from: wheelhouses, wheels, installed trees and archives of one set, made once."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring import PYTHON, UV, Ground, UnmeasuredError, peers, say

if TYPE_CHECKING:
    from benchmarks.sets import Set


@dataclass(frozen=True)
class Prepared:
    """Where each of them lies; archives of peers are made when they are asked for."""

    set: Set
    folder: Path

    @functools.cached_property
    def requirements(self) -> Path:
        file = self.folder / "requirements.txt"
        file.write_text(self.set.text(), encoding="utf-8")
        return file

    @functools.cached_property
    def run_path(self) -> str:
        return self._converted("--compile")

    @functools.cached_property
    def run_path_without_pyc(self) -> str:
        return self._converted("--no-compile")

    def _converted(self, option: str) -> str:
        command = [PYTHON, "-m", "depload", "convert", str(self.requirements), "--base", str(self.folder / "base")]
        said = _run([*command, option, "--json"])
        return str(json.loads(said)["path"])

    @functools.cached_property
    def wheelhouse(self) -> Path:
        return next(Path(self.run_path).glob("*.wheelhouse.zip"))

    @functools.cached_property
    def wheelhouse_without_pyc(self) -> Path:
        return next(Path(self.run_path_without_pyc).glob("*.wheelhouse.zip"))

    @functools.cached_property
    def wheels(self) -> Path:
        to = self.folder / "wheels"
        with zipfile.ZipFile(self.wheelhouse) as opened:
            opened.extractall(to, [name for name in opened.namelist() if name.endswith(".whl")])
        return to

    @functools.cached_property
    def tree(self) -> Path:
        """Installed, without .pyc."""
        return self._installed("tree", "--no-compile-bytecode")

    @functools.cached_property
    def tree_with_pyc(self) -> Path:
        return self._installed("tree-with-pyc", "--compile-bytecode")

    def _installed(self, name: str, option: str) -> Path:
        to = self.folder / name
        command = [UV, "pip", "install", "-q", "--python", PYTHON, "--target", str(to), option, "--no-index"]
        _run([*command, "--link-mode", "copy", "--find-links", str(self.wheels), *self.set.requirements])
        return to

    @functools.cached_property
    def targz(self) -> Path:
        file = self.folder / "tree.tar.gz"  # without the leading ./ of shutil.make_archive, which Spark refuses
        _run(["tar", "-czf", str(file), *sorted(os.listdir(self.tree))], cwd=self.tree)
        return file

    @functools.cached_property
    def stored_zip(self) -> Path:
        """With .pyc that survive Spark's unzip, which drops the times: those of unchecked hashes."""
        tree = self.folder / "tree-for-zip"
        shutil.copytree(self.tree, tree)
        # Not checked: some packages carry modules of other Pythons, which do not compile.
        compile_ = [PYTHON, "-W", "ignore", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        subprocess.run([*compile_, str(tree)], check=False, capture_output=True)
        file = self.folder / "tree.zip"
        with zipfile.ZipFile(file, "w") as opened:
            for path in tree.rglob("*"):
                opened.write(path, path.relative_to(tree))
        return file

    @functools.cached_property
    def venv_pack(self) -> Path:
        venv, file = self.folder / "venv", self.folder / "venv.tar.gz"
        _run([UV, "venv", "-q", "--python", PYTHON, str(venv)])
        install = [UV, "pip", "install", "-q", "--python", str(venv / "bin" / "python"), "--no-index"]
        _run([*install, "--find-links", str(self.wheels), *self.set.requirements])
        _run([str(peers() / "venv-pack"), "-q", "-p", str(venv), "-o", str(file)])
        return file

    @functools.cached_property
    def pex(self) -> Path:
        file = self.folder / "set.pex"
        options = ["--no-pypi", "--find-links", str(self.wheels), "--inherit-path=fallback", "-o", str(file)]
        _run([str(peers() / "pex"), *self.set.requirements, *options])
        return file


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode:
        raise UnmeasuredError(f"{' '.join(command[:6])} ...: {done.stderr[-2000:]}")
    return done.stdout


_made: dict[tuple[Path, str], Prepared] = {}


def prepared(ground: Ground, wanted: Set) -> Prepared:
    """Of a set; one for all that is measured of it below ``ground``."""
    key = ground.path, wanted.name
    if key not in _made:
        say(f"preparing set {wanted.name} ...")
        _made[key] = Prepared(wanted, ground.kept(f"prepared-{wanted.name}"))
    return _made[key]
