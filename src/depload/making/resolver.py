"""Requirements -> lock: uv resolves, pip stands in, and either way the same records come out."""

from __future__ import annotations

import json
import posixpath
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from depload.errors import (
    BuildError,
    DeploadError,
    HashMismatchError,
    IndexUnavailableError,
    ProtectedPackageError,
    ResolutionError,
    TargetError,
    ToolMissingError,
)
from depload.making import tools, ways
from depload.making.indexes import redact
from depload.standards import lockfile, wheels
from depload.standards.lockfile import LockedFile, LockedPackage
from depload.standards.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from depload.making.bounds import BuildLimits
    from depload.making.indexes import IndexOptions
    from depload.making.ways import Way

ResolverName = Literal["uv", "pip"]
Judge = Callable[[Sequence[LockedPackage], Callable[[Sequence[str]], "AskedBy"]], None]
"""Raises where the packages are not to be had."""

PROTECTED = frozenset({"pyspark", "pyspark-client", "pyspark-connect", "py4j", "databricks-connect", "dbutils"})
"""What belongs to the platform: replacing it on a cluster breaks the session that would load it."""


_IN_SOURCE = re.compile(r" @ file://[^\s)]+| \(from (?:file://)?/[^\s)]+\)")  # in messages


AskedBy = dict[str, list[str]]
"""The packages that require each package."""


class _Resolver(Protocol):
    """Resolves; nothing is assumed of how."""

    def resolve(self, requirements: Path, constraints: Path, target: Target) -> tuple[LockedPackage, ...]:
        """The packages that meet the requirements, each with the files to choose from."""

    def asked_by(self, names: Sequence[str], requirements: Path, constraints: Path, target: Target) -> AskedBy:
        """Who requires each of the packages, once ``resolve`` has answered."""


def resolve(
    requirements: Sequence[str],
    constraints: Sequence[str],
    target: Target,
    *,
    options: IndexOptions,
    scratch: Path,
    resolver: ResolverName | None = None,
    limits: BuildLimits | None = None,
    warn: Callable[[str], None] = lambda _what: None,
    judge: Judge | None = None,
) -> tuple[LockedPackage, ...]:
    """The lock of ``requirements`` (PEP 508 strings) for ``target``.

    Sdists may be built to get at their metadata: ``limits`` hold for the whole run, and ``warn`` is told where the
    system does not keep it as far from the network as was asked for. ``judge`` is shown the packages, and a way to ask
    who requires which, before the answer is handed on.


    Raises ResolutionError with the resolver's explanation, ProtectedPackageError, IndexUnavailableError, BuildError
    where the metadata of an sdist cannot be had, BuildLimitError, and ToolMissingError.
    """
    files = scratch / "requirements.in", scratch / "constraints.in"
    with ways.opened(options, _URL.findall("\n".join((*requirements, *constraints))), limits) as way:
        for file, lines in zip(files, (requirements, constraints), strict=True):
            file.write_text(way.aliases.conceal("".join(f"{line}\n" for line in lines)), encoding="utf-8")
        chosen = _choose(resolver, way, scratch)
        packages = chosen.resolve(*files, target)
        for package in sorted(packages, key=lambda package: package.name):
            if package.name in PROTECTED:
                raise ProtectedPackageError(package.name, chosen.asked_by([package.name], *files, target)[package.name])
        if judge is not None:
            judge(packages, lambda names: chosen.asked_by(names, *files, target))
        if way.bounds.refused and any(not file.is_wheel for package in packages for file in package.files):
            warn(way.bounds.refusal("the metadata of packages that come without wheels"))
    return packages


def described(resolver: ResolverName | None) -> str:
    """What ``resolve`` would do it with: the tool and its version."""
    return tools.described("pip" if resolver == "pip" or not tools.uv() else "uv")


_WHAT = "what the requirements need"
_URL = re.compile(r"https?://[^\s#;]+")


def _choose(name: ResolverName | None, way: Way, scratch: Path) -> _Resolver:
    uv, pip = tools.uv(), None
    if uv and name != "pip":
        return _Uv(uv, way, scratch)
    if name != "uv":
        pip = tools.pip()
    if pip is None:
        raise ToolMissingError(name or "uv or pip", "resolving requirements", "install it with: pip install uv")
    return _Pip(pip, way, scratch)


_OTHER_PYTHON = re.compile(r"(?i)requires? (?:a different )?python|requires-python|not satisfy python")


def _no_solution(explanation: str, target: Target) -> ResolutionError:
    """Why there is none, with what helps where a package is for another Python."""
    other = (
        f"The target's Python is {target.python}: convert for one that fits, where the cluster has it (--python, "
        f"--runtime), or ask for versions that allow {target.python}."
    )
    return ResolutionError(explanation, str(target), remedy=other if _OTHER_PYTHON.search(explanation) else "")


# --- uv -------------------------------------------------------------------------------------------------------------

_OLDEST_UV = "0.6.15"  # the first that writes pylock.toml
# The glibc versions that `uv pip compile --python-platform` knows; the newest that is not too new is taken.
_UV_GLIBC = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)
_BUILD_FAILED = re.compile(r"Failed to (?:download and build|build|prepare|read metadata from)[^`]*`([^`]+)`")


class _Uv:
    def __init__(self, uv: str, way: Way, scratch: Path) -> None:
        self._uv = uv
        self._way = way
        self._environment = {**way.environment(scratch / "home"), "TMPDIR": str(scratch)}

    def resolve(self, requirements: Path, constraints: Path, target: Target) -> tuple[LockedPackage, ...]:
        overrides = ["--override", str(_stand_ins(requirements.parent))]
        done = self._compile("pylock.toml", requirements, constraints, target, *overrides)
        if done.code:
            raise self._way.explained(tools.unreachable(done.said) or _uv_error(done.said, target))
        packages = lockfile.read(done.stdout, target)
        if not any(package.name in PROTECTED for package in packages):
            return packages
        # An override counts whatever the marker of the requirement said: ask again without them, for the same versions.
        pins = requirements.with_name("pins.in")
        pins.write_text("".join(_pin(package) for package in packages if package.name not in PROTECTED), "utf-8")
        words = ["--constraint", str(pins), *(f"--only-binary={name}" for name in sorted(PROTECTED))]
        done = self._compile("pylock.toml", requirements, constraints, target, *words)
        return packages if done.code else lockfile.read(done.stdout, target)

    def asked_by(self, names: Sequence[str], requirements: Path, constraints: Path, target: Target) -> AskedBy:
        words = ["--override", str(_stand_ins(requirements.parent)), "--annotation-style=line"]
        text = self._compile("requirements.txt", requirements, constraints, target, *words).stdout
        found: AskedBy = {}
        for name in names:
            match = re.search(rf"(?mi)^{re.escape(name)}(?:==| @ ).*?# via (.*)$", text)
            who = match[1].split(", ") if match else []
            found[name] = [each.strip() for each in who if not each.startswith("-")]
        return found

    def _compile(self, form: str, requirements: Path, constraints: Path, target: Target, *more: str) -> tools.Finished:
        command = [self._uv, "pip", "compile", str(requirements), "--constraint", str(constraints), "--format", form]
        command += ["--no-header", "--quiet", "--color=never", "--no-progress", "--no-python-downloads", *more]
        command += ["--generate-hashes"] if form == "pylock.toml" else []  # older uv leaves them out of a lock too
        command += _uv_target(target)
        command += self._way.options.uv_compile_arguments()
        environment = self._environment
        if macos := re.match(r"macosx_(\d+)_(\d+)_", target.platform):
            environment = {**environment, "MACOSX_DEPLOYMENT_TARGET": f"{macos[1]}.{macos[2]}"}
        return self._way.run(command, what=_WHAT, environment=environment, cwd=requirements.parent)


def _pin(package: LockedPackage) -> str:
    return f"{package.name}=={package.version}\n" if package.version else ""


def _stand_ins(scratch: Path) -> Path:
    """Overrides that put an empty wheel in the place of each protected package.

    Who asks for one shall be told so, not first wait for all of pyspark to be downloaded for its metadata.
    """
    overrides = scratch / "overrides.in"
    if not overrides.exists():
        made = {name: wheels.write(scratch, name, "0", {}) for name in sorted(PROTECTED)}
        overrides.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in made.items()), "utf-8")
    return overrides


def _uv_target(target: Target) -> list[str]:
    if target.is_running:
        return ["--python", sys.executable]
    return ["--python-version", target.python, "--python-platform", _uv_platform(target)]


def _uv_platform(target: Target) -> str:
    tag = target.platform
    if target.glibc is not None:
        glibc = next((minor for minor in _UV_GLIBC if minor <= (target.glibc or 0)), _UV_GLIBC[-1])
        return f"{target.environment()['platform_machine']}-manylinux_2_{glibc}"
    if tag.startswith("musllinux"):
        return f"{target.environment()['platform_machine']}-unknown-linux-musl"
    if tag.startswith("macosx"):
        return "aarch64-apple-darwin" if tag.endswith("arm64") else "x86_64-apple-darwin"
    return {"win32": "i686-pc-windows-msvc", "win_arm64": "aarch64-pc-windows-msvc"}.get(tag, "x86_64-pc-windows-msvc")


def _uv_error(said: str, target: Target) -> DeploadError:
    """What uv says, without its frames, its temporary names and what the error says anyway."""
    if "unexpected argument" in said:
        return ToolMissingError(f"uv {_OLDEST_UV}", "resolving requirements", "install it with: pip install -U uv")
    text = re.sub(
        r"(?m)^warning: .*\n?|^[ \t]*(?:error: |cause: |Caused by: |[\u00d7\u2570\u2500\u25b6\u2502]+ *)+", "", said
    )
    text = redact(_IN_SOURCE.sub(" (in the source)", text))
    if match := _BUILD_FAILED.search(text):
        return BuildError(match[1], "\n".join(text.splitlines()[-30:]))
    text = re.sub(
        r"(?m)^No solution found when resolving dependencies.*\n|^hint: The `--python-version` value.*", "", text
    )
    return _no_solution("\n".join(line.strip() for line in text.splitlines() if line.strip()), target)


# --- pip ------------------------------------------------------------------------------------------------------------

_NOT_REACHED = re.compile(
    r"Could not fetch URL (\S+): (?:connection error|There was a problem[^:]*): (.*?)(?: - skipping)?$"
)
_ASKED_FOR = re.compile(r"satisfies the requirement (?P<name>[\w.-]+?)\b[^()]*\(from (?P<who>[\w.-]+)\)")
_MISMATCH = re.compile(
    r"(?P<name>[\w.-]+)[^\n]*:\n\s+Expected (?P<algorithm>\w+) (?P<expected>[0-9a-f]+)\n"
    r"(?:\s+or.*\n)*\s+Got\s+(?P<found>\w+)"
)
_VERSIONS = re.compile(r"\(from versions: (.*)\)")
_MOST_VERSIONS = 5
_INSTEAD = "let uv resolve (pip install uv), or convert where it will run"


class _Pip:
    def __init__(self, pip: Sequence[str], way: Way, scratch: Path) -> None:
        self._pip = pip
        self._way = way
        self._environment = {**way.environment(scratch / "home"), "TMPDIR": str(scratch)}
        self._rows: Sequence[dict[str, Any]] = ()

    def resolve(self, requirements: Path, constraints: Path, target: Target) -> tuple[LockedPackage, ...]:
        report, log = (requirements.with_name(name) for name in ("report.json", "pip.log"))
        command = [*self._pip, *_pip_interpreter(target), "install", "--dry-run", "--ignore-installed", "--no-input"]
        command += ["--report", str(report), "--log", str(log)]
        command += ["--disable-pip-version-check", "--no-color", "--progress-bar=off"]
        command += ["-r", str(requirements), "-c", str(constraints), *self._way.options.pip_arguments()]
        command += _pip_target(target, requirements.with_name("nowhere"))
        done = self._way.run(command, what=_WHAT, environment=self._environment, cwd=requirements.parent)
        for file in (log, report, requirements):  # its own words, as it meant them
            if file.exists():
                file.write_text(self._way.aliases.reveal(file.read_text("utf-8", "replace")), encoding="utf-8")
        if error := self._way.failures.error() or _unreachable(log) or tools.unreachable(done.said):
            raise error
        if done.code:
            raise self._way.explained(_pip_error(done, requirements, target))
        self._rows = json.loads(report.read_text(encoding="utf-8"))["install"]
        return tuple(_pip_package(row) for row in self._rows)

    def asked_by(self, names: Sequence[str], requirements: Path, constraints: Path, target: Target) -> AskedBy:
        del requirements, constraints  # the report of the resolution had it all
        return {
            name: sorted(row["metadata"]["name"] for row in self._rows if _asks(row, name, target)) for name in names
        }


def _asks(row: dict[str, Any], package: str, target: Target) -> bool:
    """Whether a package of the report requires another on the target, with the extras that are asked of it."""
    requires = map(Requirement, row["metadata"].get("requires_dist", ()))
    environments = [{**target.environment(), "extra": extra} for extra in ("", *row.get("requested_extras", ()))]
    return any(
        canonicalize_name(each.name) == package
        and (each.marker is None or any(each.marker.evaluate(environment) for environment in environments))
        for each in requires
    )


def _pip_interpreter(target: Target) -> list[str]:
    """The interpreter that pip shall be run by: the markers that it judges by are those of its own."""
    running = Target.running()
    here = Target(running.python, target.platform).environment()
    if any(here[key] != value for key, value in running.environment().items() if not key.endswith("_version")):
        raise TargetError(f"pip resolves for the platform that it runs on, not for {target.platform}", _INSTEAD)
    if target.python == running.python:
        return []
    found = tools.interpreter(target.python)
    if found is None:
        what = f"pip resolves for a Python that is on this machine, and there is no python{target.python}"
        raise TargetError(what, _INSTEAD)
    return ["--python", found]


def _pip_target(target: Target, nowhere: Path) -> list[str]:
    """Every platform that holds, as pip takes them literally; it demands --target, though it installs nothing."""
    if target.platform == Target.running().platform:
        return []
    platforms = dict.fromkeys(tag.platform for tag in target.tags if tag.platform != "any")
    words = ["--only-binary=:all:", "--python-version", target.python, "--implementation", "cp"]
    return [*words, "--target", str(nowhere), *(f"--platform={platform}" for platform in platforms)]


def _pip_package(row: dict[str, Any]) -> LockedPackage:
    """A row of pip's report (pip documentation, "Installation Report")."""
    metadata, download = row["metadata"], row["download_info"]
    url = str(download["url"])
    archive = download.get("archive_info", {})
    sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=") or None
    file = LockedFile(url, posixpath.basename(unquote(urlsplit(url).path)), sha256, None)
    return LockedPackage(canonicalize_name(metadata["name"]), metadata["version"], (file,))


def _unreachable(log: Path) -> IndexUnavailableError | None:
    """An index that did not answer: pip goes on without it, and takes what it finds elsewhere."""
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    match = next((match for line in lines if (match := _NOT_REACHED.search(line))), None)
    retries = sum("Retrying (Retry(" in line for line in lines)
    return IndexUnavailableError(redact(match[1]), redact(match[2]), retries + 1) if match else None


def _pip_error(done: tools.Finished, requirements: Path, target: Target) -> DeploadError:
    """What pip says, but for the noise: why there is a conflict, or what was not found."""
    lines = [line.rstrip() for line in redact(f"{done.stdout}\n{done.stderr}").splitlines()]
    asked = requirements.read_text("utf-8").splitlines()
    for at, line in enumerate(lines):
        match = re.search(r"-r \S*requirements\.in \(line (\d+)\)", line)
        lines[at] = line.replace(match[0], asked[int(match[1]) - 1]) if match else line
    if any(_IN_BUILD.match(line) for line in lines):
        return BuildError(_built(lines), _build_output(requirements.with_name("pip.log")))
    if mismatch := _MISMATCH.search("\n".join(lines)):
        algorithm = mismatch["algorithm"]
        return HashMismatchError(
            mismatch["name"], [f"{algorithm}:{mismatch['expected']}"], f"{algorithm}:{mismatch['found']}"
        )
    wanted = next(filter(None, map(_ASKED_FOR.search, lines)), None)
    if wanted and canonicalize_name(wanted["name"]) in PROTECTED:
        return ProtectedPackageError(wanted["name"], [wanted["who"]])
    start = next((at for at, line in enumerate(lines) if line.startswith("The conflict is caused by")), None)
    if start is not None:
        found = lines[start : lines.index("", start)] if "" in lines[start:] else lines[start:]
    else:
        found = [line for line in _errors(lines) if "No matching distribution found" not in line]
    text = textwrap.dedent("\n".join(_shortened(line.removeprefix("ERROR: ")) for line in found)) or done.said
    if "no version of it" in text and _pip_target(target, requirements):
        text += (
            "\nFor another platform than its own pip takes wheels only; uv takes packages that must be built as well."
        )
    return _no_solution(_IN_SOURCE.sub(" (in the source)", text), target)


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """The lines of pip's errors; those that follow a colon at the end of one belong to it."""
    goes_on = False
    for line in lines:
        begins = line.startswith("ERROR: ")
        goes_on = line.endswith(":") if begins else goes_on and bool(line)
        if begins or goes_on:
            yield line


_IN_BUILD = re.compile(r"\s*error: (?:metadata-generation-failed|subprocess-exited-with-error)")
_BUILD_ENDED = re.compile(r"\s*ERROR: .* exited with \d+$")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT[\d:,]+ ")


def _built(lines: Sequence[str]) -> str:
    """What pip was building when it failed."""
    failed = (match for line in lines if (match := re.search(r"Failed to build '(\S+)'|^Collecting (\S+)", line)))
    return next((match[1] or match[2] for match in reversed(list(failed))), "a package")


def _build_output(log: Path) -> str:
    """The last lines of the build; with a log pip writes them there only, before its own account of it."""
    lines = [_STAMP.sub("", line).rstrip() for line in log.read_text("utf-8", "replace").splitlines()]
    end = next((at for at, line in enumerate(lines) if _BUILD_ENDED.match(line) or _IN_BUILD.match(line)), len(lines))
    return redact("\n".join([line for line in lines[:end] if line][-30:]))


def _shortened(line: str) -> str:
    """Of all the versions that there are, the last."""
    match = _VERSIONS.search(line)
    if match is None or match[1] == "none":
        return line.replace("(from versions: none)", "(there is no version of it)")
    versions = match[1].split(", ")
    newest = ", ".join(versions[-_MOST_VERSIONS:])
    return line.replace(match[0], f"(there are {len(versions)} versions, the last {newest})")
