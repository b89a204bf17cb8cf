"""What is converted and loaded: three sets of packages, pinned, of three sizes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Set:
    """Packages, and what proves that a process has them."""

    name: str
    title: str
    what: str
    requirements: tuple[str, ...]
    imports: tuple[str, ...]
    """What depload's own proof imports of it; every other way imports the same."""

    def text(self) -> str:
        """As a requirements.txt."""
        return "\n".join(self.requirements) + "\n"


SMALL = Set(
    "S",
    "small and pure",
    "seven small packages, pure Python but for one helper of requests: 1 MB of wheels",
    (
        "attrs==24.2.0",
        "click==8.1.7",
        "more-itertools==10.5.0",
        "python-dateutil==2.9.0.post0",
        "requests==2.32.3",
        "sqlparse==0.5.1",
        "tabulate==0.9.0",
    ),
    ("attrs", "click", "more_itertools", "dateutil", "requests", "sqlparse", "tabulate"),
)
MEDIUM = Set(
    "M",
    "pandas, scikit-learn",
    "pandas and scikit-learn: 10 wheels, 80 MB, 6,300 files",
    ("pandas==2.2.2", "scikit-learn==1.5.0"),
    ("pandas", "sklearn"),
)
LARGE = Set(
    "L",
    "eight large packages",
    "eight large native packages: 153 MB of wheels",
    (
        "grpcio==1.66.2",
        "h5py==3.12.1",
        "lxml==5.3.0",
        "numpy==1.26.4",
        "pillow==10.4.0",
        "polars==1.9.0",
        "pyarrow==17.0.0",
        "scipy==1.14.1",
    ),
    ("grpc", "h5py", "lxml", "numpy", "PIL", "polars", "pyarrow", "scipy"),
)
EVERY = {each.name: each for each in (SMALL, MEDIUM, LARGE)}
