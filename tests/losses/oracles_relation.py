"""Losses on relations once more, as loops over numbers: float64, and sharing nothing with limbeck.

Samples are (B, D), maps (B, C, H, W). `mask` and `weight` are of the shape (B,) or None.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rows = Sequence[Sequence[float]]
Optional = Array | None


def sp(s: Array, t: Array, mask: Optional = None) -> float:
    """Mean over samples of the squared distance of unit rows of inner products."""
    alive = _valid(len(s), mask)
    g_s, g_t = ([_unit([_dot(x[i], x[j]) for j in alive]) for i in alive] for x in (s, t))
    return _mean(math.dist(a, b) ** 2 for a, b in zip(g_s, g_t, strict=True))


def ickd(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Mean over samples and channels of the squared distance of unit rows of channel products."""

    def item(b: int) -> float:
        x, y = ([channel.ravel() for channel in f[b]] for f in (s, t))
        rows = ([_unit([_dot(c, d) for d in f]) for c in f] for f in (x, y))
        return math.fsum(math.dist(a, b) ** 2 for a, b in zip(*rows, strict=True)) / len(x)

    return _items(item, len(s), mask, weight, count)


def pkt(s: Array, t: Array, mask: Optional = None) -> float:
    """Mean over samples of the divergence between rows of affinities, each row over its sum."""
    alive = _valid(len(s), mask)

    def row(x: Array, i: int) -> list[float]:
        affinities = [(_cosine(x[i], x[j]) + 1) / 2 for j in alive]
        return [a / math.fsum(affinities) for a in affinities]

    def item(i: int) -> float:
        pairs = zip(row(t, i), row(s, i), strict=True)
        return math.fsum(p * math.log(p / q) for p, q in pairs)

    return _mean(item(i) for i in alive)


def cc(s: Array, t: Array, gamma: float = 0.4, order: int = 2, mask: Optional = None) -> float:
    """Mean over pairs of the squared difference of truncated Gaussian kernels."""

    def kernel(x: Array, i: int, j: int) -> float:
        terms = [
            (2 * gamma * _cosine(x[i], x[j])) ** k / math.factorial(k) for k in range(order + 1)
        ]
        return math.exp(-2 * gamma) * math.fsum(terms)

    pairs = itertools.product(_valid(len(s), mask), repeat=2)
    return _mean((kernel(s, i, j) - kernel(t, i, j)) ** 2 for i, j in pairs)


def linear_cka(s: Array, t: Array, mask: Optional = None) -> float:
    """1 - ||X'Y||^2 / (||X'X|| ||Y'Y||) of columns that are centred over the batch."""
    alive = _valid(len(s), mask)
    x, y = ([_centred([f[i][d] for i in alive]) for d in range(f.shape[1])] for f in (s, t))
    lengths = math.sqrt(_squared_norm(x, x)) * math.sqrt(_squared_norm(y, y))
    return 1 - _squared_norm(x, y) / lengths if lengths > 0 else 0.0


def irg_edge(s: Array, t: Array, mask: Optional = None) -> float:
    """Mean over pairs of the squared difference of squared distances over the largest."""
    pairs = list(itertools.product(_valid(len(s), mask), repeat=2))
    edges = (_relative([math.dist(x[i], x[j]) ** 2 for i, j in pairs]) for x in (s, t))
    return _mean((a - b) ** 2 for a, b in zip(*edges, strict=True))


def irg_transform(s: Array, t: Array, s_next: Array, t_next: Array, mask: Optional = None) -> float:
    """Mean over samples of the squared difference of squared moves over the largest."""
    alive = _valid(len(s), mask)

    def move(x: Array, y: Array) -> float:
        size = tuple(min(a, b) for a, b in zip(x.shape, y.shape, strict=True))
        pairs = zip(_pooled(x, size), _pooled(y, size), strict=True)
        return math.fsum((a - b) ** 2 for a, b in pairs)

    both = ((s, s_next), (t, t_next))
    moves = (_relative([move(x[i], y[i]) for i in alive]) for x, y in both)
    return _mean((a - b) ** 2 for a, b in zip(*moves, strict=True))


def crd(
    s: Array,
    t: Array,
    memory_s: Array,
    memory_t: Array,
    index: Array,
    temperature: float = 0.07,
    z_s: float | None = None,
    z_t: float | None = None,
    mask: Optional = None,
    weight: Optional = None,
    count: float | None = None,
) -> float:
    """Mean over samples of both noise-contrastive estimates, in the probabilities of the paper."""
    alive, negatives, samples = _valid(len(s), mask), index.shape[1] - 1, len(memory_s)
    noise = negatives / samples

    def scores(x: Array, memory: Array, b: int) -> list[float]:
        return [math.exp(_dot(_unit(x[b]), memory[i]) / temperature) for i in index[b]]

    def side(x: Array, memory: Array, z: float | None) -> Callable[[int], float]:
        if z is None:
            z = samples * _mean(score for b in alive for score in scores(x, memory, b))

        def item(b: int) -> float:
            own, *others = (score / z for score in scores(x, memory, b))
            kept = [math.log(noise / (p + noise)) for p in others]
            return -math.log(own / (own + noise)) - math.fsum(kept)

        return item

    mine, theirs = side(s, memory_t, z_s), side(t, memory_s, z_t)
    return _items(lambda b: mine(b) + theirs(b), len(s), mask, weight, count)


def rkd_angle(s: Array, t: Array, triples: Iterable[tuple[int, int, int]]) -> float:
    """Mean over the triples of the Huber distance of the cosines at their first sample."""

    def term(a: int, b: int, c: int) -> float:
        x, y = (_cosine(f[b] - f[a], f[c] - f[a]) for f in (s, t))
        d = abs(x - y)
        return d * d / 2 if d < 1 else d - 0.5

    return _mean(term(*triple) for triple in triples)


def _valid(batch: int, mask: Optional) -> list[int]:
    return [i for i in range(batch) if mask is None or mask[i]]


def _mean(terms: Iterable[float]) -> float:
    found = list(terms)
    return math.fsum(found) / max(len(found), 1)


def _items(
    item: Callable[[int], float],
    batch: int,
    mask: Optional,
    weight: Optional,
    count: float | None,
) -> float:
    alive = _valid(batch, mask)
    total = math.fsum(item(b) * (1.0 if weight is None else float(weight[b])) for b in alive)
    return total / (max(len(alive), 1) if count is None else count)


def _dot(u: Iterable[float], v: Iterable[float]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(u, v, strict=True))


def _unit(u: Sequence[float] | Array) -> list[float]:
    length = math.hypot(*u)
    return [float(x) / length if length > 0 else 0.0 for x in u]


def _cosine(u: Array, v: Array) -> float:
    return _dot(_unit(u), _unit(v))


def _centred(column: Sequence[float]) -> list[float]:
    return [x - _mean(column) for x in column]


def _squared_norm(x: Rows, y: Rows) -> float:
    return math.fsum(_dot(a, b) ** 2 for a in x for b in y)


def _relative(numbers: list[float]) -> list[float]:
    largest = max(numbers, default=0.0)
    return [x / largest if largest > 0 else 0.0 for x in numbers]


def _pooled(x: Array, size: tuple[int, ...]) -> list[float]:
    """(C, H, W) averaged over the windows of adaptive pooling, flattened."""
    values = []
    for c, *cell in np.ndindex(size):
        low = [i * n // m for i, n, m in zip(cell, x.shape[1:], size[1:], strict=True)]
        high = [-(-(i + 1) * n // m) for i, n, m in zip(cell, x.shape[1:], size[1:], strict=True)]
        window = x[c, low[0] : high[0], low[1] : high[1]].ravel()
        values.append(_mean(float(v) for v in window))
    return values
