"""Projects, sdists and loose modules -> wheels; the only module that runs other people's code."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import shutil
import sys
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depload.errors import (
    BuildError,
    Fault,
    InterpreterMissingError,
    InvalidWheelError,
    SourceError,
    ToolMissingError,
)
from depload.making import tools, ways
from depload.making.indexes import redact
from depload.source import layouts
from depload.standards import wheels
from depload.travels import siblings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from depload.making.bounds import BuildLimits
    from depload.making.indexes import IndexOptions
    from depload.making.ways import Way
    from depload.standards.target import Target

_LAST_LINES, _LAST_LINES_WITH_REMEDY = 30, 10
_BUILDS_AT_ONCE = 4
# What builds say that fail for a reason one can do something about, and what that is.
_REMEDIES = {
    # setuptools-scm, hatch-vcs, pbr, pdm, versioningit, dunamai
    r"unable to detect version|getting the version from source `vcs`|versioning for this project requires|NotSCMError|"
    r"NotVCSError|find the version from SCM|not a git repository|not appear to be a Git project": (
        "its version comes from git metadata, which a zip of the files does not have: where convert runs, set "
        "SETUPTOOLS_SCM_PRETEND_VERSION=1.2.3 (setuptools-scm, hatch-vcs), PBR_VERSION (pbr), PDM_BUILD_SCM_VERSION "
        "(pdm) or POETRY_DYNAMIC_VERSIONING_BYPASS (poetry), or hand over the project's sdist or wheel"
    ),
    r"Multiple top-level (?:packages|modules) discovered|package-mode|non-package mode|which files to ship": (
        "it does not say what its packages are: name them in its pyproject.toml (setuptools: [tool.setuptools], "
        "hatchling: [tool.hatch.build.targets.wheel], poetry: [tool.poetry] packages), or hand over its modules "
        "without pyproject.toml beside a requirements.txt"
    ),
    r"File too large|SIGXFSZ|signal: 25": (
        "it wrote a file larger than it may: give it more with --build-disk, or put a ready wheel of it into the source"
    ),
    r"index lookups were disabled|not found in the provided package locations|No matching distribution found": (
        "what its build requires was not found: put wheels of that where --find-links looks, allow an index, or put a "
        "ready wheel of the project into the source"
    ),
}
_REMEDY_OF_SDISTS = (
    "ask for a version that has a wheel for the target, as newer ones often do, or put a ready wheel of it into the "
    "source"
)
_ENVIRONMENT = re.compile(r"/\S+/(?:builds-v0/\.tmp\w+|pip-build-env-\w+/\w+)/lib/python[\d.]+/site-packages/")
_NOISE = re.compile(r"^(?:error: Failed to build|hint: Build failures usually|warning: )")


@dataclass(frozen=True)
class Buildable:
    """A project directory or an sdist, and what messages call it."""

    path: Path
    label: str


def build(
    projects: Sequence[Buildable],
    target: Target,
    *,
    options: IndexOptions,
    to: Path,
    limits: BuildLimits | None = None,
    warn: Callable[[str], None] = lambda _what: None,
) -> list[Path]:
    """Build a wheel of each, isolated as PEP 517 asks, with the target's own Python; in the order given.

    ``warn`` is told where the system does not keep builds as far from the network as was asked for.

    Raises InterpreterMissingError, BuildError with the backend's last lines, BuildLimitError where it takes more than
    ``limits``, IndexUnavailableError where what it requires cannot be had, InvalidWheelError where what comes out does
    not fit the target.
    """
    if not projects:
        return []
    interpreter = tools.interpreter(target.python)
    if interpreter is None:
        raise InterpreterMissingError([project.label for project in projects], target.python)
    with concurrent.futures.ThreadPoolExecutor(_BUILDS_AT_ONCE) as pool, ways.opened(options, (), limits) as way:
        tool = _tool(interpreter, way.options)
        jobs = [pool.submit(_build, project, tool, way, to / str(at)) for at, project in enumerate(projects)]
        try:
            built = [job.result() for job in jobs]
        finally:  # the way ends what runs still; the pool waits for that
            for job in jobs:
                job.cancel()
        if way.bounds.refused:
            warn(way.bounds.refusal(", ".join(project.label for project in projects)))
    for project, wheel in zip(projects, built, strict=True):
        if faults := wheels.faults(wheel, target) or tuple(_too_new(wheel, target)):
            raise InvalidWheelError(f"the build of {project.label}", faults)
    return built


def _build(project: Buildable, tool: Sequence[str], way: Way, work: Path) -> Path:
    out, temporary = work / "wheel", work / "tmp"
    out.mkdir(parents=True)
    temporary.mkdir()
    source = project.path
    if source.is_dir():  # backends write beside what they build
        source = work / "source"
        _copy(project, source)
    environment = {**way.environment(work / "home"), **_reproducible(work), "TMPDIR": str(temporary)}
    done = way.run([*tool, str(out), str(source)], what=project.label, environment=environment, cwd=work)
    found = sorted(out.glob("*.whl"))
    if done.code or len(found) != 1:
        said = done.said.replace(str(source), project.label).replace(str(work), "(scratch)")  # Python 3.13 quotes code
        raise way.explained(tools.unreachable(said) or _failed(project, said))
    return found[0]


def _copy(project: Buildable, to: Path) -> None:
    def left_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if _is_left_out(Path(folder, name), at_top=Path(folder) == project.path)]

    try:
        shutil.copytree(project.path, to, ignore=left_out, symlinks=True)
        if not any((to / name).exists() for name in ("pyproject.toml", "setup.py")):  # only a setup.cfg
            (to / "setup.py").write_text("from setuptools import setup\n\nsetup()\n")
        if layouts.only_poetry_builds(to):
            with (to / "pyproject.toml").open("a", encoding="utf-8") as file:
                file.write(_POETRY)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"{project.label} cannot be copied to where it is built: {reason}") from error


# Without it PEP 517 means setuptools, which reads nothing of Poetry's and makes a wheel without name and dependencies.
_POETRY = '\n\n[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n'


def _is_left_out(entry: Path, *, at_top: bool) -> bool:
    """Whether an entry of a project is nothing to build from: caches, environments, earlier builds, sockets."""
    if entry.is_symlink() or entry.is_file():
        return False
    if not entry.is_dir() or entry.name == "__pycache__" or (entry / "pyvenv.cfg").exists():
        return True
    return at_top and (layouts.is_left_by_a_build(entry) or entry.name in ("node_modules", ".tox", ".nox"))


def _reproducible(work: Path) -> dict[str, str]:
    """Equal sources, equal wheels (reproducible-builds.org): no times, and no directories in what compilers write."""
    fixed = {"SOURCE_DATE_EPOCH": "315532800"}
    if sys.platform == "win32":
        return fixed
    flags = {name: f"{os.environ.get(name, '')} -ffile-prefix-map={work}=.".lstrip() for name in ("CFLAGS", "CXXFLAGS")}
    return fixed | flags


_NEEDED_GLIBC = re.compile(rb"\0GLIBC_2\.(\d+)\0")  # version names that a library is linked against
_LONGEST_NAME = 32


def _too_new(wheel: Path, target: Target) -> Iterator[Fault]:
    """Native code of a wheel that needs a newer C library than the target has: its tag does not tell (PEP 600)."""
    if target.glibc is None:
        return
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            if ".so" in name and (needed := _glibc_of(opened, name)) > target.glibc:
                what = f"{name} needs glibc 2.{needed}, because it was built here; {target} has 2.{target.glibc}"
                yield Fault(wheel.name, f"{what}; convert where it will run, or put a ready wheel into the source")


def _glibc_of(opened: zipfile.ZipFile, name: str) -> int:
    newest, tail = 0, b""
    with opened.open(name) as member:
        while data := member.read(wheels.CHUNK):
            newest = max([newest, *map(int, _NEEDED_GLIBC.findall(tail + data))])
            tail = data[-_LONGEST_NAME:]
    return newest


def _tool(interpreter: str, options: IndexOptions) -> list[str]:
    """The command that builds a wheel, but for where it goes and what of."""
    if uv := tools.uv():
        words = [uv, "build", "--wheel", "--python", interpreter, "--no-python-downloads", "--color=never"]
        return [*words, "--no-progress", *options.uv_build_arguments(), "--out-dir"]
    pip = tools.pip()
    if pip is None:
        raise ToolMissingError("uv or pip", "building a project", "install it with: pip install uv")
    words = [*pip, "--python", interpreter, "wheel", "--no-deps", "--use-pep517", "--no-input"]
    return [*words, "--disable-pip-version-check", *options.pip_arguments(), "--wheel-dir"]


def described() -> str:
    """What builds: the tool and its version; the backend says in the wheel what it is."""
    return tools.described("uv" if tools.uv() else "pip")


def _failed(project: Buildable, said: str) -> BuildError:
    lines = [line for line in _ENVIRONMENT.sub("", said).splitlines() if line.strip() and not _NOISE.match(line)]
    remedy = next((remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, said, re.IGNORECASE)), "")
    most = _LAST_LINES_WITH_REMEDY if remedy else _LAST_LINES
    usual = "" if project.path.is_dir() else _REMEDY_OF_SDISTS
    return BuildError(project.label, redact("\n".join(lines[-most:])), remedy or usual)


# --- loose modules --------------------------------------------------------------------------------------------------

USER_MODULES = "user_modules"
_INIT = f"from {USER_MODULES} import _depload_siblings\n\n_depload_siblings.install(globals())\n"


@dataclass(frozen=True)
class LooseFile:
    """A file of a pure Python source, what messages call it, and where it lies below its root."""

    path: Path
    label: str
    below: str


def build_modules(files: Iterable[LooseFile], to: Path) -> Path:
    """Make the package ``user_modules`` of loose modules, their folders and the data beside them.

    Its version is made of its contents, so that two different ones are different versions. Raises SourceError where two
    roots have different files of one name.
    """
    members: dict[str, bytes | Path] = {_member(file.below): file.path for file in _apart(files)}
    members[f"{USER_MODULES}/__init__.py"] = _INIT.encode()
    members[f"{USER_MODULES}/_depload_siblings.py"] = Path(siblings.__file__).read_bytes()
    return wheels.write(to, USER_MODULES, _version(members), members, "Summary: Modules that a job brought along.\n")


def _member(below: str) -> str:
    """Where a file goes; the folder's own __init__.py is run by the package's."""
    return f"{USER_MODULES}/{'_depload_init.py' if below == '__init__.py' else below}"


def _apart(files: Iterable[LooseFile]) -> Iterator[LooseFile]:
    """The files, one of each name. Raises SourceError with all that would hide one another."""
    groups: dict[str, list[LooseFile]] = defaultdict(list)
    for file in files:
        groups[file.below].append(file)
    different = {
        below: group for below, group in groups.items() if len({wheels.sha256_of(file.path) for file in group}) > 1
    }
    if different:
        lines = [
            f"  - {' and '.join(file.label for file in group)} would both be {USER_MODULES}/{below}"
            for below, group in different.items()
        ]
        raise SourceError("\n".join(["files of one name cannot stand side by side; rename one of them:", *lines]))
    yield from (group[0] for group in groups.values())


def _version(members: Mapping[str, bytes | Path]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(members.items()):
        own = hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else wheels.sha256_of(content)
        digest.update(f"{name}\0{own}\0".encode())
    return f"0+m{digest.hexdigest()[:16]}"  # the letter, because a number would lose its leading zeros
