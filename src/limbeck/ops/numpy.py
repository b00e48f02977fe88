"""The array operations of the losses for NumPy arrays: values only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

abs = np.abs
any = np.any
matmul = np.matmul
mean = np.mean
moveaxis = np.moveaxis
sqrt = np.sqrt
sum = np.sum
where = np.where
at_least = np.maximum
expand = np.broadcast_to


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


def eye(n: int, like: Array) -> Array:
    """The boolean identity matrix."""
    return np.eye(n, dtype=bool)


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


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
