"""Pruning a base: what is old and not in use goes, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from conftest import OFFLINE, make_wheel
from depload import convert, load, prune, verify
from depload.databricks import tasks
from depload.errors import DeploadError, PruneError, StoreError, UnresolvedParameterError
from depload.published import bases, leases, pruning, removal, runs
from depload.published.bases import Rules
from depload.published.leases import Clock
from depload.stores.addresses import open_store
from depload.stores.directory import DirectoryStore
from workspace import Forbidden, LostAnswer, Server, Slow, TooManyRequests, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from depload.published.bases import Found
    from depload.published.pruning import Pruned
    from depload.stores.store import Entry, Store

pytest_plugins = ["workspace.fixture", "places"]

VOLUME = "/Volumes/main/default/depload"
HOUR, DAY = 3600.0, 86_400.0
EVERYTHING = Rules(timedelta(0), young=timedelta(0))
"""By which whatever may ever go goes at once."""
JOB = "job-12.process_dependencies.0123456789abcdef"
SHA = "0123456789abcdef" * 4
OURS = {
    f"wheels/{SHA}.whl": "wheel",
    f"wheels/{SHA}.zip": "wheel",
    f"wheels/{SHA}.json": "wheel",
    f"conversions/{SHA}.json": "conversion",
    f"conversions/{SHA}.failed.json": "conversion",
    f"conversions/{SHA}.claim.json": "claim",
    "probes-77/here.json": "probe",
    "probe-0123456789ab/read-me": "probe",
}
"""What is depload's besides run paths, with its kind."""
OTHERS = (
    "precious.csv",
    "notes/lease-of-a-flat.txt",
    "wheels/numpy-1.26.0-py3-none-any.whl",
    "wheels/old/thing",
    "conversions/euro.json",
    "probes-77x/here.json",
    "probes-78/photo.png",
    "probe-0123456789ac/precious.csv",
    "job-12/file",
    "job-12.process.0123456789abcde/file",
    f"{JOB}/precious.csv",
    "0b4a7f6e-1b7b-4d3f-9d65-0c4f6ad1b9a1/precious.csv",
    "0b4a7f6e-1b7b-4d3f-9d65-0c4f6ad1b9a2/run.json",  # a copy of another's
    "not-a-uuid/run.json",
)
"""What is not."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make_wheel(folder, "alpha", "1.0", {"alpha/__init__.py": "NAME = 'alpha'\n"})
    return folder


@pytest.fixture
def made(source: Path, base: Path) -> Callable[..., Path]:
    """Publish a run path of a certain age, in seconds, below the base or a folder of it."""

    def make(age: float = 0.0, below: str = "", *, complete: bool = True) -> Path:
        path = Path(convert(source, base / below, options=OFFLINE, cache=False).path)
        if not complete:
            (path / runs.MANIFEST).unlink()
        aged(path, age)
        return path

    return make


def aged(path: Path, seconds: float) -> Path:
    """Have it, and all below it, be so old."""
    for each in [*path.rglob("*"), path]:
        os.utime(each, (time.time() - seconds,) * 2, follow_symlinks=False)
    return path


def put(base: Path, key: str, data: bytes = b"x", age: float = 0.0) -> Path:
    path = base / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return path


def fates(pruned: Pruned) -> dict[str, str]:
    return {each.key: each.fate for each in pruned.found}


def tree(base: Path) -> dict[str, tuple[bytes, int]]:
    """Every file and directory with what it holds and when it was changed."""
    found = {str(path.relative_to(base)): path for path in [base, *base.rglob("*")]}
    return {
        name: (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns) for name, path in found.items()
    }


def keys(store: Store, prefix: str = "") -> set[str]:
    """Every file of a store."""
    found = set()
    for entry in store.list(prefix):
        key = f"{prefix}/{entry.name}" if prefix else entry.name
        found |= keys(store, key) if entry.is_directory else {key}
    return found


def foreign_lease(store: Store, run: str, purpose: str = "load") -> str:
    name = leases.fresh_name()
    store.write(f"{run}/{name}", leases.content(purpose))
    return name


# --- in every store -------------------------------------------------------------------------------------------------


@pytest.fixture
def full(store: Store, place: tuple[str, Any], source: Path) -> dict[str, str]:
    """A base with one of each; run paths by what they are."""
    address, via = place
    known = {}
    for name, below in {"plain": "", "in use": "", "unfinished": "", "of a job": f"/{JOB}"}.items():
        path = convert(source, f"{address}{below}", options=OFFLINE, cache=False, via=via).path
        known[name] = f"{below[1:]}/{path.rpartition('/')[2]}".lstrip("/")
    store.remove(f"{known['unfinished']}/{runs.MANIFEST}")
    foreign_lease(store, known["in use"])
    for key in (*OURS, *OTHERS):
        store.write(key, b'{"run": "another"}')
    return known


def test_what_may_go_goes_and_the_rest_stays(store: Store, full: dict[str, str]) -> None:
    before = keys(store)
    kept = {key for key in before if key in OTHERS or key.startswith(full["in use"])}
    pruned = prune_of(store, EVERYTHING)
    assert keys(store) == kept
    kinds = {each.key: each.kind for each in pruned.found if each.fate == "remove"}
    whole = {key: kind for key, kind in OURS.items() if not key.startswith("probe")}
    assert kinds == {
        **whole,
        "probes-77": "probe",
        "probe-0123456789ab": "probe",
        full["plain"]: "run",
        full["of a job"]: "run",
        full["unfinished"]: "unfinished run",
    }
    assert fates(pruned)[full["in use"]] == "in use"
    assert pruned.freed > 0 < pruned.kept
    assert {each.fate for each in pruned.found if each.kind == "other"} == {"keep"}


def test_what_is_young_stays(store: Store, full: dict[str, str]) -> None:
    del full
    before = keys(store)
    pruned = prune_of(store, Rules(timedelta(days=1)))
    assert keys(store) == before
    assert set(pruned.removed) == set()


def prune_of(store: Store, rules: Rules, *, dry_run: bool = False) -> Pruned:
    return pruning.pruned(store, rules, dry_run=dry_run)


def test_a_dry_run_says_what_would_go_and_removes_nothing(store: Store, full: dict[str, str]) -> None:
    before = keys(store)
    would = prune_of(store, EVERYTHING, dry_run=True)
    assert keys(store) == before
    done = prune_of(store, EVERYTHING)
    assert fates(would) == fates(done)
    assert would.freed == done.freed
    assert full["plain"] in {each.key for each in would.found if each.fate == "remove"}


def test_a_base_that_is_not_there_is_empty_and_stays_away(store: Store) -> None:
    assert prune_of(store, EVERYTHING).found == ()
    assert store.list() == []


def test_what_this_process_has_loaded_stays(store: Store, place: tuple[str, Any], source: Path) -> None:
    path = convert(source, place[0], options=OFFLINE, cache=False, via=place[1]).path
    with load(path, via=place[1]):
        (found,) = prune_of(store, EVERYTHING).found
        assert found.fate == "in use"
        assert f"process {os.getpid()}" in found.why
    assert prune_of(store, EVERYTHING).removed == (path,)


def test_a_publication_that_goes_on_is_never_touched(
    store: Store, place: tuple[str, Any], source: Path, tmp_path: Path
) -> None:
    made = runs.open_run(convert(source, tmp_path / "elsewhere", options=OFFLINE, cache=False).path)
    found: list[Found] = []

    def moved(done: int, total: int | None) -> None:
        del done, total
        found.extend(prune_of(store, EVERYTHING).found)

    run = runs.publish(store, made.file, made.manifest, moved)
    assert {(each.kind, each.fate) for each in found} == {("unfinished run", "in use")}
    assert runs.open_run(run.path, place[1]).manifest == made.manifest


# --- by age and size ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "complete", "fate"),
    [
        (0, True, "keep"),
        (6.9 * DAY, True, "keep"),
        (7.1 * DAY, True, "remove"),
        (0, False, "keep"),
        (0.9 * HOUR, False, "keep"),
        (1.1 * HOUR, False, "remove"),
    ],
)
@pytest.mark.parametrize("below", ["", JOB])
def test_age_decides_and_what_was_cut_short_goes_after_an_hour(
    below: str, age: float, complete: bool, fate: str, made: Callable[..., Path], base: Path
) -> None:
    path = made(age, below, complete=complete)
    (found,) = prune(base).found
    assert found.fate == fate
    assert path.exists() == (fate == "keep")
    assert (base / below).exists() == (fate == "keep" or not below)


@pytest.mark.parametrize(
    ("key", "age", "fate"),
    [
        (f"wheels/{SHA}.whl", 6 * DAY, "keep"),
        (f"wheels/{SHA}.whl", 8 * DAY, "remove"),
        (f"conversions/{SHA}.json", 6 * DAY, "keep"),
        (f"conversions/{SHA}.failed.json", 8 * DAY, "remove"),
        (f"conversions/{SHA}.claim.json", 0.9 * HOUR, "keep"),
        (f"conversions/{SHA}.claim.json", 1.1 * HOUR, "remove"),
        ("probes-1/a.json", 8 * DAY, "remove"),
        ("probe-0123456789ab/read-me", 6 * DAY, "keep"),
        ("precious.csv", 999 * DAY, "keep"),
    ],
)
def test_each_kind_has_its_age(key: str, age: float, fate: str, base: Path) -> None:
    put(base, key, age=age)
    (found,) = prune(base).found
    assert found.fate == fate
    assert (base / key).exists() == (fate == "keep")


@pytest.mark.parametrize(
    "name",
    [str(uuid.uuid4()), JOB, "wheels", "conversions", "probes-1", leases.fresh_clock_name()],
    ids=["run", "job", "wheels", "conversions", "probes", "clock"],  # the same in every process that runs tests
)
@pytest.mark.parametrize(("age", "stays"), [(0.5 * HOUR, True), (2 * HOUR, False)])
def test_an_empty_folder_of_depload_s_goes_after_an_hour(name: str, age: float, stays: bool, base: Path) -> None:
    (base / name).mkdir(parents=True)
    aged(base / name, age)
    prune(base)
    assert (base / name).exists() == stays


@pytest.mark.parametrize(
    "left",
    [
        {"run.json": b""},
        {"run.json": b'{"depl'},
        {leases.fresh_name(): leases.content("load")},
        {leases.fresh_name(): b""},
        {leases.fresh_clock_name(): b"depload\n"},
    ],
)
def test_what_a_process_leaves_that_is_killed_early_goes(left: Mapping[str, bytes], base: Path) -> None:
    run = str(uuid.uuid4())
    for name, data in left.items():
        put(base, f"{run}/{name}", data)
    assert not prune(base).removed
    aged(base / run, 2 * HOUR)
    assert prune(base).removed
    assert list(base.iterdir()) == []


def test_what_a_probe_published_goes_with_it(made: Callable[..., Path], base: Path) -> None:
    made(8 * DAY, "probe-0123456789ab")
    assert len(prune(base).removed) == 1
    assert list(base.iterdir()) == []


def test_the_oldest_go_until_the_rest_fits(made: Callable[..., Path], base: Path) -> None:
    paths = [made(days * DAY) for days in (1, 2, 3, 4)]
    foreign_lease(open_store(base), paths[3].name)
    size = sum(file.stat().st_size for file in paths[0].iterdir())
    put(base, f"wheels/{SHA}.whl", b"x" * size, age=2.5 * DAY)
    put(base, "precious.csv", b"x" * 10 * size, age=9 * DAY)
    pruned = prune(base, older_than="30d", max_size=3 * size + 2000)
    gone = {each.key: each.why for each in pruned.found if each.fate == "remove"}
    assert gone == {
        paths[2].name: "the oldest, until the rest fits",
        f"wheels/{SHA}.whl": "the oldest, until the rest fits",
    }
    assert pruned.kept <= 3 * size + 2000
    assert [path.exists() for path in paths] == [True, True, False, True]


def test_what_is_young_or_in_use_stays_even_where_it_does_not_fit(made: Callable[..., Path], base: Path) -> None:
    young, used = made(0.5 * HOUR), made(DAY)
    foreign_lease(open_store(base), used.name)
    pruned = prune(base, older_than="30d", max_size="1kB")
    assert pruned.removed == ()
    assert pruned.kept > 1000
    assert verify(young)
    assert verify(used)


def test_a_lease_that_has_run_out_protects_nothing_and_goes_along(made: Callable[..., Path], base: Path) -> None:
    path = made()
    foreign_lease(open_store(base), path.name)
    aged(path, 8 * DAY)
    assert prune(base).removed == (str(path),)
    assert list(base.iterdir()) == []


# --- what is not depload's ------------------------------------------------------------------------------------------


def test_links_are_neither_followed_nor_removed(made: Callable[..., Path], base: Path, tmp_path: Path) -> None:
    outside = made(8 * DAY).rename(tmp_path / str(uuid.uuid4()))
    wheels = put(tmp_path, f"theirs/{SHA}.whl", age=8 * DAY).parent
    links = {
        str(uuid.uuid4()): outside,
        "wheels": wheels,
        "conversions": wheels / f"{SHA}.whl",
        f"{JOB}/{uuid.uuid4()}": outside,
        "probes-7": wheels,
    }
    for name, target in links.items():
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).symlink_to(target)
        aged(base / name, 8 * DAY)
    assert prune(base).removed == ()
    assert all((base / name).is_symlink() for name in links)
    assert len(list(outside.iterdir())) == 3
    assert len(list(wheels.iterdir())) == 1


def test_a_run_path_that_somebody_has_put_a_file_or_a_link_into_stays(made: Callable[..., Path], base: Path) -> None:
    with_file, with_link = made(), made()
    put(with_file, "notes.txt")
    (with_link / "other.wheelhouse.zip").symlink_to(with_file)
    for path in (with_file, with_link):
        aged(path, 8 * DAY)
    pruned = prune(base)
    assert [each.kind for each in pruned.found] == ["other", "other"]
    assert "it holds what depload did not put there" in pruned.found[0].why
    assert verify(with_file)
    assert verify(with_link)


def test_a_dry_run_changes_not_a_byte_and_no_time(made: Callable[..., Path], base: Path) -> None:
    for age in (0, 8 * DAY):
        made(age)
        made(age, JOB)
        made(age, complete=False)
    for key in (*OURS, *OTHERS):
        put(base, key, age=8 * DAY)
    before = tree(base)
    assert prune(base, dry_run=True, max_size="1kB").removed
    assert tree(base) == before


# --- processes ------------------------------------------------------------------------------------------------------

LOADED = """\
    import sys
    import depload

    loaded = depload.load(sys.argv[1])
    print("loaded", flush=True)
    sys.stdin.read()
    """


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", dedent(code), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_what_another_process_has_loaded_stays_until_it_is_gone(made: Callable[..., Path], base: Path) -> None:
    path = made(8 * DAY)
    with start(LOADED, str(path)) as process:
        (found,) = prune(base).found
        assert found.fate == "in use"
        assert f"process {process.pid}" in found.why
        assert verify(path)
        process.communicate()
    aged(path, 8 * DAY)
    assert prune(base).removed == (str(path),)


def test_what_a_killed_process_had_loaded_goes_once_its_lease_has_run_out(
    made: Callable[..., Path], base: Path
) -> None:
    path, store = made(), open_store(base)
    with start(LOADED, str(path), **{leases.LENGTH: "600"}) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert fates(prune_of(store, EVERYTHING)) == {path.name: "in use"}
    (lease,) = path.glob("lease-*")
    os.utime(lease, (time.time() - 1001,) * 2)
    assert fates(prune_of(store, EVERYTHING)) == {path.name: "remove"}
    assert list(base.iterdir()) == []


def test_what_a_killed_publication_leaves_goes(made: Callable[..., Path], tmp_path: Path) -> None:
    code = """\
        import sys
        from depload.published import runs
        from depload.stores.addresses import open_store

        def moved(done, total):
            print("publishing", flush=True)
            sys.stdin.read()

        run = runs.open_run(sys.argv[1])
        runs.publish(open_store(sys.argv[2]), run.file, run.manifest, moved)
        """
    other = tmp_path / "other"
    with start(code, str(made()), str(other)) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (found,) = prune_of(open_store(other), EVERYTHING).found
    assert (found.kind, found.fate) == ("unfinished run", "in use")
    aged(other, 2 * HOUR)
    assert prune(other).removed
    assert list(other.iterdir()) == []


def test_two_prunes_at_once_do_no_harm(made: Callable[..., Path], base: Path) -> None:
    for number in range(12):
        made(8 * DAY, JOB if number % 3 else "")
    young = made()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: prune(base), range(2)))
    assert list(base.iterdir()) == [young]
    assert verify(young)


# --- clocks ---------------------------------------------------------------------------------------------------------


class _Ahead(DirectoryStore):
    """A store whose clock is ahead of this machine's."""

    def __init__(self, base: str, seconds: float) -> None:
        super().__init__(base)
        self.seconds = seconds

    def list(self, prefix: str = "") -> list[Entry]:
        return [replace(entry, modified=(entry.modified or 0) + self.seconds) for entry in super().list(prefix)]


@pytest.mark.parametrize("seconds", [-300.0, 300.0])
def test_a_store_whose_clock_is_minutes_off_is_pruned_alike(
    seconds: float, made: Callable[..., Path], base: Path
) -> None:
    store = _Ahead(str(base), seconds)
    old, young = made(7 * DAY + 60), made(7 * DAY - 60)
    crashed, crashing = made(HOUR + 60, complete=False), made(HOUR - 60, complete=False)
    used, unused = made(), made()
    for path, minutes in ((used, 24), (unused, 26)):
        lease = path / foreign_lease(store, path.name)
        aged(path, 8 * DAY)
        os.utime(lease, (time.time() - minutes * 60,) * 2)
    found = fates(prune_of(store, Rules(timedelta(days=7))))
    assert found == {
        **{path.name: "remove" for path in (old, crashed)},
        **{path.name: "keep" for path in (young, crashing, unused)},  # its lease was renewed 26 minutes ago
        used.name: "in use",
    }


def test_what_a_store_does_not_say_the_age_of_stays(base: Path) -> None:
    class Timeless(DirectoryStore):
        def list(self, prefix: str = "") -> list[Entry]:
            return [replace(entry, modified=None) for entry in super().list(prefix)]

    put(base, f"wheels/{SHA}.whl", age=99 * DAY)
    (found,) = prune_of(Timeless(str(base)), EVERYTHING).found
    assert (found.fate, found.why) == ("keep", "the store does not say how old it is")


# --- what goes wrong ------------------------------------------------------------------------------------------------


class _CutShort(DirectoryStore):
    """As if this process were killed at the n-th removal."""

    def __init__(self, base: str, left: int) -> None:
        super().__init__(base)
        self.left = left

    def remove(self, key: str) -> None:
        if not key.startswith("clock-"):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        super().remove(key)


@pytest.mark.parametrize("left", range(4))
def test_a_removal_that_is_cut_short_is_finished_by_the_next_prune(
    left: int, made: Callable[..., Path], base: Path
) -> None:
    path = made(8 * DAY)
    foreign_lease(open_store(base), path.name)
    aged(path, 8 * DAY)
    store = _CutShort(str(base), left)
    with pytest.raises(KeyboardInterrupt):
        removal.remove_unless_leased(store, path.name, store.list(path.name), Clock())
    assert (path / runs.MANIFEST).exists() == (left == 0)
    aged(base, 8 * DAY)
    prune(base)
    assert list(base.iterdir()) == []


def test_a_fault_in_one_stops_nothing_else_and_is_told_in_the_end(workspace: Server, source: Path) -> None:
    client = workspace.client()
    address = f"{VOLUME}/deps"
    paths = sorted(convert(source, address, options=OFFLINE, cache=False, via=client).path for _ in range(3))
    workspace.faults.add(Forbidden(), method="DELETE", path=f"{paths[1]}/{runs.MANIFEST}")
    with pytest.raises(PruneError, match="WRITE VOLUME") as raised:
        pruning.pruned(open_store(address, client), EVERYTHING)
    error = raised.value
    assert [fault.where for fault in error.faults] == [paths[1]]
    assert error.pruned.removed == (paths[0], paths[2])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert verify(paths[1], via=client)
    assert pruning.pruned(open_store(address, client), EVERYTHING).removed == (paths[1],)


@pytest.mark.parametrize("fault", [TooManyRequests(retry_after=0), Unavailable(), LostAnswer(), Slow(start=0.5)])
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_prune_gets_through_what_passes(method: str, fault: Any, workspace: Server, source: Path) -> None:
    client, address = workspace.client(), f"{VOLUME}/deps"
    path = convert(source, address, options=OFFLINE, cache=False, via=client).path
    workspace.faults.add(fault, method=method, path="deps", times=2)
    assert pruning.pruned(open_store(address, client), EVERYTHING).removed == (path,)


def test_who_comes_between_finding_and_removing_is_left_alone(made: Callable[..., Path], base: Path) -> None:
    store, rules, clock = open_store(base), Rules(timedelta(days=7)), Clock()
    used, completed, changed, gone = made(8 * DAY), made(2 * HOUR, complete=False), made(8 * DAY), made(8 * DAY)
    found = bases.scan(store, rules, clock)
    assert {each.fate for each in found} == {"remove"}
    foreign_lease(store, used.name)
    (completed / runs.MANIFEST).write_bytes((used / runs.MANIFEST).read_bytes())
    (changed / "notes.txt").write_text("mine")
    shutil.rmtree(gone)
    done = {each.key: each.fate for each in pruning.remove(store, found, rules, clock)}
    assert done == {used.name: "in use", completed.name: "keep", changed.name: "keep", gone.name: "remove"}
    assert verify(used)
    assert (completed / runs.MANIFEST).exists()
    assert (changed / "notes.txt").exists()


# --- the command and the task ---------------------------------------------------------------------------------------


def depload(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "depload", *words], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def test_the_command_prints_a_table_and_json(made: Callable[..., Path], base: Path) -> None:
    old, young = made(8 * DAY), made()
    put(base, "precious.csv", age=99 * DAY)
    would = depload("prune", str(base), "--dry-run").stdout
    assert "would be removed  old" in would
    assert "would be removed: 1 path, " in would
    assert "precious" not in would
    assert "precious" in depload("prune", str(base), "--dry-run", "--verbose").stdout
    said = json.loads(depload("prune", str(base), "--max-size", "50GB", "--json").stdout)
    assert {each["path"]: each["fate"] for each in said["found"]} == {
        str(old): "remove",
        str(young): "keep",
        str(base / "precious.csv"): "keep",
    }
    assert (said["dry_run"], said["freed"] > 0, said["kept"] > 0) == (False, True, True)
    assert set(base.iterdir()) == {young, base / "precious.csv"}


@pytest.mark.parametrize(("option", "value"), [("--older-than", "soon"), ("--max-size", "much")])
def test_a_quantity_that_cannot_be_understood_is_told_with_an_example(option: str, value: str, base: Path) -> None:
    assert f"'{value}' is not a" in depload("prune", str(base), option, value, code=1).stderr


def test_the_command_says_who_uses_a_run_path_and_removes_it_where_it_is_told_to(made: Callable[..., Path]) -> None:
    path = made()
    foreign_lease(open_store(path.parent), path.name)
    assert "--leased remove" in depload("cleanup", str(path), code=1).stderr
    waited = depload("cleanup", str(path), "--leased", "wait", "--timeout", "0.1s", code=1).stderr
    assert f"{path} is in use: load on host" in waited
    assert depload("cleanup", str(path), "--leased", "remove").stdout.startswith("removed ")


def test_the_task_prints_what_became_of_everything(
    made: Callable[..., Path], base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = made(8 * DAY)
    assert tasks.prune_wheelhouses(str(base), dry_run="true").removed == (str(old),)
    assert "would be removed: 1 path" in capsys.readouterr().out
    assert tasks.prune_wheelhouses(str(base), older_than="7d", max_size="1GB").removed == (str(old),)
    assert "removed: 1 path" in capsys.readouterr().out
    with pytest.raises(UnresolvedParameterError, match="older_than"):
        tasks.prune_wheelhouses(str(base), older_than="{{job.parameters.age}}")


def test_the_task_prints_what_was_done_before_it_fails(
    made: Callable[..., Path], base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = made(8 * DAY)

    def refuse(self: DirectoryStore, key: str) -> None:
        raise StoreError(self.location(key), "Permission denied")

    monkeypatch.setattr(DirectoryStore, "remove", refuse)
    with pytest.raises(PruneError, match="Permission denied"):
        tasks.prune_wheelhouses(str(base))
    assert "not removed although they should be: 1" in capsys.readouterr().out
    assert verify(old)


def test_a_span_or_size_that_is_none_is_refused(base: Path) -> None:
    for given in ({"older_than": "7"}, {"max_size": "50 G"}):
        with pytest.raises(DeploadError, match="write it as"):
            prune(base, **given)  # type: ignore[arg-type]
    assert prune(base, older_than=dt.timedelta(days=1), max_size=10).found == ()
