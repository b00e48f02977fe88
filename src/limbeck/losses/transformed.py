"""Losses whose source is transformed at a power while the student stays at T = 1.

B batch, C classes, s and t logits of student and source, q = softmax(s), p = softmax(t). `axis` is
where the classes are; every other axis holds items.
"""

from typing import Any

from limbeck.losses import reduction, sides


def ttm(
    s: Any,
    t: Any,
    *,
    gamma: float = 0.1,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Transformed teacher matching: `kl` from a flattened source to the student at T = 1.

    mean_i KL(p_i^g / Z_i || q_i), Z_i = sum_c p_ic^g, g = `gamma` = 1 / T. No T^2. It is 0 where
    the student is softmax(g t), so at equality only for g = 1.

    Args:
        s: student logits with C on `axis`.
        t: source logits of the same shape.
        gamma: g > 0.
        axis, mask, weight, count: as in `kl`.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: as `kl`, and a `gamma` that is not positive.

    Example:
        >>> import numpy as np
        >>> t = np.array([[2.0, 1.0, 0.0]])
        >>> round(float(ttm(t, t)), 6), round(float(ttm(0.1 * t, t)), 6)
        (0.245763, 0.0)

    Paper:
        Zheng, Yang, "Knowledge distillation based on transformed teacher matching", ICLR 2024,
        arXiv 2402.11148; CIFAR-100 g = 0.1 to 0.25, weight 45. Same scale as the authors' code.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    sides.positive("gamma", gamma)
    return reduction.mean(table, table.kl(s, gamma * t, 1.0), mask, weight, count)


def wttm(
    s: Any,
    t: Any,
    *,
    gamma: float = 0.1,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Weighted transformed teacher matching: `ttm`, more where the source is unsure.

    mean_i u_i KL(p_i^g / Z_i || q_i), u_i = Z_i = sum_c p_ic^g, between 1 (sure) and C^(1 - g). The
    weights are not normalised. Arguments, result and errors are those of `ttm`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> round(float(wttm(s, t) / ttm(s, t)), 6)
        2.614786

    Paper:
        Zheng, Yang, "Knowledge distillation based on transformed teacher matching", ICLR 2024,
        arXiv 2402.11148; g = 0.2, weight 4 on top of CRD. Same scale as the authors' code.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    sides.positive("gamma", gamma)
    u = table.sum(table.exp(gamma * table.log_softmax(t)), -1)
    return reduction.mean(table, u * table.kl(s, gamma * t, 1.0), mask, weight, count)
