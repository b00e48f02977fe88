"""Losses on the geometry of a batch: they compare samples, so they see the batch they are given.

B samples, D features of a sample (everything but the first axis, flattened); widths may differ.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import reduction


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
    table, s, t, alive = _embeddings(s, t, mask)
    pairs = alive[:, None] & alive[None, :] & ~table.eye(len(s), s)
    relative = (_relative_distances(table, x, pairs) for x in (s, t))
    return reduction.mean(table, table.huber(*relative), pairs, None, None)


def rkd_angle(s: Any, t: Any, *, mask: Any = None) -> Any:
    """Relational distillation of the angles between samples.

    mean over ordered triples of distinct samples (a, b, c) of huber(cos_s - cos_t), cos the cosine
    of the angle at a between b and c. Where two samples coincide the cosine is 0 with gradient 0;
    fewer than three samples give 0. Memory grows as B^2 D + B^3.

    Args:
        s: student embeddings (B, ...).
        t: source embeddings (B, ...), of any width.
        mask: samples (B,) that count.

    Returns:
        A scalar >= 0 without unit.

    Raises:
        ValueError: batches that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0, 0], [1, 0], [0, 1]]), np.array([[0.0, 0], [1, 0], [1, 0]])
        >>> round(float(rkd_angle(s, t)), 6)
        0.5

    Paper:
        Park et al., "Relational knowledge distillation", CVPR 2019, arXiv 1904.05068; weight 50.
        The authors average over B^3 entries: (B - 1)(B - 2)/B^2 times this.
    """
    table, s, t, alive = _embeddings(s, t, mask)
    apart = ~table.eye(len(s), s) & alive[:, None] & alive[None, :]
    n = table.sum(alive)
    triples = apart[:, :, None] & apart[:, None, :] & (n > 2)
    cosines = (_cosines(table, x) for x in (s, t))
    count = table.at_least(n * (n - 1) * (n - 2), 1)
    return reduction.mean(table, table.huber(*cosines), triples, None, count)


def _embeddings(s: Any, t: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, both sides as float rows (B, D), and which samples count."""
    if s.shape[0] != t.shape[0]:
        raise ValueError(
            f"student and source must have one batch, got {tuple(s.shape)} and {tuple(t.shape)}"
        )
    table = ops.of(s)
    s, t = table.rows(table.float32(s)), table.rows(table.float32(t))
    if mask is None:
        return table, s, t, table.any(table.eye(len(s), s), 1)
    alive = reduction.valid(table, mask, s.shape[:1])
    return table, *reduction.only(table, alive, s, t), alive


def _relative_distances(table: Any, x: Any, pairs: Any) -> Any:
    """Distances over the mean of the positive ones."""
    d = table.where(pairs, table.distances(x), 0)
    positive = table.at_least(table.sum(d > 0), 1)
    mu = table.sum(d) / positive
    return d / table.where(mu > 0, mu, 1)


def _cosines(table: Any, x: Any) -> Any:
    """cos[a, b, c] of the angle at a between b and c (B, B, B)."""
    difference = x[None, :, :] - x[:, None, :]
    square = table.sum(difference**2, -1)
    length = table.sqrt(table.where(square > 0, square, 1))
    unit = table.where((square > 0)[..., None], difference / length[..., None], 0)
    return table.matmul(unit, table.moveaxis(unit, 1, 2))
