"""Losses of one pair of layers, for methods that learn which layers go together.

B batch, C channels, H and W height and width, s and t maps of student and source. The learned share
of a pair is the `weight` (B,) of its samples.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import differences, ready


def afd(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Squared distance of energy maps at the source's size (attention-based feature distillation).

    q(f) = vec(pool(mean_c f_c^2)) / ||vec(pool(mean_c f_c^2))||;
    mean_b a_b sum_hw (q(s)_b - q(t)_b)^2, where a = `weight` is the share of this pair of layers.
    The student's map is squared first and pooled to H' x W' after; `attention` does the reverse.

    Args:
        s: student features (B, C, H, W).
        t: source features (B, C', H', W').
        mask: samples (B,) that count.
        weight: share of the pair for each sample (B,); it may carry gradient.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar in [0, 2] times the shares; 0 where both have their energy alike.

    Raises:
        ValueError: features that are not maps, batches that differ.

    Example:
        >>> import numpy as np
        >>> t = np.array([[[[2.0, 0], [1, 1]], [[1, 1], [0, 3]]]])
        >>> share = np.array([0.25])
        >>> round(float(afd(np.zeros((1, 5, 4, 4)), t, weight=share)), 6)
        0.25

    Paper:
        Ji et al., "Show, attend and distill", AAAI 2021, arXiv 2102.02973. The authors' code
        averages over positions: 1/(H'*W') times this, with weight 200.
    """
    _, s, t, mask = ready.maps(s, t, mask)
    return between(energy(s), energy(t), mask=mask, weight=weight, count=count)


def energy(f: Any) -> Any:
    """Mean squares over the channels of maps (B, C, H, W), as maps of one channel."""
    return ops.of(f).mean(f**2, 1, keepdims=True)


def between(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """`afd` from the energies of both sides, so that a layer in many pairs is squared once."""
    table = ops.of(s)
    size = (t.shape[2], t.shape[3])
    s = s if tuple(s.shape[2:]) == size else table.pool(s, size)
    q_s, q_t = (table.unit(table.rows(x)) for x in (s, t))
    mean = differences.mean(table, table.mean_squares, q_s, q_t, mask, weight, count)
    return mean * q_s.shape[-1]
