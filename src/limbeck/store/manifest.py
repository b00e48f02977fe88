"""The manifest: what a store's shards say of themselves, in one file that a scan can rebuild."""

import json
from collections.abc import Mapping
from typing import Any

from limbeck.store.places import Place
from limbeck.store.shards import Shard, is_shard

MANIFEST = "manifest.json"


def shards_of(place: Place) -> list[Shard]:
    """All shards of a place, opened."""
    return [Shard.open(place, name) for name in place.names() if is_shard(name)]


def manifest_of(shards: list[Shard]) -> dict[str, Any]:
    """What a manifest says of these shards."""
    first: Mapping[str, Any] = shards[0].told if shards else {}
    return {
        "schema": 1,
        "about": first.get("about", {}),
        "signals": first.get("signals", {}),
        "shards": [
            {"name": shard.name, "rows": shard.rows, "digest": shard.told["digest"]}
            for shard in shards
        ],
    }


def write_manifest(place: Place, shards: list[Shard] | None = None) -> None:
    """Writes the manifest of these shards, or of all that are there now."""
    content = json.dumps(manifest_of(shards_of(place) if shards is None else shards), indent=1)
    place.write(MANIFEST, (content + "\n").encode())


def listed(place: Place) -> dict[str, str]:
    """The digests of the shards that the manifest lists; none where it is gone or damaged."""
    if MANIFEST not in place.names():
        return {}
    try:
        document = json.loads(bytes(place.part(MANIFEST, 0, place.size(MANIFEST))))
        return {shard["name"]: shard["digest"] for shard in document["shards"]}
    except (ValueError, KeyError, TypeError):
        return {}
