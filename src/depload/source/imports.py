"""What loose modules import: they declare nothing, so this is all that can be said of what they need."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_PROVIDED = {"pyspark", "py4j", "databricks", "dbutils", "dbruntime", "IPython"}  # by every runtime
_ELSEWHERE = re.compile(r"'(?:TYPE_CHECKING|version_info|platform)'")
# Parsing takes some 800 bytes of memory a byte of the densest source, and 5 s a MB of it.
_LARGEST, _MOST = 512 * 1024, 4 * 1024 * 1024  # bytes: of one module, and of all of a source
_READY = re.compile(r"'(?:ImportError|ModuleNotFoundError|Exception|BaseException)'")


@dataclass(frozen=True)
class Module:
    """A loose module: the file, what messages call it, and the path below ``user_modules`` that it gets."""

    file: Path
    label: str
    below: str


def names(file: Path) -> list[tuple[int, str]]:
    """Line and first name of each absolute import that must work; none where the file cannot be read as Python."""
    tree = _parsed(file)
    try:
        return list(_collected(tree.body)) if isinstance(tree, ast.Module) else []
    except RecursionError:  # an expression of thousands of terms
        return []


def bearable(files: Iterable[Path]) -> Iterator[Path]:
    """Of the files those that are looked into: no giants, and no more than a few MB of them."""
    left = _MOST
    for file in files:
        size = file.stat().st_size if file.is_file() else _MOST
        if size <= min(left, _LARGEST):
            left -= size
            yield file


def unprovided(modules: Iterable[Module], provided: set[str]) -> list[str]:
    """Imports that neither Python, the modules themselves, a runtime nor ``provided`` has: a sentence for each name."""
    modules = tuple(modules)
    looked_into = set(bearable(module.file for module in modules))
    known = set(sys.stdlib_module_names) | _PROVIDED | provided | {"user_modules"}
    beside = _importable(modules)
    found: dict[str, list[str]] = defaultdict(list)
    for module in (module for module in modules if module.file in looked_into):
        for line, name in names(module.file):
            if name not in known and not beside[name] & _folders(module.below):
                found[name].append(f"{module.label}:{line}")
    return [_sentence(name, places) for name, places in found.items()]


def unreadable(modules: Iterable[Module]) -> list[str]:
    """Modules that this Python cannot parse: a sentence each."""
    modules = tuple(modules)
    looked_into = set(bearable(module.file for module in modules))
    parsed = ((module, _parsed(module.file)) for module in modules if module.file in looked_into)
    return [_mistake(module, error) for module, error in parsed if not isinstance(error, ast.Module)]


def _mistake(module: Module, error: Exception) -> str:
    line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
    what = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    return f"{module.label}{line}: {python} cannot read it ({what}), so importing it will fail"


def _sentence(name: str, places: list[str]) -> str:
    more = f" ({len(places) - 1} more)" if len(places) > 1 else ""
    return f"{places[0]}: imports {name}, which nothing in the source provides{more}"


def _importable(modules: Iterable[Module]) -> defaultdict[str, set[str]]:
    """The folders in which each name is a module or a folder of modules."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for module in modules:
        parts = module.below.split("/")
        for depth, part in enumerate(parts):
            found[part.removesuffix(".py")].add("/".join(parts[:depth]))
    return found


def _folders(below: str) -> set[str]:
    """The folders that a module is in, up to the top: what is beside it there can be imported by name."""
    parts = below.split("/")
    return {"/".join(parts[:depth]) for depth in range(len(parts))}


def _parsed(file: Path) -> ast.Module | Exception:
    """The syntax tree, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's escape sequences
            return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return error


def _collected(body: Iterable[ast.stmt]) -> Iterator[tuple[int, str]]:
    """In the order of the lines; without recursion, as each ``elif`` is a level."""
    left = list(reversed([*body]))
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]
        elif not _optional(node):
            below = (child for name in ("body", "orelse", "finalbody") for child in getattr(node, name, ()))
            left += reversed([child for child in below if isinstance(child, ast.stmt)])


def _optional(node: ast.stmt) -> bool:
    """A block that is ready for its imports to fail, or that asks first where it runs."""
    if isinstance(node, ast.If):
        return bool(_ELSEWHERE.search(ast.dump(node.test)))
    if isinstance(node, ast.With):
        return any("'suppress'" in (said := ast.dump(item)) and _READY.search(said) for item in node.items)
    return isinstance(node, ast.Try) and any(
        handler.type is None or _READY.search(ast.dump(handler.type)) for handler in node.handlers
    )
