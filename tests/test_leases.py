"""Leases: who uses a run path says so, is left alone, and does not stand in the way once it is gone."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from conftest import OFFLINE, make_wheel, run_python
from depload import cleanup, convert, load, verify
from depload.errors import (
    CleanupError,
    DeploadError,
    LeasedError,
    MissingWheelhouseError,
    NotAWheelhouseError,
)
from depload.loading import loader
from depload.published import holds, leases, removal, runs
from depload.published.leases import Clock
from depload.stores import transfers
from depload.stores.addresses import open_store, split
from depload.stores.directory import DirectoryStore
from workspace import Forbidden, LostAnswer, ResetWhileSending, Server, TooManyRequests, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from depload.stores.store import Entry, Store

pytest_plugins = ["workspace.fixture", "places"]

VOLUME = "/Volumes/main/default/depload"

MINUTE = 60.0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make_wheel(folder, "alpha", "1.0", {"alpha/__init__.py": "NAME = 'alpha'\n"})
    return folder


@pytest.fixture
def here(source: Path, base: Path) -> Path:
    """A run path in a directory."""
    return Path(convert(source, base, options=OFFLINE, cache=False).path)


@pytest.fixture
def anywhere(store: Store, place: tuple[str, Any], source: Path) -> str:
    """A run path in each kind of store."""
    del store
    address, via = place
    return convert(source, address, options=OFFLINE, cache=False, via=via).path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leases of a third of a second."""
    monkeypatch.setenv(leases.LENGTH, "0.3")
    yield
    monkeypatch.setenv(leases.LENGTH, "0.1")


def names_of_leases(store: Store, run: str) -> list[str]:
    return [entry.name for entry in store.list(run) if leases.is_lease(entry.name)]


def foreign_lease(store: Store, run: str, purpose: str = "load", ahead: float = 0.0) -> str:
    """A lease of another process, whose clock is so many seconds ahead; its name."""
    said = json.loads(leases.content(purpose))
    for key in ("renewed", "until"):
        said[key] = (dt.datetime.fromisoformat(said[key]) + dt.timedelta(seconds=ahead)).isoformat()
    name = leases.fresh_name()
    store.write(f"{run}/{name}", json.dumps({**said, "host": "elsewhere", "pid": 4711}).encode())
    return name


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it does not come")


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A process that has said a line once it is where it should be."""
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


LOADED = """\
    import sys
    import depload

    loaded = depload.load(sys.argv[1])
    print("loaded", flush=True)
    sys.stdin.read()
    """


# --- while a run path is loaded -------------------------------------------------------------------------------------


def test_a_load_holds_a_lease_that_says_who_and_unloading_ends_it(
    anywhere: str, store: Store, place: tuple[str, Any]
) -> None:
    run = split(anywhere)[1]
    assert names_of_leases(store, run) == []
    with load(anywhere, via=place[1]) as loaded:
        (name,) = names_of_leases(store, run)
        said = json.loads(transfers.read(store, f"{run}/{name}"))
        assert (said["for"], said["pid"]) == ("load", os.getpid())
        assert said["renewed"] < said["until"]
        assert loaded.report.lease == ""
        assert verify(anywhere, via=place[1]).digest == loaded.digest
    assert names_of_leases(store, run) == []


def test_several_loads_of_a_run_path_share_a_lease_until_the_last_is_unloaded(here: Path) -> None:
    store, run = open_store(here.parent), here.name
    first = load(here)
    before = names_of_leases(store, run)
    second = load(here)
    assert len(before) == 1
    first.unload()
    assert names_of_leases(store, run) == before
    second.unload()
    assert names_of_leases(store, run) == []


def test_run_paths_with_the_same_digest_are_leased_each(here: Path, source: Path, base: Path) -> None:
    other = Path(convert(source, base, options=OFFLINE, cache=False).path)
    store = open_store(base)
    with load(here), load(other):
        assert [len(names_of_leases(store, path.name)) for path in (here, other)] == [1, 1]
    assert [len(names_of_leases(store, path.name)) for path in (here, other)] == [0, 0]


def test_a_file_on_its_own_has_no_lease_and_the_report_says_so(here: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "alpha.wheelhouse.zip"
    alone.parent.mkdir()
    shutil.copy(next(here.glob("*.zip")), alone)
    with load(alone) as loaded:
        assert loaded.report.lease == "none, because only a run path has one"
        assert "lease" in str(loaded.report)
        assert [file.name for file in alone.parent.iterdir()] == [alone.name]


def test_where_no_lease_can_be_written_the_load_goes_on_and_the_report_says_so(workspace: Server, source: Path) -> None:
    path = convert(source, f"{VOLUME}/deps", options=OFFLINE, cache=False, via=workspace.client()).path
    workspace.faults.add(Forbidden(), method="PUT", path="lease-")
    with load(path, via=workspace.client()) as loaded:
        assert loaded.report.lease.startswith("none, because it could not be written: ")
        assert "WRITE VOLUME" in loaded.report.lease


def test_a_load_that_fails_leaves_no_lease(here: Path) -> None:
    with pytest.raises(DeploadError, match="hand over spark="):
        load(here, isolation="process")
    assert names_of_leases(open_store(here.parent), here.name) == []


def test_a_run_path_that_was_removed_under_a_reader_that_came_to_hold_it_is_gone(here: Path) -> None:
    foreign_lease(DirectoryStore(str(here.parent)), here.name)
    for path in here.iterdir():
        if not leases.is_lease(path.name):
            path.unlink()
    with pytest.raises(MissingWheelhouseError, match="it may have been cleaned up"):
        load(here)


def test_loading_what_is_not_there_makes_nothing(store: Store, place: tuple[str, Any]) -> None:
    with pytest.raises(MissingWheelhouseError):
        load(f"{place[0]}/{uuid.uuid4()}", via=place[1])
    assert store.list() == []


@pytest.mark.parametrize("fault", [TooManyRequests(retry_after=0), Unavailable(), LostAnswer(), ResetWhileSending()])
def test_a_lease_gets_through_what_passes(fault: Any, workspace: Server, source: Path) -> None:
    path = convert(source, f"{VOLUME}/deps", options=OFFLINE, cache=False, via=workspace.client()).path
    workspace.faults.add(fault, method="PUT", path="lease-")
    with load(path, via=workspace.client()) as loaded:
        assert loaded.report.lease == ""
    assert not list((workspace.folder / "volumes").rglob("lease-*"))


# --- renewal --------------------------------------------------------------------------------------------------------


def content(file: Path) -> str:
    """What it holds, at a moment when it is not being written."""
    wait_for(lambda: file.read_text().endswith("}"))
    return file.read_text()


@pytest.mark.usefixtures("quick")
def test_a_lease_is_renewed_as_long_as_it_is_held(here: Path) -> None:
    with load(here):
        (file,) = here.glob("lease-*")
        first = file.read_text()
        wait_for(lambda: file.read_text() not in ("", first))
        second = file.read_text()
        wait_for(lambda: file.read_text() not in ("", first, second))


@pytest.mark.usefixtures("quick")
def test_one_thread_renews_all_leases(here: Path, source: Path, base: Path) -> None:
    with load(here), load(convert(source, base, options=OFFLINE, cache=False).path):
        assert [thread.name for thread in threading.enumerate()].count("depload-leases") == 1


@pytest.mark.usefixtures("quick")
def test_a_renewal_does_not_bring_back_a_run_path_that_was_removed(here: Path) -> None:
    with load(here):
        shutil.rmtree(here)
        wait_for(lambda: not holds.own())
        assert not here.exists()


@pytest.mark.usefixtures("quick")
def test_a_manifest_that_is_taken_away_and_put_back_ends_no_lease(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "_MISSES", 1_000_000)
    with load(here):
        (file,) = here.glob("lease-*")
        (here / runs.MANIFEST).rename(here.parent / "aside")
        time.sleep(0.2)
        first = content(file)
        (here.parent / "aside").rename(here / runs.MANIFEST)
        wait_for(lambda: content(file) != first)


@pytest.mark.usefixtures("quick")
def test_a_renewal_that_fails_is_tried_again(workspace: Server, source: Path) -> None:
    client = workspace.client(retry_timeout_seconds=1)
    path = convert(source, f"{VOLUME}/deps", options=OFFLINE, cache=False, via=client).path
    with load(path, via=client):
        fault = workspace.faults.add(Forbidden(), method="PUT", path="lease-", times=2)
        wait_for(lambda: fault.happened == 2)
        (file,) = (workspace.folder / "volumes").rglob("lease-*")
        first = file.read_text()
        wait_for(lambda: file.read_text() != first)


@pytest.mark.usefixtures("quick")
def test_a_lease_ends_with_the_session_that_it_is_for(here: Path) -> None:
    context = SimpleNamespace(_jsc=object(), _active_spark_context=object())
    store = open_store(here.parent)
    hold = holds.take(
        store, here.name, "load", beside=runs.MANIFEST, ended=lambda: loader._is_stopped(SimpleNamespace(_sc=context))
    )
    assert len(names_of_leases(store, here.name)) == 1
    context._jsc = None
    wait_for(lambda: not names_of_leases(store, here.name))
    hold.release()


@pytest.mark.spark
def test_a_lease_ends_once_its_spark_session_was_stopped(here: Path) -> None:
    code = """\
        import glob, json, sys, time
        import depload
        from depload.local.embedded import spark_session

        answer = []
        with spark_session("local[1]") as spark:
            depload.load(sys.argv[1], spark)
            time.sleep(1)
            answer.append(len(glob.glob(sys.argv[1] + "/lease-*")))
        for _ in range(600):
            if not glob.glob(sys.argv[1] + "/lease-*"):
                answer.append(0)
                break
            time.sleep(0.1)
        print(json.dumps(answer))
        """
    assert run_python(code, str(here), **{leases.LENGTH: "0.6"}) == [1, 0]


def test_whether_a_session_was_stopped_is_asked_of_its_object_alone() -> None:
    connect = type("SparkSession", (), {"__module__": "pyspark.sql.connect.session", "is_stopped": False})()
    assert not loader._is_stopped(connect)
    connect.is_stopped = True
    assert loader._is_stopped(connect)
    context = SimpleNamespace(_jsc=1, _active_spark_context=1)
    assert not any(loader._is_stopped(spark) for spark in (None, context, SimpleNamespace(_sc=context), object()))
    assert loader._is_stopped(SimpleNamespace(_sc=SimpleNamespace(_jsc=1, _active_spark_context=None)))
    assert loader._is_stopped(SimpleNamespace(_jsc=None))


# --- processes ------------------------------------------------------------------------------------------------------


def test_a_process_that_ends_takes_its_lease_along(here: Path) -> None:
    assert run_python("import json, sys, depload; depload.load(sys.argv[1]); print(json.dumps(1))", str(here)) == 1
    assert names_of_leases(open_store(here.parent), here.name) == []


def test_what_another_process_has_loaded_is_refused_until_it_is_gone(here: Path) -> None:
    with start(LOADED, str(here)) as process:
        with pytest.raises(LeasedError, match=f"in use: load on host .*, process {process.pid}, until 20") as raised:
            cleanup(here)
        assert [lease.pid for lease in raised.value.leases] == [process.pid]
        assert verify(here)
        process.communicate()
    assert cleanup(here).removed


def test_a_killed_process_is_waited_for_as_long_as_its_lease_counts(here: Path) -> None:
    with start(LOADED, str(here), **{leases.LENGTH: "600"}) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (lease,) = here.glob("lease-*")
    told: list[str] = []
    later = threading.Timer(0.5, os.utime, [lease, (time.time() - 1001,) * 2])  # 600 s, and two thirds of that
    later.start()
    assert cleanup(here, leased="wait", timeout="5m", progress=told.append).removed
    later.join()
    assert [f"process {process.pid}" in text for text in told] == [True]
    assert list(here.parent.iterdir()) == []


def test_a_child_of_a_fork_neither_renews_nor_ends_what_its_parent_holds(here: Path) -> None:
    code = """\
        import glob, json, os, sys, threading
        import depload

        loaded = depload.load(sys.argv[1])
        before = glob.glob(sys.argv[1] + "/lease-*")
        child = os.fork()
        if not child:
            from depload.published import holds

            loaded.unload()
            os._exit(len(holds.own()) + threading.active_count())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([code, len(before), glob.glob(sys.argv[1] + "/lease-*") == before]))
        """
    assert run_python(code, str(here)) == [1, 1, True]


def test_a_child_of_a_fork_can_load_for_itself(here: Path) -> None:
    code = """\
        import glob, json, os, sys
        import depload

        loaded = depload.load(sys.argv[1])
        child = os.fork()
        if not child:
            depload.load(sys.argv[1])
            os._exit(len(glob.glob(sys.argv[1] + "/lease-*")))
        print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        """
    assert run_python(code, str(here)) == 2


# --- cleanup --------------------------------------------------------------------------------------------------------


def test_cleanup_refuses_what_is_in_use_and_leaves_it_whole(
    anywhere: str, store: Store, place: tuple[str, Any]
) -> None:
    foreign_lease(store, split(anywhere)[1])
    with pytest.raises(LeasedError, match=r"in use: load on host elsewhere, process 4711, until .*leased='wait'"):
        cleanup(anywhere, via=place[1])
    assert verify(anywhere, via=place[1])


def test_cleanup_removes_what_is_in_use_where_it_is_told_to(
    anywhere: str, store: Store, place: tuple[str, Any]
) -> None:
    foreign_lease(store, split(anywhere)[1])
    assert cleanup(anywhere, leased="remove", via=place[1]).removed
    assert store.list() == []


def test_cleanup_waits_until_a_lease_is_released(anywhere: str, store: Store, place: tuple[str, Any]) -> None:
    run = split(anywhere)[1]
    name = foreign_lease(store, run)
    released = threading.Timer(0.5, store.remove, [f"{run}/{name}"])
    released.start()
    assert cleanup(anywhere, leased="wait", timeout="5m", via=place[1]).removed
    released.join()
    assert store.list() == []


def test_cleanup_waits_no_longer_than_it_is_told_to(here: Path) -> None:
    foreign_lease(open_store(here.parent), here.name)
    with pytest.raises(LeasedError):
        cleanup(here, leased="wait", timeout="0.5s")
    assert verify(here)


def test_a_lease_that_has_run_out_does_not_stand_in_the_way(
    anywhere: str, store: Store, place: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(leases.LENGTH, "0.1")
    foreign_lease(store, split(anywhere)[1])
    assert cleanup(anywhere, leased="wait", timeout="5m", via=place[1]).removed
    assert store.list() == []


@pytest.mark.usefixtures("quick")
def test_what_this_process_has_loaded_it_may_remove_and_no_renewal_brings_it_back(here: Path) -> None:
    with load(here):
        assert cleanup(here).removed
        time.sleep(0.5)
        assert list(here.parent.iterdir()) == []
    assert list(here.parent.iterdir()) == []


def test_what_this_process_has_loaded_and_another_one_too_it_may_not_remove(here: Path) -> None:
    store = open_store(here.parent)
    with load(here):
        own = names_of_leases(store, here.name)
        foreign_lease(store, here.name)
        with pytest.raises(LeasedError):
            cleanup(here)
        assert set(own) < set(names_of_leases(store, here.name))


def test_a_publication_that_goes_on_is_not_cleaned_up(here: Path, tmp_path: Path) -> None:
    code = """\
        import sys
        from pathlib import Path
        from depload.published import runs
        from depload.stores.addresses import open_store

        def moved(done, total):
            print("publishing", flush=True)
            sys.stdin.read()

        run = runs.open_run(sys.argv[1])
        runs.publish(open_store(sys.argv[2]), run.file, run.manifest, moved)
        """
    with start(code, str(here), str(tmp_path / "other")) as process:
        (path,) = (tmp_path / "other").iterdir()
        with pytest.raises(LeasedError, match=f"publish on host .*, process {process.pid}"):
            cleanup(path)
        process.communicate()
    assert verify(path)
    assert names_of_leases(open_store(path.parent), path.name) == []


@pytest.mark.parametrize(
    "left", [{}, {"run.json": b""}, {"run.json": b'{"depl'}, {leases.fresh_name(): leases.content("load")}]
)
def test_what_a_process_leaves_that_is_killed_early_is_cleaned_up(left: dict[str, bytes], base: Path) -> None:
    path = base / str(uuid.uuid4())
    path.mkdir(parents=True)
    for name, data in left.items():
        (path / name).write_bytes(data)
    assert cleanup(path, leased="remove").removed
    assert list(base.iterdir()) == []


def test_an_unknown_way_to_treat_leases_is_refused(here: Path) -> None:
    with pytest.raises(CleanupError, match="leased is 'refuse', 'wait' or 'remove', not 'ignore'"):
        cleanup(here, leased="ignore")  # type: ignore[arg-type]
    with pytest.raises(DeploadError, match="'soon' is not a span of time"):
        cleanup(here, leased="wait", timeout="soon")


def test_the_error_pickles() -> None:
    error = LeasedError("/base/run", [leases.Lease("load", "host", 1, "2026-11-20 12:00:00+00:00")])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.leases, again.path) == (str(error), error.leases, "/base/run")


# --- the two orders -------------------------------------------------------------------------------------------------


class _Late(DirectoryStore):
    """Somebody loads the run path in the moment in which its manifest is taken away."""

    def remove(self, key: str) -> None:
        super().remove(key)
        if key.endswith(f"/{runs.MANIFEST}"):
            foreign_lease(self, key.split("/", maxsplit=1)[0])


def test_who_writes_a_lease_before_the_manifest_is_gone_gets_it_back(here: Path) -> None:
    store = _Late(str(here.parent))
    before = (here / runs.MANIFEST).read_bytes()
    held = removal.remove_unless_leased(store, here.name, store.list(here.name), Clock())
    assert [lease.host for lease in held] == ["elsewhere"]
    assert (here / runs.MANIFEST).read_bytes() == before
    assert verify(here)


def test_a_reader_and_a_remover_at_once_never_meet(here: Path, base: Path) -> None:
    """Whoever opens the run path has it whole; whoever removes it has removed it all."""
    store, run = open_store(base), runs.open_run(here)
    with ThreadPoolExecutor(2) as pool:
        for number in range(150):
            path = Path(runs.publish(store, run.file, run.manifest).path)
            remover = pool.submit(_remove, store, path.name, number)
            reader = pool.submit(_read, path)
            reader.result()  # which raises where it met half of one
            removed = remover.result()
            assert path.exists() != removed
            if not removed:
                assert verify(path)
                shutil.rmtree(path)


def _remove(store: Store, name: str, number: int) -> bool:
    time.sleep(number % 10 / 5_000)
    return not removal.remove_unless_leased(store, name, store.list(name), Clock())


def _read(path: Path) -> None:
    with contextlib.suppress(NotAWheelhouseError):
        run, hold = runs.hold_run(path)
        with contextlib.closing(SimpleNamespace(close=hold.release)):
            runs.check(run)
            time.sleep(0.01)
            runs.check(run)


# --- clocks ---------------------------------------------------------------------------------------------------------


class _Ahead(DirectoryStore):
    """A store whose clock is ahead of this machine's."""

    seconds: float | None = 0.0

    def list(self, prefix: str = "") -> list[Entry]:
        return [replace(entry, modified=self._time(entry)) for entry in super().list(prefix)]

    def _time(self, entry: Entry) -> float | None:
        return None if self.seconds is None or entry.modified is None else entry.modified + self.seconds


def counts(store: Store, run: str) -> bool:
    return bool(leases.alive(store, run, store.list(run), Clock(store, run)))


@pytest.mark.parametrize("store_ahead", [-300.0, 0.0, 300.0])
@pytest.mark.parametrize("holder_ahead", [-300.0, 0.0, 300.0])
@pytest.mark.parametrize(("minutes", "alive"), [(0, True), (24, True), (26, False)])
def test_clocks_that_differ_by_minutes_change_nothing(
    minutes: int, alive: bool, holder_ahead: float, store_ahead: float, here: Path
) -> None:
    store = _Ahead(str(here.parent))
    store.seconds = store_ahead
    file = here / foreign_lease(store, here.name, ahead=holder_ahead - minutes * MINUTE)
    os.utime(file, (time.time() - minutes * MINUTE,) * 2)
    assert counts(store, here.name) == alive
    assert sorted(path.name for path in here.iterdir() if leases.is_clock(path.name)) == []


@pytest.mark.parametrize(("minutes", "alive"), [(0, True), (24, True), (26, False)])
def test_where_a_store_gives_no_times_what_the_holder_says_counts(minutes: int, alive: bool, here: Path) -> None:
    store = _Ahead(str(here.parent))
    store.seconds = None
    foreign_lease(store, here.name, ahead=-minutes * MINUTE)
    assert counts(store, here.name) == alive


def test_the_clock_of_every_store_is_learned(store: Store) -> None:
    clock = Clock(store, "clock")
    assert abs(clock.now() - time.time()) < 10 * MINUTE
    assert [entry.name for entry in store.list("clock")] == []


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"[]", b"null", b"[" * 50_000, b'{"until": "soon"}', b'{"until": 7, "renewed": 6}', b"x" * 100_000],
)
def test_a_lease_that_cannot_be_read_may_be_one_that_is_being_written(written: bytes, here: Path) -> None:
    store = open_store(here.parent)
    file = here / leases.fresh_name()
    file.write_bytes(written)
    with pytest.raises(LeasedError, match="use on host unknown"):
        cleanup(here)
    os.utime(file, (time.time() - 26 * MINUTE,) * 2)
    assert not counts(store, here.name)


def test_a_lease_that_says_it_lasts_for_years_lasts_two_days_at_most(here: Path) -> None:
    said = json.loads(leases.content("load"))
    file = here / leases.fresh_name()
    file.write_text(json.dumps({**said, "until": "9999-01-01T00:00:00+00:00"}))
    os.utime(file, (time.time() - 48 * 60 * MINUTE,) * 2)
    assert not counts(open_store(here.parent), here.name)


def test_what_a_lease_says_does_not_steer_a_terminal(here: Path) -> None:
    said = {**json.loads(leases.content("load")), "host": "\x1b[2J\nroot" * 100, "for": "\u202eload"}
    (here / leases.fresh_name()).write_text(json.dumps(said))
    with pytest.raises(LeasedError) as raised:
        cleanup(here)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1_000


@pytest.mark.parametrize(("said", "seconds"), [("", 900), ("60", 60), ("-1", 900), ("x", 900), ("1e9", 86_400)])
def test_the_length_of_a_lease_can_be_set(said: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(leases.LENGTH, said)
    assert leases.length() == seconds
