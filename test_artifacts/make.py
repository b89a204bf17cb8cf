"""Make the example zips: one for each format, the same bytes every time.

python test_artifacts/make.py [DIRECTORY]
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from pathlib import Path
from textwrap import dedent

from depload.standards import wheels

Files = dict[str, str | bytes]

REQUIREMENTS = """\
# Native packages, pinned for the Python that converts.
pandas==2.2.2 ; python_version < "3.13"
pandas==2.2.3 ; python_version >= "3.13"
scikit-learn==1.5.0 ; python_version < "3.13"
scikit-learn==1.5.2 ; python_version >= "3.13"
"""

MODULES: Files = {
    "calculator.py": """\
        \"\"\"Imports its neighbours by their own names, as scripts in one folder do.\"\"\"

        from pathlib import Path

        from utils import helpers
        from utils.rounding import half_up


        def net(gross, country="DE"):
            rate = helpers.rates(Path(__file__).parent / "data" / "rates.json")[country]
            return half_up(gross / (1 + rate))
        """,
    "utils/helpers.py": """\
        import json


        def rates(path):
            return json.loads(path.read_text())
        """,
    "utils/rounding.py": """\
        from decimal import ROUND_HALF_UP, Decimal


        def half_up(value):
            return float(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))
        """,
    "data/rates.json": '{"DE": 0.19, "FR": 0.2}\n',
    "__pycache__/calculator.cpython-39.pyc": b"left by some Python",
    "__MACOSX/._calculator.py": b"left by macOS",
    ".DS_Store": b"left by macOS",
}


def project(name: str, module: str, requires: str, code: str) -> Files:
    """A project with a src layout, built by setuptools."""
    return {
        "pyproject.toml": f"""\
            [build-system]
            requires = ["setuptools>=61"]
            build-backend = "setuptools.build_meta"

            [project]
            name = "{name}"
            version = "1.2.0"
            dependencies = ["{requires}"]

            [project.entry-points."orders.exporters"]
            {module} = "{module}:export"

            [tool.setuptools.package-data]
            {module} = ["*.txt"]
            """,
        f"src/{module}/__init__.py": code,
        f"src/{module}/greeting.txt": f"hello from {name}\n",
        "README.md": f"# {name}\n",
    }


ORDERS = project(
    "acme-orders",
    "acme_orders",
    "humanize>=4,<5",
    """\
    from importlib.resources import files

    import humanize


    def export(count):
        return files(__name__).joinpath("greeting.txt").read_text() + humanize.intcomma(count)
    """,
)
BILLING = project("acme-billing", "acme_billing", "six>=1.16", "def export(count):\n    return -count\n")


def wheel(name: str, requires: str = "") -> dict[str, bytes]:
    """A ready wheel with one module in a namespace that several wheels share."""
    metadata = f"Requires-Dist: {requires}\n" if requires else ""
    part = name.partition("-")[2]
    with tempfile.TemporaryDirectory() as scratch:
        code = f"NAME = {name!r}\n".encode()
        path = wheels.write(Path(scratch), name, "2.0", {f"acme/{part}/__init__.py": code}, metadata)
        return {path.name: path.read_bytes()}


def below(folder: str, files: Files) -> Files:
    """The files in a folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


def zipped(files: Files) -> bytes:
    """A zip of the files, without times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, content in sorted(files.items()):
            data = dedent(content).encode() if isinstance(content, str) else content
            opened.writestr(wheels.member_info(name), data)
    return buffer.getvalue()


EXAMPLES: dict[str, Files] = {
    "requirements.zip": {"requirements.txt": REQUIREMENTS},
    "pure_python.zip": MODULES,
    "packaged.zip": ORDERS,
    "wheels.zip": {**wheel("acme-text", "six>=1.16"), **wheel("acme-numbers")},
    "mixed.zip": {
        "requirements.txt": "python-dateutil>=2.8\n",
        **below("orders", ORDERS),
        **wheel("acme-numbers"),
        "pipeline.py": "import dateutil\n\nfrom acme.numbers import NAME\n",
    },
    "nested.zip": {
        **below("acme-platform-main/services/orders", ORDERS),
        **below("acme-platform-main/services/billing", BILLING),
        "acme-platform-main/shared.zip": zipped({"shared-1.0/money.py": "CURRENCY = 'EUR'\n"}),
        "acme-platform-main/README.md": "# What a code host's Download ZIP looks like\n",
    },
}


def main(to: Path) -> None:
    """Write every example into ``to``."""
    for name, files in EXAMPLES.items():
        (to / name).write_bytes(zipped(files))
        print(to / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
