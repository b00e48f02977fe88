"""Keeping a store in order: what it holds, whether it is whole, fewer and fuller shards."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import LimbeckError
from limbeck.store.errors import Error, pooled
from limbeck.store.kept import Kept
from limbeck.store.keys import Keys, Views
from limbeck.store.manifest import write_manifest
from limbeck.store.places import Place
from limbeck.store.rows import Rows
from limbeck.store.shards import Shard, is_shard, shard_name, write_shard
from limbeck.store.store import Store, same_store
from limbeck.store.writer import SHARD_BYTES

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Summary:
    """What a store holds; bytes and errors are by signal, rows of tokens count each."""

    about: dict[str, Any]
    signals: dict[str, Kept]
    rows: int
    views: list[int]
    shards: int
    bytes: dict[str, int]
    bytes_a_row: dict[str, float]
    error: Error

    def document(self) -> dict[str, Any]:
        """As JSON can hold it."""
        signals = {name: kept.as_json() for name, kept in self.signals.items()}
        return {**vars(self), "signals": signals}


def summary(store: Store) -> Summary:
    """What a store holds, from what its shards say of themselves."""
    sizes = {name: sum(bytes_of(shard, name) for shard in store.shards) for name in store.kept}
    counts = {
        name: sum(rows_of(shard, kept) for shard in store.shards)
        for name, kept in store.kept.items()
    }
    return Summary(
        about=store.about,
        signals=store.kept,
        rows=len(store),
        views=np.unique(store.rows.every("view")).tolist(),
        shards=len(store.shards),
        bytes=sizes,
        bytes_a_row={name: sizes[name] / max(counts[name], 1) for name in sizes},
        error=pooled([(shard.rows, shard.told["error"]) for shard in store.shards]),
    )


def bytes_of(shard: Shard, name: str) -> int:
    """Bytes of a signal in a shard."""
    return sum(array.nbytes for key, array in shard.arrays.items() if key.startswith(f"{name}/"))


def rows_of(shard: Shard, kept: Kept) -> int:
    """How many samples a shard has, or tokens."""
    return int(shard.arrays["length"].sum()) if kept.tokens else shard.rows


def damaged(store: Store) -> list[str]:
    """Reads every byte: the shards that have others than were written."""
    return [shard.path for shard in store.shards if not shard.sound]


def merge(
    places: Sequence[Place],
    into: Place,
    *,
    keep: Callable[[Keys, Views], NDArray[np.bool_]] = lambda keys, views: np.ones(
        len(views), bool
    ),
    shard_bytes: int = SHARD_BYTES,
) -> Store:
    """Writes the rows of stores as one store, each row once, in full shards.

    `into` is new, or one of the places: then its old shards are removed when all new ones are
    there, so that a call that is killed loses nothing and can be made again. A row that several
    have is taken from the first.

    Args:
        keep: which rows (R,) stay, by keys and views; all unless given.

    Raises:
        LimbeckError: stores of different teachers, data or codecs; another store at `into`; a shard
            with changed bytes; no row left.
    """
    stores = [Store(place, whole=False) for place in places]
    first = stores[0]
    for other in stores[1:]:
        same_store(f"{other.place}", first.about, other.about)
        same_store(
            f"{other.place}", first.shards[0].told["signals"], other.shards[0].told["signals"]
        )
    before = [shard.name for s in stores if f"{s.place}" == f"{into}" for shard in s.shards]
    if not before and any(map(is_shard, into.names())):
        raise LimbeckError(f"{into} holds a store that is not one of these; name it too")
    rows = Rows([shard for store in stores for shard in store.shards])
    keys, views = rows.every("key"), rows.every("view")
    wanted = np.flatnonzero(keep(keys, views.astype(np.int64)))
    if not wanted.size:
        raise LimbeckError(f"{into} would hold no row; remove it instead")
    wanted = wanted[np.sort(firsts(keys[wanted], views[wanted]))]
    error = pooled([(shard.rows, shard.told["error"]) for shard in rows.shards])
    told = {"about": first.about, "signals": first.shards[0].told["signals"], "error": error}
    into.prepare()
    writer, names = secrets.token_hex(8), list[str]()
    for number, part in enumerate(portions(rows, wanted, shard_bytes)):
        names.append(shard_name(writer, number))
        write_shard(into, names[-1], raw(rows, part, first.kept), told)
    write_manifest(into, [Shard.open(into, name) for name in names])
    for name in before:
        into.remove(name)
    return Store(into)


def prune(place: Place, views: Sequence[int] = ()) -> Store:
    """Drops what killed writers left, rows that are there twice, and views that are not wanted.

    Nobody may be writing to the store meanwhile.

    Args:
        views: those to keep; all unless given.

    Raises:
        LimbeckError: a store from which a shard is gone; no row left.
    """
    Store(place)
    place.sweep()

    def wanted(keys: Keys, seen: Views) -> NDArray[np.bool_]:
        return np.isin(seen, views) if views else np.ones(len(seen), bool)

    return merge([place], place, keep=wanted)


def firsts(keys: Keys, views: Views) -> Numbers:
    """Where each key in each view comes first."""
    whole = np.column_stack((keys, views.astype(np.int64).view(np.uint64)))
    return np.unique(whole, axis=0, return_index=True)[1]


def portions(rows: Rows, wanted: Numbers, shard_bytes: int) -> Iterator[Numbers]:
    """Runs of rows that fill a shard each."""
    sizes = [
        sum(a.nbytes for a in shard.arrays.values()) / max(shard.rows, 1) for shard in rows.shards
    ]
    of = np.searchsorted(rows.starts, wanted, side="right") - 1
    ends = np.cumsum(np.asarray(sizes)[of])
    yield from np.split(wanted, np.flatnonzero(np.diff(ends // shard_bytes)) + 1)


def raw(rows: Rows, part: Numbers, signals: dict[str, Kept]) -> dict[str, NDArray[Any]]:
    """The arrays of these rows, as they are stored."""
    own = [name for name in ("key", "view", "length") if name in rows.shards[0].arrays]
    found = rows.gathered(own, part, tokens=False)
    for name, kept in signals.items():
        arrays = rows.signal(name, part, kept.tokens)
        found |= {f"{name}/{key}": array for key, array in arrays.items()}
    return found
