"""Whole numbers in as few bits as they need, rows at once.

R rows, K numbers in a row. Bits are little-endian, and a row ends at a whole byte, so that every
row of one kind has the same number of bytes and any row can be read alone.
"""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


def width_of(n: int) -> int:
    """Bits for the numbers below n.

    >>> [width_of(n) for n in (1, 2, 128, 129)]
    [0, 1, 7, 8]
    """
    return (n - 1).bit_length()


def pack(x: Numbers, width: int) -> Bytes:
    """Numbers (R, K) of `width` bits each as bytes (R, ceil(K * width / 8)).

    >>> unpack(pack(np.array([[5, 0, 7]]), 3), 3, 3)
    array([[5, 0, 7]])
    """
    return np.packbits(low_bits(x, width), axis=-1, bitorder="little")


def low_bits(x: Numbers, width: int) -> NDArray[np.bool_]:
    """The `width` low bits of numbers (R, K), one after another (R, K * width)."""
    bits = (x[..., None] >> np.arange(width) & 1).astype(bool)
    return bits.reshape(len(x), x.shape[1] * width)


def unpack(x: Bytes, width: int, k: int) -> Numbers:
    """The K numbers of each row that `pack` wrote."""
    if not width:
        return np.zeros((len(x), k), np.int64)
    bits = np.unpackbits(x, axis=-1, count=k * width, bitorder="little").reshape(len(x), k, width)
    whole = np.zeros((len(x), k, 64 if width > 32 else 32), np.uint8)
    whole[..., :width] = bits
    words = np.packbits(whole, axis=-1, bitorder="little")
    return words.view("<u8" if width > 32 else "<u4")[..., 0].astype(np.int64)


def low_width(k: int, n: int) -> int:
    """How many low bits `pack_sorted` stores as they are: log2(n / k), rounded down."""
    return max(n // max(k, 1), 1).bit_length() - 1


def pack_sorted(x: Numbers, n: int) -> Bytes:
    """Ascending numbers (R, K) in 0 ... n - 1, in about half a bit more each than they must have.

    Elias-Fano: the low bits of each as they are, and the high parts as marks on a line, which holds
    a 1 for each number and a 0 for each step up; about K * (2 + log2(n / K)) bits.

    >>> ids = np.array([[3, 70_000, 128_255]])
    >>> packed = pack_sorted(ids, 128_256)
    >>> packed.shape, unpack_sorted(packed, 3, 128_256)
    ((1, 7), array([[     3,  70000, 128255]]))
    """
    k = x.shape[-1]
    low = low_width(k, n)
    line = np.zeros((len(x), k + (n - 1 >> low)), bool)
    np.put_along_axis(line, (x >> low) + np.arange(k), True, -1)
    whole = np.concatenate((low_bits(x, low), line), -1)
    return np.packbits(whole, axis=-1, bitorder="little")


def unpack_sorted(x: Bytes, k: int, n: int) -> Numbers:
    """The K numbers of each row that `pack_sorted` wrote."""
    low = low_width(k, n)
    bits = np.unpackbits(x, axis=-1, count=k * low + k + (n - 1 >> low), bitorder="little")
    marks = np.nonzero(bits[:, k * low :])[1].reshape(len(x), k)
    lows = np.packbits(bits[:, : k * low], axis=-1, bitorder="little")
    return (marks - np.arange(k) << low) + unpack(lows, low, k)
