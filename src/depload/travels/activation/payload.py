"""What travels, as a process reads it before anything is unpacked: manifest, digest, the place of the wheels."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import zipfile

TYPE_CHECKING = False  # importing typing costs a worker more than all of this module
if TYPE_CHECKING:
    from typing import Any

MANIFEST = "manifest.json"
REFERENCE = "reference.json"
# What is beside the wheels and never imported or run: it may tell more than what the wheels are, such as what they were
# made of, and equal wheels still have one digest.
DOCUMENTS = ("pylock.toml", "sbom.cdx.json", "provenance.json")
COMPLETE = ".depload.json"  # written into a site last: a site without it was never finished
UNREACHABLE = "cannot be read from host"  # in the message of a worker that does not see the run path
_LONGEST_MANIFEST = 16 << 20  # bytes


class ActivationError(ImportError):
    """The wheelhouse cannot be made importable here; an ImportError, because an import is what asked for it."""


def digest_of(manifest: dict[str, Any]) -> str:
    """SHA-256 over the target and all of a wheelhouse that is unpacked, imported or run; ``manifest`` as it is written.

    The activation module and the stubs have the digest in their names and texts. They count as what they are, so that
    the result does not depend on the digest that the manifest claims.
    """
    module = module_name(manifest["digest"])
    texts = {hashlib.sha256(stub(module).encode()).hexdigest(): "stub"}
    parts = [(part["filename"], part["sha256"]) for part in (*manifest["wheels"], *manifest["bytecode"])]
    beside = [
        (renamed(name, module, "activation"), texts.get(sha256, sha256))
        for name, sha256 in manifest["others"].items()
        if name not in DOCUMENTS
    ]
    target = manifest["target"]["python"], manifest["target"]["platform"]
    return hashlib.sha256(json.dumps([target, parts, sorted(beside)]).encode()).hexdigest()


def module_name(digest: str) -> str:
    """What the activation module is called inside a wheelhouse, where it is a package: no two wheelhouses share one."""
    return f"_depload_{digest[:16]}"


def renamed(member: str, module: str, to: str) -> str:
    """A member's name where the activation module ``module`` is called ``to``."""
    return f"{to}/{member.removeprefix(f'{module}/')}" if member.startswith(f"{module}/") else member


def stub(module: str) -> str:
    """The text of an import stub, for the activation module of that name."""
    return f"from {module} import hand_over\n\nhand_over(__name__)\n"


def manifest_of(archive: str) -> dict[str, Any]:
    """The manifest, whose digest is that of what it lists: it names the site, which can hold nothing else then."""
    manifest = _member(archive, MANIFEST)
    try:
        rules = [
            *(type(part["size"]) is int for part in (*manifest["wheels"], *manifest["bytecode"])),
            *(type(wheel["native"]) is bool for wheel in manifest["wheels"]),
        ]
        digest = digest_of(manifest)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ActivationError(f"{archive}: its {MANIFEST} is damaged ({type(error).__name__}: {error})") from error
    if not all(rules) or manifest.get("digest") != digest:
        raise ActivationError(f"{archive}: its {MANIFEST} is not what was published; the digest is of other wheels")
    return dict(manifest)


def _member(archive: str, name: str) -> Any:
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(name)
            return json.loads(opened.read(info)) if info.file_size <= _LONGEST_MANIFEST else None
    except Exception as error:  # zipfile has a dozen ways of not reading something
        raise ActivationError(f"{archive}: its {name} cannot be read ({type(error).__name__}: {error})") from error


def payload_of(archive: str) -> str:
    """The file that holds the wheels: the zip itself, or the wheelhouse that it refers to."""
    with zipfile.ZipFile(archive) as opened:
        if REFERENCE not in opened.namelist():
            return archive
    reference = _member(archive, REFERENCE)
    if not isinstance(reference, dict) or "\0" in (path := str(reference.get("path"))):
        raise ActivationError(f"{archive}: its {REFERENCE} is damaged")
    try:
        status = os.stat(path)
    except OSError as error:
        raise ActivationError(
            f"{path} {UNREACHABLE} {socket.gethostname()}: {error.strerror}; "
            "was the run path cleaned up? Convert and load again"
        ) from error
    found, expected = status.st_size, reference.get("size")
    if found != expected or not stat.S_ISREG(status.st_mode):  # a device can be read without end
        raise ActivationError(f"{path} has {found} bytes on host {socket.gethostname()}, expected {expected!a:.20}")
    return path
