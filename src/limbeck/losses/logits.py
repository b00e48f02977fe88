"""Losses on logits.

B batch, C classes, T temperature, s and t logits of student and source, q = softmax(s / T),
p = softmax(t / T). `axis` is where the classes are; every other axis holds items.
"""

import math
from typing import Any

from limbeck.losses import reduction, sides


def kl(
    s: Any,
    t: Any,
    *,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Forward Kullback-Leibler divergence of softened logits: the textbook distillation loss.

    T^2 * mean_i sum_c p_ic (log p_ic - log q_ic): the expectation is under the source. The factor
    T^2 keeps the gradient's size as T changes. `mean` divides by the number of valid items, never
    by C. Classes that are -inf on both sides do not count.

    Args:
        s: student logits, any shape with C on `axis`: (B, C), (B, L, C), (B, C, H, W), ...
        t: source logits of the same shape.
        temperature: T > 0, a number or a scalar array.
        axis: where the classes are; 1 for maps (B, C, H, W).
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar >= 0; exactly 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a single class, a T or `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> round(float(kl(s, t, temperature=4)), 6)
        0.395115

    Paper:
        Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015,
        arXiv 1503.02531. Code that uses an element mean divides by C as well: C times smaller.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    sides.positive("temperature", temperature)
    if mask is None and weight is None:
        valid = reduction.divisor(table, table.size(s) // s.shape[-1], count)
        return table.total_kl(s, t, temperature, temperature**2 / valid)
    items = table.kl(s, t, temperature)
    return reduction.mean(table, items, mask, weight, count) * temperature**2


def reverse_kl(
    s: Any,
    t: Any,
    *,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Reverse Kullback-Leibler divergence of softened logits: mode seeking.

    T^2 * mean_i sum_c q_ic (log q_ic - log p_ic): the expectation is under the student.
    Arguments, result and errors are those of `kl`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0, 0.0]]), np.array([[0.0, -120.0]])
        >>> round(float(reverse_kl(s, t)), 5)
        59.30685

    Paper:
        Gu et al., "MiniLLM", ICLR 2024, arXiv 2306.08543; Agarwal et al., "GKD", ICLR 2024,
        arXiv 2306.13649. Both leave T^2 out: theirs is this value over T^2.
    """
    reduction.same_shape(s, t)
    return kl(t, s, temperature=temperature, axis=axis, mask=mask, weight=weight, count=count)


def cross_entropy(
    s: Any,
    target: Any,
    *,
    label_smoothing: float = 0.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Cross-entropy against labels: the hard term.

    mean_i [(1 - e) * -sum_c y_ic log q_ic + e * mean_c(-log q_ic)], e = `label_smoothing`, T = 1.
    `mean` divides by the number of labelled items: a target of -100, or a row of zeros where
    targets are distributions, is withheld and does not count. Logits that `mask` leaves out may be
    anything, those beside -100 alone must be finite. Smoothing spreads over the classes that are
    not -inf.

    Args:
        s: student logits with C on `axis`.
        target: class indices of the shape without `axis`, or distributions of the shape of `s`
            (mixed labels).
        label_smoothing: e in [0, 1); it never touches a soft term.
        axis, mask, weight, count: as in `kl`.

    Returns:
        A scalar >= 0; 0 with a gradient path if nothing is labelled; NaN for a distribution with a
        negative or NaN entry.

    Example:
        >>> import numpy as np
        >>> s = np.array([[1.0, 2.0, 0.5, -1.0], [0.0, 0.3, -0.7, 1.5]])
        >>> round(float(cross_entropy(s, np.array([1, 3]))), 6)
        0.493451
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    table, s = sides.classes_last(s, axis)
    integer = table.integer(target)
    if integer:
        sides.one_each(target, s)
        if mask is weight is count is None and not label_smoothing:
            return table.mean_cross_entropy(s, target)
    else:
        target = sides.distributions(table, target, s, axis)
    known = target != -100 if integer else table.any(target != 0, -1)
    mask = known if mask is None else known & reduction.valid(table, mask, s.shape[:-1])
    (s,) = reduction.only(table, mask, s)
    if integer:
        target = table.where(mask, target, -100)
    items = table.cross_entropy(s, target)
    if label_smoothing:
        smooth = -table.mean_log_softmax(s)
        items = (1 - label_smoothing) * items + label_smoothing * smooth
    if not integer:
        items = table.where(table.any(target < 0, -1), math.nan, items)
    return reduction.mean(table, items, mask, weight, count)


def hard(
    s: Any,
    t: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Cross-entropy against the class that the source prefers: hard pseudo-labels.

    mean_i -log q_i[argmax_c t_ic], T = 1; of equal classes the first. It is not a divergence: at
    equality it is the mean of -log max_c q_ic. Arguments and errors are those of `kl`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5, -1.0]]), np.array([[2.0, 1.0, 0.0, -2.0]])
        >>> round(float(hard(s, t)), 6)
        1.495182

    Paper:
        Touvron et al., "Training data-efficient image transformers", ICML 2021, arXiv 2012.12877
        (hard distillation); Lee, "Pseudo-label", ICML workshop 2013.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    decided = table.argmax(t)
    if mask is weight is count is None:
        return table.mean_cross_entropy(s, decided)
    items = table.cross_entropy(s, decided)
    return reduction.mean(table, items, mask, weight, count)
