"""Let modules that were scripts in one folder go on importing each other by their own names.

This file travels inside the package ``user_modules``; it is standard library only. ``from utils import helpers`` inside
``user_modules.calculator`` means ``user_modules.utils.helpers``, the same module object that everybody else gets: a
module of the package runs with an ``__import__`` of its own (the language takes it from the module's ``__builtins__``),
so no name of the folder appears outside of it, however common it is.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.machinery
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def install(package: str, path: Iterable[str]) -> None:
    """Give every module below ``package`` the folder's own names to import by."""
    names = {name for folder in path for name in _importable(folder)}
    sys.meta_path.insert(0, _Finder(package, names))


def _importable(folder: str) -> list[str]:
    """The names that a script in ``folder`` could import from beside it."""
    entries = [entry for entry in os.scandir(folder) if entry.is_dir() or entry.name.endswith(".py")]
    names = [entry.name.removesuffix(".py") for entry in entries if entry.is_file() or _holds_modules(entry.path)]
    return [name for name in names if name.isidentifier() and name not in ("__init__", "_depload_siblings")]


def _holds_modules(folder: str) -> bool:
    """Whether a folder is for importing: one without __init__ must hold modules, and never hides Python's own."""
    if os.path.exists(os.path.join(folder, "__init__.py")):
        return True
    if os.path.basename(folder) in sys.stdlib_module_names:
        return False
    return any(file.endswith(".py") for _, _, files in os.walk(folder) for file in files)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the package's modules as always, and has them run with ``_scoped`` builtins."""

    def __init__(self, package: str, names: set[str]) -> None:
        self._prefix = f"{package}."
        self._builtins = _scoped(package, names)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(self._prefix):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, scoped: dict[str, object]) -> None:
        super().__init__(name, path)
        self._scoped = scoped

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._scoped
        super().exec_module(module)


def _scoped(package: str, names: set[str]) -> dict[str, object]:
    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top, _, rest = name.partition(".")
        if level or top not in names:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = importlib.import_module(f"{package}.{name}")
        if not fromlist:  # `import utils.helpers` binds utils
            return sys.modules[f"{package}.{top}"] if rest else module
        for wanted in fromlist:
            if wanted != "*" and not hasattr(module, wanted) and hasattr(module, "__path__"):
                _import_child(f"{module.__name__}.{wanted}")
        return module

    return {**vars(builtins), "__import__": import_}


def _import_child(name: str) -> None:
    """Import a module that ``from package import name`` names; where there is none, the language says so."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
