"""Losses on whole feature maps: what a map looks like, not what it holds at each position.

B batch, C channels, H and W height and width, s and t features of student and source. The items of
these losses are samples.
"""

from typing import Any

from limbeck.losses import differences, ready, reduction


def nst(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Squared maximum mean discrepancy of the channels' patterns (NST); channels may differ.

    mean_b [mean_cc' k(t_c, t_c') + mean_cc' k(s_c, s_c') - 2 mean_cc' k(s_c, t_c')] with the kernel
    k(x, y) = (x . y)^2 of channel maps at unit length. The larger map is average-pooled to the
    smaller first. Memory grows as B C^2, never with C^2 H W.

    Args:
        s: student features (B, C, H, W).
        t: source features (B, C', H', W').
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar in [0, 2]; 0 where the patterns are alike, in whatever order.

    Raises:
        ValueError: features that are not maps, batches that differ.

    Example:
        >>> import numpy as np
        >>> t = np.array([[[[2.0, 0]], [[0, 1.0]]]])
        >>> round(float(nst(t[:, :1], t)), 6), float(nst(t[:, ::-1], t))
        (0.5, 0.0)

    Paper:
        Huang, Wang, "Like what you like: knowledge distill via neuron selectivity transfer", 2017,
        arXiv 1707.01219. The authors' value; weight 50 in common CIFAR-100 settings.
    """
    table, s, t, mask = ready.maps(s, t, mask)
    s, t = (table.unit(ready.spread(table, x)) for x in ready.pooled(table, s, t))
    alike = _kernel(table, s, s) + _kernel(table, t, t)
    return reduction.mean(table, alike - 2 * _kernel(table, s, t), mask, weight, count)


def ft(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Distance of factors: the paraphrased source and the translated student (FT).

    mean_b mean_chw |s_b / ||s_b|| - t_b / ||t_b|||, norms over C, H and W together. It falls as
    1/sqrt(C*H*W) with the size of a factor. A dead factor counts as 0.

    Args:
        s: the student's factors (B, C, H, W), after the translator.
        t: the source's factors of the same shape, after the paraphraser.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0; 0 where both point the same way.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[[[3.0, 0]]]]), np.array([[[[0, 0.5]]]])
        >>> float(ft(s, t))
        1.0

    Paper:
        Kim, Park, Kwak, "Paraphrasing complex network: network compression via factor transfer",
        NeurIPS 2018, arXiv 1802.04977. The authors' value; weight 500 goes with it. The paper sums
        over C, H, W: C*H*W times this.
    """
    reduction.same_shape(s, t)
    table, s, t, mask = ready.samples(s, t, mask)
    s, t = (table.unit(table.rows(x)) for x in (s, t))
    return differences.mean(table, table.mean_absolute, s, t, mask, weight, count)


def cat_kd(
    s: Any,
    t: Any,
    *,
    resolution: int = 2,
    normalise: bool = True,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of class activation maps (CAT-KD).

    mean_b mean_k mean_r (u(s)_bkr - u(t)_bkr)^2: the maps of class k are average-pooled to
    `resolution` x `resolution` positions r, then brought to unit length. A dead map stays 0.

    Args:
        s: the student's class activation maps (B, K, H, W): one channel a class, before pooling.
        t: the source's maps (B, K, H', W').
        resolution: side of the pooled maps.
        normalise: whether maps are brought to unit length, so that their strength does not count.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0; 0 where both look at the same places.

    Raises:
        ValueError: features that are not maps, batches or classes that differ.

    Example:
        >>> import numpy as np
        >>> t = np.array([[[[2.0, 0], [0, 0]]]])
        >>> float(cat_kd(t[..., ::-1], t)), float(cat_kd(5 * t, t))
        (0.5, 0.0)

    Paper:
        Guo et al., "Class attention transfer based knowledge distillation", CVPR 2023,
        arXiv 2304.12777. The authors' value; the paper sums over positions: resolution^2 times
        this. Published weights differ by pair, from 0.5 to 600.
    """
    table, s, t, mask = ready.maps(s, t, mask)
    if s.shape[1] != t.shape[1]:
        raise ValueError(
            "class activation maps must have one class count, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}; give both a head of 1x1 convolution"
        )
    s, t = (ready.spread(table, table.pool(x, (resolution, resolution))) for x in (s, t))
    if normalise:
        s, t = table.unit(s), table.unit(t)
    s, t = table.rows(s), table.rows(t)
    return differences.mean(table, table.mean_squares, s, t, mask, weight, count)


def sad(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Squared difference of soft attention maps (SAD), of a layer and a deeper one of its own net.

    mean_b mean_hw (a(s)_bhw - a(t)_bhw)^2, a(f) = softmax over positions of sum_c f_c^2. The
    source's summed map is resized bilinearly to the student's before the softmax. It falls as
    1/(H*W)^2 with the size of the map.

    Args:
        s: features (B, C, H, W) of the layer that learns.
        t: features (B, C', H', W') of the layer that teaches.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0; 0 where both attend alike.

    Raises:
        ValueError: features that are not maps, batches that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[[[30.0, 0]]]]), np.array([[[[0, 30.0]]]])
        >>> float(sad(s, t))
        1.0

    Paper:
        Hou et al., "Learning lightweight lane detection CNNs by self attention distillation",
        ICCV 2019, arXiv 1908.00821. Weight 0.1, switched on late. Code that averages over channels
        softens the softmax by C: another loss.
    """
    table, s, t, mask = ready.maps(s, t, mask)
    s, t = table.sum(s**2, 1, keepdims=True), table.sum(t**2, 1, keepdims=True)
    if t.shape != s.shape:
        t = table.bilinear(t, tuple(s.shape[2:]))
    s, t = (table.softmax(table.rows(x)) for x in (s, t))
    return differences.mean(table, table.mean_squares, s, t, mask, weight, count)


def _kernel(table: Any, x: Any, y: Any) -> Any:
    """Mean over the pairs of channels of (x . y)^2 (B,)."""
    return table.mean(table.matmul(x, table.moveaxis(y, 1, 2)) ** 2, (1, 2))
