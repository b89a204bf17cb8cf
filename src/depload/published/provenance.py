"""Where a wheelhouse comes from: an in-toto statement with SLSA's provenance (slsa.dev/spec/v1.0/provenance).

It stands inside the wheelhouse, so it holds nothing that differs between two runs with the same outcome: no times, no
host, no path, no credentials. Those of the run stand in the manifest of its run path. It is not signed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from depload._version import __version__
from depload.published import sbom
from depload.standards import wheels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from depload.published.wheelhouse import Ingredient, Manifest

MEMBER = "provenance.json"
"""What it is called in a wheelhouse."""
BUILD_TYPE = "urn:depload:convert:v1"
"""What the parameters mean is said in docs/supply-chain.md."""


@dataclass(frozen=True)
class Circumstances:
    """How a conversion came about, as far as it is not seen from the wheels."""

    source: str
    """The name of the file or directory that was handed over."""
    digest: tuple[str, str]
    """Algorithm and hex digest of it."""
    options: Mapping[str, Any]
    """What it was asked for with, without credentials, as JSON has it."""
    beside: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Likewise of the constraints, and of what the source leads to beside it, by name."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """What resolved and what built: name and version by role."""


def write(manifest: Manifest, ingredients: Sequence[Ingredient], about: Circumstances) -> str:
    """The text of the statement: its subjects are the wheels and the .pyc files of the wheelhouse."""
    subjects = [_subject(each) for each in ingredients]
    subjects += [{"name": part.filename, "digest": {"sha256": part.sha256}} for part in manifest.bytecode]
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "source": _descriptor(about.source, *about.digest),
                    "target": {"python": manifest.target.python, "platform": manifest.target.platform},
                    "options": dict(about.options),
                },
                "internalParameters": dict(sorted(about.tools.items())),
                "resolvedDependencies": [
                    _descriptor(about.source, *about.digest),
                    *(_descriptor(name, *digest) for name, digest in sorted(about.beside.items())),
                    *(_material(each) for each in ingredients),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": sbom.purl("depload", __version__),
                    "version": {"depload": __version__, **_versions(about.tools)},
                },
                "byproducts": [_descriptor("pylock.toml", "sha256", manifest.others["pylock.toml"])],
            },
        },
    }
    return json.dumps(statement, indent=1) + "\n"


def _versions(tools: Mapping[str, str]) -> dict[str, str]:
    """Version by tool."""
    return dict(sorted((name, version) for name, _, version in (text.partition(" ") for text in tools.values())))


def _descriptor(name: str, algorithm: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {algorithm: digest}}


def _subject(ingredient: Ingredient) -> dict[str, Any]:
    """A wheel: where it came from and, where it was built here, of what and by which backend, as the wheel says it."""
    about: dict[str, Any] = {"from": sbom.place(ingredient.origin)}
    if ingredient.built_from is not None:
        about["builtFrom"] = dict([ingredient.built_from])
        about["backend"] = wheels.generator(ingredient.wheel.path)
    return {**_descriptor(ingredient.wheel.filename, "sha256", ingredient.wheel.sha256), "annotations": about}


def _material(ingredient: Ingredient) -> dict[str, Any]:
    """What came from elsewhere, or out of the source: a wheel as it was, or what it was built from."""
    wheel, origin = ingredient.wheel, sbom.place(ingredient.origin)
    found = _descriptor(wheel.filename, *(ingredient.built_from or ("sha256", wheel.sha256)))
    if ingredient.built_from is not None:
        found["name"] = origin.rpartition("/")[2] if sbom.is_address(origin) else origin.removeprefix("built from ")
    if sbom.is_address(origin):
        found |= {"uri": sbom.purl(wheel.name, wheel.version), "downloadLocation": origin}
    return {**found, **({"annotations": {"uploaded": ingredient.uploaded}} if ingredient.uploaded else {})}
