"""The workspace on loopback: what the SDK asks, it gets as from a real one; and what goes wrong goes wrong as told."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import pytest
import requests
from databricks.sdk.core import DatabricksError
from databricks.sdk.errors import (
    AlreadyExists,
    BadRequest,
    NotFound,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
    Unauthenticated,
)
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType

from workspace import (
    Forbidden,
    LostAnswer,
    ResetWhileReading,
    ResetWhileSending,
    Server,
    ServerError,
    Slow,
    TooManyRequests,
    Truncated,
    Unauthorized,
    Unavailable,
    WrongByte,
)

if TYPE_CHECKING:
    from pathlib import Path

    from databricks.sdk import WorkspaceClient

pytest_plugins = ["workspace.fixture"]

VOLUME = "/Volumes/main/default/depload"
CONTENT = bytes(range(256)) * 2000
PART = 100_000


@pytest.fixture
def client(workspace: Server) -> WorkspaceClient:
    return workspace.client()


@pytest.fixture
def in_parts(workspace: Server) -> WorkspaceClient:
    """A client to which everything of 200 kB is a large file."""
    client = workspace.client()
    config: Any = client.files._config
    config.files_ext_multipart_upload_min_stream_size = 2 * PART
    config.files_ext_multipart_upload_part_size_options = [PART]
    config.files_ext_parallel_download_min_file_size = 2 * PART
    config.files_ext_parallel_download_default_part_size = PART
    return client


def put(client: WorkspaceClient, path: str, content: bytes = CONTENT, **how: Any) -> None:
    client.files.upload(path, io.BytesIO(content), **how)


def got(client: WorkspaceClient, path: str) -> bytes:
    contents = client.files.download(path).contents
    assert contents is not None
    with contents:
        return contents.read()


def names(client: WorkspaceClient, path: str) -> list[str]:
    return [str(each.name) for each in client.files.list_directory_contents(path)]


# --- who asks -------------------------------------------------------------------------------------------------------


def test_a_client_with_the_token_is_known(client: WorkspaceClient) -> None:
    assert client.current_user.me().user_name == "someone@example.com"


def test_a_client_with_another_token_is_refused(workspace: Server) -> None:
    answer = requests.get(
        f"{workspace.url}/api/2.0/preview/scim/v2/Me", headers={"Authorization": "Bearer x"}, timeout=5
    )
    assert (answer.status_code, answer.json()["message"]) == (403, "Invalid access token.")


def test_a_client_without_a_token_is_refused(workspace: Server) -> None:
    assert requests.get(f"{workspace.url}/api/2.0/preview/scim/v2/Me", timeout=5).status_code == 401


def test_what_this_workspace_does_not_have_is_not_found(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match=r"No API found for 'GET /2\.1/clusters/get'"):
        client.clusters.get("x")


# --- volumes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "made/on/the/way.txt", "a b/ü&?#%20+.txt"])
def test_a_file_of_a_volume_is_read_as_it_was_written(client: WorkspaceClient, name: str) -> None:
    put(client, f"{VOLUME}/{name}")
    assert got(client, f"{VOLUME}/{name}") == CONTENT
    assert client.files.get_metadata(f"{VOLUME}/{name}").content_length == len(CONTENT)


def test_a_file_of_no_bytes_is_a_file(client: WorkspaceClient) -> None:
    put(client, f"{VOLUME}/none", b"")
    assert got(client, f"{VOLUME}/none") == b""


def test_files_lie_on_disk_as_files(workspace: Server, client: WorkspaceClient) -> None:
    put(client, f"{VOLUME}/a/b.txt", b"hello")
    assert (workspace.folder / "volumes/main/default/depload/a/b.txt").read_bytes() == b"hello"


def test_a_file_that_is_there_is_overwritten_only_where_that_is_said(client: WorkspaceClient) -> None:
    put(client, f"{VOLUME}/a", b"one")
    with pytest.raises(AlreadyExists):
        put(client, f"{VOLUME}/a", b"two")
    put(client, f"{VOLUME}/a", b"three", overwrite=True)
    assert got(client, f"{VOLUME}/a") == b"three"


def test_a_volume_must_be_there(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match=r"Volume 'main.default.nope' does not exist"):
        put(client, "/Volumes/main/default/nope/a")
    client.volumes.create("main", "default", "nope", VolumeType.MANAGED)
    put(client, "/Volumes/main/default/nope/a")
    assert client.volumes.read("main.default.nope").name == "nope"


@pytest.mark.parametrize("path", ["/Volumes/main/default", "/tmp/a", "/Volumes/main/default/depload/../../x"])
def test_the_files_api_leads_nowhere_but_to_volumes(client: WorkspaceClient, path: str) -> None:
    with pytest.raises(BadRequest):
        put(client, path)


def test_a_file_that_is_not_there_is_not_found(client: WorkspaceClient) -> None:
    for ask in (got, lambda client, path: client.files.get_metadata(path), lambda c, path: c.files.delete(path)):
        with pytest.raises(NotFound):
            ask(client, f"{VOLUME}/none")


def test_a_deleted_file_is_gone(client: WorkspaceClient) -> None:
    put(client, f"{VOLUME}/folder/a")
    client.files.delete(f"{VOLUME}/folder/a")
    assert names(client, f"{VOLUME}/folder") == []


def test_a_directory_that_holds_something_is_not_deleted(client: WorkspaceClient) -> None:
    put(client, f"{VOLUME}/folder/a")
    with pytest.raises(BadRequest, match="not empty"):
        client.files.delete_directory(f"{VOLUME}/folder")
    client.files.delete(f"{VOLUME}/folder/a")
    client.files.delete_directory(f"{VOLUME}/folder")
    with pytest.raises(NotFound):
        client.files.get_directory_metadata(f"{VOLUME}/folder")


def test_a_long_listing_comes_in_pages(client: WorkspaceClient) -> None:
    client.files.create_directory(f"{VOLUME}/many")
    for number in range(5):
        put(client, f"{VOLUME}/many/{number}", b"")
    found = client.files.list_directory_contents(f"{VOLUME}/many", page_size=2)
    assert [each.name for each in found] == list("01234")


def test_where_storage_knows_no_directories_one_goes_with_its_last_file(tmp_path: Path) -> None:
    with Server(tmp_path, forgets_empty=True) as workspace:
        client = workspace.client()
        put(client, f"{VOLUME}/a/b/c")
        client.files.delete(f"{VOLUME}/a/b/c")
        for path in (f"{VOLUME}/a/b", f"{VOLUME}/a", VOLUME):
            with pytest.raises(NotFound):
                client.files.get_directory_metadata(path)
        put(client, f"{VOLUME}/a/b/c")
        assert names(client, VOLUME) == ["a"]


# --- large files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_parallel", [True, False])
def test_a_large_file_comes_in_parts(workspace: Server, in_parts: WorkspaceClient, *, use_parallel: bool) -> None:
    put(in_parts, f"{VOLUME}/a b/large", use_parallel=use_parallel)
    assert got(in_parts, f"{VOLUME}/a b/large") == CONTENT
    assert len(workspace.requests("PUT", "^/presigned/")) == 6
    assert workspace.uploads.open == {}


def test_a_large_file_of_50_mib_comes_in_parts_without_any_setting(workspace: Server, client: WorkspaceClient) -> None:
    content = os.urandom(1 << 20) * 50
    put(client, f"{VOLUME}/large", content)
    assert got(client, f"{VOLUME}/large") == content
    assert sum(seen.received for seen in workspace.requests("PUT", "^/presigned/")) == len(content)


@pytest.mark.parametrize("use_parallel", [True, False])
def test_a_large_file_goes_from_disk_to_disk(in_parts: WorkspaceClient, tmp_path: Path, *, use_parallel: bool) -> None:
    (tmp_path / "here").write_bytes(CONTENT)
    in_parts.files.upload_from(f"{VOLUME}/large", str(tmp_path / "here"), use_parallel=use_parallel)
    in_parts.files.download_to(f"{VOLUME}/large", str(tmp_path / "there"), use_parallel=use_parallel)
    assert (tmp_path / "there").read_bytes() == CONTENT


def test_a_large_file_in_parts_does_not_overwrite_unless_that_is_said(
    workspace: Server, in_parts: WorkspaceClient
) -> None:
    put(in_parts, f"{VOLUME}/large")
    with pytest.raises(AlreadyExists):
        put(in_parts, f"{VOLUME}/large")
    put(in_parts, f"{VOLUME}/large", CONTENT[::-1], overwrite=True)
    assert got(in_parts, f"{VOLUME}/large") == CONTENT[::-1]
    assert workspace.uploads.open == {}


def test_without_presigned_urls_the_files_api_does_it(workspace: Server, in_parts: WorkspaceClient) -> None:
    workspace.uploads.presigned = False
    put(in_parts, f"{VOLUME}/large", use_parallel=False)
    assert got(in_parts, f"{VOLUME}/large") == CONTENT
    assert workspace.requests("PUT", "^/presigned/") == []


def test_a_url_that_has_expired_is_asked_for_anew(workspace: Server, in_parts: WorkspaceClient) -> None:
    workspace.uploads.expired = 2
    put(in_parts, f"{VOLUME}/large", use_parallel=False)  # in parallel, the SDK (0.156) then sends a part of no bytes
    assert got(in_parts, f"{VOLUME}/large") == CONTENT


def test_an_upload_that_fails_for_good_is_aborted(workspace: Server, in_parts: WorkspaceClient) -> None:
    workspace.faults.add(ServerError(), method="PUT", path="/part/3/")
    with pytest.raises(DatabricksError):
        put(in_parts, f"{VOLUME}/large", use_parallel=False)
    assert workspace.uploads.open == {}
    assert names(in_parts, VOLUME) == []
    assert list((workspace.folder / "uploads").iterdir()) == []


# --- DBFS -----------------------------------------------------------------------------------------------------------


def test_a_file_on_dbfs_comes_and_goes_in_blocks(workspace: Server, client: WorkspaceClient) -> None:
    content = CONTENT * 5
    client.dbfs.upload("/a b/ü", io.BytesIO(content))
    with client.dbfs.open("/a b/ü", read=True) as opened:
        assert opened.read() == content
    assert len(workspace.requests("POST", "add-block")) == len(workspace.requests("GET", "dbfs/read")) == 3
    assert workspace.dbfs.open == {}


def test_dbfs_lists_moves_and_deletes(client: WorkspaceClient) -> None:
    client.dbfs.mkdirs("/a/b")
    client.dbfs.put("/a/one", contents="aGVsbG8=")
    client.dbfs.move("/a/one", "/a/b/two")
    assert [(each.path, each.is_dir) for each in client.dbfs.list("/a")] == [("/a/b", True)]
    assert client.dbfs.get_status("/a/b/two").file_size == 5
    with pytest.raises(DatabricksError, match="Directory is not empty"):
        client.api_client.do("POST", "/api/2.0/dbfs/delete", body={"path": "/a"})  # the SDK itself would not ask
    client.dbfs.delete("/a", recursive=True)
    assert client.dbfs.exists("/a") is False
    client.dbfs.delete("/a")  # as the real one, which says nothing either


def test_dbfs_says_no_in_its_own_words(client: WorkspaceClient) -> None:
    client.dbfs.put("/a", contents="")
    with pytest.raises(ResourceAlreadyExists, match=r"already exists at the input path dbfs:/a"):
        client.dbfs.create("/a")
    with pytest.raises(ResourceDoesNotExist, match=r"No file or directory exists on path /b"):
        client.dbfs.read("/b")
    with pytest.raises(BadRequest, match="exceeds 1048576 bytes"):
        client.dbfs.read("/a", length=1 << 21)
    with pytest.raises(BadRequest, match="must be absolute"):
        client.dbfs.get_status("dbfs:/a")
    with pytest.raises(PermissionDenied, match="No operations allowed on this path"):
        client.dbfs.get_status(VOLUME)


def test_an_account_without_dbfs_says_so(tmp_path: Path) -> None:
    with Server(tmp_path, dbfs_root=False) as workspace, pytest.raises(PermissionDenied, match="DBFS root is disabled"):
        workspace.client().dbfs.get_status("/a")


# --- the workspace's own files --------------------------------------------------------------------------------------


def test_a_workspace_file_is_exported_as_it_was_imported(client: WorkspaceClient) -> None:
    client.workspace.mkdirs("/Workspace/Users/me")
    client.workspace.upload("/Users/me/a.py", io.BytesIO(b"print()\n"), format=ImportFormat.AUTO)
    status = client.workspace.get_status("/Workspace/Users/me/a.py")
    assert (status.object_type, status.size) == (ObjectType.FILE, 8)
    assert client.workspace.download("/Workspace/Users/me/a.py").read() == b"print()\n"
    assert client.workspace.export("/Users/me/a.py", format=ExportFormat.AUTO).content == "cHJpbnQoKQo="


def test_a_file_whose_first_line_says_so_becomes_a_notebook(client: WorkspaceClient) -> None:
    source = b"# Databricks notebook source\nprint()\n"
    client.workspace.upload("/Shared/a.py", source, format=ImportFormat.AUTO)
    (found,) = client.workspace.list("/Shared")
    assert (found.path, found.object_type, found.language) == ("/Shared/a", ObjectType.NOTEBOOK, Language.PYTHON)
    assert client.workspace.download("/Shared/a").read() == source


def test_a_folder_of_the_workspace_goes_with_all_that_is_in_it_only_where_that_is_said(
    client: WorkspaceClient,
) -> None:
    client.workspace.mkdirs("/Shared/a/b")
    with pytest.raises(DatabricksError, match="not empty"):
        client.workspace.delete("/Shared/a")
    client.workspace.delete("/Shared/a", recursive=True)
    with pytest.raises(ResourceDoesNotExist):
        client.workspace.get_status("/Shared/a")


def test_an_import_neither_makes_folders_nor_overwrites_unless_that_is_said(client: WorkspaceClient) -> None:
    with pytest.raises(NotFound, match="parent folder"):
        client.workspace.upload("/Shared/none/a", b"x", format=ImportFormat.AUTO)
    client.workspace.upload("/Shared/a", b"one", format=ImportFormat.AUTO)
    with pytest.raises(ResourceAlreadyExists):
        client.workspace.upload("/Shared/a", b"two", format=ImportFormat.AUTO)
    client.workspace.upload("/Shared/a", b"two", format=ImportFormat.AUTO, overwrite=True)
    assert client.workspace.download("/Shared/a").read() == b"two"


# --- secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_is_read_as_it_was_put_and_is_in_no_record(workspace: Server, client: WorkspaceClient) -> None:
    client.secrets.create_scope("scope")
    client.secrets.put_secret("scope", "key", string_value="s3cr3t-välue")
    assert client.dbutils.secrets.get("scope", "key") == "s3cr3t-välue"
    assert [each.key for each in client.secrets.list_secrets("scope")] == ["key"]
    assert "s3cr3t" not in repr(workspace.seen)
    assert workspace.token not in repr(workspace.seen)
    assert [path for path in workspace.folder.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()] == []


def test_a_secret_that_is_not_there_is_named(workspace: Server, client: WorkspaceClient) -> None:
    workspace.scopes.put("scope", "key", "value")
    with pytest.raises(ResourceDoesNotExist, match="with scope: scope and key: other"):
        client.secrets.get_secret("scope", "other")
    with pytest.raises(ResourceDoesNotExist, match="Scope other does not exist!"):
        client.secrets.get_secret("other", "key")
    with pytest.raises(ResourceAlreadyExists):
        client.secrets.create_scope("scope")
    client.secrets.delete_secret("scope", "key")
    client.secrets.delete_scope("scope")
    assert list(client.secrets.list_scopes()) == []


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "statuses"),
    [
        (TooManyRequests(), [429, 204]),
        (TooManyRequests(retry_after=None), [429, 204]),
        (Unavailable(), [503, 204]),
        (ResetWhileReading(), [0, 204]),
        (ResetWhileReading(after_bytes=PART), [0, 204]),
        (LostAnswer(), [0, 204]),
        (Slow(start=0.05), [204]),
    ],
    ids=repr,
)
def test_an_upload_survives(workspace: Server, client: WorkspaceClient, trouble: Any, statuses: list[int]) -> None:
    workspace.faults.add(trouble, method="PUT", path=VOLUME)
    put(client, f"{VOLUME}/a", overwrite=True)
    assert [seen.status for seen in workspace.requests("PUT")] == statuses
    assert got(client, f"{VOLUME}/a") == CONTENT


@pytest.mark.parametrize(
    "trouble", [TooManyRequests(), Unavailable(), ResetWhileReading(after_bytes=1000), LostAnswer()], ids=repr
)
def test_an_upload_in_parts_survives(workspace: Server, in_parts: WorkspaceClient, trouble: Any) -> None:
    workspace.faults.add(trouble, method="PUT", path="/part/2/", times=2)
    workspace.faults.add(trouble, method="POST", path="action=initiate-upload")
    put(in_parts, f"{VOLUME}/large", use_parallel=False, overwrite=True)
    assert got(in_parts, f"{VOLUME}/large") == CONTENT


@pytest.mark.parametrize(
    "trouble",
    [
        TooManyRequests(),
        Unavailable(),
        ResetWhileSending(),
        ResetWhileSending(after_bytes=PART),
        Truncated(at=PART),
        Slow(start=0.05, pause=0.001),
    ],
    ids=repr,
)
def test_a_download_survives(workspace: Server, client: WorkspaceClient, trouble: Any) -> None:
    put(client, f"{VOLUME}/a")
    workspace.faults.add(trouble, method="GET", path=VOLUME)
    assert got(client, f"{VOLUME}/a") == CONTENT


@pytest.mark.parametrize(
    ("trouble", "length"), [(WrongByte(at=1000), len(CONTENT)), (Truncated(at=PART, told=True), PART)]
)
def test_nothing_but_a_hash_shows(workspace: Server, client: WorkspaceClient, trouble: Any, length: int) -> None:
    put(client, f"{VOLUME}/a")
    workspace.faults.add(trouble, method="GET", path=VOLUME)
    found = got(client, f"{VOLUME}/a")
    assert found != CONTENT
    assert len(found) == length


def test_a_wrong_byte_on_dbfs_is_one_of_the_content(workspace: Server, client: WorkspaceClient) -> None:
    client.dbfs.put("/a", contents="aGVsbG8=")
    workspace.faults.add(WrongByte(), path="dbfs/read")
    assert client.dbfs.read("/a").data == "aWVsbG8="


def test_a_block_whose_answer_is_lost_is_there_twice(workspace: Server, client: WorkspaceClient) -> None:
    workspace.faults.add(LostAnswer(), path="dbfs/add-block")
    client.dbfs.upload("/a", io.BytesIO(b"hello"))
    assert client.dbfs.get_status("/a").file_size == 10


def test_an_upload_whose_answer_is_lost_meets_itself(workspace: Server, client: WorkspaceClient) -> None:
    workspace.faults.add(LostAnswer(), method="PUT")
    with pytest.raises(AlreadyExists):
        put(client, f"{VOLUME}/a")
    assert got(client, f"{VOLUME}/a") == CONTENT


def test_the_sdk_does_not_ask_again_for_an_answer_that_broke_off(workspace: Server, client: WorkspaceClient) -> None:
    client.dbfs.put("/a", contents="aGVsbG8=")
    workspace.faults.add(Truncated(at=10), path="dbfs/read")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        client.dbfs.read("/a")


@pytest.mark.parametrize(
    ("trouble", "raised"),
    [(Unauthorized(), Unauthenticated), (Forbidden("not yours"), PermissionDenied), (ServerError(), DatabricksError)],
    ids=repr,
)
def test_a_refusal_is_final_and_changes_nothing(
    workspace: Server, client: WorkspaceClient, trouble: Any, raised: type[DatabricksError]
) -> None:
    workspace.faults.add(trouble, method="PUT")
    with pytest.raises(raised):
        put(client, f"{VOLUME}/a")
    assert names(client, VOLUME) == []


def test_a_fault_lets_others_pass_and_happens_as_often_as_asked(workspace: Server, client: WorkspaceClient) -> None:
    fault = workspace.faults.add(Forbidden(), method="PUT", path="/a$", skip=1, times=2)
    put(client, f"{VOLUME}/b")
    put(client, f"{VOLUME}/a")
    for _ in range(2):
        with pytest.raises(PermissionDenied):
            put(client, f"{VOLUME}/a", overwrite=True)
    put(client, f"{VOLUME}/a", overwrite=True)
    assert fault.happened == 2


def test_a_client_that_hangs_up_leaves_nothing(tmp_path: Path) -> None:
    with Server(tmp_path) as workspace:
        client = workspace.client()
        put(client, f"{VOLUME}/a")
        contents = client.files.download(f"{VOLUME}/a").contents
        assert contents is not None
        contents.read(1)
        contents.close()
        with pytest.raises(requests.ConnectionError):
            requests.put(
                f"{workspace.url}/api/2.0/fs/files{VOLUME}/b",
                data=_broken_off(),
                headers={"Authorization": f"Bearer {workspace.token}"},
                timeout=5,
            )
        assert names(client, VOLUME) == ["a"]
    assert list((tmp_path / "scratch").iterdir()) == []


def _broken_off() -> Any:
    yield b"x" * 1000
    raise requests.ConnectionError
