"""The array operations of the losses for NumPy arrays: values only."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

abs = np.abs
all = np.all
any = np.any
at_least = np.maximum
at_most = np.minimum
concat = np.concatenate
cumsum = np.cumsum
exp = np.exp
expand = np.broadcast_to
log = np.log
matmul = np.matmul
max = np.max
maximum = np.maximum
mean = np.mean
min = np.min
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


def integer(x: Array) -> bool:
    return not np.issubdtype(x.dtype, np.floating)


def arange(n: int, like: Array) -> Array:
    """The integers 0 ... n - 1."""
    return np.arange(n)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Zeros of the type of `like`."""
    return np.zeros(shape, like.dtype)


def cast(x: Array, like: Array) -> Array:
    """Numbers or booleans in the type of `like`."""
    return x.astype(like.dtype)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(x, 0)


def log_sigmoid(x: Array) -> Array:
    return -np.logaddexp(-x, 0)


def sigmoid(x: Array) -> Array:
    return np.exp(log_sigmoid(x))


def sort(x: Array, descending: bool = False) -> Array:
    """The last axis in order."""
    return -np.sort(-x, -1) if descending else np.sort(x, -1)


def argsort(x: Array, descending: bool = False) -> Array:
    """The order of the last axis; of equal entries the first comes first."""
    return np.argsort(-x if descending else x, -1, kind="stable")


def one_hot(index: Array, n: int, like: Array) -> Array:
    """(...,) to (..., n) in the type of `like`; an index out of range is a row of zeros."""
    return (index[..., None] == np.arange(n)).astype(like.dtype)


def eye(n: int, like: Array) -> Array:
    """The boolean identity matrix."""
    return np.eye(n, dtype=bool)


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def softmax(x: Array) -> Array:
    return np.exp(log_softmax(x))


def logsumexp(x: Array, axis: int = -1) -> Array:
    top = x.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(x - top).sum(axis)) + top.squeeze(axis)


def kl(s: Array, t: Array, temperature: Any) -> Array:
    """Rows of KL(softmax(t / T) || softmax(s / T)) over the last axis."""
    log_q, log_p = log_softmax(s / temperature), log_softmax(t / temperature)
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):
        return (p * np.where(p > 0, log_p - log_q, 0)).sum(-1)


def total_kl(s: Array, t: Array, temperature: Any, factor: Any) -> Array:
    """`factor` times the sum of the rows of `kl`."""
    return factor * kl(s, t, temperature).sum()


def cross_entropy(s: Array, target: Array) -> Array:
    """Rows of -sum_c target_c log softmax(s)_c; integer targets below 0 give 0."""
    log_q = log_softmax(s)
    if integer(target):
        known = target != -100
        if np.any(known & (target < 0)):
            raise IndexError(f"label {target[known].min()} is out of bounds")
        picked = np.take_along_axis(log_q, np.where(known, target, 0)[..., None], -1)[..., 0]
        return -np.where(known, picked, 0)
    with np.errstate(invalid="ignore"):
        return -np.where(target == 0, 0, target * log_q).sum(-1)


def total_cross_entropy(s: Array, target: Array) -> tuple[Array, Array]:
    """The sum of the rows against integer targets, and how many of these are not -100."""
    return cross_entropy(s, target).sum(), (target != -100).sum()


def mean_log_softmax(x: Array) -> Array:
    """Rows of the mean of log softmax over the classes that are not -inf."""
    log_q = log_softmax(x)
    alive = ~np.isneginf(log_q)
    return np.where(alive, log_q, 0).sum(-1) / alive.sum(-1)


def pool(x: Array, size: tuple[int, int]) -> Array:
    """Adaptive average pooling of (B, C, H, W)."""
    for axis, bins in zip((2, 3), size, strict=True):
        n = x.shape[axis]
        edges = [(i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)]
        means = [np.take(x, range(low, high), axis).mean(axis) for low, high in edges]
        x = np.stack(means, axis)
    return x


def huber(x: Array, y: Array) -> Array:
    """Elementwise: d**2 / 2 up to |d| = 1, |d| - 1/2 beyond."""
    d = np.abs(x - y)
    return np.where(d < 1, d**2 / 2, d - 0.5)


def distances(x: Array) -> Array:
    """Euclidean distances of the rows (B, B)."""
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


def rows(x: Array) -> Array:
    """(B, ...) as (B, D)."""
    return x.reshape(len(x), -1)
