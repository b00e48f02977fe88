"""Losses on what the heads of detectors predict, weighted by how sure somebody is.

Items are anchors, points or queries, any shape: (N,), (B, N), (B, H, W). s and t are predictions of
student and source, sigma the sigmoid. Where items have a score, `mean` divides by the sum of the
scores of the valid items, and scores are held still.
"""

import math
from typing import Any

from limbeck import ops
from limbeck.losses import ready, reduction
from limbeck.losses.boxes import generalised_iou


def bckd_cls(
    s: Any,
    t: Any,
    *,
    beta: float = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Cross-entropy of sigmoid classes, weighted by how far apart both sides are (BCKD, CrossKD).

    mean_i sum_c |sigma(t_ic) - sigma(s_ic)|^beta BCE(s_ic, sigma(t_ic)). The factor takes part in
    the gradient and makes the value 0 at equality. `mean` divides by the number of valid items.

    Args:
        s: student class logits, any shape with the classes on `axis`.
        t: source class logits of the same shape.
        beta: exponent, at least 1.
        axis: where the classes are; 1 for maps (B, K, H, W).
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items; the authors take the positive ones.

    Returns:
        A scalar >= 0; 0 with zero gradient where both sides are equal.

    Raises:
        ValueError: shapes that differ, a `beta` below 1.

    Example:
        >>> import numpy as np
        >>> round(float(bckd_cls(np.array([[0.0, 2.0]]), np.array([[1.0, 2.0]]))), 6)
        0.160158

    Paper:
        Yang et al., "Bridging cross-task protocol inconsistency for distillation in dense object
        detection", ICCV 2023, arXiv 2308.14286; weight 1. Wang et al., "CrossKD", CVPR 2024,
        arXiv 2306.11369: the same on the predictions of the source's head for the student's
        features. Both divide by the number of positive anchors.
    """
    if beta < 1:
        raise ValueError(f"beta must be at least 1, got {beta}; below, equality has no gradient")
    table, s, t, mask = ready.items(s, t, axis, mask)
    entropy, gap = table.binary_gap(s, t)
    items = table.sum(entropy * (gap if beta == 1 else gap**beta), axis)
    return reduction.mean(table, items, mask, weight, count)


def bckd_giou(
    s: Any,
    t: Any,
    s_logits: Any,
    t_logits: Any,
    *,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Overlap of decoded boxes, where the classes disagree (BCKD).

    sum_i w_i (1 - GIoU(s_i, t_i)) / sum_i w_i, w_i = max_c |sigma(t_ic) - sigma(s_ic)| of the class
    logits, held still. Where all classes agree it is 0.

    Args:
        s: student boxes (..., 4), decoded, as x1, y1, x2, y2.
        t: source boxes of the same shape.
        s_logits, t_logits: class logits (..., K) of both sides.
        mask, weight, count: as in `giou`.

    Returns:
        A scalar in [0, 2].

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 1]])
        >>> float(bckd_giou(s, t, np.array([[1.0]]), np.array([[0.0]])))
        0.5

    Paper:
        Yang et al., ICCV 2023, arXiv 2308.14286; weight 4. The authors divide by the number of
        positive anchors.
    """
    reduction.same_shape(s_logits, t_logits)
    table = ops.of(s)
    _, gap = table.binary_gap(table.float32(s_logits), table.float32(t_logits))
    score = table.max(gap, -1)
    return giou(s, t, score, mask=mask, weight=weight, count=count)


def giou(
    s: Any, t: Any, score: Any, *, mask: Any = None, weight: Any = None, count: Any = None
) -> Any:
    """Overlap of decoded boxes, weighted by a score.

    sum_i w_i (1 - GIoU(s_i, t_i)) / sum_i w_i; without any score 0. The union and the hull are at
    least 1e-7 square pixels.

    Args:
        s: student boxes (..., 4), decoded, as x1, y1, x2, y2.
        t: source boxes of the same shape.
        score: w (...) >= 0, such as the source's largest class probability.
        mask: items that count, of the shape of the score or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the sum of scores.

    Returns:
        A scalar in [0, 2]; 0 where boxes agree.

    Raises:
        ValueError: shapes that differ or are not of boxes.

    Example:
        >>> import numpy as np
        >>> s = np.array([[0.0, 0, 2, 2], [0, 0, 1, 1]])
        >>> t = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1]])
        >>> float(giou(s, t, np.array([0.9, 0.1])))
        0.45

    Paper:
        Rezatofighi et al., "Generalized intersection over union", CVPR 2019, arXiv 1902.09630;
        as a distillation loss Wang et al., "CrossKD", CVPR 2024, arXiv 2306.11369 (RetinaNet,
        weight 1).
    """
    reduction.same_shape(s, t)
    if s.shape[-1] != 4:
        raise ValueError(f"boxes must be (..., 4) as x1, y1, x2, y2, got {tuple(s.shape)}")
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is not None:
        mask = reduction.valid(table, mask, s.shape[:-1])
        s, t = reduction.only(table, mask, s, t)
    return _scored(table, 1 - generalised_iou(table, s, t), score, mask, weight, count)


def ld(
    s: Any,
    t: Any,
    score: Any,
    *,
    temperature: Any = 10.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Divergence of where the sides of boxes are (LD), weighted by a score.

    T^2 sum_i w_i mean_e KL(p_ie || q_ie) / sum_i w_i over the 4 sides e, q = softmax over the bins
    of s / T. `mean_e` never divides by bins. Without any score 0.

    Args:
        s: student logits (..., 4, bins) of the distances of the sides.
        t: source logits of the same shape: equal bins, the same anchors or points.
        score: w (...) >= 0: LD takes the student's largest class probability, CrossKD the source's.
        temperature: T > 0; 10 in LD, 1 in CrossKD.
        mask: items that count, of the shape of the score or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the sum of scores.

    Returns:
        A scalar >= 0; exactly 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ or have no axis of four sides.

    Example:
        >>> import numpy as np
        >>> s, t = np.zeros((1, 4, 2)), np.tile([1.0, 0.0], (1, 4, 1))
        >>> round(float(ld(s, t, np.array([0.3]), temperature=1)), 6)
        0.110944

    Paper:
        Zheng et al., "Localization distillation for dense object detection", CVPR 2022,
        arXiv 2102.12252; weight 0.25. The authors average over bins and do not divide by scores:
        (sum of scores) / bins times this. Wang et al., "CrossKD", CVPR 2024, arXiv 2306.11369:
        this value at T = 1, weight 4.
    """
    reduction.same_shape(s, t)
    if s.ndim < 2 or s.shape[-2] != 4:
        raise ValueError(
            f"student and source must be logits (..., 4, bins), got {tuple(s.shape)}; "
            "give the sides an axis of their own"
        )
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is not None:
        mask = reduction.valid(table, mask, s.shape[:-2])
        s, t = (table.where(mask[..., None, None], x, 0) for x in (s, t))
    items = table.mean(table.kl(s, t, temperature), -1) * temperature**2
    return _scored(table, items, score, mask, weight, count)


def score_weighted_l2(
    s: Any,
    t: Any,
    logits: Any,
    *,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared difference of maps, where the source sees objects.

    sum_i w_i mean_c (s_ic - t_ic)^2 / sum_i w_i over the positions i of the batch,
    w_i = max_k sigma(logits_ik).

    Args:
        s: student map (B, C, H, W), after the projector.
        t: source map of the same shape.
        logits: the source's class logits at these positions: (B, K, H, W) or (B, K, H * W).
        mask: positions that count (B, H, W), or samples (B,).
        weight: factor of each position or sample, not part of the divisor.
        count: divisor in place of the sum of w.

    Returns:
        A scalar >= 0 in squared units of the features; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, logits of other positions.

    Example:
        >>> import numpy as np
        >>> s, t = np.zeros((1, 1, 1, 2)), np.array([[[[2.0, 1.0]]]])
        >>> round(float(score_weighted_l2(s, t, np.array([[[0.0, -40.0]]]))), 6)
        4.0

    Paper:
        None; the rule of the package ultralytics 8.4, whose weight is 6 times the batch size.
        The value is theirs.
    """
    reduction.same_shape(s, t)
    table, s, t, mask = ready.dense(s, t, mask)
    items = table.mean_squares(s, t, 1)
    if logits.ndim not in (3, 4) or math.prod(logits.shape[2:]) != math.prod(s.shape[2:]):
        raise ValueError(
            f"logits must be (B, K, H, W) or (B, K, H * W) at the positions of {tuple(s.shape)}, "
            f"got {tuple(logits.shape)}; take the level of the student's map"
        )
    best = table.max(table.float32(logits), 1)
    score = table.sigmoid(table.reshape(best, tuple(items.shape)))
    return _scored(table, items, score, mask, weight, count)


def _scored(table: Any, items: Any, score: Any, mask: Any, weight: Any, count: Any) -> Any:
    """sum_i weight_i score_i items_i over the valid items, over `count` or the sum of scores."""
    if items.shape != score.shape:
        raise ValueError(
            f"score must have the items' shape {tuple(items.shape)}, got {tuple(score.shape)}"
        )
    score = table.detach(table.cast(score, items))
    if mask is not None:
        score = table.where(mask, score, 0)
    if count is None:
        total = table.sum(score)
        count = table.where(total > 0, total, 1)
    return reduction.mean(table, items * score, mask, weight, count)
