"""One file of a store: rows of arrays in safetensors, which say themselves what they are.

The metadata hold the store's `about`, the signals' codecs, and a SHA-256 of all arrays. A shard
becomes visible when it is whole; its arrays are mapped into memory, not read.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from limbeck.errors import LimbeckError
from limbeck.store.places import Local, Place

KINDS = {
    f"{letter}{8 * size}": np.dtype(f"<{kind}{size}").str
    for letter, kind, sizes in (
        ("U", "u", (1, 2, 4, 8)),
        ("I", "i", (1, 2, 4, 8)),
        ("F", "f", (2, 4, 8)),
    )
    for size in sizes
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
    """A shard: what it says of itself, and its arrays, which are mapped when they are asked for."""

    place: Place
    told: dict[str, Any]
    entries: dict[str, Any]
    start: int

    @classmethod
    def open(cls, place: Place, name: str) -> "Shard":
        """Reads what a shard says of itself.

        Raises:
            LimbeckError: a file that cannot be read, is damaged or cut short, or has another's
                name.
        """
        path = f"{place}/{name}"
        try:
            told, entries, start = header(place, name)
        except OSError as error:
            raise LimbeckError(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, LimbeckError):
                raise
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
        return cls(place, told, entries, start)

    @property
    def name(self) -> str:
        return self.told["name"]

    @property
    def path(self) -> str:
        return f"{self.place}/{self.name}"

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, by name."""
        memory = memoryview(self.place.whole(self.name))[self.start :]
        return {name: shaped(memory, entry) for name, entry in self.entries.items()}

    def one(self, name: str) -> NDArray[Any]:
        """One array, without the others where those are far away."""
        if "arrays" in self.__dict__ or isinstance(self.place, Local):
            return self.arrays[name]
        entry = self.entries[name]
        first, last = (self.start + offset for offset in entry["data_offsets"])
        part = self.place.part(self.name, first, last)
        return shaped(memoryview(part), {**entry, "data_offsets": [0, last - first]})

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
        return self.entries["view"]["shape"][0]

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where the tokens of each row begin, and the end of all."""
        return np.concatenate(([0], np.cumsum(self.arrays["length"], dtype=np.int64)))


def header(place: Place, name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """What a shard says, its arrays, and where they begin; raises ValueError if it is not whole."""
    size, length = place.size(name), place.part(name, 0, 8)
    start = 8 + int.from_bytes(length, "little")
    if start > size:
        raise ValueError(f"a header of {start} bytes in a file of {size}")
    entries = json.loads(place.part(name, 8, start))
    metadata = entries.pop("__metadata__")
    if of_text(metadata["limbeck"]) != metadata["digest"]:
        raise ValueError("other metadata than were written")
    told = json.loads(metadata["limbeck"])
    found = {key: [KINDS[entry["dtype"]], entry["shape"]] for key, entry in entries.items()}
    if found != told["arrays"]:
        raise ValueError("other arrays than were written")
    end = start + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    if end != size or not all(map(fits, entries.values())):
        raise ValueError(f"{size} bytes instead of {end}")
    return told, entries, start


def fits(entry: Mapping[str, Any]) -> bool:
    """Whether an array has as many bytes as its kind and shape say."""
    first, last = entry["data_offsets"]
    return last - first == math.prod(entry["shape"]) * np.dtype(KINDS[entry["dtype"]]).itemsize


def shaped(memory: memoryview, entry: Mapping[str, Any]) -> NDArray[Any]:
    first, last = entry["data_offsets"]
    kind = np.dtype(KINDS[entry["dtype"]])
    return np.frombuffer(memory[first:last], kind).reshape(entry["shape"])
