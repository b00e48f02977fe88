"""Losses on the geometry of a batch: they compare samples, so they see the batch they are given.

B samples, D features of a sample (everything but the first axis, flattened); widths may differ.
"""

import math
from typing import Any

from limbeck.losses import batches, differences, reduction


def rkd_distance(s: Any, t: Any, *, mask: Any = None) -> Any:
    """Relational distillation of pairwise distances.

    mean over ordered pairs i != j of huber(d_ij / mu_s - D_ij / mu_t), d and D the Euclidean
    distances of student and source, mu the mean of the positive ones. Coinciding samples have
    distance 0 and gradient 0; fewer than two samples give 0.

    Args:
        s: student embeddings (B, ...).
        t: source embeddings (B, ...), of any width.
        mask: samples (B,) that count.

    Returns:
        A scalar >= 0 without unit, free of the embeddings' scale.

    Raises:
        ValueError: batches that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0, 0], [0, 0], [3, 4]]), np.array([[0.0, 0], [1, 0], [0, 2]])
        >>> round(float(rkd_distance(s, t)), 7)
        0.071434

    Paper:
        Park et al., "Relational knowledge distillation", CVPR 2019, arXiv 1904.05068; weight 25.
        The authors average over B^2 entries: (B - 1)/B times this.
    """
    table, s, t, alive = batches.embeddings(s, t, mask)
    n = batches.number(table, alive, s)
    d_s, d_t = (_relative_distances(table, x, alive) for x in (s, t))
    pairs = reduction.divisor(table, n * (n - 1), None)
    return differences.whole(table, table.mean_huber, d_s, d_t, pairs)


def rkd_angle(s: Any, t: Any, *, samples: int | None = None, mask: Any = None) -> Any:
    """Relational distillation of the angles between samples.

    mean over ordered triples of distinct samples (a, b, c) of huber(cos_s - cos_t), cos the cosine
    of the angle at a between b and c. Where two samples coincide the cosine is 0 with gradient 0;
    two that coincide on one side alone add 1/2 besides at either, b = c, as in the authors' sum.
    Fewer than three samples give 0. Time and memory grow as B^3, or as B^2 and `samples`.

    Args:
        s: student embeddings (B, ...).
        t: source embeddings (B, ...), of any width.
        samples: how many triples to average over instead of all; the same places in the batch at
            every call, spread evenly, which is a fair draw where batches are shuffled.
        mask: samples (B,) that count.

    Returns:
        A scalar >= 0 without unit.

    Raises:
        ValueError: batches that differ, `samples` below 1 or of an unknown batch in a graph.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[0.0, 0], [1, 0], [1, 0]])
        >>> round(float(rkd_angle(s, t)), 6)
        0.5

    Paper:
        Park et al., "Relational knowledge distillation", CVPR 2019, arXiv 1904.05068; weight 50.
        The authors average over B^3 entries: (B - 1)(B - 2)/B^2 times this.
    """
    table, s, t, alive = batches.embeddings(s, t, mask)
    batch, n = s.shape[0], batches.number(table, alive, s)
    s, t = (batches.square_distances(table, x, alive) for x in (s, t))
    if samples is not None:
        if samples < 1 or batch is None:
            raise ValueError(
                f"samples must be at least 1 of a batch of known size, got {samples} of {batch}; "
                "leave it out for all"
            )
        if samples < math.perm(batch, 3):
            return _sampled_angle(table, s, t, alive, samples)
    triples = reduction.divisor(table, n * (n - 1) * (n - 2), None)
    cos_s, cos_t = (table.cosines(x) for x in (s, t))
    mean = differences.whole(table, table.mean_huber, cos_s, cos_t, triples)
    return batches.unless_fewer(table, 3, n, mean)


def _relative_distances(table: Any, x: Any, alive: Any) -> Any:
    """Distances over the mean of the positive ones."""
    square = batches.square_distances(table, x, alive)
    apart = square > 0
    d = table.where(apart, table.sqrt(table.where(apart, square, 1)), 0)
    mu = table.sum(d) / table.at_least(table.count(apart, d), 1)
    return d / table.where(mu > 0, mu, 1)


def _sampled_angle(table: Any, s: Any, t: Any, alive: Any, samples: int) -> Any:
    """`rkd_angle` of squared distances over some of the triples."""
    batch = s.shape[0]
    a, b, c = _triples(table, batch, samples, s)

    def cosine(x: Any) -> Any:
        flat = table.reshape(x, (batch * batch,))
        return _cosine(
            table, *(table.take(flat, i) for i in (a * batch + b, a * batch + c, b * batch + c))
        )

    if alive is not None:
        alive = table.take(alive, a) & table.take(alive, b) & table.take(alive, c)
    return reduction.mean(table, table.huber(cosine(s), cosine(t)), alive, None, None)


def _cosine(table: Any, ab: Any, ac: Any, bc: Any) -> Any:
    """The law of cosines: of squared distances, the cosine at a."""
    apart = (ab > 0) & (ac > 0)
    lengths = table.sqrt(table.where(apart, ab, 1)) * table.sqrt(table.where(apart, ac, 1))
    return table.where(apart, (ab + ac - bc) / (2 * lengths), 0)


def _triples(table: Any, batch: int, samples: int, like: Any) -> tuple[Any, Any, Any]:
    """Distinct ordered triples of distinct places in the batch, evenly spread over all of them.

    Triples are counted through in steps that share no factor with how many there are, so that
    neither place lingers.
    """
    each = (batch - 1) * (batch - 2)
    step = batch * each // samples
    while math.gcd(step, batch * each) > 1:
        step -= 1
    code = table.arange(samples, like) * step
    a, b, c = code // each, code % each // (batch - 2), code % (batch - 2)
    b = b + table.cast(b >= a, b)
    low, high = table.minimum(a, b), table.maximum(a, b)
    c = c + table.cast(c >= low, c)
    return a, b, c + table.cast(c >= high, c)
