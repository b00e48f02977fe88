"""Losses on logits that compare the samples of a batch as well as the classes.

N samples (every axis but the classes, flattened), C classes, P and Q softened probabilities of
source and student (N, C). They see the batch that they are given.
"""

import math
from collections.abc import Sequence
from typing import Any

from limbeck.losses import differences, reduction, sides


def dist(
    s: Any,
    t: Any,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
) -> Any:
    """Correlation of the classes of a sample, and of the samples of a class (DIST).

    T^2 * [b (1 - mean_i corr(P_i, Q_i)) + g (1 - mean_c corr(P'_c, Q'_c))], b = `beta`,
    g = `gamma`, corr Pearson's. Where one of the two is constant there is no correlation: that
    sample or class does not count, so that a batch of one has no second part. Classes that are -inf
    on both sides do not count. With `axis=1`, maps (B, C, H, W) take every pixel as a sample.

    Args:
        s: student logits with C on `axis`.
        t: source logits of the same shape.
        beta, gamma: weights of the two parts.
        temperature: T > 0, a number or a scalar array.
        axis: where the classes are.
        mask: samples that count, of the shape without `axis` or a prefix of it.

    Returns:
        A scalar in [0, 2 T^2 (beta + gamma)]; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a single class, a T that is not positive.

    Example:
        >>> import numpy as np
        >>> t = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
        >>> round(float(dist(t, t)), 6), round(float(dist(t[::-1], t)), 6)
        (0.0, 3.335554)

    Paper:
        Huang et al., "Knowledge distillation from a stronger teacher", NeurIPS 2022,
        arXiv 2205.10536; weight 2 with T = 4 (CIFAR-100) or T = 1 (ImageNet). Same scale as the
        authors' code, whose eps of 1e-8 is not 0 at equality; the paper has no T^2.
    """
    table, s, t, mask = _samples(s, t, axis, mask)
    sides.positive("temperature", temperature)
    if 0 in s.shape:
        return table.sum(s)
    log_q, log_p = (table.log_softmax(x / temperature) for x in (s, t))
    if mask is not None:
        log_q, log_p = (table.where(mask, x, -math.inf) for x in (log_q, log_p))
    classes, samples = table.uncorrelated(log_q, log_p)
    square = temperature**2
    return square * beta * classes + square * gamma * samples


def mlkd(
    s: Any,
    t: Any,
    *,
    temperatures: Sequence[float] = (4.0, 3.0, 5.0, 2.0, 6.0),
    pairs: float = 1.0,
    axis: int = -1,
    mask: Any = None,
) -> Any:
    """Multi-level logit distillation: instances, samples against samples, classes against classes.

    sum_T [T^2 mean_i KL(P_i || Q_i) + w ||PP' - QQ'||^2 / N + w ||P'P - Q'Q||^2 / C], w = `pairs`,
    squared Frobenius norms. N and C are those that count: samples by `mask`, classes that are not
    -inf on both sides throughout. The third part grows as (N/C)^2.

    Args:
        s: student logits with C on `axis`.
        t: source logits of the same shape.
        temperatures: every T of the sum.
        pairs: weight of what samples, and what classes, have in common.
        axis, mask: as in `dist`.

    Returns:
        A scalar >= 0; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a single class, a T that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> round(float(mlkd(s, t, temperatures=[4.0])), 6)
        0.399122

    Paper:
        Jin et al., "Multi-level logit distillation", CVPR 2023. This is one view; the authors add
        the weak and the strong view. Same scale as their code, in which masks of confidence come to
        a factor of 1/2.
    """
    table, s, t, mask = _samples(s, t, axis, mask)
    if 0 in s.shape:
        return table.sum(s)
    sizes = _sizes(table, s, t, mask)
    for temperature in temperatures:
        sides.positive("temperatures", temperature)
    levels = [_levels(table, s, t, mask, sizes, pairs, T) for T in temperatures]
    return sum(levels[1:], levels[0])


def _samples(s: Any, t: Any, axis: int, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, both sides as samples (N, C), and which samples (N, 1) count."""
    table, s, t, mask = sides.items(s, t, axis, mask)
    shape = (-1, s.shape[-1])
    s, t = table.reshape(s, shape), table.reshape(t, shape)
    return table, s, t, None if mask is None else table.reshape(mask, (-1, 1))


def _sizes(table: Any, s: Any, t: Any, mask: Any) -> tuple[Any, Any]:
    """How many samples count, and how many classes."""
    top = table.maximum(s, t)
    if mask is not None:
        top = table.where(mask, top, -math.inf)
    classes = table.count(table.max(top, 0) != -math.inf, s)
    samples = table.size(s, 0) if mask is None else table.count(mask, s)
    return reduction.divisor(table, samples, None), table.at_least(classes, 1)


def _levels(
    table: Any, s: Any, t: Any, mask: Any, sizes: tuple[Any, Any], weight: float, temperature: Any
) -> Any:
    """The three parts of `mlkd` at one temperature."""
    n, classes = sizes
    q, p = (table.softmax(x / temperature) for x in (s, t))
    if mask is not None:
        q, p = (table.where(mask, x, 0) for x in (q, p))
    instances = table.total_kl(s, t, temperature, temperature**2 / n)
    q_columns, p_columns = table.moveaxis(q, 0, 1), table.moveaxis(p, 0, 1)
    samples = table.matmul(q, q_columns), table.matmul(p, p_columns)
    pairs = table.matmul(q_columns, q), table.matmul(p_columns, p)
    similar = differences.whole(table, table.mean_squares, *samples, n)
    common = differences.whole(table, table.mean_squares, *pairs, classes)
    return instances + weight * (similar + common)
