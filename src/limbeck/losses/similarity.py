"""Losses on matrices of inner products: of the samples of a batch, of the channels of a sample.

B samples, D features of a sample (everything but the first axis, flattened), C channels, s and t
student and source.
"""

from typing import Any

from limbeck.losses import batches, differences, ready, reduction


def sp(s: Any, t: Any, *, mask: Any = None) -> Any:
    """Similarity-preserving distillation: which samples the network finds alike.

    mean_i ||g(s)_i - g(t)_i||^2, g_i = G_i / ||G_i|| the unit rows of G = F F' (B, B). A row of
    zeros stays 0.

    Args:
        s: student features (B, ...).
        t: source features (B, ...), of any width.
        mask: samples (B,) that count.

    Returns:
        A scalar in [0, 4] without unit, free of the features' scale.

    Raises:
        ValueError: batches that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 0], [0, 1]]), np.array([[1.0], [1.0]])
        >>> round(float(sp(s, t)), 6)
        0.585786

    Paper:
        Tung, Mori, "Similarity-preserving knowledge distillation", ICCV 2019, arXiv 1907.09682;
        weight 3000. Paper and authors divide by B^2: 1/B times this, so 3000/B here.
    """
    table, s, t, alive = batches.embeddings(s, t, mask)
    g_s, g_t = (table.unit(table.gram(x)) for x in (s, t))
    n = reduction.divisor(table, batches.number(table, alive, s), None)
    return differences.whole(table, table.mean_squares, g_s, g_t, n)


def ickd(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Inter-channel correlation: how the channels of a sample relate to one another.

    mean_b (1/C) sum_c ||g(s)_bc - g(t)_bc||^2, g_bc the unit rows of the products of channels
    G_b = F_b F_b' (C, C), summed over positions. Sizes may differ, the channels may not. A dead
    channel has g = 0.

    Args:
        s: student features, after the projector: (B, C, H, W) or (B, C, N).
        t: source features with the same C.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar in [0, 4] without unit, free of the features' scale.

    Raises:
        ValueError: batches or channels that differ, features that have no positions, a `count`
            that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[[1.0, 0], [0, 1]]]), np.array([[[1.0], [1.0]]])
        >>> round(float(ickd(s, t)), 6)
        0.585786

    Paper:
        Liu et al., "Exploring inter-channel correlation for diversity-preserved knowledge
        distillation", ICCV 2021, arXiv 2202.03680; weight 2.5 on CIFAR-100. Same scale as the
        authors' code; the paper writes 1/C^2 and no unit rows, which grows with the features.
    """
    if s.shape[:2] != t.shape[:2]:
        raise ValueError(
            "student and source must have one batch and as many channels, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}; use projectors.conv"
        )
    if s.ndim not in (3, 4) or t.ndim not in (3, 4):
        raise ValueError(
            "student and source must be maps (B, C, H, W) or (B, C, N), "
            f"got {tuple(s.shape)} and {tuple(t.shape)}; tap a layer before global pooling"
        )
    table, s, t, mask = ready.samples(s, t, mask)
    g_s, g_t = (table.unit(table.gram(_positions(table, x))) for x in (s, t))
    g_s, g_t = table.rows(g_s), table.rows(g_t)
    mean = differences.mean(table, table.mean_squares, g_s, g_t, mask, weight, count)
    return mean * s.shape[1]


def _positions(table: Any, x: Any) -> Any:
    """Maps as (B, C, N)."""
    return ready.spread(table, x) if x.ndim == 4 else x
