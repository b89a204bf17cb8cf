"""What lies in a base, and what may become of it.

What is depload's there is known by its name and by what it holds; everything else is left alone:

    <uuid4>/                                    run paths
    job-<run id>.<task>.<inputs>/<uuid4>/       run paths of job runs
    wheels/, conversions/                       what conversions keep for later ones
    probes-<run id>/, probe-<token>/            what probe_runtime leaves
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from depload.errors import DeploadError
from depload.published import conversions, leases, removal, runs, wheelcache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from depload.published.leases import Clock, Lease
    from depload.stores.store import Entry, Store

Kind = Literal["run", "unfinished run", "empty folder", "probe", "wheel", "conversion", "claim", "leftover", "other"]
Fate = Literal["keep", "in use", "remove", "failed"]

AT_ONCE = 8
"""How many places are looked at, or removed, at the same time."""
_JOB = re.compile(r"job-[A-Za-z0-9_-]{1,100}\.[A-Za-z0-9_-]{1,100}\.[0-9a-f]{16}")
_SOON = frozenset({"unfinished run", "empty folder", "claim", "leftover"})  # goes as soon as nobody can be at it
_BY_SIZE = frozenset({"run", "probe", "wheel", "conversion"})


class _Folder(NamedTuple):
    """A folder of small files of depload's."""

    name: re.Pattern[str]
    file: re.Pattern[str]
    kind: Kind


_WHOLE = (
    _Folder(re.compile(r"probes-\d{1,30}"), re.compile(r"[\w-]{1,100}\.json"), "probe"),
    _Folder(re.compile(r"probe-[0-9a-f]{12}"), re.compile(r"read-me|from_base_[0-9a-f]{12}\.zip"), "probe"),
    _Folder(leases.CLOCK, leases.CLOCK, "leftover"),
)
"""What goes as a whole, and not at all where it holds another file."""
_FILE_BY_FILE = (
    _Folder(re.compile(wheelcache.FOLDER), re.compile(r"[0-9a-f]{64}\.(whl|zip|json)"), "wheel"),
    _Folder(re.compile(conversions.FOLDER), re.compile(r"[0-9a-f]{64}\.claim\.json"), "claim"),
    _Folder(re.compile(conversions.FOLDER), re.compile(r"[0-9a-f]{64}(\.failed)?\.json"), "conversion"),
)


@dataclass(frozen=True)
class Rules:
    """What may go."""

    older_than: timedelta
    max_size: int | None = None
    """Bytes; the oldest go until the rest is no more."""
    young: timedelta = timedelta(hours=1)
    """What is younger is not taken for unfinished, and does not go for its size: somebody may be at it."""


@dataclass(frozen=True)
class Found:
    """What lies in a base, and what becomes of it."""

    key: str = field(repr=False)
    place: str
    """Its address."""
    kind: Kind
    size: int
    """Bytes."""
    age: float | None
    """Seconds since anything of it was written, by the store's clock; None where the store does not say."""
    fate: Fate
    why: str

    def to_json(self) -> dict[str, Any]:
        """As ``depload prune --json`` prints it."""
        age = None if self.age is None else round(self.age)
        about = {"path": self.place, "kind": self.kind, "size": self.size, "age": age}
        return {**about, "fate": self.fate, "why": self.why}


def scan(store: Store, rules: Rules, clock: Clock) -> list[Found]:
    """All that lies in the base, with what is to become of it; removes nothing."""
    look = partial(_look, Look(store, rules, clock))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        groups = list(pool.map(look, store.list()))
    return _by_size(store, [each for group in groups for each in group], rules)


class Look(NamedTuple):
    """What is needed to tell what becomes of something."""

    store: Store
    rules: Rules
    clock: Clock

    def found(self, key: str, kind: Kind, size: int, modified: float | None) -> Found:
        """By its age alone."""
        age = None if modified is None else max(0.0, self.clock.now() - modified)
        fate, why = _fate(kind, age, self.rules)
        return Found(key, self.store.location(key), kind, size, age, fate, why)

    def other(self, key: str, entry: Entry, why: str) -> Found:
        """What is not depload's."""
        return replace(self.found(key, "other", entry.size, entry.modified), why=why)

    def is_link(self, key: str) -> bool:
        """Whether it would lead elsewhere."""
        here = self.store.path(key)
        return bool(here and here.is_symlink())


def _fate(kind: Kind, age: float | None, rules: Rules) -> tuple[Fate, str]:
    if kind == "other":
        return "keep", "not depload's"
    if age is None and kind == "empty folder":  # volumes do not say how old folders are; one in use is not empty
        return "remove", "left by a run that was cut short"
    if age is None:
        return "keep", "the store does not say how old it is"
    limit = rules.young if kind in _SOON else rules.older_than
    if age < limit.total_seconds():
        return "keep", "not old"
    return "remove", "left by a run that was cut short" if kind in _SOON else "old"


def _look(look: Look, entry: Entry) -> list[Found]:
    """What an entry of the base is; a fault is kept, not raised."""
    try:
        return list(_told_apart(look, entry))
    except DeploadError as error:
        return [replace(look.other(entry.name, entry, str(error)), fate="failed")]


def _told_apart(look: Look, entry: Entry) -> Iterator[Found]:
    name = entry.name
    if look.is_link(name):
        yield look.other(name, entry, "a link")
    elif not entry.is_directory:
        yield look.other(name, entry, "not depload's")
    elif runs.is_run_name(name):
        yield _run(look, name, entry)
    elif _JOB.fullmatch(name):
        yield from _job(look, entry)
    elif whole := [folder for folder in _WHOLE if folder.name.fullmatch(name)]:
        yield from _whole(look, whole[0], entry)
    elif any(folder.name.fullmatch(name) for folder in _FILE_BY_FILE):
        yield from _files(look, entry)
    else:
        yield look.other(name, entry, "not depload's")


def _run(look: Look, key: str, about: Entry) -> Found:
    entries = look.store.list(key)
    return run_path(look, key, entries) if entries else look.found(key, "empty folder", 0, about.modified)


def run_path(look: Look, key: str, entries: Sequence[Entry]) -> Found:
    """A run path with these files. What stands in them is read only of one that would go: that takes a request."""
    total = sum(entry.size for entry in entries)
    whole = any(entry.name == runs.MANIFEST for entry in entries)
    found = look.found(key, "run" if whole else "unfinished run", total, _newest(entries))
    if why := removal.strange(look.store, key, entries):
        return replace(found, kind="other", fate="keep", why=why)
    if held := leases.alive(look.store, key, entries, look.clock):
        return in_use(found, held)
    return _if_ours(look.store, found, entries) if found.fate == "remove" else found


def _newest(entries: Sequence[Entry]) -> float | None:
    return max((entry.modified for entry in entries if entry.modified is not None), default=None)


def in_use(found: Found, held: Sequence[Lease]) -> Found:
    """What somebody uses stays."""
    return replace(found, fate="in use", why="; ".join(map(str, held)))


def _if_ours(store: Store, found: Found, entries: Sequence[Entry]) -> Found:
    why = removal.not_ours(store, found.key, entries)
    return replace(found, kind="other", fate="keep", why=why) if why else found


def _job(look: Look, about: Entry) -> Iterator[Found]:
    entries = look.store.list(about.name)
    if not entries:
        yield look.found(about.name, "empty folder", 0, about.modified)
    for entry in entries:
        key = f"{about.name}/{entry.name}"
        if look.is_link(key) or not entry.is_directory or not runs.is_run_name(entry.name):
            yield look.other(key, entry, "not depload's")
        else:
            yield _run(look, key, entry)


def _whole(look: Look, folder: _Folder, about: Entry) -> Iterator[Found]:
    """A folder that goes as one; what a probe has published in it goes before it."""
    entries = look.store.list(about.name)
    published = [entry for entry in entries if entry.is_directory and runs.is_run_name(entry.name)]
    if published and folder.kind == "probe":
        yield from (_run(look, f"{about.name}/{entry.name}", entry) for entry in published)
    elif entries:
        yield _folder(look, folder, about, entries)
    else:
        yield look.found(about.name, "empty folder", 0, about.modified)


def _folder(look: Look, folder: _Folder, about: Entry, entries: Sequence[Entry]) -> Found:
    total = sum(entry.size for entry in entries)
    if strange := [entry.name for entry in entries if not _is_file(look, about.name, entry, folder.file)]:
        return replace(look.other(about.name, about, f"it holds {strange[0]}"), size=total)
    return look.found(about.name, folder.kind, total, _newest(entries))


def _files(look: Look, about: Entry) -> Iterator[Found]:
    entries = look.store.list(about.name)
    if not entries:
        yield look.found(about.name, "empty folder", 0, about.modified)
    known = [folder for folder in _FILE_BY_FILE if folder.name.fullmatch(about.name)]
    for entry in entries:
        kinds = [folder.kind for folder in known if _is_file(look, about.name, entry, folder.file)]
        key = f"{about.name}/{entry.name}"
        yield (
            look.found(key, kinds[0], entry.size, entry.modified) if kinds else look.other(key, entry, "not depload's")
        )


def _is_file(look: Look, folder: str, entry: Entry, name: re.Pattern[str]) -> bool:
    return bool(name.fullmatch(entry.name)) and not entry.is_directory and not look.is_link(f"{folder}/{entry.name}")


def _by_size(store: Store, found: Sequence[Found], rules: Rules) -> list[Found]:
    """Let the oldest go until the rest fits; what is young or in use stays, even where it does not."""
    if rules.max_size is None:
        return list(found)
    total = sum(each.size for each in found if each.fate != "remove" and each.kind != "other")
    gone: dict[str, Found] = {}
    for each in sorted(found, key=lambda each: -(each.age or 0.0)):
        if total <= rules.max_size:
            break
        aged = each.age is not None and each.age >= rules.young.total_seconds()
        if aged and each.fate == "keep" and each.kind in _BY_SIZE:
            gone[each.key] = _chosen(store, each)
            total -= each.size
    return [gone.get(each.key, each) for each in found]


def _chosen(store: Store, found: Found) -> Found:
    chosen = replace(found, fate="remove", why="the oldest, until the rest fits")
    return _if_ours(store, chosen, store.list(found.key)) if found.kind == "run" else chosen
