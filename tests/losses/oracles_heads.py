"""The losses of heads once more, as loops over numbers: slow, and sharing nothing with limbeck.

Items come first; `mask` and `weight` are of the items' full shape or None.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.losses.oracles_dense import average, kl, places, squared

Array = NDArray[Any]


def bckd_cls(
    s: Array,
    t: Array,
    beta: float = 1.0,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Items (..., K): cross-entropy of sigmoids times the power of how far apart they are."""

    def term(a: float, b: float) -> float:
        p, q = _sigmoid(b), _sigmoid(a)
        return abs(p - q) ** beta * -(p * math.log(q) + (1 - p) * math.log(_sigmoid(-a)))

    values = {
        i: math.fsum(term(a, b) for a, b in zip(s[i], t[i], strict=True))
        for i in np.ndindex(s.shape[:-1])
        if mask is None or mask[i]
    }
    return average(values, weight, count)


def giou(
    s: Array,
    t: Array,
    score: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Items (..., 4): one minus the generalised overlap, a mean by scores."""
    values = {
        i: 1 - _generalised(s[i], t[i]) for i in np.ndindex(s.shape[:-1]) if mask is None or mask[i]
    }
    return _scored(values, score, weight, count)


def bckd_giou(
    s: Array,
    t: Array,
    s_logits: Array,
    t_logits: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """As `giou`, the score being the largest disagreement about a class."""
    score = np.zeros(s.shape[:-1])
    for i in np.ndindex(score.shape):
        pairs = zip(s_logits[i], t_logits[i], strict=True)
        score[i] = max(abs(_sigmoid(a) - _sigmoid(b)) for a, b in pairs)
    return giou(s, t, score, mask, weight, count)


def ld(
    s: Array,
    t: Array,
    score: Array,
    temperature: float = 10.0,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Items (..., 4, bins): T^2 times the mean KL of the sides, a mean by scores."""
    values = {}
    for i in np.ndindex(s.shape[:-2]):
        if mask is None or mask[i]:
            sides = [kl(*(f[i][e] / temperature for f in (s, t))) for e in range(4)]
            values[i] = temperature**2 * math.fsum(sides) / 4
    return _scored(values, score, weight, count)


def score_weighted_l2(
    s: Array,
    t: Array,
    logits: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Mean squared difference of channels, a mean by the largest class probability."""
    score = np.zeros((len(s), *s.shape[2:]))
    for b, y, x in np.ndindex(score.shape):
        score[b, y, x] = max(_sigmoid(z) for z in logits[b, :, y, x])
    values = {
        cell: squared(s, t, cell) / s.shape[1] for b in range(len(s)) for cell in places(s, mask, b)
    }
    return _scored(values, score, weight, count)


def _generalised(a: Sequence[float], b: Sequence[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - wide * high
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    union, hull = max(union, 1e-7), max(hull, 1e-7)
    return wide * high / union - (hull - union) / hull


def _scored(
    values: dict[Any, float], score: Array, weight: Array | None, count: float | None
) -> float:
    total = math.fsum(float(score[i]) for i in values)
    scaled = {i: float(score[i]) * v for i, v in values.items()}
    return average(scaled, weight, (total if total > 0 else 1.0) if count is None else count)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
