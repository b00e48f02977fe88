"""Losses on two layers of a net: how features change from one to the next.

B batch, C channels, H and W height and width, s and t features of student and source, `s_deep` and
`t_deep` those of a deeper layer. The items of these losses are samples.
"""

from typing import Any

from limbeck.losses import differences, ready


def fsp(
    s: Any,
    t: Any,
    s_deep: Any,
    t_deep: Any,
    *,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of the flow from layer to layer (FSP).

    mean_b mean_jk (G(s)_bjk - G(t)_bjk)^2, G_jk = mean_hw deep_jhw first_khw. The larger layer of a
    net is average-pooled to the smaller; student and source may differ in size.

    Args:
        s: student features (B, C, H, W) of the first layer.
        t: source features (B, C, H', W') of the first layer.
        s_deep: student features (B, D, ...) of the deeper layer.
        t_deep: source features (B, D, ...) of the deeper layer.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0 in the features' units to the fourth; 0 where both flow alike.

    Raises:
        ValueError: features that are not maps, batches or channels that differ.

    Example:
        >>> import numpy as np
        >>> one = np.ones((1, 2, 4, 4))
        >>> float(fsp(one, 2 * one, one[:, :1, :2, :2], one[:, :1]))
        1.0

    Paper:
        Yim et al., "A gift from knowledge distillation: fast optimization, network minimization and
        transfer learning", CVPR 2017. The paper sums the entries: C*D times this. Common code takes
        this mean, unweighted, first and without labels, and pools by the maximum.
    """
    _channels(s, t, s_deep, t_deep)
    table, s, t, alive = ready.maps(s, t, mask)
    _, s_deep, t_deep, _ = ready.maps(s_deep, t_deep, mask)
    g_s, g_t = (table.rows(_flow(table, *pair)) for pair in ((s, s_deep), (t, t_deep)))
    return differences.mean(table, table.mean_squares, g_s, g_t, alive, weight, count)


def kdsvd(
    s: Any,
    t: Any,
    s_deep: Any,
    t_deep: Any,
    *,
    k: int = 1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of how the main directions of two layers relate (KD-SVD).

    mean_b sum_cdj [r(s)_bcdj - r(t)_bcdj]^2, r_cdj = exp(-(deep_dj - first_cj)^2 / 8), where the
    columns j are the first `k` right singular vectors of a layer's (H*W) x C matrix. The sign of
    the source's is that of its largest entry; the student's are those of its first k + 3 that are
    closest to the source's up to sign. Both are scaled by the source's singular values at unit
    length (1 for k = 1). A vector of singular value 0 counts as 0. The gradient follows the
    singular vectors to first order and leaves equal singular values apart alone.

    Args:
        s: student features (B, C, H, W) of the first layer.
        t: source features (B, C, H', W') of the first layer.
        s_deep: student features (B, D, ...) of the deeper layer.
        t_deep: source features (B, D, ...) of the deeper layer.
        k: how many directions.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0 without unit; 0 where both relate alike.

    Raises:
        ValueError: features that are not maps, batches or channels that differ, a `k` above C or
            H*W of the source.

    Example:
        >>> import numpy as np
        >>> x = np.arange(24.0).reshape(1, 3, 2, 4)
        >>> float(kdsvd(x, x, x[:, :2], x[:, :2]))
        0.0

    Paper:
        Lee, Kim, Song, "Self-supervised knowledge distillation using singular value decomposition",
        ECCV 2018, arXiv 1807.06819; weight 1. The authors' code leaves the source's sign to the
        linear algebra library.
    """
    _channels(s, t, s_deep, t_deep)
    table, s, t, alive = ready.maps(s, t, mask)
    _, s_deep, t_deep, _ = ready.maps(s_deep, t_deep, mask)
    first, deep = _directions(table, s, t, k), _directions(table, s_deep, t_deep, k)
    r_s, r_t = (table.rows(_relation(table, a, b)) for a, b in zip(first, deep, strict=True))
    mean = differences.mean(table, table.mean_squares, r_s, r_t, alive, weight, count)
    return mean * r_s.shape[-1]


def _channels(s: Any, t: Any, s_deep: Any, t_deep: Any) -> None:
    for a, b in ((s, t), (s_deep, t_deep)):
        if tuple(a.shape[:2]) != tuple(b.shape[:2]):
            raise ValueError(
                "both sides must have the channels of the other at both layers, "
                f"got {tuple(a.shape)} and {tuple(b.shape)}; give the student a projector"
            )


def _flow(table: Any, first: Any, deep: Any) -> Any:
    """Mean over positions of the products of two layers' channels (B, D, C)."""
    first, deep = (ready.spread(table, x) for x in ready.pooled(table, first, deep))
    return table.matmul(deep, table.moveaxis(first, 1, 2)) / first.shape[-1]


def _directions(table: Any, s: Any, t: Any, k: int) -> tuple[Any, Any]:
    """The main directions (B, C, k) of student and source, turned and scaled alike."""
    most = min(t.shape[1], t.shape[2] * t.shape[3])
    if not 1 <= k <= most:
        raise ValueError(f"k must be in [1, {most}] for maps {tuple(t.shape)}, got {k}")
    _, v_s = _right_vectors(table, s, k + 3)
    sigma, v_t = _right_vectors(table, t, k)
    v_t = v_t * _sign(table, _largest(table, v_t))[:, None, :]
    scale = table.unit(sigma)[:, None, :]
    return _aligned(table, v_s, v_t) * scale, v_t * scale


def _right_vectors(table: Any, f: Any, n: int) -> tuple[Any, Any]:
    """The first n singular values (B, n) and right singular vectors (B, C, n) of (H*W) x C.

    The values and the vectors come from a decomposition without gradient; a first-order term of
    value 0 gives the vectors theirs, so that equal singular values do no harm.
    """
    x = table.moveaxis(ready.spread(table, f), 1, 2)
    still = table.detach(x)
    sigma, v = table.svd(still)
    n = min(n, sigma.shape[-1])
    first = table.where(sigma[:, None, :n] > 0, v[:, :, :n], 0)
    d = x - still
    change = table.matmul(table.moveaxis(d, 1, 2), table.matmul(still, first))
    change = change + table.matmul(table.moveaxis(still, 1, 2), table.matmul(d, first))
    inside = table.matmul(table.moveaxis(v, 1, 2), change)
    outside = change - table.matmul(v, inside)
    square = sigma**2
    gap = square[:, None, :n] - square[:, :, None]
    top = square[:, :1, None]
    moved = table.matmul(v, inside * _inverse(table, gap, top))
    return sigma[:, :n], first + moved + outside * _inverse(table, square[:, None, :n], top)


def _inverse(table: Any, x: Any, top: Any) -> Any:
    """1 / x, or 0 where x vanishes beside `top`."""
    clear = table.abs(x) > 1e-6 * top
    return table.where(clear, 1 / table.where(clear, x, 1), 0)


def _largest(table: Any, v: Any) -> Any:
    """The entry of largest magnitude of each column (B, n)."""
    v = table.moveaxis(v, 1, 2)
    return table.take(v, table.argmax(table.abs(v))[..., None])[..., 0]


def _aligned(table: Any, v_s: Any, v_t: Any) -> Any:
    """For each of the source's vectors the student's that is closest to its line (B, C, k)."""
    cosine = table.matmul(table.moveaxis(v_t, 1, 2), v_s)
    chosen = table.one_hot(table.argmax(table.abs(cosine)), v_s.shape[-1], v_s)
    return table.matmul(v_s, table.moveaxis(chosen * _sign(table, cosine), 1, 2))


def _sign(table: Any, x: Any) -> Any:
    """-1 or 1, in the type of `x`."""
    return table.cast(x >= 0, x) * 2 - 1


def _relation(table: Any, first: Any, deep: Any) -> Any:
    """How close the entries of two layers' directions are (B, D, C, k)."""
    return table.exp(-((deep[:, :, None] - first[:, None]) ** 2) / 8)
