"""``${...}`` in the configuration of a bundle: variables, and other parts of the configuration by their path.

https://docs.databricks.com/en/dev-tools/bundles/variables.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from depload.errors import Fault

_REFERENCE = re.compile(r"\$\{([A-Za-z][\w-]*(?:\.[\w-]+|\[\d+\])*)\}")
_PART = re.compile(r"[\w-]+")
_NOTHING: Any = object()


class Substitution:
    """Fills in a configuration from itself, and from what only the place where it is used can say."""

    def __init__(self, configuration: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """``facts`` are values by path, as ``workspace.file_path``; they come before the configuration's."""
        self._configuration, self._facts = configuration, facts
        self.faults: list[Fault] = []

    def fill(self, value: Any, where: str, within: tuple[str, ...] = ()) -> Any:
        """``value`` with every reference filled in; one that cannot be is a fault, with ``where`` it stands."""
        if isinstance(value, Mapping):
            return {key: self.fill(each, f"{where}.{key}", within) for key, each in value.items()}
        if isinstance(value, list):
            return [self.fill(each, f"{where}[{at}]", within) for at, each in enumerate(value)]
        if not isinstance(value, str):
            return value
        if match := _REFERENCE.fullmatch(value):  # alone, it keeps its type
            return self._resolved(match[1], where, within)
        return _REFERENCE.sub(lambda match: _text(self._resolved(match[1], where, within)), value)

    def _resolved(self, name: str, where: str, within: tuple[str, ...]) -> Any:
        if name in within:
            return self._fault(name, where, f"refers to itself: {' -> '.join([*within, name])}")
        found = self._facts.get(name, _NOTHING)
        if found is _NOTHING:
            found = self._looked_up(name)
        if found is _NOTHING:
            return self._fault(name, where, _missing(name))
        return self.fill(found, where, (*within, name))

    def _looked_up(self, name: str) -> Any:
        parts = _PART.findall(name)
        if parts[0] == "var":
            parts = ["variables", parts[1], "value", *parts[2:]] if parts[1:] else parts
        found: Any = self._configuration
        for part in parts:
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                return _NOTHING
        return found

    def _fault(self, name: str, where: str, why: str) -> str:
        self.faults.append(Fault(where, f"${{{name}}} {why}"))
        return f"${{{name}}}"


def _missing(name: str) -> str:
    if name.startswith("var."):
        return f"has no value; give it a default in `variables`, or --var {name.removeprefix('var.')}=VALUE"
    return "is nothing that is known on this machine"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
