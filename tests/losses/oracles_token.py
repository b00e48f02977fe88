"""Slow twins of the token losses: loops in NumPy float64, from the papers, sharing nothing.

Rows (*items, D) with the classes or the width last; a mask is of the items' own shape.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def average(items: Any, shape: tuple[int, ...], mask: Any, weight: Any, count: Any) -> float:
    """The weighted sum of items[index] over the valid ones, over their number or `count`."""
    total, valid = 0.0, 0
    for index in np.ndindex(*shape):
        if mask is None or mask[index]:
            total += items(index) * (1.0 if weight is None else float(weight[index]))
            valid += 1
    return total / (max(valid, 1) if count is None else count)


def probabilities(x: Array, temperature: float = 1.0) -> list[float]:
    top = max(x)
    e = [math.exp((value - top) / temperature) for value in x]
    return [value / sum(e) for value in e]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def kept_divergence(p: list[float], q: list[float], tokens: list[int], tail: str) -> float:
    """What a tail rule makes of two distributions of which the source keeps `tokens`."""
    kept_p, kept_q = ([x[token] for token in tokens] for x in (p, q))
    rest = [token for token in range(len(p)) if token not in tokens]
    if tail == "bucket":
        kept_p.append(sum(p[token] for token in rest))
        kept_q.append(sum(q[token] for token in rest))
        if not rest:
            return divergence(kept_p[:-1], kept_q[:-1])
    if tail == "renormalise":
        kept_p = [x / sum(kept_p) for x in kept_p]
        kept_q = [x / sum(kept_q) for x in kept_q]
    return divergence(kept_p, kept_q)


def topk_kl(
    s: Array,
    t: Array,
    *,
    k: int,
    tail: str,
    temperature: float,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> float:
    def item(index: tuple[int, ...]) -> float:
        p, q = probabilities(t[index], temperature), probabilities(s[index], temperature)
        tokens = sorted(range(len(p)), key=lambda token: -p[token])[:k]
        return temperature**2 * kept_divergence(p, q, tokens, tail)

    return average(item, s.shape[:-1], mask, weight, count)


def sparse_kl(
    s: Array,
    t: Array,
    *,
    logits: Array,
    tokens: list[list[int]],
    tail: str,
    temperature: float,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> float:
    """The source's full logits beside, per item, the tokens that were stored of it."""

    def item(index: tuple[int, ...]) -> float:
        p, q = probabilities(logits[index], temperature), probabilities(s[index], temperature)
        return temperature**2 * kept_divergence(p, q, tokens[index[0]], tail)

    return average(item, s.shape[:-1], mask, weight, count)


def uld(s: Array, t: Array, *, mask: Any = None, weight: Any = None, count: Any = None) -> float:
    def item(index: tuple[int, ...]) -> float:
        p, q = (sorted(probabilities(x[index]), reverse=True) for x in (t, s))
        size = max(len(p), len(q))
        p, q = (x + [0.0] * (size - len(x)) for x in (p, q))
        return sum(abs(a - b) for a, b in zip(p, q, strict=True))

    return average(item, s.shape[:-1], mask, weight, count)


def vitkd_mimic(
    s: Array, t: Array, *, mask: Any = None, weight: Any = None, count: Any = None
) -> float:
    def item(index: tuple[int, ...]) -> float:
        return sum((a - b) ** 2 for a, b in zip(s[index], t[index], strict=True))

    return average(item, s.shape[:-1], mask, weight, count)


def cosine(s: Array, t: Array, *, mask: Any = None, weight: Any = None, count: Any = None) -> float:
    def item(index: tuple[int, ...]) -> float:
        a, b = list(s[index]), list(t[index])
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return 1 - dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    return average(item, s.shape[:-1], mask, weight, count)


def pkd_bert(
    s: Array, t: Array, *, token: int, mask: Any = None, weight: Any = None, count: Any = None
) -> float:
    def item(index: tuple[int, ...]) -> float:
        a, b = (list(x[index] if x.ndim == 2 else x[index][token]) for x in (s, t))
        a, b = ([value / math.sqrt(sum(v * v for v in x)) for value in x] for x in (a, b))
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    return average(item, s.shape[:1], mask, weight, count)


def margin_mse(
    s: Array, t: Array, *, mask: Any = None, weight: Any = None, count: Any = None
) -> float:
    def item(index: tuple[int, ...]) -> float:
        query, negative = index
        ours = s[query, 0] - s[query, 1 + negative]
        known = t.shape[1] < s.shape[1]
        theirs = t[query, negative] if known else t[query, 0] - t[query, 1 + negative]
        return (ours - theirs) ** 2

    return average(item, (s.shape[0], s.shape[1] - 1), mask, weight, count)


def relations(q: Array, k: Array, heads: int, i: int, keys: list[int]) -> list[list[float]]:
    """For each head, how token i of one sample (N, D) spreads over `keys`."""
    d = q.shape[1] // heads
    rows = []
    for head in range(heads):
        own = range(head * d, (head + 1) * d)
        scores = [sum(q[i, c] * k[j, c] for c in own) / math.sqrt(d) for j in keys]
        rows.append(probabilities(np.array(scores)))
    return rows


def minilm_attention(
    s: Array,
    t: Array,
    *,
    s_keys: Array,
    t_keys: Array,
    heads: int,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> float:
    def item(index: tuple[int, ...]) -> float:
        b, i = index
        keys = [j for j in range(s.shape[1]) if mask is None or mask[b, j]]
        p = relations(t[b], t_keys[b], heads, i, keys)
        q = relations(s[b], s_keys[b], heads, i, keys)
        return sum(divergence(x, y) for x, y in zip(p, q, strict=True)) / heads

    return average(item, s.shape[:2], mask, weight, count)


def minilm_relation(s: Array, t: Array, **keys: Any) -> float:
    return minilm_attention(s, t, s_keys=s, t_keys=t, **keys)


def tinybert_attention(
    s: Array, t: Array, *, tokens: Any = None, weight: Any = None, count: Any = None
) -> float:
    valid = np.ones(s.shape, bool)
    for b, h, i, j in np.ndindex(*s.shape):
        if tokens is not None and not (tokens[b, i] and tokens[b, j]):
            valid[b, h, i, j] = False
        if s[b, h, i, j] == -math.inf or t[b, h, i, j] == -math.inf:
            valid[b, h, i, j] = False
    return average(lambda index: (s[index] - t[index]) ** 2, s.shape, valid, weight, count)


def energies(f: Array, height: int, width: int) -> list[float]:
    """Mean squares over the channels, pooled to a size, of one sample; length 1 if not dead."""
    channels, rows, columns = f.shape
    values = []
    for y in range(height):
        for x in range(width):
            low, high = y * rows // height, math.ceil((y + 1) * rows / height)
            left, right = x * columns // width, math.ceil((x + 1) * columns / width)
            window = [
                sum(f[c, i, j] ** 2 for c in range(channels)) / channels
                for i in range(low, high)
                for j in range(left, right)
            ]
            values.append(sum(window) / len(window))
    length = math.sqrt(sum(value**2 for value in values))
    return [value / length if length else 0.0 for value in values]


def afd(s: Array, t: Array, *, mask: Any = None, weight: Any = None, count: Any = None) -> float:
    def item(index: tuple[int, ...]) -> float:
        p, q = (energies(x[index], *t.shape[2:]) for x in (t, s))
        return sum((a - b) ** 2 for a, b in zip(p, q, strict=True))

    return average(item, s.shape[:1], mask, weight, count)


def pooled(x: Array, tokens: Any) -> list[list[float]]:
    """Every sample's mean over positions, or over the tokens that count; empty without any."""
    rows = []
    for b in range(len(x)):
        places = [x[b]] if x.ndim == 2 else list(x[b])
        if x.ndim == 4:
            places = [x[b, :, i, j] for i in range(x.shape[2]) for j in range(x.shape[3])]
        if tokens is not None and x.ndim == 3 and tokens.ndim == 2:
            places = [place for i, place in enumerate(places) if tokens[b, i]]
        elif tokens is not None and not tokens[b].any():
            places = []
        rows.append(list(sum(places) / len(places)) if places else [])
    return rows


def vkd(s: Array, t: Array, *, tokens: Any = None, weight: Any = None, count: Any = None) -> float:
    ours, theirs = pooled(s, tokens), pooled(t, tokens)

    def item(index: tuple[int, ...]) -> float:
        a, b = ours[index[0]], theirs[index[0]]
        m = sum(b) / len(b)
        v = sum((x - m) ** 2 for x in b) / len(b)
        distances = [abs(x - (y - m) / math.sqrt(v + 1e-5)) for x, y in zip(a, b, strict=True)]
        return sum(d**2 / 2 if d < 1 else d - 0.5 for d in distances) / len(distances)

    valid = np.array([bool(row) for row in ours])
    return average(item, (len(s),), valid, weight, count)


def columns(x: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*(row for row in x if row), strict=True)]


def moments(x: list[float]) -> tuple[float, float]:
    mean = sum(x) / len(x)
    return mean, sum((value - mean) ** 2 for value in x) / len(x)


def srd_logsum(s: Array, t: Array, *, eps: float = 1e-5, tokens: Any = None) -> float:
    total = 0.0
    ours, theirs = columns(pooled(s, tokens)), columns(pooled(t, tokens))
    for a, b in zip(ours, theirs, strict=True):
        (m, v), (n, w) = moments(a), moments(b)
        for x, y in zip(a, b, strict=True):
            total += ((x - m) / math.sqrt(v + 1e-4) - (y - n) / math.sqrt(w + 1e-4)) ** 4 / len(a)
    return math.log(total + eps)


def srd_correlation(s: Array, t: Array, *, eps: float = 1e-5, tokens: Any = None) -> float:
    total = 0.0
    ours, theirs = columns(pooled(s, tokens)), columns(pooled(t, tokens))
    for a, b in zip(ours, theirs, strict=True):
        (m, v), (n, w) = moments(a), moments(b)
        covariance = sum((x - m) * (y - n) for x, y in zip(a, b, strict=True)) / len(a)
        total += ((covariance / math.sqrt(v * w) if v > 0 and w > 0 else 0.0) - 1) ** 4
    return math.log(total + eps)
