"""Read a requirements.txt the way pip does, and say by line what cannot be used.

The rules are pip's (https://pip.pypa.io/en/stable/reference/requirements-file-format/) and PEP 508's. Stricter on
purpose: what pip would drop without a word is a fault, and so is what cannot travel to a worker.
"""

from __future__ import annotations

import codecs
import ipaddress
import math
import optparse
import os
import re
import shlex
import socket
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from depload.errors import Fault, RequirementsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Line", "Requirements", "is_metadata_service", "merge", "reached", "read", "redact", "unverifiable"]

# A lock of 500 packages with every hash is 3 MB, its longest line 20 KB; includes are rarely deeper than 3.
_MOST_BYTES = 8 * 1024 * 1024
_BYTES_A_LINE_COSTS = 64  # so that millions of empty lines run out of the same budget
_LONGEST_LINE = 64 * 1024
_LONGEST_REQUIREMENT = 4096
_MOST_TAGS = 256  # of a wheel's file name, where py2.py3-none-any has two; they multiply
_LONGEST_SHOWN = 120
_MOST_VARIABLES = 100
_DEEPEST_INCLUDE = 16
_ANYWHERE = {"extra": "", "platform_release": "", "platform_version": ""}

_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}  # what pip's --hash allows
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose little-endian mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Python's own inventions; decoding some of them takes quadratic time.
_NO_CHARACTER_SETS = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
_SAVE_AS = "save the file as UTF-8, or say its encoding in the first line: # -*- coding: latin-1 -*-"
_CODING = re.compile(rb"coding[:=]\s*([-\w.]+)")
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
# Credentials of the machine, of which no index asks for any; a source could have them sent wherever it likes. Others,
# AWS_REGION say, are part of the addresses of indexes.
_OF_THE_PLATFORM = re.compile(
    r"DATABRICKS_\w*(?:TOKEN|SECRET|PASSWORD)\w*|AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN)|"
    r"(?:AZURE|ARM)_(?:CLIENT_SECRET|PASSWORD|ACCESS_KEY|SAS_TOKEN)|GOOGLE_\w*(?:KEY|CREDENTIALS|TOKEN)\w*"
)
_OPTION = re.compile(r"(?:^| )-")
_QUOTING = re.compile(r"['\"\\]")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # two letters at least: C: is a drive
_VCS = re.compile(r"(?:git|hg|svn|bzr)[+:]|ssh:|git@[^/\s]+:(?!//)", re.IGNORECASE)
_NAMED_URL = re.compile(r"([a-z0-9][\w.-]*)\s*(?:(\[[^\]]*\])\s*)?@\s*(\S.*)", re.IGNORECASE)
_URL_END = re.compile(r"\s;|;\s")
_NAME = re.compile(r"[a-z0-9](?:[\w.-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
_SINGLE_EQUALS = re.compile(r"[^=<>!~]=[^=]")
_SECRETS = (
    (re.compile(r"(?<=://)[^\s/?#]*@"), "****@"),
    # A password that is not percent-encoded may hold slashes or white space; user:password@host may have no scheme.
    (re.compile(r"(?<=://)[^\s/?#@:]+:(?!\d+[/?#])\S{0,4096}@"), "****@"),
    (re.compile(r"(?<=://)[^\s/?#@:]+:(?!\d+(?:[/?#\s]|$))[^\n@]{0,4096}@"), "****@"),
    (re.compile(r"(?<![^\s'\"=/])[^\s/@:'\"=]+:[^\s/@]{1,4096}@"), "****@"),
    (re.compile(r"(://[^\s?#]{0,4096}\?)[^\s#'\"]+"), r"\1****"),  # the signature of a presigned URL
)


@dataclass(frozen=True)
class Line:
    """One requirement, its variables replaced.

    A ``requirement`` with a name is PEP 508; a local one is ``name[extras] @ file:///absolute/path ; marker``. A local
    project or archive whose name nobody said is ``/absolute/path[extras] ; marker``, as pip and uv take it.
    """

    requirement: str
    name: str | None
    hashes: tuple[str, ...]
    path: Path | None
    origin: str


@dataclass(frozen=True)
class Requirements:
    """What requirements files ask for, and the options that they set."""

    lines: tuple[Line, ...]
    constraints: tuple[Line, ...]
    index_url: str | None
    extra_index_urls: tuple[str, ...]
    find_links: tuple[str, ...]
    no_index: bool
    pre: bool
    prefer_binary: bool
    require_hashes: bool
    only_binary: tuple[str, ...]
    no_binary: tuple[str, ...]
    trusted_hosts: tuple[str, ...]


def read(file: Path, root: Path) -> Requirements:
    """The requirements of ``file`` and of all that it includes, none of it outside of ``root``.

    Raises:
        RequirementsError: with every fault, each at its ``file:line``.
    """
    reader = _Reader(root)
    start = Path(os.path.realpath(file.parent)) / file.name
    with reader.noting(reader.called(start)):
        reader.include(start, constraint=False)
    found = _gathered(reader.lines, reader.constraints, reader.options)
    if faults := [*reader.faults, *unverifiable(found)]:
        raise RequirementsError(reader.called(start), faults)
    return found


def reached(file: Path, root: Path) -> list[Path]:
    """What reading ``file`` leads to beside it: files that it includes, and the paths of its lines and find-links.

    Faults are not told; ``read`` does.
    """
    reader = _Reader(root)
    start = Path(os.path.realpath(file.parent)) / file.name
    with reader.noting(reader.called(start)):
        reader.include(start, constraint=False)
    found = [path for path, _ in reader.included]
    found += [line.path for line in (*reader.lines, *reader.constraints) if line.path is not None]
    found += [Path(value) for name, value in reader.options if name == "find_links" and _is_local(value)]
    return sorted(set(found) - {Path(os.path.realpath(file))})


def merge(parts: Iterable[Requirements]) -> Requirements:
    """The requirements of several files of one source; two different index URLs are an error."""
    parts = tuple(parts)
    merged = _gathered(
        dict.fromkeys(line for part in parts for line in part.lines),
        dict.fromkeys(line for part in parts for line in part.constraints),
        [option for part in parts for option in _options_of(part)],
    )
    faults = unverifiable(merged)
    indexes = dict.fromkeys(part.index_url for part in parts if part.index_url)
    if len(indexes) > 1 and not merged.no_index:
        both = " and ".join(map(redact, indexes))
        faults.append(Fault("", f"--index-url is {both}; keep one, and make the others --extra-index-url"))
    if faults:
        raise RequirementsError("the source", faults)
    return merged


def redact(url: str) -> str:
    """The URL, or text with URLs in it, without user names, passwords and queries (they may hold signatures)."""
    for secret, stars in _SECRETS:
        url = secret.sub(stars, url)
    return url


# --- files ----------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """Why a line cannot be used and what to write instead; never words of the line, which may be secrets."""


class _Entry(NamedTuple):
    """A logical line as it is written, before variables are replaced, and where its paths may start."""

    origin: str
    text: str
    constraint: bool
    places: tuple[Path, Path]


class _Reader:
    """What one ``read`` has found so far."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.lines: list[Line] = []
        self.constraints: list[Line] = []
        self.options: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self._budget = _MOST_BYTES
        self.included: set[tuple[Path, bool]] = set()

    def called(self, path: Path) -> str:
        """The path as messages have it: relative to the source, and safe for a terminal."""
        name = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name
        return name if name.isprintable() else repr(name)[1:-1]

    @contextmanager
    def noting(self, origin: str, text: str = "") -> Iterator[None]:
        """Note what the block refuses as a fault, and go on behind it."""
        shown = f"{_shown(text)}: " if text else ""
        try:
            yield
        except _RefusedError as refused:
            self.faults.append(Fault(origin, f"{shown}{refused}"))
        except OSError as error:
            self.faults.append(Fault(origin, f"{shown}cannot be read: {error.strerror}"))

    def include(self, path: Path, *, constraint: bool, chain: tuple[Path, ...] = ()) -> None:
        """Read a file unless it was read; as in pip, one that includes itself is a fault."""
        real = _existing(str(path), (self.root,))
        if real in chain:
            raise _RefusedError("the file includes itself; take this line out")
        if len(chain) == _DEEPEST_INCLUDE:
            raise _RefusedError(f"files include each other more than {_DEEPEST_INCLUDE} deep; put them together")
        if not real.is_file():
            raise _RefusedError("this is not a file; name a requirements file")
        if (real, constraint) not in self.included:
            self.included.add((real, constraint))
            for number, text in _logical_lines(self._text(real, self.called(path))):
                entry = _Entry(f"{self.called(path)}:{number}", text, constraint, (path.parent, self.root))
                with self.noting(entry.origin, text):
                    self._take(entry, (*chain, real))

    def _text(self, file: Path, name: str) -> str:
        with file.open("rb") as stream:
            data = stream.read(max(self._budget, 0) + 1)  # a negative number would mean all of it
        self._spend(len(data))
        try:
            text = _decoded(data)
        except UnicodeDecodeError as error:
            at = error.start + len(data) - len(error.object)  # utf-8-sig has cut the byte order mark off
            line = data.count(b"\n", 0, at) + 1
            what = f"byte 0x{data[at : at + 1].hex()} at position {at} is not {error.encoding}; {_SAVE_AS}"
            self.faults.append(Fault(f"{name}:{line}", what))
            return ""
        except (LookupError, UnicodeError):
            self.faults.append(Fault(f"{name}:1", f"there is no such text encoding; {_SAVE_AS}"))
            return ""
        self._spend(_BYTES_A_LINE_COSTS * len(text.splitlines()))
        return text

    def _spend(self, amount: int) -> None:
        self._budget -= amount
        if self._budget < 0:
            raise _RefusedError(f"requirements files of more than {_MOST_BYTES >> 20} MB are not read")

    def _take(self, entry: _Entry, chain: tuple[Path, ...]) -> None:
        body, options = _split(_expanded(entry.text))
        if body:
            line = _line(body, [_digest(value) for _, value in options], entry)
            (self.constraints if entry.constraint else self.lines).append(line)
            return
        for name, value in options:
            with self.noting(entry.origin, entry.text):
                checked = _checked_option(name, value, entry)
                if name in ("requirement", "constraint"):
                    self.include(Path(checked), constraint=name == "constraint", chain=chain)
                else:
                    self.options.append((name, checked))


def _decoded(data: bytes) -> str:
    """The text: by byte order mark, by a PEP 263 comment in the first two lines, else UTF-8."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    for line in data.split(b"\n", 2)[:2]:
        if line.startswith(b"#") and (coding := _CODING.search(line)):
            codec = codecs.lookup(coding[1].decode("ascii")).name
            if codec in _NO_CHARACTER_SETS:
                raise LookupError(codec)
            return data.decode(codec)
    return data.decode("utf-8")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines joined at backslashes and freed of comments, with the number of the first physical one."""
    first, parts = 0, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        first = first if parts else number
        comment = line.lstrip().startswith("#")
        parts.append(f" {line}" if comment else line.rstrip("\\"))
        if comment or not line.endswith("\\"):  # a comment ends a continued line, as in pip
            if joined := _COMMENT.sub("", "".join(parts)).strip():
                yield first, joined
            parts = []


def _expanded(text: str) -> str:
    """The line with ``${NAME}`` replaced where the environment has it, if that can be parsed at all."""
    if text.endswith("\\"):
        raise _RefusedError("white space follows the backslash; to continue a line it must be the very last character")
    if len(text) <= _LONGEST_LINE and text.count("${") <= _MOST_VARIABLES:
        text = _VARIABLE.sub(_value, text)
    if len(text) > _LONGEST_LINE or text.count("${") > _MOST_VARIABLES:
        raise _RefusedError(f"more than {_LONGEST_LINE} characters or {_MOST_VARIABLES} variables; split the line")
    return _printable(text)


def _value(name: re.Match[str]) -> str:
    """What stands for a variable. A source may take the password of its index from one, but not the platform's own."""
    value = os.environ.get(name[1])
    if value and _OF_THE_PLATFORM.fullmatch(name[1]):
        raise _RefusedError(f"{name[1]} belongs to the platform, and would be sent to a host that the source names")
    return value or name[0]


def _printable(text: str) -> str:
    """The text, if there are no NULs, terminal escapes or invisible characters in it."""
    if odd := next((one for one in text.replace("\t", " ") if not one.isprintable()), None):
        raise _RefusedError(f"the character {odd!a} cannot be part of a requirement; type the line anew")
    return text


def _shown(text: str) -> str:
    """The start of a line for a message: quoted, escaped, without secrets."""
    if len(text) > _LONGEST_REQUIREMENT:  # a word that the cut goes through could be half a password
        text = text[:_LONGEST_REQUIREMENT].rpartition(" ")[0]
    text = redact(text)
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")


# --- options --------------------------------------------------------------------------------------


class _OptionParser(optparse.OptionParser):
    """pip's own parser is an optparse too, so abbreviations, ``-rFILE`` and ``--hash VALUE`` come out alike."""

    def error(self, msg: str) -> NoReturn:
        unknown = msg.startswith("no such option")
        raise _RefusedError("a requirements file has no such option; take it out" if unknown else msg)


def _note(option: optparse.Option, _text: str, value: str | None, parser: optparse.OptionParser) -> None:
    if parser.values is not None:
        parser.values.given.append((option.dest, value or ""))


_OPTIONS = _OptionParser(add_help_option=False)
for _dest, *_flags in (
    ("index_url", "-i", "--index-url", "--pypi-url"),
    ("extra_index_urls", "--extra-index-url"),
    ("find_links", "-f", "--find-links"),
    ("only_binary", "--only-binary"),
    ("no_binary", "--no-binary"),
    ("trusted_hosts", "--trusted-host"),
    ("ignored", "--use-feature"),
    ("requirement", "-r", "--requirement"),
    ("constraint", "-c", "--constraint"),
    ("editable", "-e", "--editable"),
    ("hash", "--hash"),
    ("build", "-C", "--config-settings", "--global-option", "--install-option"),
):
    _OPTIONS.add_option(*_flags, dest=_dest, type="string", action="callback", callback=_note)
for _dest in ("no_index", "pre", "prefer_binary", "require_hashes"):
    _OPTIONS.add_option(f"--{_dest.replace('_', '-')}", dest=_dest, action="callback", callback=_note)


def _split(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The requirement and the options behind it; only options are quoted as in a shell, as in pip."""
    option = _OPTION.search(text)
    at = option.start() if option else len(text)
    body, values = text[:at].strip(), optparse.Values({"given": []})
    try:
        words = (
            shlex.split(text[at:]) if _QUOTING.search(text, at) else text[at:].split()
        )  # shlex takes 50 times as long
    except ValueError as error:
        raise _RefusedError("a quotation mark is not closed") from error
    stray = _OPTIONS.parse_args(words, values)[1]
    given: list[tuple[str, str]] = values.given
    if why := _misplaced(body, [name for name, _ in given], stray):
        raise _RefusedError(why)
    return body, given


def _misplaced(body: str, options: list[str], stray: list[str]) -> str | None:
    """Why these options may not stand on this line, or None."""
    rules = (
        (
            "editable" in options,
            "an editable install cannot travel to workers; write its ./path without -e, or a wheel's",
        ),
        ("build" in options, "no option can be passed to one package's build; put a ready wheel of it into the source"),
        (stray, "pip ignores words behind an option; write one requirement or option a line"),
        (body and set(options) - {"hash"}, "pip ignores this option behind a requirement; give it a line of its own"),
        (not body and "hash" in options, "--hash without a requirement; end the line before it with a backslash"),
        (
            len(options) > 1 and {"requirement", "constraint"} & set(options),
            "pip reads only the first file of a line, and no other option; write one a line",
        ),
    )
    return next((why for broken, why in rules if broken), None)


def _checked_option(name: str, value: str, entry: _Entry) -> str:
    """The value as it is kept, if it is one for this option."""
    if name in ("requirement", "constraint"):
        if _SCHEME.match(value):
            raise _RefusedError("what is behind a URL may change between runs; put the file into the source")
        return os.path.normpath(entry.places[0] / value)
    if name == "find_links" and _is_local(value):
        path = _existing(_file_path(value), entry.places)
        if not path.is_dir():
            raise _RefusedError("--find-links takes a URL or a directory of the source")
        return str(path)
    if name in ("index_url", "extra_index_urls", "find_links"):
        _download(value)
    names = value.split(",") if name in ("only_binary", "no_binary") else ()
    if not all(one in ("", ":all:", ":none:") or _NAME.fullmatch(one) for one in names):
        raise _RefusedError("this option takes :all:, :none: or names with commas between")
    return value


def _gathered(lines: Iterable[Line], constraints: Iterable[Line], options: list[tuple[str, str]]) -> Requirements:
    """The record; as in pip, of index URLs the last counts, and --no-index rules out every one."""
    given: dict[str, list[str]] = defaultdict(list)
    for name, value in options:
        given[name].append(value)
    if given["no_index"]:
        given["index_url"] = given["extra_index_urls"] = []
    index_url = given["index_url"][-1] if given["index_url"] else None
    values: dict[str, Any] = dict(_formats(options))
    values |= {name: tuple(dict.fromkeys(given[name])) for name in ("extra_index_urls", "find_links", "trusted_hosts")}
    values |= {name: bool(given[name]) for name in ("no_index", "pre", "prefer_binary", "require_hashes")}
    return Requirements(tuple(lines), tuple(constraints), index_url, **values)


def _formats(options: list[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """--only-binary and --no-binary in their order: as in pip, the later takes names away from the other."""
    chosen: dict[str, dict[str, None]] = {"only_binary": {}, "no_binary": {}}
    names = [(option, name) for option, value in options if option in chosen for name in value.split(",") if name]
    for option, name in names:
        mine, other = chosen[option], chosen["no_binary" if option == "only_binary" else "only_binary"]
        if name in (":all:", ":none:"):
            mine.clear()
        if name == ":all:":
            other.clear()
        if name != ":none:":
            other.pop(canonicalize_name(name), None)
            mine[canonicalize_name(name)] = None
    return {option: tuple(names) for option, names in chosen.items()}


def _options_of(part: Requirements) -> list[tuple[str, str]]:
    """The options that make such a record, ``:all:`` first: names are exceptions from it."""
    options: list[tuple[str, str]] = []
    for field in fields(part)[2:]:
        value = getattr(part, field.name)
        values = value if isinstance(value, tuple) else (value,) if value else ()
        options += [(field.name, one if isinstance(one, str) else "") for one in values]
    return sorted(options, key=lambda option: option[1] != ":all:")


def _digest(value: str) -> str:
    """The value of a --hash; one with a digest cut short could never match."""
    algorithm, _, digest = value.partition(":")
    if algorithm not in _HEX_DIGITS:
        raise _RefusedError(f"a hash is written algorithm:digest, the algorithm one of {', '.join(_HEX_DIGITS)}")
    if not re.fullmatch(rf"[0-9a-fA-F]{{{_HEX_DIGITS[algorithm]}}}", digest):
        raise _RefusedError(f"a {algorithm} digest has {_HEX_DIGITS[algorithm]} hexadecimal digits; copy it anew")
    return f"{algorithm}:{digest.lower()}"


def unverifiable(found: Requirements) -> list[Fault]:
    """What an explicit --require-hashes refuses; as in pip, a constraint may bring the hash and the pin."""
    hashed = {line.name for line in found.constraints if line.hashes}
    pinned = {line.name for line in found.constraints if _pinned(line)}
    faults: list[Fault] = []
    for line in found.lines if found.require_hashes else ():
        name = line.name or "the path"
        if line.path and line.path.is_dir():
            faults.append(Fault(line.origin, f"{name} is a directory, which has no hash; put a wheel of it there"))
        elif not line.hashes and line.name not in hashed:
            faults.append(Fault(line.origin, f"{name} has no --hash, and --require-hashes wants one for each"))
        elif not _pinned(line) and line.name not in pinned:
            faults.append(Fault(line.origin, f"{name} is not pinned with ==, as --require-hashes wants it"))
    return faults


def _pinned(line: Line) -> bool:
    requirement = None if line.path else Requirement(line.requirement)
    if requirement is None or requirement.url:
        return True
    return any(one.operator in ("==", "===") and "*" not in one.version for one in requirement.specifier)


# --- requirements ---------------------------------------------------------------------------------


class _Reference(NamedTuple):
    """A requirement that says where the package is: ``name[extras] @ url ; marker``, or less of it."""

    name: str
    extras: str
    url: str
    marker: str
    path: Path | None = None
    hashes: tuple[str, ...] = ()


def _line(body: str, hashes: list[str], entry: _Entry) -> Line:
    """The requirement as a record."""
    if len(body) > _LONGEST_REQUIREMENT:
        raise _RefusedError(f"a requirement of more than {_LONGEST_REQUIREMENT} characters is not read")
    reference = _reference(body)
    if _VCS.match(body) or (reference and _VCS.match(reference.url)):
        raise _RefusedError(
            "wheels are made where that version control program may be missing; put a wheel into the source, or write "
            "name @ the archive of that commit, such as https://host/owner/name/archive/<commit>.zip"
        )
    if reference:
        reference = _local(reference, entry) if _is_local(reference.url) else _remote(reference)
        marker = f" ; {reference.marker}" if reference.marker else ""
        body = f"{reference.name or 'unnamed'}{reference.extras} @ {reference.url}{marker}"
        hashes = [*hashes, *reference.hashes]
    requirement = _requirement(body.removesuffix(";"))
    path = reference.path if reference else None
    unnamed = path if reference and not reference.name else None
    if entry.constraint and (unnamed or requirement.extras):
        raise _RefusedError("a constraint has a name and no extras; write it as a requirement")
    name = None if unnamed else canonicalize_name(requirement.name)
    return Line(_spelled(requirement, unnamed), name, tuple(dict.fromkeys(hashes)), path, entry.origin)


def _requirement(text: str) -> Requirement:
    try:
        requirement = Requirement(text)
        for specifier in requirement.specifier:
            Specifier(str(specifier))  # packaging 21 lets versions pass that are not PEP 440's
        if requirement.marker:
            requirement.marker.evaluate(_ANYWHERE)  # some can be read, and then nothing compares what they compare
    except RecursionError as error:
        raise _RefusedError("the marker is too long or too deeply nested") from error
    except (ValueError, LookupError, DeprecationWarning) as error:
        raise _RefusedError(f"not a requirement as PEP 508 has it{_hint(text, str(error))}") from error
    return requirement


def _hint(text: str, explanation: str) -> str:
    """What could be meant, or what packaging says where it does not quote the line."""
    if "@" not in text and _SINGLE_EQUALS.search(text.partition(";")[0]):
        return "; = is not an operator, write =="
    return f": {explanation.splitlines()[0]}" if explanation.startswith("Expected") else ""


def _spelled(requirement: Requirement, unnamed: Path | None) -> str:
    """One spelling for every version of packaging."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    url = f" @ {requirement.url}" if requirement.url and not unnamed else ""
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    return f"{unnamed or requirement.name}{extras}{requirement.specifier}{url}{marker}"


def _reference(body: str) -> _Reference | None:
    """The parts of a URL or path; None for a name with versions."""
    named = _NAMED_URL.fullmatch(body)
    if named or _SCHEME.match(body):
        url, *marker = _URL_END.split(named[3] if named else body, maxsplit=1)
        name, extras = (named[1], named[2] or "") if named else ("", "")
        return _Reference(name, extras, url.strip(), "".join(marker).strip())
    path, _, marker_text = body.partition(";")
    path, bracket, extras = path.strip().rpartition("[") if path.rstrip().endswith("]") else (path.strip(), "", "")
    if not re.search(r"[/\\]|^\.|\.(?:whl|tar\.gz|zip)$", path := path.rstrip()):
        return None
    return _Reference("", bracket + extras, path, marker_text.strip())


def _is_local(url: str) -> bool:
    scheme = _SCHEME.match(url)
    return scheme is None or scheme[1].lower() == "file"


def _remote(reference: _Reference) -> _Reference:
    """The reference with its name, from the text or the URL."""
    parts = _download(reference.url)
    fragment = _fragment(parts)
    egg = fragment.pop("egg", "")
    filename = unquote(parts.path.rpartition("/")[2])
    told = "" if "/archive/" in parts.path else _name_in(filename)  # there 1.0-2.zip is a tag, and no name
    name = reference.name or (told if filename.endswith(".whl") else "") or egg or told
    if not name:
        raise _RefusedError("the URL does not tell the package's name; write name @ url")
    rest = "&".join(f"{key}={value}" for key, value in fragment.items())
    url = reference.url.partition("#")[0] + (f"#{rest}" if rest else "")
    return reference._replace(name=name, url=url, hashes=_digests(fragment))


def _local(reference: _Reference, entry: _Entry) -> _Reference:
    """The reference with its resolved path, and its name where the text or the file name tells it."""
    fragment = _fragment(_parts(reference.url)) if _SCHEME.match(reference.url) else {}
    egg = fragment.pop("egg", "")
    if fragment.keys() - _HEX_DIGITS.keys():
        raise _RefusedError("a local path takes no such #fragment; write the path of what is to be built")
    path = _existing(_file_path(reference.url), entry.places)
    if why := _not_installable(path):
        raise _RefusedError(why)
    name = reference.name or _name_in(path.name) or egg
    return reference._replace(name=name, url=path.as_uri(), path=path, hashes=_digests(fragment))


# --- URLs and paths -------------------------------------------------------------------------------


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        raise _RefusedError("this is not a URL") from error
    return parts


def _download(url: str) -> SplitResult:
    """The parts of a URL that can be downloaded from."""
    parts = _parts(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", url):
        raise _RefusedError(
            "only https://host/... and http://host/... can be downloaded; put other files into the source"
        )
    if is_metadata_service(parts.hostname):
        raise _RefusedError("this address is the machine's own (its cloud's metadata service); no package lies there")
    return parts


def is_metadata_service(host: str) -> bool:
    """Whether a host is where a cloud tells its machines their credentials, in whatever spelling of the address.

    Those are link-local (RFC 3927, 4291), but for one of AWS. A name that resolves to one of them is not found out.
    """
    host = host.rstrip(".").lower()
    try:  # 2852039166 and 0xa9fea9fe are 169.254.169.254 as well
        found = ipaddress.ip_address(host if ":" in host else socket.inet_aton(host))
    except (OSError, ValueError):
        return host in ("metadata", "metadata.google.internal")
    mapped = getattr(found, "ipv4_mapped", None) or found
    return bool(mapped.is_link_local) or str(found) == "fd00:ec2::254"


def _fragment(parts: SplitResult) -> dict[str, str]:
    """``#egg=name&sha256=...`` by key."""
    return dict(part.partition("=")[::2] for part in parts.fragment.split("&") if part)


def _digests(fragment: dict[str, str]) -> tuple[str, ...]:
    return tuple(_digest(f"{key}:{value}") for key, value in fragment.items() if key in _HEX_DIGITS)


def _name_in(filename: str) -> str:
    """The name that the file name of a wheel or sdist begins with, or nothing."""
    wheel = filename.endswith(".whl")
    if wheel and math.prod(tags.count(".") + 1 for tags in filename[:-4].split("-")[-3:]) > _MOST_TAGS:
        return ""
    try:
        name = parse_wheel_filename(filename)[0] if wheel else parse_sdist_filename(filename)[0]
    except ValueError:
        return ""
    return name if _NAME.fullmatch(name) else ""


def _file_path(url: str) -> str:
    """The path in a file: URL, or the path that was given without one."""
    if not _SCHEME.match(url):
        return url
    parts = _parts(url)
    if parts.netloc not in ("", "localhost"):
        raise _RefusedError("a file: URL of another host cannot be read; put the file into the source")
    return _printable(unquote(parts.path))


def _existing(path: str, places: tuple[Path, ...]) -> Path:
    """The resolved path, inside of the last of the places, which is the root.

    pip takes paths relative to its working directory; beside the file that names them and in the root is what
    that can mean in a source.
    """
    real = (Path(os.path.realpath(os.path.normpath(place / path))) for place in places)
    inside = [candidate for candidate in real if candidate.is_relative_to(places[-1])]
    if not inside:
        raise _RefusedError("this leads out of the source; copy it into the source and name it by a relative path")
    for candidate in inside:
        if candidate.exists():
            return candidate
    slashes = "; write / for \\" if "\\" in path else ""
    raise _RefusedError(f"there is no such file or directory in the source{slashes}")


def _not_installable(path: Path) -> str | None:
    """Why nothing can be made of this path, or None."""
    if path.is_dir():
        project = (path / "pyproject.toml").is_file() or (path / "setup.py").is_file()
        return None if project else "the directory has neither pyproject.toml nor setup.py"
    if path.name.endswith(".whl"):
        return None if _name_in(path.name) else "this is no wheel's file name (name-version-python-abi-platform.whl)"
    return None if path.name.endswith((".tar.gz", ".zip")) else "this is no .whl, .tar.gz, .zip or project directory"
