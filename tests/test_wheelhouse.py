"""The one file, and the run path that it is published under."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import OFFLINE, make_wheel
from depload.errors import AlteredWheelhouseError, CleanupError, LoadError, NotAWheelhouseError, StoreError
from depload.loading.loader import load
from depload.making import tools
from depload.pipeline import convert, verify
from depload.published import runs, wheelhouse
from depload.published.removal import cleanup
from depload.published.runs import open_run
from depload.published.wheelhouse import Manifest
from depload.standards.wheels import sha256_of
from depload.stores.directory import DirectoryStore
from depload.travels import activation

if TYPE_CHECKING:
    from collections.abc import Callable

    from depload.pipeline import Converted
    from depload.stores.store import Moved


@pytest.fixture
def converted(published: Callable[..., Converted]) -> Converted:
    return published(
        alpha=("1.0", {"alpha/__init__.py": "NAME = 'alpha'\n"}), beta=("2.0", {"beta.py": "NAME = 'beta'\n"})
    )


# --- the file ---


def test_equal_wheels_make_equal_bytes(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"alpha/m{number}.py": f"NAMES = {{'a', 'b', {number}}}\n" for number in range(200)}
    make_wheel(tmp_path / "wheels", "alpha", "1.0", files)
    made = []
    for attempt in range(2):
        monkeypatch.setenv("DEPLOAD_CACHE_DIR", str(tmp_path / f"cache-{attempt}"))  # so that both compile
        made.append(Path(convert(tmp_path / "wheels", base, name="same", options=OFFLINE).wheelhouse).read_bytes())
    assert made[0] == made[1]


def test_the_digest_changes_with_a_wheel_and_with_the_target(tmp_path: Path, base: Path) -> None:
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": ""})
    first = convert(tmp_path / "wheels", base, options=OFFLINE, compile=False)
    again = convert(tmp_path / "wheels", base, name="other-name", options=OFFLINE, compile=False)
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": "changed = 1\n"})
    changed = convert(tmp_path / "wheels", base, options=OFFLINE, compile=False)
    assert first.digest == again.digest != changed.digest
    assert first.path != again.path


def test_it_is_a_wheelhouse_to_pip_and_its_lock_one_to_uv(converted: Converted, tmp_path: Path) -> None:
    with zipfile.ZipFile(converted.wheelhouse) as opened:
        assert all(
            info.compress_type == zipfile.ZIP_STORED for info in opened.infolist() if info.filename.endswith(".whl")
        )
        opened.extractall(tmp_path / "unzipped")
    here = str(tmp_path / "unzipped")
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", here, "--target"]
    subprocess.run([*pip, str(tmp_path / "pip"), "alpha", "beta"], check=True, capture_output=True)
    uv = [str(tools.uv()), "pip", "install", "--offline", "--python", sys.executable, "--target", str(tmp_path / "uv")]
    subprocess.run([*uv, "-r", "pylock.toml"], check=True, capture_output=True, cwd=here)
    for place in ("pip", "uv"):
        assert (tmp_path / place / "alpha" / "__init__.py").read_text() == "NAME = 'alpha'\n"


def test_the_manifest_says_what_is_inside(converted: Converted) -> None:
    manifest = wheelhouse.read(Path(converted.wheelhouse))
    assert [(wheel.name, wheel.version, wheel.native, wheel.names) for wheel in manifest.wheels] == [
        ("alpha", "1.0", False, ("alpha",)),
        ("beta", "2.0", False, ("beta",)),
    ]
    assert manifest == converted.manifest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(key=st.sampled_from(["format_version", "digest", "target", "wheels", "bytecode", "others"]), data=JSON)
def test_whatever_stands_in_a_manifest_it_is_read_or_refused(key: str, data: object) -> None:
    good = {"format_version": wheelhouse.FORMAT_VERSION, "digest": "d" * 64, "name": "n", "format": "f"}
    rest = {"wheels": [], "bytecode": [], "others": {}, "target": {"python": "3.11", "platform": "p"}}
    manifest = {**good, **rest, key: data}
    with contextlib.suppress(ValueError):
        assert json.loads(json.dumps(Manifest.from_json(manifest).to_json()))[key] is not None


@pytest.mark.parametrize(
    ("member", "change", "said"),
    [
        ("alpha-1.0-py3-none-any.whl", "flip", "alpha-1.0-py3-none-any.whl"),
        ("alpha-1.0-py3-none-any.whl", "drop", "is missing"),
        ("alpha.py", "replace", "has SHA-256"),
        ("pylock.toml", "replace", "pylock.toml: has SHA-256"),
        ("sneaked_in.py", "add", "sneaked_in.py: does not belong here"),
        ("manifest.json", "digest", "the digest is not that of what it lists"),
    ],
)
def test_what_was_altered_is_named(member: str, change: str, said: str, converted: Converted) -> None:
    path = Path(converted.wheelhouse)
    with zipfile.ZipFile(path) as opened:
        members = {info.filename: opened.read(info) for info in opened.infolist()}
        stored = {info.filename: info.compress_type for info in opened.infolist()}
    if change == "flip":
        members[member] = bytes([members[member][0] ^ 1]) + members[member][1:]
    elif change == "drop":
        del members[member]
    elif change == "digest":
        members[member] = members[member].replace(converted.digest.encode(), b"0" * 64)
    else:
        members[member] = b"print('altered')\n"
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data, stored.get(name, zipfile.ZIP_DEFLATED))
    with pytest.raises(AlteredWheelhouseError) as raised:
        verify(path)
    assert said in str(raised.value)


def forge(run: Path, member: str, data: bytes, *, digest: bool = False) -> None:
    """As who can write to the base can do: change a member, and both manifests to match; the digest as well, or not."""
    (path,) = run.glob("*.wheelhouse.zip")
    with zipfile.ZipFile(path) as opened:
        members = [(info, opened.read(info)) for info in opened.infolist()]
    inner = json.loads({info.filename: content for info, content in members}["manifest.json"])
    inner["others"][member] = hashlib.sha256(data).hexdigest()
    if digest:
        inner["digest"] = activation.digest_of(inner)
    changed = {member: data, "manifest.json": json.dumps(inner).encode()}
    with zipfile.ZipFile(path, "w") as opened:
        for info, content in members:
            opened.writestr(info, changed.pop(info.filename, content))
        for name, content in changed.items():
            opened.writestr(name, content)
    outer = json.loads((run / runs.MANIFEST).read_text()) | inner
    outer["wheelhouse"] |= {"size": path.stat().st_size, "sha256": sha256_of(path)}
    (run / runs.MANIFEST).write_text(json.dumps(outer))


@pytest.mark.parametrize("what", ["activation module", "stub", "metadata", "another module"])
def test_the_digest_covers_all_that_is_imported_or_run(what: str, converted: Converted, tmp_path: Path) -> None:
    member = {
        "activation module": f"{activation.module_name(converted.digest)}/__init__.py",
        "stub": "alpha.py",
        "metadata": "alpha-1.0.dist-info/METADATA",
        "another module": "sneaked_in.py",
    }[what]
    forge(Path(converted.path), member, f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode())
    with pytest.raises(AlteredWheelhouseError, match="the digest is not that of what it lists"):
        load(converted.path)
    with pytest.raises(AlteredWheelhouseError, match="the digest is not that of what it lists"):
        verify(converted.path)
    forge(Path(converted.path), member, b"", digest=True)
    with pytest.raises(LoadError, match=f"and {converted.digest} had been published there"):
        load(converted.path, digest=converted.digest)
    assert not (tmp_path / "ran").exists()


def test_documents_beside_the_wheels_do_not_change_the_digest(converted: Converted) -> None:
    manifest = converted.manifest.to_json()
    others = {**manifest["others"], "pylock.toml": "0" * 64}
    assert activation.digest_of({**manifest, "others": others}) == converted.digest


def test_a_reference_is_made_of_what_the_manifest_names(converted: Converted, tmp_path: Path) -> None:
    path = Path(converted.wheelhouse)
    with zipfile.ZipFile(path, "a") as opened, pytest.warns(UserWarning, match="Duplicate name"):
        opened.writestr("alpha.py", "print('another')\n")
    with pytest.raises((AlteredWheelhouseError, NotAWheelhouseError)):
        wheelhouse.write_reference(path, str(path), tmp_path / "reference.zip")


def test_a_single_changed_byte_anywhere_is_found(converted: Converted) -> None:
    path = Path(converted.wheelhouse)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with pytest.raises((AlteredWheelhouseError, NotAWheelhouseError)):
            verify(converted.path)
    path.write_bytes(whole)
    verify(converted.path)


# --- run paths ---


def test_a_publish_cut_short_is_invisible_and_removed_by_cleanup(converted: Converted) -> None:
    (Path(converted.path) / runs.MANIFEST).unlink()  # what a process that died before the commit leaves
    with pytest.raises(NotAWheelhouseError, match=r"its publication was not completed.*; run convert again"):
        open_run(converted.path)
    assert cleanup(converted.path).removed


class _FailingStore(DirectoryStore):
    """Fails at the n-th write, as a full disk does."""

    def __init__(self, base: str, fail_at: int) -> None:
        super().__init__(base)
        self.left = fail_at

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise StoreError(self.base, "no space left on device")

    def put(self, key: str, file: Path, moved: Moved | None = None) -> None:
        super().put(key, file, moved)
        self._count()

    def write(self, key: str, data: bytes) -> None:
        super().write(key, data)
        self._count()


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_a_failing_publish_leaves_nothing_behind(fail_at: int, converted: Converted, tmp_path: Path) -> None:
    store = _FailingStore(str(tmp_path / "other"), fail_at)
    with pytest.raises(StoreError, match="no space left"):
        runs.publish(store, Path(converted.wheelhouse), converted.manifest)
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/no/such/path", "it may have been cleaned up: run the task that converts again"),
        ("{{tasks.process.values.wheelhouse_path}}", "a reference that the platform did not fill in"),
    ],
)
def test_a_path_that_is_no_wheelhouse_says_what_to_do(path: str, said: str) -> None:
    with pytest.raises(NotAWheelhouseError) as raised:
        open_run(path)
    assert said in str(raised.value)


def test_a_directory_or_zip_of_something_else_is_no_wheelhouse(tmp_path: Path) -> None:
    with pytest.raises(NotAWheelhouseError, match=r"it has no manifest\.json"):
        open_run(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        opened.writestr("x", "x")
    with pytest.raises(NotAWheelhouseError, match=r"it has no manifest\.json"):
        open_run(tmp_path / "x.zip")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(NotAWheelhouseError, match="cannot be read as a zip"):
        open_run(tmp_path / "x.txt")


def test_a_manifest_may_not_name_a_file_elsewhere(converted: Converted) -> None:
    manifest = Path(converted.path) / runs.MANIFEST
    data = json.loads(manifest.read_text())
    data["wheelhouse"]["filename"] = "../other.wheelhouse.zip"
    manifest.write_text(json.dumps(data))
    with pytest.raises(NotAWheelhouseError, match=r"names '\.\./other\.wheelhouse\.zip' as the wheelhouse"):
        open_run(converted.path)


def test_a_base_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": ""})
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as raised:
        convert(tmp_path / "wheels", tmp_path / "file", options=OFFLINE)
    assert str(tmp_path / "file") in str(raised.value)


# --- cleanup ---


def test_cleanup_removes_the_run_path_and_a_second_one_is_success(converted: Converted, base: Path) -> None:
    size = sum(file.stat().st_size for file in Path(converted.path).iterdir())
    first, second = cleanup(converted.path), cleanup(converted.path)
    assert (first.removed, first.size) == (True, size)
    assert (second.removed, second.size) == (False, 0)
    assert list(base.iterdir()) == []


def test_cleanup_removes_the_empty_directory_that_one_left_which_was_killed(base: Path) -> None:
    empty = base / "2b4a7f6e-1b7b-4d3f-9d65-0c4f6ad1b9a1"
    empty.mkdir(parents=True)
    assert cleanup(empty).removed
    assert not empty.exists()


def test_cleanup_refuses_everything_that_is_not_a_run_path(converted: Converted, tmp_path: Path, base: Path) -> None:
    run = Path(converted.path)
    link = base / "0b4a7f6e-1b7b-4d3f-9d65-0c4f6ad1b9a1"
    link.symlink_to(run)
    foreign = base / "1b4a7f6e-1b7b-4d3f-9d65-0c4f6ad1b9a1"
    foreign.mkdir()
    (foreign / "precious.txt").write_text("keep me")
    renamed = base / "3b4a7f6e-1b7b-4d3f-9d65-0c4f6ad1b9a1"
    renamed.mkdir()
    (renamed / runs.MARKER).write_text((run / runs.MARKER).read_text())
    for path, said in [
        (base, "its name is not a run's"),
        (tmp_path / "nothing", "its name is not a run's"),
        (link, "not a directory of its own"),
        (foreign, "holds what depload did not put there (precious.txt)"),
        (renamed, "has no run.json that names it"),
    ]:
        with pytest.raises(CleanupError) as raised:
            cleanup(path)
        assert said in str(raised.value)
    (run / "notes.txt").write_text("mine")
    with pytest.raises(CleanupError, match=r"notes\.txt"):
        cleanup(run)
    assert (foreign / "precious.txt").exists()
    assert open_run(run).manifest == converted.manifest
