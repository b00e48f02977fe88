"""The sigmoid losses once more, as loops over numbers; classes come last."""

import math

import numpy as np
from tests.losses.oracles import Array, _mean


def binary_kl(
    s: Array,
    t: Array,
    temperature: float = 1.0,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """T^2 times the mean over items of both outcomes' log ratios, under the source."""

    def item(i: tuple[int, ...]) -> float:
        terms = []
        for a, b in zip(t[i] / temperature, s[i] / temperature, strict=True):
            for sign in (1, -1):
                p = math.exp(_log_sigmoid(sign * a))
                terms.append(p * (_log_sigmoid(sign * a) - _log_sigmoid(sign * b)))
        return math.fsum(terms)

    return temperature**2 * _mean(item, s.shape[:-1], mask, weight, count)


def binary_cross_entropy(
    s: Array,
    target: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Targets of -100 are left out; an item with nothing else is no item."""
    valid = np.ones(s.shape[:-1], bool) if mask is None else mask.copy()
    for i in np.ndindex(s.shape[:-1]):
        valid[i] &= any(y != -100 for y in target[i])

    def item(i: tuple[int, ...]) -> float:
        return math.fsum(
            -y * _log_sigmoid(z) - (1 - y) * _log_sigmoid(-z)
            for y, z in zip(target[i], s[i], strict=True)
            if y != -100
        )

    return _mean(item, s.shape[:-1], valid, weight, count)


def binary_hard(
    s: Array,
    t: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """The source's decisions are the labels."""
    decided = np.array([float(z > 0) for z in t.ravel()]).reshape(t.shape)
    return binary_cross_entropy(s, decided, mask, weight, count)


def squared_error(
    s: Array,
    t: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Every number is an item, unless its target is NaN."""
    valid = np.ones(s.shape, bool) if mask is None else mask.copy()
    for i in np.ndindex(s.shape):
        valid[i] &= not math.isnan(t[i])
    return _mean(lambda i: float(s[i] - t[i]) ** 2, s.shape, valid, weight, count)


def _log_sigmoid(z: float) -> float:
    return min(z, 0.0) - math.log1p(math.exp(-abs(z)))
