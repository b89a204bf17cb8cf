"""What a task of a job is given: always text, of which any part may be a reference that nobody filled in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from depload.errors import Fault, ParameterError, UnresolvedParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

REFERENCE = "{{"
"""What begins a dynamic value reference. Databricks leaves one that it does not know as it stands."""

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """The parameters of a Python wheel task, which are ``--name=value`` or ``--name value``.

    One that is empty counts as not given: job parameters have no other way to say so. Raises ParameterError.
    """
    given: dict[str, str] = {}
    faults = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            faults.append(Fault(word, "is no parameter; write --name=value"))
        elif equals or rest:
            given[name.replace("-", "_")] = value if equals else rest.pop(0)
        else:
            faults.append(Fault(name, "has no value; write --name=value"))
    if faults:
        raise ParameterError(faults)
    return {name: value for name, value in given.items() if value.strip()}


def refuse_references(**given: object) -> None:
    """Raise UnresolvedParameterError, naming every parameter that still holds ``{{``."""
    if faults := unresolved(**given):
        raise UnresolvedParameterError(faults)


def unresolved(**given: object) -> list[Fault]:
    """The parameters that still hold ``{{``."""
    return [Fault(name, f"is {text!r}") for name, value in given.items() for text in _texts(value) if REFERENCE in text]


def _texts(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [text for item in value for text in _texts(item)]
    return [] if value is None else [str(value)]


def require(**given: object) -> None:
    """Raise ParameterError, naming every parameter that is missing or empty."""
    faults = [Fault(name, "is needed and was not given") for name, value in given.items() if not str(value or "")]
    if faults:
        raise ParameterError(faults)


def flag(name: str, value: bool | str) -> bool:
    """Yes or no, as a job parameter says it. Raises ParameterError."""
    if isinstance(value, bool):
        return value
    if value.strip().lower() not in _FLAGS:
        raise ParameterError([Fault(name, f"is {value!r}; write true or false")])
    return _FLAGS[value.strip().lower()]


def number(name: str, value: int | str) -> int:
    """A whole number. Raises ParameterError."""
    try:
        return int(value)
    except ValueError as error:
        raise ParameterError([Fault(name, f"is {value!r}; write a whole number")]) from error


def listed(name: str, value: str | Iterable[str] | None) -> list[str]:
    """Several values in one parameter: a JSON list, or separated by commas, blanks or lines. Raises ParameterError."""
    if not isinstance(value, str):
        return list(value or ())
    if not value.lstrip().startswith("["):
        return value.replace(",", " ").split()
    try:
        found = json.loads(value)
    except ValueError as error:
        raise ParameterError([Fault(name, f"begins as a JSON list and is none: {error}")]) from error
    return [str(item) for item in found]


def pairs(name: str, value: str | Mapping[str, str] | None) -> dict[str, str]:
    """``task=state`` for several tasks, separated by commas, blanks or lines. Raises ParameterError."""
    if isinstance(value, Mapping):
        return dict(value)
    found = [each.partition("=") for each in listed(name, value)]
    faults = [Fault(name, f"holds {key!r}; write task=state") for key, equals, _ in found if not (key and equals)]
    if faults:
        raise ParameterError(faults)
    return {key: state for key, _, state in found}
