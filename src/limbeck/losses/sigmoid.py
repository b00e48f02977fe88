"""Losses on outputs that do not compete: a sigmoid for each class, or a number for each quantity.

B batch, C classes or quantities, T temperature, s and t outputs of student and source, sigma the
sigmoid. `axis` is where the classes are; every other axis holds items.
"""

import math
from typing import Any

from limbeck import ops
from limbeck.losses import differences, ready, reduction, sides, silent


def binary_kl(
    s: Any,
    t: Any,
    *,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Forward Kullback-Leibler divergence of independent classes: what `kl` is to one of many.

    T^2 * mean_i sum_c KL(Bernoulli(sigma(t_ic / T)) || Bernoulli(sigma(s_ic / T))). `mean` divides
    by the number of valid items, never by C. A single class is welcome. Classes that are -inf on
    both sides do not count.

    Args:
        s: student logits, any shape with C on `axis`: (B, C), (B, C, H, W), ...
        t: source logits of the same shape.
        temperature: T > 0, a number or a scalar array.
        axis: where the classes are; 1 for maps (B, C, H, W).
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar >= 0 in nats; exactly 0, with zero gradient, where both sides are equal.

    Raises:
        ValueError: shapes that differ, a T or `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0, 2.0]]), np.array([[1.0, 2.0]])
        >>> round(float(binary_kl(s, t)), 6), round(float(binary_kl(s, t, temperature=2)), 6)
        (0.110944, 0.121199)

    Paper:
        Hinton, Vinyals, Dean, 2015, arXiv 1503.02531, for classes that exclude each other; Yang et
        al., "Multi-label knowledge distillation", ICCV 2023, arXiv 2308.06453, for independent
        ones. Their code (penghui-yang/L2D) is the same at T = 1, with probabilities clamped.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    sides.positive("temperature", temperature)
    if mask is None and weight is None:
        factor = temperature**2 / _divisor(table, s, axis, mask, count)
        return table.total_binary_kl(s, t, temperature, factor)
    items = table.sum(table.binary_kl(s / temperature, t / temperature), axis)
    return silent.mean(table, items, mask, weight, count, temperature**2)


def binary_cross_entropy(
    s: Any,
    target: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Cross-entropy of independent classes against labels: the hard term of several labels.

    mean_i sum_c [-y_ic log sigma(s_ic) - (1 - y_ic) log sigma(-s_ic)], T = 1. A target of -100 is
    unknown: its class is left out of the sum, whatever its logit. `mean` divides by the number of
    items of which at least one class is known, never by C.

    Args:
        s: student logits with C on `axis`.
        target: 0, 1, anything between (mixed labels), or -100, of the shape of `s`.
        axis, mask, weight, count: as in `binary_kl`.

    Returns:
        A scalar >= 0 in nats; 0 with a gradient path if nothing is known.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, target = np.array([[0.0, 2.0, 9.0]]), np.array([[1, 0, -100]])
        >>> round(float(binary_cross_entropy(s, target)), 6)
        2.820075

    Paper:
        Boutell et al., "Learning multi-label scene classification", Pattern Recognition 2004. Code
        that uses an element mean divides by C as well: C times smaller where all is known; code
        that sums over the batch (penghui-yang/L2D) is B times larger.
    """
    table, s, target, mask = ready.items(s, target, axis, mask)
    if mask is weight is count is None:
        return table.mean_binary_cross_entropy(s, target, axis)
    target = table.cast(target, s)
    known = target != -100
    labelled = table.any(known, axis)
    mask = labelled if mask is None else labelled & mask
    items = table.sum(table.binary_cross_entropy(s, target, known), axis)
    return reduction.mean(table, items, mask, weight, count)


def binary_hard(
    s: Any,
    t: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Binary cross-entropy against the source's own decisions: hard pseudo-labels.

    `binary_cross_entropy` with y_ic = 1 where sigma(t_ic) > 1/2. It is not a divergence. Arguments
    and errors are those of `binary_kl`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0, 2.0]]), np.array([[3.0, -0.1]])
        >>> round(float(binary_hard(s, t)), 6)
        2.820075

    Paper:
        Lee, "Pseudo-label", ICML workshop 2013, class by class.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    decided = table.cast(t > 0, s)
    if mask is None and weight is None:
        divisor = _divisor(table, s, axis, mask, count)
        return table.total_binary_cross_entropy(s, decided, divisor)
    items = table.sum(table.binary_cross_entropy(s, decided), axis)
    return reduction.mean(table, items, mask, weight, count)


def squared_error(
    s: Any,
    t: Any,
    *,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Mean squared error of numbers: regression, against targets or a teacher's answers.

    mean_i (s_i - t_i)^2, where an item is one number of one sample. A target of NaN is unknown and
    does not count. `mean` divides by the number of known numbers, as the field does, not by B.

    Args:
        s: student outputs, any shape: (B, C), (B,), (B, C, H, W), ...
        t: targets or source outputs of the same shape.
        mask: items that count, of that shape or a prefix of it.
        weight: factor of each item, of that shape or a prefix, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar >= 0 in squared units of the outputs; 0 with a gradient path if nothing is known.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0], [0.0, 5.0]]), np.array([[3.0, 2.0], [1.0, np.nan]])
        >>> round(float(squared_error(s, t)), 6)
        1.666667

    Paper:
        Gauss, "Theoria motus", 1809; as distillation, Ba and Caruana, "Do deep nets really need to
        be deep?", NeurIPS 2014, arXiv 1312.6184, who halve it and sum over C: C/2 times this.
    """
    reduction.same_shape(s, t)
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is not None:
        valid = reduction.valid(table, mask, s.shape)
        s, t = table.where(valid, s, 0), table.where(valid, t, math.nan)
    return differences.known_entries(table, s, t, lambda: ~table.isnan(t), mask, weight, count)


def _divisor(table: Any, s: Any, axis: int, mask: Any, count: Any) -> Any:
    """`count`, or how many items count."""
    items = table.size(s) // max(s.shape[axis], 1) if mask is None else table.count(mask, s)
    return reduction.divisor(table, items, count)
