"""The check before loading: everything that would be met, told in one go, with nothing loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from conftest import OFFLINE, make_wheel, run_on_spark, run_python, write_files
from depload.checking import compatibility, findings, preflight, runtimes
from depload.checking.inventory import Brought, Inventory, target_of
from depload.checking.preflight import check
from depload.errors import AlteredWheelhouseError, LoadError, NotAWheelhouseError, TargetError
from depload.pipeline import convert
from depload.published.wheelhouse import Manifest, PackedWheel
from depload.standards.target import Target
from depload.travels import inspection
from depload.travels.activation import here

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from depload.checking.findings import Finding
    from depload.pipeline import Converted

RUNTIMES = ("13.3", "14.3", "15.4", "16.4", "17.3")
OTHER_PYTHON = "3.10" if Target.running().python != "3.10" else "3.12"
LINUX = Target("3.11", "manylinux_2_35_x86_64")
# Refused by convert, but for another target than the one it converts for.
NEEDS_PYSPARK = f"Requires-Dist: pyspark>=9; python_version == '{Target.running().python}'\n"


# --- what the tests make --------------------------------------------------------------------------------------------


def install(site: Path, name: str, version: str, files: Mapping[str, str], metadata: str = "") -> Path:
    """A package as an installer leaves it."""
    dist_info = f"{name.replace('-', '_')}-{version}.dist-info"
    record = "".join(f"{file},,\n" for file in (*files, f"{dist_info}/METADATA", f"{dist_info}/RECORD"))
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
    return write_files(site, {**files, f"{dist_info}/METADATA": about, f"{dist_info}/RECORD": record})


CHECK = """
    import json, sys
    {before}
    import depload
    checked = depload.check(sys.argv[1], {options})
    print(json.dumps({{**checked.to_json(), "text": str(checked)}}))
"""


def checked(converted: Converted, *sites: Path, before: str = "", options: str = "") -> Any:
    """What a process of its own, with these directories on its path, says."""
    code = CHECK.format(before=before, options=options)
    inherited = [entry for entry in sys.path if entry and Path(entry).is_dir()]
    return run_python(code, converted.path, PYTHONPATH=":".join([*map(str, sites), *inherited]))


def told(answer: Any, *kinds: str) -> list[tuple[str, str, str, str]]:
    """Kind, package, installed and brought of what was found, of these kinds or all."""
    columns = ("kind", "package", "installed", "brought")
    rows = [tuple(row[column] for column in columns) for row in answer["findings"]]
    return [row for row in rows if not kinds or row[0] in kinds]


def brought(
    versions: Mapping[str, str], requires: Mapping[str, Sequence[str]] | None = None, python: str = ""
) -> Brought:
    """A wheelhouse of packages that have one module each, of their own name."""
    packed = tuple(
        PackedWheel(
            f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
            name,
            version,
            *("0" * 64, 1),
            native=False,
            origin="",
            requested=True,
            names=(name.replace("-", "_"),),
        )
        for name, version in versions.items()
    )
    asked = {name: tuple(map(Requirement, lines)) for name, lines in (requires or {}).items()}
    manifest = Manifest("d" * 64, "made", "wheels", LINUX, packed, (), {})
    return Brought(manifest, asked, dict.fromkeys(versions, SpecifierSet(python)), dict.fromkeys(versions, frozenset()))


def place(packages: Mapping[str, str], requires: Mapping[str, Sequence[str]] | None = None) -> Inventory:
    """A driver that has these packages."""
    return Inventory(
        label="driver",
        kind="driver",
        target=LINUX,
        markers={**LINUX.environment(), "python_full_version": "3.11.4"},
        packages=packages,
        requires={name: tuple(lines) for name, lines in (requires or {}).items()},
    )


def pairs(found: Sequence[Finding], *kinds: str) -> list[tuple[str, str, str, str]]:
    return [(each.kind, each.package, each.installed, each.brought) for each in found if each.kind in kinds]


# --- what is replaced -----------------------------------------------------------------------------------------------


def test_another_version_is_replaced_and_the_same_one_is_counted(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(
        alpha=("2.0", {"alpha.py": ""}), beta=("2023.7.1", {"beta.py": ""}), gamma=("1.0", {"gamma.py": ""})
    )
    install(tmp_path / "site", "Alpha", "1.0", {"alpha.py": ""})
    install(tmp_path / "site", "beta", "2023.07.01", {"beta.py": ""})
    answer = checked(converted, tmp_path / "site")
    assert told(answer) == [("replaced", "alpha", "1.0", "2.0")]
    assert [(row["label"], row["same"]) for row in answer["places"]] == [("driver", 1)]
    assert answer["ok"] is True
    assert answer["digest"] == converted.digest
    assert "It will load with isolation='shared': nothing stands in the way.\n" in answer["text"]
    assert answer["text"].endswith("No workers were asked: that takes a Spark session.")


def test_of_an_empty_place_there_is_nothing_to_tell(published: Callable[..., Converted]) -> None:
    answer = checked(published(alpha=("1.0", {"alpha.py": ""})))
    assert answer["findings"] == []
    assert answer["ok"] is True


def test_a_check_loads_nothing_and_leaves_the_process_as_it_was(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    answer = run_python(
        """
        import json, os, sys, depload
        before = list(sys.path)
        depload.check(sys.argv[1])
        heavy = {"alpha", "pyspark", "click"} & set(sys.modules)
        print(json.dumps([sys.path == before, sorted(heavy), os.path.exists(os.environ["DEPLOAD_SITES"])]))
        """,
        converted.path,
    )
    assert answer == [True, [], False]


# --- what was imported or loaded before -----------------------------------------------------------------------------


@pytest.mark.parametrize(("isolation", "ok"), [("shared", False), ("process", True)])
def test_what_was_imported_in_another_version_blocks_shared_isolation_alone(
    isolation: str, ok: bool, published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(alpha=("2.0", {"alpha.py": ""}), beta=("2.0", {"beta.py": ""}))
    install(tmp_path / "site", "alpha", "1.0", {"alpha.py": ""})
    install(tmp_path / "site", "beta", "2.0", {"beta.py": ""})
    options = f"isolation={isolation!r}"
    answer = checked(converted, tmp_path / "site", before="import alpha, beta", options=options)
    assert told(answer) == [("imported", "alpha", "1.0", "2.0"), ("replaced", "alpha", "1.0", "2.0")]
    row = answer["findings"][0]
    assert row["blocks"] is not ok
    assert answer["ok"] is ok
    assert str(tmp_path / "site" / "alpha.py") in row["why"]
    assert "isolation='process'" in row["remedy"]
    assert (row["remedy"] in answer["text"]) is not ok


def test_what_another_loaded_wheelhouse_brings_is_not_taken_for_installed(published: Callable[..., Converted]) -> None:
    first = published(alpha=("1.0", {"alpha.py": ""}), same=("1.0", {"same.py": ""}))
    second = published(alpha=("2.0", {"alpha.py": ""}), same=("1.0", {"same.py": ""}))
    answer = checked(second, before=f"import depload; depload.load({first.path!r})")
    assert told(answer) == [("loaded", "alpha", "1.0", "2.0")]
    assert first.digest[:12] in answer["findings"][0]["why"]
    assert answer["ok"] is False


def test_a_wheelhouse_that_is_loaded_already_meets_nothing(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha/__init__.py": "", "alpha/sub.py": ""}))
    before = f"import depload; depload.load({converted.path!r}); import alpha.sub"
    answer = checked(converted, before=before)
    assert answer["findings"] == []
    assert answer["places"][0]["same"] == 1


# --- what is hidden -------------------------------------------------------------------------------------------------


def test_modules_of_a_package_of_another_name_are_hidden_and_both_are_named(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(pynotes=("6.0", {"notes/__init__.py": "", "_notes.py": ""}), alpha=("1.0", {"alpha.py": ""}))
    install(tmp_path / "site", "old-notes", "0.9", {"notes/__init__.py": "", "_notes.py": ""})
    write_files(tmp_path / "loose", {"alpha.py": ""})
    answer = checked(converted, tmp_path / "site", tmp_path / "loose")
    loose = str(tmp_path / "loose" / "alpha.py")
    assert told(answer) == [("shadowed", "alpha", loose, "1.0"), ("shadowed", "pynotes", "old-notes 0.9", "6.0")]
    assert "modules _notes, notes of old-notes 0.9 will be hidden by pynotes" in answer["text"]
    assert answer["ok"] is True


def test_modules_that_the_package_itself_has_installed_are_not_hidden(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(pynotes=("6.0", {"notes/__init__.py": ""}))
    install(tmp_path / "site", "PyNotes", "6.0", {"notes/__init__.py": ""})
    debian = {
        "sextant.py": "",
        "sextant-1.16.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: sextant\nVersion: 1.16\n",
    }
    write_files(tmp_path / "debian", {**debian, "sextant-1.16.egg-info/top_level.txt": "sextant\n"})
    assert checked(converted, tmp_path / "site")["findings"] == []
    converted = published(sextant=("1.16", {"sextant.py": ""}))
    assert checked(converted, tmp_path / "debian")["findings"] == []
    (tmp_path / "debian" / "sextant-1.16.egg-info" / "top_level.txt").unlink()
    assert checked(converted, tmp_path / "debian")["findings"] == [], "nothing says whose the module is"


def test_a_package_that_only_says_its_top_level_names_owns_them(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    about = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: python-sextant\nVersion: 1.0\n",
        "top_level.txt": "other\nsextant\n",
    }
    files = {f"python_sextant-1.0.egg-info/{name}": text for name, text in about.items()}
    write_files(tmp_path / "debian", {"sextant.py": "", **files})
    answer = checked(published(sextant=("1.16", {"sextant.py": ""})), tmp_path / "debian")
    assert told(answer) == [("shadowed", "sextant", "python-sextant 1.0", "1.16")]


def test_modules_that_python_has_itself_are_never_reached(published: Callable[..., Converted]) -> None:
    converted = published(argparse=("1.4.0", {"argparse.py": "", "own.py": ""}))
    answer = checked(converted)
    (row,) = answer["findings"]
    assert (row["kind"], row["package"], row["blocks"]) == ("shadowed", "argparse", False)
    assert row["installed"] == f"Python {sys.version.split()[0]}"
    assert row["why"] == "module argparse of argparse will never be reached: Python has its own"


@pytest.mark.parametrize(
    ("above", "kinds"),
    [
        ("NAME = 1\n", ["unreached"]),
        ("__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n", []),
        ("__import__('pkg_resources').declare_namespace(__name__)\n", []),
        (None, []),
    ],
)
def test_a_package_that_closes_the_name_above_a_module_keeps_it_from_being_found(
    above: str | None, kinds: list[str], published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(acme_text=("1.0", {"acme/deep/text/__init__.py": ""}))
    closing = {"acme/__init__.py": above} if above is not None else {}
    install(tmp_path / "site", "acme-base", "3.0", {**closing, "acme/base.py": ""})
    answer = checked(converted, tmp_path / "site")
    assert [row["kind"] for row in answer["findings"]] == kinds
    assert answer["ok"] is not kinds
    if kinds:
        assert told(answer) == [("unreached", "acme-text", "acme-base 3.0", "1.0")]
        assert "acme.deep.text is not found" in answer["findings"][0]["why"]


def test_a_regular_package_hides_the_namespace_that_others_share(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(acme=("1.0", {"acme/__init__.py": ""}))
    install(tmp_path / "site", "acme-base", "3.0", {"acme/base.py": ""})
    assert told(checked(converted, tmp_path / "site")) == [("shadowed", "acme", "acme-base 3.0", "1.0")]


# --- what cannot work together --------------------------------------------------------------------------------------


def test_an_installed_package_that_stays_needs_another_version_than_is_brought(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(numpy=("1.26.4", {"numpy.py": ""}), scipy=("9.0", {"scipy.py": ""}))
    needs = "Requires-Dist: numpy>=1.23\nRequires-Dist: numpy>=2.1; python_version >= '3.8'\n"
    never = "Requires-Dist: numpy>=7; python_version < '3'\nRequires-Dist: numpy>=8; extra == 'more'\n"
    install(tmp_path / "site", "numpy", "2.3.0", {"numpy.py": ""})
    install(tmp_path / "site", "pyarrow", "23.0.0", {"pyarrow.py": ""}, needs + never)
    install(tmp_path / "site", "scipy", "1.17.0", {"scipy.py": ""}, "Requires-Dist: numpy>=2\n")  # is replaced itself
    answer = checked(converted, tmp_path / "site")
    assert told(answer, "incompatible") == [("incompatible", "pyarrow", "pyarrow 23.0.0", "numpy 1.26.4")]
    row = answer["findings"][0]
    assert row["why"] == "pyarrow needs numpy>=2.1"
    assert row["remedy"].startswith("ask for numpy>=2.1 in the source, or put pyarrow into it")
    assert answer["ok"] is False
    assert "It would load with isolation='shared', and then not work. What to do:\n  - pyarrow: ask" in answer["text"]


def test_what_did_not_go_together_before_is_not_the_wheelhouses_fault() -> None:
    there = place({"old": "1.0", "alpha": "1.0"}, {"old": ["alpha>=3"]})
    (found,) = [each for each in findings.of(brought({"alpha": "2.0"}), there) if each.kind != "replaced"]
    assert (found.kind, found.why) == ("limited", "old needs alpha>=3: it does not have that now either")


def test_a_wheel_needs_another_version_of_what_the_platform_has(tmp_path: Path, base: Path) -> None:
    make_wheel(tmp_path / "wheels", "alpha", "1.0", {"alpha.py": ""}, NEEDS_PYSPARK)
    converted = convert(tmp_path / "wheels", base, target=Target(OTHER_PYTHON, LINUX.platform), options=OFFLINE)
    install(tmp_path / "site", "pyspark", "3.5.0", {"pyspark/__init__.py": "__version__ = '3.5.0'\n"})
    answer = checked(converted, tmp_path / "site")
    assert told(answer) == [("incompatible", "alpha", "pyspark 3.5.0", "alpha 1.0")]
    assert answer["findings"][0]["why"] == "alpha needs pyspark>=9"


@pytest.mark.parametrize(
    ("requires", "there", "expected"),
    [
        ("other>=2", {"other": "1.0"}, [("incompatible", "alpha", "other 1.0", "alpha 1.0")]),
        ("other>=2", {"other": "2.0"}, []),
        ("other>=2", {}, [("incompatible", "alpha", "no other", "alpha 1.0")]),
        ("other>=2; sys_platform == 'win32'", {}, []),
        ("other>=2; extra == 'asked'", {"other": "1.0"}, [("incompatible", "alpha", "other 1.0", "alpha 1.0")]),
        ("other>=2; extra == 'more'", {"other": "1.0"}, []),
        ("pyspark>=3", {}, [("limited", "alpha", "no pyspark", "alpha 1.0")]),
        ("pyspark>=3", {"databricks-connect": "15.4.1"}, []),
        ("pyspark>=3", {"pyspark": "3.5.2.dev0"}, []),
        ("other>=2", {"other": "not a version"}, []),
        ("other @ https://example.org/other.zip", {"other": "1.0"}, []),
        ("beta>=9", {"beta": "1.0"}, []),  # is brought as well: versions that were found together are not judged
    ],
)
def test_what_a_wheel_requires_of_what_is_not_brought(
    requires: str, there: dict[str, str], expected: list[tuple[str, str, str, str]]
) -> None:
    wheelhouse = brought({"alpha": "1.0", "beta": "1.0"}, {"alpha": [requires], "beta": ["alpha[asked]"]})
    found = findings.of(wheelhouse, place(there))
    assert pairs(found, "incompatible", "limited") == expected


@pytest.mark.parametrize(
    ("there", "brings", "expected"),
    [
        # What each pair does was seen; the table says how.
        ({"pyarrow": "14.0.1"}, {"numpy": "2.1.3"}, "incompatible"),
        ({"pyarrow": "15.0.2"}, {"numpy": "2.1.3"}, "incompatible"),
        ({"pyarrow": "15.0.2"}, {"numpy": "1.23.5"}, None),
        ({"pyarrow": "16.0.0"}, {"numpy": "2.1.3"}, None),
        ({"pyarrow": "17.0.0"}, {"numpy": "1.23.5"}, None),
        ({"pyarrow": "22.0.0"}, {"numpy": "1.26.4"}, None),
        ({"pyarrow": "25.0.0"}, {"numpy": "1.26.4"}, None),
        ({"pyarrow": "26.0.0"}, {"numpy": "1.26.4"}, "incompatible"),
        ({"pyarrow": "26.0.0"}, {"numpy": "2.1.3"}, None),
        ({"numpy": "1.26.4"}, {"pyarrow": "26.0.0"}, "incompatible"),
        ({"numpy": "2.1.3"}, {"pyarrow": "26.0.0"}, None),
        ({}, {"pyarrow": "14.0.1", "numpy": "2.1.3"}, "incompatible"),
        ({}, {"pyarrow": "26.0.0"}, None),
        ({"pandas": "1.5.3"}, {"numpy": "2.1.3"}, "incompatible"),
        ({"pandas": "2.2.2"}, {"numpy": "2.1.3"}, None),
        ({"scikit-learn": "1.3.0"}, {"numpy": "2.1.3"}, "incompatible"),
        ({"matplotlib": "3.8.4"}, {"numpy": "2.1.3"}, None),
        ({"statsmodels": "0.14.0"}, {"numpy": "2.1.3"}, "incompatible"),
        # PySpark: a part of it asks when it runs.
        ({"pyspark": "3.4.1"}, {"pyarrow": "3.0.0"}, None),
        ({"pyspark": "3.5.0"}, {"pyarrow": "3.0.0"}, "limited"),
        ({"pyspark": "3.5.0"}, {"pandas": "1.0.4"}, "limited"),
        ({"pyspark": "3.5.0"}, {"pandas": "1.5.3"}, None),
        ({"pyspark": "3.5.2.dev0"}, {"numpy": "2.1.3"}, "limited"),
        ({"pyspark": "4.0.0"}, {"pandas": "1.5.3"}, "limited"),
        ({"pyspark": "4.0.0"}, {"pandas": "2.0.0", "pyarrow": "11.0.0", "numpy": "1.21"}, None),
        ({"pyspark": "4.1.0"}, {"pandas": "2.1.4"}, "limited"),
        ({"pyspark": "4.1.0"}, {"pyarrow": "14.0.2"}, "limited"),
        ({"pyspark": "4.2.1"}, {"pyarrow": "17.0.0"}, "limited"),
        ({"pyspark": "4.2.1"}, {"numpy": "1.21.6"}, "limited"),
        ({"pyspark": "4.3.0"}, {"numpy": "1.23.1"}, "limited"),
        ({"pyspark": "4.3.0"}, {"numpy": "2.1.3", "pandas": "2.2.2", "pyarrow": "18.0.0"}, None),
    ],
)
def test_needs_that_no_metadata_declares_are_known(
    there: dict[str, str], brings: dict[str, str], expected: str | None
) -> None:
    found = findings.of(brought(brings), place(there))
    assert [each.kind for each in found if each.kind in ("incompatible", "limited")] == ([expected] if expected else [])


def test_every_row_of_the_table_says_where_it_is_from() -> None:
    for row in compatibility.UNDECLARED:
        assert row.source
        assert row.why
        SpecifierSet(row.versions)
        Requirement(row.requires)


def test_the_extras_of_pyspark_count_whether_they_were_asked_for_or_not() -> None:
    declares = ["grpcio>=1.76; extra == 'connect'", "pandas>=9; extra == 'ml'", "pandas>=2.2.0; extra == 'sql'"]
    there = place({"pyspark": "4.3.0", "grpcio": "1.80"}, {"pyspark": declares})
    found = findings.of(brought({"grpcio": "1.60", "pandas": "2.1.0"}), there)
    assert pairs(found, "limited") == [
        ("limited", "pyspark", "pyspark 4.3.0", "grpcio 1.60"),
        ("limited", "pyspark", "pyspark 4.3.0", "pandas 2.1.0"),
    ]
    assert found[0].why == "pyspark needs grpcio>=1.76: its extras for pandas and Spark Connect ask for it"
    rows = compatibility.undeclared("pyspark", "4.3.0")
    seen = next(row.why for row in rows if row.requires == "pandas>=2.2.0")
    assert found[1].why == f"pyspark needs pandas>=2.2.0: {seen}", "what was seen is told, not what is declared"
    assert found[1].remedy == "ask for pandas>=2.2.0 in the source"


def test_what_is_limited_does_not_block_and_is_not_passed_over(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(pandas=("1.0.0", {"pandas.py": ""}))
    install(tmp_path / "site", "pyspark", "3.5.0", {"pyspark/__init__.py": "__version__ = '3.5.0'\n"})
    answer = checked(converted, tmp_path / "site")
    assert told(answer) == [("limited", "pyspark", "pyspark 3.5.0", "pandas 1.0.0")]
    assert answer["ok"] is True
    assert "nothing stands in the way, but read what is limited." in answer["text"]


def test_a_pyspark_that_is_no_installed_package_counts(published: Callable[..., Converted], tmp_path: Path) -> None:
    converted = published(pandas=("1.0.0", {"pandas.py": ""}))
    hide = "import importlib.metadata as m; found = m.distributions\n    "
    hide += "m.distributions = lambda **about: [d for d in found(**about) if d.metadata['Name'] != 'pyspark']\n    "
    write_files(tmp_path / "own", {"pyspark/__init__.py": "__version__ = '4.0.0'\n"})
    answer = checked(converted, tmp_path / "own", before=hide + "import pyspark")
    assert told(answer, "limited") == [("limited", "pyspark", "pyspark 4.0.0", "pandas 1.0.0")]


_VERSIONS = st.builds("{}.{}.{}".format, *[st.integers(0, 30)] * 3)


@given(installed=_VERSIONS, brings=_VERSIONS, bound=_VERSIONS, operator=st.sampled_from(["<", ">=", "==", "!="]))
def test_a_need_is_broken_exactly_where_its_specifier_says_so(
    installed: str, brings: str, bound: str, operator: str
) -> None:
    """An installed package that stays is told of where what is brought is not in its specifier."""
    there = place({"stays": "1.0", "other": installed}, {"stays": [f"other{operator}{bound}"]})
    kinds = [each.kind for each in findings.of(brought({"other": brings}), there)]
    specifier = SpecifierSet(f"{operator}{bound}")
    broken = not specifier.contains(brings)
    before = not specifier.contains(installed)
    assert ("incompatible" in kinds) is (broken and not before)
    assert ("limited" in kinds) is (broken and before)
    assert ("replaced" in kinds) is (Version(installed) != Version(brings))


# --- wheels that do not run -----------------------------------------------------------------------------------------


def test_wheels_for_another_python_or_glibc_are_named_with_the_target_that_mends_it(tmp_path: Path, base: Path) -> None:
    made = make_wheel(tmp_path / "wheels", "native", "1.0", {"native.py": ""})
    tag = f"cp{OTHER_PYTHON.replace('.', '')}"
    made.rename(made.with_name(f"native-1.0-{tag}-{tag}-manylinux_2_17_x86_64.whl"))
    made = make_wheel(tmp_path / "wheels", "newer", "1.0", {"newer.py": ""})
    made.rename(made.with_name("newer-1.0-py3-none-manylinux_2_38_x86_64.whl"))
    make_wheel(tmp_path / "wheels", "pure", "1.0", {"pure.py": ""})
    there = Target(OTHER_PYTHON, "manylinux_2_39_x86_64")
    converted = convert(tmp_path / "wheels", base, target=there, options=OFFLINE)
    answer = checked(converted)
    assert "native" in [row["package"] for row in answer["findings"] if row["kind"] == "target"]
    assert f"--python {Target.running().python} --platform" in answer["findings"][0]["remedy"]
    assert "It will not load with isolation='shared'. What to do:" in answer["text"]
    old, new = check(converted.path, runtime="13.3"), check(converted.path, runtime="16.4")
    expected = {old: {"newer"}, new: {"native"}} if OTHER_PYTHON == "3.10" else {old: {"native", "newer"}, new: set()}
    for found, packages in expected.items():
        assert {each.package for each in found.findings if each.kind == "target"} == packages
        assert found.ok is not bool(packages)
        assert all("--runtime 1" in each.remedy for each in found.blocking)


@pytest.mark.parametrize(("python", "runs"), [(">=3.11", True), (">=3.11.5", False), ("<3.11", False), ("", True)])
def test_a_wheel_for_every_platform_may_require_another_python(python: str, runs: bool) -> None:
    found = findings.of(brought({"alpha": "1.0"}, python=python), place({}))
    assert [each.kind for each in found] == ([] if runs else ["target"])


@pytest.mark.parametrize(
    ("system", "machine", "libc", "platform"),
    [
        ("Linux", "x86_64", ["glibc", "2.35"], "manylinux_2_35_x86_64"),
        ("Linux", "aarch64", ["glibc", "2.17"], "manylinux_2_17_aarch64"),
        ("Linux", "x86_64", ["musl", "1.2.4"], "musllinux_1_2_x86_64"),
        ("Linux", "x86_64", ["", ""], "linux_x86_64"),
        ("Darwin", "arm64", ["", ""], Target.running().platform),
    ],
)
def test_a_worker_says_what_wheels_it_takes(system: str, machine: str, libc: list[str], platform: str) -> None:
    facts = {"python": "3.11.7", "system": system, "machine": machine, "libc": libc}
    assert target_of(facts) == Target("3.11", platform)


def test_this_process_would_be_the_same_target_as_a_worker() -> None:
    assert target_of(inspection.facts(here, {}, [])) == Target.running()


# --- everything at once ---------------------------------------------------------------------------------------------


def test_everything_is_found_in_one_go_and_always_in_the_same_order(tmp_path: Path, base: Path) -> None:
    source = tmp_path / "wheels"
    make_wheel(source, "alpha", "2.0", {"alpha.py": "", "enum.py": ""}, NEEDS_PYSPARK)
    make_wheel(source, "numpy", "2.1.3", {"numpy.py": ""})
    make_wheel(source, "acme-text", "1.0", {"acme/text.py": ""})
    made = make_wheel(source, "native", "1.0", {"native.py": ""})
    tag = f"cp{OTHER_PYTHON.replace('.', '')}"
    made.rename(made.with_name(f"native-1.0-{tag}-{tag}-manylinux_2_17_x86_64.whl"))
    converted = convert(source, base, target=Target(OTHER_PYTHON, "manylinux_2_35_x86_64"), options=OFFLINE)
    site = tmp_path / "site"
    install(site, "alpha", "1.0", {"alpha.py": ""})
    install(site, "acme", "1.0", {"acme/__init__.py": ""})
    install(site, "pyarrow", "15.0.2", {"pyarrow.py": ""}, "Requires-Dist: numpy<2,>=1.16.6\n")
    install(site, "pyspark", "3.5.0", {"pyspark/__init__.py": ""})
    answer = checked(converted, site, before="import alpha")
    assert [row[:2] for row in told(answer)] == [
        ("target", "native"),
        ("imported", "alpha"),
        ("unreached", "acme-text"),
        ("incompatible", "alpha"),
        ("incompatible", "pyarrow"),
        ("limited", "pyspark"),
        ("shadowed", "alpha"),
        ("replaced", "alpha"),
    ]
    assert [row["blocks"] for row in answer["findings"]] == [True] * 5 + [False] * 3
    pyarrow = answer["findings"][4]["why"]
    assert pyarrow == "pyarrow needs numpy<2,>=1.16.6: it was compiled for numpy 1, and importing it fails with numpy 2"
    assert answer == checked(converted, site, before="import alpha")


# --- runtimes -------------------------------------------------------------------------------------------------------


def test_there_is_a_list_for_each_long_term_runtime() -> None:
    assert runtimes.known() == RUNTIMES


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_list_of_a_runtime_has_what_every_image_has(runtime: str) -> None:
    listed = runtimes.read(runtime)
    assert listed.packages.keys() >= {"numpy", "pandas", "pyarrow", "pip", "six"}
    assert all(name == compatibility.name_of(Requirement(name)) for name in listed.packages)
    assert all(compatibility.is_version(version) for version in (*listed.packages.values(), listed.spark))
    assert listed.requires.keys() <= listed.packages.keys()
    assert {"pandas", "pyarrow", "matplotlib"} <= listed.requires.keys()
    assert "numpy" in {compatibility.name_of(Requirement(line)) for line in listed.requires["pandas"]}
    assert all(Requirement(line).marker is None for lines in listed.requires.values() for line in lines)


@pytest.mark.parametrize("name", ["15.4", " 15.4 ", "15.4.x-scala2.12", "15.4.x-cpu-ml-scala2.12", "15.4 LTS"])
def test_a_runtime_is_named_as_people_and_clusters_name_it(name: str, published: Callable[..., Converted]) -> None:
    checked_there = check(published(alpha=("1.0", {"alpha.py": ""})).path, runtime=name)
    (where,) = checked_there.places
    assert (where.label, where.python, where.glibc) == ("runtime 15.4", "3.11", "2.35")
    assert where.unknown > 0
    assert f"What {where.unknown} of its packages require is not known here." in str(checked_there)


@pytest.mark.parametrize("name", ["15.3", "15.x", "serverless-3", "client.1", "18.0", "7.3", "nonsense"])
def test_a_runtime_without_a_list_is_refused(name: str, published: Callable[..., Converted]) -> None:
    with pytest.raises(TargetError) as raised:
        check(published(alpha=("1.0", {"alpha.py": ""})).path, runtime=name)
    if name not in ("7.3", "nonsense"):
        assert f"there is no list of what the runtime '{name}' preinstalls" in str(raised.value)
        assert "13.3, 14.3, 15.4, 16.4, 17.3" in str(raised.value)


def test_a_runtime_is_compared_alone(published: Callable[..., Converted]) -> None:
    source = {"six.py": "", "argparse.py": ""}
    converted = published(bundle=("1.0", source), pandas=("1.5.3", {"pandas.py": ""}), numpy=("1.26", {"numpy.py": ""}))
    found = check(converted.path, runtime="14.3")
    assert pairs(found.findings, *findings.KINDS) == [
        ("shadowed", "bundle", "Python 3.10", "1.0"),
        ("shadowed", "bundle", "six 1.16.0", "1.0"),
        ("replaced", "numpy", "1.23.5", "1.26"),
    ]
    assert found.places[0].same == 1
    assert found.ok


@pytest.mark.network
def test_the_example_of_requirements_against_a_runtime(examples: Path, base: Path) -> None:
    converted = convert(examples / "requirements.zip", base, target=Target.of(runtime="14.3"), compile=False)
    found = check(converted.path, runtime="14.3")
    there, brings = runtimes.read("14.3").packages, {wheel.name: wheel.version for wheel in converted.wheels}
    replaced = {each.package: (each.installed, each.brought) for each in found.findings if each.kind == "replaced"}
    both = there.keys() & brings.keys()
    assert {"numpy", "pandas"} <= replaced.keys()
    assert replaced["pandas"] == ("1.5.3", "2.2.2")
    assert replaced == {name: (there[name], brings[name]) for name in both if there[name] != brings[name]}
    assert found.places[0].same == len(both) - len(replaced)
    broken = {each.package for each in found.findings if each.kind == "incompatible" and "numpy<2" in each.why}
    assert broken == ({"pyarrow", "matplotlib"} if brings["numpy"].startswith("2.") else set())


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.mark.spark
def test_the_workers_are_compared_as_well_and_nothing_is_loaded(
    published: Callable[..., Converted], tmp_path: Path
) -> None:
    converted = published(
        alpha=("2.0", {"alpha.py": ""}), beta=("1.0", {"beta.py": ""}), numpy=("2.1", {"numpy.py": ""})
    )
    site = tmp_path / "preinstalled"
    install(site, "alpha", "1.0", {"alpha.py": "", "sitecustomize.py": "import alpha\n"})
    install(site, "beta", "1.0", {"beta.py": ""})
    install(site, "pyarrow", "15.0.2", {"pyarrow.py": ""})
    answer = run_on_spark(
        """
        answer["shared"] = depload.check(sys.argv[1], spark).to_json()
        answer["process"] = depload.check(sys.argv[1], spark, isolation="process").ok
        answer["includes"] = sc._python_includes
        """,
        converted.path,
        config={"spark.executorEnv.PYTHONPATH": str(site)},
    )
    driver, worker = answer["shared"]["places"]
    assert driver["label"] == "driver"
    assert worker["label"].startswith("worker on host ")
    assert worker["label"].endswith("(executor 0, 1)")
    assert (worker["python"], worker["platform"]) == (driver["python"], driver["platform"])
    assert (driver["same"], worker["same"]) == (0, 1)
    found = [(row["kind"], row["package"]) for row in answer["shared"]["findings"] if row["place"] == worker["label"]]
    limits = [("limited", "pyspark")]
    assert [pair for pair in found if pair not in limits] == [
        ("imported", "alpha"),
        ("incompatible", "pyarrow"),
        ("replaced", "alpha"),
    ]
    assert {row["package"] for row in answer["shared"]["findings"] if row["place"] == "driver"} <= {"pyspark"}
    imported = next(row for row in answer["shared"]["findings"] if row["kind"] == "imported")
    assert imported["remedy"].startswith("load with isolation='process'")
    assert answer["process"] is False, "pyarrow and numpy go together in no process"
    assert answer["includes"] == []


FACTS = {"python": "3.11.7", "packages": {}, "pid": 1, "prefix": "/usr", "platform": "Linux-6.1"}


@pytest.mark.parametrize(
    ("answers", "labels"),
    [
        ([("h", "0"), ("h", "1"), ("h", "10"), ("h", "2")], ["worker on host h (executor 0, 1, 2, 10)"]),
        ([("h", "driver")], ["worker on host h"]),
        ([("b", "0"), ("a", "1")], ["workers on 2 hosts (a, b)"]),
        ([(f"h{host}", str(host)) for host in range(1, 8)], ["workers on 7 hosts (h1, h2, h3 and 4 more)"]),
    ],
)
def test_workers_that_are_alike_are_told_once(answers: list[tuple[str, str]], labels: list[str]) -> None:
    facts = [{**FACTS, "host": host, "executor": executor} for host, executor in answers]
    assert [label for label, _ in preflight._alike(facts)] == labels


def test_workers_that_differ_are_told_apart() -> None:
    facts = [{**FACTS, "host": host, "executor": "0", "packages": {"alpha": version}} for host, version in ("a1", "b2")]
    assert [(label, about["packages"]["alpha"]) for label, about in preflight._alike(facts)] == [
        ("worker on host a (executor 0)", "1"),
        ("worker on host b (executor 0)", "2"),
    ]


def test_the_facts_come_from_the_source_alone(tmp_path: Path) -> None:
    """What a worker runs: no depload, and only the standard library."""
    write_files(tmp_path, {"beta.py": ""})
    install(tmp_path, "alpha", "1.0", {"alpha.py": ""}, "Requires-Dist: Beta>=2\nRequires-Dist: gamma\n")
    sources = [Path(str(module.__file__)).read_text() for module in (inspection, here)]
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
sent = {"__name__": "_depload_sent"}
exec(sys.argv[2], sent)
facts = sent["facts"](sys.argv[3], {"beta": ["beta"], "alpha": ["alpha"]}, ["json", "beta"])
print(json.dumps([facts, sorted(name for name in sys.modules if "depload" in name)]))
"""
    command = [sys.executable, "-I", "-c", code, str(tmp_path), *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts, modules = json.loads(done.stdout)
    assert modules == []
    assert facts["packages"]["alpha"] == "1.0"
    assert facts["requires"]["alpha"] == ["Beta>=2"]
    assert facts["present"]["beta"] == {"file": str(tmp_path / "beta.py"), "owners": []}
    assert facts["present"]["alpha"]["owners"] == ["alpha"]
    assert facts["pythons"] == ["json"]
    assert facts["executor"] == "driver"


# --- calls ----------------------------------------------------------------------------------------------------------


def test_an_altered_wheelhouse_is_not_compared(published: Callable[..., Converted]) -> None:
    converted = published(alpha=("1.0", {"alpha.py": ""}))
    with Path(converted.wheelhouse).open("r+b") as file:
        file.seek(-200, 2)
        file.write(b"!")
    with pytest.raises((AlteredWheelhouseError, NotAWheelhouseError)):
        check(converted.path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"isolation": "none"}, "isolation is 'shared' or 'process', not 'none'"),
        ({"runtime": "15.4", "spark": object()}, "give one of them"),
    ],
)
def test_a_call_that_makes_no_sense_says_why(
    options: dict[str, Any], said: str, published: Callable[..., Converted]
) -> None:
    with pytest.raises(LoadError, match=said):
        check(published(alpha=("1.0", {"alpha.py": ""})).path, **options)


def run_check(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "depload", "check", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_the_command_prints_text_or_json_and_its_exit_code_says_whether_it_is_ok(
    published: Callable[..., Converted],
) -> None:
    fine = published(alpha=("1.0", {"alpha.py": ""})).path
    broken = published(numpy=("2.1.3", {"numpy.py": ""})).path
    done = run_check(fine, "--runtime", "15.4")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("compared with  python  platform")
    assert "It will load with isolation='shared'" in done.stdout
    done = run_check(broken, "--runtime", "15.4", "--isolation", "process", "--json")
    data = json.loads(done.stdout)
    assert done.returncode == 1
    assert (data["path"], data["isolation"], data["ok"]) == (broken, "process", False)
    assert {row["package"] for row in data["findings"] if row["blocks"]} >= {"pandas", "pyarrow", "scipy"}
    assert run_check(fine).returncode == 0
    refused = run_check(fine, "--runtime", "15.3")
    assert refused.returncode == 1
    assert "13.3, 14.3, 15.4, 16.4, 17.3" in refused.stderr
    assert run_check(fine, "--runtime", "15.4", "--master", "local[1]").returncode == 2
