"""What wheels are made for: named runtimes, Pythons and platforms, and the tags and markers that follow."""

from __future__ import annotations

import sys

import pytest
from packaging.markers import Marker
from packaging.specifiers import SpecifierSet
from packaging.tags import parse_tag, sys_tags

from depload import Target
from depload.errors import TargetError

RUNNING = Target.running()


@pytest.mark.parametrize(
    ("runtime", "python", "platform"),
    [
        ("13.3", "3.10", "manylinux_2_35_x86_64"),
        ("14.3", "3.10", "manylinux_2_35_x86_64"),
        ("14.3 LTS", "3.10", "manylinux_2_35_x86_64"),
        ("14.3.x-scala2.12", "3.10", "manylinux_2_35_x86_64"),
        ("15.4", "3.11", "manylinux_2_35_x86_64"),
        ("16.4", "3.12", "manylinux_2_39_x86_64"),
        ("17.3", "3.12", "manylinux_2_39_x86_64"),
        ("17.x", "3.12", "manylinux_2_39_x86_64"),
        ("client.2", "3.11", "manylinux_2_35_x86_64"),
        ("client.2.5", "3.11", "manylinux_2_35_x86_64"),
        ("serverless-1", "3.10", "manylinux_2_35_x86_64"),
    ],
)
def test_a_runtime_names_python_and_platform(runtime: str, python: str, platform: str) -> None:
    assert Target.of(runtime=runtime) == Target(python, platform)


@pytest.mark.parametrize("runtime", ["", "9.1", "14", "fourteen", "14.3; rm", "serverless-99", "99.9"])
def test_a_runtime_that_is_not_known_is_refused_with_those_that_are(runtime: str) -> None:
    with pytest.raises(TargetError, match=r"is not a Databricks runtime known here; give one of 13\.x, .*serverless-5"):
        Target.of(runtime=runtime)


def test_what_is_asked_for_beside_a_runtime_counts() -> None:
    assert Target.of("3.12", None, "14.3") == Target("3.12", "manylinux_2_35_x86_64")
    assert Target.of(None, "win_amd64", "14.3") == Target("3.10", "win_amd64")


@pytest.mark.parametrize(("given", "python"), [("3.10", "3.10"), (" 3.13.2 ", "3.13"), (None, RUNNING.python)])
def test_a_python_is_its_minor_version(given: str | None, python: str) -> None:
    assert Target.of(given).python == python


@pytest.mark.parametrize("given", ["2.7", "3.9", "3.15", "3", "310", "py310", ">=3.10", "3.x"])
def test_a_python_that_depload_does_not_load_on_is_refused(given: str) -> None:
    with pytest.raises(TargetError, match=r"give one from 3\.10 to 3\.14"):
        Target.of(given)


@pytest.mark.parametrize("given", ["linux", "linux_x86_64", "manylinux_x86_64", "any", "macosx_arm64", "win", ""])
def test_a_platform_that_is_no_tag_is_refused(given: str) -> None:
    if given:
        with pytest.raises(TargetError, match="give one as in a wheel's file name"):
            Target.of(platform=given)
    else:
        assert Target.of(platform=given) == RUNNING


@pytest.mark.parametrize(
    ("target", "tag", "fits"),
    [
        (Target("3.11", "manylinux_2_35_x86_64"), "py3-none-any", True),
        (Target("3.11", "manylinux_2_35_x86_64"), "py2.py3-none-any", True),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp311-cp311-manylinux_2_35_x86_64", True),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp311-cp311-manylinux_2_36_x86_64", False),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp311-cp311-manylinux1_x86_64", True),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp311-cp311-linux_x86_64", True),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp311-cp311-musllinux_1_2_x86_64", False),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp311-cp311-manylinux_2_17_aarch64", False),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp310-cp310-manylinux_2_17_x86_64", False),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp38-abi3-manylinux_2_17_x86_64", True),
        (Target("3.11", "manylinux_2_35_x86_64"), "cp312-abi3-manylinux_2_17_x86_64", False),
        (Target("3.13", "manylinux_2_35_x86_64"), "cp313-cp313t-manylinux_2_17_x86_64", False),
        (Target("3.11", "manylinux2014_aarch64"), "cp311-cp311-manylinux_2_17_aarch64", True),
        (Target("3.11", "manylinux2014_aarch64"), "cp311-cp311-manylinux_2_28_aarch64", False),
        (Target("3.12", "musllinux_1_2_x86_64"), "cp312-cp312-musllinux_1_1_x86_64", True),
        (Target("3.12", "macosx_14_0_arm64"), "cp312-cp312-macosx_11_0_arm64", True),
        (Target("3.12", "macosx_14_0_arm64"), "cp312-cp312-macosx_10_9_universal2", True),
        (Target("3.12", "macosx_14_0_arm64"), "cp312-cp312-macosx_10_9_x86_64", False),
        (Target("3.12", "win_amd64"), "cp312-cp312-win_amd64", True),
        (Target("3.12", "win_amd64"), "cp312-cp312-win32", False),
    ],
)
def test_which_wheels_fit(target: Target, tag: str, fits: bool) -> None:
    assert (target.rank(parse_tag(tag)) is not None) is fits


def test_the_nearer_tag_is_the_better() -> None:
    target = Target("3.11", "manylinux_2_35_x86_64")
    tags = [
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-abi3-manylinux_2_17_x86_64",
    ]
    tags += ["py3-none-manylinux_2_17_x86_64", "py3-none-any"]
    ranks = [rank for tag in tags if (rank := target.rank(parse_tag(tag))) is not None]
    assert ranks == sorted(ranks)
    assert len(ranks) == len(tags)


def test_this_process_takes_the_wheels_that_its_own_installer_would() -> None:
    plain = {tag for tag in sys_tags() if tag.interpreter.startswith(("cp", "py"))}
    assert {tag for tag in plain if RUNNING.rank(frozenset([tag])) is None} == set()
    assert RUNNING.is_running


@pytest.mark.parametrize(
    ("platform", "marker"),
    [
        ("manylinux_2_35_x86_64", "sys_platform == 'linux' and platform_machine == 'x86_64' and os_name == 'posix'"),
        ("manylinux2014_aarch64", "platform_system == 'Linux' and platform_machine == 'aarch64'"),
        ("manylinux1_i686", "platform_machine == 'i686'"),
        ("musllinux_1_2_x86_64", "sys_platform == 'linux' and platform_machine == 'x86_64'"),
        ("macosx_14_0_arm64", "sys_platform == 'darwin' and platform_machine == 'arm64'"),
        ("macosx_10_9_x86_64", "platform_system == 'Darwin' and platform_machine == 'x86_64'"),
        ("win_amd64", "sys_platform == 'win32' and platform_machine == 'AMD64' and os_name == 'nt'"),
        ("win_arm64", "platform_machine == 'arm64' or platform_machine == 'ARM64'"),
    ],
)
def test_markers_are_those_of_the_platform(platform: str, marker: str) -> None:
    environment = Target("3.12", platform).environment()
    assert Marker(f"({marker}) and python_version == '3.12'").evaluate(environment)


@pytest.mark.parametrize(
    ("platform", "glibc"),
    [
        ("manylinux_2_35_x86_64", 35),
        ("manylinux2014_x86_64", 17),
        ("manylinux1_x86_64", 5),
        ("musllinux_1_2_x86_64", None),
        ("macosx_14_0_arm64", None),
    ],
)
def test_the_c_library_is_in_the_tag(platform: str, glibc: int | None) -> None:
    assert Target("3.11", platform).glibc == glibc


@pytest.mark.parametrize(
    ("wanted", "meets"), [(">=3.11.4", True), ("==3.11.*", True), ("<3.11", False), (">=3.12", False), ("", True)]
)
def test_some_release_of_a_named_python_must_meet_what_is_required(wanted: str, meets: bool) -> None:
    assert Target("3.11", "win_amd64").meets(SpecifierSet(wanted)) is meets


def test_of_the_running_python_the_release_is_known() -> None:
    exact = ".".join(map(str, sys.version_info[:3]))
    assert RUNNING.meets(SpecifierSet(f"=={exact}"))
    assert not RUNNING.meets(SpecifierSet(f">{exact}"))
