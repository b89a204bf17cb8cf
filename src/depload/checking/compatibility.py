"""What one package needs of another: as its metadata says, and what is checked or breaks only when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Severity = Literal["incompatible", "limited"]
"""What is wrong where a need is not met: the package does not work, or only a part of it fails."""

PYSPARK_EXTRAS = ("sql", "pandas-on-spark", "pandas_on_spark", "connect")
"""What PySpark needs for its functions on pandas stands in these extras of it, whether they were asked for or not."""


@dataclass(frozen=True)
class Undeclared:
    """A need that the metadata of a package does not declare, or declares for extras alone."""

    package: str
    versions: str
    """The versions that have it."""
    requires: str
    kind: Severity
    why: str
    source: str


_NUMPY_2 = "it was compiled for numpy 1, and importing it fails with numpy 2"
_SEEN = "seen on Python 3.11 with numpy 2.1.3"
_PANDAS = (
    "its functions on pandas (toPandas, pandas_udf, pyspark.pandas, Spark Connect) raise an error; all others work"
)
_UTILS = "pyspark/sql/pandas/utils.py, require_minimum_*_version, and the extras sql and connect, of PySpark"
_NAN = "importing pyspark.pandas fails, as it uses np.NaN; all others work"

UNDECLARED = (
    Undeclared("pyarrow", "<16", "numpy<2", "incompatible", _NUMPY_2, f"{_SEEN}: 14.0.1 and 15.0.2 fail, 16.0.0 works"),
    Undeclared(
        *("pyarrow", ">=26", "numpy>=2", "incompatible", "importing it with an older numpy raises an ImportError"),
        source="pyarrow/lib.pyx of 26.0.0, and seen: 26.0.0 fails with 1.26.4, 25.0.0 works with it and with 1.23.5",
    ),
    Undeclared(
        "pandas", "<2.2.2", "numpy<2", "incompatible", _NUMPY_2, f"{_SEEN}: 1.5.3, 2.0.3, 2.2.1 fail, 2.2.2 works"
    ),
    Undeclared("scikit-learn", "<1.4.2", "numpy<2", "incompatible", _NUMPY_2, f"{_SEEN}: 1.3.0 fails, 1.4.2 works"),
    Undeclared("matplotlib", "<3.8.4", "numpy<2", "incompatible", _NUMPY_2, f"{_SEEN}: 3.7.2 fails, 3.8.4 works"),
    Undeclared("statsmodels", "<0.14.2", "numpy<2", "incompatible", _NUMPY_2, f"{_SEEN}: 0.14.0 fails, 0.14.2 works"),
    Undeclared("pyspark", ">=3.4,<4", "pandas>=1.0.5", "limited", _PANDAS, f"{_UTILS} 3.4.4 and 3.5.9"),
    Undeclared("pyspark", ">=3.4,<3.5", "pyarrow>=1", "limited", _PANDAS, f"{_UTILS} 3.4.4"),
    Undeclared("pyspark", ">=3.5,<4", "pyarrow>=4", "limited", _PANDAS, f"{_UTILS} 3.5.9"),
    Undeclared("pyspark", ">=3.4,<4", "numpy>=1.15", "limited", _PANDAS, "the extra sql of PySpark 3.4.4 and 3.5.9"),
    Undeclared("pyspark", ">=3.4,<4", "numpy<2", "limited", _NAN, "the extra sql, and seen with 3.5.9 and numpy 2.1.3"),
    Undeclared("pyspark", ">=4.0,<4.1", "pandas>=2.0.0", "limited", _PANDAS, f"{_UTILS} 4.0.1"),
    Undeclared("pyspark", ">=4.0,<4.1", "pyarrow>=11.0.0", "limited", _PANDAS, f"{_UTILS} 4.0.1"),
    Undeclared("pyspark", ">=4.0,<4.2", "numpy>=1.21", "limited", _PANDAS, f"{_UTILS} 4.0.1 and 4.1"),
    Undeclared("pyspark", ">=4.1", "pandas>=2.2.0", "limited", _PANDAS, f"{_UTILS} 4.1, 4.2.1 and 4.3.0"),
    Undeclared("pyspark", ">=4.1,<4.2", "pyarrow>=15.0.0", "limited", _PANDAS, f"{_UTILS} 4.1"),
    Undeclared("pyspark", ">=4.2", "pyarrow>=18.0.0", "limited", _PANDAS, f"{_UTILS} 4.2.1 and 4.3.0"),
    Undeclared("pyspark", ">=4.2,<4.3", "numpy>=1.22", "limited", _PANDAS, f"{_UTILS} 4.2.1"),
    Undeclared("pyspark", ">=4.3", "numpy>=1.23.2", "limited", _PANDAS, f"{_UTILS} 4.3.0"),
)


def undeclared(package: str, version: str) -> Iterator[Undeclared]:
    """The undeclared needs of a version of a package."""
    for row in UNDECLARED:
        if row.package == package and is_version(version) and meets(SpecifierSet(row.versions), version):
            yield row


def requirements(lines: Iterable[str]) -> Iterator[Requirement]:
    """What lines of Requires-Dist say; one that nobody could honour, as in old packages, is passed over."""
    yield from (requirement for requirement in map(_requirement, lines) if requirement)


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def holds(requirement: Requirement, environment: Mapping[str, str], extras: Iterable[str] = ()) -> bool:
    """Whether a requirement counts in an environment of markers, for a package that was asked for with ``extras``."""
    if requirement.marker is None:
        return True
    try:
        return any(requirement.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        return False


def meets(specifier: SpecifierSet, version: str) -> bool:
    """Whether a version is one that is asked for; of one that cannot be compared nobody can say that it is not."""
    return not is_version(version) or specifier.contains(version, prereleases=True)


def is_version(text: str) -> bool:
    """Whether a version is one that can be compared (PEP 440)."""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def is_same(one: str | None, other: str | None) -> bool:
    """Whether two versions are the same, however they are written: ``2023.07.22`` is ``2023.7.22``."""
    if one is None or other is None or not (is_version(one) and is_version(other)):
        return one == other
    return Version(one) == Version(other)


def name_of(requirement: Requirement) -> str:
    """The normalised name (PEP 503) of the package that is required."""
    return str(canonicalize_name(requirement.name))
