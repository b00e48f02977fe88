"""Writing a store: rows in any order, by any number of processes, from where one was killed."""

import secrets
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.counters import scramble, uniforms
from limbeck.errors import LimbeckError
from limbeck.store.codec import Arrays, Codec, Coded, Draws, Shape
from limbeck.store.errors import Error, pooled
from limbeck.store.kept import Kept
from limbeck.store.keys import Keys, Views, named
from limbeck.store.manifest import write_manifest
from limbeck.store.places import Place
from limbeck.store.shards import is_shard, shard_name, write_shard
from limbeck.store.store import Store, same_store

SHARD_BYTES = 1 << 27
LOOKS = 64  # rows of a batch on which it is measured what a codec loses


class Writer:
    """Adds rows to a store; several writers, here and elsewhere, need not know of each other.

    Each owns the names of its shards. A shard is written when it is full, or after some seconds,
    and can be read from then on; what a killed writer had not written yet is all that is lost.
    Leaving the `with` block writes what is left.

    Args:
        place: where; made if it is not there.
        about: what the rows depend on, as JSON can hold it: teacher, data, views, versions.
        codecs: of each signal.
        tokens: the signals that have a row for each token.
        seed: of the classes that codecs draw.
        shard_bytes: size of a shard.
        seconds: the longest time that a row waits.

    Raises:
        LimbeckError: a store that is about something else or keeps other signals; a NaN; rows of
            another shape; a signal that its codec is not for.
    """

    def __init__(
        self,
        place: Place,
        about: Mapping[str, Any],
        codecs: Mapping[str, Codec],
        *,
        tokens: tuple[str, ...] = (),
        seed: int = 0,
        shard_bytes: int = SHARD_BYTES,
        seconds: float = 60.0,
    ) -> None:
        self.place, self.about, self.codecs, self.tokens = place, dict(about), codecs, tokens
        self.seed, self.shard_bytes, self.seconds = seed, shard_bytes, seconds
        self.before = Store(place) if any(map(is_shard, place.names())) else None
        self.kept: dict[str, Kept] = {}
        if self.before is not None:
            same_store(f"{place}", self.before.about, self.about)
            self.kept = self.before.kept
            self.check_codecs(self.before)
        place.prepare()
        self.name, self.number = secrets.token_hex(8), 0
        self.empty()

    def empty(self) -> None:
        self.rows: list[dict[str, NDArray[Any]]] = []
        self.errors: list[tuple[int, Error]] = []
        self.bytes, self.begun = 0, 0.0

    def check_codecs(self, before: Store) -> None:
        theirs = {name: (kept.codec, kept.tokens) for name, kept in before.kept.items()}
        ours = {name: (codec, name in self.tokens) for name, codec in self.codecs.items()}
        if theirs != ours:
            raise LimbeckError(
                f"{self.place} keeps {told(theirs)}, got {told(ours)}; write to another place"
            )

    def known(self, keys: Keys, views: Views) -> NDArray[np.bool_]:
        """Which rows (R,) were there when the writer began."""
        if self.before is None:
            return np.zeros(len(keys), bool)
        return self.before.index.find(keys, views) >= 0

    def add(
        self,
        keys: Keys,
        views: Views,
        signals: Mapping[str, Tensor],
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        """Takes rows: signals (R, ...), those of tokens (sum of lengths, ...)."""
        coded: dict[str, Coded] = {}
        self.check_rows(keys, views, signals, lengths)
        for name, codec in self.codecs.items():
            owners = self.owners(name, len(keys), lengths)
            x = self.checked(name, signals[name], keys, owners)
            arrays = codec.encode(x, draws_of(self.seed, keys, views, owners))
            coded[name] = Coded(arrays, tuple(x.shape[1:]), lost(codec, x[:LOOKS], arrays))
        self.add_coded(keys, views, coded, lengths)

    def add_coded(
        self,
        keys: Keys,
        views: Views,
        signals: Mapping[str, Coded],
        lengths: NDArray[np.int64] | None = None,
    ) -> None:
        """Takes rows that are coded already, such as `TopK.from_sparse` makes them."""
        self.check_rows(keys, views, signals, lengths)
        if not len(keys):
            return
        if not self.rows:
            self.begun = time.monotonic()
        arrays: dict[str, NDArray[Any]] = {"key": keys.copy(), "view": views.astype(np.int32)}
        if self.tokens and lengths is not None:
            arrays["length"] = lengths.astype(np.int32)
        for name in self.codecs:
            rows = len(self.owners(name, len(keys), lengths))
            self.same_shape(name, signals[name].shape)
            for part, array in signals[name].arrays.items():
                promised(name, rows, len(array))
                arrays[f"{name}/{part}"] = array
        self.rows.append(arrays)
        self.errors.append((len(keys), {name: signals[name].error for name in self.codecs}))
        self.bytes += sum(array.nbytes for array in arrays.values())
        if self.bytes >= self.shard_bytes or time.monotonic() - self.begun >= self.seconds:
            self.flush()

    def check_rows(
        self,
        keys: Keys,
        views: Views,
        signals: Mapping[str, Any],
        lengths: NDArray[np.int64] | None,
    ) -> None:
        """Raises LimbeckError unless there are as many views, lengths and signals as there must."""
        promised("views", len(keys), len(views))
        if self.tokens and lengths is not None:
            promised("lengths", len(keys), len(lengths))
        missing = [name for name in self.codecs if name not in signals]
        if missing:
            raise LimbeckError(f"the store keeps {list(self.codecs)}, but {missing} did not come")

    def owners(
        self, name: str, samples: int, lengths: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """The sample of each row of a signal."""
        if name not in self.tokens:
            return np.arange(samples)
        if lengths is None:
            raise LimbeckError(f"{self.tokens} have rows for tokens: give the lengths")
        return np.repeat(np.arange(samples), lengths)

    def same_shape(self, name: str, shape: Shape) -> None:
        """Raises LimbeckError for a row of another shape than the first, or that does not code."""
        kept = Kept(self.codecs[name], shape, name in self.tokens)
        if name not in self.kept:
            kept.codec.check(shape)
            self.kept = {**self.kept, name: kept}
        if self.kept[name].shape != shape:
            raise LimbeckError(
                f"{name}: a row of this store is {self.kept[name].shape}, got {shape}"
            )

    def checked(self, name: str, signal: Tensor, keys: Keys, owners: NDArray[np.int64]) -> Tensor:
        """A signal's rows in float32 on the CPU, after a look at them."""
        x = signal.detach().float().cpu().contiguous()
        promised(name, len(owners), len(x))
        self.same_shape(name, tuple(x.shape[1:]))
        codec = self.codecs[name]
        rows = x.flatten(1) if x.ndim > 1 else x[:, None]
        bad = rows.isnan() | rows.isposinf() | (rows.isneginf() & (not codec.masks))
        if codec.masks and x.ndim > 1:
            bad |= rows.isneginf().all(-1, keepdim=True)
        if bool(bad.any()):
            row, entry = bad.nonzero()[0].tolist()
            raise LimbeckError(
                f"{name} of sample {named(keys[owners[row]])} is not finite at entry {entry}; the "
                "teacher or its input is broken there"
            )
        return x

    def flush(self) -> None:
        """Writes what has come as a shard."""
        if not self.rows:
            return
        arrays = {name: np.concatenate([row[name] for row in self.rows]) for name in self.rows[0]}
        says = {
            "about": self.about,
            "signals": {name: kept.as_json() for name, kept in self.kept.items()},
            "error": pooled(self.errors),
        }
        write_shard(self.place, shard_name(self.name, self.number), arrays, says)
        self.number += 1
        self.empty()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.flush()
        if any(map(is_shard, self.place.names())):
            write_manifest(self.place)


def draws_of(seed: int, keys: Keys, views: Views, owners: NDArray[np.int64]) -> Draws:
    """Uniform numbers of each row (R,): a function of seed, key, view and position.

    Args:
        owners: the place (R,) of each row's sample among the keys, ascending.
    """
    firsts = np.searchsorted(owners, owners)
    counter = (views[owners].astype(np.uint64) << np.uint64(32)) + (
        np.arange(len(owners)) - firsts
    ).astype(np.uint64)
    ids = keys[owners, 0] ^ scramble(keys[owners, 1])
    return lambda n: uniforms(seed, counter, ids, n)


def told(kept: Mapping[str, tuple[Codec, bool]]) -> dict[str, str]:
    """Codecs by signal, for an error."""
    return {name: f"{codec}{' of tokens' * tokens}" for name, (codec, tokens) in kept.items()}


def promised(name: str, rows: int, got: int) -> None:
    if got != rows:
        raise LimbeckError(f"{name}: {rows} rows were promised, got {got}")


def lost(codec: Codec, x: Tensor, coded: Arrays) -> dict[str, float]:
    """What a codec loses of the first rows that it has coded."""
    if not len(x):
        return {}
    first = {part: array[: len(x)] for part, array in coded.items()}
    return codec.error(x, codec.decode(first, tuple(x.shape[1:])))
