"""Where packages come from: pip's options and configuration, for pip and for uv."""

from __future__ import annotations

import configparser
import math
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from depload.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["IndexOptions", "redact", "shown", "without_user"]


def redact(text: str) -> str:
    """``text`` with what is secret in its URLs masked: user and password, and the query, where signatures are."""
    text = re.sub(r"(?<=://)[^/?#\s]*@", "****@", text)
    return re.sub(r"(\w://[^\s?#]*\?)[^\s#]+", r"\1****", text)


def without_user(url: str) -> str:
    """The URL without user and password."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "", url)


@dataclass(frozen=True)
class IndexOptions:
    """Where packages come from and how to get there; names and meanings are those of ``pip install``.

    A tool is run with ``*_arguments()`` added to its command and ``environment()`` laid over its environment, and pip
    without ``--isolated``: that drops the PIP_* variables, which carry what a list of processes must not show, and
    still reads the machine's pip.conf. ``environment()`` isolates better.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    index_for: tuple[str, ...] = ()
    """``NAME=URL`` and ``PREFIX*=URL``: these names come from that index and from nowhere else."""
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    pre: bool = False
    prefer_binary: bool = False
    only_binary: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    timeout: float | None = None
    retries: int | None = None
    keyring_provider: str | None = None

    @classmethod
    def configured(cls, environ: Mapping[str, str] | None = None) -> IndexOptions:
        """What pip's configuration files and PIP_* variables say; UV_* variables are left to uv.

        Raises:
            StoreError: a file is not a configuration file, or a value is not what its option takes.

        """
        options = cls()
        for name, value in _settings(os.environ if environ is None else environ):
            options = _configured(options, name, value)
        return options

    def over(self, base: IndexOptions) -> IndexOptions:
        """These options given explicitly, on top of configured ones, as on pip's command line.

        Single values replace, lists extend, flags add up: pip parses its arguments with what is configured as the
        defaults, and optparse's ``append`` appends to the default (pip/_internal/cli/parser.py, _update_defaults).
        """
        changes: dict[str, Any] = {name: each for name in _SINGLE if (each := getattr(self, name)) is not None}
        changes |= {name: (*getattr(base, name), *getattr(self, name)) for name in _LISTS}
        changes |= {name: getattr(base, name) or getattr(self, name) for name in _FLAGS}
        merged = replace(base, **changes)
        for name, package in self._formats():
            merged = _restricted(merged, name, package)
        return merged

    @property
    def further_indexes(self) -> tuple[str, ...]:
        """The URLs of all indexes but the first; those that only bound names come from are before the others."""
        bound = () if self.no_index else dict.fromkeys(text.partition("=")[2].strip() for text in self.index_for)
        known = {self.index_url, *self.extra_index_urls}
        return (*(url for url in bound if url not in known), *self.extra_index_urls)

    def public(self) -> dict[str, Any]:
        """What decides what is found, by name, without users, passwords and the paths of this machine."""
        urls = {
            name: [shown(url) for url in getattr(self, name)]
            for name in ("extra_index_urls", "index_for", "find_links")
        }
        names = ("no_index", "pre", "prefer_binary", "only_binary", "no_binary", "trusted_hosts")
        found = {"index_url": shown(self.index_url or ""), **urls, **{name: getattr(self, name) for name in names}}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items() if value}

    def forbids_building(self, name: str) -> bool:
        """Whether ``name`` may not be built from an sdist: a name goes over ``:all:`` (pip's FormatControl)."""
        name = _canonical(name)
        if name in self.only_binary or name in self.no_binary:
            return name in self.only_binary
        return ":all:" in self.only_binary

    def pip_arguments(self) -> list[str]:
        """What to add to ``pip install``, ``pip download`` or ``pip wheel``."""
        single = {name: getattr(self, name) for name in ("cert", "client_cert", "timeout", "retries")}
        return [
            *(f"--{_normal(name)}" for name in _FLAGS if getattr(self, name)),
            *(f"--find-links={link}" for link in self._local_links()),
            *(f"--{name}={package}" for name, package in self._formats()),
            *(f"--trusted-host={host}" for host in self.trusted_hosts),
            *(f"--{_normal(name)}={value}" for name, value in single.items() if value is not None),
        ]

    def uv_compile_arguments(self) -> list[str]:
        """What to add to ``uv pip compile``, where nothing corresponds to ``prefer_binary``."""
        return [*self._uv_common(), *(f"--{name}={package}" for name, package in self._formats())]

    def uv_build_arguments(self) -> list[str]:
        """What to add to ``uv build``; it concerns what the build requires, never the project that is built."""
        flags = {"only-binary": "--no-build", "no-binary": "--no-binary"}
        formats = [(flags[name], package) for name, package in self._formats() if package != ":none:"]
        return [
            *self._uv_common(),
            *(flag if package == ":all:" else f"{flag}-package={package}" for flag, package in formats),
        ]

    # No --index-strategy. pip takes the best version of all indexes, so whoever registers the name of a private package
    # on a public index, with a higher version, gets installed (dependency confusion). uv asks the extra indexes before
    # the index, and stays with the first that knows the name. What that breaks fails with a message that names the way
    # back (UV_INDEX_STRATEGY=unsafe-best-match, or pip as the resolver); what pip's way breaks runs on every worker.
    def _uv_common(self) -> list[str]:
        return [
            *(["--no-index"] if self.no_index else []),
            *(["--prerelease=allow"] if self.pre else []),
            # What it remembers of an index may be from before names were bound.
            *(["--refresh"] if self.index_for else []),
            # To uv what stands in its command hides the variable, where the remote ones are.
            *(f"--find-links={link}" for link in self._local_links() if not any(map(_remote, self.find_links))),
            *(f"--allow-insecure-host={host}" for host in self.trusted_hosts),
        ]

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """What to lay over the environment ``base`` (this process's) of pip or uv: all that may hold credentials.

        It also turns off the configuration that pip would read, for what counts is in these options already.
        """
        return self._pip_environment() | self._uv_environment(os.environ if base is None else base)

    def _pip_environment(self) -> dict[str, str]:
        # An empty variable counts as none to pip, so that it hides what this process has inherited.
        hidden = {f"PIP_{name.upper().replace('-', '_')}": "" for name in (*_OPTIONS, *_FORMATS)}
        return hidden | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.index_url or "",
            "PIP_EXTRA_INDEX_URL": " ".join(self.further_indexes),
            "PIP_FIND_LINKS": " ".join(filter(_remote, self.find_links)),
            "PIP_PROXY": self.proxy or "",
        }

    def _uv_environment(self, base: Mapping[str, str]) -> dict[str, str]:
        links = [link.replace(",", "%2C") for link in self.find_links if _remote(link)]
        links += self._local_links() if links else []
        values = {
            "UV_DEFAULT_INDEX": self.index_url,
            # What these two hold already comes first: whoever set them spoke to uv itself.
            "UV_INDEX": _extended(base.get("UV_INDEX"), self.further_indexes, " "),
            "UV_FIND_LINKS": _extended(base.get("UV_FIND_LINKS"), links, ","),
            # uv takes whole seconds, and 0 at its word.
            "UV_HTTP_TIMEOUT": str(max(1, math.ceil(self.timeout))) if self.timeout else None,
            "UV_HTTP_RETRIES": None if self.retries is None else str(self.retries),
            "SSL_CERT_DIR" if self.cert and Path(self.cert).is_dir() else "SSL_CERT_FILE": self.cert,
            "SSL_CLIENT_CERT": self.client_cert,
        }
        if self.proxy:  # pip uses --proxy for every host, whatever the environment says of proxies
            values |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self.proxy)
            values |= {"NO_PROXY": "", "no_proxy": ""}
        return {name: value for name, value in values.items() if value is not None}

    def _formats(self) -> list[tuple[str, str]]:
        """Restriction and package, :all: before the names, which are exceptions to it."""
        entries = [(name, entry) for name, (field, _) in _FORMATS.items() for entry in getattr(self, field)]
        pairs = [(name, package) for name, entry in entries for package in entry.split(",")]
        return sorted(pairs, key=lambda pair: not pair[1].startswith(":"))

    def _local_links(self) -> Iterator[str]:
        """The find-links on this machine that exist: of others pip warns, but uv fails.

        As absolute URLs, for pip splits at spaces and uv at commas, and neither need run in our working directory.
        """
        for link in self.find_links:
            path = Path(url2pathname(urlsplit(link).path) if link.startswith("file:") else link).expanduser()
            if not _remote(link) and path.exists():
                yield path.resolve().as_uri().replace(",", "%2C")


# --- pip's configuration (https://pip.pypa.io/en/stable/topics/configuration/) ---------------------


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def _flag(value: str) -> bool:
    return {"y": True, "t": True, "n": False, "f": False, **configparser.RawConfigParser.BOOLEAN_STATES}[value.lower()]


_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "index-url": ("index_url", str),
    "pypi-url": ("index_url", str),
    "extra-index-url": ("extra_index_urls", _words),
    "find-links": ("find_links", _words),
    "trusted-host": ("trusted_hosts", _words),
    "no-index": ("no_index", _flag),
    "pre": ("pre", _flag),
    "prefer-binary": ("prefer_binary", _flag),
    "cert": ("cert", os.path.expanduser),
    "client-cert": ("client_cert", os.path.expanduser),
    "proxy": ("proxy", str),
    "default-timeout": ("timeout", float),
    "timeout": ("timeout", float),
    "retries": ("retries", int),
    "keyring-provider": ("keyring_provider", str),
}
_FORMATS = {"only-binary": ("only_binary", "no_binary"), "no-binary": ("no_binary", "only_binary")}
_FLAGS = ("no_index", "pre", "prefer_binary")
_LISTS = ("extra_index_urls", "index_for", "find_links", "trusted_hosts")
_SINGLE = ("index_url", "cert", "client_cert", "proxy", "timeout", "retries", "keyring_provider")


def _configured(options: IndexOptions, name: str, value: str) -> IndexOptions:
    """A setting replaces what an earlier one said, but only-binary and no-binary add up."""
    if name in _FORMATS:
        return _restricted(options, name, value)
    if name not in _OPTIONS:
        return options
    field, parse = _OPTIONS[name]
    try:
        return replace(options, **{field: parse(value)})
    except (ValueError, KeyError):
        raise StoreError("pip's configuration", f"{name} cannot be {value!r}", "see `pip config debug`") from None


def _restricted(options: IndexOptions, restriction: str, packages: str) -> IndexOptions:
    """``restriction`` holds for ``packages`` too; the later wins (pip/_internal/models/format_control.py)."""
    said, other = _FORMATS[restriction]
    here, there = getattr(options, said), getattr(options, other)
    names = [_canonical(package) for package in packages.split(",")]
    if ":all:" in names:
        here, there = (":all:",), ()
        rest = names[len(names) - names[::-1].index(":all:") :]
        names = rest if ":none:" in rest else []
    for name in names:
        here = () if name == ":none:" else (*(each for each in here if each != name), name)
        there = tuple(each for each in there if each != name)
    return replace(options, **{said: here, other: there})


def _settings(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is set for ``pip install``, the later over the earlier: [global], [install], PIP_*."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for file in _files(environ):
        parser = _parsed(file)
        for section in filter(parser.has_section, sections):
            sections[section].update((_normal(name), value) for name, value in parser.items(section))
    sections[":env:"] = {_normal(name[4:]): value for name, value in environ.items() if name.startswith("PIP_")}
    for settings in sections.values():
        # Only here does pip drop what is empty: in a later file it unsets, in the environment it changes nothing.
        yield from ((name, value) for name, value in settings.items() if value)


def _parsed(file: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        # Not in the words of the error: they quote the line, which may hold a password.
        raise StoreError(str(file), f"cannot be read ({type(error).__name__})", "see `pip config debug`") from None
    return parser


def _files(environ: Mapping[str, str]) -> list[Path]:
    """The configuration files in pip's order; PIP_CONFIG_FILE stands for the user's, os.devnull for none at all."""
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        return []
    everyone, user = _directories(environ)
    places = [*everyone, *([] if own and Path(own).exists() else user), Path(sys.prefix)]
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    return [*(place / name for place in places), *([Path(own)] if own else [])]


def _directories(environ: Mapping[str, str]) -> tuple[list[Path], list[Path]]:
    """Everyone's and the user's (pip/_internal/utils/appdirs.py)."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "win32":
        local = Path(environ.get("APPDATA") or home / "AppData/Roaming")
        return [Path(environ.get("PROGRAMDATA") or "C:/ProgramData", "pip")], [home / "pip", local / "pip"]
    if sys.platform == "darwin":
        library = "Library/Application Support/pip"
        user = home / library if (home / library).is_dir() else home / ".config/pip"
        return [Path("/", library)], [home / ".pip", user]
    shared = [Path(path, "pip") for path in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)]
    return [*shared, Path("/etc")], [home / ".pip", Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip")]


# --- names and URLs -------------------------------------------------------------------------------


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _canonical(package: str) -> str:
    """The normalised name of PEP 503; ``:all:`` and ``:none:`` are so already."""
    return re.sub(r"[-_.]+", "-", package.strip()).lower()


def shown(link: str) -> str:
    """A URL without user, query and fragment; of a path, and of a ``file:`` URL, the last part."""
    if not _remote(link):
        return link.rstrip("/").rpartition("/")[2]
    return re.sub(r"[?#].*", "", without_user(link))


def _remote(link: str) -> bool:
    return "://" in link and not link.startswith("file:")


def _extended(already: str | None, more: Iterable[str], separator: str) -> str | None:
    """``more`` after what is there already; None when nothing has to change."""
    more = list(more)
    return separator.join([*([already] if already else []), *more]) if more else None
