"""What may be in a wheelhouse and how it may come about: hashes, builds, packages, known vulnerabilities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from depload.errors import BuildRefusedError, Fault, OptionError, RefusedPackageError
from depload.making import asks, audit
from depload.making.indexes import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from depload.making.asks import Asks
    from depload.making.indexes import IndexOptions
    from depload.source.formats import Root


_OWN = "user-modules"  # what loose modules become; nobody else has a package of that name


@dataclass(frozen=True)
class Policy:
    """What a conversion has to keep to; without any of it everything is allowed."""

    require_hashes: bool = False
    """Every requirement has a hash in the source, what others require too, as ``pip install`` has it."""
    no_build: bool = False
    """Nothing is built: no project and no sdist of the source, and none of an index, not even for its metadata."""
    allow: tuple[str, ...] = ()
    """Names with version specifiers (PEP 508), or files of them; once there is one, nothing else may be inside."""
    deny: tuple[str, ...] = ()
    """Likewise, of what may not be inside."""
    audit: str | None = None
    """Who knows of vulnerabilities: ``osv``, ``pypi``, the URL of a service like either, or a path of OSV's records."""
    audit_ignore: tuple[str, ...] = ()
    """Identifiers of vulnerabilities that are put up with; an alias will do."""


class Candidate(NamedTuple):
    """A package that would be in the wheelhouse."""

    name: str
    version: str | None
    """None where only a build will tell."""


class Judge:
    """A policy, read: it judges what a resolution comes to before anything is downloaded, and in the end what goes in.

    ``options`` are those that a service is reached with. Raises OptionError with entries that cannot be read.
    """

    def __init__(self, policy: Policy, options: IndexOptions) -> None:
        self.policy = policy
        self._options = options
        self._audited: set[Candidate] = set()
        self._allowed = _entries("--allow", policy.allow)
        self._denied = _entries("--deny", policy.deny)
        self._knowledge = audit.source(policy.audit) if policy.audit else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """What of the policy decides how a conversion is made; the rest is asked of what an earlier one made, too."""
        return (str(self.policy.require_hashes), str(self.policy.no_build))

    @property
    def facts(self) -> tuple[str, ...]:
        """All of it, what the files hold included, for who takes over what was made before without asking again."""
        lists = (sorted(map(str, entries or ())) for entries in (self._allowed, self._denied))
        return (*self.inputs, *map(str, lists), str(self.policy.audit), str(self.policy.audit_ignore))

    def judge(
        self, candidates: Sequence[Candidate], required_by: Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
    ) -> None:
        """Raise RefusedPackageError with all that the lists refuse, else VulnerableError with all that is known.

        ``required_by`` tells who requires the packages that it is given. Raises AuditError where nobody answers.
        """
        refused = {each: why for each in candidates if (why := self._why_not(each))}
        if refused:
            who = required_by([each.name for each in refused])
            raise RefusedPackageError([_fault(each, why, who.get(each.name, ())) for each, why in refused.items()])
        unknown = [
            each for each in candidates if each.version is not None and each.name != _OWN and each not in self._audited
        ]
        if self._knowledge and unknown:
            audit.check(
                self._knowledge,
                [(each.name, each.version or "") for each in unknown],
                ignored=self.policy.audit_ignore,
                options=self._options,
                required_by=required_by,
            )
            self._audited.update(unknown)

    def _why_not(self, candidate: Candidate) -> str | None:
        if denied := next((each for each in self._denied or () if _names(each, candidate)), None):
            return f"is denied ({denied})"
        if self._allowed is None or any(_may_name(each, candidate) for each in self._allowed):
            return None
        versions = [str(each) for each in self._allowed if each.name == candidate.name]
        return f"is not allowed, unlike {', '.join(versions)}" if versions else "is not allowed"


def _names(entry: Requirement, candidate: Candidate) -> bool:
    if entry.name != candidate.name or (entry.specifier and candidate.version is None):
        return False
    return entry.specifier.contains(candidate.version or "0", prereleases=True) if entry.specifier else True


def _may_name(entry: Requirement, candidate: Candidate) -> bool:
    """The same, but that a version that is not known yet may be one of them."""
    return entry.name == candidate.name and (candidate.version is None or _names(entry, candidate))


def _fault(candidate: Candidate, why: str, who: Sequence[str]) -> Fault:
    required = f"; required by {', '.join(who)}" if who else ""
    return Fault(f"{candidate.name} {candidate.version or ''}".rstrip(), f"{why}{required}")


# --- builds ---------------------------------------------------------------------------------------


def refuse_builds(asked: Asks, roots: Sequence[Root], options: IndexOptions, *, everything: bool) -> None:
    """Raise BuildRefusedError with all that is known to need a build before anything is resolved.

    That is, where ``everything`` is refused, projects and sdists of the source, its ``roots``; and of URLs and locks
    what the options do not let be built.
    """
    faults = []
    if everything:
        faults += [Fault(root.path, "is a project" if root.kind == "project" else "is an sdist") for root in roots]
        known = {root.location for root in roots}
        paths = [line for line in asked.lists.lines if line.path and line.path.suffix != ".whl"]
        faults += [Fault(line.origin, f"{line.requirement} is no wheel") for line in paths if line.path not in known]
    # pip builds what is asked for by URL, whatever --only-binary says.
    for name, url in asks.urls(asked.lists):
        if options.forbids_building(name) and not urlsplit(url).path.endswith(".whl"):
            faults.append(Fault(name, f"{redact(url)} is no wheel"))
    for package in asked.locked:
        if options.forbids_building(package.name) and not any(file.is_wheel for file in package.files):
            faults.append(Fault(package.name, f"{', '.join(asked.origins[package.name])} has no wheel of it"))
    if faults:
        raise BuildRefusedError(faults)


# --- lists ----------------------------------------------------------------------------------------


def _entries(option: str, given: Sequence[str]) -> list[Requirement] | None:
    """The entries of a list; None where none was given. Raises OptionError with all that cannot be read."""
    if not given:
        return None
    faults: list[Fault] = []
    read = [(where, _entry(text)) for where, text in _texts(given, faults)]
    faults += [Fault(where, each) for where, each in read if isinstance(each, str)]
    if faults:
        raise OptionError(option, faults)
    return [each for _, each in read if isinstance(each, Requirement)]


def _texts(given: Iterable[str], faults: list[Fault]) -> Iterator[tuple[str, str]]:
    """Where each entry stands, and its text: what ends in .txt or has a slash in it is a file with one a line."""
    for value in given:
        if "/" not in value and "\\" not in value and not value.endswith(".txt"):
            yield value, value
            continue
        try:
            lines = Path(value).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(Fault(value, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
            continue
        for number, line in enumerate(lines, 1):
            if text := line.partition("#")[0].strip():
                yield f"{value}:{number}", text


def _entry(text: str) -> Requirement | str:
    """The entry, or what is wrong with it."""
    try:
        entry = Requirement(text)
    except InvalidRequirement:
        return f"{text!r} is no name with version specifiers, as requests>=2.31"
    if entry.url or entry.extras or entry.marker:
        return f"{text!r} has more than a name and versions, which is all that is compared"
    entry.name = canonicalize_name(entry.name)
    return entry
