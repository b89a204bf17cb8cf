"""Every store through the same tests: directories, volumes and DBFS by the SDK and by dbutils, and object stores."""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from conftest import OFFLINE, make_wheel, run_python
from depload import cleanup, convert, detect, load, verify
from depload.errors import (
    AlteredWheelhouseError,
    CleanupError,
    MissingWheelhouseError,
    NotInStoreError,
    OldRuntimeError,
    SourceError,
    StoreError,
    ToolMissingError,
    TransferError,
)
from depload.published import runs
from depload.stores import addresses, platform, transfers
from depload.stores.addresses import open_store, split
from depload.stores.directory import DirectoryStore
from workspace import LostAnswer, ResetWhileSending, Server, Slow, TooManyRequests, Truncated, Unavailable, WrongByte

if TYPE_CHECKING:
    from pathlib import Path

    from depload.stores.store import Store

pytest_plugins = ["workspace.fixture", "places"]

VOLUME = "/Volumes/main/default/depload"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is larger than a block of anything but a multipart upload."""
    path = tmp_path / "file"
    path.write_bytes(b"depload\n" * 400_000)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the verbs ------------------------------------------------------------------------------------------------------


def test_what_is_put_is_read_again(store: Store, file: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    transfers.send(store, "run/file.zip", file, sha256(file), lambda done, total: told.append((done, total)))
    transfers.receive(store, "run/file.zip", tmp_path / "again", sha256(file))
    assert sha256(tmp_path / "again") == sha256(file)
    assert told[-1] == (file.stat().st_size, file.stat().st_size)


def test_a_small_file_is_written_and_written_anew(store: Store) -> None:
    store.write("run/run.json", b"first")
    store.write("run/run.json", b"second, which is longer")
    store.write("run/run.json", b"third")
    assert transfers.read(store, "run/run.json") == b"third"


def test_an_empty_file_is_a_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    transfers.send(store, "run/empty", tmp_path / "empty", sha256(tmp_path / "empty"))
    assert [(entry.name, entry.size) for entry in store.list("run")] == [("empty", 0)]


def test_a_missing_file_is_told_by_its_place(store: Store) -> None:
    with pytest.raises(NotInStoreError) as raised:
        transfers.read(store, "run/nothing")
    assert store.location("run/nothing") in str(raised.value)


def test_a_list_is_what_lies_directly_below(store: Store) -> None:
    assert store.list() == store.list("no/such") == []
    store.write("b/file", b"12345")
    store.write("b/deep/er/file", b"1")
    store.write("a", b"123")
    assert [(entry.name, entry.is_directory, entry.size) for entry in store.list()] == [("a", False, 3), ("b", True, 0)]
    assert [(entry.name, entry.is_directory) for entry in store.list("b")] == [("deep", True), ("file", False)]


def test_names_may_hold_what_a_url_must_quote(store: Store) -> None:
    for name in ("a b.txt", "100%25.txt", "ä+b.txt", "x#y.txt"):
        store.write(f"odd/{name}", name.encode())
    assert {entry.name for entry in store.list("odd")} == {"a b.txt", "100%25.txt", "ä+b.txt", "x#y.txt"}
    assert transfers.read(store, "odd/100%25.txt") == b"100%25.txt"


def test_removing_takes_a_file_or_all_that_is_below_and_never_minds_what_is_gone(store: Store) -> None:
    for key in ("run/one", "run/sub/two", "runner/three"):
        store.write(key, b"x")
    store.remove("run/one")
    assert [entry.name for entry in store.list("run")] == ["sub"]
    store.remove("run")
    store.remove("run")
    assert [entry.name for entry in store.list()] == ["runner"]


def test_only_an_empty_directory_is_removed_as_one(store: Store) -> None:
    store.write("run/file", b"x")
    assert not store.rmdir("run")
    assert [entry.name for entry in store.list("run")] == ["file"]
    store.remove("run/file")
    assert store.rmdir("run")
    assert store.rmdir("run")
    assert store.list() == []


# --- the whole way --------------------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make_wheel(folder, "alpha", "1.0", {"alpha/__init__.py": "NAME = 'alpha'\n"})
    return folder


def test_a_run_is_published_verified_loaded_and_cleaned_up(store: Store, place: tuple[str, Any], source: Path) -> None:
    address, via = place
    converted = convert(source, address, options=OFFLINE, via=via)
    assert converted.path.startswith(address)
    assert converted.wheelhouse.startswith(f"{converted.path}/")
    assert verify(converted.path, via=via) == converted.manifest
    with load(converted.path, imports=["alpha"], via=via) as loaded:
        assert loaded.digest == converted.digest
    cleaned = cleanup(converted.path, via=via)
    assert cleaned.removed
    assert cleaned.size > converted.size
    assert store.list() == []
    assert not cleanup(converted.path, via=via).removed
    with pytest.raises(MissingWheelhouseError, match="there is no such path"):
        verify(converted.path, via=via)


def test_a_source_may_lie_in_a_store_as_a_file_or_as_a_directory(
    store: Store, place: tuple[str, Any], source: Path, tmp_path: Path
) -> None:
    address, via = place
    (wheel,) = source.iterdir()
    store.put("sources/sub/" + wheel.name, wheel)
    (tmp_path / "requirements.txt").write_text("alpha\n")
    store.put("sources/requirements.txt", tmp_path / "requirements.txt")
    assert detect(f"{address}/sources/sub/{wheel.name}", via=via).format == "wheels"
    converted = convert(f"{address}/sources", tmp_path / "base", options=OFFLINE, via=via)
    assert [each.name for each in converted.wheels] == ["alpha"]
    with pytest.raises(SourceError, match=r"no such file"):
        detect(f"{address}/nothing.zip", via=via)


def test_cleanup_refuses_what_it_did_not_put_there(store: Store, place: tuple[str, Any]) -> None:
    address, via = place
    run = str(uuid.uuid4())
    store.write(f"{run}/precious.csv", b"1,2,3")
    with pytest.raises(CleanupError, match=r"holds what depload did not put there \(precious.csv\)"):
        cleanup(f"{address}/{run}", via=via)
    assert [entry.name for entry in store.list(run)] == ["precious.csv"]


def test_a_publish_cut_short_is_invisible_and_removed_by_cleanup(
    store: Store, place: tuple[str, Any], source: Path
) -> None:
    address, via = place
    converted = convert(source, address, options=OFFLINE, via=via)
    store.remove(f"{split(converted.path)[1]}/{runs.MANIFEST}")
    with pytest.raises(Exception, match="its publication was not completed"):
        runs.open_run(converted.path, via)
    assert cleanup(converted.path, via=via).removed


def test_a_wheelhouse_that_was_altered_in_its_store_is_refused(
    store: Store, place: tuple[str, Any], source: Path, tmp_path: Path
) -> None:
    address, via = place
    converted = convert(source, address, options=OFFLINE, via=via)
    (tmp_path / "other").write_bytes(b"something else")
    store.put(f"{split(converted.path)[1]}/{converted.wheelhouse.rpartition('/')[2]}", tmp_path / "other")
    with pytest.raises(AlteredWheelhouseError):
        verify(converted.path, via=via)


# --- what goes wrong on the way -------------------------------------------------------------------------------------

BY_SDK = pytest.mark.parametrize(
    ("address", "written", "read"),
    [
        (f"{VOLUME}/deps", r"/fs/files/Volumes/.*zip|/part/", r"/Volumes/.*zip"),
        ("dbfs:/deps", "add-block", "dbfs/read"),
    ],
    ids=["volume", "DBFS"],
)


@BY_SDK
@pytest.mark.parametrize("fault", [TooManyRequests(retry_after=0), Unavailable(), LostAnswer(), Slow(start=0.5)])
def test_a_publish_gets_through_what_passes(
    fault: Any, address: str, written: str, read: str, workspace: Server, source: Path
) -> None:
    del read
    workspace.faults.add(fault, path=written, times=1)
    converted = convert(source, address, options=OFFLINE, via=workspace.client())
    assert verify(converted.path, via=workspace.client()) == converted.manifest


@BY_SDK
@pytest.mark.parametrize(
    "fault", [TooManyRequests(retry_after=0), Unavailable(), ResetWhileSending(after_bytes=200), Slow(start=0.5)]
)
def test_a_load_gets_through_what_passes(
    fault: Any, address: str, written: str, read: str, workspace: Server, source: Path
) -> None:
    del written
    converted = convert(source, address, options=OFFLINE, via=workspace.client())
    workspace.faults.add(fault, method="GET", path=read, times=1)
    assert verify(converted.path, via=workspace.client()) == converted.manifest


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        (f"{VOLUME}/deps", WrongByte(at=300)),
        (f"{VOLUME}/deps", Truncated(at=300, told=True)),
        ("dbfs:/deps", WrongByte(at=300)),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_what_arrives_altered_is_fetched_once_more_and_then_refused(
    times: int, address: str, fault: Any, workspace: Server, source: Path, tmp_path: Path
) -> None:
    converted = convert(source, address, options=OFFLINE, via=workspace.client())
    store, name = open_store(converted.path, workspace.client()), converted.wheelhouse.rpartition("/")[2]
    expected = runs.open_run(converted.path, workspace.client()).sha256
    workspace.faults.add(
        fault, method="GET", path=f"/download/.*{name}|read.*{name}.*offset=0|offset=0.*{name}", times=times
    )
    if times == 1:
        transfers.receive(store, name, tmp_path / "again", expected)
        assert sha256(tmp_path / "again") == expected
        return
    with pytest.raises(TransferError, match="arrived altered"):
        transfers.receive(store, name, tmp_path / "again", expected)


def test_a_place_that_is_not_there_or_forbidden_says_so(workspace: Server, source: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="see whether the catalog, schema and volume exist"):
        convert(source, "/Volumes/main/default/nowhere/deps", options=OFFLINE, via=workspace.client())
    with (
        Server(tmp_path / "without", dbfs_root=False) as other,
        pytest.raises(StoreError, match="DBFS root is disabled"),
    ):
        convert(source, "dbfs:/deps", options=OFFLINE, via=other.client())


# --- which store an address means -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "folder", "name"),
    [
        ("/tmp/deps/run", "/tmp/deps", "run"),
        ("/tmp/deps/run/", "/tmp/deps", "run"),
        ("file:/tmp/deps/run", "/tmp/deps", "run"),
        ("file:///tmp/deps/run", "/tmp/deps", "run"),
        ("dbfs:/deps/run", "dbfs:/deps", "run"),
        ("/Volumes/a/b/c/run/", "/Volumes/a/b/c", "run"),
        ("s3://bucket/deps/run", "s3://bucket/deps", "run"),
        ("abfss://box@account.dfs.core.windows.net/run", "abfss://box@account.dfs.core.windows.net", "run"),
    ],
)
def test_an_address_splits_into_where_and_what(address: str, folder: str, name: str) -> None:
    assert split(address) == (folder, name)


def test_a_mounted_volume_is_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses._Place, "mount", property(lambda place: tmp_path / place.path[1:]))
    (tmp_path / "Volumes/main/default/depload").mkdir(parents=True)
    for address in (f"{VOLUME}/deps", f"dbfs:{VOLUME}/deps"):
        store = open_store(address)
        assert isinstance(store, DirectoryStore)
        store.write("run/file", b"x")
    assert (tmp_path / "Volumes/main/default/depload/deps/run/file").read_bytes() == b"x"


@pytest.mark.parametrize("address", [f"{VOLUME}/deps", f"dbfs:{VOLUME}/deps"])
@pytest.mark.parametrize("runtime", ["12.2", "11.3", "9.1"])
def test_volumes_are_refused_on_old_runtimes(address: str, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(platform.RUNTIME, runtime)
    with pytest.raises(OldRuntimeError, match=rf"Databricks runtime {runtime}"):
        open_store(address)


def test_an_unknown_scheme_names_those_that_are_known() -> None:
    with pytest.raises(
        StoreError, match=r"ftp: addresses are not known; give a directory, or one of dbfs:/, /Volumes/"
    ):
        open_store("ftp://host/deps")


def test_the_sdks_own_dbutils_is_refused_because_it_cannot_tell_a_directory(workspace: Server) -> None:
    with pytest.raises(StoreError, match="give its client"):
        open_store("dbfs:/deps", workspace.client(cluster_id="0000-000000-none").dbutils)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(ToolMissingError, match=r"needs gcsfs, which is not here; pip install 'depload\[cloud\]'"):
        open_store("gs://bucket/deps")


def test_without_a_workspace_to_ask_it_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DATABRICKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match=r"is not mounted here, and no workspace can be asked .*databricks auth login"):
        open_store("dbfs:/deps")


def test_a_workspace_file_is_a_source_and_no_base(workspace: Server, source: Path) -> None:
    (wheel,) = source.iterdir()
    client = workspace.client()
    client.workspace.mkdirs("/Workspace/Users/me")
    with wheel.open("rb") as opened:
        client.workspace.upload(f"/Workspace/Users/me/{wheel.name}", opened, format=_auto(), overwrite=True)
    assert detect(f"/Workspace/Users/me/{wheel.name}", via=client).format == "wheels"
    with pytest.raises(StoreError, match="is not a place for run paths; give a base on a volume"):
        convert(source, "/Workspace/Users/me", options=OFFLINE, via=client)
    client.workspace.mkdirs("/Workspace/Users/me/empty")
    with pytest.raises(StoreError, match="is not removed by depload; remove it in the workspace"):
        open_store("/Workspace/Users/me", via=client).rmdir("empty")


def _auto() -> Any:
    from databricks.sdk.service.workspace import ImportFormat

    return ImportFormat.AUTO


def test_a_client_is_made_of_what_the_environment_says(workspace: Server, source: Path) -> None:
    code = """\
        import json, sys
        import depload

        converted = depload.convert(sys.argv[1], sys.argv[2], options=depload.IndexOptions(no_index=True))
        with depload.load(converted.path, imports=["alpha"]) as loaded:
            print(json.dumps([loaded.digest, depload.cleanup(converted.path).removed]))
        """
    digest, removed = run_python(code, str(source), f"{VOLUME}/deps", **workspace.environment)
    assert len(digest) == 64
    assert removed
    assert not list((workspace.folder / "volumes").rglob("*.zip"))


def test_a_large_transfer_stays_in_small_memory(workspace: Server, tmp_path: Path) -> None:
    """300 MB up and down, by parts, in a process that may not grow by more than 64 MB."""
    code = """\
        import hashlib, json, resource, sys
        from pathlib import Path
        from databricks.sdk import WorkspaceClient
        from depload.stores import transfers
        from depload.stores.addresses import open_store

        file = Path(sys.argv[1])
        digest = hashlib.sha256()
        with file.open("wb") as opened:
            for number in range(300):
                block = number.to_bytes(4, "big") * (1 << 18)
                opened.write(block)
                digest.update(block)
        store = open_store(sys.argv[2], WorkspaceClient())
        store.write("small", b"so that everything is imported")
        transfers.read(store, "small")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        transfers.send(store, "large", file, digest.hexdigest())
        transfers.receive(store, "large", file, digest.hexdigest())
        print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024))
        """
    grown = run_python(code, str(tmp_path / "large"), f"{VOLUME}/deps", **workspace.environment)
    assert grown < 64


def test_loading_imports_no_store_but_the_one_it_needs(source: Path, base: Path) -> None:
    converted = convert(source, base, options=OFFLINE)
    code = """\
        import json, sys
        import depload

        depload.load(sys.argv[1])
        print(json.dumps([name for name in ("fsspec", "databricks.sdk", "requests") if name in sys.modules]))
        """
    assert run_python(code, converted.path) == []
