"""What a wheelhouse says of itself: a bill of materials and provenance inside, and the run's own times beside it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import OFFLINE, below, make_wheel, project, write_files, write_zip
from depload import IndexOptions, Policy, convert
from depload.errors import AlteredWheelhouseError, NotAWheelhouseError
from depload.published import provenance, sbom, wheelhouse
from depload.standards import digests

if TYPE_CHECKING:
    from depload.pipeline import Converted

METADATA = """\
Summary: Alpha does
 much.
License-Expression: MIT OR Apache-2.0
Provides-Extra: more
Provides-Extra: never
Requires-Dist: beta>=1
Requires-Dist: gamma; extra == 'more'
Requires-Dist: delta; extra == 'never'
Requires-Dist: delta; python_version < '3'
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Wheels that require each other, a project, loose modules and a requirements file, as a zip."""
    made = tmp_path / "made"
    make_wheel(made, "alpha", "1.0", {"alpha.py": ""}, METADATA)
    make_wheel(made, "beta", "1.0", {"beta.py": ""}, "Classifier: License :: OSI Approved :: BSD License\n")
    make_wheel(made, "gamma", "1.0+local", {"gamma.py": ""}, "License: Our own\n")
    make_wheel(made, "delta", "1.0", {"delta.py": ""}, "License: Long\n one\n")
    files: dict[str, str | bytes] = {path.name: path.read_bytes() for path in made.iterdir()}
    files |= below("project", project("mine", requires=["alpha[more]"]))
    return write_zip(tmp_path / "source.zip", {**files, "mod.py": "import alpha\n"})


def member(converted: Converted, name: str) -> Any:
    with zipfile.ZipFile(converted.wheelhouse) as opened:
        return json.loads(opened.read(name))


def bill(converted: Converted) -> Any:
    return member(converted, sbom.MEMBER)


def statement(converted: Converted) -> Any:
    return member(converted, provenance.MEMBER)


# --- the bill of materials ------------------------------------------------------------------------------------------


def _faults(text: str) -> Any:
    """What a library that knows the schema has against it, unknown keys and formats included."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


def test_the_bill_is_cyclonedx_by_its_own_schema(source: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    text = json.dumps(bill(convert(source, base, options=OFFLINE)))
    assert _faults(text) is None
    assert _faults(text.replace('"library"', '"librarian"')) is not None, "the schema is worth something"
    assert _faults(text.replace('"purl"', '"pearl"')) is not None


def test_the_bill_lists_what_is_inside_and_who_requires_it(source: Path, base: Path) -> None:
    converted = convert(source, base, options=OFFLINE)
    found = bill(converted)
    components = {each["name"]: each for each in found["components"]}
    for wheel in converted.wheels:
        listed = components[wheel.name]
        assert listed["version"] == wheel.version
        assert listed["hashes"] == [{"alg": "SHA-256", "content": wheel.sha256}]
    assert components["gamma"]["purl"] == "pkg:pypi/gamma@1.0%2Blocal"
    assert components["alpha"]["description"] == "Alpha does much."
    licenses = {name: each.get("licenses") for name, each in components.items()}
    assert licenses["alpha"] == [{"expression": "MIT OR Apache-2.0"}]
    assert licenses["beta"] == [{"license": {"name": "BSD License"}}]
    assert licenses["gamma"] == [{"license": {"name": "Our own"}}]
    assert licenses["delta"] is None
    edges = {each["ref"].partition("@")[0].rpartition("/")[2]: each["dependsOn"] for each in found["dependencies"]}
    assert [ref.partition("@")[0] for ref in edges["mine"]] == ["pkg:pypi/alpha"]
    assert len(edges["wheelhouse"]) == len(converted.wheels), "here the source has all of them itself"
    assert found["metadata"]["component"]["version"] == converted.digest


def test_extras_count_where_they_are_asked_for(tmp_path: Path, base: Path) -> None:
    links = tmp_path / "links"
    make_wheel(links, "alpha", "1.0", {"alpha.py": ""}, METADATA)
    for name in ("beta", "gamma", "delta"):
        make_wheel(links, name, "1.0", {f"{name}.py": ""})
    lines = write_files(tmp_path / "source", {"requirements.txt": "asks\ndelta\n"})
    make_wheel(links, "asks", "1.0", {"asks.py": ""}, "Requires-Dist: alpha[more]\n")
    converted = convert(lines, base, options=IndexOptions(no_index=True, find_links=(str(links),)), compile=False)
    edges = {each["ref"]: each["dependsOn"] for each in bill(converted)["dependencies"]}
    assert edges["pkg:pypi/alpha@1.0"] == ["pkg:pypi/beta@1.0", "pkg:pypi/gamma@1.0"]
    assert edges["wheelhouse"] == ["pkg:pypi/asks@1.0", "pkg:pypi/delta@1.0"]


@pytest.mark.parametrize(
    ("epoch", "stamp"),
    [("1700000000", "2023-11-14T22:13:20Z"), ("", None), ("yesterday", None), ("9" * 30, None), ("²", None)],
)
def test_its_time_is_the_one_that_the_user_gives(
    epoch: str, stamp: str | None, source: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    assert bill(convert(source, base, options=OFFLINE, compile=False))["metadata"].get("timestamp") == stamp


# --- provenance -----------------------------------------------------------------------------------------------------


def test_provenance_says_of_what_how_and_by_what(
    source: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    limits = write_files(tmp_path, {"limits.txt": "alpha==1.0\n"}) / "limits.txt"
    offline = IndexOptions(no_index=True, find_links=(str(tmp_path / "made"),))
    converted = convert(source, base, options=offline, constraints=[limits], policy=Policy(deny=("numpy<2",)))
    found = statement(converted)
    assert (found["_type"], found["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    subjects = {each["name"]: each for each in found["subject"]}
    with zipfile.ZipFile(converted.wheelhouse) as opened:
        for name, each in subjects.items():
            assert each["digest"] == {"sha256": hashlib.sha256(opened.read(name)).hexdigest()}
        lock = hashlib.sha256(opened.read("pylock.toml")).hexdigest()
    inside = {wheel.filename for wheel in converted.wheels} | {part.filename for part in converted.manifest.bytecode}
    assert subjects.keys() == inside
    definition, details = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    asked = definition["externalParameters"]
    source_digest = {"sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
    assert asked["source"] == {"name": "source.zip", "digest": source_digest}
    assert asked["target"] == {"python": converted.target.python, "platform": converted.target.platform}
    assert asked["options"] == {
        "compile": True,
        "deny": ["numpy<2"],
        "find_links": ["made"],
        "no_index": True,
    }
    uv = subprocess.run(
        [str(Path(sys.executable).with_name("uv")), "--version"], capture_output=True, text=True, check=True
    )
    tool = " ".join(uv.stdout.split()[:2])
    assert definition["internalParameters"] == {"builder": tool, "resolver": tool}
    assert details["builder"]["version"] == {"depload": version("depload"), "uv": tool.split(" ")[1]}
    assert details["byproducts"] == [{"name": "pylock.toml", "digest": {"sha256": lock}}]
    materials = {each["name"]: each["digest"] for each in definition["resolvedDependencies"]}
    assert materials["limits.txt"] == {"sha256": hashlib.sha256(limits.read_bytes()).hexdigest()}
    assert materials["source.zip"] == source_digest


def test_what_was_built_is_told_with_its_sources_and_its_backend(tmp_path: Path, base: Path) -> None:
    files = project("mine")
    backend = str(files["backend.py"]).replace("Root-Is", "Generator: our-backend (1.2)\\nRoot-Is")
    folder = write_files(tmp_path / "source", below("one", {**files, "backend.py": backend}))
    converted = convert(folder, base, options=OFFLINE, compile=False)
    (subject,) = statement(converted)["subject"]
    assert subject["annotations"] == {
        "from": "built from one",
        "builtFrom": {"dirHash": digests.of(folder / "one")[1]},
        "backend": "our-backend (1.2)",
    }


def test_a_directory_is_hashed_as_others_do_it(tmp_path: Path) -> None:
    """The SHA-256 of what sha256sum says of the files in order of their names: Go's ``dirhash.Hash1``, in hex."""
    folder = write_files(tmp_path / "x", {"b.txt": "two\n", "a/c.txt": "one\n"})
    lines = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in ("a/c.txt", "b.txt")
    )
    assert digests.of(folder) == ("dirHash", hashlib.sha256(lines.encode()).hexdigest())
    assert digests.of(folder / "b.txt") == ("sha256", hashlib.sha256(b"two\n").hexdigest())


def test_no_credentials_and_no_place_of_this_machine_are_inside() -> None:
    options = IndexOptions(
        index_url="https://me:secret@index.test/simple?token=secret#secret",
        extra_index_urls=("https://secret@extra.test/simple",),
        index_for=("acme-*=https://me:secret@private.test/simple",),
        find_links=("/home/secret/wheels/", "file:///home/secret/more", "https://a:secret@links.test/page"),
        cert="/home/secret/ca.pem",
        proxy="http://me:secret@proxy.test",
    )
    assert "secret" not in json.dumps(options.public())
    assert options.public() == {
        "index_url": "https://index.test/simple",
        "extra_index_urls": ["https://extra.test/simple"],
        "index_for": ["acme-*=https://private.test/simple"],
        "find_links": ["wheels", "more", "https://links.test/page"],
    }


@pytest.mark.network
def test_what_an_index_says_of_a_file_is_kept(tmp_path: Path, base: Path) -> None:
    source = write_files(tmp_path / "source", {"requirements.txt": "six==1.16.0\n"})
    first, second = (convert(source, base, compile=False) for _ in range(2))
    assert [first.reused, second.reused] == [False, True]
    for converted in (first, second):
        (material,) = [
            each
            for each in statement(converted)["predicate"]["buildDefinition"]["resolvedDependencies"]
            if each["name"].startswith("six-")
        ]
        assert material["uri"] == "pkg:pypi/six@1.16.0"
        assert material["downloadLocation"].endswith("/six-1.16.0-py2.py3-none-any.whl")
        assert material["annotations"] == {"uploaded": "2021-05-05T14:18:17Z"}


# --- the same bytes -------------------------------------------------------------------------------------------------


def test_equal_sources_give_equal_bytes_made_anew_or_reused_and_wherever_they_lie(
    source: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = convert(source, base, options=OFFLINE)
    reused = convert(source, base, options=OFFLINE)
    assert [first.reused, reused.reused] == [False, True]
    moved = tmp_path / "elsewhere" / source.name
    moved.parent.mkdir()
    moved.write_bytes(source.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    anew = convert(moved, tmp_path / "other-base", options=OFFLINE)
    assert len({Path(each.wheelhouse).read_bytes() for each in (first, reused, anew)}) == 1


def test_equal_wheels_of_another_source_have_the_same_digest(tmp_path: Path, base: Path) -> None:
    wheel = make_wheel(tmp_path / "one", "alpha", "1.0", {"alpha.py": ""})
    other = write_files(tmp_path / "other", {wheel.name: wheel.read_bytes(), "NOTES.md": "more\n"})
    found = [convert(path, base, name="same", options=OFFLINE) for path in (tmp_path / "one", other)]
    assert found[0].digest == found[1].digest
    assert statement(found[0]) != statement(found[1])


def test_the_runs_own_times_stand_beside_the_file(source: Path, base: Path) -> None:
    converted = convert(source, base, options=OFFLINE)
    beside = json.loads((Path(converted.path) / "manifest.json").read_text())["conversion"]
    assert beside["started"] == converted.started <= beside["finished"] <= converted.finished
    assert datetime.fromisoformat(beside["started"]).tzinfo is not None
    assert beside["seconds"].items() <= converted.seconds.items()
    assert (beside["reused"], beside["why"]) == (False, converted.why)
    assert converted.to_json()["finished"] == converted.finished
    with zipfile.ZipFile(converted.wheelhouse) as opened:
        texts = b"".join(opened.read(name) for name in (sbom.MEMBER, provenance.MEMBER, "manifest.json"))
    assert converted.started[:10].encode() not in texts


# --- reading them ---------------------------------------------------------------------------------------------------


def _inspected(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "depload", "inspect", *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_command_line_names_and_prints_them(source: Path, base: Path) -> None:
    converted = convert(source, base, options=OFFLINE, compile=False)
    assert "sbom.cdx.json, provenance.json" in _inspected(converted.path)
    assert json.loads(_inspected(converted.path, "--sbom")) == bill(converted)
    assert json.loads(_inspected(converted.path, "--provenance")) == statement(converted)


def test_an_altered_one_is_not_shown_and_an_old_wheelhouse_has_none(source: Path, base: Path, tmp_path: Path) -> None:
    file = Path(convert(source, base, options=OFFLINE, compile=False).wheelhouse)
    altered, old = tmp_path / "altered.wheelhouse.zip", tmp_path / "old.wheelhouse.zip"
    with zipfile.ZipFile(file) as opened, zipfile.ZipFile(altered, "w") as one, zipfile.ZipFile(old, "w") as other:
        for info in opened.infolist():
            data = opened.read(info)
            one.writestr(info.filename, data.replace(b"CycloneDX", b"CycloneXX"))
            if info.filename == "manifest.json":
                manifest = json.loads(data)
                del manifest["others"][sbom.MEMBER]
                data = json.dumps(manifest).encode()
            if info.filename != sbom.MEMBER:
                other.writestr(info.filename, data)
    with pytest.raises(AlteredWheelhouseError, match=sbom.MEMBER):
        wheelhouse.document(altered, sbom.MEMBER)
    with pytest.raises(NotAWheelhouseError, match=f"it has no {sbom.MEMBER}"):
        wheelhouse.document(old, sbom.MEMBER)


def test_workers_are_sent_neither_with_a_reference(source: Path, base: Path, tmp_path: Path) -> None:
    converted = convert(source, base, options=OFFLINE, compile=False)
    reference = wheelhouse.write_reference(Path(converted.wheelhouse), "/somewhere", tmp_path / "reference.zip")
    with zipfile.ZipFile(reference) as opened:
        assert not {sbom.MEMBER, provenance.MEMBER} & set(opened.namelist())
