"""The manifest: what a store's shards say of themselves, in one file that a scan can rebuild."""

import json
from collections.abc import Mapping
from typing import Any

from limbeck.store.place import Place
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
            {"name": shard.told["name"], "rows": shard.rows, "digest": shard.told["digest"]}
            for shard in shards
        ],
    }


def write_manifest(place: Place) -> None:
    """Writes the manifest of the shards that are there now."""
    content = json.dumps(manifest_of(shards_of(place)), indent=1)
    place.write(MANIFEST, (content + "\n").encode())


def read_manifest(place: Place) -> dict[str, Any] | None:
    """The manifest, or None where there is none."""
    return json.loads(bytes(place.read(MANIFEST))) if MANIFEST in place.names() else None
