from __future__ import annotations

import codecs
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from depload.errors import Fault, RequirementsError
from depload.standards.requirements import Line, Requirements, merge, read, redact

if TYPE_CHECKING:
    from pathlib import Path

A, B = "a" * 64, "b" * 64
SHA_A, SHA_B = f"sha256:{A}", f"sha256:{B}"
WHEEL = "https://host/dist/Some_Pkg-1.0-py3-none-any.whl"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A source with something local to install."""
    source = tmp_path.resolve() / "source"
    for name in (
        "libs/some_pkg-1.0-py3-none-any.whl",
        "libs/other-2.0.tar.gz",
        "libs/main.zip",
        "libs/my lib-1.0.zip",
        "libs/notes.txt",
    ):
        _write(source, name, "")
    _write(source, "pkg/pyproject.toml", "")
    _write(source, "old/setup.py", "")
    _write(source, "with space/setup.py", "")
    _write(source, "empty/readme.md", "")
    _write(source, "reqs/base.txt", "six\n")
    _write(tmp_path, "outside/pkg/setup.py", "")
    _write(tmp_path, "outside/base.txt", "six\n")
    (source / "door").symlink_to(tmp_path / "outside")
    (source / "alias.txt").symlink_to("reqs/base.txt")
    return source


def _write(directory: Path, name: str, content: str | bytes) -> Path:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def _read(root: Path, content: str | bytes, name: str = "requirements.txt") -> Requirements:
    return read(_write(root, name, content), root)


def _faults(root: Path, content: str | bytes, name: str = "requirements.txt") -> tuple[Fault, ...]:
    with pytest.raises(RequirementsError) as caught:
        _read(root, content, name)
    return caught.value.faults


# --- what is accepted -----------------------------------------------------------------------------

# The text; the requirement, where {root} stands for the source; name, hashes, path below the source.
ACCEPTED: list[tuple[str, str, str | None, tuple[str, ...], str | None]] = [
    ("pandas", "pandas", "pandas", (), None),
    ("Foo.Bar_baz", "Foo.Bar_baz", "foo-bar-baz", (), None),
    ("pandas == 2.2.2", "pandas==2.2.2", "pandas", (), None),
    ("  pandas==2.2.2  # via me", "pandas==2.2.2", "pandas", (), None),
    ("pandas (>=2)", "pandas>=2", "pandas", (), None),
    (
        "pandas[excel]==2.2.2;python_version>='3.9'",
        'pandas[excel]==2.2.2 ; python_version >= "3.9"',
        "pandas",
        (),
        None,
    ),
    (
        'requests [security, a] >= 2.8.1, == 2.8.* ; python_version < "2.7"',
        'requests[a,security]==2.8.*,>=2.8.1 ; python_version < "2.7"',
        "requests",
        (),
        None,
    ),
    ("pandas==2 ;", "pandas==2", "pandas", (), None),
    (f"pandas==2 --hash={SHA_A}", "pandas==2", "pandas", (SHA_A,), None),
    (f"pandas==2 --hash {SHA_B} --hash '{SHA_A}'", "pandas==2", "pandas", (SHA_B, SHA_A), None),
    (
        f"pandas==2 \\\n  --hash={SHA_A} \\\n  --hash=sha256:{A.upper()}",
        "pandas==2",
        "pandas",
        (SHA_A,),
        None,
    ),
    (f"pandas==2 --hash=sha512:{A}{A}", "pandas==2", "pandas", (f"sha512:{A}{A}",), None),
    ("pan\\\ndas\\\n==2", "pandas==2", "pandas", (), None),
    (f"name @ {WHEEL}", f"name @ {WHEEL}", "name", (), None),
    (f"name[x]@{WHEEL}; os_name == 'nt'", f'name[x] @ {WHEEL} ; os_name == "nt"', "name", (), None),
    (f"name @ {WHEEL}#sha256={A}", f"name @ {WHEEL}#sha256={A}", "name", (SHA_A,), None),
    (
        "name @ https://host/a;b/c.zip ; os_name == 'nt'",
        'name @ https://host/a;b/c.zip ; os_name == "nt"',
        "name",
        (),
        None,
    ),
    (WHEEL, f"some-pkg @ {WHEEL}", "some-pkg", (), None),
    (f"{WHEEL} ; os_name == 'nt'", f'some-pkg @ {WHEEL} ; os_name == "nt"', "some-pkg", (), None),
    (f"{WHEEL}#md5=0", f"some-pkg @ {WHEEL}#md5=0", "some-pkg", (), None),
    (
        "https://host/torch-2.1.0%2Bcpu-cp310-cp310-linux_x86_64.whl",
        "torch @ https://host/torch-2.1.0%2Bcpu-cp310-cp310-linux_x86_64.whl",
        "torch",
        (),
        None,
    ),
    ("http://host/a-b-1.0.tar.gz", "a-b @ http://host/a-b-1.0.tar.gz", "a-b", (), None),
    ("https://u:p@host/x-1.zip?k=v", "x @ https://u:p@host/x-1.zip?k=v", "x", (), None),
    (
        f"https://host/o/n/archive/abc.zip#egg=N_n[e]&subdirectory=d&sha256={A}",
        f"N_n[e] @ https://host/o/n/archive/abc.zip#subdirectory=d&sha256={A}",
        "n-n",
        (SHA_A,),
        None,
    ),
    (
        "./libs/some_pkg-1.0-py3-none-any.whl",
        "some-pkg @ file://{root}/libs/some_pkg-1.0-py3-none-any.whl",
        "some-pkg",
        (),
        "libs/some_pkg-1.0-py3-none-any.whl",
    ),
    (
        f"libs/some_pkg-1.0-py3-none-any.whl[a,B] ; os_name=='nt' --hash={SHA_A}",
        'some-pkg[B,a] @ file://{root}/libs/some_pkg-1.0-py3-none-any.whl ; os_name == "nt"',
        "some-pkg",
        (SHA_A,),
        "libs/some_pkg-1.0-py3-none-any.whl",
    ),
    ("libs/other-2.0.tar.gz", "other @ file://{root}/libs/other-2.0.tar.gz", "other", (), "libs/other-2.0.tar.gz"),
    ("libs/main.zip", "{root}/libs/main.zip", None, (), "libs/main.zip"),
    ("libs/my lib-1.0.zip", "{root}/libs/my lib-1.0.zip", None, (), "libs/my lib-1.0.zip"),
    ("./pkg", "{root}/pkg", None, (), "pkg"),
    ("./pkg [x,a];os_name=='nt'", '{root}/pkg[a,x] ; os_name == "nt"', None, (), "pkg"),
    ("./old/", "{root}/old", None, (), "old"),
    ("libs/../pkg", "{root}/pkg", None, (), "pkg"),
    ("./with space", "{root}/with space", None, (), "with space"),
    ("file:./pkg", "{root}/pkg", None, (), "pkg"),
    ("file:./pkg#egg=My_Pkg", "My_Pkg @ file://{root}/pkg", "my-pkg", (), "pkg"),
    ("file:with%20space", "{root}/with space", None, (), "with space"),
    (f"p @ file:libs/main.zip#sha256={A}", "p @ file://{root}/libs/main.zip", "p", (SHA_A,), "libs/main.zip"),
    ("p[e] @ file:./with%20space", "p[e] @ file://{root}/with%20space", "p", (), "with space"),
    ("p @ ./pkg", "p @ file://{root}/pkg", "p", (), "pkg"),
]


@pytest.mark.parametrize("row", ACCEPTED, ids=[row[0][:40] for row in ACCEPTED])
def test_a_line_becomes_exactly_this_record(
    root: Path, row: tuple[str, str, str | None, tuple[str, ...], str | None]
) -> None:
    text, requirement, name, hashes, path = row
    requirement = requirement.replace("{root}", str(root))
    expected = Line(requirement, name, hashes, root / path if path else None, "requirements.txt:2")
    assert _read(root, f"# first\n{text}\n").lines == (expected,)


def test_absolute_paths_and_file_urls_below_the_root_are_inside(root: Path) -> None:
    found = _read(root, f"{root}/pkg\nfile://{root}/pkg\nfile://localhost{root}/old\nx @ file://{root}/pkg\n")
    assert [line.path for line in found.lines] == [root / "pkg", root / "pkg", root / "old", root / "pkg"]


def test_a_dot_is_the_source_itself_when_that_is_a_project(root: Path) -> None:
    _write(root, "pyproject.toml", "")
    assert _read(root, ".\n.[dev]").lines[1] == Line(f"{root}[dev]", None, (), root, "requirements.txt:2")


def test_paths_start_beside_the_file_that_names_them_or_in_the_root(root: Path) -> None:
    _write(root, "reqs/near/setup.py", "")
    found = _read(root, "./near\n./pkg\n../old\n--find-links ../libs\n--find-links libs\n", "reqs/all.txt")
    assert [line.path for line in found.lines] == [root / "reqs/near", root / "pkg", root / "old"]
    assert found.find_links == (str(root / "libs"),)


def test_a_root_behind_a_symbolic_link_is_the_same_root(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    _write(root, "requirements.txt", "./pkg\n-r reqs/base.txt\n")
    lines = read(link / "requirements.txt", link).lines
    assert [(line.path, line.origin) for line in lines] == [
        (root / "pkg", "requirements.txt:1"),
        (None, "reqs/base.txt:1"),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_counts(root: Path, newline: str) -> None:
    found = _read(root, newline.join(["# one", "a \\", "  ==1", "", "b"]))
    assert [(line.requirement, line.origin) for line in found.lines] == [
        ("a==1", "requirements.txt:2"),
        ("b", "requirements.txt:5"),
    ]


def test_a_comment_ends_a_continued_line(root: Path) -> None:
    assert [line.requirement for line in _read(root, "a \\\n# why\n==1\\\n".replace("==1", "b==1")).lines] == [
        "a",
        "b==1",
    ]


ENCODED = [
    codecs.BOM_UTF8 + "a ; os_name == 'é'".encode(),
    codecs.BOM_UTF16_LE + "a ; os_name == 'é'".encode("utf-16-le"),
    codecs.BOM_UTF16_BE + "a ; os_name == 'é'".encode("utf-16-be"),
    codecs.BOM_UTF32_LE + "a ; os_name == 'é'".encode("utf-32-le"),
    codecs.BOM_UTF32_BE + "a ; os_name == 'é'".encode("utf-32-be"),
    b"# -*- coding: latin-1 -*-\r\na ; os_name == '\xe9'",
    b"#!/x\n# vim: set fileencoding=iso-8859-15 :\na ; os_name == '\xe9'",
    "a ; os_name == 'é'".encode(),
]


@pytest.mark.parametrize("content", ENCODED)
def test_byte_order_marks_and_coding_comments_decide_the_encoding(root: Path, content: bytes) -> None:
    assert [line.requirement for line in _read(root, content).lines] == ['a ; os_name == "é"']


def test_bytes_that_are_no_text_are_a_fault_that_names_the_position(root: Path) -> None:
    (fault,) = _faults(root, b"a\n# caf\xe9\nb\n")
    assert fault.where == "requirements.txt:2"
    assert "byte 0xe9 at position 7 is not utf-8; save the file as UTF-8" in fault.what
    (fault,) = _faults(root, codecs.BOM_UTF8 + b"a\n\xff")
    assert fault.where == "requirements.txt:2"
    assert "byte 0xff at position 5" in fault.what


@pytest.mark.parametrize("coding", ["martian", "idna", "punycode", "unicode_escape", "zlib", "undefined", "mbcs\x00"])
def test_a_coding_that_is_no_character_set_is_a_fault(root: Path, coding: str) -> None:
    if coding.startswith("mbcs") and sys.platform == "win32":
        pytest.skip("a character set there")
    (fault,) = _faults(root, f"# coding: {coding}\na\n")
    assert fault.where == "requirements.txt:1"
    assert "no such text encoding" in fault.what


def test_only_upper_case_variables_that_are_set_are_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOAD_T", "s3:cr@t")
    monkeypatch.setenv("depload_t", "no")
    monkeypatch.setenv("EMPTY", "")
    urls = ["https://${DEPLOAD_T}@h/", "https://h/${UNSET_1}/${EMPTY}/${depload_t}/$DEPLOAD_T"]
    found = _read(root, f"-i {urls[0]}\n--extra-index-url {urls[1]}\n")
    assert found.index_url == "https://s3:cr@t@h/"
    assert found.extra_index_urls == (urls[1],)


def test_nothing_in_is_nothing_out(root: Path) -> None:
    found = _read(root, "\n# only words\n   \n\\\n")
    assert not any(vars(found).values())


# --- options and includes -------------------------------------------------------------------------

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("-i https://h/s", {"index_url": "https://h/s"}),
    ("--index-url=https://u:p@h/s", {"index_url": "https://u:p@h/s"}),
    ("--pypi-url 'https://h/s'", {"index_url": "https://h/s"}),
    ("-ihttps://h/1\n-i https://h/2", {"index_url": "https://h/2"}),
    ("--index https://h/s", {"index_url": "https://h/s"}),
    ("--extra-index-url https://a/\n--extra-index-url=https://b/", {"extra_index_urls": ("https://a/", "https://b/")}),
    ("-i https://h --extra-index-url https://a", {"index_url": "https://h", "extra_index_urls": ("https://a",)}),
    ("-i https://h\n--no-index\n--extra-index-url https://a", {"no_index": True}),
    ("-f https://h/links.html", {"find_links": ("https://h/links.html",)}),
    ("--find-links=./libs\n-f libs", {"find_links": ("{root}/libs",)}),
    ("-f file:libs", {"find_links": ("{root}/libs",)}),
    ("--pre", {"pre": True}),
    ("--prefer-binary --require-hashes", {"prefer_binary": True, "require_hashes": True}),
    ("--only-binary :all:", {"only_binary": (":all:",)}),
    ("--only-binary=Num_py,scipy --no-binary scipy", {"only_binary": ("num-py",), "no_binary": ("scipy",)}),
    ("--only-binary=:all:\n--no-binary=x", {"only_binary": (":all:",), "no_binary": ("x",)}),
    ("--no-binary=x\n--only-binary=:all:", {"only_binary": (":all:",)}),
    ("--no-binary=x,y\n--no-binary=:none:,z", {"no_binary": ("z",)}),
    ("--trusted-host h:8080\n--trusted-host i", {"trusted_hosts": ("h:8080", "i")}),
    ("--use-feature fast-deps", {}),
]


@pytest.mark.parametrize(("text", "expected"), OPTIONS)
def test_an_option_sets_this_and_nothing_else(root: Path, text: str, expected: dict[str, Any]) -> None:
    plain = vars(_read(root, ""))
    for name in ("find_links",):
        if name in expected:
            expected = {**expected, name: tuple(one.replace("{root}", str(root)) for one in expected[name])}
    assert vars(_read(root, text)) == {**plain, **expected}


@pytest.mark.parametrize(
    "spelling", ["-r reqs/a.txt", "-rreqs/a.txt", "--requirement reqs/a.txt", "--requirement='reqs/a.txt'"]
)
def test_an_included_file_stands_where_it_is_named(root: Path, spelling: str) -> None:
    _write(root, "reqs/a.txt", "--pre\nb\n-r base.txt\n")
    found = _read(root, f"a\n{spelling}\nc\n")
    assert [(line.requirement, line.origin) for line in found.lines] == [
        ("a", "requirements.txt:1"),
        ("b", "reqs/a.txt:2"),
        ("six", "reqs/base.txt:1"),
        ("c", "requirements.txt:3"),
    ]
    assert found.pre


@pytest.mark.parametrize(
    "spelling", ["-c reqs/c.txt", "-creqs/c.txt", "--constraint reqs/c.txt", "--constraint=reqs/c.txt"]
)
def test_constraints_are_kept_apart(root: Path, spelling: str) -> None:
    _write(root, "reqs/c.txt", f"b==1 --hash={SHA_A}\nname @ {WHEEL}\n-c more.txt\n-r base.txt\n")
    _write(root, "reqs/more.txt", "d<2")
    found = _read(root, f"b\n{spelling}\n")
    assert [line.requirement for line in found.lines] == ["b", "six"]  # -r means requirements even there, as in pip
    assert [line.requirement for line in found.constraints] == ["b==1", f"name @ {WHEEL}", "d<2"]
    assert found.constraints[0].hashes == (SHA_A,)


def test_a_file_included_twice_is_read_once(root: Path) -> None:
    _write(root, "dev.txt", "-r reqs/base.txt\npytest")
    found = _read(root, "-r reqs/base.txt\n-r dev.txt\n-r alias.txt\n-c reqs/base.txt\n")
    assert [line.name for line in found.lines] == ["six", "pytest"]
    assert [line.name for line in found.constraints] == ["six"]


def test_a_file_that_includes_itself_is_a_fault_where_the_circle_closes(root: Path) -> None:
    _write(root, "b.txt", "b\n-c requirements.txt\n")
    (fault,) = _faults(root, "a\n-r b.txt\n")
    assert fault.where == "b.txt:2"
    assert "includes itself" in fault.what
    assert _faults(root, "-r ./requirements.txt")[0].where == "requirements.txt:1"


def test_a_deep_chain_of_includes_ends(root: Path) -> None:
    for number in range(100):
        _write(root, f"{number}.txt", f"-r {number + 1}.txt\nx{number}\n")
    (fault,) = _faults(root, "-r 0.txt")
    assert fault.where == "14.txt:1"
    assert "deep" in fault.what


def test_includes_that_double_at_each_level_are_read_in_no_time(root: Path) -> None:
    for number in range(14):
        _write(root, f"{number}.txt", f"-r {number + 1}.txt\n" * 50)
    _write(root, "14.txt", "six")
    assert len(_read(root, "-r 0.txt").lines) == 1


# --- what is refused ------------------------------------------------------------------------------

REFUSED: list[tuple[str, int, str]] = [
    ("-e ./pkg", 1, "an editable install cannot travel to workers; write ./pkg without -e"),
    ("-e .[spark,tests]", 1, "write .[spark,tests] without -e"),
    ("--editable pkg", 1, "write ./pkg without -e"),
    ("-e 'my pkg'", 1, "write its ./path without -e"),
    ("a\n--editable=git+https://h/o/n#egg=n", 2, "take -e away, and put a wheel into the source"),
    ("six==${DEPLOAD_UNSET}", 1, "the variable DEPLOAD_UNSET is not set where this is converted"),
    ("git+https://h/o/n.git@v1", 1, "archive/<commit>.zip"),
    ("git+ssh://git@h/o/n.git", 1, "version control"),
    ("git@github.com:o/n.git", 1, "version control"),
    ("n @ git+https://h/o/n.git", 1, "version control"),
    ("n[e] @ GIT+https://h/o/n.git", 1, "version control"),
    ("hg+https://h/o/n", 1, "version control"),
    ("svn+https://h/o/n", 1, "version control"),
    ("bzr+https://h/o/n", 1, "version control"),
    ("a\n\nb \\\n  --config-settings x=y", 3, "ready wheel"),
    ("b --global-option=x", 1, "ready wheel"),
    ("b --install-option='--x'", 1, "ready wheel"),
    ("b --pre", 1, "a line of its own"),
    ("b -r reqs/base.txt", 1, "a line of its own"),
    ("-r reqs/base.txt --pre", 1, "pip reads only the first file"),
    ("-r reqs/base.txt -r reqs/base.txt", 1, "pip reads only the first file"),
    ("--pre six", 1, "pip ignores words behind an option"),
    ("-r reqs/base.txt reqs/more.txt", 1, "pip ignores words"),
    ("-r absent.txt", 1, "no such file"),
    ("-r reqs", 1, "not a file"),
    ("-r ../outside/base.txt", 1, "leads out of the source"),
    ("-r door/base.txt", 1, "leads out of the source"),
    ("-r /etc/passwd", 1, "leads out of the source"),
    ("-r https://h/r.txt", 1, "put the file into the source"),
    ("-c file:///etc/passwd", 1, "put the file into the source"),
    ("-r", 1, "-r option requires 1 argument"),
    ("--frobnicate", 1, "no such option"),
    ("--no", 1, "ambiguous option"),
    ("--pre=1", 1, "does not take a value"),
    ("--process-dependency-links", 1, "no such option"),
    ("-i ftp://h/s", 1, "only https://host/"),
    ("-i --pre", 1, "only https://host/"),
    ("--extra-index-url /srv/simple", 1, "only https://host/"),
    ("-i https://h:port/", 1, "not a URL"),
    ("-i 'https://h", 1, "quotation mark"),
    ("-f /tmp", 1, "leads out of the source"),
    ("-f ../outside", 1, "leads out of the source"),
    ("-f absent", 1, "no such file or directory"),
    ("-f libs/notes.txt", 1, "directory of the source"),
    ("-f ftp://h/x", 1, "only https://host/"),
    ("--only-binary --pre", 1, "names with commas"),
    ("--no-binary 'a b'", 1, "names with commas"),
    (f"--hash={SHA_A}", 1, "--hash without a requirement"),
    (f"a==1\n--hash={SHA_A}", 2, "end the line before it with a backslash"),
    (f"a==1 --hash=SHA256:{A}", 1, "one of sha256, sha384, sha512"),
    ("a==1 --hash=md5:0", 1, "one of sha256, sha384, sha512"),
    (f"a==1 --hash={A}", 1, "algorithm:digest"),
    ("a==1 --hash=sha256:abc", 1, "64 hexadecimal digits"),
    ("a==1 --hash=sha256:" + "x" * 64, 1, "64 hexadecimal digits"),
    (f"{WHEEL}#sha256=abc", 1, "64 hexadecimal digits"),
    ("a==1 \\ \nb", 1, "white space follows the backslash"),
    ("a=1", 1, "write =="),
    ("a==1.x.y", 1, "not a requirement"),
    ("a>=1.0[extra]", 1, "not a requirement"),
    ("a b", 1, "not a requirement"),
    ("a; python_version", 1, "not a requirement"),
    ("a; martian == '1'", 1, "not a requirement"),
    ("a ; " + "(" * 3000, 1, "nested"),
    ("a" * 5000, 1, "4096 characters"),
    ("'a'", 1, "not a requirement"),
    ("a\x00b", 1, "'\\x00' cannot be part"),
    ("a\n\x1b[31mb", 2, "'\\x1b' cannot be part"),
    ("\ufeff\ufeffa", 1, "'\\ufeff' cannot be part"),
    ("a\u00a0==1", 1, "'\\xa0' cannot be part"),
    ("a\u202e", 1, "'\\u202e' cannot be part"),
    ("./absent", 1, "no such file or directory in the source"),
    (".\\libs\\x.whl", 1, "write / for \\"),
    ("absent-1.0-py3-none-any.whl", 1, "no such file or directory"),
    ("../outside/pkg", 1, "leads out of the source"),
    ("./door/pkg", 1, "leads out of the source"),
    ("file:///etc", 1, "leads out of the source"),
    ("file://server/share/x.whl", 1, "another host"),
    ("x @ file:../outside/pkg", 1, "leads out of the source"),
    ("file:./pkg%00", 1, "'\\x00' cannot be part"),
    ("file:libs/main.zip#subdirectory=x", 1, "#fragment"),
    ("./empty", 1, "neither pyproject.toml nor setup.py"),
    (".", 1, "neither pyproject.toml nor setup.py"),
    ("./libs/notes.txt", 1, "no .whl, .tar.gz, .zip or project directory"),
    ("./" + "x" * 300, 1, "': "),  # Python 3.14 says only that there is no such file
    ("https://h/o/n/archive/abc.zip", 1, "write name @ url"),
    ("https://h/o/n/archive/v1.0-2.zip", 1, "write name @ url"),
    ("https://h/" + ".".join(["py3"] * 300) + ".whl", 1, "write name @ url"),
    ("https:///x-1.zip", 1, "only https://host/"),
    ("n @ https://h/a b.whl", 1, "only https://host/"),
    ("n @ https://[h/a.whl", 1, "not a URL"),
    ("ftp://h/x-1.zip", 1, "only https://host/"),
    ("n @ s3://bucket/x.whl", 1, "only https://host/"),
]


@pytest.mark.parametrize(("text", "line", "piece"), REFUSED, ids=[row[0][:40] for row in REFUSED])
def test_a_line_is_refused_with_its_number_and_a_reason(root: Path, text: str, line: int, piece: str) -> None:
    (fault,) = _faults(root, text)
    assert fault.where == f"requirements.txt:{line}"
    assert piece in fault.what
    assert str(fault).isprintable()


@pytest.mark.parametrize("text", ["b[extra]", "./pkg", "name[e] @ https://h/x.whl", "-e ./pkg"])
def test_a_constraint_has_a_name_and_no_extras(root: Path, text: str) -> None:
    _write(root, "c.txt", f"\n{text}\n")
    (fault,) = _faults(root, "b\n-c c.txt\n")
    assert fault.where == "c.txt:2"


def test_every_fault_is_told_at_once_in_the_order_of_the_files(root: Path) -> None:
    _write(root, "reqs/bad.txt", "ok\n\n-e x\n")
    with pytest.raises(RequirementsError) as caught:
        _read(root, "a=1\n-r reqs/bad.txt\nfine\n-i x --extra-index-url y\n")
    where = [fault.where for fault in caught.value.faults]
    assert where == ["requirements.txt:1", "reqs/bad.txt:3", "requirements.txt:4", "requirements.txt:4"]
    assert str(caught.value).startswith(
        "requirements.txt has lines that cannot be used:\n  - requirements.txt:1: 'a=1': "
    )


def test_a_missing_file_or_one_outside_of_the_root_is_an_error_not_a_traceback(root: Path) -> None:
    for file in (root / "absent.txt", root / "door" / "base.txt", root.parent / "outside/base.txt", root):
        with pytest.raises(RequirementsError):
            read(file, root)


def test_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe.txt")
    assert "not a file" in _faults(root, "-r pipe.txt")[0].what


def test_file_names_are_escaped_in_messages(root: Path) -> None:
    assert _faults(root, "-e .", "\x1b[31m\n.txt")[0].where == r"\x1b[31m\n.txt:1"
    assert str(_faults(root, "-e .", "\x1b[31m\n.txt")[0]).isprintable()


# --- hashes demanded ------------------------------------------------------------------------------


def test_require_hashes_names_each_line_that_lacks_a_hash_or_a_pin(root: Path) -> None:
    content = (
        f"--require-hashes\na==1\nb>=1 --hash={SHA_A}\nc==1.* --hash={SHA_A}\nd===1 --hash={SHA_A}\n./pkg\n"
        f"{WHEEL}\n{WHEEL}#sha256={A}\nlibs/main.zip --hash={SHA_A}\ne --hash={SHA_A}\n"
    )
    assert [fault.where.partition(":")[2] for fault in _faults(root, content)] == ["2", "3", "4", "6", "7", "10"]


def test_constraints_may_bring_hash_and_pin_as_in_pip(root: Path) -> None:
    _write(root, "c.txt", f"A.b==1.0 --hash={SHA_A}\n")
    assert len(_read(root, "--require-hashes\na-b\n-c c.txt\n").lines) == 1


def test_hashes_on_some_lines_demand_none_on_the_others(root: Path) -> None:
    assert len(_read(root, f"a==1 --hash={SHA_A}\nb\n").lines) == 2


# --- merging --------------------------------------------------------------------------------------


def test_merging_joins_what_files_ask_for(root: Path) -> None:
    first = _read(root, "-i https://h\na\n-r reqs/base.txt\n--only-binary=:all:\n--no-binary=x\n", "1.txt")
    second = _read(
        root, "-i https://h\nb\n-r reqs/base.txt\n-f libs\n--pre\n--only-binary=x\n--trusted-host t\n", "2.txt"
    )
    merged = merge([first, second])
    assert [line.origin for line in merged.lines] == ["1.txt:2", "reqs/base.txt:1", "2.txt:2"]
    assert (merged.index_url, merged.find_links, merged.pre) == ("https://h", (str(root / "libs"),), True)
    assert (merged.only_binary, merged.no_binary, merged.trusted_hosts) == ((":all:", "x"), (), ("t",))


def test_merging_one_or_none_changes_nothing(root: Path) -> None:
    part = _read(root, "\n".join(text for text, _ in OPTIONS if "no-index" not in text and "hashes" not in text))
    assert merge([part]) == part
    assert merge([]) == _read(root, "")


def test_two_index_urls_do_not_merge_and_both_are_named_without_their_passwords(root: Path) -> None:
    parts = [_read(root, f"-i https://u:secret@{host}/s") for host in ("one", "two")]
    with pytest.raises(RequirementsError, match=r"https://\*\*\*\*@one/s and https://\*\*\*\*@two/s") as caught:
        merge(parts)
    assert "secret" not in str(caught.value)
    assert merge([*parts, _read(root, "--no-index")]).index_url is None


def test_require_hashes_of_one_file_holds_for_all(root: Path) -> None:
    with pytest.raises(RequirementsError, match=r"1\.txt:1"):
        merge([_read(root, "a==1", "1.txt"), _read(root, "--require-hashes", "2.txt")])


# --- secrets and hostile input --------------------------------------------------------------------

REDACTED = [
    ("https://user:secret@host/", "https://****@host/"),
    ("https://secret@host/x", "https://****@host/x"),
    ("see git+ssh://secret@host/o@v1 and http://a:secret@b", "see git+ssh://****@host/o@v1 and http://****@b"),
    ("https://user:sec@secret@host/", "https://****@host/"),
    ("https://user:sec/secret?#x@host/y", "https://****@host/y"),
    (
        "--index-url=https://user:secret@host/ 'https://user:secret@h'",
        "--index-url=https://****@host/ 'https://****@h'",
    ),
    ("https://user:sec secret@host/y", "https://****@host/y"),
    ("https://host:8080 is up, write to me@host", "https://host:8080 is up, write to me@host"),
    ("user:secret@host/x", "****@host/x"),
    ("https:/user:secret@host/x", "https:/****@host/x"),
    ("--trusted-host='user:secret@host'", "--trusted-host='****@host'"),
    ("https://host/x.whl?sig=secret&se=secret#sha256=ab", "https://host/x.whl?****#sha256=ab"),
    ("https://host:8080/x@1.0", "https://host:8080/x@1.0"),
    ("name @ https://host/x-1.0-py3-none-any.whl", "name @ https://host/x-1.0-py3-none-any.whl"),
    ("requirements.txt:3: write to me@host", "requirements.txt:3: write to me@host"),
]


@pytest.mark.parametrize(("text", "expected"), REDACTED)
def test_secrets_of_urls_are_starred_out(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert "secret" not in expected


LEAKY = [
    "-i ftp://u:{}@h/",
    "--index-url https://u:{}@h:x/",
    "--extra-index-url 'https://u:{}@h/",
    "n @ git+https://u:{}@h/o/n",
    "git+https://{}@h/o/n@main",
    "n @ https://u:{} x@h/n.zip ; bad",
    "https://u:{}@h/archive/n.zip",
    "--no-such=https://u:{}@h/",
    "--no-such://u:{}@h/",
    "-r https://u:{}@h/r.txt",
    "./u:{}@h",
    "a==1 --hash=https://u:{}@h/",
    "https://h/n?token={}",
    "-e https://u:{}" + "x" * 5000 + "@h/",
    "-e " + "x" * 4080 + " https://u:{}@h/",
    "-f file://u:{}@h/x",
    "--pre https://u:{}@h/",
]


@pytest.mark.parametrize("text", LEAKY)
def test_no_message_holds_a_secret_written_or_from_the_environment(
    root: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOAD_TOKEN", "hush hush")
    faults = [*_faults(root, text.format("hush")), *_faults(root, text.format("${DEPLOAD_TOKEN}"))]
    assert len(faults) == 2
    assert not [fault for fault in faults if "hush" in str(fault)]


@pytest.mark.parametrize(
    "content",
    [
        "a" * 9_000_000,
        "a\n" * 5_000_000,
        "\n" * 9_000_000,
        "a\\\n" * 1_000_000,
        "${PATH}" * 9_000,
        "# coding: punycode\n" + "é" * 100_000,
        " " * 60_000 + "a\n",
        ("x" + " " * 60_000 + "y\n") * 5,
        ("a ; " + "(" * 4000 + "\n") * 20,
        "--x='" + "a" * 60_000,
        "-e " + "://a:" * 10_000,
        "-e " + "=a:" * 20_000,
        "https://h/" + "-".join(["a." * 600] * 5) + ".whl",
        "libs/" + "../libs/" * 500,
        "a[" + "b," * 2000 + "\n",
        "a-" * 2000 + "\n",
        "a==" + "1." * 2000 + "!\n",
    ],
    ids=range(17),
)
def test_hostile_input_ends_soon(root: Path, content: str) -> None:
    faults: tuple[Fault, ...]
    file = _write(root, "requirements.txt", content)
    started = time.perf_counter()
    try:
        read(file, root)
        faults = ()
    except RequirementsError as error:
        faults = error.faults
    assert time.perf_counter() - started < 20
    assert all(len(str(fault)) < 1000 for fault in faults)


def test_of_a_huge_file_only_the_start_is_read(root: Path) -> None:
    with (root / "requirements.txt").open("wb") as file:
        file.truncate(100_000_000_000)  # a hole, so it takes no room
    (root / "large.txt").symlink_to("requirements.txt")
    assert [
        fault.where for fault in _faults(root, "-r requirements.txt\n-r reqs/base.txt\n-r large.txt", "top.txt")
    ] == [
        "top.txt:1",
        "top.txt:2",
    ]
    with pytest.raises(RequirementsError, match="requirements files of more than 8 MB are not read"):
        read(root / "requirements.txt", root)


# --- properties -----------------------------------------------------------------------------------

_WORDS = """-r -c -e -i -f -- --hash= sha256: --only-binary :all: --pre requirements.txt # ; ' " @ https:// file: git+
h/x-1.0.zip x.whl ./ ../ pkg [a] ==1 ${PATH} %00 \x00 [ ( os_name=='x' //[ \ud800 é \u2028 :80"""
_PIECES = st.sampled_from([*_WORDS.split(), " ", "\n", "\r", "\\\n", "# coding: utf-7\n"])
_FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_FUZZ
@given(text=st.one_of(st.lists(st.one_of(_PIECES, st.text(max_size=3)), max_size=12).map("".join), st.text()))
def test_arbitrary_text_is_read_or_refused_and_nothing_else(root: Path, text: str) -> None:
    """Either a record comes out, or a RequirementsError whose every line can be printed."""
    _read_or_refuse(root, text.encode("utf-8", "surrogatepass"))


@_FUZZ
@given(data=st.binary())
def test_arbitrary_bytes_are_read_or_refused_and_nothing_else(root: Path, data: bytes) -> None:
    _read_or_refuse(root, data)
    _read_or_refuse(root, codecs.BOM_UTF16_LE + data)
    _read_or_refuse(root, b"# coding: utf-7\n" + data)


def _read_or_refuse(root: Path, data: bytes) -> None:
    try:
        found = _read(root, data)
    except RequirementsError as error:
        assert all(fault.where and str(fault).isprintable() for fault in error.faults)  # noqa: PT017
    else:
        assert all(Requirement(line.requirement) for line in found.lines if line.name)


_NAMES = st.text("Ab9._-", max_size=8).map("x{}0".format)
_VERSIONS = st.builds(
    "{}{}{}".format, st.integers(0, 99), st.sampled_from(["", ".0", ".10.2"]), st.sampled_from(["", "rc1"])
)
_SPECIFIERS = st.lists(
    st.builds("{}{}".format, st.sampled_from(["==", ">=", "<=", "!=", "<", ">", "==="]), _VERSIONS), max_size=3
).map(",".join)
_MARKERS = st.sampled_from(["", 'python_version >= "3.9"', 'os_name == "a#b" or (extra == "x" and os_name != "b-c")'])


@st.composite
def _requirements(draw: st.DrawFn) -> str:
    extras = draw(st.lists(_NAMES, max_size=2).map(lambda names: f"[{','.join(names)}]" if names else ""))
    where = draw(st.one_of(_SPECIFIERS, st.just(f" @ {WHEEL}")))
    marker = draw(_MARKERS)
    return f"{draw(_NAMES)}{extras}{where}" + (f" ; {marker}" if marker else "")


@_FUZZ
@given(texts=st.lists(_requirements(), max_size=4))
def test_valid_requirements_come_out_as_they_went_in(root: Path, texts: list[str]) -> None:
    """Any list of PEP 508 requirements means the same before and after, and again when it is read again."""
    found = _read(root, "\n".join(texts))
    assert [_meaning(line.requirement) for line in found.lines] == [_meaning(text) for text in texts]
    assert [line.name for line in found.lines] == [canonicalize_name(Requirement(text).name) for text in texts]
    again = _read(root, "\n".join(line.requirement for line in found.lines))
    assert again.lines == found.lines


def _meaning(text: str) -> tuple[str, set[str], str, str | None, str]:
    requirement = Requirement(text)
    return (
        requirement.name,
        requirement.extras,
        str(requirement.specifier),
        requirement.url,
        str(requirement.marker or ""),
    )


# --- pip itself -------------------------------------------------------------------------------------

_PIP = """
import json, optparse, os, sys
from pip._internal.exceptions import InstallationError
from pip._internal.index.collector import LinkCollector
from pip._internal.index.package_finder import PackageFinder
from pip._internal.models.search_scope import SearchScope
from pip._internal.models.selection_prefs import SelectionPreferences
from pip._internal.network.session import PipSession
from pip._internal.req.constructors import install_req_from_parsed_requirement
from pip._internal.req.req_file import parse_requirements

def row(parsed):
    req = install_req_from_parsed_requirement(parsed)
    hashes = [f"{name}:{digest}" for name, digests in req.hash_options.items() for digest in digests]
    link = req.link.url_without_fragment if req.link else None
    specifier = "" if link else str(req.req.specifier)
    return [parsed.constraint, req.name, sorted(req.extras), specifier, link, str(req.markers or ""), sorted(hashes)]

def read():
    session = PipSession()
    scope = SearchScope([], ["https://default"], no_index=False)
    finder = PackageFinder.create(LinkCollector(session, scope), SelectionPreferences(allow_yanked=False))
    options = optparse.Values({"require_hashes": False, "no_require_hashes": False, "features_enabled": []})
    try:
        rows = [row(parsed) for parsed in parse_requirements("requirements.txt", session, finder, options)]
    except InstallationError:
        return None
    formats = finder.format_control
    return {
        "rows": rows,
        "indexes": finder.index_urls,
        "links": [os.path.normpath(link) if os.path.exists(link) else link for link in finder.find_links],
        "formats": [sorted(formats.only_binary), sorted(formats.no_binary)],
        "hosts": [host if port is None else f"{host}:{port}" for host, port in session.pip_trusted_origins],
        "flags": [finder.search_scope.no_index, bool(finder.prefer_binary), options.require_hashes],
    }

found = []
for directory in sys.argv[1:]:
    os.chdir(directory)
    found.append(read())
print(json.dumps(found))
"""


def _row(line: Line, *, constraint: bool) -> list[Any]:
    requirement = Requirement(line.requirement if line.name else f"x{line.requirement.removeprefix(str(line.path))}")
    url = line.path.as_uri() if line.path else requirement.url and requirement.url.partition("#")[0]
    hashes = sorted(set(line.hashes) if "#" not in line.requirement else ())  # pip keeps those of a URL elsewhere
    specifier = "" if url else str(requirement.specifier)
    name = requirement.name if line.name else None
    return [constraint, name, sorted(requirement.extras), specifier, url, str(requirement.marker or ""), hashes]


def _as_pip(root: Path) -> dict[str, Any] | None:
    try:
        found = read(root / "requirements.txt", root)
    except RequirementsError:
        return None
    rows = [_row(line, constraint=False) for line in found.lines]
    return {
        "rows": sorted([*rows, *(_row(line, constraint=True) for line in found.constraints)], key=str),
        "indexes": [] if found.no_index else [found.index_url or "https://default", *found.extra_index_urls],
        "links": list(found.find_links),
        "formats": [sorted(found.only_binary), sorted(found.no_binary)],
        "hosts": list(found.trusted_hosts),
        "flags": [found.no_index, found.prefer_binary, found.require_hashes],
    }


_PIP_COMPILE = f"""\
#
# This file is autogenerated by pip-compile with Python 3.11
# by the following command:
#
#    pip-compile --generate-hashes --output-file=requirements.txt pyproject.toml
#
--index-url https://${{DEPLOAD_USER}}:${{DEPLOAD_UNSET}}@pypi.example.com/simple
--extra-index-url https://download.example.org/whl/cpu
--trusted-host pypi.example.com

certifi==2024.2.2 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via
    #   -r requirements.in
    #   requests
requests[socks]==2.31.0 \\
    --hash=sha256:{A}
    # via -r requirements.in
"""
_POETRY = f"""\
colorama==0.4.6 ; python_version >= "3.9" and python_version < "4.0" and platform_system == "Windows" \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
numpy==1.26.4 ; python_full_version >= "3.9.0" and python_version < "4.0" --hash=sha256:{B}
my-lib @ {WHEEL} ; python_version >= "3.9"
"""
_AIRFLOW = """\
# This constraints file was automatically generated on 2024-03-04T12:17:10.115146
# via "eager-upgrade" mechanism of PIP. For the "v2-8-test" branch of Airflow.\r
Authlib==1.3.0
PyYAML==6.0.1\r
apache-airflow-providers-amazon==8.18.0
backports.zoneinfo==0.2.1;python_version<'3.9'
google-cloud-core==2.4.1   # pinned
typing_extensions==4.10.0
"""

# What both read alike, and then what both refuse.
DIALECT: dict[str, dict[str, str]] = {
    "pip-compile": {"requirements.txt": _PIP_COMPILE},
    "poetry": {"requirements.txt": _POETRY},
    "airflow": {"requirements.txt": "apache-airflow[amazon]\n-c constraints.txt\n", "constraints.txt": _AIRFLOW},
    "nested": {
        "requirements.txt": "a\n-r reqs/one.txt\n--constraint=reqs/two.txt\nz\n",
        "reqs/one.txt": "b\n-r deep/three.txt # why\n-f links\n",
        "reqs/two.txt": "c<3\n-r deep/four.txt\n",
        "reqs/deep/three.txt": "d",
        "reqs/deep/four.txt": "e",
        "reqs/links/x": "",
    },
    "encodings": {"requirements.txt": "\ufeffa\n-r two.txt", "two.txt": "# coding: utf-8\nb ; os_name == 'é'"},
    "comments": {"requirements.txt": "a # b\n\t# c\nd\t# e\n#f\n\\\ng==1\\\n.0\nh \\\n# i\nj\\"},
    "continuations": {"requirements.txt": "a \\\n  ==1.0 ; \\\n  os_name == 'x' # c \\\nb\nd\\\\\ne\n"},
    "line ends": {"requirements.txt": "a\rb\r\nc\x0bd\x0ce\u2028f\x85g"},
    "urls": {
        "requirements.txt": f"{WHEEL}\n{WHEEL}#sha256={A}\nn[x] @ {WHEEL}#sha256={A}\nhttps://h/archive/1.zip#egg=Egg_1\n"
        "m @ https://u:p@h/x.tgz; os_name=='x'\nhttp://h/a-1.0%2Bcpu-py3-none-any.whl ; os_name == 'x'\n"
    },
    "paths": {
        "requirements.txt": "./pkg\n./pkg[x,y] ; os_name=='x'\nlibs/w_w-1.0-py3-none-any.whl\n./a b\nlibs/../pkg",
        "pkg/setup.py": "",
        "a b/pyproject.toml": "",
        "libs/w_w-1.0-py3-none-any.whl": "",
    },
    "options": {
        "requirements.txt": "-i https://i --extra-index-url 'https://e'\n--pre\n--prefer-binary\n--only-binary :all:\n"
        "--no-binary=a_A,b --only-binary b\n--trusted-host=h:1 --trusted-host i\n-fhttps://l\n--find-l l\n"
        "--use-feature fast-deps",
        "l/x": "",
    },
    "no index": {"requirements.txt": "-i https://i\n--no-index\n--extra-index-url https://e\n--find-links .\n"},
    "no binary": {"requirements.txt": "--no-binary x,y\n--only-binary :all:\n--no-binary :none:,z,x\n--only-binary x"},
    "hashes": {"requirements.txt": f"--require-hashes\na==1 --hash {SHA_A} --hash='{SHA_B}' --hash sha384:{A}{A[:32]}"},
    "specifiers": {
        "requirements.txt": "a(>1)\nb ~= 1.0, !=1.5.*\nc===1\nd[ x , y ]<2\ne ; (os_name=='x' or extra == 'z')\nf;"
    },
    "variables": {"requirements.txt": "${DEPLOAD_USER}-x\n-f https://$HOME/${home}/${DEPLOAD_UNSET}/${DEPLOAD_USER}"},
    "refused: cycle": {"requirements.txt": "-r a.txt", "a.txt": "-r b.txt", "b.txt": "-c a.txt"},
    "refused: absent": {"requirements.txt": "-r a.txt"},
    "refused: hash": {"requirements.txt": "a --hash=md5:abc"},
    "refused: option": {"requirements.txt": "--frobnicate"},
    "refused: value": {"requirements.txt": "--pre=1"},
    "refused: quotation": {"requirements.txt": "-i 'https://h"},
    "refused: name": {"requirements.txt": "a b"},
    "refused: equals": {"requirements.txt": "a=1"},
    "refused: marker": {"requirements.txt": "a ; martian == '1'"},
    "refused: extras": {"requirements.txt": "a>=1.0[x]"},
    "refused: directory": {"requirements.txt": "./d", "d/x": ""},
    "refused: tab": {"requirements.txt": f"a==1\t--hash={SHA_A}"},
    "refused: invisible": {"requirements.txt": "a\u00a0==1"},
}


@pytest.fixture(scope="module")
def dialect(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Each case's directory, and what pip reads there; one process for all, as importing pip takes half a second."""
    base = tmp_path_factory.mktemp("dialect").resolve()
    for case, files in DIALECT.items():
        for name, content in files.items():
            _write(base / case, name, content)
    places = [base / case for case in DIALECT]
    environment = {**os.environ, "DEPLOAD_USER": "robot"}
    done = subprocess.run(
        [sys.executable, "-c", _PIP, *map(str, places)], env=environment, capture_output=True, text=True, check=True
    )
    return {case: (place, said) for case, place, said in zip(DIALECT, places, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize("case", DIALECT)
def test_pip_reads_the_same(case: str, dialect: dict[str, tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOAD_USER", "robot")
    place, said = dialect[case]
    if said:
        said["rows"] = sorted(said["rows"], key=str)
    assert (said is None) == case.startswith("refused")
    assert _as_pip(place) == said
