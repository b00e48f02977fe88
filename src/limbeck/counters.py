"""Random numbers that are a function of what they are for, never of what was drawn before.

SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195) keyed by (seed, counter, id):
the same sample in the same epoch gets the same numbers in any batch, worker or resumed run.
"""

import functools
import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]

GOLDEN = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
LOW_64 = (1 << 64) - 1


def scramble(x: Words) -> Words:
    """The finaliser of SplitMix64: a bijection of 64-bit words."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def derive(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose, so that the crop says nothing about the flip.

    >>> derive(0, "crop") == derive(0, "crop"), derive(0, "crop") == derive(0, "flip")
    (True, False)
    """
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def words(seed: int, counter: ArrayLike, ids: ArrayLike) -> Words:
    """One word of 64 bits for each id; `counter` is one number or one for each id."""
    key = scramble(np.array([seed & LOW_64], dtype=np.uint64) + GOLDEN)
    key = scramble(key + GOLDEN * np.atleast_1d(np.asarray(counter)).astype(np.uint64))
    return scramble(key + GOLDEN * np.atleast_1d(np.asarray(ids)).astype(np.uint64))


def uniforms(seed: int, counter: ArrayLike, ids: ArrayLike, n: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shape (len(ids), n), with 53 random bits each.

    Row i is a function of (seed, counter, ids[i]) alone, where `counter` is one number or one for
    each id. A longer row starts with the shorter one.

    >>> together = uniforms(0, 3, [5, 9], 2)
    >>> bool((uniforms(0, 3, [9], 2)[0] == together[1]).all())
    True
    """
    stream = GOLDEN * np.arange(1, n + 1, dtype=np.uint64)
    bits = scramble(words(seed, counter, ids)[:, None] + stream)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> NDArray[np.int64]:
    """The order of n samples in an epoch: int64 (n,), read-only, since it is kept for reuse.

    >>> sorted(permutation(0, 1, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    order = np.argsort(words(seed, epoch, np.arange(n)), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order
