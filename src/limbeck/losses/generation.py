"""The loss on features that a student generates."""

from typing import Any

from limbeck.losses import differences, ready


def mgd(
    s: Any,
    t: Any,
    *,
    axis: int = 1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of generated and true features, channels summed (MGD).

    mean_i sum_c (s_ic - t_ic)^2 over all valid positions i, dropped ones included: C times `hint`.

    Args:
        s: what the student generates from its masked features: (B, C, H, W), (B, N, C), ...
        t: source features of the same shape, never masked.
        axis: where the channels are.
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar >= 0 in squared units of the features; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import numpy as np
        >>> float(mgd(np.ones((1, 3, 2, 2)), np.zeros((1, 3, 2, 2))))
        3.0

    Paper:
        Yang et al., "Masked generative distillation", ECCV 2022, arXiv 2205.01529. The authors sum
        over positions: H*W times this.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    mean = differences.mean(table, table.mean_squares, s, t, mask, weight, count, axis)
    return mean * s.shape[axis]
