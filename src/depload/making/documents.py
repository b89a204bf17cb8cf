"""What a wheelhouse says of itself: its documents, and the facts of a conversion that they are made of."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from depload.making.indexes import shown
from depload.published import provenance, sbom
from depload.published.provenance import Circumstances
from depload.standards import digests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from depload.making.indexes import IndexOptions
    from depload.making.policy import Policy
    from depload.published.wheelhouse import Ingredient, Manifest


def written(manifest: Manifest, ingredients: Sequence[Ingredient], about: Circumstances) -> dict[str, str]:
    """The documents, by the names that they have inside."""
    return {
        sbom.MEMBER: sbom.write(manifest, ingredients),
        provenance.MEMBER: provenance.write(manifest, ingredients, about),
    }


def about(
    extent: Sequence[Path],
    *,
    options: IndexOptions,
    policy: Policy,
    constraints: Sequence[Path],
    tools: Mapping[str, str],
    more: Mapping[str, Any],
) -> Circumstances:
    """The facts of a conversion, without credentials and directories of this machine.

    ``extent`` is the source and what it leads to beside it; ``more`` are further options by name. Options that are as
    they are by default are left out.
    """
    first, *beside = extent
    asked = {
        **options.public(),
        **more,
        **asdict(policy),
        **{name: [shown(entry) for entry in getattr(policy, name)] for name in ("allow", "deny")},
        "audit": shown(policy.audit) if policy.audit else None,
    }
    return Circumstances(
        source=first.name,
        digest=digests.of(first),
        options={key: value for key, value in sorted(asked.items()) if value not in (None, False, (), [])},
        beside={path.name: digests.of(path) for path in (*beside, *constraints)},
        tools=tools,
    )
