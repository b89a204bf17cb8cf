"""Make a wheelhouse importable in one process; this very folder travels inside every wheelhouse.

It is standard library only and imports nothing of depload, because a Spark worker has neither. Inside a wheelhouse
it is the package ``_depload_<digest>``, so that two wheelhouses never share one, and beside it lies an import stub for
each name that the wheels provide:

    the worker imports ``pandas``  ->  the stub calls ``hand_over("pandas")``  ->  ``activate()`` unpacks the wheels
    once per node and digest, puts that site first on ``sys.path``, and the real pandas takes the stub's place.

With process isolation the worker process itself begins here: the launcher calls ``work()``.

Beside this module ``payload`` reads what travels, ``sites`` keeps what is unpacked on a node, ``unpacking`` fills a
site and is imported only for that, ``here`` tells what is true in a process. Everything answers in plain data (dict,
list, str, int, float, None), so that it travels back from a worker.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import site as site_module
import sys
import threading
import time

from . import sites
from .here import environment, module_file, packages_here, process, same_version, version_of
from .payload import (
    COMPLETE,
    DOCUMENTS,
    MANIFEST,
    REFERENCE,
    UNREACHABLE,
    ActivationError,
    digest_of,
    manifest_of,
    module_name,
    renamed,
    stub,
)

TYPE_CHECKING = False  # importing typing costs a worker more than all of this module
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType
    from typing import Any

__all__ = [
    "COMPLETE",
    "DOCUMENTS",
    "MANIFEST",
    "REFERENCE",
    "UNREACHABLE",
    "ActivationError",
    "activate",
    "deactivate",
    "digest_of",
    "environment",
    "hand_over",
    "located",
    "manifest_of",
    "module_file",
    "module_name",
    "process",
    "prove",
    "renamed",
    "same_version",
    "stub",
    "take_back",
    "version_of",
    "work",
]

_WORKS_FOR = "DEPLOAD_WORKS_FOR"  # in a worker of process isolation: the activation module that it began with

_lock = threading.RLock()
_active: dict[str, dict[str, Any]] = {}  # by archive: what activate answered
_added: dict[str, list[str]] = {}  # by site: what it put on sys.path
_parked: dict[str, dict[str, ModuleType]] = {}  # by site: its modules while it is deactivated


def activate(archive: str | None = None) -> dict[str, Any]:
    """Put the site of ``archive`` (default: the zip this package was imported from) first on ``sys.path``.

    Returns ``site`` (a path), ``digest``, ``unpacked`` (by this process) and ``seconds``. Calling it again is free.
    """
    archive = os.path.abspath(archive or _own_archive())
    with _lock:
        if archive in _active:
            return dict(_active[archive])
        started = time.perf_counter()
        manifest = manifest_of(archive)
        path, unpacked = sites.ready(archive, manifest)
        if path not in _added:
            _added[path] = _put_first(path)
            _put_back(_parked.pop(path, {}))
        _active[archive] = {
            "site": path,
            "digest": manifest["digest"],
            "unpacked": unpacked,
            "seconds": round(time.perf_counter() - started, 4),
        }
        return dict(_active[archive])


def deactivate(digest: str | None = None) -> None:
    """Take the site of ``digest`` (default: all) off ``sys.path`` again, and its modules out of ``sys.modules``.

    The modules are kept for the next activation of that site, because native code can be loaded only once by a process.
    """
    with _lock:
        for path in [path for path in _added if digest in (None, os.path.basename(path))]:
            added = _added.pop(path)
            sys.path[:] = [entry for entry in sys.path if entry not in added]
            _parked[path] = _parked.get(path, {}) | _take_modules(path)
            for archive in [archive for archive, about in _active.items() if about["site"] == path]:
                del _active[archive]
            sites.no_longer_use(path)
        importlib.invalidate_caches()


def take_back() -> None:
    """What ``Loaded.unload`` has a shared worker do: deactivate, and leave no stub that would activate again."""
    own = _own_archive()
    with _lock:
        deactivate()
        _take_modules(own, but=__name__)
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != own]
        importlib.invalidate_caches()


def work(arguments: list[str]) -> None:
    """Become one of Spark's Python workers, with the wheelhouse before everything else: what the launcher runs.

    ``arguments`` are what Spark gives to Python: ``-m pyspark.daemon pyspark.worker`` (PythonWorkerFactory).
    """
    import runpy

    own = _own_archive()
    os.environ[_WORKS_FOR] = __name__
    try:
        activate()
    except Exception as error:
        # The stubs stay first: importing what the wheelhouse has must fail, not give another version. Here it is told
        # to the executor's log, by the proof and by each import to the driver.
        sys.stderr.write(f"depload: {type(error).__name__}: {error}\n")
    else:
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != own]
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


def hand_over(name: str) -> ModuleType:
    """What a stub calls: activate, then let the real module take the stub's place in ``sys.modules``.

    The import system returns what stands in ``sys.modules`` after a module's code has run, so whoever imported the stub
    gets the real module. The lock of ``activate`` is not held while the real one is imported: another thread may hold
    that module's import lock and wait for us.
    """
    activate()
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def prove(names: list[str], packages: dict[str, dict[str, Any]], archive: str | None = None) -> dict[str, Any]:
    """Activate, import ``names``, and say what is true in this process.

    ``packages`` maps each package of the wheelhouse to its ``version`` and the import ``names`` it provides. In the
    answer, ``imported`` maps each name to ``version`` and ``file`` or an ``error``, ``strangers`` lists modules of the
    wheelhouse's packages that were imported from elsewhere before it could be activated, and ``arrow`` says why an
    isolated worker cannot import the pyarrow that is installed there, which Spark's pandas functions need.
    """
    started = time.perf_counter()
    facts: dict[str, Any] = {**process(), "site": None, "digest": None, "unpacked": False, "error": None}
    facts["isolated"] = os.environ.get(_WORKS_FOR) == __name__
    owners = {name: package for package, about in packages.items() for name in about["names"]}
    imported: dict[str, dict[str, Any]] = {}
    try:
        facts.update(activate(archive))
    except Exception as error:
        facts["error"] = f"{type(error).__name__}: {error}"
    else:
        imported = {name: _imported(name, _owner(name, owners)) for name in names}
    facts["imported"] = imported
    facts["arrow"] = _imported("pyarrow", None)["error"] if facts["isolated"] and _is_there("pyarrow") else None
    facts["strangers"] = _strangers(facts["site"], packages) if facts["site"] else []
    facts["packages"] = packages_here()
    # Another thread may have activated it meanwhile: then that is what it took.
    facts["seconds"] = round(max(time.perf_counter() - started, facts.get("seconds", 0.0)), 4)
    return facts


def located(name: str, package: str, site: str) -> dict[str, Any]:
    """What importing ``name`` would give, without importing it; an answer as in ``prove``'s ``imported``."""
    try:
        spec = importlib.util.find_spec(name)  # imports the packages above a dotted name
    except Exception as error:
        return {"version": None, "file": None, "package": package, "error": f"{type(error).__name__}: {error}"}
    if spec is None:
        return {
            "version": None,
            "file": None,
            "package": package,
            "error": f"ModuleNotFoundError: No module named {name!r}",
        }
    version = next((found.version for found in importlib.metadata.distributions(name=package, path=[site])), None)
    return {"version": version, "file": spec.origin, "package": package, "error": None}


def _imported(name: str, package: str | None) -> dict[str, Any]:
    try:
        module = importlib.import_module(name)
    except BaseException as error:
        return {"version": None, "file": None, "package": package, "error": f"{type(error).__name__}: {error}"[:2000]}
    return {"version": version_of(module, package), "file": module_file(module), "package": package, "error": None}


def _owner(name: str, owners: dict[str, str]) -> str | None:
    """The package that a module is of: ``google.cloud.storage.blob`` is of what has ``google.cloud.storage``."""
    while name not in owners and "." in name:
        name = name.rpartition(".")[0]
    return owners.get(name)


def _is_there(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _strangers(site: str, packages: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    inside = os.path.join(site, "")
    found = []
    for package, about in packages.items():
        for name in about["names"]:
            module = sys.modules.get(name)
            file = module_file(module) if module else None
            if module and file and not file.startswith(inside):
                version = version_of(module, package)
                if not same_version(version, about["version"]):
                    found.append({"package": package, "module": name, "version": version, "file": file})
    return found


def _own_archive() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _put_first(path: str) -> list[str]:
    """Put the site first on ``sys.path`` and run its .pth files as site-packages' are run (module ``site``).

    Returns what was added: the site, and the directories that its .pth files name.
    """
    if path not in sys.path:
        sys.path.insert(0, path)
    before = list(sys.path)
    site_module.addsitedir(path)
    added = [entry for entry in sys.path if entry not in before]
    sys.path[:] = [entry for entry in sys.path if entry not in added]
    sys.path[sys.path.index(path) + 1 : sys.path.index(path) + 1] = added
    importlib.invalidate_caches()
    return [path, *added]


def _take_modules(folder: str, but: str = "") -> dict[str, ModuleType]:
    """Take every module that was loaded from below ``folder`` out of ``sys.modules``, with all that is below them."""
    inside = os.path.join(folder, "")
    names = {name for name, module in list(sys.modules.items()) if (module_file(module) or "").startswith(inside)}
    names |= {name for name in list(sys.modules) if any(above in names for above in _above(name))}
    names = {name for name in names if but not in (name, *_above(name))}
    return {name: sys.modules.pop(name) for name in sorted(names) if name in sys.modules}


def _put_back(modules: dict[str, ModuleType]) -> None:
    """Into ``sys.modules`` again, but nothing of a package that was imported from elsewhere meanwhile."""
    here = modules.keys() & sys.modules.keys()
    sys.modules.update({name: each for name, each in modules.items() if not here & {name, *_above(name)}})


def _above(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name
