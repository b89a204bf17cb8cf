"""What is installed and imported in one Python process, as far as it matters to a wheelhouse.

The source of this module travels to workers, which do not have depload, so it is standard library only; that of
``activation.here`` goes with it as an argument. It answers in plain data.
"""

from __future__ import annotations

import importlib.metadata
import os
import pkgutil
import platform
import re
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OPEN = ("extend_path", "declare_namespace")  # what a package calls to let others add to it (pkgutil, pkg_resources)


def facts(here: Any, brought: dict[str, list[str]], tops: list[str]) -> dict[str, Any]:
    """What this process is, and what it has of what a wheelhouse brings.

    ``here`` is that module, or its source; ``brought`` maps each package of the wheelhouse to the names that
    importing it starts at; ``tops`` are all the first names that its files have. In the answer,

    - ``packages`` and ``requires`` are versions, and what is required of the packages brought, by installed package;
    - ``sites`` says in which directory a package that is brought is installed;
    - ``present`` maps each name that can be imported already to its ``file`` and the packages that own it;
    - ``closed`` maps a name to the package above it that others cannot add modules to, and its owners;
    - ``imported`` maps each name in ``sys.modules`` to its ``package``, ``version`` and ``file``;
    - ``pythons`` are those of ``tops`` that Python has itself.
    """
    here = _module(here) if isinstance(here, str) else here
    distributions = dict(_distributions())
    present, closed = _present({name: package for package, names in brought.items() for name in names})
    packages = dict(here.packages_here())
    pyspark = getattr(sys.modules.get("pyspark"), "__version__", None)
    if pyspark:
        packages.setdefault("pyspark", str(pyspark))  # a cluster's own need not be installed as a package
    return {
        **here.process(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": list(platform.libc_ver()),
        "packages": packages,
        "requires": {name: lines for name, found in distributions.items() if (lines := _requires(found, brought))},
        "sites": {name: str(found.locate_file("")) for name, found in distributions.items() if name in brought},
        "present": present,
        "closed": closed,
        "imported": _imported(here, brought),
        "pythons": sorted(set(tops) & set(sys.stdlib_module_names)),
    }


def _module(source: str) -> types.ModuleType:
    made = types.ModuleType("_depload_here")
    exec(source, made.__dict__)  # noqa: S102 - our own
    return made


# --- packages -------------------------------------------------------------------------------------------------------


def _distributions(path: list[str] | None = None) -> Iterator[tuple[str, importlib.metadata.Distribution]]:
    """Every package by normalised name (PEP 503), in ``path`` or on ``sys.path``; of several the first."""
    found: set[str] = set()
    for distribution in importlib.metadata.distributions(path=sys.path if path is None else path):
        name = _normalised(_said(distribution, "Name"))
        if name and name not in found:
            found.add(name)
            yield name, distribution


def _said(distribution: importlib.metadata.Distribution, what: str) -> str:
    """A field of the metadata; nothing where it is missing or cannot be read, as after a broken installation."""
    try:
        return str(distribution.metadata[what] or "")
    except Exception:
        return ""


def _requires(distribution: importlib.metadata.Distribution, brought: Iterable[str]) -> list[str]:
    """What the package requires of packages that are brought, as Requires-Dist says it."""
    try:
        lines = distribution.requires or []
    except Exception:
        return []
    names = ((_NAME.match(line), line) for line in lines)
    return [line for match, line in names if match and _normalised(match[0]) in brought]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- modules --------------------------------------------------------------------------------------------------------


def _imported(here: Any, brought: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    found = {}
    for package, names in brought.items():
        for name in names:
            module = sys.modules.get(name)
            file = here.module_file(module) if module else None
            if file:
                found[name] = {"package": package, "version": here.version_of(module, package), "file": file}
    return found


def _present(names: dict[str, str]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """What is found of ``names`` on ``sys.path``, and above which of them there is a closed package."""
    located = {name: found for name in names if (found := _located(name))}
    paths: dict[str, set[str]] = {}
    for root, below, _ in located.values():
        paths.setdefault(root, set()).add(below)
    installed = {root: dict(_distributions([root])) for root in paths}
    owners = {root: _owners(installed[root], below) for root, below in paths.items()}
    present, closed = {}, {}
    for name, (root, below, file) in located.items():
        about = {"file": file or os.path.join(root, below), "owners": sorted(owners[root].get(below, ()))}
        if below.endswith("/__init__"):
            closed[name] = about
        elif about["owners"] or (file and names[name] not in installed[root]):  # else it is its own, told by no RECORD
            present[name] = about
    return present, closed


def _located(name: str) -> tuple[str, str, str | None] | None:
    """Where a name is found without importing anything: the entry of ``sys.path``, the path below it, and the file.

    There is no file for a folder that is a namespace. A path that ends in ``/__init__`` is that of a package above the
    name which is no namespace, and so hides what others put below it.
    """
    parts = name.split(".")
    path = list(sys.path)
    for depth in range(1, len(parts) + 1):
        specs = list(_specs(".".join(parts[:depth]), path))
        regular = next((spec for spec in specs if spec.loader is not None), None)
        path = [place for spec in specs for place in spec.submodule_search_locations or ()]
        below = "/".join(parts[:depth])
        if depth == len(parts):
            first = regular or next(iter(specs), None)
            return (_root(first, depth), below, first.origin if regular else None) if first else None
        if regular and not _is_open(regular):
            return _root(regular, depth), f"{below}/__init__", regular.origin
    return None


def _specs(name: str, path: list[str]) -> Iterator[ModuleSpec]:
    for entry in path:
        try:
            finder: Any = pkgutil.get_importer(entry or ".")
            spec = finder.find_spec(name) if finder else None
        except Exception:  # noqa: S112 - some platforms put finders of their own there
            continue
        if spec is not None:
            yield spec


def _root(spec: ModuleSpec, depth: int) -> str:
    """The entry of ``sys.path`` that a module was found in."""
    folders = list(spec.submodule_search_locations or ())
    place = folders[0] if folders else str(spec.origin)
    for _ in range(depth):
        place = os.path.dirname(place)
    return place


def _is_open(spec: ModuleSpec) -> bool:
    """Whether a regular package lets others add modules to it, as namespaces did before PEP 420."""
    try:
        with open(str(spec.origin), encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return False
    return any(word in text for word in _OPEN)


def _owners(installed: dict[str, importlib.metadata.Distribution], below: set[str]) -> dict[str, set[str]]:
    """Those of the packages that have files at these paths, by path."""
    ordered = sorted(below, key=len, reverse=True)
    listed = re.compile(rf"(?m)^(?:\.\./)*({'|'.join(map(re.escape, ordered))})(?=[/.])")
    found: dict[str, set[str]] = {}
    for name, distribution in installed.items():
        text = _text(distribution, "RECORD") or _text(distribution, "installed-files.txt")
        for path in {*listed.findall(text), *(below & {*_text(distribution, "top_level.txt").split()})}:
            found.setdefault(path, set()).add(name)
    return found


def _text(distribution: importlib.metadata.Distribution, name: str) -> str:
    try:
        return distribution.read_text(name) or ""
    except (OSError, ValueError):
        return ""
