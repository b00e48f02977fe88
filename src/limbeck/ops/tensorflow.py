"""The array operations of the losses for TensorFlow tensors and variables, eager or in a graph.

TensorFlow does not mix types, so integers are int64 here, and what joins two arrays casts the
second. A length that a graph does not know is None.
"""

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from limbeck.ops import CONSTANT

Array = Any  # tf.Tensor, tf.Variable, or a symbol of a graph under construction
Axis = int | tuple[int, ...] | None
LOWEST = -3e38  # stands for -inf where 0 * -inf would be NaN

abs = tf.abs
any = tf.reduce_any
concat = tf.concat
cumsum = tf.cumsum
detach = tf.stop_gradient
exp = tf.exp
expm1 = tf.math.expm1
isnan = tf.math.is_nan
log = tf.math.log
log_sigmoid = tf.math.log_sigmoid
log_softmax = tf.nn.log_softmax
matmul = tf.matmul
max = tf.reduce_max
maximum = tf.maximum
mean = tf.reduce_mean
minimum = tf.minimum
relu = tf.nn.relu
sigmoid = tf.sigmoid
softmax = tf.nn.softmax
softplus = tf.math.softplus
sqrt = tf.sqrt
stack = tf.stack
sum = tf.reduce_sum


def cast(x: Array, like: Array) -> Array:
    """Numbers or booleans in the type of `like`."""
    return tf.cast(x, like.dtype)


def visible(x: Array) -> bool:
    """Whether to look at numbers saves work: not where they may be traced."""
    return False


def boolean(x: Array) -> Array:
    """True where a number is not 0."""
    return tf.cast(x, tf.bool)


def size(x: Array, axis: int | None = None) -> Any:
    """How many entries, of an axis or in all; in the type of `x` where the graph does not know."""
    shape = x.shape if axis is None else x.shape[axis:][:1]
    if shape.is_fully_defined():
        return shape.num_elements()
    return tf.cast(tf.size(x) if axis is None else tf.shape(x)[axis], x.dtype)


def above(x: Array, least: float) -> Array:
    """The entries that are larger than `least`, and NaN; 0 in place of the others."""
    return where(x <= least, 0, x)


def inner(x: Array, y: Array) -> Array:
    """The sum of the products of two arrays of one shape."""
    return tf.reduce_sum(x * y)


def count(x: Array, like: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """How many are true, as a number of the type of `like`."""
    return tf.reduce_sum(tf.cast(x, like.dtype), axis, keepdims)


def where(condition: Array, x: Array, y: Array) -> Array:
    like = y if isinstance(x, int | float) else x
    return tf.where(condition, *(tf.cast(side, like.dtype) for side in (x, y)))


def at_least(x: Array, low: Any) -> Array:
    return tf.maximum(x, tf.cast(low, x.dtype))


def reshape(x: Array, shape: Sequence[int | None]) -> Array:
    """One length may be None."""
    return tf.reshape(x, [-1 if n is None else n for n in shape])


def expand(x: Array, shape: Sequence[int | None]) -> Array:
    """Lengths that are None stay those of `x`, which must have them."""
    if builtins.any(n is None and own == 1 for n, own in zip(shape, x.shape, strict=True)):
        raise ValueError(
            f"an array of shape {tuple(x.shape)} cannot be extended to {tuple(shape)}, of which "
            "the graph does not know every length; give a mask of every position"
        )
    own = tf.shape(x)
    return tf.broadcast_to(x, [own[i] if n is None else n for i, n in enumerate(shape)])


def moveaxis(x: Array, source: int, destination: int) -> Array:
    order = list(range(x.shape.rank))
    order.insert(destination % len(order), order.pop(source))
    return tf.transpose(x, order)


def argmax(x: Array) -> Array:
    """The index of the largest entry of the last axis."""
    return tf.argmax(x, -1)


def ranked(x: Array) -> tuple[Array, Array]:
    """The last axis, the largest first, and where each stood; of equal entries the first first."""
    order = tf.cast(tf.argsort(x, direction="DESCENDING", stable=True), tf.int64)
    return take(x, order), order


def sort(x: Array, descending: bool = False) -> Array:
    """The last axis in order."""
    return tf.sort(x, direction=_direction(descending))


def _direction(descending: bool) -> str:
    return "DESCENDING" if descending else "ASCENDING"


def take(x: Array, index: Array) -> Array:
    """x[..., index[..., k]] for every k of the last axis."""
    return tf.gather(x, index, batch_dims=x.shape.rank - 1)


def float32(x: Array) -> Array:
    """At least single precision; float64 stays."""
    return tf.convert_to_tensor(x) if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def eps(x: Array) -> float:
    """The relative spacing of the numbers of `x`."""
    return float(tf.experimental.numpy.finfo(x.dtype.as_numpy_dtype).eps)


def integer(x: Array) -> bool:
    return not tf.as_dtype(x.dtype).is_floating


def arange(n: int, like: Array) -> Array:
    """The integers 0 ... n - 1, in the type of `like` where that is one of integers."""
    return tf.range(n, dtype=like.dtype if integer(like) else tf.int64)


def zeros(shape: Sequence[int | None], like: Array) -> Array:
    """Zeros of the type of `like`; a length that is None is that of `like`."""
    return tf.zeros(
        [tf.shape(like)[i] if n is None else n for i, n in enumerate(shape)], like.dtype
    )


def eye(n: int | None, like: Array) -> Array:
    """The boolean identity matrix; a length that is None is that of `like`."""
    return tf.eye(tf.shape(like)[0] if n is None else n) > 0


def put(x: Array, index: Array, value: float) -> Array:
    """`x` with `value` at index[..., k] of the last axis, for every k."""
    chosen = tf.reduce_any(tf.one_hot(index, x.shape[-1], True, False, dtype=tf.bool), -2)
    return where(chosen, value, x)


def layer_norm(x: Array, eps: float) -> Array:
    """The last axis with mean 0 and variance 1, `eps` joining the variance."""
    centred = x - tf.reduce_mean(x, -1, True)
    return centred / tf.sqrt(tf.reduce_mean(centred**2, -1, True) + eps)


def batch_norm(x: Array, eps: float) -> Array:
    """The columns of (N, C) with mean 0 and variance 1, `eps` joining the variance."""
    centred = x - tf.reduce_mean(x, 0)
    return centred / tf.sqrt(tf.reduce_mean(centred**2, 0) + eps)


def correlations(x: Array, y: Array) -> Array:
    """Of every column of two (N, C) their correlation (C,); 0 where a side is constant."""
    (u, a), (v, b) = (_columns(side) for side in (x, y))
    varies = (a > 0) & (b > 0)
    lengths = tf.sqrt(where(varies, a, 1)) * tf.sqrt(where(varies, b, 1))
    return where(varies, tf.reduce_sum(u * v, 0) / lengths, 0)


def _columns(x: Array) -> tuple[Array, Array]:
    """Columns centred, and their sums of squares; 0 where they are constant."""
    mean = tf.reduce_mean(x, 0)
    square = tf.reduce_sum((x - mean) ** 2, 0)
    n = tf.cast(tf.shape(x)[0], x.dtype)
    return x - mean, where(square > CONSTANT * n * mean**2, square, 0)


def top(x: Array, k: int) -> Array:
    """The indices of the k largest entries of the last axis, the largest first."""
    return tf.cast(tf.math.top_k(x, k).indices, tf.int64)


def select(x: Array, index: Sequence[int]) -> Array:
    """The entries `index` of the last axis, in that order."""
    return tf.gather(x, index, axis=-1)


def one_hot(index: Array, n: int, like: Array) -> Array:
    """(...,) to (..., n) in the type of `like`; an index out of range is a row of zeros."""
    return tf.one_hot(index, n, dtype=like.dtype)


def logsumexp(x: Array, axis: int = -1) -> Array:
    return tf.reduce_logsumexp(x, axis)


def kl(s: Array, t: Array, temperature: Any) -> Array:
    """Rows of KL(softmax(t / T) || softmax(s / T)) over the last axis."""
    log_q = tf.maximum(log_softmax(s / temperature), LOWEST)
    log_p = tf.maximum(log_softmax(t / temperature), LOWEST)
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), -1)


def uncorrelated(x: Array, y: Array) -> tuple[Array, Array]:
    """The means of 1 - corr(exp x, exp y) over the rows and over the columns of (N, C).

    Entries that are -inf on both sides do not count. What is constant on a side has no correlation,
    and is no part of the mean.
    """
    return _apart(x, y, -1), _apart(x, y, -2)


def _apart(x: Array, y: Array, axis: int) -> Array:
    """The mean of 1 - corr(exp x, exp y) along an axis."""
    counts = tf.maximum(x, y) != -float("inf")
    u, v = (_deviations(side, counts, axis) for side in (x, y))
    known = tf.reduce_any(u != 0, axis) & tf.reduce_any(v != 0, axis)
    gaps = where(known, tf.reduce_sum((u - v) ** 2, axis) / 2, 0)
    return tf.reduce_sum(gaps) / at_least(count(known, x), 1)


def _deviations(x: Array, counts: Array, axis: int) -> Array:
    """exp(x) centred and of unit length; zeros where it is constant."""
    top = tf.reduce_max(where(counts, x, LOWEST), axis, keepdims=True)
    e = tf.math.expm1(where(counts, x - detach(top), 0))
    n = at_least(count(counts, e, axis, keepdims=True), 1)
    e = where(counts, e - tf.reduce_sum(e, axis, keepdims=True) / n, 0)
    square = tf.reduce_sum(e**2, axis, keepdims=True)
    return e / tf.sqrt(where(square > 0, square, 1))


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
    return factor * tf.reduce_sum(forth + back)


def total_kl(s: Array, t: Array, temperature: Any, factor: Any) -> Array:
    """`factor` times the sum of the rows of `kl`."""
    return factor * tf.reduce_sum(kl(s, t, temperature))


def cross_entropy(s: Array, target: Array) -> Array:
    """Rows of -sum_c target_c log softmax(s)_c; an integer target of -100 gives 0."""
    log_q = log_softmax(s)
    if integer(target):
        picked = take(log_q, tf.maximum(target, 0)[..., None])[..., 0]
        return -where(target < 0, 0, picked)
    return -tf.reduce_sum(target * where(target == 0, 0, log_q), -1)


def mean_soft_cross_entropy(s: Array, target: Array) -> Array:
    """The mean of the rows, whose target is a distribution."""
    return tf.reduce_mean(cross_entropy(s, target))


def mean_cross_entropy(s: Array, target: Array) -> Array:
    """The mean of the rows whose integer target is not -100; 0 where there is none."""
    return tf.reduce_sum(cross_entropy(s, target)) / at_least(count(target != -100, s), 1)


def mean_log_softmax(x: Array) -> Array:
    """Rows of the mean of log softmax over the classes that are not -inf."""
    log_q = log_softmax(x)
    alive = log_q > -float("inf")
    return tf.reduce_sum(where(alive, log_q, 0), -1) / count(alive, x, -1)


def mixed_kl(s: Array, t: Array, share: Any, temperature: Any) -> Array:
    """Rows of KL(p || m), m = share p + (1 - share) q, p = softmax(t / T), q = softmax(s / T)."""
    log_q, log_p = (tf.maximum(log_softmax(x / temperature), LOWEST) for x in (s, t))
    share = tf.cast(share, s.dtype)
    log_share, log_rest = tf.math.log(share), tf.math.log1p(-share)
    ratio = _logaddexp(log_q - log_p + log_rest, log_share)
    return -tf.reduce_sum(tf.exp(log_p) * (ratio - _logaddexp(log_rest, log_share)), -1)


def _logaddexp(x: Array, y: Array) -> Array:
    top, low = tf.maximum(x, y), tf.minimum(x, y)
    return top + tf.math.softplus(low - top)


def binary_kl(s: Array, t: Array) -> Array:
    """Elementwise KL(Bernoulli(sigmoid(t)) || Bernoulli(sigmoid(s)))."""
    yes, no = (
        tf.maximum(log_sigmoid(a), LOWEST) - tf.maximum(log_sigmoid(b), LOWEST)
        for a, b in ((t, s), (-t, -s))
    )
    return tf.sigmoid(t) * yes + tf.sigmoid(-t) * no


def binary_cross_entropy(s: Array, y: Array, known: Array | None = None) -> Array:
    """Elementwise -y log sigmoid(s) - (1 - y) log sigmoid(-s), finite; 0 for what is not known."""
    if known is not None:
        s, y = where(known, s, LOWEST), where(known, y, 0)
    yes, no = (tf.maximum(log_sigmoid(x), LOWEST) for x in (s, -s))
    return -(y * yes + (1 - y) * no)


def total_binary_kl(s: Array, t: Array, temperature: Any, factor: Any) -> Array:
    """`factor` times the sum of `binary_kl` of logits over T."""
    return factor * tf.reduce_sum(binary_kl(s / temperature, t / temperature))


def total_binary_cross_entropy(
    s: Array, y: Array, divisor: Any, known: Array | None = None
) -> Array:
    """The sum of `binary_cross_entropy` over `divisor`."""
    return tf.reduce_sum(binary_cross_entropy(s, y, known)) / divisor


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
    p, x = sigmoid(-abs(t)), tf.where(t > 0, -s, s)
    return softplus(x) - p * x, abs(p - sigmoid(x))


def pool(x: Array, size: tuple[int, int]) -> Array:
    """Adaptive average pooling of (B, C, H, W)."""
    for axis, bins in zip((2, 3), size, strict=True):
        n = x.shape[axis]
        x = moveaxis(x, axis, 0)
        edges = [(i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)]
        x = moveaxis(tf.stack([tf.reduce_mean(x[low:high], 0) for low, high in edges]), 0, axis)
    return x


def bilinear(x: Array, size: tuple[int, int]) -> Array:
    """(B, C, H, W) at another size, between the centres of the four closest entries."""
    resized = tf.image.resize(tf.transpose(x, (0, 2, 3, 1)), size)
    return tf.cast(tf.transpose(resized, (0, 3, 1, 2)), x.dtype)


def max_pool(x: Array, window: tuple[int, int]) -> Array:
    """Largest of windows side by side of (B, C, H, W); the last may reach over the edge."""
    (h, w), (height, width) = window, x.shape[2:]
    edges = ((0, 0), (0, 0), (0, -height % h), (0, -width % w))
    x = tf.pad(x, edges, constant_values=x.dtype.min)
    shape = (x.shape[0], x.shape[1], -(-height // h), h, -(-width // w), w)
    return tf.reduce_max(reshape(x, shape), (3, 5))


def nearest(x: Array, size: tuple[int, int]) -> Array:
    """The last two axes at another size: entry i of an axis is entry floor(i * old / new)."""
    for axis, n in zip((-2, -1), size, strict=True):
        x = tf.gather(x, [i * x.shape[axis] // n for i in range(n)], axis=axis)
    return x


def recomputed(function: Callable[..., Array], *arrays: Array) -> Array:
    """function(*arrays), whose intermediates are computed again for the gradient, not kept."""
    return tf.recompute_grad(function)(*arrays)


def svd(x: Array) -> tuple[Array, Array]:
    """Singular values (..., R) and right singular vectors (..., D, R) of matrices (..., N, D)."""
    sigma, _, v = tf.linalg.svd(x)
    return sigma, v


def unit(x: Array, axis: int = -1) -> Array:
    """Vectors of an axis at length 1; one of zeros stays, and has no gradient."""
    square = tf.reduce_sum(x**2, axis, keepdims=True)
    return x / tf.sqrt(where(square == 0, float("inf"), square))


def misalignment(x: Array, y: Array) -> Array:
    """1 - cos of two arrays as vectors, exactly 0 at equality; 1/2 where one alone is zeros."""
    gap = unit(tf.reshape(x, [-1])) - unit(tf.reshape(y, [-1]))
    return tf.reduce_sum(gap**2) / 2


def squares(x: Array, y: Array) -> Array:
    """Elementwise (x - y)**2."""
    return (x - y) ** 2


def huber(x: Array, y: Array) -> Array:
    """Elementwise: d**2 / 2 up to |d| = 1, |d| - 1/2 beyond."""
    d = tf.abs(x - y)
    return tf.where(d < 1, (x - y) ** 2 / 2, d - 0.5)


def mean_absolute(x: Array, y: Array, axis: int | None = None) -> Array:
    """The mean of |x - y| over an axis, or over all entries; 0 of none."""
    return _mean(tf.abs(x - y), axis)


def mean_squares(x: Array, y: Array, axis: int | None = None) -> Array:
    """The mean of `squares`, as `mean_absolute`."""
    return _mean(squares(x, y), axis)


def mean_huber(x: Array, y: Array, axis: int | None = None) -> Array:
    """The mean of `huber`, as `mean_absolute`."""
    return _mean(huber(x, y), axis)


def _mean(x: Array, axis: int | None) -> Array:
    return tf.reduce_sum(x, axis) / at_least(tf.cast(size(x, axis), x.dtype), 1)


def gram(x: Array) -> Array:
    """Inner products (..., N, N) of the rows of (..., N, D)."""
    return matmul(x, moveaxis(x, -1, -2))


def square_distances(x: Array) -> Array:
    """Squared Euclidean distances of the rows (B, B), exactly 0 where rows coincide."""
    return tf.reduce_sum((x[:, None] - x[None]) ** 2, -1)


def cosines(square: Array) -> Array:
    """cos[a, b, c] at a between b and c, of squared distances; 0 where b or c is at distance 0."""
    apart = square > 0
    inverse = where(apart, 1 / tf.sqrt(where(apart, square, 1)), 0)
    sides = square[:, :, None] + square[:, None, :] - square
    return sides * inverse[:, :, None] * inverse[:, None, :] / 2


def dots(x: Array, rows: Array, index: Array) -> Array:
    """x[b] . rows[index[b, k]] (B, K), without a gradient."""
    return tf.stop_gradient(tf.einsum("bd,bkd->bk", x, tf.gather(rows, index)))


def nce(x: Array, rows: Array, index: Array, shift: Any) -> Array:
    """(B,): softplus(-l_0) + sum_k>0 softplus(l_k), l_k = x[b] . rows[index[b, k]] - shift."""
    chosen = tf.gather(tf.stop_gradient(rows), index)
    logits = tf.einsum("bd,bkd->bk", x, chosen) - shift
    return softplus(-logits[:, 0]) + tf.reduce_sum(softplus(logits[:, 1:]), -1)


def rows(x: Array) -> Array:
    """(B, ...) as (B, D)."""
    return reshape(x, (x.shape[0], x.shape[1:].num_elements()))
