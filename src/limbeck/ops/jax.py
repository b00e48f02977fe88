"""The array operations of the losses for JAX arrays, traced ones included."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from limbeck.ops import CONSTANT

Array = Any  # jax.Array, or what stands for one under a transformation
Axis = int | tuple[int, ...] | None
LOWEST = -3e38  # stands for -inf where 0 * -inf would be NaN

abs = jnp.abs
any = jnp.any
at_least = jnp.maximum
concat = jnp.concatenate
cumsum = jnp.cumsum
detach = jax.lax.stop_gradient
exp = jnp.exp
expm1 = jnp.expm1
expand = jnp.broadcast_to
isnan = jnp.isnan
log = jnp.log
log_sigmoid = jax.nn.log_sigmoid
log_softmax = jax.nn.log_softmax
matmul = jnp.matmul
max = jnp.max
maximum = jnp.maximum
mean = jnp.mean
minimum = jnp.minimum
moveaxis = jnp.moveaxis
relu = jax.nn.relu
reshape = jnp.reshape
sigmoid = jax.nn.sigmoid
softmax = jax.nn.softmax
softplus = jax.nn.softplus
sqrt = jnp.sqrt
stack = jnp.stack
sum = jnp.sum
where = jnp.where


def argmax(x: Array) -> Array:
    """The index of the largest entry of the last axis."""
    return jnp.argmax(x, -1)


def ranked(x: Array) -> tuple[Array, Array]:
    """The last axis, the largest first, and where each stood; of equal entries the first first."""
    order = jnp.argsort(x, axis=-1, stable=True, descending=True)
    return take(x, order), order


def sort(x: Array, descending: bool = False) -> Array:
    """The last axis in order."""
    return jnp.sort(x, axis=-1, descending=descending)


def take(x: Array, index: Array) -> Array:
    """x[..., index[..., k]] for every k of the last axis."""
    return jnp.take_along_axis(x, index, -1)


def float32(x: Array) -> Array:
    """At least single precision; float64 stays."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def eps(x: Array) -> float:
    """The relative spacing of the numbers of `x`."""
    return float(jnp.finfo(x.dtype).eps)


def integer(x: Array) -> bool:
    return not jnp.issubdtype(x.dtype, jnp.floating)


def visible(x: Array) -> bool:
    """Whether to look at numbers saves work: not where they may be traced."""
    return False


def boolean(x: Array) -> Array:
    """True where a number is not 0."""
    return x != 0


def size(x: Array, axis: int | None = None) -> int:
    """How many entries, of an axis or in all."""
    return x.size if axis is None else x.shape[axis]


def above(x: Array, least: float) -> Array:
    """The entries that are larger than `least`, and NaN; 0 in place of the others."""
    return jnp.where(x <= least, 0, x)


def inner(x: Array, y: Array) -> Array:
    """The sum of the products of two arrays of one shape."""
    return jnp.sum(x * y)


def count(x: Array, like: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """How many are true, as a number of the type of `like`."""
    return jnp.sum(x, axis, like.dtype, keepdims=keepdims)


def cast(x: Array, like: Array) -> Array:
    """Numbers or booleans in the type of `like`."""
    return x.astype(like.dtype)


def arange(n: int, like: Array) -> Array:
    """The integers 0 ... n - 1."""
    return jnp.arange(n)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Zeros of the type of `like`."""
    return jnp.zeros(shape, like.dtype)


def eye(n: int, like: Array) -> Array:
    """The boolean identity matrix."""
    return jnp.eye(n, dtype=bool)


def put(x: Array, index: Array, value: float | Array) -> Array:
    """`x` with `value`, one or (..., K), at index[..., k] of the last axis, for every k."""
    return jnp.put_along_axis(x, index, value, -1, inplace=False)


def layer_norm(x: Array, eps: float) -> Array:
    """The last axis with mean 0 and variance 1, `eps` joining the variance."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + eps)


def batch_norm(x: Array, eps: float) -> Array:
    """The columns of (N, C) with mean 0 and variance 1, `eps` joining the variance."""
    centred = x - x.mean(0)
    return centred / jnp.sqrt((centred**2).mean(0) + eps)


def correlations(x: Array, y: Array) -> Array:
    """Of every column of two (N, C) their correlation (C,); 0 where a side is constant."""
    (u, a), (v, b) = (_columns(side) for side in (x, y))
    varies = (a > 0) & (b > 0)
    lengths = jnp.sqrt(jnp.where(varies, a, 1)) * jnp.sqrt(jnp.where(varies, b, 1))
    return jnp.where(varies, (u * v).sum(0) / lengths, 0)


def _columns(x: Array) -> tuple[Array, Array]:
    """Columns centred, and their sums of squares; 0 where they are constant."""
    mean = x.mean(0)
    square = ((x - mean) ** 2).sum(0)
    return x - mean, jnp.where(square > CONSTANT * len(x) * mean**2, square, 0)


def top(x: Array, k: int) -> Array:
    """The indices of the k largest entries of the last axis, the largest first."""
    return jax.lax.top_k(x, k)[1]


def select(x: Array, index: Sequence[int]) -> Array:
    """The entries `index` of the last axis, in that order."""
    return jnp.take(x, jnp.asarray(index), -1)


def one_hot(index: Array, n: int, like: Array) -> Array:
    """(...,) to (..., n) in the type of `like`; an index out of range is a row of zeros."""
    return jax.nn.one_hot(index, n, dtype=like.dtype)


def logsumexp(x: Array, axis: int = -1) -> Array:
    return jax.nn.logsumexp(x, axis)


def kl(s: Array, t: Array, temperature: Any) -> Array:
    """Rows of KL(softmax(t / T) || softmax(s / T)) over the last axis."""
    log_q = jnp.maximum(log_softmax(s / temperature), LOWEST)
    log_p = jnp.maximum(log_softmax(t / temperature), LOWEST)
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)


def uncorrelated(x: Array, y: Array) -> tuple[Array, Array]:
    """The means of 1 - corr(exp x, exp y) over the rows and over the columns of (N, C).

    Entries that are -inf on both sides do not count. What is constant on a side has no correlation,
    and is no part of the mean.
    """
    return _apart(x, y, -1), _apart(x, y, -2)


def _apart(x: Array, y: Array, axis: int) -> Array:
    """The mean of 1 - corr(exp x, exp y) along an axis."""
    counts = jnp.maximum(x, y) != -jnp.inf
    u, v = (_deviations(side, counts, axis) for side in (x, y))
    known = (u != 0).any(axis) & (v != 0).any(axis)
    gaps = jnp.where(known, ((u - v) ** 2).sum(axis) / 2, 0)
    return gaps.sum() / jnp.maximum(known.sum(), 1)


def _deviations(x: Array, counts: Array, axis: int) -> Array:
    """exp(x) centred and of unit length; zeros where it is constant."""
    top = jnp.where(counts, x, LOWEST).max(axis, keepdims=True)
    e = jnp.expm1(jnp.where(counts, x - detach(top), 0))
    n = jnp.maximum(counts.sum(axis, keepdims=True), 1)
    e = jnp.where(counts, e - e.sum(axis, keepdims=True) / n, 0)
    square = (e**2).sum(axis, keepdims=True)
    return e / jnp.sqrt(jnp.where(square > 0, square, 1))


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
        picked = take(log_q, jnp.where(target < 0, 0, target)[..., None])[..., 0]
        return -jnp.where(target < 0, 0, picked)
    return -(target * jnp.where(target == 0, 0, log_q)).sum(-1)


def mean_soft_cross_entropy(s: Array, target: Array) -> Array:
    """The mean of the rows, whose target is a distribution."""
    return cross_entropy(s, target).mean()


def mean_cross_entropy(s: Array, target: Array) -> Array:
    """The mean of the rows whose integer target is not -100; 0 where there is none."""
    return cross_entropy(s, target).sum() / jnp.maximum((target != -100).sum(), 1)


def mean_log_softmax(x: Array) -> Array:
    """Rows of the mean of log softmax over the classes that are not -inf."""
    log_q = log_softmax(x)
    alive = ~jnp.isneginf(log_q)
    return jnp.where(alive, log_q, 0).sum(-1) / alive.sum(-1)


def mixed_kl(s: Array, t: Array, share: Any, temperature: Any) -> Array:
    """Rows of KL(p || m), m = share p + (1 - share) q, p = softmax(t / T), q = softmax(s / T)."""
    log_q, log_p = (jnp.maximum(log_softmax(x / temperature), LOWEST) for x in (s, t))
    share = jnp.asarray(share, s.dtype)
    log_share, log_rest = jnp.log(share), jnp.log1p(-share)
    ratio = jnp.logaddexp(log_q - log_p + log_rest, log_share)
    return -(jnp.exp(log_p) * (ratio - jnp.logaddexp(log_rest, log_share))).sum(-1)


def binary_kl(s: Array, t: Array) -> Array:
    """Elementwise KL(Bernoulli(sigmoid(t)) || Bernoulli(sigmoid(s)))."""
    yes, no = (
        jnp.maximum(log_sigmoid(a), LOWEST) - jnp.maximum(log_sigmoid(b), LOWEST)
        for a, b in ((t, s), (-t, -s))
    )
    return sigmoid(t) * yes + sigmoid(-t) * no


def binary_cross_entropy(s: Array, y: Array, known: Array | None = None) -> Array:
    """Elementwise -y log sigmoid(s) - (1 - y) log sigmoid(-s), finite; 0 for what is not known."""
    if known is not None:
        s, y = jnp.where(known, s, LOWEST), jnp.where(known, y, 0)
    yes, no = (jnp.maximum(log_sigmoid(x), LOWEST) for x in (s, -s))
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
    p, x = sigmoid(-abs(t)), jnp.where(t > 0, -s, s)
    return softplus(x) - p * x, abs(p - sigmoid(x))


def pool(x: Array, size: tuple[int, int]) -> Array:
    """Adaptive average pooling of (B, C, H, W)."""
    for axis, bins in zip((2, 3), size, strict=True):
        n = x.shape[axis]
        edges = [(i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)]
        parts = [jax.lax.slice_in_dim(x, low, high, axis=axis).mean(axis) for low, high in edges]
        x = jnp.stack(parts, axis)
    return x


def bilinear(x: Array, size: tuple[int, int]) -> Array:
    """(B, C, H, W) at another size, between the centres of the four closest entries."""
    return jax.image.resize(x, (*x.shape[:2], *size), "bilinear", antialias=False)


def max_pool(x: Array, window: tuple[int, int]) -> Array:
    """Largest of windows side by side of (B, C, H, W); the last may reach over the edge."""
    (h, w), (height, width) = window, x.shape[2:]
    x = jnp.pad(x, ((0, 0), (0, 0), (0, -height % h), (0, -width % w)), constant_values=-jnp.inf)
    return x.reshape(*x.shape[:2], -(-height // h), h, -(-width // w), w).max((3, 5))


def nearest(x: Array, size: tuple[int, int]) -> Array:
    """The last two axes at another size: entry i of an axis is entry floor(i * old / new)."""
    for axis, n in zip((-2, -1), size, strict=True):
        x = jnp.take(x, jnp.arange(n) * x.shape[axis] // n, axis)
    return x


def recomputed(function: Callable[..., Array], *arrays: Array) -> Array:
    """function(*arrays), whose intermediates are computed again for the gradient, not kept."""
    return jax.checkpoint(function)(*arrays)


def svd(x: Array) -> tuple[Array, Array]:
    """Singular values (..., R) and right singular vectors (..., D, R) of matrices (..., N, D)."""
    _, sigma, v = jnp.linalg.svd(x, full_matrices=False)
    return sigma, v.mT


def unit(x: Array, axis: int = -1) -> Array:
    """Vectors of an axis at length 1; one of zeros stays, and has no gradient."""
    square = (x**2).sum(axis, keepdims=True)
    return x / jnp.sqrt(jnp.where(square == 0, jnp.inf, square))


def misalignment(x: Array, y: Array) -> Array:
    """1 - cos of two arrays as vectors, exactly 0 at equality; 1/2 where one alone is zeros."""
    gap = unit(jnp.ravel(x)) - unit(jnp.ravel(y))
    return (gap**2).sum() / 2


def squares(x: Array, y: Array) -> Array:
    """Elementwise (x - y)**2."""
    return (x - y) ** 2


def huber(x: Array, y: Array) -> Array:
    """Elementwise: d**2 / 2 up to |d| = 1, |d| - 1/2 beyond."""
    d = jnp.abs(x - y)
    return jnp.where(d < 1, (x - y) ** 2 / 2, d - 0.5)


def mean_absolute(x: Array, y: Array, axis: int | None = None) -> Array:
    """The mean of |x - y| over an axis, or over all entries; 0 of none."""
    return _mean(jnp.abs(x - y), axis)


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
    return matmul(x, jnp.swapaxes(x, -1, -2))


def square_distances(x: Array) -> Array:
    """Squared Euclidean distances of the rows (B, B), exactly 0 where rows coincide."""
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def cosines(square: Array) -> Array:
    """cos[a, b, c] at a between b and c, of squared distances; 0 where b or c is at distance 0."""
    apart = square > 0
    inverse = jnp.where(apart, 1 / jnp.sqrt(jnp.where(apart, square, 1)), 0)
    sides = square[:, :, None] + square[:, None, :] - square
    return sides * inverse[:, :, None] * inverse[:, None, :] / 2


def dots(x: Array, rows: Array, index: Array) -> Array:
    """x[b] . rows[index[b, k]] (B, K), without a gradient."""
    return jax.lax.stop_gradient(jnp.einsum("bd,bkd->bk", x, rows[index]))


def nce(x: Array, rows: Array, index: Array, shift: Any) -> Array:
    """(B,): softplus(-l_0) + sum_k>0 softplus(l_k), l_k = x[b] . rows[index[b, k]] - shift."""
    logits = jnp.einsum("bd,bkd->bk", x, jax.lax.stop_gradient(rows)[index]) - shift
    return softplus(-logits[:, 0]) + softplus(logits[:, 1:]).sum(-1)


def rows(x: Array) -> Array:
    """(B, ...) as (B, D)."""
    return x.reshape(len(x), -1)
