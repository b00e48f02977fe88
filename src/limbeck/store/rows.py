"""The rows of some shards, as if they were one file."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.store.keys import Index
from limbeck.store.shards import Shard


class Rows:
    """Rows by number, over all shards one after another; a shard is checked when first read."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        self.starts = np.cumsum([0, *(shard.rows for shard in shards)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def every(self, name: str) -> NDArray[Any]:
        """An array of all shards, those of rows and not of tokens."""
        return np.concatenate([shard.one(name) for shard in self.shards])

    def index(self) -> Index:
        """Where the row of each key and view is."""
        return Index(self.every("key"), self.every("view").astype(np.int64))

    def own(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """An array at these rows, not one of tokens."""
        return self.gathered([name], rows, tokens=False)[name]

    def signal(self, name: str, rows: NDArray[np.int64], tokens: bool) -> dict[str, NDArray[Any]]:
        """The arrays of a signal at these rows, without its name."""
        names = [key for key in self.shards[0].arrays if key.startswith(f"{name}/")]
        found = self.gathered(names, rows, tokens)
        return {key.removeprefix(f"{name}/"): array for key, array in found.items()}

    def lengths(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens each row has."""
        return self.own("length", rows).astype(np.int64)

    def gathered(
        self, names: Sequence[str], rows: NDArray[np.int64], tokens: bool
    ) -> dict[str, NDArray[Any]]:
        pieces: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        order: list[NDArray[np.int64]] = []
        firsts = starts_of(self.lengths(rows)) if tokens else rows
        for asked, shard, inside in self.by_shard(rows):
            if tokens:
                lengths = shard.arrays["length"][inside]
                asked, inside = (
                    spread(firsts[asked], lengths),
                    spread(shard.starts[inside], lengths),
                )
            order.append(asked)
            for name in names:
                pieces[name].append(shard.arrays[name][inside])
        if len(order) == 1:  # whose rows are in the order that was asked for
            return {name: parts[0] for name, parts in pieces.items()}
        place = np.argsort(np.concatenate(order), kind="stable")
        return {name: np.concatenate(parts)[place] for name, parts in pieces.items()}

    def by_shard(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], Shard, NDArray[np.int64]]]:
        """For each shard that is asked: which of the rows, the shard, where in it."""
        of = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(of):
            asked = np.flatnonzero(of == number)
            yield asked, self.shards[number].checked(), rows[asked] - self.starts[number]


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each begins if all stand one after another."""
    return np.cumsum(lengths) - lengths


def spread(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers start, start + 1, ... of each, as many as its length.

    >>> spread(np.array([10, 3]), np.array([2, 1])).tolist()
    [10, 11, 3]
    """
    return np.repeat(starts - starts_of(lengths), lengths) + np.arange(int(lengths.sum()))
