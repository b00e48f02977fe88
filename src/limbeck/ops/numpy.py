"""The array operations of the losses for NumPy arrays: values only."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.ops import CONSTANT

Array = NDArray[Any]
Axis = int | tuple[int, ...] | None
LOWEST = -3e38  # stands for -inf where 0 * -inf would be NaN

abs = np.abs
any = np.any
at_least = np.maximum
concat = np.concatenate
cumsum = np.cumsum
exp = np.exp
expm1 = np.expm1
expand = np.broadcast_to
isnan = np.isnan
matmul = np.matmul
max = np.max
maximum = np.maximum
mean = np.mean
minimum = np.minimum
moveaxis = np.moveaxis
reshape = np.reshape
sqrt = np.sqrt
stack = np.stack
sum = np.sum
take = partial(np.take_along_axis, axis=-1)
where = np.where


def argmax(x: Array) -> Array:
    """The index of the largest entry of the last axis."""
    return x.argmax(-1)


def detach(x: Array) -> Array:
    return x


def float32(x: Array) -> Array:
    """At least single precision; float64 stays."""
    return x if x.dtype == np.float64 else x.astype(np.float32)


def eps(x: Array) -> float:
    """The relative spacing of the numbers of `x`."""
    return float(np.finfo(x.dtype).eps)


def integer(x: Array) -> bool:
    return not np.issubdtype(x.dtype, np.floating)


def arange(n: int, like: Array) -> Array:
    """The integers 0 ... n - 1."""
    return np.arange(n)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Zeros of the type of `like`."""
    return np.zeros(shape, like.dtype)


def visible(x: Array) -> bool:
    """Whether to look at numbers saves work: never, as NumPy has no gradient to save."""
    return False


def boolean(x: Array) -> Array:
    """True where a number is not 0."""
    return x != 0


def size(x: Array, axis: int | None = None) -> int:
    """How many entries, of an axis or in all."""
    return x.size if axis is None else x.shape[axis]


def above(x: Array, least: float) -> Array:
    """The entries that are larger than `least`, and NaN; 0 in place of the others."""
    return np.where(x <= least, 0, x)


def inner(x: Array, y: Array) -> Array:
    """The sum of the products of two arrays of one shape."""
    return np.sum(x * y)


def count(x: Array, like: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """How many are true, as a number of the type of `like`."""
    return np.sum(x, axis, like.dtype, keepdims=keepdims)


def cast(x: Array, like: Array) -> Array:
    """Numbers or booleans in the type of `like`."""
    return x.astype(like.dtype)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    with np.errstate(invalid="ignore"):
        return np.logaddexp(x, 0)


def log_sigmoid(x: Array) -> Array:
    return -softplus(-x)


def sigmoid(x: Array) -> Array:
    return np.exp(log_sigmoid(x))


def sort(x: Array, descending: bool = False) -> Array:
    """The last axis in order."""
    return -np.sort(-x, -1) if descending else np.sort(x, -1)


def ranked(x: Array) -> tuple[Array, Array]:
    """The last axis, the largest first, and where each stood; of equal entries the first first."""
    order = np.argsort(-x, -1, kind="stable")
    return take(x, order), order


def select(x: Array, index: Sequence[int]) -> Array:
    """The entries `index` of the last axis, in that order."""
    return np.take(x, index, -1)


def put(x: Array, index: Array, value: float) -> Array:
    """`x` with `value` at index[..., k] of the last axis, for every k."""
    x = x.copy()
    np.put_along_axis(x, index, value, -1)
    return x


def layer_norm(x: Array, eps: float) -> Array:
    """The last axis with mean 0 and variance 1, `eps` joining the variance."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)


def batch_norm(x: Array, eps: float) -> Array:
    """The columns of (N, C) with mean 0 and variance 1, `eps` joining the variance."""
    centred = x - x.mean(0)
    return centred / np.sqrt((centred**2).mean(0) + eps)


def correlations(x: Array, y: Array) -> Array:
    """Of every column of two (N, C) their correlation (C,); 0 where a side is constant."""
    (u, a), (v, b) = (_columns(side) for side in (x, y))
    varies = (a > 0) & (b > 0)
    lengths = np.sqrt(np.where(varies, a, 1)) * np.sqrt(np.where(varies, b, 1))
    return np.where(varies, (u * v).sum(0) / lengths, 0)


def _columns(x: Array) -> tuple[Array, Array]:
    """Columns centred, and their sums of squares; 0 where they are constant."""
    mean = x.mean(0)
    square = ((x - mean) ** 2).sum(0)
    return x - mean, np.where(square > CONSTANT * len(x) * mean**2, square, 0)


def top(x: Array, k: int) -> Array:
    """The indices of the k largest entries of the last axis, the largest first."""
    return ranked(x)[1][..., :k]


def one_hot(index: Array, n: int, like: Array) -> Array:
    """(...,) to (..., n) in the type of `like`; an index out of range is a row of zeros."""
    return (index[..., None] == np.arange(n)).astype(like.dtype)


def eye(n: int, like: Array) -> Array:
    """The boolean identity matrix."""
    return np.eye(n, dtype=bool)


def log(x: Array) -> Array:
    """log(x), -inf at 0."""
    with np.errstate(divide="ignore"):
        return np.log(x)


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(x: Array) -> Array:
    return np.exp(log_softmax(x))


def logsumexp(x: Array, axis: int = -1) -> Array:
    top = x.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return log(np.exp(x - top).sum(axis)) + top.squeeze(axis)


def kl(s: Array, t: Array, temperature: Any) -> Array:
    """Rows of KL(softmax(t / T) || softmax(s / T)) over the last axis."""
    log_q, log_p = log_softmax(s / temperature), log_softmax(t / temperature)
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):
        return (p * np.where(p > 0, log_p - log_q, 0)).sum(-1)


def uncorrelated(x: Array, y: Array) -> tuple[Array, Array]:
    """The means of 1 - corr(exp x, exp y) over the rows and over the columns of (N, C).

    Entries that are -inf on both sides do not count. What is constant on a side has no correlation,
    and is no part of the mean.
    """
    return _apart(x, y, -1), _apart(x, y, -2)


def _apart(x: Array, y: Array, axis: int) -> Array:
    """The mean of 1 - corr(exp x, exp y) along an axis."""
    counts = np.maximum(x, y) != -np.inf
    u, v = (_deviations(side, counts, axis) for side in (x, y))
    known = (u != 0).any(axis) & (v != 0).any(axis)
    gaps = np.where(known, ((u - v) ** 2).sum(axis) / 2, 0)
    return gaps.sum() / np.maximum(known.sum(), 1, dtype=gaps.dtype)


def _deviations(x: Array, counts: Array, axis: int) -> Array:
    """exp(x) centred and of unit length; zeros where it is constant."""
    x = np.where(counts, x, LOWEST)
    e = np.exp(x - np.maximum(x.max(axis, keepdims=True), LOWEST))
    n = np.maximum(counts.sum(axis, keepdims=True), 1)
    e = np.where(counts, e - e.sum(axis, keepdims=True) / n, 0)
    length = np.sqrt((e**2).sum(axis, keepdims=True))
    return e / np.where(length > 0, length, 1)


def mixed_kl(s: Array, t: Array, share: Any, temperature: Any) -> Array:
    """Rows of KL(p || m), m = share p + (1 - share) q, p = softmax(t / T), q = softmax(s / T)."""
    log_q, log_p = (np.maximum(log_softmax(x / temperature), LOWEST) for x in (s, t))
    with np.errstate(divide="ignore"):
        log_share, log_rest = np.log(share), np.log1p(-np.asarray(share))
    ratio = np.logaddexp(log_q - log_p + log_rest, log_share)
    return -(np.exp(log_p) * (ratio - np.logaddexp(log_rest, log_share))).sum(-1)


def both_kl(s: Array, t: Array, temperature: Any) -> tuple[Array, Array]:
    """Rows of KL(p || q) and of KL(q || p), p = softmax(t / T), q = softmax(s / T)."""
    return kl(s, t, temperature), kl(t, s, temperature)


def shared_kl(s: Array, t: Array, temperature: Any, share: Array) -> Array:
    """Rows of share KL(p || q) + (1 - share) KL(q || p)."""
    forth, back = both_kl(s, t, temperature)
    return share * forth + (1 - share) * back


def bucketed(x: Array, index: Array, temperature: Any) -> Array:
    """Of x / T the entries [..., index[..., k]] for every k, then the logit of all others."""
    x = x / temperature
    rest = logsumexp(put(x, index, LOWEST))
    return concat([take(x, index), rest[..., None]], -1)


def total_jeffreys(s: Array, t: Array, temperature: Any, factor: Any) -> Array:
    """`factor` times the sum of both results of `both_kl`."""
    forth, back = both_kl(s, t, temperature)
    return factor * (forth + back).sum()


def total_kl(s: Array, t: Array, temperature: Any, factor: Any) -> Array:
    """`factor` times the sum of the rows of `kl`."""
    return factor * kl(s, t, temperature).sum()


def cross_entropy(s: Array, target: Array) -> Array:
    """Rows of -sum_c target_c log softmax(s)_c; an integer target of -100 gives 0."""
    log_q = log_softmax(s)
    if integer(target):
        known = target != -100
        if np.any(known & (target < 0)):
            raise IndexError(f"label {target[known].min()} is out of bounds")
        picked = np.take_along_axis(log_q, np.where(known, target, 0)[..., None], -1)[..., 0]
        return -np.where(known, picked, 0)
    with np.errstate(invalid="ignore"):
        return -np.where(target == 0, 0, target * log_q).sum(-1)


def mean_soft_cross_entropy(s: Array, target: Array) -> Array:
    """The mean of the rows, whose target is a distribution."""
    return cross_entropy(s, target).mean()


def mean_cross_entropy(s: Array, target: Array) -> Array:
    """The mean of the rows whose integer target is not -100; 0 where there is none."""
    return cross_entropy(s, target).sum() / np.maximum((target != -100).sum(), 1)


def mean_log_softmax(x: Array) -> Array:
    """Rows of the mean of log softmax over the classes that are not -inf."""
    log_q = log_softmax(x)
    alive = ~np.isneginf(log_q)
    return np.where(alive, log_q, 0).sum(-1) / alive.sum(-1)


def binary_kl(s: Array, t: Array) -> Array:
    """Elementwise KL(Bernoulli(sigmoid(t)) || Bernoulli(sigmoid(s)))."""
    yes, no = (
        np.maximum(log_sigmoid(a), LOWEST) - np.maximum(log_sigmoid(b), LOWEST)
        for a, b in ((t, s), (-t, -s))
    )
    return sigmoid(t) * yes + sigmoid(-t) * no


def binary_cross_entropy(s: Array, y: Array, known: Array | None = None) -> Array:
    """Elementwise -y log sigmoid(s) - (1 - y) log sigmoid(-s), finite; 0 for what is not known."""
    if known is not None:
        s, y = np.where(known, s, LOWEST), np.where(known, y, 0)
    yes, no = (np.maximum(log_sigmoid(x), LOWEST) for x in (s, -s))
    return -(y * yes + (1 - y) * no)


def total_binary_kl(s: Array, t: Array, temperature: Any, factor: Any) -> Array:
    """`factor` times the sum of `binary_kl` of logits over T."""
    return factor * binary_kl(s / temperature, t / temperature).sum()


def total_binary_cross_entropy(
    s: Array, y: Array, divisor: Any, known: Array | None = None
) -> Array:
    """The sum of `binary_cross_entropy` over `divisor`."""
    return binary_cross_entropy(s, y, known).sum() / divisor


def mean_binary_cross_entropy(s: Array, y: Array, axis: int) -> Array:
    """The mean of the items of which a class is known, not -100, summed over what is known."""
    y = cast(y, s)
    known = y != -100
    items = at_least(count(any(known, axis), s), 1)
    return total_binary_cross_entropy(s, y, items, known)


def binary_gap(s: Array, t: Array) -> tuple[Array, Array]:
    """Elementwise cross-entropy of sigmoid(s) under sigmoid(t), and |sigmoid(t) - sigmoid(s)|.

    Of yes and no what is less likely to t: of the same numbers, but accurate near 1 as well.
    """
    p, x = sigmoid(-abs(t)), np.where(t > 0, -s, s)
    return softplus(x) - p * x, abs(p - sigmoid(x))


def pool(x: Array, size: tuple[int, int]) -> Array:
    """Adaptive average pooling of (B, C, H, W)."""
    for axis, bins in zip((2, 3), size, strict=True):
        n = x.shape[axis]
        edges = [(i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)]
        means = [np.take(x, range(low, high), axis).mean(axis) for low, high in edges]
        x = np.stack(means, axis)
    return x


def bilinear(x: Array, size: tuple[int, int]) -> Array:
    """(B, C, H, W) at another size, between the centres of the four closest entries."""
    for axis, n in zip((2, 3), size, strict=True):
        old = x.shape[axis]
        at = np.clip((np.arange(n) + 0.5) * old / n - 0.5, 0, old - 1).astype(x.dtype)
        low = at.astype(int)
        share = np.expand_dims(at - low, list(range(1, 4 - axis)))
        high = np.take(x, np.minimum(low + 1, old - 1), axis)
        x = np.take(x, low, axis) * (1 - share) + high * share
    return x


def max_pool(x: Array, window: tuple[int, int]) -> Array:
    """Largest of windows side by side of (B, C, H, W); the last may reach over the edge."""
    for axis, step in zip((2, 3), window, strict=True):
        x = np.maximum.reduceat(x, np.arange(0, x.shape[axis], step), axis)
    return x


def nearest(x: Array, size: tuple[int, int]) -> Array:
    """The last two axes at another size: entry i of an axis is entry floor(i * old / new)."""
    for axis, n in zip((-2, -1), size, strict=True):
        x = np.take(x, np.arange(n) * x.shape[axis] // n, axis)
    return x


def recomputed(function: Callable[..., Array], *arrays: Array) -> Array:
    """function(*arrays), whose intermediates are computed again for the gradient, not kept."""
    return function(*arrays)


def svd(x: Array) -> tuple[Array, Array]:
    """Singular values (..., R) and right singular vectors (..., D, R) of matrices (..., N, D)."""
    _, sigma, v = np.linalg.svd(x, full_matrices=False)
    return sigma, v.swapaxes(-1, -2)


def unit(x: Array, axis: int = -1) -> Array:
    """Vectors of an axis at length 1; one of zeros stays."""
    length = np.linalg.norm(x, axis=axis, keepdims=True)
    return x / np.where(length == 0, np.inf, length)


def misalignment(x: Array, y: Array) -> Array:
    """1 - cos of two arrays as vectors, exactly 0 at equality; 1/2 where one alone is zeros."""
    gap = unit(np.reshape(x, -1)) - unit(np.reshape(y, -1))
    return (gap**2).sum() / 2


def squares(x: Array, y: Array) -> Array:
    """Elementwise (x - y)**2."""
    return (x - y) ** 2


def huber(x: Array, y: Array) -> Array:
    """Elementwise: d**2 / 2 up to |d| = 1, |d| - 1/2 beyond."""
    d = np.abs(x - y)
    return np.where(d < 1, d**2 / 2, d - 0.5)


def mean_absolute(x: Array, y: Array, axis: int | None = None) -> Array:
    """The mean of |x - y| over an axis, or over all entries; 0 of none."""
    return _mean(np.abs(x - y), axis)


def mean_squares(x: Array, y: Array, axis: int | None = None) -> Array:
    """The mean of `squares`, as `mean_absolute`."""
    return _mean(squares(x, y), axis)


def mean_huber(x: Array, y: Array, axis: int | None = None) -> Array:
    """The mean of `huber`, as `mean_absolute`."""
    return _mean(huber(x, y), axis)


def _mean(x: Array, axis: int | None) -> Array:
    return x.mean(axis) if x.size else x.sum(axis)


def gram(x: Array) -> Array:
    """Inner products (..., N, N) of the rows of (..., N, D)."""
    return x @ np.swapaxes(x, -1, -2)


def square_distances(x: Array) -> Array:
    """Squared Euclidean distances of the rows (B, B), exactly 0 where rows coincide."""
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def cosines(square: Array) -> Array:
    """cos[a, b, c] at a between b and c, of squared distances; 0 where b or c is at distance 0."""
    inverse = np.where(square > 0, 1 / np.sqrt(np.where(square > 0, square, 1)), 0)
    sides = square[:, :, None] + square[:, None, :] - square
    return sides * inverse[:, :, None] * inverse[:, None, :] / 2


def dots(x: Array, rows: Array, index: Array) -> Array:
    """x[b] . rows[index[b, k]] (B, K), without a gradient."""
    return np.einsum("bd,bkd->bk", x, rows[index])


def nce(x: Array, rows: Array, index: Array, shift: Any) -> Array:
    """(B,): softplus(-l_0) + sum_k>0 softplus(l_k), l_k = x[b] . rows[index[b, k]] - shift."""
    logits = dots(x, rows, index) - shift
    return softplus(-logits[:, 0]) + softplus(logits[:, 1:]).sum(-1)


def rows(x: Array) -> Array:
    """(B, ...) as (B, D)."""
    return x.reshape(len(x), -1)
