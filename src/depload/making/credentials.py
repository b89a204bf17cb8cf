"""Users and passwords of package indexes: in their URLs, in uv's settings, in netrc, in a keyring."""

from __future__ import annotations

import json
import netrc
import os
import posixpath
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from depload.making import uvsettings
from depload.making.indexes import without_user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from depload.making.indexes import IndexOptions

_LONGEST_ANSWER = 120  # seconds that a keyring may take, which may have to log in somewhere


class User(NamedTuple):
    """Who asks; without a password where that has to be found yet."""

    name: str
    password: str | None


@dataclass(frozen=True)
class Place:
    """A URL that packages come from, without a user in it, and the user that came with it."""

    url: str
    user: User | None = None


def places(options: IndexOptions) -> list[Place]:
    """All that pip's options and uv's settings name on hosts."""
    urls = [options.index_url or "", *options.further_indexes, *options.find_links]
    found = [_place(url) for url in urls if origin(url)]
    return found + [Place(without_user(url), _named(name, _user(url))) for name, url in uvsettings.indexes()]


class Credentials:
    """Who to be, for each URL: one for all threads of a fetch."""

    def __init__(self, options: IndexOptions) -> None:
        self.places = places(options)
        self._keyring = keyring(options)
        self._lock = threading.Lock()
        self._found: dict[str, tuple[str, str] | None] = {}

    @property
    def asks_keyring(self) -> bool:
        """Whether a keyring has the last word."""
        return self._keyring != "disabled"

    def of(self, url: str, *known: str) -> tuple[str, str] | None:
        """User and password for ``url``: its own, else those of a ``known`` URL or index of its host, else netrc's.

        In pip's order (pip/_internal/network/auth.py); of several indexes on the host the one with most of the path.
        What a keyring said to an earlier refusal counts as the index's own.
        """
        named = [place for place in (*map(_place, known), *self.places) if place.user]
        nearest = _nearest(url, named)
        said = self._found.get(self._service(url))
        users = [user for user in (_user(url), said, nearest.user if nearest else None, _netrc(url)) if user]
        complete = [(name, password) for name, password in users if password is not None]
        if complete or not users:
            return complete[0] if complete else None
        # A name alone is one that the keyring knows, as for uv; else a token, sent with an empty password.
        return self.kept(url) or (users[0][0], "")

    def kept(self, url: str) -> tuple[str, str] | None:
        """User and password that a keyring has for ``url``, for when its host has answered 401; it is asked once.

        It is not asked where an index's URL has both: as for pip, those are what was meant.
        """
        index = _nearest(url, self.places)
        named = _user(url) or (index.user if index else None)
        if not self.asks_keyring or (named and named.password is not None):
            return None
        service = self._service(url)
        with self._lock:
            if service not in self._found:
                self._found[service] = self._asked(service, named.name if named else None)
            return self._found[service]

    def _service(self, url: str) -> str:
        """What a keyring knows the password by: the index that ``url`` belongs to, else its host."""
        index = _nearest(url, self.places)
        return index.url if index else urlsplit(without_user(url)).netloc

    def _asked(self, service: str, name: str | None) -> tuple[str, str] | None:
        """What a keyring says of the index, else of its host."""
        parts = urlsplit(service)
        # pip asks for an index with the slash, uv without.
        names = [f"{service.rstrip('/')}/", service.rstrip("/")] if parts.netloc else [service]
        names += [parts.netloc, parts.hostname or ""]
        ask = _ask_module if self._keyring == "import" else _ask_program
        return next((answer for each in dict.fromkeys(filter(None, names)) if (answer := ask(each, name))), None)


def _place(url: str) -> Place:
    return Place(without_user(url), _user(url))


def _nearest(url: str, known: Sequence[Place]) -> Place | None:
    """The one that ``url`` belongs to: of its host, with most of its path."""
    same = [place for place in known if origin(place.url) == origin(url)]
    return max(same, key=lambda place: _shared_path(place.url, url), default=None)


def credentials(options: IndexOptions, url: str, *known: str) -> tuple[str, str] | None:
    """User and password for ``url``, as ``Credentials.of`` finds them."""
    return Credentials(options).of(url, *known)


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port (RFC 6454), what credentials belong to; None where it is no URL of http or https."""
    try:
        parts = urlsplit(url)
        found = parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    return found if found[1] else None


def in_netrc(url: str) -> bool:
    """Whether netrc has something to say of the host."""
    return _netrc(url) is not None


def _shared_path(one: str, other: str) -> int:
    return len(posixpath.commonpath([f"/{urlsplit(url).path.lstrip('/')}" for url in (one, other)]))


def _named(name: str, user: User | None) -> User | None:
    """The user of an index of uv's that is called ``name``: its variables go over its URL."""
    who, password = uvsettings.user(name)
    if not (who or password):
        return user
    return User(who or (user.name if user else ""), password or (user.password if user else None))


def _user(url: str) -> User | None:
    parts = urlsplit(url) if origin(url) else None
    if parts is None or not parts.username:
        return None
    return User(unquote(parts.username), None if parts.password is None else unquote(parts.password))


# --- netrc ----------------------------------------------------------------------------------------


def _netrc(url: str) -> User | None:
    """What $NETRC or ~/.netrc says of the host; a file that cannot be read says nothing, as for pip."""
    try:
        place = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
        name, account, password = netrc.netrc(place).authenticators(urlsplit(url).hostname or "") or ("", "", "")
    except (OSError, RuntimeError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    user = name or account
    return User(user, password) if user else None


# --- keyrings -------------------------------------------------------------------------------------


def keyring(options: IndexOptions) -> str:
    """How a keyring is asked: ``import``, ``subprocess``, or ``disabled``.

    pip's ``auto`` asks none where nobody can be asked for input, as here (pip/_internal/network/auth.py, use_keyring).
    """
    said = options.keyring_provider or "auto"
    if said == "auto":
        said = os.environ.get("UV_KEYRING_PROVIDER", "")
    return said if said in ("import", "subprocess") else "disabled"


def _ask_module(service: str, name: str | None) -> tuple[str, str] | None:
    try:
        import keyring as module

        found = module.get_credential(service, name)
    except Exception:  # noqa: BLE001 - backends fail in their own ways; pip goes on without them too
        return None
    return (found.username, found.password) if found else None


def _ask_program(service: str, name: str | None) -> tuple[str, str] | None:
    """As pip does; of a keyring older than 25.2.1, which has no modes, as uv does."""
    program = shutil.which("keyring")
    if program is None:
        return None
    words = [program, "--mode=creds", "--output=json", "get", service, *([name] if name is not None else [])]
    try:
        data = json.loads(_output(words) or "{}")
        if data.get("password"):
            return data.get("username") or name or "", data["password"]
    except (ValueError, AttributeError):
        pass
    password = _output([program, "get", service, name]) if name else None
    return (name or "", password) if password else None


def _output(words: list[str]) -> str | None:
    """What the program printed, without its last newline; None where it failed."""
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=_LONGEST_ANSWER,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.rstrip("\r\n") if done.returncode == 0 else None
