"""Projects, sdists and loose modules -> wheels; the only module that runs other people's code."""

from __future__ import annotations

import concurrent.futures
import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depload import tools, wheels
from depload.errors import (
    BuildError,
    Fault,
    InterpreterMissingError,
    InvalidWheelError,
    SourceError,
    ToolMissingError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from depload.indexes import IndexOptions
    from depload.target import Target

_LAST_LINES = 30
_BUILDS_AT_ONCE = 4
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".venv", "venv", "node_modules", ".tox", ".nox", "build", "dist")
# What backends say when they look for the version in git: setuptools-scm, hatch-vcs, pbr, versioningit, dunamai.
_VERSION_FROM_GIT = re.compile(
    r"unable to detect version|getting the version from source `vcs`|Versioning for this project requires|"
    r"NotSCMError|NotVCSError|not a git repository|not appear to be a Git project|Unable to detect version control",
    re.IGNORECASE,
)
_VERSION_REMEDY = (
    "its version comes from git metadata, which a zip of the files does not have: set "
    "SETUPTOOLS_SCM_PRETEND_VERSION=1.2.3 (setuptools-scm, hatch-vcs) or PBR_VERSION=1.2.3 (pbr) where convert runs, "
    "or hand over the project's sdist or wheel"
)


@dataclass(frozen=True)
class Buildable:
    """A project directory or an sdist, and what messages call it."""

    path: Path
    label: str


def build(projects: Sequence[Buildable], target: Target, *, options: IndexOptions, to: Path) -> list[Path]:
    """Build a wheel of each, isolated as PEP 517 asks, with the target's own Python; in the order given.

    Raises InterpreterMissingError, BuildError with the backend's last lines, InvalidWheelError where what comes
    out does not fit the target.
    """
    if not projects:
        return []
    interpreter = tools.interpreter(target.python)
    if interpreter is None:
        raise InterpreterMissingError([project.label for project in projects], target.python)
    tool = _tool(interpreter, options)
    with concurrent.futures.ThreadPoolExecutor(_BUILDS_AT_ONCE) as pool:
        jobs = [pool.submit(_build, project, tool, options, to / str(at)) for at, project in enumerate(projects)]
        try:
            built = [job.result() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()
    for project, wheel in zip(projects, built, strict=True):
        if faults := wheels.faults(wheel, target):
            raise InvalidWheelError(f"the build of {project.label}", faults)
    return built


def _build(project: Buildable, tool: Sequence[str], options: IndexOptions, work: Path) -> Path:
    source, out = work / "source", work / "wheel"
    out.mkdir(parents=True)
    if project.path.is_dir():  # backends write beside what they build
        shutil.copytree(project.path, source, ignore=_NOT_COPIED, symlinks=True)
    else:
        source = project.path
    environment = {
        **tools.secrets(),
        **options.environment(),
        "SOURCE_DATE_EPOCH": "315532800",  # reproducible-builds.org; equal sources, equal wheels
    }
    done = tools.run([*tool, str(out), str(source)], environment=environment, cwd=work)
    found = sorted(out.glob("*.whl"))
    if done.code or len(found) != 1:
        raise _failed(project.label, done)
    return found[0]


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


def _failed(label: str, done: tools.Finished) -> BuildError:
    output = "\n".join(done.said.splitlines()[-_LAST_LINES:])
    return BuildError(label, output, _VERSION_REMEDY if _VERSION_FROM_GIT.search(done.said) else "")


# --- loose modules --------------------------------------------------------------------------------------------------

USER_MODULES = "user_modules"
_SIBLINGS = Path(__file__).with_name("_siblings.py")


@dataclass(frozen=True)
class LooseFile:
    """A file of a pure Python source and where it lies below its root."""

    path: Path
    below: str


def build_modules(files: Iterable[LooseFile], to: Path) -> Path:
    """Make the package ``user_modules`` of loose modules, their folders and the data beside them.

    Its version is made of its contents, so that two different ones are different versions. Raises SourceError where two
    roots have a file of one name.
    """
    members: dict[str, bytes | Path] = {}
    for file in files:
        name = f"{USER_MODULES}/{file.below}"
        if name in members:
            raise SourceError(f"{file.path} and {members[name]!s} would both become {name}; rename one of them")
        members[name] = file.path
    for own, text in _package_files(f"{USER_MODULES}/__init__.py" in members):
        if own.endswith("__init__.py") and own in members:
            members[f"{USER_MODULES}/_init_source.py"] = members[own]
        members[own] = text
    return wheels.write(to, USER_MODULES, _version(members), members, "Summary: Modules that a job brought along.\n")


def _package_files(has_init: bool) -> list[tuple[str, bytes]]:
    init = f"from {USER_MODULES} import _depload_siblings\n\n_depload_siblings.install(__name__, __path__)\n"
    if has_init:
        init += "exec(compile(__loader__.get_data(__path__[0] + '/_init_source.py'), __file__, 'exec'), globals())\n"
    return [
        (f"{USER_MODULES}/__init__.py", init.encode()),
        (f"{USER_MODULES}/_depload_siblings.py", _SIBLINGS.read_bytes()),
    ]


def _version(members: dict[str, bytes | Path]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(members.items()):
        data = content if isinstance(content, bytes) else content.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return f"0+{digest.hexdigest()[:16]}"


__all__ = ["USER_MODULES", "Buildable", "Fault", "LooseFile", "build", "build_modules"]
