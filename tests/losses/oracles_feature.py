"""Feature losses once more, as loops over numbers: slow, float64, and sharing nothing with limbeck.

Maps are (B, C, H, W). `mask` and `weight` are of the items' shape or None.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Optional = Array | None


def nst(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Mean over samples of the squared discrepancy of channel maps under a squared product."""
    size = (min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3]))

    def item(b: int) -> float:
        x, y = ([_unit(_small(channel, size)) for channel in f[b]] for f in (s, t))
        return _kernel(x, x) + _kernel(y, y) - 2 * _kernel(x, y)

    return _mean(item, len(s), mask, weight, count)


def ft(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Mean over samples of the mean absolute difference of factors of unit length."""

    def item(b: int) -> float:
        x, y = _unit(s[b].ravel()), _unit(t[b].ravel())
        return math.fsum(abs(a - c) for a, c in zip(x, y, strict=True)) / len(x)

    return _mean(item, len(s), mask, weight, count)


def cat_kd(
    s: Array,
    t: Array,
    resolution: int = 2,
    normalise: bool = True,
    mask: Optional = None,
    weight: Optional = None,
    count: float | None = None,
) -> float:
    """Mean over samples, classes and pooled positions of squared differences of unit maps."""

    def item(b: int) -> float:
        total = 0.0
        for k in range(s.shape[1]):
            x, y = (_small(f[b, k], (resolution, resolution)) for f in (s, t))
            x, y = (_unit(x), _unit(y)) if normalise else (x, y)
            total += math.dist(x, y) ** 2
        return total / (s.shape[1] * resolution**2)

    return _mean(item, len(s), mask, weight, count)


def sad(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Mean over samples and positions of squared differences of soft attention."""
    size = s.shape[2:]

    def item(b: int) -> float:
        x, y = (_energy(f[b]) for f in (s, t))
        grid = [_between(y, i, j, size) for i in range(size[0]) for j in range(size[1])]
        a, c = _softmax(list(x.ravel())), _softmax(grid)
        return math.dist(a, c) ** 2 / len(a)

    return _mean(item, len(s), mask, weight, count)


def hcl(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Mean over samples of the weighted mean of squared differences at the levels of a pyramid."""

    def item(b: int) -> float:
        total = math.fsum((s[b] - t[b]).ravel() ** 2) / s[b].size
        factors, factor = [1.0], 0.5
        for level in (4, 2, 1):
            if level >= s.shape[2]:
                continue
            square = [
                (x - y) ** 2
                for c in range(s.shape[1])
                for x, y in zip(
                    _small(s[b, c], (level, level)), _small(t[b, c], (level, level)), strict=True
                )
            ]
            total += factor * math.fsum(square) / len(square)
            factors.append(factor)
            factor /= 2
        return total / math.fsum(factors)

    return _mean(item, len(s), mask, weight, count)


def fsp(
    s: Array,
    t: Array,
    s_deep: Array,
    t_deep: Array,
    mask: Optional = None,
    weight: Optional = None,
    count: float | None = None,
) -> float:
    """Mean over samples and pairs of channels of squared differences of the flow."""

    def flow(first: Array, deep: Array) -> list[float]:
        size = (min(first.shape[1], deep.shape[1]), min(first.shape[2], deep.shape[2]))
        a, b = ([_small(channel, size) for channel in f] for f in (first, deep))
        return [_dot(x, y) / len(x) for x in b for y in a]

    def item(b: int) -> float:
        x, y = flow(s[b], s_deep[b]), flow(t[b], t_deep[b])
        return math.dist(x, y) ** 2 / len(x)

    return _mean(item, len(s), mask, weight, count)


def kdsvd(
    s: Array,
    t: Array,
    s_deep: Array,
    t_deep: Array,
    k: int = 1,
    mask: Optional = None,
    weight: Optional = None,
    count: float | None = None,
) -> float:
    """Mean over samples of the summed squared differences of how main directions relate."""

    def item(b: int) -> float:
        x, y = _directions(s[b], t[b], k)
        x_deep, y_deep = _directions(s_deep[b], t_deep[b], k)
        return math.fsum(
            (_near(x_deep[j][d], x[j][c]) - _near(y_deep[j][d], y[j][c])) ** 2
            for j in range(min(len(x), len(x_deep)))
            for c in range(s.shape[1])
            for d in range(s_deep.shape[1])
        )

    return _mean(item, len(s), mask, weight, count)


def jacobian(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Mean over samples and input elements of squared differences of unit gradients."""

    def item(b: int) -> float:
        x, y = _unit(s[b].ravel()), _unit(t[b].ravel())
        return math.dist(x, y) ** 2 / len(x)

    return _mean(item, len(s), mask, weight, count)


def ab(
    s: Array,
    t: Array,
    margin: float = 1.0,
    mask: Optional = None,
    weight: Optional = None,
    count: float | None = None,
) -> float:
    """Squared hinge on the side of 0 where the source is; channels last, summed."""

    def entry(a: float, b: float, c: int) -> float:
        return max(margin - a, 0) ** 2 if b > 0 else max(margin + a, 0) ** 2

    return _positions(entry, s, t, mask, weight, count)


def ofd(
    s: Array,
    t: Array,
    margin: Array,
    mask: Optional = None,
    weight: Optional = None,
    count: float | None = None,
) -> float:
    """Squared difference to the source above its margin, unless both are off; channels last."""

    def entry(a: float, b: float, c: int) -> float:
        b = max(b, float(margin[c]))
        return 0.0 if a <= b <= 0 else (a - b) ** 2

    return _positions(entry, s, t, mask, weight, count)


def byot_hint(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Squared difference where either side is positive; channels last, summed."""

    def entry(a: float, b: float, c: int) -> float:
        return (a - b) ** 2 if a > 0 or b > 0 else 0.0

    return _positions(entry, s, t, mask, weight, count)


def mgd(
    s: Array, t: Array, mask: Optional = None, weight: Optional = None, count: float | None = None
) -> float:
    """Squared difference; channels last, summed."""
    return _positions(lambda a, b, c: (a - b) ** 2, s, t, mask, weight, count)


def vid(
    s: Array,
    t: Array,
    variance: Array,
    mask: Optional = None,
    weight: Optional = None,
    count: float | None = None,
) -> float:
    """Gaussian negative log-likelihood without its constant; channels last, averaged."""

    def entry(a: float, b: float, c: int) -> float:
        v = float(variance[c])
        return ((a - b) ** 2 / v + math.log(v)) / 2 / s.shape[-1]

    return _positions(entry, s, t, mask, weight, count)


def _positions(
    entry: Callable[[float, float, int], float],
    s: Array,
    t: Array,
    mask: Optional,
    weight: Optional,
    count: float | None,
) -> float:
    """The weighted sum over valid positions of what their channels add up to, divided once."""
    valid = [i for i in np.ndindex(s.shape[:-1]) if mask is None or mask[i]]
    total = math.fsum(
        entry(float(s[i][c]), float(t[i][c]), c) * (1.0 if weight is None else float(weight[i]))
        for i in valid
        for c in range(s.shape[-1])
    )
    return total / (max(len(valid), 1) if count is None else count)


def _mean(
    item: Callable[[int], float],
    batch: int,
    mask: Optional,
    weight: Optional,
    count: float | None,
) -> float:
    """The weighted sum over valid samples over `count`, or over how many they are."""
    valid = [b for b in range(batch) if mask is None or mask[b]]
    total = math.fsum(item(b) * (1.0 if weight is None else float(weight[b])) for b in valid)
    return total / (max(len(valid), 1) if count is None else count)


def _small(channel: Array, size: tuple[int, int]) -> list[float]:
    """The cells of (H, W) pooled to `size`: means of windows that touch or overlap."""
    (h, w), (rows, columns) = channel.shape, size
    cells = []
    for y in range(rows):
        for x in range(columns):
            ys = range(y * h // rows, math.ceil((y + 1) * h / rows))
            xs = range(x * w // columns, math.ceil((x + 1) * w / columns))
            window = [float(channel[i, j]) for i in ys for j in xs]
            cells.append(math.fsum(window) / len(window))
    return cells


def _between(grid: Array, i: int, j: int, size: tuple[int, ...]) -> float:
    """Bilinear value of cell (i, j) of `size` between the centres of the grid's cells."""

    def weights(index: int, old: int, new: int) -> list[tuple[int, float]]:
        at = min(max((index + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        low = math.floor(at)
        return [(low, low + 1 - at), (min(low + 1, old - 1), at - low)]

    return math.fsum(
        a * b * float(grid[y, x])
        for y, a in weights(i, grid.shape[0], size[0])
        for x, b in weights(j, grid.shape[1], size[1])
    )


def _directions(s: Array, t: Array, k: int) -> tuple[list[list[float]], list[list[float]]]:
    """k vectors of C entries of student and source, (C, H, W) each."""
    _, theirs, sigma = _vectors(t, k)
    ranked, mine, _ = _vectors(s, k + 3)
    length = math.hypot(*sigma)
    student, source = [], []
    for j, v in enumerate(theirs):
        top = max(v, key=abs)
        v = [x if top > 0 else -x for x in v]
        best = max(range(ranked), key=lambda i: abs(_dot(mine[i], v)))
        sign = 1 if _dot(mine[best], v) >= 0 else -1
        scale = sigma[j] / length if length > 0 else 0.0
        source.append([x * scale for x in v])
        student.append([x * sign * scale for x in mine[best]])
    return student, source


def _vectors(f: Array, n: int) -> tuple[int, list[list[float]], list[float]]:
    """How many, the right singular vectors of (H*W) x C, and their singular values."""
    matrix = f.reshape(len(f), -1).T
    _, sigma, rows = np.linalg.svd(matrix, full_matrices=False)
    n = min(n, len(sigma))
    vectors = [
        [float(x) if value > 0 else 0.0 for x in row]
        for row, value in zip(rows[:n], sigma[:n], strict=True)
    ]
    return n, vectors, [float(x) for x in sigma[:n]]


def _near(a: float, b: float) -> float:
    return math.exp(-((a - b) ** 2) / 8)


def _energy(f: Array) -> Array:
    return sum(channel**2 for channel in f)


def _softmax(z: Sequence[float]) -> list[float]:
    e = [math.exp(x - max(z)) for x in z]
    return [x / math.fsum(e) for x in e]


def _kernel(xs: Sequence[Sequence[float]], ys: Sequence[Sequence[float]]) -> float:
    return math.fsum(_dot(x, y) ** 2 for x in xs for y in ys) / (len(xs) * len(ys))


def _unit(x: Sequence[float] | Array) -> list[float]:
    length = math.hypot(*x)
    return [float(v) / length if length > 0 else 0.0 for v in x]


def _dot(u: Sequence[float], v: Sequence[float]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(u, v, strict=True))
