"""The sigmoid losses once more, as loops over numbers; classes come last.

`items` are the mask, weight and count of `tests.losses.oracles`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tests.losses.oracles import Array, _mean


def binary_kl(s: Array, t: Array, temperature: float = 1.0, **items: Any) -> float:
    """T^2 times the mean over items of both outcomes' log ratios, under the source."""

    def item(i: tuple[int, ...]) -> float:
        terms = []
        for a, b in zip(t[i] / temperature, s[i] / temperature, strict=True):
            for sign in (1, -1):
                p = math.exp(_log_sigmoid(sign * a))
                terms.append(p * (_log_sigmoid(sign * a) - _log_sigmoid(sign * b)))
        return math.fsum(terms)

    return temperature**2 * _mean(item, s.shape[:-1], **items)


def binary_cross_entropy(s: Array, target: Array, **items: Any) -> float:
    """Targets of -100 are left out; an item with nothing else is no item."""

    def item(i: tuple[int, ...]) -> float:
        return math.fsum(
            -y * _log_sigmoid(z) - (1 - y) * _log_sigmoid(-z)
            for y, z in zip(target[i], s[i], strict=True)
            if y != -100
        )

    shape = s.shape[:-1]
    return _mean(item, shape, **_only(lambda i: any(y != -100 for y in target[i]), shape, items))


def binary_hard(s: Array, t: Array, **items: Any) -> float:
    """The source's decisions are the labels."""
    decided = np.array([float(z > 0) for z in t.ravel()]).reshape(t.shape)
    return binary_cross_entropy(s, decided, **items)


def squared_error(s: Array, t: Array, **items: Any) -> float:
    """Every number is an item, unless its target is NaN."""
    items = _only(lambda i: not math.isnan(t[i]), s.shape, items)
    return _mean(lambda i: float(s[i] - t[i]) ** 2, s.shape, **items)


def _only(
    known: Callable[[tuple[int, ...]], bool], shape: tuple[int, ...], items: dict[str, Any]
) -> dict[str, Any]:
    """The items' keywords, where those that are not known are masked."""
    valid = np.array([known(i) for i in np.ndindex(shape)]).reshape(shape)
    return items | {"mask": valid & items.get("mask", True)}


def _log_sigmoid(z: float) -> float:
    return min(z, 0.0) - math.log1p(math.exp(-abs(z)))
