"""Every error that depload raises: one tree, facts as attributes, the remedy in the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Fault(NamedTuple):
    """One thing that is wrong: where it is, and what it is."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def _listed(faults: Sequence[Fault], most: int = 20) -> str:
    """The faults, a line each; a long list is cut and the rest counted."""
    lines = [f"  - {fault}" for fault in faults[:most]]
    if len(faults) > most:
        lines.append(f"  - and {len(faults) - most} more")
    return "\n".join(lines)


def _few(places: Sequence[str], most: int = 4) -> str:
    """The places in a line; of many, some and how many more."""
    more = len(places) - most
    return "; ".join(places[:most]) + (f"; and {more} more" if more > 0 else "")


class DeploadError(Exception):
    """Something depload was asked for cannot be done; the message says what, where and how to mend it."""


class DeploadWarning(UserWarning):
    """Something was done another way than one might expect; the message says what and why."""


# --- what the user hands over ---------------------------------------------------------------------


class SourceError(DeploadError):
    """The source cannot be used."""


class _FaultySourceError(SourceError):
    """A source with one or more faults, all of them listed."""

    _summary = "{path} cannot be used"
    _remedy = ""

    def __init__(self, path: str, faults: Sequence[Fault]) -> None:
        super().__init__(path, tuple(faults))
        self.path = path
        self.faults = tuple(faults)

    def __str__(self) -> str:
        text = f"{self._summary.format(path=self.path)}:\n{_listed(self.faults)}"
        return f"{text}\n{self._remedy}" if self._remedy else text


class ArchiveError(_FaultySourceError):
    """The archive is damaged, or a member may not be extracted. Nothing was extracted."""

    _summary = "{path} is not an archive that can be extracted"
    _remedy = "Make the zip again from the files themselves; nothing was extracted."


class RequirementsError(_FaultySourceError):
    """Lines of a requirements file that cannot be honoured; each fault's ``where`` is ``file:line``."""

    _summary = "{path} has lines that cannot be used"


class InvalidWheelError(_FaultySourceError):
    """Wheels that do not fit the target or are not what they claim."""

    _summary = "{path} has wheels that cannot be used"


class UnrecognisedSourceError(SourceError):
    """Nothing in the source is something that can be made into wheels."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.why}; hand over a zip or a directory with a requirements.txt, .py modules, "
            "a project (pyproject.toml, setup.py), .whl files or a pylock.toml"
        )


# --- the target -----------------------------------------------------------------------------------


class TargetError(DeploadError):
    """The target is unknown, or something cannot be made for it."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


class InterpreterMissingError(TargetError):
    """A project or sdist must be built, and the target's Python is not on this machine."""

    def __init__(self, projects: Sequence[str], python: str) -> None:
        DeploadError.__init__(self, tuple(projects), python)
        self.projects = tuple(projects)
        self.python = python

    def __str__(self) -> str:
        return (
            f"{', '.join(self.projects)} must be built from source for Python {self.python}, and there is no "
            f"python{self.python} on this machine; install it, convert where it is (on the cluster itself, "
            "say), or put a ready wheel into the source"
        )


# --- resolution, download, build ------------------------------------------------------------------


class ResolutionError(DeploadError):
    """The requirements have no solution; ``explanation`` is the resolver's own.

    ``asked_by`` has where the source asks for the packages that it names; each fault's ``what`` is a requirement.
    """

    def __init__(self, explanation: str, target: str, asked_by: Sequence[Fault] = (), remedy: str = "") -> None:
        super().__init__(explanation, target, tuple(asked_by), remedy)
        self.explanation = explanation
        self.target = target
        self.asked_by = tuple(asked_by)
        self.remedy = remedy

    def __str__(self) -> str:
        asked = f"It was asked for by:\n{_listed(self.asked_by)}" if self.asked_by else ""
        said = f"no set of packages meets the requirements for {self.target}:\n{self.explanation}"
        return "\n".join(filter(None, (said, asked, self.remedy)))


class ProtectedPackageError(DeploadError):
    """A source asks for a package that belongs to the platform."""

    def __init__(self, package: str, asked_by: Sequence[str]) -> None:
        super().__init__(package, tuple(asked_by))
        self.package = package
        self.asked_by = tuple(asked_by)

    def __str__(self) -> str:
        return (
            f"{self.package} belongs to the platform and may not be replaced; it was asked for by "
            f"{', '.join(self.asked_by) or 'the source'}; take it out of there"
        )


class IndexUnavailableError(DeploadError):
    """A package index or a file's host does not answer, or refuses."""

    def __init__(self, url: str, reason: str, attempts: int) -> None:
        super().__init__(url, reason, attempts)
        self.url = url
        self.reason = reason
        self.attempts = attempts

    def __str__(self) -> str:
        tried = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return (
            f"{self.url} could not be read{tried}: {self.reason}; check the address, the proxy and the "
            "credentials, or use --no-index with --find-links"
        )


class OptionError(DeploadError):
    """Values of an option that cannot be used; each fault's ``where`` is the value."""

    def __init__(self, option: str, faults: Sequence[Fault]) -> None:
        super().__init__(option, tuple(faults))
        self.option = option
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return f"{self.option} cannot be used as it was given:\n{_listed(self.faults)}"


class _RefusedPackagesError(DeploadError):
    """Packages that are not wanted, all of them listed; each fault's ``where`` is the package."""

    _summary = ""
    _remedy = ""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return f"{self._summary}:\n{_listed(self.faults)}\n{self._remedy}"


class RefusedPackageError(_RefusedPackagesError):
    """Packages that the allow-list or the deny-list refuses; each fault says who requires it. Nothing was published."""

    _summary = "packages are not allowed here"
    _remedy = "Take them out of the source, or what requires them, or have the list (--allow, --deny) changed."


class BuildRefusedError(_RefusedPackagesError):
    """What would have to be built, where nothing may be (``--no-build``, ``--only-binary``). Nothing was built."""

    _summary = "these would have to be built, and that is not allowed"
    _remedy = "Put ready wheels of them into the source or on the index, or allow building (--no-build, --only-binary)."


class Vulnerability(NamedTuple):
    """A known vulnerability of a package that would be in the wheelhouse."""

    package: str
    version: str
    id: str
    aliases: tuple[str, ...]
    severity: str
    """A word (``HIGH``) or a CVSS vector; empty where nobody said."""
    fixed: tuple[str, ...]
    """The versions that are not affected any more."""
    summary: str
    required_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        also = f" ({', '.join(self.aliases)})" if self.aliases else ""
        severity = f", {self.severity}" if self.severity else ""
        fixed = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no version is known to be without it"
        required = f"; required by {', '.join(self.required_by)}" if self.required_by else ""
        summary = f": {self.summary}" if self.summary else ""
        return f"{self.package} {self.version}: {self.id}{also}{severity}{summary}; {fixed}{required}"


class VulnerableError(DeploadError):
    """Packages with known vulnerabilities. Nothing was published."""

    def __init__(self, vulnerabilities: Sequence[Vulnerability]) -> None:
        super().__init__(tuple(vulnerabilities))
        self.vulnerabilities = tuple(vulnerabilities)

    def __str__(self) -> str:
        found = _listed([Fault("", str(each)) for each in self.vulnerabilities])
        return (
            f"packages have known vulnerabilities:\n{found}\n"
            "Ask for fixed versions, in the source or by a constraint; --audit-ignore ID names what is put up with."
        )


class AuditError(DeploadError):
    """Whether packages have known vulnerabilities could not be found out. Nothing was published."""

    def __init__(self, service: str, reason: str, attempts: int) -> None:
        super().__init__(service, reason, attempts)
        self.service = service
        self.reason = reason
        self.attempts = attempts

    def __str__(self) -> str:
        tried = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return (
            f"{self.service} could not be asked for vulnerabilities{tried}: {self.reason}; check the address and the "
            "proxy, name another service or OSV's records on disk (--audit), or convert without --audit"
        )


class IndexBindingError(_RefusedPackagesError):
    """Packages that would come from elsewhere than the index that their names are bound to. Nothing was downloaded."""

    _summary = "packages would not come from the index that they are bound to"
    _remedy = "Publish them on that index, take away what names another place, or change --index-for."


class HashMismatchError(DeploadError):
    """A file is not the one that was asked for."""

    def __init__(self, name: str, expected: Sequence[str], found: str) -> None:
        super().__init__(name, tuple(expected), found)
        self.name = name
        self.expected = tuple(expected)
        self.found = found

    def __str__(self) -> str:
        return (
            f"{self.name} has another hash than the one asked for: expected {' or '.join(self.expected)}, "
            f"found {self.found}; either the file was altered on its way, or the hash belongs to another file"
        )


class BuildError(DeploadError):
    """A build backend failed; ``output`` holds its last lines."""

    def __init__(self, project: str, output: str, remedy: str = "") -> None:
        super().__init__(project, output, remedy)
        self.project = project
        self.output = output
        self.remedy = remedy

    def __str__(self) -> str:
        remedy = self.remedy or "mend the project, or put a ready wheel of it into the source"
        return f"{self.project} could not be built; {remedy}. The build said:\n{self.output}"


class BuildLimitError(BuildError):
    """A build was ended because it took too much; ``limit`` is ``time``, ``memory``, ``disk`` or ``processes``.

    It is ``watcher`` where the process that watches builds was itself ended, which some builds can do.
    """

    def __init__(self, project: str, limit: str, option: str, why: str, output: str) -> None:
        DeploadError.__init__(self, project, limit, option, why, output)
        self.project = project
        self.limit = limit
        self.option = option
        self.why = why
        self.output = output
        self.remedy = f"if it needs more, give it with {option}" if option else ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}, or put a ready wheel of it into the source" if self.remedy else ""
        last = f" It said last:\n{self.output}" if self.output else " It had said nothing."
        return (
            f"{self.project} could not be built: {self.why}{remedy}. It was ended with all that it had started.{last}"
        )


class BuildIsolationError(DeploadError):
    """A build was to have no more network than was asked for, and the system refuses that."""

    def __init__(self, project: str, reason: str) -> None:
        super().__init__(project, reason)
        self.project = project
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.project} was not built, because its network cannot be limited here: {self.reason}; convert on a "
            "Linux that allows network namespaces, or let it have this machine's network with --build-network all"
        )


class ToolMissingError(DeploadError):
    """A program or extra that this step needs is not there."""

    def __init__(self, tool: str, needed_for: str, remedy: str) -> None:
        super().__init__(tool, needed_for, remedy)
        self.tool = tool
        self.needed_for = needed_for
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.needed_for} needs {self.tool}, which is not here; {self.remedy}"


# --- stores and wheelhouses -----------------------------------------------------------------------


class StoreError(DeploadError):
    """A place where run paths live cannot be read or written."""

    def __init__(self, path: str, reason: str, remedy: str = "") -> None:
        super().__init__(path, reason, remedy)
        self.path = path
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")


class NotInStoreError(StoreError):
    """A store has no such file."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "there is no such file")
        self.args = (path,)  # what it is made anew from when it is unpickled


class TransferError(StoreError):
    """What landed in a store, or came from it, is not what was sent; ``expected`` and ``found`` are SHA-256 hashes."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(path, f"arrived altered: SHA-256 {found[:16]}..., expected {expected[:16]}...", "try again")
        self.args = (path, expected, found)
        self.expected = expected
        self.found = found


class NotAWheelhouseError(DeploadError):
    """The path is not a completed run path or wheelhouse."""

    def __init__(self, path: str, why: str, remedy: str = "") -> None:
        super().__init__(path, why, remedy)
        self.path = path
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        remedy = self.remedy or "give the path that convert printed"
        return f"{self.path} is not a wheelhouse: {self.why}; {remedy}"


class MissingWheelhouseError(NotAWheelhouseError):
    """There is nothing at the path."""

    def __init__(self, path: str) -> None:
        remedy = "it may have been cleaned up: run the task that converts again, then this one"
        super().__init__(path, "there is no such path", remedy)
        self.args = (path,)  # what it is made anew from when it is unpickled


class AlteredWheelhouseError(DeploadError):
    """The wheelhouse is not what its manifest says."""

    def __init__(self, path: str, faults: Sequence[Fault]) -> None:
        super().__init__(path, tuple(faults))
        self.path = path
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return f"{self.path} is not what was published; convert the source again:\n{_listed(self.faults)}"


class CleanupError(DeploadError):
    """The path is not a run path of depload, so it was not touched."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path} was not removed: {self.why}; cleanup removes only a run path that convert made"


class LeasedError(CleanupError):
    """Somebody uses the run path, so it was not touched; each of the ``leases`` says who, and until when."""

    def __init__(self, path: str, leases: Sequence[Any]) -> None:
        super().__init__(path, f"it is in use: {'; '.join(map(str, leases))}")
        self.args = (path, tuple(leases))  # what it is made anew from when it is unpickled
        self.leases = tuple(leases)

    def __str__(self) -> str:
        return (
            f"{self.path} was not removed: {self.why}; unload it there, wait for it (leased='wait', --leased wait), or "
            "remove it all the same (leased='remove', --leased remove)"
        )


class PruneError(DeploadError):
    """Some of what was to be removed could not be; ``pruned`` has what was done all the same."""

    def __init__(self, base: str, faults: Sequence[Fault], pruned: Any = None) -> None:  # noqa: ANN401
        super().__init__(base, tuple(faults), pruned)
        self.base = base
        self.faults = tuple(faults)
        self.pruned = pruned

    def __str__(self) -> str:
        return f"{self.base} was pruned, but not all that was to be removed is:\n{_listed(self.faults)}\nPrune again."


# --- loading --------------------------------------------------------------------------------------


class LoadError(DeploadError):
    """The wheelhouse cannot be made importable here."""


class TargetMismatchError(LoadError):
    """The wheels were made for another Python or platform than the one that loads them."""

    def __init__(self, made_for: str, running: str, faults: Sequence[Fault], remedy: str) -> None:
        super().__init__(made_for, running, tuple(faults), remedy)
        self.made_for = made_for
        self.running = running
        self.faults = tuple(faults)
        self.remedy = remedy

    def __str__(self) -> str:
        return (
            f"this wheelhouse was made for {self.made_for}, but this is {self.running}:\n{_listed(self.faults)}\n"
            f"Convert the source again where it will run, or with {self.remedy}"
        )


class DriverError(LoadError):
    """The driver cannot activate the wheelhouse, or cannot import what it brings."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return (
            f"the driver cannot import what the wheelhouse brings:\n{_listed(self.faults)}\n"
            "Add what the package needs (a dependency to the source, a system library to the machine), and load again."
        )


class Conflict(NamedTuple):
    """A package that is there in another version than the wheelhouse brings."""

    package: str
    found: str
    expected: str
    where: str

    def __str__(self) -> str:
        return f"{self.package}: {self.found} is there ({self.where}), the wheelhouse brings {self.expected}"


class _ConflictsError(LoadError):
    _summary = ""
    _remedy = ""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        super().__init__(tuple(conflicts))
        self.conflicts = tuple(conflicts)

    def __str__(self) -> str:
        lines = "\n".join(f"  - {conflict}" for conflict in self.conflicts)
        return f"{self._summary}:\n{lines}\n{self._remedy}"


class AlreadyImportedError(_ConflictsError):
    """The driver has already imported a package in another version; Python cannot replace it."""

    _summary = "the driver has already imported packages in other versions"
    _remedy = (
        "Call depload.load before they are imported: restart the Python process, and load first. "
        "Or load with isolation='process', which leaves such a driver as it is and gives the workers what was asked."
    )


class WheelhouseConflictError(_ConflictsError):
    """Another wheelhouse that is loaded in this process brings other versions."""

    _summary = "another wheelhouse is loaded and disagrees"
    _remedy = (
        "Unload that one first; or give each a session of its own (spark.newSession()) and load with "
        "isolation='process'; or convert one source that holds both."
    )


class WorkerFault(NamedTuple):
    """What one worker has instead of what it should have."""

    host: str
    executor: str
    package: str
    expected: str
    found: str

    @property
    def where(self) -> str:
        """Which worker it is of; those of one executor are alike."""
        return f"host {self.host}, executor {self.executor}"

    @property
    def what(self) -> str:
        """What is wrong with which package."""
        return f"{self.package}: expected {self.expected}, found {self.found}"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class WorkerError(LoadError):
    """Workers that do not have what was asked.

    ``faults`` has every one of them, and ``report``, a ``Report``, what each answered; the message tells of what many
    of them are missing once, and where.
    """

    def __init__(self, faults: Sequence[WorkerFault], remedy: str = "", report: Any = None) -> None:  # noqa: ANN401
        super().__init__(tuple(faults), remedy, report)
        self.faults = tuple(faults)
        self.remedy = remedy
        self.report = report

    def __str__(self) -> str:
        places: dict[str, dict[str, None]] = {}
        for fault in self.faults:
            places.setdefault(fault.what, {})[fault.where] = None
        lines = _listed([Fault(_few([*where]), what) for what, where in places.items()])
        return f"workers do not have what the wheelhouse brings:\n{lines}" + (f"\n{self.remedy}" if self.remedy else "")


class SparkSessionError(LoadError):
    """The Spark session cannot be used for this."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


# --- Databricks jobs ------------------------------------------------------------------------------


class ParameterError(DeploadError):
    """Parameters of a job task that cannot be used; each fault's ``where`` is the parameter."""

    _summary = "this task's parameters cannot be used"
    _remedy = "Mend them in the job's or the task's parameters, and run the task again."

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return f"{self._summary}:\n{_listed(self.faults)}\n{self._remedy}"


class UnresolvedParameterError(ParameterError):
    """Parameters that still hold ``{{``: references that the platform passed on as they stand."""

    _summary = "parameters hold references that the platform did not fill in"
    _remedy = (
        "The task or value that a reference names does not exist, or did not succeed: compare its spelling with the "
        "job's task keys, and see whether that task set the value."
    )


class TaskValueError(DeploadError):
    """A task value cannot be set or read."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.why}; {self.remedy}"


class SecretError(DeploadError):
    """A secret of a scope cannot be read, or is not what it is for; what it holds is never told."""

    def __init__(self, secret: str, why: str, remedy: str) -> None:
        super().__init__(secret, why, remedy)
        self.secret = secret
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{f'secret {self.secret}' if self.secret else 'a secret'} {self.why}; {self.remedy}"


class OldRuntimeError(DeploadError):
    """A volume on a runtime that may write to it without keeping what was written."""

    def __init__(self, base: str, runtime: str) -> None:
        super().__init__(base, runtime)
        self.base = base
        self.runtime = runtime

    def __str__(self) -> str:
        return (
            f"{self.base} is on a volume, and this is Databricks runtime {self.runtime}: up to 12.2 what is written "
            "below /Volumes may land on the driver's own disk, and go with it; use runtime 13.3 or newer, or a base "
            "on DBFS"
        )


class WheelhouseGoneError(NotAWheelhouseError):
    """The wheelhouse that a task of this job published is not there any more."""

    def __init__(self, path: str, task: str) -> None:
        super().__init__(
            path,
            f"it is gone, most likely because this run's cleanup task has removed what task {task} published",
            f"repair the run with {task} and the tasks after it (rerun_tasks, rerun_dependent_tasks), or run the "
            "job anew",
        )
        self.args = (path, task)  # what it is made anew from when it is unpickled
        self.task = task


class ValidationError(LoadError):
    """Functions of the session that do not see what was loaded; each fault's ``where`` is a host."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return (
            f"the wheelhouse was loaded, but a function of this session does not see it:\n{_listed(self.faults)}\n"
            "Load with isolation='process', or load before any function has run."
        )


class JobFailedError(DeploadError):
    """Tasks before the cleanup did not succeed, or the cleanup could not remove everything."""

    def __init__(self, faults: Sequence[Fault], removed: Sequence[str] = ()) -> None:
        super().__init__(tuple(faults), tuple(removed))
        self.faults = tuple(faults)
        self.removed = tuple(removed)

    def __str__(self) -> str:
        gone = f"removed: {', '.join(self.removed)}" if self.removed else "nothing was left to remove"
        return (
            f"this run is not a success ({gone}):\n{_listed(self.faults)}\n"
            "The cleanup itself is done unless it is listed; it fails so that the run stays failed. Mend the tasks "
            "above, then repair the run from the task that converts."
        )


# --- jobs that run on this machine ----------------------------------------------------------------


class BundleError(DeploadError):
    """A bundle that cannot be used; each fault's ``where`` is a file or a place in the configuration."""

    def __init__(self, bundle: str, faults: Sequence[Fault], remedy: str = "") -> None:
        super().__init__(bundle, tuple(faults), remedy)
        self.bundle = bundle
        self.faults = tuple(faults)
        self.remedy = remedy

    def __str__(self) -> str:
        remedy = self.remedy or "Mend it there; `databricks bundle validate` tells more."
        return f"the bundle in {self.bundle} cannot be used:\n{_listed(self.faults)}\n{remedy}"


class JobDefinitionError(DeploadError):
    """A job that cannot be run here; each fault's ``where`` is a task or a field."""

    def __init__(self, job: str, faults: Sequence[Fault]) -> None:
        super().__init__(job, tuple(faults))
        self.job = job
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return (
            f"job {self.job} cannot be run on this machine:\n{_listed(self.faults)}\n"
            "Mend its definition, or run it in a workspace; nothing was started."
        )


class NotebookError(DeploadError):
    """A notebook, or a cell of it, that cannot be run on this machine."""

    def __init__(self, notebook: str, why: str, cell: int = 0, line: int = 0) -> None:
        super().__init__(notebook, why, cell, line)
        self.notebook = notebook
        self.why = why
        self.cell = cell
        self.line = line

    def __str__(self) -> str:
        where = f", cell {self.cell}, line {self.line}" if self.cell else ""
        return f"{self.notebook}{where}: {self.why}"
