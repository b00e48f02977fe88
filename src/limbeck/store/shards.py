"""One file of a store: rows of arrays in safetensors, which say themselves what they are.

The metadata hold the store's `about`, the signals' codecs, and a SHA-256 of all arrays. A shard
becomes visible when it is whole; its arrays are mapped into memory, not read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from limbeck.errors import LimbeckError
from limbeck.store.place import Place

KINDS = {
    "BOOL": "?",
    **{f"U{8 * size}": f"<u{size}" for size in (1, 2, 4, 8)},
    **{f"I{8 * size}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
}
SCHEMA = 1
AGAIN = "remove it and write it again"


def is_shard(name: str) -> bool:
    return name.startswith("shard-") and name.endswith(".safetensors")


def shard_name(writer: str, number: int) -> str:
    """The name of a writer's shard, which no other writer has."""
    return f"shard-{writer}-{number:05}.safetensors"


def write_shard(
    place: Place, name: str, arrays: Mapping[str, NDArray[Any]], told: Mapping[str, Any]
) -> None:
    """Writes a shard; `told` is what it says of itself, as JSON can hold it."""
    whole = {key: np.ascontiguousarray(arrays[key]) for key in sorted(arrays)}
    head = json.dumps(
        {
            "schema": SCHEMA,
            "name": name,
            "arrays": layout(whole),
            "digest": digest(whole),
            **told,
        }
    )
    place.write(name, save(whole, {"limbeck": head, "digest": of_text(head)}))


def layout(arrays: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
    """Kind and shape of each array."""
    return {name: [array.dtype.str, list(array.shape)] for name, array in sorted(arrays.items())}


def of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over the bytes of arrays, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(arrays[name].reshape(-1).view(np.uint8).data)
    return found.hexdigest()


@dataclass(frozen=True)
class Shard:
    """A shard that was opened: its arrays, mapped, and what it says of itself."""

    path: str
    arrays: dict[str, NDArray[Any]]
    told: dict[str, Any]

    @classmethod
    def open(cls, place: Place, name: str) -> "Shard":
        """Maps a shard.

        Raises:
            LimbeckError: a file that is damaged or cut short, or has another's name.
        """
        path = f"{place}/{name}"
        try:
            told, arrays = unfolded(memoryview(place.read(name)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LimbeckError(
                f"{path} must be a whole shard of a store, but it is damaged or cut short "
                f"({error}); {AGAIN}"
            ) from error
        if told["schema"] > SCHEMA:
            raise LimbeckError(
                f"{path} was written by a newer limbeck (schema {told['schema']}, this one reads "
                f"up to {SCHEMA}); update limbeck"
            )
        if told["name"] != name:
            raise LimbeckError(
                f"{path} was written as {told['name']}: shards were renamed or swapped; "
                "give it its name back"
            )
        return cls(path, arrays, told)

    @cached_property
    def sound(self) -> bool:
        """Whether all arrays, read once, are those that were written."""
        return digest(self.arrays) == self.told["digest"]

    def checked(self) -> "Shard":
        """The shard itself.

        Raises:
            LimbeckError: bytes that are not those that were written.
        """
        if not self.sound:
            raise LimbeckError(f"{self.path} has other bytes than were written; {AGAIN}")
        return self

    @property
    def rows(self) -> int:
        return len(self.arrays["view"])

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where the tokens of each row begin, and the end of all."""
        return np.concatenate(([0], np.cumsum(self.arrays["length"], dtype=np.int64)))


def unfolded(memory: memoryview) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The metadata and the arrays of a safetensors file; raises ValueError if it is not whole."""
    start = 8 + int.from_bytes(memory[:8], "little")
    if start > len(memory):
        raise ValueError(f"a header of {start} bytes in a file of {len(memory)}")
    header = json.loads(bytes(memory[8:start]))
    metadata = header.pop("__metadata__")
    if of_text(metadata["limbeck"]) != metadata["digest"]:
        raise ValueError("other metadata than were written")
    end = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end != len(memory):
        raise ValueError(f"{len(memory)} bytes instead of {end}")
    told = json.loads(metadata["limbeck"])
    arrays = {name: mapped(memory, start, entry) for name, entry in header.items()}
    if layout(arrays) != told["arrays"]:
        raise ValueError("other arrays than were written")
    return told, arrays


def mapped(memory: memoryview, start: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    kind, shape = np.dtype(KINDS[entry["dtype"]]), entry["shape"]
    first, last = entry["data_offsets"]
    count = int(np.prod(shape, dtype=np.int64))
    if last - first != count * kind.itemsize:
        raise ValueError(f"an array of {shape} in {last - first} bytes")
    return np.frombuffer(memory, kind, count, start + first).reshape(shape)
