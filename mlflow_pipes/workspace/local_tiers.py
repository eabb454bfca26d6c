"""Local tiers of targets, as the configuration says: copies of blobs on the machines that do the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlflow_pipes.errors import ConfigurationError

if TYPE_CHECKING:
    from mlflow_pipes.ports import Datastore

LOCAL_TIER_BYTES = 10 * 2**30
"""What a tier may occupy of which nothing is said."""


def with_local_tier(options: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
    """Return what makes a target: its options, with what they say of a local tier made a datastore of its workers."""
    made = dict(options)
    place = made.pop("local_tier", "")
    most_bytes = made.pop("local_tier_bytes", LOCAL_TIER_BYTES)
    if place:
        from mlflow_pipes.stores.tiered import TierThere

        made["there"] = TierThere(datastore, place, most_bytes)
    return made


def check_local_tier(options: Mapping[str, Any]) -> None:
    """Raise ``ConfigurationError`` for a tier that can be nowhere."""
    place = options.get("local_tier")
    if place is None:
        if "local_tier_bytes" in options:
            raise ConfigurationError("`local_tier_bytes` is the size of a local tier: name its folder, `local_tier`")
        return
    if not place.startswith(("/", "~", "$")):
        raise ConfigurationError(
            f"local_tier = {place!r} is a folder of each worker's machine: begin it with /, ~ or a variable ($TMPDIR)"
        )
