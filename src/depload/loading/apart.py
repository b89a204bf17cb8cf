"""``packaging``, on which depload stands, kept apart from the one that a wheelhouse brings.

depload imports it before it can tell whether a wheelhouse fits. Left in ``sys.modules`` it would be a conflict with
every wheelhouse that brings another version, and nobody could have called ``load`` any earlier.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME, _OURS = "packaging", "depload"
_OLDEST = Version("21.3")  # that depload works with, as pyproject.toml says


_aside: dict[str, ModuleType] = {}  # what depload had of it, while everybody else takes a wheelhouse's


def let_go(version: str) -> None:
    """Take ``packaging`` out of ``sys.modules`` for another version, if no module but depload's holds anything of it.

    depload goes on with what it has, and what it imports from now on takes ``version``, as everybody else does; so one
    that is too old for it is left to be a conflict.
    """
    if not _aside and Version(version) >= _OLDEST:
        _aside.update(_taken_out() or {})


def put_back() -> None:
    """Undo ``let_go``, unless somebody holds another by now."""
    if _aside and _taken_out() is not None:
        sys.modules.update(_aside)
    _aside.clear()


def _taken_out() -> dict[str, ModuleType] | None:
    """What ``sys.modules`` had of ``packaging`` and has no more; None where it was left alone, as others hold it."""
    own = {name: module for name, module in [*sys.modules.items()] if _is_of(name, _NAME)}
    things = {id(thing) for module in own.values() for thing in (module, *_defined(module))}
    others = [module for name, module in [*sys.modules.items()] if not _is_of(name, _NAME) and not _is_of(name, _OURS)]
    if any(_holds(module, things) for module in others):
        return None
    for name in own:
        sys.modules.pop(name, None)
    return own


def _is_of(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _defined(module: ModuleType) -> Iterator[Any]:
    """The classes and functions that a module of the package defines."""
    for value in [*vars(module).values()]:
        if isinstance(value, type | FunctionType) and _is_of(value.__module__ or "", _NAME):
            yield value


def _holds(module: Any, things: set[int]) -> bool:  # noqa: ANN401 - anybody may put anything into sys.modules
    """Whether a module has one of the things as a global, or an instance of one; no attribute of any is asked for."""
    names = module.__dict__ if type(module) is ModuleType else {}
    return any(id(value) in things or id(type(value)) in things for value in [*names.values()])
