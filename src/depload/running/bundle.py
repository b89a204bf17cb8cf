"""A bundle's jobs as the CLI would deploy them: for one target, with resources in Python, every ``${...}`` filled in.

https://docs.databricks.com/en/dev-tools/bundles/settings.html. The bundle's folder on this machine stands for the one
that is uploaded, ``${workspace.file_path}``, so nothing is copied.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import depload
from depload.errors import BundleError, Fault, ToolMissingError
from depload.running.jobs import Job
from depload.running.substitution import Substitution

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Configuration = dict[str, Any]

FILES = ("databricks.yml", "databricks.yaml", "bundle.yml", "bundle.yaml")
_BUILD = "databricks.bundles.build"
_KEYS = {
    "tasks": "task_key",
    "job_clusters": "job_cluster_key",
    "parameters": "name",
    "environments": "environment_key",
}
"""Lists of a job whose items have names, by which a target's are merged with the others."""
_DEVELOPMENT_RUNS = 4  # what the CLI makes of one run at a time where the target is in development mode


@dataclass(frozen=True)
class Bundle:
    """A rendered bundle."""

    path: Path
    name: str
    target: str
    jobs: Mapping[str, Mapping[str, Any]]
    """The settings of each job, by its key."""

    def job(self, key: str) -> Job:
        """One job. Raises BundleError where there is none of that name, JobDefinitionError where it cannot run here."""
        if key not in self.jobs:
            known = ", ".join(sorted(self.jobs)) or "none"
            raise BundleError(
                str(self.path), [Fault(key, f"it has no such job; there are: {known}")], "Name one of these."
            )
        return Job.of(self.jobs[key])

    def job_id(self, key: str) -> int:
        """The job's id on this machine: its number among the bundle's jobs."""
        return sorted(self.jobs).index(key) + 1

    def local(self, path: str) -> Path:
        """A file of the bundle; a notebook may be named without its suffix. Raises FileNotFoundError."""
        file = self.path / path
        for each in (file, Path(f"{file}.py")):
            if each.is_file():
                return each
        raise FileNotFoundError(path)


def find(start: Path) -> Path:
    """The directory of the nearest bundle, ``start`` or one above it. Raises BundleError."""
    for folder in (start, *start.parents):
        if any((folder / name).is_file() for name in FILES):
            return folder
    raise BundleError(
        str(start), [Fault("databricks.yml", "is neither here nor in a directory above")], "Give --bundle DIR."
    )


def render(path: Path, target: str | None = None, variables: Mapping[str, str] | None = None) -> Bundle:
    """The bundle of a directory for one target, its default target where none is named.

    Raises BundleError with every fault at once, ToolMissingError where something is missing to render it.
    """
    path = path.resolve()
    configuration = _read(path)
    target = target or _default(path, configuration)
    configuration = _of_target(path, configuration, target)
    _give(path, configuration, variables or {})
    facts = _facts(path, configuration, target)
    if configuration.get("python") or configuration.get("experimental", {}).get("python"):
        configuration = _with_python(path, configuration, facts)
    jobs = (configuration.get("resources") or {}).get("jobs") or {}
    facts |= {f"resources.jobs.{key}.id": str(at) for at, key in enumerate(sorted(jobs), 1)}
    substitution = Substitution(configuration, facts)
    filled = substitution.fill(jobs, "resources.jobs")
    wheels = _Wheels(path, configuration)
    found = {key: wheels.named(_preset(job, configuration, facts)) for key, job in filled.items()}
    if faults := [*substitution.faults, *wheels.faults]:
        raise BundleError(str(path), faults)
    return Bundle(path, str(facts["bundle.name"]), target, found)


# --- databricks.yml -------------------------------------------------------------------------------------------------


def _read(path: Path) -> Configuration:
    """databricks.yml and what it includes."""
    file = next((path / name for name in FILES if (path / name).is_file()), None)
    if file is None:
        raise BundleError(str(path), [Fault("databricks.yml", "is not there")], "Give --bundle DIR.")
    configuration = _yaml(path, file)
    for pattern in configuration.get("include") or ():
        for included in sorted(path.glob(pattern)):
            more = _from_root(_yaml(path, included), path, included.parent)
            configuration = merge(configuration, {key: more[key] for key in more if key != "include"})
    return configuration


def _yaml(path: Path, file: Path) -> Configuration:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ImportError:
        raise ToolMissingError("ruamel.yaml", "a bundle", "pip install 'depload[local]'") from None
    try:
        return dict(YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8")) or {})
    except (YAMLError, OSError, ValueError) as error:
        raise BundleError(str(path), [Fault(file.name, " ".join(str(error).split()))]) from error


def _from_root(value: Any, root: Path, folder: Path, key: str = "") -> Any:
    """An included file with its relative paths, which are relative to that file, made relative to the bundle."""
    if isinstance(value, dict):
        return {name: _from_root(each, root, folder, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_from_root(each, root, folder, key) for each in value]
    paths = key in ("notebook_path", "python_file", "whl") or (key == "dependencies" and str(value).endswith(".whl"))
    if paths and isinstance(value, str) and not value.startswith(("/", "dbfs:", "$")):
        return os.path.relpath(folder / value, root)
    return value


def merge(one: Any, other: Any, key: str = "") -> Any:
    """``one`` with ``other`` over it: maps by key, the named lists of a job by name, other lists in a row."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {name: _merged(one, other, name) for name in {**one, **other}}
    if isinstance(one, list) and isinstance(other, list):
        named = _KEYS.get(key)
        if not named or not all(isinstance(each, dict) and named in each for each in [*one, *other]):
            return [*one, *other]
        found: Configuration = {}
        for each in [*one, *other]:
            found[each[named]] = merge(found.get(each[named], {}), each)
        return list(found.values())
    return other


def _merged(one: Configuration, other: Configuration, name: str) -> Any:
    if name in one and name in other:
        return merge(one[name], other[name], name)
    return deepcopy(one.get(name, other.get(name)))


def _default(path: Path, configuration: Configuration) -> str:
    targets = configuration.get("targets") or {}
    chosen = [name for name, target in targets.items() if (target or {}).get("default")] or list(targets)
    if not targets:
        return "default"
    if len(chosen) != 1:
        fault = Fault("targets", f"no default among {', '.join(targets)}")
        raise BundleError(str(path), [fault], "Give --target.")
    return str(chosen[0])


def _of_target(path: Path, configuration: Configuration, target: str) -> Configuration:
    """The configuration with a target's part over it."""
    targets = configuration.get("targets") or {}
    if targets and target not in targets:
        fault = Fault("targets", f"there is no target {target}; there are: {', '.join(targets)}")
        raise BundleError(str(path), [fault], "Give --target.")
    own = dict(targets.get(target) or {})
    given = own.pop("variables", None) or {}
    values = {name: value if isinstance(value, dict) else {"default": value} for name, value in given.items()}
    merged: Configuration = merge(configuration, {**own, **({"variables": values} if values else {})})
    merged["bundle"] = {**(merged.get("bundle") or {}), "target": target}
    return merged


def _give(path: Path, configuration: Configuration, given: Mapping[str, str]) -> None:
    """Each variable its value: of --var, of BUNDLE_VAR_<name>, or the default."""
    declared = configuration.setdefault("variables", {}) or {}
    if unknown := sorted(given.keys() - declared.keys()):
        faults = [
            Fault(f"--var {name}", f"there is no such variable; there are: {', '.join(declared)}") for name in unknown
        ]
        raise BundleError(str(path), faults, "Declare it in `variables`.")
    for name in declared:
        declared[name] = dict(declared[name] or {})
        value = given.get(name, os.environ.get(f"BUNDLE_VAR_{name}", declared[name].get("default")))
        if value is not None:
            declared[name]["value"] = value


def _facts(path: Path, configuration: Configuration, target: str) -> dict[str, Any]:
    """What the CLI asks a workspace for, as it is on this machine."""
    user = getpass.getuser()
    name = (configuration.get("bundle") or {}).get("name") or path.name
    return {
        "bundle.name": name,
        "bundle.target": target,
        "bundle.environment": target,
        "workspace.file_path": str(path),
        "workspace.root_path": str(path),
        "workspace.artifact_path": str(path / "dist"),
        "workspace.state_path": str(path),
        "workspace.resource_path": str(path),
        "workspace.host": "http://localhost",
        "workspace.current_user.userName": user,
        "workspace.current_user.short_name": user,
        "workspace.current_user.domain_friendly_name": user,
    }


# --- resources in Python --------------------------------------------------------------------------------------------


def _with_python(path: Path, configuration: Configuration, facts: Mapping[str, Any]) -> Configuration:
    """What databricks-bundles makes of the configuration, as the CLI has it made."""
    settings = configuration.get("python") or configuration["experimental"]["python"]
    given = deepcopy(configuration)
    values = Substitution(configuration, facts)
    for variable in given["variables"].values():
        if "value" in variable:
            variable["value"] = values.fill(variable["value"], "variables")
    python = _bundles_python(path, settings)
    for phase, wanted in (("load_resources", settings.get("resources")), ("apply_mutators", settings.get("mutators"))):
        if wanted:
            given = _phase(path, given, python, phase)
    return {**configuration, "resources": given.get("resources") or {}}


def _bundles_python(path: Path, settings: Mapping[str, Any]) -> str:
    """The bundle's own interpreter, else this one: the first that has databricks-bundles."""
    own = path / str(settings.get("venv_path") or ".venv") / "bin" / "python"
    for python in (str(own), sys.executable):
        if Path(python).is_file():
            asked = [python, "-c", f"import {_BUILD}"]
            if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
                return python
    raise ToolMissingError("databricks-bundles", "a bundle with resources in Python", "pip install databricks-bundles")


def _phase(path: Path, given: Configuration, python: str, phase: str) -> Configuration:
    with tempfile.TemporaryDirectory(prefix="depload-bundle-") as folder:
        files = {name: Path(folder, f"{name}.json") for name in ("input", "output", "diagnostics")}
        files["input"].write_text(json.dumps(given), encoding="utf-8")
        words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
        command = [python, "-m", _BUILD, "--phase", phase, *words]
        # Nothing of Python's is left in the bundle's folder, which would be uploaded.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
        said = files["diagnostics"].read_text(encoding="utf-8") if files["diagnostics"].exists() else ""
        faults = list(_diagnostics(said))
        if done.returncode or faults:
            raise BundleError(str(path), faults or [Fault("python", done.stderr.strip()[-2000:])])
        found: Configuration = json.loads(files["output"].read_text(encoding="utf-8"))
        return found


def _diagnostics(said: str) -> Iterator[Fault]:
    for each in map(json.loads, said.splitlines()):
        if each.get("severity") == "error":
            place = each.get("location") or {}
            where = f"{place.get('file', 'python')}:{place.get('line', '')}".rstrip(":")
            yield Fault(where, f"{each.get('summary', '')} {each.get('detail', '')}".strip())


# --- what deploying adds --------------------------------------------------------------------------------------------


def _preset(job: Configuration, configuration: Configuration, facts: Mapping[str, Any]) -> Configuration:
    """What development mode and presets change of a job that matters to a run: its name, and how many at once."""
    presets = configuration.get("presets") or {}
    development = configuration.get("mode") == "development"
    prefix = f"[dev {facts['workspace.current_user.short_name']}] " if development else ""
    job = {**job, "name": f"{presets.get('name_prefix', prefix)}{job.get('name', '')}"}
    most = presets.get("jobs_max_concurrent_runs", _DEVELOPMENT_RUNS if development else 0)
    if most and int(job.get("max_concurrent_runs") or 1) == 1:
        job["max_concurrent_runs"] = most
    return job


class _Wheels:
    """Names the wheel that a pattern such as ``dist/*.whl`` means, as the CLI does when it has built it."""

    def __init__(self, path: Path, configuration: Configuration) -> None:
        self._path = path
        self._artifacts = [
            each for each in (configuration.get("artifacts") or {}).values() if each.get("type") == "whl"
        ]
        self.faults: list[Fault] = []

    def named(self, value: Any, key: str = "") -> Any:
        """The same with each pattern replaced."""
        if isinstance(value, dict):
            return {name: self.named(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self.named(each, key) for each in value]
        pattern = key in ("whl", "dependencies") and isinstance(value, str) and re.search(r"[*?\[].*\.whl$", value)
        return self._named(value) if pattern else value

    def _named(self, pattern: str) -> str:
        if self._is_own():  # the depload that runs is the one to run with; it needs no building
            return f"depload-{depload.__version__}-py3-none-any.whl"
        found = sorted(self._path.glob(pattern), key=lambda file: file.stat().st_mtime)
        if not found:
            builds = "; ".join(str(each["build"]) for each in self._artifacts if each.get("build"))
            self.faults.append(
                Fault(pattern, f"there is no such wheel; build it first: {builds or 'uv build --wheel'}")
            )
        return os.path.relpath(found[-1], self._path) if found else pattern

    def _is_own(self) -> bool:
        """Whether an artifact of the bundle is depload itself."""
        for artifact in self._artifacts:
            project = self._path / str(artifact.get("path") or ".") / "pyproject.toml"
            if project.is_file():
                about = tomllib.loads(project.read_text(encoding="utf-8"))
                if about.get("project", {}).get("name") == "depload":
                    return True
        return False
