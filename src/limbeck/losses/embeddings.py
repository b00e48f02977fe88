"""Losses on vectors: embeddings of samples, states of tokens, scores of candidates.

B batch, D width, K negatives of a query, s and t vectors of student and source.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import differences, ready, reduction


def cosine(
    s: Any,
    t: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """One minus the cosine similarity, over the valid items.

    mean_i (1 - cos(s_i, t_i)), computed as half the squared distance of the unit vectors, so that
    equal vectors give exactly 0. A dead vector has no direction: beside a live one it counts 1/2.

    Args:
        s: student vectors, after the projector: (B, D), tokens (B, N, D), maps with `axis=1`.
        t: source vectors of the same shape.
        axis: where the width is.
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar in [0, 2] without unit; 0 where both sides point alike.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> float(cosine(np.array([[3.0, 0.0]]), np.array([[0.0, 2.0]])))
        1.0

    Paper:
        Sanh et al., "DistilBERT", 2019, arXiv 1910.01108: the third term, with weight 1.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    u_s, u_t = table.unit(s, axis), table.unit(t, axis)
    mean = differences.mean(table, table.mean_squares, u_s, u_t, mask, weight, count, axis)
    return mean * (s.shape[axis] / 2)


def margin_mse(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Squared error of the margins between a positive candidate and its negatives.

    mean_bk ((s_b0 - s_bk) - (t_b0 - t_bk))^2 over the valid queries b and negatives k >= 1. Scores
    are whatever both models rank by: dot products, cosines, outputs of a cross-encoder. A score
    that is the same for all candidates of a query drops out.

    Args:
        s: student scores (B, 1 + K), the positive first.
        t: source scores (B, 1 + K), or margins that are known already, (B, K).
        mask: queries (B,) or negatives (B, K) that count.
        weight: factor of each of these, not part of the divisor.
        count: divisor in place of the number of valid negatives.

    Returns:
        A scalar >= 0 in squared units of the scores; 0 where all margins agree.

    Raises:
        ValueError: shapes that do not fit, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[3.0, 1.0, 0.0]]), np.array([[5.0, 4.0, 2.0]])
        >>> float(margin_mse(s, t)), float(margin_mse(s, np.array([[1.0, 3.0]])))
        (0.5, 0.5)

    Paper:
        Hofstaetter et al., "Improving efficient neural ranking models with cross-architecture
        knowledge distillation", 2020, arXiv 2010.02666. sentence-transformers computes the same.
    """
    negatives = s.shape[-1] - 1
    if s.ndim != 2 or negatives < 1 or tuple(t.shape) not in (s.shape, (s.shape[0], negatives)):
        raise ValueError(
            "margin_mse needs scores (B, 1 + K) on both sides, or margins (B, K) of the source, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}"
        )
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    s = s[:, :1] - s[:, 1:]
    if t.shape != s.shape:
        t = t[:, :1] - t[:, 1:]
    if mask is not None:
        mask = reduction.valid(table, mask, s.shape)
        s, t = (table.where(mask, x, 0) for x in (s, t))
    return differences.entries(table, s, t, mask, weight, count)
