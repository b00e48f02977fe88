"""Reading a store: the rows of any samples in any views, whatever codec keeps them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import LimbeckError, close
from limbeck.store.kept import Kept
from limbeck.store.keys import Index, Keys, Views, named
from limbeck.store.manifest import listed, shards_of
from limbeck.store.places import Place
from limbeck.store.rows import Rows

MOST = 4  # differences that an error names


class Store:
    """A store, opened: all of its whole shards, whether or not a manifest lists them.

    Shards are mapped, and the bytes of each are checked when it is first read from.

    Args:
        place: where it is.
        whole: refuse a store from which a shard is gone that its manifest lists.

    Raises:
        LimbeckError: nothing there; a shard that is damaged, renamed, missing or of another store.

    Example:
        >>> import tempfile
        >>> from limbeck.store import Store, Writer, by_number, codec, place
        >>> folder = place(tempfile.mkdtemp())
        >>> keys, views = by_number([0, 1]), np.array([0, 0])
        >>> with Writer(folder, {"teacher": "t"}, {"output": codec("logits")}) as writer:
        ...     writer.add(keys, views, {"output": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})
        >>> Store(folder).read(keys[1:], views[1:])["output"]
        tensor([[3., 4.]])
    """

    def __init__(self, place: Place, *, whole: bool = True) -> None:
        self.place, self.shards = place, shards_of(place)
        if not self.shards:
            raise LimbeckError(f"{place} holds no shard of a store; limbeck store write makes one")
        first = self.shards[0].told
        self.about: dict[str, Any] = first["about"]
        self.kept = {name: Kept.from_json(told) for name, told in first["signals"].items()}
        for shard in self.shards[1:]:
            same_store(shard.path, self.about, shard.told["about"])
            same_store(shard.path, first["signals"], shard.told["signals"])
        if whole:
            self.check_manifest()
        self.rows = Rows(self.shards)

    def check_manifest(self) -> None:
        """Refuses a store from which a shard is gone, or in which one was replaced."""
        here = {shard.name: shard.told["digest"] for shard in self.shards}
        for name, digest in listed(self.place).items():
            if here.get(name) != digest:
                fault = "another file than the manifest lists" if name in here else "missing"
                raise LimbeckError(
                    f"{self.place}/{name} is {fault}; bring it back, or make do without it by "
                    f"limbeck store merge {self.place}"
                )

    def identity(self) -> Tensor:
        """A hash of what the store is about and how it keeps that, as bytes."""
        told = {"about": self.about, "signals": self.shards[0].told["signals"]}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()[:16]
        return torch.tensor(list(digest), dtype=torch.uint8)

    @cached_property
    def index(self) -> Index:
        """Where each row is."""
        return self.rows.index()

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    def read(
        self, keys: Keys, views: Views, names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Signals of samples (R, 2) in views (R,), in that order.

        A signal is under its own name, or what is left of it under names such as `output.index`.
        Those of tokens are (R, L, ...), zero behind each sample's own length, which is `length`.

        Raises:
            LimbeckError: a row or a signal that is not there, a shard with bytes that were changed.
        """
        if not len(keys):
            raise LimbeckError(f"no rows of {self.place} were asked for; give keys")
        rows = self.index.find(keys, views)
        missing = np.flatnonzero(rows < 0)
        if missing.size:
            for shard in self.shards:
                shard.checked()  # or a changed key would look like a missing row
            first = missing[0]
            raise LimbeckError(
                f"{self.place} has no row of sample {named(keys[first])} in view {views[first]}, "
                f"nor of {missing.size - 1} more of these {len(keys)}; write them first"
            )
        wanted = list(self.kept) if names is None else [self.known(name) for name in names]
        found: dict[str, Tensor] = {}
        for name in wanted:
            found |= self.signal(name, rows)
        if any(self.kept[name].tokens for name in wanted):
            found["length"] = torch.from_numpy(self.rows.lengths(rows))
        return found

    def signals(self) -> dict[str, str]:
        """The names under which `read` gives signals, each with that of the signal it is of."""
        return {name + end: name for name, kept in self.kept.items() for end in kept.codec.gives}

    def known(self, name: str) -> str:
        if name not in self.kept:
            raise LimbeckError(
                f"{self.place} keeps {list(self.kept)}, got {name!r}{close(name, self.kept)}"
            )
        return name

    def signal(self, name: str, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """What is left of one signal at these rows."""
        kept = self.kept[name]
        arrays = self.rows.signal(name, rows, kept.tokens)
        decoded = kept.codec.decode(arrays, kept.shape)
        if not kept.tokens:
            return {name + end: value for end, value in decoded.items()}
        lengths = self.rows.lengths(rows)
        return {name + end: padded(value, lengths) for end, value in decoded.items()}


def padded(tokens: Tensor, lengths: NDArray[np.int64]) -> Tensor:
    """Tokens (sum of lengths, ...) as (R, L, ...), zero behind each row's own."""
    longest = int(lengths.max(initial=0))
    whole = tokens.new_zeros(len(lengths), longest, *tokens.shape[1:])
    inside = torch.arange(longest)[None] < torch.from_numpy(lengths)[:, None]
    whole[inside] = tokens
    return whole


def same_store(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raises LimbeckError with what differs between what two parts of a store are about."""
    changed = list(differing(ours, theirs))
    if changed:
        more = f" and {len(changed) - MOST} more" if len(changed) > MOST else ""
        raise LimbeckError(
            f"{what} belongs to another store, which needs a place of its own: "
            f"{'; '.join(changed[:MOST])}{more}"
        )


def differing(ours: Any, theirs: Any, key: str = "") -> Iterator[str]:
    """What differs, innermost."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for inner in sorted({*ours, *theirs}):
            where = f"{key}.{inner}" if key else inner
            yield from differing(ours.get(inner), theirs.get(inner), where)
    elif ours != theirs:
        yield f"{key} {short(ours)} here, {short(theirs)} there"


def short(value: Any, most: int = 60) -> str:
    """A value in an error."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
