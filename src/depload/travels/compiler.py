"""Compile a shard of a wheel's modules to .pyc; a script for the target's own interpreter, standard library only.

    python _compiler.py WHEEL SHARD SHARDS OUTPUT

A fresh process for every shard, and shards that depend on the wheel alone: marshal marks an object as shared when
something else in the process refers to it, so what was compiled before shows in the bytes of what is compiled after.
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import sys
import warnings
import zipfile

_FLAG_HASH = (1).to_bytes(4, "little")  # PEP 552: hash-based, not checked against the source
_TESTS = {"test", "tests"}


def sources(names: list[str]) -> list[str]:
    """The modules worth compiling: tests are half of many wheels, and no job imports them."""
    return sorted(
        name
        for name in names
        if name.endswith(".py")
        and not _TESTS & set(name.split("/")[:-1])
        and "/scripts/" not in name.partition(".data")[2]
    )


def compiled(source: bytes, name: str) -> bytes | None:
    """The .pyc of a module; None where this Python cannot compile it.

    It is hash-based and unchecked, because whatever unpacks a zip may drop the times that others are checked by.
    """
    try:
        code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return importlib.util.MAGIC_NUMBER + _FLAG_HASH + importlib.util.source_hash(source) + marshal.dumps(code)


def main(wheel: str, shard: int, shards: int, output: str) -> None:
    """Write the shard's .pyc files to the zip ``output``, each where the import system looks for it."""
    warnings.simplefilter("ignore")  # of other people's invalid escapes
    with zipfile.ZipFile(wheel) as opened, zipfile.ZipFile(output, "w") as written:
        names = sources(opened.namelist())
        for name in names[len(names) * shard // shards : len(names) * (shard + 1) // shards]:
            folder, _, file = name.rpartition("/")
            data = compiled(opened.read(name), name)
            if data is not None:
                target = f"{folder}/__pycache__/{file[:-3]}.{sys.implementation.cache_tag}.pyc".lstrip("/")
                info = zipfile.ZipInfo(target, (1980, 1, 1, 0, 0, 0))
                info.external_attr = 0o100644 << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                written.writestr(info, data, compresslevel=1)


if __name__ == "__main__":
    sys.stdout = io.StringIO()
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
