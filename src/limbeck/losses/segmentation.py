"""Losses on dense maps: how positions are spread, and how they relate to one another.

B batch, C channels or classes, H and W height and width, s and t maps of student and source. The
pixel-wise divergences are those of `logits` with `axis=1`. Positions that `mask` leaves out may
hold anything: they are neither compared nor compared with.
"""

import math
from functools import partial
from typing import Any

from limbeck.losses import differences, ready, reduction

BLOCK = 2**24  # similarities at a time: 64 MiB in float32
INF = float("inf")


def channelwise(
    s: Any,
    t: Any,
    *,
    temperature: Any = 1.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Divergence of where each channel is active (CWD), for features or logits.

    T^2 * mean_b mean_c sum_hw p_bc (log p_bc - log q_bc), q = softmax over the positions of s / T,
    p that of t / T. `mean` divides by B * C, never by positions.

    Args:
        s: student map (B, C, H, W), after the projector.
        t: source map of the same shape.
        temperature: T > 0, a number or a scalar array.
        mask: positions that count (B, H, W), or samples (B,).
        weight: factor of each sample (B,), not part of the divisor.
        count: divisor in place of the number of samples with a valid position.

    Returns:
        A scalar >= 0; exactly 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ or are no maps, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[[[0.0, 0, 0, 0]]]]), np.array([[[[2.0, 0, 0, 1]]]])
        >>> round(float(channelwise(s, t)), 6)
        0.337589

    Paper:
        Shu et al., "Channel-wise knowledge distillation for dense prediction", ICCV 2021,
        arXiv 2011.13256; the authors' value is this one. Weight 50 on features (T 1), 3 on
        logits (T 4), 10 on a detector's neck (T 1).
    """
    reduction.same_shape(s, t)
    table, s, t, valid = ready.dense(s, t, mask)
    s, t = (ready.spread(table, x) for x in (s, t))
    if valid is not None:
        valid = table.rows(valid)
        s, t = (_shut(table, x, valid[:, None]) for x in (s, t))
        valid = table.any(valid, -1)
    items = table.mean(table.kl(s, t, temperature), 1)
    return reduction.mean(table, items, valid, weight, count) * temperature**2


def pairwise(
    s: Any,
    t: Any,
    *,
    scale: float = 0.5,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of the similarities between regions (SKD); channels may differ.

    A map is max-pooled by windows of int(H * scale) x int(W * scale), the last over the edge, to
    n nodes: about (1 / scale)^2. mean_b mean_ij (cos(s_i, s_j) - cos(t_i, t_j))^2 over all pairs
    of nodes. A dead node has cosine 0. Memory grows as B n^2, whatever the size of the map.

    Args:
        s: student map (B, C, H, W).
        t: source map (B, C', H, W).
        scale: window over map, in (0, 1].
        mask: positions that count (B, H, W), or samples (B,); a node without any leaves its pairs.
        weight: factor of each sample (B,), not part of the divisor.
        count: divisor in place of the number of valid pairs.

    Returns:
        A scalar in [0, 4].

    Raises:
        ValueError: maps of different batch or size, a `scale` outside (0, 1].

    Example:
        >>> import numpy as np
        >>> s, t = np.ones((1, 1, 1, 2)), 2 * np.eye(2).reshape(1, 2, 1, 2)
        >>> float(pairwise(s, t))
        0.5

    Paper:
        Liu et al., "Structured knowledge distillation for semantic segmentation", CVPR 2019,
        arXiv 1903.04197; weight 1. The authors' value is this one, but their code holds the norms
        still in the gradient.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be in (0, 1], got {scale}; 0.5 compares 2 x 2 regions")
    table, s, t, valid = ready.dense(s, t, mask)
    window = (max(1, int(s.shape[2] * scale)), max(1, int(s.shape[3] * scale)))
    nodes = None
    if valid is not None:
        s, t = (table.where(valid[:, None], x, -INF) for x in (s, t))
        nodes = table.max_pool(table.cast(valid, s)[:, None], window)[:, 0] > 0
    s, t = (_similarity(table, table.max_pool(x, window), nodes) for x in (s, t))
    if nodes is not None:
        nodes = table.rows(nodes)
        nodes = nodes[:, :, None] & nodes[:, None, :]
    return differences.entries(table, s, t, nodes, weight, count)


def ifvd(
    s: Any,
    t: Any,
    labels: Any,
    *,
    classes: int,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of how far pixels are from the centre of their class; channels may differ.

    mean_i (cos(s_i, S_i) - cos(t_i, T_i))^2 over the valid pixels i of the batch, S_i and T_i the
    mean feature of the pixels of the same image and class. The centres carry gradient. A pixel
    alone in its class adds 0.

    Args:
        s: student features (B, C, H, W).
        t: source features (B, C', H, W).
        labels: integers (B, H', W'), brought to H x W by the nearest one, index floor(i * H' / H).
            A label outside 0 ... `classes` - 1, such as 255 or -100, is ignored.
        classes: how many classes there are.
        mask: positions that count besides (B, H, W), or samples (B,).
        weight: factor of each position or sample, not part of the divisor.
        count: divisor in place of the number of valid pixels.

    Returns:
        A scalar in [0, 4]; 0 with a gradient path where every pixel is ignored.

    Raises:
        ValueError: maps of different batch or size, labels that are not integers (B, H', W').

    Example:
        >>> import numpy as np
        >>> s, t = np.ones((1, 1, 1, 2)), np.eye(2).reshape(1, 2, 1, 2)
        >>> labels = np.zeros((1, 1, 2), int)
        >>> round(float(ifvd(s, t, labels, classes=1)), 6)
        0.085786

    Paper:
        Wang et al., "Intra-class feature variation distillation for semantic segmentation",
        ECCV 2020; weight 200. The authors divide by all pixels, ignored ones too.
    """
    table, s, t, valid = ready.dense(s, t, mask)
    if labels.ndim != 3 or labels.shape[0] != s.shape[0] or not table.integer(labels):
        raise ValueError(
            f"labels must be integers (B, H, W) of {s.shape[0]} images, "
            f"got {tuple(labels.shape)} of {labels.dtype}"
        )
    labels = table.nearest(labels, tuple(s.shape[2:]))
    known = (labels >= 0) & (labels < classes)
    valid = known if valid is None else known & valid
    members = table.where(valid[..., None], table.one_hot(labels, classes, s), 0)
    members = table.reshape(members, (s.shape[0], math.prod(s.shape[2:]), classes))
    s, t = (_closeness(table, table.where(valid[:, None], x, 0), members) for x in (s, t))
    items = table.reshape(table.squares(s, t), tuple(valid.shape))
    return reduction.mean(table, items, valid, weight, count)


def cirkd(s: Any, t: Any, *, temperature: Any = 0.1, mask: Any = None) -> Any:
    """Divergence of the similarities of pixels across the images of a batch; channels may differ.

    mean over pixels i of all images and over images b of KL(p_ib || q_ib), q_ib the softmax over
    the pixels j of image b of cos(s_i, s_j) / T, p_ib that of the source. No factor T^2.

    The B^2 (HW)^2 similarities are never held at once: beyond 2^24 they are made in blocks of that
    many, and again for the gradient. Maps of 256 x 256 and more are usually pooled first.

    Args:
        s: student features (B, C, H, W).
        t: source features (B, C', H, W).
        temperature: T > 0.
        mask: positions that count (B, H, W), or samples (B,).

    Returns:
        A scalar >= 0; exactly 0 where both sides are equal.

    Raises:
        ValueError: maps of different batch or size.

    Example:
        >>> import numpy as np
        >>> s, t = np.ones((1, 1, 1, 2)), np.eye(2).reshape(1, 2, 1, 2)
        >>> round(float(cirkd(s, t, temperature=1.0)), 6)
        0.110944

    Paper:
        Yang et al., "Cross-image relational knowledge distillation for semantic segmentation",
        CVPR 2022, arXiv 2204.06986 (mini-batch term); weight 1. The authors' value is this one;
        their code pools 4 x 4 where both sides of a map are at least 256.
    """
    table, s, t, valid = ready.dense(s, t, mask)
    images, pixels = s.shape[0], math.prod(s.shape[2:])
    valid = None if valid is None else table.rows(valid)
    s, t = (table.unit(_positions(table, x)) for x in (s, t))
    s, t = (table.reshape(x, (images * pixels, x.shape[-1])) for x in (s, t))
    step = max(1, BLOCK // max(1, images * pixels))
    block = partial(_spread, table, (images, pixels), temperature, valid)
    make = block if step >= images * pixels else partial(table.recomputed, block)
    total = table.sum(s[:0])
    for rows in (slice(i, i + step) for i in range(0, images * pixels, step)):
        total = total + make(s[rows], t[rows], s, t)
    if valid is None:
        return total / max(1, images * images * pixels)
    seen = table.count(table.any(valid, -1), s)
    return total / table.at_least(table.count(valid, s) * seen, 1)


def _spread(
    table: Any,
    shape: tuple[int, int],
    temperature: Any,
    valid: Any,
    s: Any,
    t: Any,
    all_s: Any,
    all_t: Any,
) -> Any:
    """Sum over pixels (n, C) and images of KL of the similarities with all (B * HW, C).

    An invalid pixel is 0 on both sides, and so are its similarities and its divergence.
    """
    s, t = (
        table.reshape(table.matmul(x, table.moveaxis(every, 0, 1)), (x.shape[0], *shape))
        for x, every in ((s, all_s), (t, all_t))
    )
    if valid is not None:
        s, t = (_shut(table, x, valid) for x in (s, t))
    return table.sum(table.kl(s, t, temperature))


def _shut(table: Any, x: Any, valid: Any) -> Any:
    """-inf at the invalid positions of the last axis; zeros where none is valid."""
    alive = table.any(valid, -1)[..., None]
    return table.where(valid, x, table.where(alive, -INF, table.zeros((1,), x)))


def _positions(table: Any, x: Any) -> Any:
    """(B, C, H, W) as (B, H*W, C)."""
    return table.moveaxis(ready.spread(table, x), 1, 2)


def _similarity(table: Any, x: Any, nodes: Any) -> Any:
    """Cosines of the nodes of (B, C, h, w): (B, n, n)."""
    if nodes is not None:
        x = table.where(nodes[:, None], x, 0)
    unit = table.unit(ready.spread(table, x), 1)
    return table.matmul(table.moveaxis(unit, 1, 2), unit)


def _closeness(table: Any, x: Any, members: Any) -> Any:
    """Cosine of each pixel with the mean of its class (B, H*W); `members` (B, H*W, classes)."""
    x = _positions(table, x)
    sizes = table.at_least(table.sum(members, 1), 1)
    centres = table.matmul(table.moveaxis(members, 1, 2), x) / sizes[..., None]
    units = table.unit(x), table.unit(centres)
    cosines = table.matmul(units[0], table.moveaxis(units[1], 1, 2))
    return table.sum(cosines * members, -1)
