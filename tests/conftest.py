"""What the tests share: sources made on the spot, and Python processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Any

import pytest

import jvm
from depload.making.indexes import IndexOptions
from depload.making.resolver import resolve
from depload.pipeline import convert
from depload.standards import wheels
from depload.standards.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from depload.pipeline import Converted

ROOT = Path(__file__).parent.parent
OFFLINE = IndexOptions(no_index=True)
CLUSTER = "local-cluster[2,1,1024]"

os.environ.setdefault("JDK_JAVA_OPTIONS", jvm.options())  # of drivers, executors and servers alike


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves a site behind, or finds one that another made."""
    monkeypatch.setenv("DEPLOAD_SITES", str(tmp_path / "sites-of-this-test"))


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example zips, made anew by their script."""
    spec = importlib.util.spec_from_file_location("make_examples", ROOT / "test_artifacts" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    to = tmp_path_factory.mktemp("examples")
    make.main(to)
    return to


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for temporary files; whatever a test does, nothing of it may stay there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="session")
def six_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the index of this machine has the wheel of six 1.16.0."""
    scratch = tmp_path_factory.mktemp("six")
    (package,) = resolve(["six==1.16.0"], [], Target.running(), options=IndexOptions.configured(), scratch=scratch)
    return next(file.location for file in package.files if file.is_wheel)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "base"


def runs_in(base: Path) -> list[str]:
    """What lies in a base but for what is kept there for later conversions."""
    kept = {"wheels", "conversions"}
    return sorted(path.name for path in base.iterdir() if path.name not in kept) if base.exists() else []


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Files below a folder; text is dedented."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dedent(content).encode() if isinstance(content, str) else content)
    return folder


def write_zip(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """The same as a zip."""
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, dedent(content).encode() if isinstance(content, str) else content)
    return path


def make_wheel(folder: Path, name: str, version: str, files: Mapping[str, str | bytes], metadata: str = "") -> Path:
    """A sound pure wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    members = {key: dedent(text).encode() if isinstance(text, str) else text for key, text in files.items()}
    return wheels.write(folder, name, version, members, metadata)


def project(
    name: str, version: str = "1.0", requires: Sequence[str] = (), extras: Mapping[str, Sequence[str]] | None = None
) -> dict[str, str | bytes]:
    """A project whose backend lies in it and needs nothing, so that it builds without an index."""
    module = name.replace("-", "_")
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    for extra, more in (extras or {}).items():
        lines += [f"Provides-Extra: {extra}", *(f"Requires-Dist: {each} ; extra == '{extra}'" for each in more)]
    return {
        "pyproject.toml": f"""\
            [build-system]
            requires = []
            build-backend = "backend"
            backend-path = ["."]

            [project]
            name = "{name}"
            version = "{version}"
            dependencies = {json.dumps(list(requires))}
            """,
        "backend.py": f"""\
            import base64, hashlib, zipfile


            def build_wheel(to, config_settings=None, metadata_directory=None):
                stem = "{module}-{version}"
                files = {{
                    "{module}/__init__.py": open("{module}/__init__.py").read(),
                    f"{{stem}}.dist-info/METADATA": "Metadata-Version: 2.1\\n" + {chr(10).join(lines) + chr(10)!r},
                    f"{{stem}}.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
                }}
                record = f"{{stem}}.dist-info/RECORD,,\\n"
                with zipfile.ZipFile(f"{{to}}/{{stem}}-py3-none-any.whl", "w") as wheel:
                    for name, text in files.items():
                        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
                        record += f"{{name}},sha256={{digest}},{{len(text)}}\\n"
                        wheel.writestr(zipfile.ZipInfo(name), text)
                    wheel.writestr(zipfile.ZipInfo(f"{{stem}}.dist-info/RECORD"), record)
                return f"{{stem}}-py3-none-any.whl"
            """,
        f"{module}/__init__.py": f"NAME = {name!r}\n",
    }


def below(folder: str, files: Mapping[str, str | bytes]) -> dict[str, str | bytes]:
    """The files in a folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


@pytest.fixture
def published(tmp_path: Path, base: Path) -> Callable[..., Converted]:
    """Publish a wheelhouse of wheels that are made on the spot: ``published(alpha=("1.0", {"alpha.py": ...}))``."""
    count = 0

    def publish(**packages: tuple[str, Mapping[str, str | bytes]]) -> Converted:
        nonlocal count
        count += 1
        source = tmp_path / f"source-{count}"
        for name, (version, files) in packages.items():
            make_wheel(source, name.replace("_", "-"), version, files)
        return convert(source, base, options=OFFLINE)

    return publish


def run_python(code: str, *arguments: str, **environment: str) -> Any:
    """Run code in a process of its own and return what it printed last, which is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(code), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def run_on_spark(
    body: str,
    *arguments: str,
    master: str = CLUSTER,
    config: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Run ``body`` as a job would: a process of its own with a real session, ``answer`` is what comes back."""
    code = dedent(f"""\
        import json, sys
        import depload
        from depload.local.embedded import spark_session

        answer = {{}}
        with spark_session({master!r}, **{dict(config or {})!r}) as spark:
            sc = spark.sparkContext
        %s
        print(json.dumps(answer))
        """)
    return run_python(code % indent(dedent(body), "    "), *arguments, **(environment or {}))
