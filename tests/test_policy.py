"""What may be in a wheelhouse, and how it may come about: hashes, builds, lists of what is allowed and denied."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from conftest import below, make_wheel, project, runs_in, write_files, write_zip
from depload import IndexOptions, Policy, Target, convert
from depload.databricks import jobruns, tasks
from depload.errors import (
    BuildRefusedError,
    DeploadError,
    OptionError,
    ParameterError,
    RefusedPackageError,
    RequirementsError,
    ResolutionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from depload.pipeline import Converted

Files = dict[str, str | bytes]
RESOLVERS = pytest.mark.parametrize("resolver", ["uv", "pip"])
MARK = "import pathlib; pathlib.Path(MARK).write_text('built')\n"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there once the backend of one of these projects has run."""
    return tmp_path / "built"


def marking(name: str, mark: Path) -> Files:
    """A project whose backend leaves a mark when it is so much as imported."""
    files = project(name)
    backend = dedent(str(files["backend.py"]))
    files["backend.py"] = f"{MARK.replace('MARK', repr(str(mark)))}{backend}"
    return files


def sdist(folder: Path, name: str, files: Mapping[str, str | bytes], metadata: str = "1.0") -> Path:
    """With metadata of before 2.2, nobody knows what it requires without building it (PEP 643)."""
    stem = f"{name.replace('-', '_')}-1.0"
    path = folder / f"{stem}.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        for member, content in {
            **files,
            "PKG-INFO": f"Metadata-Version: {metadata}\nName: {name}\nVersion: 1.0\n",
        }.items():
            data = dedent(content).encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(f"{stem}/{member}")
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def index(tmp_path: Path, mark: Path) -> Path:
    """A directory to find links in: top requires middle, middle requires bottom; source-only has no wheel."""
    folder = tmp_path / "index"
    make_wheel(folder, "top", "1.0", {"top.py": ""}, "Requires-Dist: middle\n")
    make_wheel(folder, "middle", "1.0", {"middle.py": ""}, "Requires-Dist: bottom>=1\n")
    make_wheel(folder, "middle", "0.9", {"middle.py": ""})
    make_wheel(folder, "bottom", "1.0", {"bottom.py": ""})
    make_wheel(folder, "bottom", "2.0", {"bottom.py": ""})
    make_wheel(folder, "wants-source", "1.0", {"wants_source.py": ""}, "Requires-Dist: source-only\n")
    sdist(folder, "source-only", marking("source-only", mark))
    return folder


@pytest.fixture
def converted(tmp_path: Path, base: Path, index: Path) -> Callable[..., Converted]:
    """Convert a zip of the files for a policy, with only ``index`` to find packages in."""

    made: dict[str, Path] = {}  # a zip that is written again has another time in it, and is another source

    def run(files: Mapping[str, str | bytes], *, options: IndexOptions | None = None, **more: Any) -> Converted:
        kept = {name: more.pop(name) for name in ("resolver", "refresh", "constraints", "cache") if name in more}
        source = made.get(repr(files)) or write_zip(tmp_path / f"source-{len(made)}.zip", files)
        made[repr(files)] = source
        links = IndexOptions(no_index=True, find_links=(str(index),))
        chosen = (options or IndexOptions()).over(links)
        return convert(source, base, compile=False, options=chosen, policy=Policy(**more), **kept)

    return run


def sha(index: Path, name: str) -> str:
    return f"--hash=sha256:{hashlib.sha256((index / f'{name}-py3-none-any.whl').read_bytes()).hexdigest()}"


def versions(found: Converted) -> dict[str, str]:
    return {wheel.name: wheel.version for wheel in found.wheels}


# --- hashes ---------------------------------------------------------------------------------------------------------


@RESOLVERS
def test_everything_without_a_hash_is_named_at_once_with_file_and_line(
    resolver: Any, index: Path, converted: Callable[..., Converted]
) -> None:
    lock = (
        'lock-version = "1.0"\n[[packages]]\nname = "bare"\nwheels = [{ url = "https://h/bare-1-py3-none-any.whl" }]\n'
    )
    files = {
        "requirements.txt": f"top==1.0\nbottom==1.0 {sha(index, 'bottom-1.0')}\nmiddle {sha(index, 'middle-1.0')}\n",
        "more/pylock.toml": lock,
    }
    with pytest.raises(RequirementsError) as caught:
        converted(files, require_hashes=True, resolver=resolver)
    assert [(fault.where, fault.what.split(" ")[0]) for fault in caught.value.faults] == [
        ("requirements.txt:1", "top"),
        ("requirements.txt:3", "middle"),
        ("more/pylock.toml", "bare"),
    ]
    assert "middle is not pinned" in str(caught.value)


@RESOLVERS
def test_what_others_require_needs_a_hash_as_well(
    resolver: Any, index: Path, base: Path, converted: Callable[..., Converted]
) -> None:
    line = f"top==1.0 {sha(index, 'top-1.0')}\n"
    with pytest.raises(RequirementsError) as caught:
        converted({"requirements.txt": line}, require_hashes=True, resolver=resolver)
    assert {fault.what.partition(" ")[0] for fault in caught.value.faults} == {"middle", "bottom"}
    assert runs_in(base) == []
    whole = f"{line}middle==1.0 {sha(index, 'middle-1.0')}\nbottom==2.0 {sha(index, 'bottom-2.0')}\n"
    found = converted({"requirements.txt": whole}, require_hashes=True, resolver=resolver)
    assert versions(found) == {"top": "1.0", "middle": "1.0", "bottom": "2.0"}


def test_a_constraint_that_is_given_may_bring_pin_and_hash(
    tmp_path: Path, index: Path, converted: Callable[..., Converted]
) -> None:
    given = tmp_path / "constraints.txt"
    given.write_text(f"bottom==1.0 {sha(index, 'bottom-1.0')}\n")
    found = converted({"requirements.txt": "bottom\n"}, require_hashes=True, constraints=[given])
    assert versions(found) == {"bottom": "1.0"}


def test_what_a_project_of_the_source_requires_needs_a_hash_in_the_source(converted: Callable[..., Converted]) -> None:
    with pytest.raises(RequirementsError, match="bottom is needed as well and has no --hash"):
        converted(below("mine", project("mine", requires=["bottom"])), require_hashes=True)


# --- builds ---------------------------------------------------------------------------------------------------------


def test_all_that_would_be_built_is_named_before_anything_of_it_runs(
    tmp_path: Path, mark: Path, base: Path, converted: Callable[..., Converted]
) -> None:
    made = sdist(tmp_path, "packed", marking("packed", mark)).read_bytes()
    lock = 'lock-version = "1.0"\n[[packages]]\nname = "held"\ndirectory = { path = "held" }\n'
    files: Files = {
        **below("one", marking("one", mark)),
        "packed-1.0.tar.gz": made,
        "lists/requirements.txt": "./other\nfar @ https://h.test/far-1.0.tar.gz\n",
        **below("lists/other", marking("other", mark)),
        "locks/pylock.toml": lock,
        **below("locks/held", marking("held", mark)),
    }
    with pytest.raises(BuildRefusedError) as caught:
        converted(files, no_build=True)
    assert {fault.where for fault in caught.value.faults} >= {"one", "packed-1.0.tar.gz", "far"}
    assert {"other", "held"} <= {fault.where.rpartition("/")[2] for fault in caught.value.faults}
    assert not mark.exists()
    assert runs_in(base) == []


@RESOLVERS
@pytest.mark.parametrize("line", ["source-only", "wants-source"])
@pytest.mark.parametrize("how", ["no_build", "only_binary", "only_binary by name"])
def test_no_sdist_of_an_index_is_built_not_even_for_its_metadata(
    how: str, line: str, resolver: Any, mark: Path, converted: Callable[..., Converted]
) -> None:
    """No sdist is built with --no-build, nor where --only-binary names it."""
    names = {"no_build": (), "only_binary": (":all:",), "only_binary by name": ("Source_Only",)}[how]
    options = IndexOptions(only_binary=names)
    with pytest.raises(ResolutionError, match="source-only"):
        converted({"requirements.txt": f"{line}\n"}, options=options, no_build=how == "no_build", resolver=resolver)
    assert not mark.exists()
    assert "source-only" in versions(converted({"requirements.txt": f"{line}\n"}, resolver=resolver))
    assert mark.exists(), "the mark is worth something"


@RESOLVERS
def test_a_source_that_wants_to_build_all_the_same_is_not_asked(
    resolver: Any, mark: Path, converted: Callable[..., Converted]
) -> None:
    """pip lets a requirements file go over the command line; ``--no-build`` is not its option."""
    files = {"requirements.txt": "--no-binary source-only\nsource-only\n"}
    with pytest.raises(ResolutionError, match="source-only"):
        converted(files, no_build=True, resolver=resolver)
    assert not mark.exists()


@pytest.mark.parametrize("how", ["no_build", "only_binary"])
def test_a_lock_is_no_way_around_it(how: str, index: Path, mark: Path, converted: Callable[..., Converted]) -> None:
    lock = 'lock-version = "1.0"\n[[packages]]\nname = "source-only"\nsdist = { path = "s/source_only-1.0.tar.gz" }\n'
    files = {"pylock.toml": lock, "s/source_only-1.0.tar.gz": (index / "source_only-1.0.tar.gz").read_bytes()}
    options = IndexOptions(only_binary=("source-only",) if how == "only_binary" else ())
    with pytest.raises(BuildRefusedError, match="source-only"):
        converted(files, options=options, no_build=how == "no_build")
    assert not mark.exists()


def test_wheels_and_loose_modules_are_no_builds(index: Path, converted: Callable[..., Converted]) -> None:
    wheel = index / "bottom-1.0-py3-none-any.whl"
    files = {wheel.name: wheel.read_bytes(), "mine.py": "import bottom\n", "requirements.txt": "middle\n"}
    found = converted(files, no_build=True)
    assert {"bottom", "middle", "user-modules"} == versions(found).keys()


def test_what_was_built_for_others_is_no_answer_to_who_wants_no_build(converted: Callable[..., Converted]) -> None:
    files = below("mine", project("mine"))
    converted(files)
    assert converted(files).reused
    with pytest.raises(BuildRefusedError, match="mine: is a project"):
        converted(files, no_build=True)


# --- lists ----------------------------------------------------------------------------------------------------------


@RESOLVERS
def test_all_offenders_are_named_with_who_requires_them(
    resolver: Any, base: Path, converted: Callable[..., Converted]
) -> None:
    files: Files = {"requirements.txt": "# two\ntop\n", **below("mine", project("mine", requires=["bottom<2"]))}
    with pytest.raises(RefusedPackageError) as caught:
        converted(files, deny=("bottom<1.5", "middle", "mine>5"), allow=("top", "Bottom", "middle"), resolver=resolver)
    said = {fault.where: fault.what for fault in caught.value.faults}
    assert said == {
        "bottom 1.0": "is denied (bottom<1.5); required by mine, middle",
        "middle 1.0": "is denied (middle); required by top",
        "mine 1.0": "is not allowed; required by built from mine",
    }
    assert runs_in(base) == []


def test_a_version_that_is_not_allowed_is_told_with_those_that_are(converted: Callable[..., Converted]) -> None:
    with pytest.raises(RefusedPackageError) as caught:
        converted({"requirements.txt": "bottom==2.0\n"}, allow=("bottom<2", "bottom==2.1"))
    (fault,) = caught.value.faults
    assert fault.what == "is not allowed, unlike bottom<2, bottom==2.1; required by requirements.txt:1"


@pytest.mark.parametrize(
    ("files", "denied"),
    [
        ("wheel", "bottom"),
        ("modules", "user-modules"),
        ("project", "mine"),
        ("lock", "bottom"),
    ],
)
def test_what_the_source_itself_holds_counts_too(
    files: str, denied: str, index: Path, converted: Callable[..., Converted]
) -> None:
    wheel = index / "bottom-1.0-py3-none-any.whl"
    head = 'lock-version = "1.0"\n[[packages]]\nname = "bottom"\nversion = "1.0"\n'
    lock = f'{head}wheels = [{{ path = "{wheel.name}" }}]\n'
    sources: dict[str, Files] = {
        "wheel": {wheel.name: wheel.read_bytes()},
        "modules": {"mine.py": ""},
        "project": below("mine", project("mine")),
        "lock": {"pylock.toml": lock, wheel.name: wheel.read_bytes()},
    }
    with pytest.raises(RefusedPackageError, match=f"{denied} .*is denied"):
        converted(sources[files], deny=(denied,))
    with pytest.raises(RefusedPackageError, match=f"{denied} .*is not allowed"):
        converted(sources[files], allow=("numpy",))
    assert denied in versions(converted(sources[files], allow=(denied,)))


def test_lists_are_files_with_comments_too(tmp_path: Path, converted: Callable[..., Converted]) -> None:
    folder = write_files(tmp_path / "lists", {"allowed.txt": "# ours\nTop\nmiddle>=1  # since then\n\n"})
    with pytest.raises(RefusedPackageError) as caught:
        converted({"requirements.txt": "top\n"}, allow=(str(folder / "allowed.txt"), "bottom<2"))
    assert [fault.where for fault in caught.value.faults] == ["bottom 2.0"]


def test_entries_that_cannot_be_read_are_named_at_once(tmp_path: Path, converted: Callable[..., Converted]) -> None:
    listed = write_files(tmp_path, {"list.txt": "fine\nno way\n"}) / "list.txt"
    with pytest.raises(OptionError) as caught:
        converted({"mine.py": ""}, deny=(str(listed), "a[b]", "c ; python_version > '3'", "missing.txt", "=1"))
    assert [fault.where for fault in caught.value.faults] == [
        "missing.txt",
        f"{listed}:2",
        "a[b]",
        "c ; python_version > '3'",
        "=1",
    ]


def test_what_an_earlier_conversion_made_is_judged_anew(converted: Callable[..., Converted]) -> None:
    files = {"requirements.txt": "top==1.0\nmiddle==1.0\nbottom==1.0\n"}
    converted(files)
    assert converted(files, deny=("numpy",)).reused
    with pytest.raises(RefusedPackageError, match=r"bottom 1\.0: is denied \(bottom\); required by the source, middle"):
        converted(files, deny=("bottom",))


def test_what_is_denied_is_not_built(index: Path, mark: Path, converted: Callable[..., Converted]) -> None:
    sdist(index, "says-all", marking("says-all", mark), metadata="2.2")
    with pytest.raises(RefusedPackageError, match="says-all"):
        converted({"requirements.txt": "says-all\n"}, deny=("says-all",))
    assert not mark.exists()
    assert "says-all" in versions(converted({"requirements.txt": "says-all\n"}))
    assert mark.exists(), "the mark is worth something"


# --- job tasks ------------------------------------------------------------------------------------------------------


def test_a_job_task_has_the_same_parameters_as_text(
    tmp_path: Path, base: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOAD_TASK_VALUES", str(tmp_path / "values"))
    source = str(write_zip(tmp_path / "source.zip", {"requirements.txt": "top\n"}))
    options = IndexOptions(no_index=True, find_links=(str(index),))
    given: dict[str, Any] = {"source": source, "volume_base_path": str(base), "run_id": "7", "options": options}
    tasks.process_dependencies(**given)
    with pytest.raises(RefusedPackageError, match="bottom"):
        tasks.process_dependencies(**given, deny=json.dumps(["bottom>1,<3", "numpy"]))
    with pytest.raises(RefusedPackageError, match="bottom"):
        tasks.process_dependencies(**given, allow="top middle")
    with pytest.raises(RequirementsError, match="top has no --hash"):
        tasks.process_dependencies(**given, require_hashes="true")
    with pytest.raises(ParameterError, match="no_build"):
        tasks.process_dependencies(**given, no_build="perhaps")
    with pytest.raises(DeploadError, match="<3"):
        tasks.process_dependencies(**given, deny="bottom>1,<3")


def test_the_command_line_has_the_same_options(tmp_path: Path, base: Path, index: Path) -> None:
    source = write_files(tmp_path / "lines", {"requirements.txt": "top\n"})
    words = [
        sys.executable,
        "-m",
        "depload",
        "convert",
        str(source),
        "--base",
        str(base),
        "--no-index",
        "-f",
        str(index),
    ]

    def said(*more: str) -> str:
        done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "bottom 2.0: is denied (bottom>1); required by middle" in said("--deny", "bottom>1", "--deny", "numpy")
    assert "top 1.0: is not allowed; required by requirements.txt:1" in said("--allow", "middle", "--allow", "bottom")
    assert "requirements.txt:1: top has no --hash" in said("--require-hashes")
    assert "--index-for cannot be used" in said("--index-for", "top")
    assert "127.0.0.1:9/v1 could not be asked" in said("--audit", "http://127.0.0.1:9/v1", "--retries", "0")
    write_files(source, project("mine"))
    assert "would have to be built" in said("--no-build")


def test_a_rerun_with_another_policy_is_another_conversion(tmp_path: Path) -> None:
    listed = tmp_path / "allowed.txt"
    seen = set()
    for policy, text in [
        (None, ""),
        (Policy(allow=(str(listed),)), "six"),
        (Policy(allow=(str(listed),)), "six<2"),
        (Policy(deny=("six",)), ""),
        (Policy(no_build=True), ""),
        (Policy(audit="osv"), ""),
    ]:
        listed.write_text(text)
        seen.add(
            jobruns.inputs(
                str(tmp_path / "nothing"),
                target=Target.running(),
                name=None,
                options=None,
                constraints=(),
                policy=policy,
            )
        )
    assert len(seen) == 6
