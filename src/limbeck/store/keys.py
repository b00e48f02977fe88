"""What a row of a store is of: a sample, by number or by content, in a view.

A key is 128 bits as two words (R, 2): the number of a sample and 0, or a hash of its content. The
hash is the same in every process and on every machine.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import LimbeckError

Keys = NDArray[np.uint64]
Views = NDArray[np.int64]


def by_number(ids: ArrayLike) -> Keys:
    """Keys of samples that have numbers.

    >>> by_number([7]).tolist()
    [[7, 0]]
    """
    numbers = np.asarray(ids)
    if numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0):
        raise LimbeckError(f"ids must be whole numbers from 0 on, got {numbers.min()}")
    words = numbers.astype(np.uint64).reshape(-1, 1)
    return np.concatenate((words, np.zeros_like(words)), -1)


def by_content(contents: Iterable[str | bytes | NDArray[Any]]) -> Keys:
    """Keys of samples by what they hold: texts, bytes, arrays of token ids.

    >>> bool((by_content(["a"]) == by_content([b"a"])).all())
    True
    """
    digests = [hashlib.blake2b(as_bytes(each), digest_size=16).digest() for each in contents]
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2).astype(np.uint64)


def as_bytes(content: str | bytes | NDArray[Any]) -> bytes:
    """Bytes that say what `content` is, whatever the width of its integers."""
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, bytes):
        return content
    array = np.asarray(content)
    if array.dtype.kind in "iu":
        array = array.astype("<i8")
    return np.ascontiguousarray(array).tobytes()


def named(key: NDArray[np.uint64]) -> str:
    """A key as people read it: the sample's number, or its hash.

    >>> named(np.array([7, 0], np.uint64))
    '7'
    """
    low, high = (int(word) for word in key)
    return f"{low}" if not high else f"{high:016x}{low:016x}"


class Index:
    """Where the row of a key in a view is: sorted once, looked up for many at a time."""

    def __init__(self, keys: Keys, views: Views) -> None:
        self.tables: dict[int, tuple[Keys, Views]] = {}
        for view in np.unique(views):
            rows = np.flatnonzero(views == view)
            order = np.lexsort((keys[rows, 1], keys[rows, 0]))
            self.tables[int(view)] = keys[rows[order]], rows[order]
        self.rows = len(keys)

    def find(self, keys: Keys, views: Views) -> NDArray[np.int64]:
        """Row numbers (R,) of the keys in their views, -1 where there is none."""
        found = np.full(len(keys), -1, np.int64)
        for view in np.unique(views):
            known, rows = self.tables.get(int(view), (np.zeros((0, 2), np.uint64), views[:0]))
            asked = np.flatnonzero(views == view)
            place = np.searchsorted(known[:, 0], keys[asked, 0])
            while asked.size:  # once, unless keys share their first word
                inside = place < len(known)
                asked, place = asked[inside], place[inside]
                asked, place = (x[known[place, 0] == keys[asked, 0]] for x in (asked, place))
                hit = known[place, 1] == keys[asked, 1]
                found[asked[hit]] = rows[place[hit]]
                asked, place = asked[~hit], place[~hit] + 1
        return found
