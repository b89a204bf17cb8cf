"""The bill of materials of a wheelhouse: CycloneDX 1.6 as JSON (ECMA-424), the same for the same wheels.

Written by hand, because it is some thirty lines, and a library for it would bring six packages to every cluster that
converts; what comes out is held against the schema by cyclonedx-python-lib in the tests.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import uuid
from email.parser import HeaderParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from depload._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from email.message import Message

    from depload.published.wheelhouse import Ingredient, Manifest
    from depload.standards.target import Target
    from depload.standards.wheels import Wheel

MEMBER = "sbom.cdx.json"
"""What it is called in a wheelhouse."""
_SPACE = uuid.UUID("c5a8f0a6-9e0f-5d7e-8f55-7a7e3c1f6d10")
_LICENSE = "License :: OSI Approved :: "


def write(manifest: Manifest, ingredients: Sequence[Ingredient]) -> str:
    """The text of the document."""
    components = [_component(each) for each in ingredients]
    stamp = _timestamp()
    serial = uuid.uuid5(_SPACE, json.dumps([manifest.name, manifest.digest, components, stamp]))
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            **({"timestamp": stamp} if stamp else {}),
            "tools": {"components": [{"type": "application", "name": "depload", "version": __version__}]},
            "component": {
                "type": "application",
                "bom-ref": "wheelhouse",
                "name": manifest.name,
                "version": manifest.digest,
                "properties": _properties(python=manifest.target.python, platform=manifest.target.platform),
            },
        },
        "components": components,
        "dependencies": _dependencies(manifest, [each.wheel for each in ingredients]),
    }
    return json.dumps(bill, indent=1) + "\n"


def purl(name: str, version: str) -> str:
    """The package URL of a version (purl-spec, "pypi")."""
    return f"pkg:pypi/{quote(canonicalize_name(name))}@{quote(version, safe='.')}"


def place(origin: str) -> str:
    """Where a wheel came from, without the directories of this machine."""
    return origin.rpartition("/")[2] if origin.startswith("file:") else origin


def is_address(origin: str) -> bool:
    """Whether it is where everybody may find it."""
    return origin.startswith(("https://", "http://"))


def _timestamp() -> str:
    """The moment that the user says it is of (reproducible-builds.org): a time of the run may not stand inside."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not (said.isascii() and said.isdigit()):
        return ""
    try:
        return dt.datetime.fromtimestamp(int(said), dt.timezone.utc).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


def _component(ingredient: Ingredient) -> dict[str, Any]:
    wheel = ingredient.wheel
    metadata = _metadata(wheel)
    licenses = _licenses(metadata)
    summary = metadata.get("Summary") or ""
    address = ingredient.origin if is_address(ingredient.origin) else ""
    about = {"filename": wheel.filename, "from": place(ingredient.origin), "uploaded": ingredient.uploaded}
    return {
        "type": "library",
        "bom-ref": purl(wheel.name, wheel.version),
        "name": wheel.name,
        "version": wheel.version,
        **({"description": " ".join(summary.split())} if summary.strip() else {}),
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
        **({"licenses": licenses} if licenses else {}),
        "purl": purl(wheel.name, wheel.version),
        **({"externalReferences": [{"type": "distribution", "url": _iri(address)}]} if address else {}),
        "properties": _properties(**about),
    }


def _properties(**values: str) -> list[dict[str, str]]:
    return [{"name": f"depload:{name}", "value": value} for name, value in values.items() if value]


def _iri(url: str) -> str:
    return quote(url, safe=":/?#[]@!$&'()*+,;=%~")


def _metadata(wheel: Wheel) -> Message:
    text = next((text for path, text in wheel.dist_info.items() if path.endswith(".dist-info/METADATA")), "")
    return HeaderParser().parsestr(text)


def _licenses(metadata: Message) -> list[dict[str, Any]]:
    """As the package says it: an expression (PEP 639), else classifiers, else a line of text."""
    if expression := (metadata.get("License-Expression") or "").strip():
        return [{"expression": expression}]
    names = [each.removeprefix(_LICENSE) for each in metadata.get_all("Classifier", []) if each.startswith(_LICENSE)]
    said = (metadata.get("License") or "").strip()
    if not names and said and "\n" not in said:
        names = [said]
    return [{"license": {"name": name}} for name in dict.fromkeys(names)]


def _dependencies(manifest: Manifest, wheels: Sequence[Wheel]) -> list[dict[str, Any]]:
    """Who requires whom on the target, of what is inside; the wheelhouse itself what the source asked for."""
    refs = {wheel.name: purl(wheel.name, wheel.version) for wheel in wheels}
    requested = {wheel.name for wheel in manifest.wheels if wheel.requested}
    edges = _required(wheels, manifest.target, requested)
    first = {"ref": "wheelhouse", "dependsOn": sorted(refs[name] for name in requested & refs.keys())}
    return [first] + [
        {"ref": ref, "dependsOn": sorted(refs[name] for name in edges[wheel] if name in refs and name != wheel)}
        for wheel, ref in sorted(refs.items())
    ]


def required_by(wheels: Sequence[Wheel], target: Target, requested: Mapping[str, str]) -> dict[str, list[str]]:
    """Who requires each package, by name; ``requested`` says who asked for what the source names itself."""
    edges = _required(wheels, target, requested.keys())
    return {
        wheel.name: [
            *([requested[wheel.name]] if wheel.name in requested else []),
            *sorted(other for other, names in edges.items() if wheel.name in names),
        ]
        for wheel in wheels
    }


def _required(wheels: Sequence[Wheel], target: Target, requested: Iterable[str]) -> dict[str, set[str]]:
    """What each package requires on the target.

    Of its extras those count that another package asks for; what the source asked for is not kept, so of a package that
    it names itself each one does.
    """
    asked = {(canonicalize_name(one.name), extra) for wheel in wheels for one in wheel.requires for extra in one.extras}
    environment, requested = target.environment(), set(requested)
    found: dict[str, set[str]] = {}
    for wheel in wheels:
        declared = _metadata(wheel).get_all("Provides-Extra", [])
        extras = [extra for extra in declared if wheel.name in requested or (wheel.name, extra) in asked]
        found[wheel.name] = {
            canonicalize_name(one.name)
            for one in wheel.requires
            if one.marker is None or any(one.marker.evaluate({**environment, "extra": each}) for each in ("", *extras))
        }
    return found
