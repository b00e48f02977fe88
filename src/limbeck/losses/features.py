"""Losses on feature maps.

B batch, C channels, H and W height and width, s and t features of student and source.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import differences, ready, reduction


def hint(
    s: Any,
    t: Any,
    *,
    axis: int = 1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Mean squared difference of features (FitNets).

    mean_i mean_c (s_ic - t_ic)^2 over the valid items i (samples and positions) and channels c.
    A student of another width needs a projector: `Match(losses.hint, ..., project=conv)`.

    Args:
        s: student features, after the projector: (B, C), (B, C, H, W), (B, N, C) with `axis=-1`.
        t: source features of the same shape.
        axis: where the channels are.
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar >= 0 in squared units of the features; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> float(hint(np.full((1, 4), 300, np.float16), np.zeros((1, 4), np.float16)))
        90000.0

    Paper:
        Romero et al., "FitNets: hints for thin deep nets", ICLR 2015, arXiv 1412.6550. The paper
        halves and sums over C, H, W: C*H*W/2 times this. The usual weight with this mean is 100,
        behind a projector with batch normalisation.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    return differences.mean(table, table.mean_squares, s, t, mask, weight, count, axis)


def attention(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Squared distance of spatial attention maps (AT); channels may differ.

    q(f) = vec(mean_c f_c^2) / ||vec(mean_c f_c^2)||;  mean_b sum_hw (q(s)_b - q(t)_b)^2.
    The larger map is average-pooled to the smaller before it is squared. A dead map has q = 0.

    Args:
        s: student features (B, C, H, W).
        t: source features (B, C', H', W').
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar in [0, 2]; 0 where both attend alike.

    Raises:
        ValueError: features that are not maps, batches that differ.

    Example:
        >>> import numpy as np
        >>> t = np.array([[[[2.0, 0], [1, 1]], [[1, 1], [0, 3]]]])
        >>> round(float(attention(np.zeros((1, 5, 2, 2)), t)), 6)
        1.0

    Paper:
        Zagoruyko, Komodakis, "Paying more attention to attention", ICLR 2017, arXiv 1612.03928.
        The authors' code averages over positions: 1/(H*W) times this, with weight 1000.
    """
    if s.ndim != 4 or t.ndim != 4 or s.shape[0] != t.shape[0]:
        raise ValueError(
            "attention needs maps (B, C, H, W) of one batch, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}"
        )
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is not None:
        mask = reduction.valid(table, mask, s.shape[:1])
        s, t = (table.where(mask[:, None, None, None], x, 0) for x in (s, t))
    size = (min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3]))
    s, t = _attention(table, s, size), _attention(table, t, size)
    mean = differences.mean(table, table.mean_squares, s, t, mask, weight, count)
    return mean * s.shape[-1]


def _attention(table: Any, f: Any, size: tuple[int, int]) -> Any:
    """Unit attention maps (B, H*W)."""
    if tuple(f.shape[2:]) != size:
        f = table.pool(f, size)
    return table.unit(table.rows(table.mean(f**2, 1)))
