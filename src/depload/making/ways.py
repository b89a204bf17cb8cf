"""How uv and pip are run, which run other people's code: without secrets, and without passwords of package indexes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from depload.errors import BuildLimitError
from depload.making import credentials, tools, uvsettings
from depload.making.aliases import Aliases
from depload.making.bindings import Bindings
from depload.making.bounds import Bounds, BuildLimits, Net
from depload.making.gateway import Failures, Gateway
from depload.making.indexes import redact, without_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from depload.errors import DeploadError
    from depload.making.indexes import IndexOptions

_LAST_LINES = 20
_INDEX = "https://pypi.org/simple"  # what uv and pip take where none is named
_HTTP_PROXIES = ("HTTP_PROXY", "http_proxy")
_PROXIES = (*_HTTP_PROXIES, "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True)
class Way:
    """What a tool is run with to get to its indexes, and what it means by what it then says."""

    options: IndexOptions
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """What goes over the environment; None is for what must not be in it."""
    aliases: Aliases = field(default_factory=Aliases)
    failures: Failures = field(default_factory=Failures)
    bounds: Bounds = field(default_factory=Bounds)
    only_configured: bool = False
    """Whether a project that is built may not name indexes of its own to uv."""

    def environment(self, home: Path) -> dict[str, str | None]:
        """All that goes over this process's environment, with ``home`` made as the home of a run."""
        home.mkdir(parents=True, exist_ok=True)
        mine = {**tools.secrets(), **tools.at_home(home), **self.variables, **self._configured(home)}
        base = {name: value for name, value in {**os.environ, **mine}.items() if value is not None}
        return {**mine, **self.options.environment(base), **self.variables}

    def run(
        self, command: Sequence[str], *, what: str, environment: Mapping[str, str | None], cwd: Path
    ) -> tools.Finished:
        """Run a tool with an ``environment`` of this way; ``what`` it is about is what errors say.

        Raises BuildLimitError, BuildIsolationError, ToolMissingError.
        """
        try:
            done = self.bounds.run(command, what=what, environment=environment, cwd=cwd)
        except BuildLimitError as error:
            lines = redact(self.aliases.reveal(error.output)).splitlines()
            said = "\n".join([line for line in lines if line.strip()][-_LAST_LINES:])
            raise BuildLimitError(error.project, error.limit, error.option, error.why, said) from None
        return tools.Finished(done.code, self.aliases.reveal(done.stdout), self.aliases.reveal(done.stderr))

    def explained(self, error: DeploadError) -> DeploadError:
        """The error; or the refusal of a host, where that is behind it."""
        return self.failures.behind(str(error)) or error

    def _configured(self, home: Path) -> dict[str, str | None]:
        """The user's uv.toml goes along."""
        found = uvsettings.file()
        if found is None and not self.only_configured:
            return {}
        copy = home / ".config" / "uv" / "uv.toml"
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = found.read_text("utf-8", "replace") if found else ""
        copy.write_text(self.aliases.conceal(text), encoding="utf-8")
        mine: dict[str, str | None] = {"UV_NO_SOURCES": "1"} if self.only_configured else {}
        if "UV_CACHE_DIR" not in os.environ and uvsettings.has_cache():
            mine["UV_CACHE_DIR"] = None
        if self.only_configured or "UV_CONFIG_FILE" in os.environ:  # a file that is named is the only one that counts
            mine |= {"UV_CONFIG_FILE": str(copy), "UV_NO_CONFIG": None}
        return mine


@contextlib.contextmanager
def opened(options: IndexOptions, urls: Iterable[str] = (), limits: BuildLimits | None = None) -> Iterator[Way]:
    """The way for as long as tools are run: by a gateway where an index has a password or names are bound to one.

    Else it leads straight to the hosts.

    ``urls`` are what is asked for beside the indexes. Where builds may reach no more than that, all of it is by the
    gateway, out of a network in which there is nothing else.
    """
    limits, asked = limits or BuildLimits(), list(urls)
    only = limits.network == "index" or (limits.network is None and options.no_index)
    bound = bool(Bindings.of(options))
    if bound and not options.no_index:
        options = replace(options, index_url=options.index_url or uvsettings.default_index() or _INDEX)
    secret = _named(options, asked) if only else _secret(credentials.Credentials(options), asked, every=bound)
    proxies = [options.proxy or "", *getproxies().values()]
    required = limits.network == "index"
    if not secret and (only or not any("@" in urlsplit(proxy).netloc for proxy in proxies)):
        bounds = Bounds(limits, Net(own=only, required=required))
        with contextlib.closing(bounds):
            yield Way(options, _without_named(), bounds=bounds)
        return
    aliases = Aliases(found for url in secret if (found := credentials.origin(url)))
    with contextlib.closing(Gateway(options, aliases, map(without_user, secret), only=only)) as gateway:
        index = options.index_url or (_INDEX if only and not uvsettings.default_index() else None)
        plain = replace(
            options,
            index_url=index and aliases.conceal(index),
            extra_index_urls=tuple(map(aliases.conceal, options.extra_index_urls)),
            index_for=tuple(map(aliases.conceal, options.index_for)),
            find_links=tuple(map(aliases.conceal, options.find_links)),
            proxy=None,
        )
        net = Net(own=only, required=required, port=gateway.port, lead=gateway.listen)
        variables = _variables(gateway.url, aliases, proxied=only or any(proxies))
        with contextlib.closing(Bounds(limits, net)) as bounds:
            yield Way(plain, variables, aliases, gateway.failures, bounds, only_configured=bound)


def _named(options: IndexOptions, beside: Sequence[str]) -> list[str]:
    """The URLs of all that was asked for: indexes, unless there shall be none, pages of links, and ``beside`` them."""
    if options.no_index:
        return [*(url for url in options.find_links if credentials.origin(url)), *beside]
    return [options.index_url or _INDEX, *(place.url for place in credentials.places(options)), *beside]


def _secret(known: credentials.Credentials, beside: Sequence[str], *, every: bool) -> list[str]:
    """The URLs on hosts that may want credentials; on all that are known where ``every`` one is to be gone through."""
    places = [place.url for place in known.places]
    found = [place.url for place in known.places if place.user or known.asks_keyring or every]
    found += [url for url in beside if without_user(url) != url]
    found += [url for url in (*places, *beside) if credentials.in_netrc(url)]
    hosts = {credentials.origin(url) for url in found} - {None}
    return [url for url in (*places, *beside) if credentials.origin(url) in hosts]


def _variables(proxy: str, aliases: Aliases, *, proxied: bool) -> dict[str, str | None]:
    """The environment's own settings, without what is secret in them."""
    mine: dict[str, str | None] = dict.fromkeys(_PROXIES if proxied else _HTTP_PROXIES, proxy)
    mine |= {"NO_PROXY": "", "no_proxy": ""}  # who needs no proxy is known to the gateway
    mine |= {name: aliases.conceal(os.environ[name]) for name in uvsettings.URLS if name in os.environ}
    mine |= {"PIP_KEYRING_PROVIDER": "disabled", "UV_KEYRING_PROVIDER": "disabled"}
    mine |= {"PIP_TRUSTED_HOST": " ".join(aliases.hosts)}  # pip wants to be told that a plain connection will do
    return mine | _without_named()


def _without_named() -> dict[str, str | None]:
    """The passwords of named indexes go to no tool: a source may give the name to an index of its own."""
    return dict.fromkeys(uvsettings.users())
