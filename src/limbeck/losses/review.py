"""The pyramid loss of ReviewKD."""

from typing import Any

from limbeck.losses import ready, reduction

LEVELS = (4, 2, 1)


def hcl(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Hierarchical context loss: mean squared differences at several resolutions (ReviewKD).

    mean_b of [m(s, t) + m_4 / 2 + m_2 / 4 + m_1 / 8] / (sum of the factors): m is the mean of
    (s - t)^2 over C, H, W, and m_r that of both sides average-pooled to r x r. A level that is not
    smaller than the maps' height is left out, and the next one takes its factor.

    Args:
        s: student features (B, C, H, W), after the fusion.
        t: source features of the same shape.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0 in squared units of the features; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, features that are not maps.

    Example:
        >>> import numpy as np
        >>> t = np.array([[[[2.0, 0], [0, 0]]]])
        >>> round(float(hcl(0 * t, t)), 6)  # (1 + 0.25 / 2) / (1 + 1 / 2)
        0.75

    Paper:
        Chen et al., "Distilling knowledge via knowledge review", CVPR 2021, arXiv 2104.09044. The
        authors' value of one stage; they sum over stages.
    """
    reduction.same_shape(s, t)
    table, s, t, mask = ready.maps(s, t, mask)
    difference, height = s - t, s.shape[2]
    total = _square(table, difference)
    factor = factors = 1.0
    for level in LEVELS:
        if level < height:
            factor /= 2
            factors += factor
            total = total + factor * _square(table, table.pool(difference, (level, level)))
    return reduction.mean(table, total / factors, mask, weight, count)


def _square(table: Any, x: Any) -> Any:
    """Mean of squares over channels and positions (B,)."""
    return table.sum(x**2, (1, 2, 3)) / (x.shape[1] * x.shape[2] * x.shape[3])
