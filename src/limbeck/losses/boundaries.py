"""Losses that mind where a feature is active: on which side of 0 it lies.

B batch, C channels, H and W height and width, s and t features of student and source. The items of
these losses are positions; channels are summed.
"""

from typing import Any

from limbeck.losses import ready, reduction


def ab(
    s: Any,
    t: Any,
    *,
    margin: float = 1.0,
    axis: int = 1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Activation boundaries: the student is active where the source is, by a margin (AB).

    mean_i sum_c max(m - s_ic, 0)^2 where t_ic > 0, max(m + s_ic, 0)^2 elsewhere, m = `margin`. Both
    sides are taken before the ReLU. It is not a divergence: at equality it is 0 only if no
    activation is closer to 0 than m.

    Args:
        s: student features before the ReLU, after the projector: (B, C, H, W), (B, C), ...
        t: source features before the ReLU, of the same shape; only their sign counts, 0 is off.
        margin: m > 0, in units of the student's features.
        axis: where the channels are.
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar >= 0 in squared units of the features.

    Raises:
        ValueError: shapes that differ, a margin that is not positive.

    Example:
        >>> import numpy as np
        >>> float(ab(np.array([[0.5, 0.5]]), np.array([[3.0, -3.0]])))
        2.5

    Paper:
        Heo et al., "Knowledge transfer via distillation of activation boundaries formed by hidden
        neurons", AAAI 2019, arXiv 1811.03233. The authors sum over positions: H*W times this, with
        weight 3/1000.
    """
    if margin <= 0:
        raise ValueError(f"margin must be positive, got {margin}")
    table, s, t, mask = ready.items(s, t, axis, mask)
    short = table.relu(margin - table.where(t > 0, s, -s))
    return reduction.mean(table, table.sum(short**2, axis), mask, weight, count)


def ofd(
    s: Any,
    t: Any,
    margin: Any,
    *,
    axis: int = 1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of features before the ReLU, as far as the ReLU lets it show (OFD).

    mean_i sum_c (s_ic - t'_ic)^2 with t' = max(t, margin_c); 0 where s_ic <= t'_ic <= 0. The margin
    of a channel is negative: what the source's off values are on average.

    Args:
        s: student features before the ReLU, after the projector: (B, C, H, W), (B, C), ...
        t: source features before the ReLU, of the same shape.
        margin: one number a channel (C,), from the source's batch normalisation.
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
        >>> s, t = np.array([[1.0, -3.0, 0.5]]), np.array([[2.0, -1.0, -9.0]])
        >>> float(ofd(s, t, np.array([-0.5, -0.5, -0.5])))
        2.0

    Paper:
        Heo et al., "A comprehensive overhaul of feature distillation", ICCV 2019,
        arXiv 1904.01866. The authors sum over batch and positions: B*H*W times this, with weight
        1/(1000*B) on CIFAR and 1/(10000*B) on ImageNet.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    t = table.maximum(t, ready.channels(table, margin, s, axis, "margin"))
    shows = table.cast((s > t) | (t > 0), s)
    return reduction.mean(table, table.sum(table.squares(s, t) * shows, axis), mask, weight, count)


def byot_hint(
    s: Any,
    t: Any,
    *,
    axis: int = 1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of features where either side is active (BYOT's hint).

    mean_i sum_c (s_ic - t_ic)^2 over the channels with s_ic > 0 or t_ic > 0.

    Args:
        s: features of a shallow exit, after its bottleneck: (B, C, H, W), (B, C), ...
        t: features of the deepest exit, of the same shape.
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
        >>> float(byot_hint(np.array([[1.0, -5.0]]), np.array([[-1.0, -2.0]])))
        4.0

    Paper:
        Zhang et al., "Be your own teacher", ICCV 2019, arXiv 1905.08094, whose formula has no
        mask. Code sums over batch and positions: B*H*W times this, with weight 1e-6.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    active = table.cast((s > 0) | (t > 0), s)
    return reduction.mean(table, table.sum(table.squares(s, t) * active, axis), mask, weight, count)
