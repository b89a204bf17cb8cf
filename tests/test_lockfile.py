"""Locks (PEP 751): which are accepted, which refused and how, and that the written ones are such."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.pylock import Pylock

from conftest import OFFLINE, make_wheel, project, runs_in, write_files, write_zip
from depload import Target
from depload.errors import RequirementsError
from depload.making import tools
from depload.pipeline import convert
from depload.standards.lockfile import InvalidLockError, LockedFile, LockedPackage, read, write

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TARGET = Target("3.11", "manylinux_2_35_x86_64")
HASH = "a" * 64
WHEEL = f'{{ url = "https://host/six-1.0-py3-none-any.whl", size = 9, hashes = {{ sha256 = "{HASH}" }} }}'
SDIST = f'{{ url = "https://host/six-1.0.tar.gz", hashes = {{ sha256 = "{HASH}" }} }}'
FILE = LockedFile("https://host/six-1.0-py3-none-any.whl", "six-1.0-py3-none-any.whl", HASH, 9)


def lock(packages: str = f'[[packages]]\nname = "six"\nversion = "1.0"\nwheels = [{WHEEL}]\n', top: str = "") -> str:
    return f'lock-version = "1.0"\ncreated-by = "test"\n{top}\n{packages}'


def package(rest: str, name: str = "six") -> str:
    return f'[[packages]]\nname = "{name}"\n{rest}\n'


# --- accepted -------------------------------------------------------------------------------------------------------


def test_a_lock_names_packages_and_files() -> None:
    assert read(lock(), TARGET) == (LockedPackage("six", "1.0", (FILE,)),)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lock(top='lock-version-of = "x"'), id="unknown keys"),
        pytest.param(lock().replace('"1.0"\ncreated', '"1.7"\ncreated'), id="a later minor version"),
        pytest.param(lock(top='requires-python = ">=3.11.4"'), id="a patch version of the target's Python"),
        pytest.param(lock(top='requires-python = "==3.11.*"'), id="the target's Python"),
        pytest.param(lock(top="""environments = ["sys_platform == 'win32'", "sys_platform == 'linux'"]"""), id="linux"),
        pytest.param(lock(top='extras = ["fast"]\ndependency-groups = ["dev"]\ndefault-groups = []'), id="groups"),
    ],
)
def test_a_lock_that_is_for_the_target_is_read(text: str) -> None:
    assert [each.name for each in read(text, TARGET)] == ["six"]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        pytest.param(f'version = "1.0"\nsdist = {SDIST}', ["six-1.0.tar.gz"], id="an sdist"),
        pytest.param(f"wheels = [{WHEEL}]\nsdist = {SDIST}", [FILE.filename, "six-1.0.tar.gz"], id="both"),
        pytest.param(
            'archive = { url = "https://host/x/v1.zip", hashes = {} }', ["v1.zip"], id="an archive without version"
        ),
        pytest.param(
            'wheels = [{ name = "six-2-py3-none-any.whl", url = "https://host/a?b", hashes = {} }]',
            ["six-2-py3-none-any.whl"],
            id="a name beside the URL",
        ),
        pytest.param('wheels = [{ path = "w/six-1-py3-none-any.whl" }]', ["six-1-py3-none-any.whl"], id="a path"),
        pytest.param(
            'wheels = [{ path = "w/six-1-py3-none-any.whl", url = "https://host/six-2-py3-none-any.whl" }]',
            ["six-1-py3-none-any.whl"],
            id="a path before a URL",
        ),
        pytest.param(
            'wheels = [{ url = "https://host/six%2D1%2B2-py3-none-any.whl" }]',
            ["six-1+2-py3-none-any.whl"],
            id="a quoted URL",
        ),
    ],
)
def test_files_are_named_by_what_the_lock_says(rest: str, expected: list[str]) -> None:
    (found,) = read(lock(package(rest)), TARGET)
    assert [file.filename for file in found.files] == expected


def test_names_and_hashes_are_canonical() -> None:
    rest = f'wheels = [{{ url = "https://host/a_b-1-py3-none-any.whl", hashes = {{ sha256 = "{HASH.upper()}" }} }}]'
    (found,) = read(lock(package(rest, "A._b")), TARGET)
    assert (found.name, found.files[0].sha256) == ("a-b", HASH)


def test_a_directory_is_where_a_project_lies() -> None:
    (found,) = read(lock(package('directory = { path = "libs/six", editable = true }')), TARGET)
    assert (found.directory, found.files) == ("libs/six", ())


@pytest.mark.parametrize(
    ("marker", "needed"),
    [
        ("python_version >= '3.11'", True),
        ("python_full_version < '3.11'", False),
        ("sys_platform == 'linux' and platform_machine == 'x86_64'", True),
        ("sys_platform == 'win32'", False),
        ("'fast' in extras", False),
        ("'fast' not in extras", True),
        ("'main' in dependency_groups", True),
        ("'dev' in dependency_groups", False),
        ("'dev' in dependency_groups or 'main' in dependency_groups", True),
        ("'main' in dependency_groups and python_version < '3'", False),
        ("extra == 'fast'", False),
    ],
)
def test_packages_count_where_their_marker_holds(marker: str, needed: bool) -> None:
    text = lock(package(f'marker = "{marker}"\nwheels = [{WHEEL}]'), top='default-groups = ["main"]')
    assert bool(read(text, TARGET)) is needed


def test_of_one_package_for_several_targets_one_counts() -> None:
    one, other = (package(f"marker = \"python_version {sign} '3.12'\"\nwheels = [{WHEEL}]") for sign in ("<", ">="))
    assert len(read(lock(one + other), TARGET)) == 1


# --- refused --------------------------------------------------------------------------------------------------------

REFUSED = {
    "no TOML": ("[[", "not TOML"),
    "nested without end": ("a = " + "[" * 10_000, "not TOML"),
    "no version": ("packages = []", "the lock has no lock-version that is a str"),
    "a version of another type": ("lock-version = 1\npackages = []", "has lock-version that is a int, expected a str"),
    "a later major version": ('lock-version = "2.0"\npackages = []', "lock-version is '2.0', expected 1.x"),
    "no packages": ('lock-version = "1.0"\n', "the lock has no packages that is a list"),
    "packages that are no list": ('lock-version = "1.0"\npackages = 1\n', "packages that is a int, expected a list"),
    "packages that are no tables": ('lock-version = "1.0"\npackages = [1]\n', r"packages\[0\] is not a table"),
    "another Python": (lock(top='requires-python = ">=3.12"'), "the lock: requires-python is >=3.12, the target is"),
    "no specifier": (lock(top='requires-python = "new"'), "requires-python: "),
    "other environments": (
        lock(top="""environments = ["sys_platform == 'win32'"]"""),
        "environments has .*win32.* the target is Python 3.11",
    ),
    "environments that are no list": (lock(top='environments = "x"'), "environments that is a str, expected a list"),
    "no name": (lock(f"[[packages]]\nwheels = [{WHEEL}]"), r"packages\[0\] has no name that is a str"),
    "a marker that is none": (
        lock(package(f'marker = "python is new"\nwheels = [{WHEEL}]')),
        r"packages\[0\]\.marker: ",
    ),
    "a marker of another type": (lock(package("marker = 1")), "marker that is a int, expected a str"),
    "a package for another Python": (
        lock(package(f'requires-python = "<3"\nwheels = [{WHEEL}]')),
        r"packages\[0\] \(six\): requires-python is <3",
    ),
    "no files": (lock(package("")), r"packages\[0\] \(six\) has no wheels, sdist, archive or directory"),
    "no wheels": (lock(package("wheels = []")), "has no wheels, sdist, archive or directory"),
    "wheels that are no list": (lock(package('wheels = "x"')), "wheels that is a str, expected a list"),
    "wheels that are no tables": (lock(package("wheels = [1]")), r"packages\[0\] \(six\)\.wheels\[0\] is not a table"),
    "a file without place": (lock(package("wheels = [{}]")), r"wheels\[0\] has no url that is a str"),
    "a place of another type": (lock(package("wheels = [{ path = 1 }]")), "path that is a int, expected a str"),
    "a size of another type": (
        lock(package('sdist = { url = "https://h/a-1.tar.gz", size = true }')),
        "size that is a bool, expected a int",
    ),
    "hashes that are no table": (
        lock(package('sdist = { url = "https://h/a-1.tar.gz", hashes = "x" }')),
        "hashes that is a str, expected a dict",
    ),
    "a hash of another type": (
        lock(package('sdist = { url = "https://h/a-1.tar.gz", hashes = { sha256 = 1 } }')),
        "sha256 that is a int, expected a str",
    ),
    "a wheel of another package": (
        lock(package(f"wheels = [{WHEEL}]", "seven")),
        "six-1.0-py3-none-any.whl is not a wheel of seven",
    ),
    "version control": (
        lock(package('vcs = { type = "git", url = "https://h/x", commit-id = "1" }')),
        "is a vcs entry, which is no file with a hash; lock a release of it instead",
    ),
    "an archive and wheels": (
        lock(package(f"wheels = [{WHEEL}]\narchive = {SDIST}")),
        "has archive and wheels, which exclude each other",
    ),
    "a subdirectory": (
        lock(package('archive = { url = "https://h/a.zip", subdirectory = "x" }')),
        "archive has a subdirectory, which cannot be built from",
    ),
    "one package twice": (
        lock(package(f"wheels = [{WHEEL}]") + package(f"wheels = [{WHEEL}]")),
        "packages has six 2 times for the target",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_lock_that_cannot_be_used_is_refused_by_its_key(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(InvalidLockError, match=message):
        read(text, TARGET)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidLockError) as error:
        read(lock(package("") + package("marker = 1", "b") + package("wheels = [1]", "c")), TARGET)
    assert [fault.split()[0] for fault in error.value.faults] == ["packages[0]", "packages[1]", "packages[2]"]


def test_a_patch_version_counts_where_it_is_known() -> None:
    running = Target.running()
    for wanted in (">=3.99", f"=={running.python}.99"):
        with pytest.raises(InvalidLockError, match="requires-python is"):
            read(lock(top=f'requires-python = "{wanted}"'), running)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["lock-version", "packages", "name", "wheels", "sdist", "archive", "hashes", "path", "marker"]
                ),
                inner,
            )
        ),
    )
)
def test_no_lock_is_a_crash(data: Any) -> None:
    """Whatever types stand where, the answer is packages or an InvalidLockError."""
    parsed = {"lock-version": "1.0", "packages": [data]}
    with patch("depload.standards.lockfile.toml.read", return_value=parsed), contextlib.suppress(InvalidLockError):
        read("", TARGET)


# --- written --------------------------------------------------------------------------------------------------------

hexadecimal = st.text("0123456789abcdef", min_size=64, max_size=64)
places = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(lambda text: f"six-1.0-{text}.whl")
files = st.builds(LockedFile, places, st.just(""), hexadecimal, st.integers(0, 2**40))


@given(st.lists(files, min_size=1, max_size=3), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_written_is_read_again_whatever_the_strings(found: list[LockedFile], version: str) -> None:
    text = write(TARGET, [LockedPackage("six", version, tuple(found))])
    (row,) = tomllib.loads(text)["packages"]
    assert row.get("version", "") == version
    assert [wheel["path"] for wheel in row["wheels"]] == [file.location for file in found]
    assert [(wheel["size"], wheel["hashes"]["sha256"]) for wheel in row["wheels"]] == [
        (file.size, file.sha256) for file in found
    ]


def test_what_is_not_known_is_not_written() -> None:
    text = write(TARGET, [LockedPackage("six", None, (LockedFile("six-1-py3-none-any.whl", "", HASH, None),))])
    assert "version = " not in text.partition("[[packages]]")[2]
    assert "size" not in text
    assert read(text, TARGET)[0].files[0].size is None


def test_equal_packages_are_equal_bytes_in_any_order() -> None:
    one, two = (LockedPackage(name, "1", (FILE,)) for name in ("one", "two"))
    assert write(TARGET, [one, two]) == write(TARGET, [two, one])


def test_a_written_lock_is_one_to_packaging() -> None:
    text = write(TARGET, [LockedPackage("six", "1.0", (LockedFile("six-1.0-py3-none-any.whl", "", HASH, 9),))])
    parsed = Pylock.from_dict(tomllib.loads(text))
    parsed.validate()
    assert [str(each.name) for each in parsed.packages] == ["six"]


def test_uv_installs_from_the_lock_inside_a_wheelhouse(tmp_path: Path, base: Path) -> None:
    uv = tools.uv()
    assert uv is not None
    make_wheel(tmp_path / "source", "alpha", "1.0", {"alpha.py": ""}, "Requires-Dist: beta-b\n")
    make_wheel(tmp_path / "source", "beta-b", "2.0", {"beta_b.py": ""})
    converted = convert(tmp_path / "source", base, options=OFFLINE)
    with zipfile.ZipFile(converted.wheelhouse) as opened:
        opened.extractall(tmp_path / "unzipped")
    done = subprocess.run(
        [
            uv,
            "pip",
            "install",
            "--dry-run",
            "--offline",
            "--target",
            "x",
            "--python",
            sys.executable,
            "-r",
            "pylock.toml",
        ],
        cwd=tmp_path / "unzipped",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Would install 2 packages" in done.stderr


# --- as a source ----------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path: Path) -> Callable[[str], Path]:
    """A source with a lock and a wheel in a folder."""

    def make(packages: str) -> Path:
        make_wheel(tmp_path / "source" / "wheels", "six", "1.0", {"six.py": ""})
        write_files(tmp_path / "source", {"pylock.toml": lock(packages)})
        return tmp_path / "source"

    return make


def test_a_lock_with_paths_takes_its_files_from_the_source(locked: Callable[[str], Path], base: Path) -> None:
    source = locked(package('version = "1.0"\nwheels = [{ path = "wheels/six-1.0-py3-none-any.whl" }]'))
    converted = convert(source, base, options=OFFLINE)
    assert (converted.format, [wheel.name for wheel in converted.wheels]) == ("mixed", ["six"])


def test_a_lock_beside_the_project_that_it_is_of(tmp_path: Path, base: Path) -> None:
    text = lock(
        package('directory = { path = ".", editable = true }', "acme")
        + package('version = "1.0"\nwheels = [{ path = "wheels/six-1.0-py3-none-any.whl" }]')
    )
    wheel = make_wheel(tmp_path, "six", "1.0", {"six.py": ""})
    files = {**project("acme", requires=["six"]), "pylock.toml": text, f"wheels/{wheel.name}": wheel.read_bytes()}
    converted = convert(write_zip(tmp_path / "acme.zip", files), base, options=OFFLINE)
    assert {wheel.name: wheel.origin for wheel in converted.wheels} == {
        "acme": "built from the project",
        "six": "wheels/six-1.0-py3-none-any.whl",
    }


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("../six-1.0-py3-none-any.whl", "lies outside of the source"),
        ("/etc/six-1.0-py3-none-any.whl", "lies outside of the source"),
        ("file:///etc/six-1.0-py3-none-any.whl", "lies outside of the source"),
        ("wheels/six-2.0-py3-none-any.whl", "is not in the source"),
        ("ftp://host/six-2.0-py3-none-any.whl", "is not in the source"),
    ],
)
def test_a_lock_takes_nothing_from_outside_of_the_source(
    place: str, message: str, locked: Callable[[str], Path], base: Path
) -> None:
    with pytest.raises(RequirementsError, match=f"pylock.toml: .*{message}"):
        convert(locked(package(f'wheels = [{{ path = "{place}" }}]')), base, options=OFFLINE)
    assert runs_in(base) == []


def test_what_is_wrong_with_a_lock_is_told_by_file_and_key(locked: Callable[[str], Path], base: Path) -> None:
    with pytest.raises(RequirementsError) as error:
        convert(locked(package("") + package("wheels = [1]", "b")), base, options=OFFLINE)
    assert [fault.where for fault in error.value.faults] == ["pylock.toml", "pylock.toml"]
