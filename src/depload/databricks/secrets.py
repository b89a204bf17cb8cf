"""Index URLs from secret scopes: a password that stands in no parameter, no environment and no list of processes."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from depload import IndexOptions
from depload.databricks import values
from depload.errors import SecretError, ToolMissingError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = re.compile(r"(?P<scope>[\w.@-]{1,128})/(?P<key>[\w.@-]{1,128})", re.ASCII)  # the Secrets API's own rule
_URL = re.compile(r"https?://[^\s/]+\S*")
_WHY = {
    r"PERMISSION_DENIED|PermissionDenied|403": (
        "may not be read by who runs this",
        "give them READ on the scope: databricks secrets put-acl SCOPE PRINCIPAL READ",
    ),
    r"DOES_NOT_EXIST|does not exist|NotFound|404": (
        "is not there",
        "compare the spelling: databricks secrets list-scopes, databricks secrets list-secrets SCOPE",
    ),
}
_ELSE = "see whether this workspace lets it be read here: databricks secrets get-secret SCOPE KEY"


def with_secrets(
    options: IndexOptions | None, *, index_url: str | None, extra_index_urls: Iterable[str] = (), dbutils: Any = None
) -> IndexOptions:
    """The options with the URLs that these secrets hold, each named ``scope/key``.

    The index URL takes the place of the one in ``options``, extra ones are added to theirs. Raises SecretError, and
    ToolMissingError where there is nothing to ask.
    """
    options = options or IndexOptions()
    main = read(index_url, dbutils) if index_url else options.index_url
    extra = (read(name, dbutils) for name in extra_index_urls)
    return replace(options, index_url=main, extra_index_urls=(*options.extra_index_urls, *extra))


def read(secret: str, dbutils: Any = None) -> str:
    """The URL in the secret ``scope/key``.

    Asked is the ``dbutils`` (or ``WorkspaceClient``) that is handed in, else the runtime's, else the workspace that
    databricks-sdk is configured for. Raises SecretError, ToolMissingError.
    """
    match = _NAME.fullmatch(secret)
    if match is None:
        # It is not shown: who mistakes the parameter for the URL itself has written a password there.
        raise SecretError("", "is not named as scope/key", "write it so: my-scope/index-url")
    known = dbutils if dbutils is not None else values.find_dbutils()
    try:
        value = _asked(known if known is not None else _workspace(secret), match["scope"], match["key"])
    except (SecretError, ToolMissingError):
        raise
    except Exception as error:
        raise _refused(secret, error) from error
    url = value.strip()
    if not _URL.fullmatch(url):
        raise SecretError(
            secret, "holds no URL of http or https", "let it hold the whole index URL: https://user:token@host/simple"
        )
    return url


def _asked(known: Any, scope: str, key: str) -> str:
    """What a dbutils or a WorkspaceClient says."""
    api: Any = getattr(known, "secrets", None)
    if hasattr(api, "get_secret"):
        return base64.b64decode(api.get_secret(scope, key).value or "").decode("utf-8", "replace")
    if not hasattr(api, "get"):
        raise SecretError(f"{scope}/{key}", "cannot be asked of an object without secrets", "hand over dbutils=dbutils")
    return str(api.get(scope, key))


def _workspace(secret: str) -> Any:
    try:
        from databricks.sdk import WorkspaceClient
    except ImportError:
        raise ToolMissingError(
            "dbutils or databricks-sdk",
            f"reading the secret {secret}",
            "run it on Databricks, or pip install 'depload[databricks]'",
        ) from None
    try:
        return WorkspaceClient()
    except Exception as error:
        remedy = "log in (databricks auth login), or set DATABRICKS_HOST and DATABRICKS_TOKEN"
        raise SecretError(secret, "cannot be read: no workspace is configured here", remedy) from error


def _refused(secret: str, error: Exception) -> SecretError:
    """Why it was refused; Java's errors go on for pages, and the first line says it."""
    said = f"{getattr(error, 'error_code', '') or ''} {type(error).__name__}: {error}"
    found = next((told for pattern, told in _WHY.items() if re.search(pattern, said)), None)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = (lines or [type(error).__name__])[0][:200]
    why, remedy = found or ("cannot be read", _ELSE)
    return SecretError(secret, f"{why} ({first})", remedy)
