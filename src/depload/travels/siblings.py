"""Let modules that were scripts in one folder go on importing each other by their own names.

This file travels inside the package ``user_modules``; it is standard library only. ``from utils import helpers`` inside
``user_modules.calculator`` means ``user_modules.utils.helpers``, the same module object that everybody else gets: a
module of the package runs with an ``__import__`` of its own (the language takes it from the module's ``__builtins__``),
so no name of the folder appears outside of it, however common it is.

The names at the top of the folder come first, as for a script there, before Python's own and installed packages. Names
further down (``jobs/b.py`` for ``jobs/a.py``) count where nothing else has them: a package may have a module ``types``
and mean Python's.
"""

from __future__ import annotations

import builtins
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

OWN_INIT = "_depload_init"  # what the folder's own __init__.py is called here
_SUFFIXES = (*importlib.machinery.SOURCE_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES)


def install(module: dict[str, object]) -> None:
    """Give every module below a package the folder's own names to import by; ``module`` is the package's namespace."""
    package, folders = str(module["__name__"]), list(module["__path__"])  # type: ignore[call-overload]
    scoped = _scoped(package, {name for folder in folders for name in _importable(folder)})
    sys.meta_path.insert(0, _Finder(package, scoped))
    module["__builtins__"] = scoped
    own = f"{package}.{OWN_INIT}"
    for file in (os.path.join(folder, f"{OWN_INIT}.py") for folder in folders):
        if os.path.exists(file):
            exec(importlib.machinery.SourceFileLoader(own, file).get_code(own) or "", module)  # noqa: S102


def _importable(folder: str) -> Iterator[str]:
    """The names that a script in ``folder`` could import from beside it."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            name = entry.name if _holds_modules(entry.path) else ""
        else:
            name = next((entry.name.removesuffix(suffix) for suffix in _SUFFIXES if entry.name.endswith(suffix)), "")
        if name.isidentifier() and name != "__init__" and not name.startswith("_depload_"):
            yield name


def _holds_modules(folder: str) -> bool:
    """Whether a folder is for importing: one without __init__ must hold modules, and never hides Python's own."""
    if os.path.exists(os.path.join(folder, "__init__.py")):
        return True
    if os.path.basename(folder) in sys.stdlib_module_names:
        return False
    return any(file.endswith(_SUFFIXES) for _, _, files in os.walk(folder) for file in files)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the package's modules as always, and has them run with its builtins."""

    def __init__(self, package: str, scoped: dict[str, object]) -> None:
        self._prefix = f"{package}."
        self._scoped = scoped

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(self._prefix):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._scoped)
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
        top = name.partition(".")[0]
        if level:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if top in names:
            return _import_below(package, name, fromlist)
        try:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        except ModuleNotFoundError as error:
            parent = _folder_of(top, package, globals) if error.name == top else None
            if parent is None:
                raise
        return _import_below(parent, name, fromlist)

    return {**vars(builtins), "__import__": import_}


def _import_below(parent: str, name: str, fromlist: Sequence[str] | None) -> ModuleType:
    """What the import statement wants: with names after ``from`` the module itself, else the first one on the way."""
    module = builtins.__import__(f"{parent}.{name}", fromlist=fromlist or ("__name__",))
    return module if fromlist else sys.modules[f"{parent}.{name.partition('.')[0]}"]


def _folder_of(name: str, package: str, importer: Mapping[str, object] | None) -> str | None:
    """The nearest folder at or above the importing module that has ``name``; the top was looked at already."""
    above = str((importer or {}).get("__package__") or "")
    while above.startswith(f"{package}."):
        if importlib.util.find_spec(f"{above}.{name}") is not None:
            return above
        above = above.rpartition(".")[0]
    return None
