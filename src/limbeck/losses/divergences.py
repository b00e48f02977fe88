"""Divergences of softened logits other than the two Kullback-Leibler directions.

B batch, C classes, T temperature, s and t logits of student and source, q = softmax(s / T),
p = softmax(t / T). `axis` is where the classes are; every other axis holds items.
"""

from typing import Any

from limbeck.losses import reduction, sides, silent

TINY = 1e-30  # keeps 0 / 0 a number


def jeffreys(
    s: Any,
    t: Any,
    *,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Jeffreys divergence: both directions of Kullback-Leibler, summed.

    T^2 * mean_i sum_c (p_ic - q_ic)(log p_ic - log q_ic), that is `kl` + `reverse_kl`, not halved.
    Arguments, result and errors are those of `kl`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> round(float(jeffreys(s, t, temperature=4)), 6)
        0.778559

    Paper:
        Jeffreys, "An invariant form for the prior probability in estimation problems", Proc. R.
        Soc. A 186, 1946. Code called symmetric KL often halves it, and leaves T^2 out.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    sides.positive("temperature", temperature)
    if mask is None and weight is None:
        valid = reduction.divisor(table, table.size(s) // s.shape[-1], count)
        return table.total_jeffreys(s, t, temperature, temperature**2 / valid)
    forth, back = table.both_kl(s, t, temperature)
    return silent.mean(table, forth + back, mask, weight, count, temperature**2)


def jsd(
    s: Any,
    t: Any,
    *,
    mixture: Any = 0.5,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Generalised Jensen-Shannon divergence: both sides against their mixture.

    T^2 * mean_i [b KL(p_i || m_i) + (1 - b) KL(q_i || m_i)], m = b p + (1 - b) q, b = `mixture` the
    share of the source. The formula is literal: it is 0 at b = 0 and b = 1 and continuous up to
    there; b = 1/2 is the Jensen-Shannon divergence, at most T^2 log 2.

    Args:
        s: student logits with C on `axis`.
        t: source logits of the same shape.
        mixture: b in [0, 1], a number or a scalar array.
        temperature, axis, mask, weight, count: as in `kl`.

    Returns:
        A scalar >= 0; 0 where both sides are equal.

    Raises:
        ValueError: as `kl`, and a mixture outside [0, 1].

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> [round(float(jsd(s, t, mixture=b)), 6) for b in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.038099, 0.10121, 0.0]

    Paper:
        Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 1991;
        Agarwal et al., "GKD", ICLR 2024, arXiv 2306.13649, whose b is this one. Their code has no
        T^2, and returns KL(p || q) at b = 0 and KL(q || p) at b = 1: those are `kl`, `reverse_kl`.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    sides.share("mixture", mixture)
    sides.positive("temperature", temperature)
    by_source = table.mixed_kl(s, t, mixture, temperature)
    by_student = table.mixed_kl(t, s, 1 - mixture, temperature)
    items = mixture * by_source + (1 - mixture) * by_student
    return silent.mean(table, items, mask, weight, count, temperature**2)


def skew_kl(
    s: Any,
    t: Any,
    *,
    alpha: Any = 0.1,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Skew Kullback-Leibler divergence: `kl` against a mixed student.

    T^2 * mean_i KL(p_i || a p_i + (1 - a) q_i), a = `alpha` in [0, 1]: `kl` at a = 0, 0 at a = 1,
    never above -T^2 log a. The gradient passes through the mixture. Other arguments, result and
    errors are those of `kl`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> [round(float(skew_kl(s, t, alpha=a)), 6) for a in (0.0, 0.1, 1.0)]
        [0.43226, 0.336526, 0.0]

    Paper:
        Ko et al., "DistiLLM", ICML 2024, arXiv 2402.03898; a = 0.1, T = 1. Their code is the
        cross-entropy: the mean entropy of the source above this, and so not 0 at equality.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    sides.share("alpha", alpha)
    sides.positive("temperature", temperature)
    items = table.mixed_kl(s, t, alpha, temperature)
    return silent.mean(table, items, mask, weight, count, temperature**2)


def skew_reverse_kl(
    s: Any,
    t: Any,
    *,
    alpha: Any = 0.1,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Skew reverse Kullback-Leibler divergence: `reverse_kl` against a mixed source.

    T^2 * mean_i KL(q_i || a q_i + (1 - a) p_i), a = `alpha` in [0, 1]: `reverse_kl` at a = 0, 0 at
    a = 1, never above -T^2 log a. The gradient passes through the mixture. Other arguments, result
    and errors are those of `kl`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> [round(float(skew_reverse_kl(s, t, alpha=a)), 6) for a in (0.0, 0.1, 1.0)]
        [0.410667, 0.32709, 0.0]

    Paper:
        Ko et al., "DistiLLM", ICML 2024, arXiv 2402.03898; a = 0.1, T = 1: the same. The trainer of
        DistiLLM-2 holds the student of the mixture still: same value, another gradient.
    """
    reduction.same_shape(s, t)
    return skew_kl(
        t,
        s,
        alpha=alpha,
        temperature=temperature,
        axis=axis,
        mask=mask,
        weight=weight,
        count=count,
    )


def total_variation(
    s: Any,
    t: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Total variation distance of the class probabilities.

    mean_i 1/2 sum_c |p_ic - q_ic|, T = 1; its gradient is 0 where p_ic = q_ic. Arguments and errors
    are those of `kl`, without a temperature.

    Returns:
        A scalar in [0, 1]; 0 where both sides are equal.

    Example:
        >>> import numpy as np
        >>> s, t = np.log([[0.5, 0.3, 0.2]]), np.log([[0.1, 0.3, 0.6]])
        >>> round(float(total_variation(s, t)), 6)
        0.4

    Paper:
        Wen et al., "f-divergence minimization for sequence-level knowledge distillation",
        ACL 2023, arXiv 2307.15190. Some code multiplies by T^2.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    items = table.sum(table.abs(table.softmax(t) - table.softmax(s)), -1) / 2
    return reduction.mean(table, items, mask, weight, count)


def akl(
    s: Any,
    t: Any,
    *,
    mu: float = 0.5,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Adaptive Kullback-Leibler divergence: forward as the head errs, reverse as the tail does.

    T^2 * mean_i [h_i KL(p_i || q_i) + (1 - h_i) KL(q_i || p_i)], h the head's share of
    sum_c |p_ic - q_ic|. Sorted by p, the head is the largest class and those whose cumulative mass
    does not pass `mu`. h carries no gradient.

    Args:
        s: student logits with C on `axis`.
        t: source logits of the same shape.
        mu: mass of the head, in [0, 1].
        temperature, axis, mask, weight, count: as in `kl`.

    Returns:
        A scalar >= 0; 0 where both sides are equal.

    Raises:
        ValueError: as `kl`, and a `mu` outside [0, 1].

    Example:
        >>> import numpy as np
        >>> s, t = np.log([[0.3, 0.3, 0.4]]), np.log([[0.6, 0.3, 0.1]])
        >>> round(float(akl(s, t)), 6)
        0.311916

    Paper:
        Wu et al., "Rethinking Kullback-Leibler divergence in knowledge distillation for large
        language models", COLING 2025, arXiv 2404.02657. Their code is NaN at equality; ports count
        the class that crosses `mu` to the head.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    sides.share("mu", mu)
    sides.positive("temperature", temperature)
    q, p = (table.softmax(table.detach(x) / temperature) for x in (s, t))
    h = _head_share(table, q, p, mu)
    items = table.shared_kl(s, t, temperature, h)
    return silent.mean(table, items, mask, weight, count, temperature**2)


def _head_share(table: Any, q: Any, p: Any, mu: float) -> Any:
    """Rows of the head's share of sum_c |p_c - q_c|."""
    p, order = table.ranked(p)
    gap = table.abs(p - table.take(q, order))
    first, others = gap[..., 0], gap[..., 1:]
    mass = table.cumsum(p, -1)[..., 1:]
    head = first + table.sum(table.where(mass <= mu, others, 0), -1)
    return head / table.at_least(table.sum(gap, -1), TINY)
