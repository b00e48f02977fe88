"""The losses once more, as loops over numbers: slow, float64, and sharing nothing with limbeck.

Arrays come with the classes or channels last. `mask` and `weight` are of the items' shape or None.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def kl(
    s: Array,
    t: Array,
    temperature: float = 1.0,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """T^2 times the mean over items of the expectation under the source of log p/q."""

    def item(i: tuple[int, ...]) -> float:
        log_q, log_p = _log_softmax(s[i] / temperature), _log_softmax(t[i] / temperature)
        pairs = zip(log_p, log_q, strict=True)
        return math.fsum(math.exp(p) * (p - q) for p, q in pairs if p > -math.inf)

    return temperature**2 * _mean(item, s.shape[:-1], mask, weight, count)


def reverse_kl(
    s: Array,
    t: Array,
    temperature: float = 1.0,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """T^2 times the mean over items of the expectation under the student of log q/p."""

    def item(i: tuple[int, ...]) -> float:
        log_q, log_p = _log_softmax(s[i] / temperature), _log_softmax(t[i] / temperature)
        pairs = zip(log_q, log_p, strict=True)
        return math.fsum(math.exp(q) * (q - p) for q, p in pairs if q > -math.inf)

    return temperature**2 * _mean(item, s.shape[:-1], mask, weight, count)


def cross_entropy(
    s: Array,
    target: Array,
    label_smoothing: float = 0.0,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Labels are class numbers, -100 withheld, or distributions, all zeros withheld."""
    soft = target.ndim == s.ndim
    valid = np.ones(s.shape[:-1], bool) if mask is None else mask.copy()
    for i in np.ndindex(s.shape[:-1]):
        valid[i] &= any(y != 0 for y in target[i]) if soft else target[i] != -100

    def item(i: tuple[int, ...]) -> float:
        log_q = _log_softmax(s[i])
        y = target[i] if soft else [float(c == target[i]) for c in range(s.shape[-1])]
        hard = -math.fsum(y_c * q for y_c, q in zip(y, log_q, strict=True) if y_c != 0)
        alive = [q for q in log_q if q > -math.inf]
        return (1 - label_smoothing) * hard - label_smoothing * math.fsum(alive) / len(alive)

    return _mean(item, s.shape[:-1], valid, weight, count)


def hard(
    s: Array,
    t: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Mean over items of minus the log probability of the class that the source prefers."""

    def item(i: tuple[int, ...]) -> float:
        best = 0
        for c in range(1, t.shape[-1]):
            best = c if t[i][c] > t[i][best] else best
        return -_log_softmax(s[i])[best]

    return _mean(item, s.shape[:-1], mask, weight, count)


def hint(
    s: Array,
    t: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Mean over items of the mean squared difference of the channels."""

    def item(i: tuple[int, ...]) -> float:
        return math.fsum((a - b) ** 2 for a, b in zip(s[i], t[i], strict=True)) / s.shape[-1]

    return _mean(item, s.shape[:-1], mask, weight, count)


def attention(
    s: Array,
    t: Array,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Maps (B, C, H, W): squared distance of the unit vectors of channel-mean energy."""
    size = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])

    def item(i: tuple[int, ...]) -> float:
        pairs = zip(_energy(s[i[0]], size), _energy(t[i[0]], size), strict=True)
        return math.fsum((a - b) ** 2 for a, b in pairs)

    return _mean(item, s.shape[:1], mask, weight, count)


def rkd_distance(s: Array, t: Array, mask: Array | None = None) -> float:
    """Samples (B, D): Huber of distances relative to their positive mean, over ordered pairs."""
    pairs = list(itertools.permutations(_valid(len(s), mask), 2))
    mine, theirs = (_relative([math.dist(x[a], x[b]) for a, b in pairs]) for x in (s, t))
    terms = [_huber(d, e) for d, e in zip(mine, theirs, strict=True)]
    return math.fsum(terms) / max(len(pairs), 1)


def rkd_angle(s: Array, t: Array, mask: Array | None = None) -> float:
    """Samples (B, D): Huber of cosines at a between b and c, over the triples of distinct samples.

    Like the authors, the sum also runs over b = c, which adds only where b coincides with a on
    one side alone.
    """
    alive = _valid(len(s), mask)
    if len(alive) < 3:
        return 0.0
    corners = itertools.product(alive, repeat=3)
    terms = [
        _huber(_cosine(s[a], s[b], s[c]), _cosine(t[a], t[b], t[c]))
        for a, b, c in corners
        if a not in (b, c)
    ]
    return math.fsum(terms) / math.perm(len(alive), 3)


def gradient(loss: Callable[[Array], float], x: Array, step: float = 1e-5) -> Array:
    """Central differences of fourth order, an element at a time; kinks are rarely so near."""
    grad = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        bump = np.zeros(x.shape)
        bump[i] = step
        near, far = (loss(x + k * bump) - loss(x - k * bump) for k in (1, 2))
        grad[i] = (8 * near - far) / (12 * step)
    return grad


def _mean(
    item: Callable[[tuple[int, ...]], float],
    shape: tuple[int, ...],
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """The weighted sum of the valid items over `count`, or over how many they are."""
    valid = [i for i in np.ndindex(shape) if mask is None or mask[i]]
    total = math.fsum(item(i) * (1.0 if weight is None else float(weight[i])) for i in valid)
    return total / (max(len(valid), 1) if count is None else count)


def _log_softmax(z: Sequence[float] | Array) -> list[float]:
    largest = max(z)
    log_sum = largest + math.log(math.fsum(math.exp(x - largest) for x in z))
    return [float(x) - log_sum for x in z]


def _energy(f: Array, size: tuple[int, int]) -> list[float]:
    """The flattened map of mean_c f^2 of (C, H, W), of unit length; zeros where it is dead."""
    height, width = size
    cells = [
        math.fsum(_cell(channel, y, x, size) ** 2 for channel in f) / len(f)
        for y in range(height)
        for x in range(width)
    ]
    length = math.hypot(*cells)
    return [cell / length if length > 0 else 0.0 for cell in cells]


def _cell(channel: Array, y: int, x: int, size: tuple[int, int]) -> float:
    """Mean of the window of adaptive pooling that cell (y, x) of `size` covers."""
    (h, w), (height, width) = channel.shape, size
    values = [
        float(channel[i, j])
        for i in range(y * h // height, math.ceil((y + 1) * h / height))
        for j in range(x * w // width, math.ceil((x + 1) * w / width))
    ]
    return math.fsum(values) / len(values)


def _valid(batch: int, mask: Array | None) -> list[int]:
    return [i for i in range(batch) if mask is None or mask[i]]


def _relative(distances: list[float]) -> list[float]:
    positive = [d for d in distances if d > 0]
    mu = math.fsum(positive) / len(positive) if positive else 1.0
    return [d / mu for d in distances]


def _cosine(a: Array, b: Array, c: Array) -> float:
    """0 where b or c coincides with a."""
    lengths = math.dist(a, b) * math.dist(a, c)
    return _dot(b - a, c - a) / lengths if lengths > 0 else 0.0


def _dot(u: Iterable[float], v: Iterable[float]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(u, v, strict=True))


def _huber(x: float, y: float) -> float:
    d = abs(x - y)
    return d * d / 2 if d < 1 else d - 0.5
