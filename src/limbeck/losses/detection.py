"""Losses on the feature maps of detectors, weighted by where the boxes are.

B batch, C channels, H and W height and width, s and t maps of student and source. Boxes are as in
`limbeck.losses.boxes`: (B, N, 4) in pixels, filled up with rows of x2 < x1.
"""

from collections.abc import Sequence
from typing import Any

from limbeck.losses import boxes as cells
from limbeck.losses import ready, reduction

DEAD = 8  # times the rounding of a channel's mean: a spread of less is no spread


def pkd(s: Any, t: Any, *, mask: Any = None) -> Any:
    """One minus the correlation of each channel over all positions of the batch (PKD).

    mean_c 1/2 mean_bhw (z(s) - z(t))^2 = mean_c (1 - r_c), z(x) = (x - mean) / std of each channel
    over B, H, W. It compares the samples of a batch. A constant channel has z = 0: it counts 1/2
    against a live one.

    Args:
        s: student map (B, C, H, W), after the projector.
        t: source map of the same shape.
        mask: positions that count (B, H, W), or samples (B,); the others touch no statistic.

    Returns:
        A scalar in [0, 2], free of the scale and shift of channels; 0 where both sides agree.

    Raises:
        ValueError: shapes that differ or are no maps.

    Example:
        >>> import numpy as np
        >>> t = np.arange(6.0).reshape(1, 1, 2, 3)
        >>> round(float(pkd(-2.5 * t, t)), 6), round(float(pkd(3 * t + 1, t)), 6)
        (2.0, 0.0)

    Paper:
        Cao et al., "PKD: general distillation framework for object detectors via Pearson
        correlation coefficient", NeurIPS 2022, arXiv 2207.02039; weight 6 a level (10 for a
        RetinaNet of X101). The authors' value is (BHW - 1) / BHW times this.
    """
    table, s, t, valid = _same(s, t, mask)
    gap = standardised(table, s, valid)[0] - standardised(table, t, valid)[0]
    return reduction.mean(table, table.mean(gap**2, 1) / 2, valid, None, None)


def align(s: Any, t: Any) -> Any:
    """The student's map with the mean and spread of the source's channels (CrossKD), not a loss.

    z(s) * std_t + mean_t, statistics of each channel over B, H, W; what enters the rest of the
    source's head. A constant channel becomes mean_t.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[[[0.0, 1.0]]]]), np.array([[[[4.0, 8.0]]]])
        >>> align(s, t).tolist()
        [[[[4.0, 8.0]]]]

    Paper:
        Wang et al., "CrossKD: cross-head knowledge distillation for object detection", CVPR 2024,
        arXiv 2306.11369.
    """
    table, s, t, _ = _same(s, t, None)
    z = standardised(table, s, None)[0]
    _, mean, spread = standardised(table, t, None)
    return z * spread + mean


def standardised(table: Any, x: Any, valid: Any) -> tuple[Any, Any, Any]:
    """z, mean and standard deviation of the channels of (B, C, H, W) over the valid positions."""
    count = table.size(x[:, 0]) if valid is None else table.count(valid, x)
    count = reduction.divisor(table, count, None)
    mean = table.sum(x, (0, 2, 3), keepdims=True) / count
    centred = x - mean if valid is None else table.where(valid[:, None], x - mean, 0)
    variance = table.sum(centred**2, (0, 2, 3), keepdims=True) / count
    alive = variance > (DEAD * table.eps(x) * mean) ** 2
    spread = table.sqrt(table.where(alive, variance, 1))
    return table.where(alive, centred / spread, 0), mean, table.where(alive, spread, 0)


def fgd(
    s: Any,
    t: Any,
    boxes: Any,
    *,
    stride: float,
    temperature: float = 0.5,
    foreground: float = 1.0,
    background: float = 0.5,
    channel: float = 1.0,
    spatial: float = 1.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Focal distillation of a detector's map (FGD): objects and background apart, with attention.

    mean_b of `foreground` sum_hw F A sum_c a (s - t)^2 + `background` the same with G for F
    + `channel` sum_c |a(s) - a| + `spatial` mean_hw |A(s) - A|. A = HW softmax(mean_c |t| / T) and
    a = C softmax(mean_hw |t| / T) are the source's attention, held still. A cell of a box has
    F = 1 / (cells of its smallest box), floor(x1) ... ceil(x2) inclusive; G shares 1 over the other
    cells. The global part of the method is in `limbeck.methods.focal`.

    Args:
        s: student map (B, C, H, W), after the projector.
        t: source map of the same shape.
        boxes: (B, N, 4) as x1, y1, x2, y2 in pixels.
        stride: pixels a cell.
        temperature: T > 0 of the attention.
        foreground, background, channel, spatial: weights of the parts.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0 in squared units of the features; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ or are no maps, boxes of another shape.

    Example:
        >>> import numpy as np
        >>> t, boxes = np.ones((1, 2, 2, 2)), np.array([[[0.0, 0, 7, 7]]])
        >>> float(fgd(0 * t, t, boxes, stride=8, background=0.0))
        2.0

    Paper:
        Yang et al., "Focal and global knowledge distillation for detectors", CVPR 2022,
        arXiv 2111.11837. The authors sum `spatial` over positions: H * W times this; their four
        weights are 1e-3, 5e-4, 5e-4, 5e-4 for RetinaNet.
    """
    reduction.same_shape(s, t)
    table, s, t, valid = ready.maps(s, t, mask)
    flat_s, flat_t = (ready.spread(table, x) for x in (s, t))
    a_s, cells_s = _attention(table, flat_s, temperature)
    a, cells_t = _attention(table, flat_t, temperature)
    a, cells_t = table.detach(a), table.detach(cells_t)
    error = table.matmul(a[:, None, :], table.squares(flat_s, flat_t))[:, 0] * cells_t
    size = (s.shape[2], s.shape[3])
    inside, outside = cells.area_weights(table, _boxes(table, boxes, stride, s), stride, size)
    shares = table.rows(foreground * inside + background * outside)
    items = table.sum(error * shares, -1)
    items = items + channel * table.sum(table.abs(a_s - a), -1)
    items = items + spatial * table.mean(table.abs(cells_s - cells_t), -1)
    return reduction.mean(table, items, valid, weight, count)


def fgfi(
    s: Any,
    t: Any,
    boxes: Any,
    *,
    stride: float,
    anchors: Sequence[tuple[float, float]],
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference where anchors are near objects (FGFI).

    1/2 mean_i sum_c (s_ic - t_ic)^2 over the positions i of the batch of which an anchor overlaps a
    box by more than half of the best overlap that any anchor has with that box.

    Args:
        s: student map (B, C, H, W), after the projector.
        t: source map of the same shape.
        boxes: (B, N, 4) as x1, y1, x2, y2 in pixels.
        stride: pixels a cell.
        anchors: widths and heights of the anchors of a cell, in pixels.
        mask: positions that count (B, H, W), or samples (B,).
        weight: factor of each position or sample, not part of the divisor.
        count: divisor in place of the number of positions near objects.

    Returns:
        A scalar >= 0 in squared units of the features; 0 with a gradient path without boxes.

    Raises:
        ValueError: shapes that differ or are no maps, no anchors, boxes of another shape.

    Example:
        >>> import numpy as np
        >>> t, boxes = np.ones((1, 2, 3, 3)), np.array([[[0.0, 0, 7, 7]]])
        >>> float(fgfi(0 * t, t, boxes, stride=8, anchors=[(8, 8)]))
        1.0

    Paper:
        Wang et al., "Distilling object detectors with fine-grained feature imitation", CVPR 2019,
        arXiv 1906.03609; weight 0.01. The authors' value is this one, and NaN without boxes.
    """
    if not anchors:
        raise ValueError("anchors must be one or more (width, height) in pixels, got none")
    table, s, t, valid = _same(s, t, mask)
    near = cells.anchor_mask(
        table, _boxes(table, boxes, stride, s), stride, tuple(s.shape[2:]), anchors
    )
    near = near if valid is None else near & valid
    items = table.mean_squares(s, t, 1) * (s.shape[1] / 2)
    return reduction.mean(table, items, near, weight, count)


def defeat(
    s: Any,
    t: Any,
    boxes: Any,
    *,
    stride: float,
    level: int = 0,
    levels: int = 1,
    foreground: float = 3.0,
    background: float = 12.0,
    mask: Any = None,
) -> Any:
    """Squared difference on and off the objects of a level of a pyramid, each averaged (DeFeat).

    1/2 (`foreground` mean_i mean_c (s - t)^2 over the cells i of this level's boxes + `background`
    the same over all others). A box of side g = sqrt((w + 1)(h + 1)) belongs to level
    floor(log2(g / 56)), or the nearest that there is; it covers int(x1) ... int(x2) without the
    last, at least one cell. A part without cells is 0.

    Args:
        s: student map (B, C, H, W), after the projector.
        t: source map of the same shape.
        boxes: (B, N, 4) as x1, y1, x2, y2 in pixels.
        stride: pixels a cell.
        level: which level this map is, from 0 for the finest.
        levels: how many there are.
        foreground, background: weights of the parts.
        mask: positions that count (B, H, W), or samples (B,).

    Returns:
        A scalar >= 0 in squared units of the features; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ or are no maps, a `level` that is not there.

    Example:
        >>> import numpy as np
        >>> t, boxes = np.ones((1, 2, 2, 2)), np.array([[[0.0, 0, 7, 7]]])
        >>> float(defeat(0 * t, t, boxes, stride=8))
        7.5

    Paper:
        Guo et al., "Distilling object detectors via decoupled features", CVPR 2021,
        arXiv 2103.14475. The authors' value is the mean of this over levels; the paper's count of
        positions has no C: C times this.
    """
    if not 0 <= level < levels:
        raise ValueError(f"level must be in 0 ... {levels - 1}, got {level}; see levels")
    table, s, t, valid = _same(s, t, mask)
    size = (s.shape[2], s.shape[3])
    on = cells.level_mask(table, _boxes(table, boxes, stride, s), stride, size, level, levels)
    items = table.mean_squares(s, t, 1) / 2
    on, off = (x if valid is None else x & valid for x in (on, ~on))
    near, far = (reduction.mean(table, items, x, None, None) for x in (on, off))
    return foreground * near + background * far


def _same(s: Any, t: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, two maps of one shape, and which positions (B, H, W) count."""
    reduction.same_shape(s, t)
    return ready.dense(s, t, mask)


def _boxes(table: Any, boxes: Any, stride: float, s: Any) -> Any:
    """Boxes (B, N, 4) in the type of the maps `s`."""
    if stride <= 0:
        raise ValueError(f"stride must be positive, got {stride}; it is the pixels of a cell")
    if boxes.ndim != 3 or boxes.shape[-1] != 4 or boxes.shape[0] != s.shape[0]:
        raise ValueError(
            f"boxes must be (B, N, 4) as x1, y1, x2, y2 of {s.shape[0]} images, "
            f"got {tuple(boxes.shape)}; fill up images of fewer boxes with rows of x2 < x1"
        )
    return table.cast(boxes, s)


def _attention(table: Any, x: Any, temperature: float) -> tuple[Any, Any]:
    """Attention over the channels (B, C) and the positions (B, N) of (B, C, N), of mean 1."""
    size = table.abs(x)
    over_channels = table.softmax(table.mean(size, 2) / temperature) * x.shape[1]
    return over_channels, table.softmax(table.mean(size, 1) / temperature) * x.shape[2]
