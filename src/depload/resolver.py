"""Requirements -> lock: uv resolves, pip stands in, and either way the same records come out."""

from __future__ import annotations

import json
import posixpath
import re
import sys
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from depload import lockfile, tools
from depload.errors import (
    BuildError,
    IndexUnavailableError,
    ProtectedPackageError,
    ResolutionError,
    ToolMissingError,
)
from depload.lockfile import LockedFile, LockedPackage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from depload.indexes import IndexOptions
    from depload.target import Target

ResolverName = Literal["uv", "pip"]

PROTECTED = frozenset({"pyspark", "pyspark-client", "pyspark-connect", "py4j", "databricks-connect", "dbutils"})
"""What belongs to the platform: replacing it on a cluster breaks the session that would load it."""


class _Resolver(Protocol):
    """Resolves; nothing is assumed of how."""

    def resolve(self, requirements: Path, constraints: Path, target: Target) -> tuple[LockedPackage, ...]:
        """The packages that meet the requirements, each with the files to choose from."""

    def asked_by(self, package: str, requirements: Path, constraints: Path, target: Target) -> list[str]:
        """Who requires ``package``."""


def resolve(
    requirements: Sequence[str],
    constraints: Sequence[str],
    target: Target,
    *,
    options: IndexOptions,
    scratch: Path,
    resolver: ResolverName | None = None,
) -> tuple[LockedPackage, ...]:
    """The lock of ``requirements`` (PEP 508 strings) for ``target``.

    Raises ResolutionError with the resolver's explanation, ProtectedPackageError, IndexUnavailableError, BuildError
    where the metadata of an sdist cannot be had, and ToolMissingError.
    """
    refuse_protected(Requirement(line).name for line in requirements)
    files = scratch / "requirements.in", scratch / "constraints.in"
    for file, lines in zip(files, (requirements, constraints), strict=True):
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    chosen = _choose(resolver, options)
    packages = chosen.resolve(*files, target)
    for package in packages:
        if package.name in PROTECTED:
            raise ProtectedPackageError(package.name, chosen.asked_by(package.name, *files, target))
    return packages


def refuse_protected(names: Iterable[str]) -> None:
    """Raise ProtectedPackageError where the source itself names what belongs to the platform."""
    for name in names:
        if canonicalize_name(name) in PROTECTED:
            raise ProtectedPackageError(name, ["the source"])


def _choose(name: ResolverName | None, options: IndexOptions) -> _Resolver:
    uv, pip = tools.uv(), None
    if uv and name != "pip":
        return _Uv(uv, options)
    if name != "uv":
        pip = tools.pip()
    if pip is None:
        raise ToolMissingError(name or "uv or pip", "resolving requirements", "install it with: pip install uv")
    return _Pip(pip, options)


# --- uv -------------------------------------------------------------------------------------------------------------

# The glibc versions that `uv pip compile --python-platform` knows; the newest that is not too new is taken.
_UV_GLIBC = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)
_MANYLINUX = re.compile(r"manylinux_2_(\d+)_(\w+)")
_FETCH_FAILED = re.compile(
    r"(?:Failed to fetch|Failed to download|Request failed|error sending request)[^`(]*[`(](?:url )?\(?([^`)]+)"
)


class _Uv:
    def __init__(self, uv: str, options: IndexOptions) -> None:
        self._uv = uv
        self._options = options

    def resolve(self, requirements: Path, constraints: Path, target: Target) -> tuple[LockedPackage, ...]:
        done = self._compile("pylock.toml", requirements, constraints, target)
        if done.code:
            raise _uv_error(done.said, str(target))
        return lockfile.read(done.stdout, target)

    def asked_by(self, package: str, requirements: Path, constraints: Path, target: Target) -> list[str]:
        text = self._compile("requirements.txt", requirements, constraints, target, "--annotation-style=line").stdout
        match = re.search(rf"(?mi)^{re.escape(package)}\b.*?# via (.*)$", text)
        return [name.strip() for name in match[1].split(",")] if match else []

    def _compile(self, form: str, requirements: Path, constraints: Path, target: Target, *more: str) -> tools.Finished:
        command = [self._uv, "pip", "compile", str(requirements), "--constraint", str(constraints), "--format", form]
        command += ["--no-header", "--generate-hashes", "--quiet", "--color=never", "--no-progress", "--no-python-downloads", *more]
        command += _uv_target(target)
        command += self._options.uv_compile_arguments()
        return tools.run(command, environment=self._options.environment(), cwd=requirements.parent)


def _uv_target(target: Target) -> list[str]:
    if target.is_running:
        return ["--python", sys.executable]
    return ["--python-version", target.python, "--python-platform", _uv_platform(target.platform)]


def _uv_platform(tag: str) -> str:
    if match := _MANYLINUX.fullmatch(tag):
        return f"{match[2]}-manylinux_2_{next((minor for minor in _UV_GLIBC if minor <= int(match[1])), 17)}"
    if tag.startswith("manylinux"):
        return f"{tag.partition('_')[2]}-manylinux_2_17"
    if tag.startswith("musllinux"):
        return f"{re.sub(r'musllinux_1_[0-9]+_', '', tag)}-unknown-linux-musl"
    if tag.startswith("macosx"):
        return "aarch64-apple-darwin" if tag.endswith("arm64") else "x86_64-apple-darwin"
    return {"win32": "i686-pc-windows-msvc", "win_arm64": "aarch64-pc-windows-msvc"}.get(tag, "x86_64-pc-windows-msvc")


def _uv_error(said: str, target: str) -> Exception:
    text = re.sub(r"(?m)^error: ", "", re.sub(r"(?m)^warning: .*\n?", "", said)).strip()
    if match := _FETCH_FAILED.search(text):
        return IndexUnavailableError(match[1], _last_cause(text), 1)
    if match := re.search(r"Failed to (?:build|prepare|resolve)[^`]*`([^`]+)`", text):
        return BuildError(match[1], "\n".join(text.splitlines()[-30:]))
    return ResolutionError(re.sub(r"(?m)^  (?:cause|Caused by): ", "  ", text), target)


def _last_cause(text: str) -> str:
    causes = re.findall(r"(?mi)^\s*(?:cause(?:d by)?):\s*(.*)$", text)
    return causes[-1] if causes else text.splitlines()[0]


# --- pip ------------------------------------------------------------------------------------------------------------


class _Pip:
    def __init__(self, pip: Sequence[str], options: IndexOptions) -> None:
        self._pip = pip
        self._options = options
        self._requires: Mapping[str, list[str]] = {}

    def resolve(self, requirements: Path, constraints: Path, target: Target) -> tuple[LockedPackage, ...]:
        report = requirements.with_name("report.json")
        command = [*self._pip, "install", "--dry-run", "--ignore-installed", "--report", str(report), "--no-input"]
        command += ["--disable-pip-version-check", "--no-color", "--progress-bar=off"]
        command += ["-r", str(requirements), "-c", str(constraints), *self._options.pip_arguments()]
        if not target.is_running:
            command += _pip_target(target, requirements.with_name("nowhere"))
        done = tools.run(command, environment=self._options.environment(), cwd=requirements.parent)
        if done.code:
            raise _pip_error(done, str(target))
        rows = json.loads(report.read_text(encoding="utf-8"))["install"]
        self._requires = {row["metadata"]["name"]: row["metadata"].get("requires_dist", []) for row in rows}
        return tuple(_pip_package(row) for row in rows)

    def asked_by(self, package: str, requirements: Path, constraints: Path, target: Target) -> list[str]:
        del requirements, constraints, target  # the report of the resolution had it all
        return sorted(
            name
            for name, requires in self._requires.items()
            if any(canonicalize_name(Requirement(line).name) == package for line in requires)
        )


def _pip_target(target: Target, nowhere: Path) -> list[str]:
    """Every platform that holds, as pip takes them literally; it demands --target, though it installs nothing."""
    platforms = dict.fromkeys(tag.platform for tag in target.tags if tag.platform != "any")
    words = [
        "--only-binary=:all:",
        "--python-version",
        target.python,
        "--implementation",
        "cp",
        "--target",
        str(nowhere),
    ]
    return [*words, *(word for platform in platforms for word in ("--platform", platform))]


def _pip_package(row: Mapping[str, object]) -> LockedPackage:
    metadata, download = row["metadata"], row["download_info"]
    assert isinstance(metadata, dict)  # noqa: S101 - the format is pip's, "Installation Report"
    assert isinstance(download, dict)  # noqa: S101
    url = str(download["url"])
    archive = download.get("archive_info", {})
    sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=") or None
    file = LockedFile(url, posixpath.basename(unquote(urlsplit(url).path)), sha256, None)
    return LockedPackage(canonicalize_name(metadata["name"]), metadata["version"], (file,))


def _pip_error(done: tools.Finished, target: str) -> Exception:
    lines = [line for line in (done.stdout + "\n" + done.said).splitlines() if line.strip()]
    unreachable = next(
        (line for line in lines if re.search(r"connection broken|Could not fetch URL|HTTPConnectionPool", line)), ""
    )
    if unreachable and not any("ResolutionImpossible" in line for line in lines):
        url = re.search(r"(?:url:|URL) (\S+)|host='([^']+)'", unreachable)
        return IndexUnavailableError(next(filter(None, url.groups())) if url else "the index", unreachable.strip(), 1)
    errors = [line for line in lines if line.startswith("ERROR: ")]
    conflict = next((at for at, line in enumerate(lines) if line.startswith("The conflict is caused by")), None)
    if conflict is not None:
        end = next(
            (at for at, line in enumerate(lines[conflict:], conflict) if line.startswith("To fix this")), len(lines)
        )
        errors = [*errors[:1], *lines[conflict:end]]
    return ResolutionError("\n".join(line.removeprefix("ERROR: ") for line in errors) or done.said, target)
