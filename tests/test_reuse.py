"""Reuse between runs: what was made before is taken from the base, and never what is wrong."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from functools import partial
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from conftest import make_wheel, project, write_files
from depload import IndexOptions, convert, verify
from depload.errors import BuildError, ResolutionError
from depload.published import conversions
from depload.published.wheelcache import WheelCache
from depload.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from depload.pipeline import Converted

OFFLINE = IndexOptions(no_index=True)


class Host:
    """A page of links to wheels, and who asked for what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self.options = IndexOptions(no_index=True, find_links=(self.url,))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def wheels(self) -> list[str]:
        """The wheels that were asked for whole, without those for their metadata."""
        return sorted({path.rpartition("/")[2] for path in self.asked if path.endswith(".whl")})

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    folder = tmp_path / "host"
    for version in ("1.0", "2.0"):
        make_wheel(folder, "alpha", version, {"alpha.py": f"VERSION = {version!r}\n"})
        make_wheel(folder, "beta", version, {"beta.py": f"VERSION = {version!r}\n"})
    found = Host(folder)
    yield found
    found.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A requirements.txt that pins what it asks for."""
    folder = tmp_path / "source"
    write_files(folder, {"requirements.txt": "alpha==1.0\nbeta==1.0\n"})
    return folder


@pytest.fixture(autouse=True)
def _no_cache_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a job cluster, which begins with an empty disk: what is reused comes from the base."""
    count = iter(range(1000))
    original = conversions.Conversions.record

    def record(self: conversions.Conversions) -> conversions.Record | None:
        monkeypatch.setenv("DEPLOAD_CACHE_DIR", str(tmp_path / "caches" / str(next(count))))
        return original(self)

    monkeypatch.setattr(conversions.Conversions, "record", record)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))


@pytest.mark.parametrize("given", ["requirements.txt", "pylock.toml", "pyproject.toml"])
@pytest.mark.parametrize("changed", ["an included file", "a wheel", "a module"])
def test_a_lone_file_is_another_source_when_what_it_leads_to_changes(
    given: str, changed: str, tmp_path: Path, base: Path
) -> None:
    leads = {
        "requirements.txt": {"an included file", "a wheel"},
        "pylock.toml": {"a wheel"},
        "pyproject.toml": {"a module", "an included file", "a wheel"},
    }
    folder = write_files(tmp_path / "lone", project("mine"))
    wheel = make_wheel(folder, "alpha", "1.0", {"alpha.py": "VERSION = 1\n"})
    lock = f'lock-version = "1.0"\n[[packages]]\nname = "alpha"\nwheels = [{{ path = "{wheel.name}" }}]\n'
    write_files(folder, {"requirements.txt": "-r more.txt\n", "more.txt": f"./{wheel.name}\n", "pylock.toml": lock})

    def run() -> Converted:
        return convert(folder / given, base, options=OFFLINE, compile=False)

    first = run()
    assert run().reused
    if changed == "an included file":
        write_files(folder, {"more.txt": f"./{wheel.name}\n# changed\n"})
    elif changed == "a wheel":
        make_wheel(folder, "alpha", "1.0", {"alpha.py": "VERSION = 2\n"})
    else:
        write_files(folder, {"mine/__init__.py": "CHANGED = True\n"})
    second = run()
    assert second.reused == (changed not in leads[given])
    if changed != "an included file":
        assert (second.digest == first.digest) == second.reused


def test_a_source_that_pins_everything_is_answered_from_the_base_without_asking_anybody(
    host: Host, source: Path, base: Path
) -> None:
    first = convert(source, base, options=host.options)
    assert (first.reused, first.why) == (False, "there was no earlier conversion of it")
    host.asked.clear()
    second = convert(source, base, options=host.options)
    assert second.reused
    assert second.why.endswith("UTC, and it pins every version")
    assert host.asked == []
    assert second.path != first.path
    assert verify(second.path) == verify(first.path)
    assert (base / first.path / "x").parent.exists()


def test_an_answer_does_not_need_the_run_path_that_it_came_from(host: Host, source: Path, base: Path) -> None:
    from depload import cleanup

    cleanup(convert(source, base, options=host.options).path)
    assert convert(source, base, options=host.options).reused


def test_a_source_that_leaves_versions_open_is_reused_only_within_the_span_that_is_given(
    host: Host, source: Path, base: Path
) -> None:
    write_files(source, {"requirements.txt": "alpha\nbeta==1.0\n"})
    convert(source, base, options=host.options)
    again = convert(source, base, options=host.options)
    assert not again.reused
    assert again.why == "it does not pin alpha; within --reuse 24h, say, it would be taken as it was"
    assert convert(source, base, options=host.options, reuse="24h").reused
    time.sleep(1.1)  # records tell whole seconds
    late = convert(source, base, options=host.options, reuse=timedelta(seconds=1))
    assert (late.reused, late.why) == (False, "it does not pin alpha, and the earlier conversion is older than --reuse")


def test_what_only_others_require_is_open_too(host: Host, source: Path, base: Path) -> None:
    make_wheel(host.folder, "gamma", "1.0", {"gamma.py": ""}, "Requires-Dist: alpha\n")
    write_files(source, {"requirements.txt": "gamma==1.0\n"})
    convert(source, base, options=host.options)
    assert "it does not pin alpha" in convert(source, base, options=host.options).why


def test_refresh_converts_anew(host: Host, source: Path, base: Path) -> None:
    convert(source, base, options=host.options)
    again = convert(source, base, options=host.options, refresh=True)
    assert (again.reused, again.why) == (False, "--refresh asks for it")


def test_another_line_target_or_option_is_another_conversion(host: Host, source: Path, base: Path) -> None:
    convert(source, base, options=host.options)
    assert not convert(source, base, options=host.options, compile=False).reused
    assert not convert(source, base, options=host.options, name="other").reused
    write_files(source, {"requirements.txt": "alpha==1.0\nbeta==2.0\n"})
    changed = convert(source, base, options=host.options)
    assert not changed.reused
    assert [(wheel.name, wheel.version) for wheel in changed.wheels] == [("alpha", "1.0"), ("beta", "2.0")]


def test_a_changed_line_downloads_only_what_changed(
    source: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of links says hashes, as an index does; so the wheels of before are known."""
    folder, hashes = tmp_path / "indexed", {}
    for name, version in (("alpha", "1.0"), ("beta", "1.0"), ("beta", "2.0")):
        wheel = make_wheel(folder, name, version, {f"{name}.py": f"VERSION = {version!r}\n"})
        hashes[wheel.name] = hashlib.sha256(wheel.read_bytes()).hexdigest()
    links = "".join(f'<a href="{name}#sha256={digest}">{name}</a>\n' for name, digest in hashes.items())
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>\n")
    host = Host(folder)
    try:
        convert(source, base, options=host.options)
        write_files(source, {"requirements.txt": "alpha==1.0\nbeta==2.0\n"})
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another-uv"))
        taken: list[tuple[str, bool]] = []
        original = WheelCache.take

        def take(self: WheelCache, sha256: str, to: Path) -> bool:
            taken.append((to.name, original(self, sha256, to)))
            return taken[-1][1]

        monkeypatch.setattr(WheelCache, "take", take)
        assert not convert(source, base, options=host.options).reused
        assert ("alpha-1.0-py3-none-any.whl", True) in taken
        assert ("beta-2.0-py3-none-any.whl", False) in taken
    finally:
        host.close()


def test_a_wheel_that_was_altered_below_the_base_is_not_taken(host: Host, source: Path, base: Path) -> None:
    convert(source, base, options=host.options)
    for wheel in (base / "wheels").glob("*.whl"):
        wheel.write_bytes(wheel.read_bytes() + b"more")
    again = convert(source, base, options=host.options)
    assert (again.reused, again.why) == (False, "not all of its wheels are kept any more")
    verify(again.path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"depload": 1}', b"\xff"])
def test_a_damaged_record_is_none(damage: bytes, host: Host, source: Path, base: Path) -> None:
    convert(source, base, options=host.options)
    (record,) = (base / "conversions").iterdir()
    record.write_bytes(damage)
    assert not convert(source, base, options=host.options).reused
    assert convert(source, base, options=host.options).reused


@pytest.mark.parametrize("name", ["../../evil.whl", "/etc/evil.whl", "a/../b.whl"])
def test_a_record_writes_nowhere_else(name: str, host: Host, source: Path, base: Path, tmp_path: Path) -> None:
    convert(source, base, options=host.options)
    (record,) = (base / "conversions").iterdir()
    data = json.loads(record.read_text())
    data["wheels"][0]["filename"] = name
    record.write_text(json.dumps(data))
    before = set(tmp_path.rglob("evil*"))
    assert not convert(source, base, options=host.options).reused
    assert set(tmp_path.rglob("evil*")) == before


def test_without_the_cache_the_base_holds_run_paths_alone(host: Host, source: Path, base: Path) -> None:
    converted = convert(source, base, options=host.options, cache=False)
    assert [path.name for path in base.iterdir()] == [converted.path.rpartition("/")[2]]
    assert not convert(source, base, options=host.options, cache=False).reused


def test_what_costs_nothing_leaves_nothing(base: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "modules", {"tool.py": "X = 1\n"})
    converted = convert(tmp_path / "modules", base, options=OFFLINE)
    assert converted.why == "nothing of it is worth keeping"
    assert [path.name for path in base.iterdir()] == [converted.path.rpartition("/")[2]]


# --- builds ---------------------------------------------------------------------------------------------------------


def logged(name: str, log: Path, seconds: float = 0) -> dict[str, str | bytes]:
    """A project whose backend writes down each build."""
    files = project(name)
    text = dedent(str(files["backend.py"]))
    line = f'    import time; open({str(log)!r}, "a").write("built\\n"); time.sleep({seconds})\n'
    head, rest = text.split("metadata_directory=None):\n", 1)
    files["backend.py"] = f"{head}metadata_directory=None):\n{line}{rest}"
    return files


def test_an_unchanged_project_is_not_built_again_for_a_change_beside_it(host: Host, tmp_path: Path, base: Path) -> None:
    log, source = tmp_path / "log", tmp_path / "mixed"
    write_files(source, {**{f"tool/{name}": text for name, text in logged("tool", log).items()}})
    write_files(source, {"requirements.txt": "alpha==1.0\n"})
    convert(source, base, options=host.options)
    write_files(source, {"requirements.txt": "alpha==2.0\n"})
    again = convert(source, base, options=host.options)
    assert not again.reused
    assert [(wheel.name, wheel.version) for wheel in again.wheels] == [("alpha", "2.0"), ("tool", "1.0")]
    assert log.read_text() == "built\n"
    write_files(source, {"tool/tool/__init__.py": "NAME = 'changed'\n"})
    convert(source, base, options=host.options)
    assert log.read_text() == "built\nbuilt\n"
    verify(again.path)


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_conflict_is_remembered_for_ten_minutes(
    host: Host, source: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(source, {"requirements.txt": "alpha==3.0\n"})
    with pytest.raises(ResolutionError) as first:
        convert(source, base, options=host.options)
    make_wheel(host.folder, "alpha", "3.0", {"alpha.py": ""})
    with pytest.raises(ResolutionError) as second:
        convert(source, base, options=host.options)
    assert str(second.value) == str(first.value)
    assert second.value.explanation == first.value.explanation
    assert not convert(source, base, options=host.options, refresh=True).reused
    assert convert(source, base, options=host.options).reused, "a success ends the memory of the failure"
    (base / "conversions").rename(base / "gone")
    write_files(source, {"requirements.txt": "alpha==4.0\n"})
    with pytest.raises(ResolutionError):
        convert(source, base, options=host.options)
    make_wheel(host.folder, "alpha", "4.0", {"alpha.py": ""})
    monkeypatch.setattr(conversions, "_FAILURE_COUNTS", timedelta(0))
    assert not convert(source, base, options=host.options).reused


def test_a_broken_build_is_remembered_with_what_it_said(tmp_path: Path, base: Path) -> None:
    log, source = tmp_path / "log", tmp_path / "broken"
    files = logged("tool", log)
    files["backend.py"] = str(files["backend.py"]).replace("time.sleep(0)", "raise RuntimeError('no such compiler')")
    write_files(source, files)
    for _ in range(3):
        with pytest.raises(BuildError, match="no such compiler"):
            convert(source, base, options=OFFLINE)
    assert log.read_text() == "built\n"


# --- several at once ------------------------------------------------------------------------------------------------

CONVERT = """\
    import json, sys
    import depload
    converted = depload.convert(sys.argv[1], sys.argv[2], options=depload.IndexOptions(no_index=True))
    print(json.dumps([converted.path, converted.reused, converted.digest]))
    """


def test_several_who_convert_the_same_at_once_do_the_work_once(tmp_path: Path, base: Path) -> None:
    log, source = tmp_path / "log", tmp_path / "slow"
    write_files(source, logged("tool", log, seconds=3))
    command = [sys.executable, "-c", dedent(CONVERT), str(source), str(base)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    assert log.read_text() == "built\n"
    assert sorted(reused for _, reused, _ in answers) == [False, True, True, True]
    assert len({path for path, _, _ in answers}) == 4
    assert len({digest for _, _, digest in answers}) == 1
    for path, _, _ in answers:
        verify(path)
    assert not list((base / "conversions").glob("*.claim.json"))


def test_everyone_who_waits_for_what_fails_gets_the_same_error(tmp_path: Path, base: Path) -> None:
    log, source = tmp_path / "log", tmp_path / "broken"
    files = logged("tool", log, seconds=3)
    files["backend.py"] = str(files["backend.py"]).replace("time.sleep(3)", "time.sleep(3); raise RuntimeError('no')")
    write_files(source, files)
    command = [sys.executable, "-c", dedent(CONVERT), str(source), str(base)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert all("RuntimeError: no" in error for error in errors)
    assert log.read_text() == "built\n"


def test_the_claim_of_one_that_died_is_taken_over(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, source = tmp_path / "log", tmp_path / "slow"
    write_files(source, logged("tool", log, seconds=60))
    dying = subprocess.Popen([sys.executable, "-c", dedent(CONVERT), str(source), str(base)])
    while not list((base / "conversions").glob("*.claim.json")) if (base / "conversions").exists() else True:
        time.sleep(0.05)
        assert dying.poll() is None
    while not log.exists():
        time.sleep(0.05)
    dying.kill()
    dying.wait()
    write_files(source, logged("tool", log))
    # The digest is of the sources: the claim of the slow one becomes that of the quick one.
    (claim,) = (base / "conversions").glob("*.claim.json")
    monkeypatch.setattr(conversions, "_PATIENCE", 1.0)
    quick = conversions.Conversions.turn
    renamed: list[Path] = []

    def turn(self: conversions.Conversions, waiting: object) -> object:
        if not renamed:
            renamed.append(claim.rename(base / f"{self._key}.claim.json"))
        return quick(self, waiting)  # type: ignore[arg-type]

    monkeypatch.setattr(conversions.Conversions, "turn", turn)
    converted = convert(source, base, options=OFFLINE)
    verify(converted.path)
    assert not list((base / "conversions").glob("*.claim.json"))


class _WithoutClaims(DirectoryStore):
    """A store that lets everybody create what is there already."""

    def create(self, key: str, data: bytes) -> bool:
        self.write(key, data)
        return True


def test_a_store_that_cannot_keep_two_apart_costs_time_and_nothing_else(
    host: Host, source: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("depload.pipeline.open_store", lambda base, _via=None: _WithoutClaims(os.fspath(base)))
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(convert(source, base, options=host.options).path))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4
    assert len({verify(path).digest for path in found}) == 1
