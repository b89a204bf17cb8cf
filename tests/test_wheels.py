"""One wheel file: what it says of itself, every way in which that may not hold, and the writer."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_wheel
from depload import Target
from depload.errors import InvalidWheelError
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TARGET = Target("3.11", "manylinux_2_35_x86_64")
DIST_INFO = "alpha-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def row(name: str, data: bytes, algorithm: str = "sha256") -> str:
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).rstrip(b"=").decode()
    return f"{name},{algorithm}={digest},{len(data)}\n"


def raw_wheel(
    folder: Path,
    filename: str = "alpha-1.0-py3-none-any.whl",
    *,
    metadata: str = METADATA,
    wheel: str = WHEEL,
    files: Mapping[str, bytes] | None = None,
    record: str | None = None,
    dist_info: str = DIST_INFO,
) -> Path:
    """A wheel with whatever is wrong with it."""
    members = {"alpha.py": b"", **(files or {})}
    members |= {f"{dist_info}/METADATA": metadata.encode(), f"{dist_info}/WHEEL": wheel.encode()}
    text = "".join(row(name, data) for name, data in members.items()) + f"{dist_info}/RECORD,,\n"
    with zipfile.ZipFile(folder / filename, "w") as opened:
        for name, data in {**members, f"{dist_info}/RECORD": (record or text).encode()}.items():
            opened.writestr(name, data)
    return folder / filename


def test_a_sound_wheel_has_no_faults(tmp_path: Path) -> None:
    assert wheels.faults(raw_wheel(tmp_path), TARGET) == ()
    assert wheels.faults(make_wheel(tmp_path, "beta", "2.0", {"beta/__init__.py": "X = 1\n"}), TARGET) == ()


FAULTS: dict[str, tuple[dict[str, object], str]] = {
    "a name that is none": ({"filename": "alpha.whl"}, "the file name is not name-version-python-abi-platform.whl"),
    "a name that a terminal obeys": (
        {"filename": "alpha-1.0-1\x9b2J-py3-none-any.whl"},
        "the file name is not name-version-python-abi-platform.whl",
    ),
    "another package": (
        {"metadata": METADATA.replace("alpha", "beta")},
        "the file name says alpha, METADATA says beta",
    ),
    "no name": ({"metadata": "Version: 1.0\n"}, "the file name says alpha, METADATA says no name"),
    "another version": ({"metadata": METADATA.replace("1.0", "1.1")}, "says version 1.0, METADATA says 1.1"),
    "no version": ({"metadata": "Name: alpha\nVersion: new\n"}, "METADATA has no valid version: 'new'"),
    "a requirement that is none": (
        {"metadata": f"{METADATA}Requires-Dist: a b c\n"},
        "METADATA has a Requires-Dist that is no requirement: 'a b c'",
    ),
    "a Python that is none": (
        {"metadata": f"{METADATA}Requires-Python: new\n"},
        "Requires-Python that is no specifier",
    ),
    "another Python": ({"metadata": f"{METADATA}Requires-Python: >=3.12\n"}, "requires Python >=3.12, the target is"),
    "another platform": (
        {"filename": "alpha-1.0-cp39-cp39-win_amd64.whl"},
        "its tags (cp39-cp39-win_amd64) do not fit",
    ),
    "a newer glibc": ({"filename": "alpha-1.0-cp311-cp311-manylinux_2_36_x86_64.whl"}, "do not fit Python 3.11"),
    "a later format": ({"wheel": WHEEL.replace("1.0", "2.0")}, "WHEEL names the format version '2.0', expected 1.x"),
    "no dist-info": ({"dist_info": "alpha"}, "has no .dist-info folders, expected one"),
    "two dist-infos": ({"files": {"beta-1.0.dist-info/METADATA": b""}}, "has 2 .dist-info folders, expected one"),
    "a file that RECORD lacks": ({"record": row("alpha.py", b"")}, f"RECORD does not list {DIST_INFO}/METADATA"),
    "a file that is not there": (
        {"record": row("gone.py", b"") + row("alpha.py", b"")},
        "RECORD lists gone.py, which is not there",
    ),
    "another file": ({"record": row("alpha.py", b"else")}, "alpha.py is not the file that RECORD lists"),
    "no hash": ({"record": "alpha.py,,\n"}, "RECORD has no hash for alpha.py"),
    "a short row": ({"record": "alpha.py\n"}, "RECORD has no hash for alpha.py"),
    "a hash that proves nothing": (
        {"record": row("alpha.py", b"", "md5")},
        "a hash for alpha.py that proves nothing (md5)",
    ),
    "a hash that nobody knows": ({"record": "alpha.py,new=x,0\n"}, "a hash for alpha.py that proves nothing (new)"),
    "a member that escapes": ({"files": {"../evil.py": b""}}, "../evil.py: its path leads out of the archive"),
    "an absolute member": ({"files": {"/evil.py": b""}}, "/evil.py: its path is absolute"),
    "a member that differs in case": ({"files": {"ALPHA.py": b""}}, "the difference is only case"),
    "a RECORD that is no table": ({"record": 'alpha.py,"' + "x" * 200_000}, "field larger than field limit"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_with_a_wheel_is_told(case: str, tmp_path: Path) -> None:
    made, message = FAULTS[case]
    path = raw_wheel(tmp_path, **made)  # type: ignore[arg-type]
    found = wheels.faults(path, TARGET)
    assert message in "\n".join(map(str, found))
    assert {fault.where for fault in found} == {wheels._shown(path.name)}


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, metadata="Name: beta\nVersion: 2\nRequires-Dist: ?\n", wheel="", record="gone.py,,\n")
    assert len(wheels.faults(path, TARGET)) == 8


@pytest.mark.parametrize("damage", ["not a zip", "cut short", "a damaged member", "a damaged METADATA"])
def test_a_file_that_cannot_be_read_is_a_fault(damage: str, tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "alpha", "1.0", {"alpha.py": "x = 1\n" * 500})
    data = bytearray(path.read_bytes())
    if damage == "not a zip":
        data = bytearray(b"nothing")
    elif damage == "cut short":
        data = data[:-40]
    else:
        at = data.index(b"alpha.py" if damage == "a damaged member" else b"METADATA") + 12
        data[at : at + 6] = bytes(byte ^ 255 for byte in data[at : at + 6])
    path.write_bytes(data)
    assert wheels.faults(path, TARGET)


def test_a_wheel_that_cannot_be_read_is_an_error_by_name(tmp_path: Path) -> None:
    (tmp_path / "alpha-1.0-py3-none-any.whl").write_bytes(b"nothing")
    with pytest.raises(InvalidWheelError, match=r"alpha-1\.0-py3-none-any\.whl: not a readable zip"):
        wheels.read(tmp_path / "alpha-1.0-py3-none-any.whl")


def test_a_patch_of_the_targets_python_counts_only_where_it_is_known(tmp_path: Path) -> None:
    path = raw_wheel(tmp_path, metadata=f"{METADATA}Requires-Python: >=3.11.4\n")
    assert wheels.faults(path, TARGET) == ()
    running = Target.running()
    path = raw_wheel(tmp_path, metadata=f"{METADATA}Requires-Python: =={running.python}.99\n")
    assert len(wheels.faults(path, running)) == 1


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["six.py"], ("six",)),
        (["yaml/__init__.py", "yaml/loader.py", "_yaml/__init__.py"], ("_yaml", "yaml")),
        (["google/auth/__init__.py", "google/auth/x.py"], ("google.auth",)),
        (["google/one.py", "google/cloud/two.py"], ("google.cloud.two", "google.one")),
        (["fast.cpython-311-x86_64-linux-gnu.so"], ("fast",)),
        (["fast.abi3.so"], ("fast",)),
        (["data/x.csv", "not-a-name.py"], ()),
        (["a.pth", "lib/b.py"], ("b", "lib.b")),
    ],
)
def test_the_names_that_importing_starts_at(files: list[str], names: tuple[str, ...], tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "alpha", "1.0", {name: "lib\n" if name.endswith(".pth") else "" for name in files})
    assert wheels.import_names([wheels.read(path)]) == {"alpha": names}


def test_a_folder_is_a_namespace_where_no_wheel_has_its_init(tmp_path: Path) -> None:
    one = make_wheel(tmp_path, "one", "1.0", {"acme/__init__.py": "", "acme/a.py": ""})
    two = make_wheel(tmp_path, "two", "1.0", {"acme/b.py": ""})
    assert wheels.import_names(map(wheels.read, (one, two))) == {"one": ("acme",), "two": ("acme",)}


# --- the writer -----------------------------------------------------------------------------------------------------

names = st.text("abcdefghijklmnopqrstuvwxyzäß, \"'-_1", min_size=1, max_size=20).map(lambda text: f"pkg/{text}.txt")


@given(st.dictionaries(names, st.binary(max_size=50), max_size=5))
def test_what_is_written_is_sound_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folded: dict[str, bytes] = {}
    for name, data in files.items():
        folded.setdefault(name.casefold(), data)
    path = wheels.write(tmp_path_factory.mktemp("w"), "alpha", "1.0", folded)
    assert wheels.faults(path, TARGET) == ()


def test_contents_may_be_files_and_equal_contents_are_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "data.bin").write_bytes(b"x" * 3_000_000)
    one = wheels.write(tmp_path, "alpha", "1.0", {"b": b"x" * 3_000_000, "a": b""})
    two = wheels.write(tmp_path / "two", "alpha", "1.0", {"a": b"", "b": tmp_path / "data.bin"})
    assert one.read_bytes() == two.read_bytes()
    assert wheels.faults(two) == ()


def test_paths_in_requirements_become_names(tmp_path: Path) -> None:
    metadata = (
        "Requires-Dist: lib @ file:///x/lib\nRequires-Dist: a[b] @ file:///c ; python_version > '3'\n"
        "Requires-Dist: kept @ https://host/kept.whl\n"
    )
    path = make_wheel(tmp_path, "alpha", "1.0", {"alpha/__init__.py": "", "alpha/data.txt": "x"}, metadata)
    (tmp_path / "to").mkdir()
    found = wheels.read(wheels.without_paths(path, tmp_path / "to"))
    assert [(each.name, each.url, each.extras, bool(each.marker)) for each in found.requires] == [
        ("lib", None, set(), False),
        ("a", None, {"b"}, True),
        ("kept", "https://host/kept.whl", set(), False),
    ]
    assert wheels.faults(found.path) == ()
    assert [path.name for path in (tmp_path / "to").iterdir()] == [found.filename]
