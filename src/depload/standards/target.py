"""What wheels are made for: a Python and a platform, of this process, of a named runtime, or of anyone's choice."""

from __future__ import annotations

import platform as platform_module
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from packaging import tags as tags_module

from depload.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from packaging.specifiers import SpecifierSet
    from packaging.tags import Tag

# Databricks release notes, "System environment": Python, and the glibc of the image's Ubuntu.
# The key is the major version; within one, neither has changed from its first minor version to its LTS.
_RUNTIMES: Mapping[str, tuple[str, str]] = {
    "13": ("3.10", "manylinux_2_35_x86_64"),
    "14": ("3.10", "manylinux_2_35_x86_64"),
    "15": ("3.11", "manylinux_2_35_x86_64"),
    "16": ("3.12", "manylinux_2_39_x86_64"),
    "17": ("3.12", "manylinux_2_39_x86_64"),
    "18": ("3.12", "manylinux_2_39_x86_64"),
    # Serverless environment versions; their glibc is not documented, so the oldest image's is assumed.
    "client.1": ("3.10", "manylinux_2_35_x86_64"),
    "client.2": ("3.11", "manylinux_2_35_x86_64"),
    "client.3": ("3.12", "manylinux_2_35_x86_64"),
    "client.4": ("3.12", "manylinux_2_35_x86_64"),
    "client.5": ("3.12", "manylinux_2_35_x86_64"),
}
_RUNTIME = re.compile(r"(?:(?:client\.|serverless-)(?P<client>\d+)|(?P<major>\d+)\.(?:\d+|x))(?:[. -].*)?")

_PYTHON = re.compile(r"3\.(?P<minor>\d+)(?:\.\d+)?")
_MOST_PATCHES = 40  # no minor version of Python has had more releases
OLDEST_PYTHON, NEWEST_PYTHON = 10, 14  # what the activation module is written for

# PEP 600 perennial tags and the older names that mean one of them (PEP 513, 571, 599).
_LEGACY_MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
_MANYLINUX = re.compile(
    r"(?P<legacy>manylinux1|manylinux2010|manylinux2014)_(?P<arch>\w+)|manylinux_2_(?P<minor>\d+)_(?P<arch2>\w+)"
)
_MUSLLINUX = re.compile(r"musllinux_1_(?P<minor>\d+)_(?P<arch>\w+)")
_MACOS = re.compile(r"macosx_(?P<major>\d+)_(?P<minor>\d+)_(?P<arch>x86_64|arm64)")
_WINDOWS = re.compile(r"win32|win_amd64|win_arm64")
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}  # PEP 600: other architectures start at 2.17
_OLDEST_GLIBC_ELSEWHERE = 17


@dataclass(frozen=True)
class Target:
    """A Python version and the platform tag (PEP 425) of the machines that will load."""

    python: str
    """Major and minor version: ``"3.11"``."""
    platform: str
    """The newest platform tag that holds there: ``"manylinux_2_35_x86_64"``."""

    @classmethod
    def running(cls) -> Target:
        """The interpreter and platform of this process."""
        platforms = list(tags_module.platform_tags())
        # Newer versions of packaging put linux_<arch>, which says nothing of the C library, before the others.
        telling = [tag for tag in platforms if not tag.startswith("linux_")] or platforms
        return cls(f"{sys.version_info[0]}.{sys.version_info[1]}", telling[0])

    @classmethod
    def of(cls, python: str | None = None, platform: str | None = None, runtime: str | None = None) -> Target:
        """The target that was asked for; what was not asked for is the runtime's, else that of this process.

        Raises TargetError for a Python, platform tag or runtime that is not known.
        """
        if runtime is not None:
            runtime_python, runtime_platform = _runtime(runtime)
            return cls(_python(python or runtime_python), _platform(platform or runtime_platform))
        running = cls.running()
        return cls(_python(python) if python else running.python, _platform(platform) if platform else running.platform)

    @cached_property
    def tags(self) -> Mapping[Tag, int]:
        """Every tag that a wheel for this target may carry, with its rank: the lowest is the best."""
        version = tuple(int(part) for part in self.python.split("."))
        platforms = list(_platforms(self.platform))
        ordered = [
            *tags_module.cpython_tags(version, platforms=platforms),
            *tags_module.compatible_tags(version, f"cp{self.python.replace('.', '')}", platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(ordered)))}

    def rank(self, wheel_tags: frozenset[Tag]) -> int | None:
        """How well a wheel with these tags fits, 0 being best; None where it does not."""
        return min((self.tags[tag] for tag in wheel_tags if tag in self.tags), default=None)

    @property
    def is_running(self) -> bool:
        """Whether this process itself is the target."""
        return self == Target.running()

    @property
    def glibc(self) -> int | None:
        """Of the newest C library that is there, 2.x; None where it is another one."""
        if not (match := _MANYLINUX.fullmatch(self.platform)):
            return None
        return int(match["minor"]) if match["minor"] else _LEGACY_MANYLINUX[match["legacy"]][1]

    def meets(self, requires_python: SpecifierSet) -> bool:
        """Whether a Requires-Python holds: for a named target, of which nobody knows the patch, for some release."""
        exact = self.environment()["python_full_version"]
        versions = [exact] if self.is_running else [f"{self.python}.{patch}" for patch in range(_MOST_PATCHES)]
        return any(requires_python.contains(version, prereleases=True) for version in versions)

    def environment(self) -> dict[str, str]:
        """The values of PEP 508 environment markers on this target."""
        linux, macos = self.platform.startswith(("manylinux", "musllinux", "linux")), self.platform.startswith("macosx")
        machine = re.sub(
            r"^(?:manylinux\d*_(?:\d+_\d+_)?|musllinux_\d+_\d+_|macosx_\d+_\d+_|linux_|win_?)", "", self.platform
        )
        full = platform_module.python_version() if self.is_running else f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix" if linux or macos else "nt",
            "platform_machine": machine.upper() if machine == "amd64" else machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux" if linux else "Darwin" if macos else "Windows",
            "platform_version": "",
            "python_full_version": full,
            "python_version": self.python,
            "sys_platform": "linux" if linux else "darwin" if macos else "win32",
        }

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform}"


def _runtime(name: str) -> tuple[str, str]:
    match = _RUNTIME.fullmatch(name.strip())
    key = (f"client.{match['client']}" if match["client"] else match["major"]) if match else ""
    if key not in _RUNTIMES:
        known = ", ".join(f"{key}.x" if key.isdigit() else f"serverless-{key[7:]}" for key in _RUNTIMES)
        raise TargetError(
            f"{name!r} is not a Databricks runtime known here", f"give one of {known}, or --python and --platform"
        )
    return _RUNTIMES[key]


def _python(version: str) -> str:
    match = _PYTHON.fullmatch(version.strip())
    if not match or not OLDEST_PYTHON <= int(match["minor"]) <= NEWEST_PYTHON:
        raise TargetError(
            f"{version!r} is not a Python version that depload loads on",
            f"give one from 3.{OLDEST_PYTHON} to 3.{NEWEST_PYTHON}",
        )
    return f"3.{match['minor']}"


def _platform(tag: str) -> str:
    tag = tag.strip()
    if not any(pattern.fullmatch(tag) for pattern in (_MANYLINUX, _MUSLLINUX, _MACOS, _WINDOWS)):
        raise TargetError(
            f"{tag!r} is not a platform tag",
            "give one as in a wheel's file name: manylinux_2_35_x86_64, macosx_14_0_arm64, win_amd64",
        )
    return tag


def _platforms(tag: str) -> Iterator[str]:
    """Every platform tag that holds where ``tag`` holds, the newest first."""
    if match := _MANYLINUX.fullmatch(tag):
        yield from _manylinux(match)
    elif match := _MUSLLINUX.fullmatch(tag):
        yield from (f"musllinux_1_{minor}_{match['arch']}" for minor in range(int(match["minor"]), -1, -1))
        yield f"linux_{match['arch']}"
    elif match := _MACOS.fullmatch(tag):
        yield from tags_module.mac_platforms((int(match["major"]), int(match["minor"])), match["arch"])
    else:
        yield tag


def _manylinux(match: re.Match[str]) -> Iterator[str]:
    arch = match["arch"] or match["arch2"]
    newest = int(match["minor"]) if match["minor"] else _LEGACY_MANYLINUX[match["legacy"]][1]
    legacy = {minor: name for name, (_, minor) in _LEGACY_MANYLINUX.items()}
    for minor in range(newest, _OLDEST_GLIBC.get(arch, _OLDEST_GLIBC_ELSEWHERE) - 1, -1):
        yield f"manylinux_2_{minor}_{arch}"
        if minor in legacy:
            yield f"{legacy[minor]}_{arch}"
    yield f"linux_{arch}"
