"""Losses on logits that need the labels too, or that make soft labels of their own.

B batch, C classes, T temperature, s and t logits of student and source, y the labelled class,
q = softmax(s), p = softmax(t). `axis` is where the classes are; every other axis holds items. An
item labelled -100 does not count.
"""

import math
from typing import Any

from limbeck.losses import ready, reduction, sides, silent
from limbeck.losses.logits import kl

TINY = 1e-30  # keeps 0 / 0 a number


def dkd(
    s: Any,
    t: Any,
    target: Any,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: Any = 4.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Decoupled distillation: the labelled class against the rest, and the rest by itself.

    T^2 * mean_i [a KL(b(p) || b(q)) + b KL(p' || q')], a = `alpha`, b = `beta`: b(.) the two
    probabilities (label, all else) and ' the distribution over the classes that are not the label,
    all softened at T. The second part is 0 for two classes.

    Args:
        s: student logits with C on `axis`.
        t: source logits of the same shape.
        target: class indices of the shape without `axis`; -100 does not count.
        alpha, beta: weights of the two parts.
        temperature, axis, mask, weight, count: as in `kl`; the divisor is the number of items that
            are valid and labelled.

    Returns:
        A scalar >= 0; 0 where both sides are equal.

    Raises:
        ValueError: as `kl`, and labels that are not class indices of the items' shape.

    Example:
        >>> import numpy as np
        >>> s, t, y = np.array([[0.3, -1.2]]), np.array([[2.0, -0.5]]), np.array([0])
        >>> round(float(dkd(s, t, y)), 6)
        0.116181

    Paper:
        Zhao et al., "Decoupled knowledge distillation", CVPR 2022, arXiv 2203.08679. The authors'
        code is the same where it is finite: it takes logarithms of probabilities.
    """
    table, s, t, target, known = _labelled(s, t, target, axis, mask)
    sides.positive("temperature", temperature)
    s, t, index = s / temperature, t / temperature, _index(table, target, known)
    rest_s, rest_t = (table.put(x, index, -math.inf) for x in (s, t))
    label = (
        table.take(x, index)[..., 0] - table.logsumexp(rest)
        for x, rest in ((s, rest_s), (t, rest_t))
    )
    square = temperature**2
    own, others = table.binary_kl(*label), table.kl(rest_s, rest_t, 1.0)
    items = square * alpha * own + square * beta * others
    return reduction.mean(table, items, known, weight, count)


def nkd(
    s: Any,
    t: Any,
    target: Any,
    *,
    gamma: float = 1.5,
    temperature: Any = 1.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Normalised distillation: the label as sure as the source is of it, and the rest by itself.

    mean_i [-p_iy log q_iy - g T^2 sum_{c != y} p'_ic log q'_ic], g = `gamma`, ' the distribution
    over the classes that are not the label, at T; the first part has T = 1. It is a cross-entropy,
    not a divergence: not 0 at equality. Arguments and errors are those of `dkd`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> round(float(nkd(s, t, np.array([1]))), 6)
        0.914162

    Paper:
        Yang et al., "From knowledge distillation to self-knowledge distillation: a unified approach
        with normalized loss and customized soft labels", ICCV 2023, arXiv 2303.13005. Same scale as
        the authors' code.
    """
    table, s, t, target, known = _labelled(s, t, target, axis, mask)
    sides.positive("temperature", temperature)
    index = _index(table, target, known)
    rest_s, rest_t = (table.put(x / temperature, index, -math.inf) for x in (s, t))
    sure = table.take(table.softmax(t), index)[..., 0]
    rest = table.cross_entropy(rest_s, table.softmax(rest_t))
    items = sure * table.cross_entropy(s, target) + gamma * temperature**2 * rest
    return reduction.mean(table, items, known, weight, count)


def wsld(
    s: Any,
    t: Any,
    target: Any,
    *,
    temperature: Any = 2.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Weighted soft labels: `kl` where the student is worse at the label than the source.

    T^2 * mean_i w_i KL_i, w = 1 - exp(-CE(q_i, y_i) / CE(p_i, y_i)), cross-entropies at T = 1. w
    carries no gradient. Arguments, result and errors are those of `dkd`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> round(float(wsld(s, t, np.array([1]))), 6)
        0.117605

    Paper:
        Zhou et al., "Rethinking soft labels for knowledge distillation: a bias-variance tradeoff
        perspective", ICLR 2021, arXiv 2102.00650. Their code keeps the entropy of the source: more
        by T^2 * mean_i w_i H(p_i), with the same gradient.
    """
    table, s, t, target, known = _labelled(s, t, target, axis, mask)
    sides.positive("temperature", temperature)
    mine = table.cross_entropy(table.detach(s), target)
    theirs = table.cross_entropy(table.detach(t), target)
    w = -table.expm1(-mine / table.at_least(theirs, TINY))
    items = table.kl(s, t, temperature)
    return silent.mean(table, items, known, weight, count, temperature**2, share=w)


def ban_cwtm(
    s: Any,
    t: Any,
    target: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Labels, each weighted by how sure the source is of anything (confidence-weighted CE).

    sum_i w_i CE(q_i, y_i) / sum_i w_i, w_i = max_c p_ic, T = 1. It divides by the sum of the
    confidences of the valid items, or by `count`. Not 0 at equality. Arguments and errors are those
    of `dkd`.

    Example:
        >>> import numpy as np
        >>> s, t = np.log([[0.5, 0.5], [0.2, 0.8]]), np.log([[0.9, 0.1], [0.4, 0.6]])
        >>> round(float(ban_cwtm(s, t, np.array([0, 0]))), 6)
        1.059663

    Paper:
        Furlanello et al., "Born-again neural networks", ICML 2018, arXiv 1805.04770. No code of the
        authors; the method permutes nothing and keeps only the source's confidence.
    """
    table, s, t, target, known = _labelled(s, t, target, axis, mask)
    w = table.max(table.softmax(t), -1)
    w = w if known is None else table.where(known, w, 0)
    if count is None:
        whole = table.at_least(table.sum(w), TINY)
    else:
        whole = reduction.divisor(table, None, count)
    share, items = w / whole, table.cross_entropy(s, target)
    if weight is None:
        return table.inner(share, items)
    return reduction.mean(table, share * items, known, weight, 1)


def ps_kd(
    s: Any,
    t: Any,
    target: Any,
    *,
    alpha: Any = 0.8,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Labels softened by the student's own past: progressive self-knowledge distillation.

    mean_i CE((1 - a) onehot(y_i) + a p_i, q_i), a = `alpha`, T = 1; t are the logits of an earlier
    epoch. Not 0 at equality. Arguments and errors are those of `dkd`.

    Example:
        >>> import numpy as np
        >>> s, t = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
        >>> round(float(ps_kd(s, t, np.array([1]), alpha=0.4)), 6)
        0.693147

    Paper:
        Kim et al., "Self-knowledge distillation with progressive refinement of targets", ICCV 2021,
        arXiv 2006.12000; alpha grows from 0 to 0.8: `Linear(0, 0.8)`. Same scale as their code.
    """
    table, s, t, target, known = _labelled(s, t, target, axis, mask)
    sides.share("alpha", alpha)
    soft, index = alpha * table.softmax(t), _index(table, target, known)
    soft = table.put(soft, index, table.take(soft, index) + (1 - alpha))
    if known is weight is count is None:
        return table.mean_soft_cross_entropy(s, soft)
    return reduction.mean(table, table.cross_entropy(s, soft), known, weight, count)


def tfkd_reg(
    s: Any,
    target: Any,
    *,
    correct: float = 0.99,
    temperature: Any = 20.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Divergence from a virtual teacher that is made of the labels alone (teacher-free).

    mean_i KL(softmax(v_i / T) || q_i), v = `correct` for the label and (1 - correct) / (C - 1) for
    the others; the student at T = 1, no T^2. As in the authors' code v are probabilities used as
    logits, so that the virtual teacher is close to uniform: a cousin of label smoothing.

    Args:
        s: student logits with C on `axis`.
        target: class indices of the shape without `axis`; -100 does not count.
        correct: v of the label, in [0, 1].
        temperature: T of the virtual teacher.
        axis, mask, weight, count: as in `dkd`.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: as `dkd`, and a `correct` outside [0, 1].

    Example:
        >>> import numpy as np
        >>> round(float(tfkd_reg(np.zeros((1, 3)), np.array([1]))), 6)
        0.000272

    Paper:
        Yuan et al., "Revisiting knowledge distillation via label smoothing regularization", CVPR
        2020, arXiv 1909.11723. Their code also averages over classes: C times smaller, which its
        "multiplier" of 10 or 50 makes up for.
    """
    table, s, _, target, known = _labelled(s, s, target, axis, mask)
    sides.share("correct", correct)
    sides.positive("temperature", temperature)
    alive = ready.present(table, s, -math.inf)
    classes = s.shape[-1] if alive is None else table.count(alive, s, -1, keepdims=True)
    others = (1 - correct) / reduction.divisor(table, classes - 1, None)
    v = table.put(table.zeros(s.shape, s) + others, _index(table, target, known), correct)
    v = v / temperature
    virtual = v if alive is None else table.where(alive, v, -math.inf)
    return kl(s, virtual, mask=known, weight=weight, count=count)


def _labelled(s: Any, t: Any, target: Any, axis: int, mask: Any) -> tuple[Any, Any, Any, Any, Any]:
    """The operations, both sides, the labels, -100 for items that do not count, and which do.

    All may count: None. The logits of items without a label must be finite.
    """
    table, s, t, mask = sides.items(s, t, axis, mask)
    target = sides.labels(table, target, s)
    if mask is not None:
        target = table.where(mask, target, -100)
    return table, s, t, target, ready.present(table, target, -100)


def _index(table: Any, target: Any, known: Any) -> Any:
    """The labels (..., 1) as places among the classes, 0 for items that do not count."""
    return (target if known is None else table.where(known, target, 0))[..., None]
