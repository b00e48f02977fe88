"""Losses on the states and distributions of single tokens.

B batch, N tokens, D width, V vocabulary, s and t of student and source.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import differences, ready, reduction


def uld(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Distance of sorted probabilities, for unlike vocabularies (universal logit distillation).

    mean_i sum_v |sort(softmax(t_i))_v - sort(softmax(s_i))_v| over the valid tokens i, T = 1. The
    smaller vocabulary is filled with probabilities of 0. It sees no token's identity: a permuted
    vocabulary gives the same value. Position i of both sides must be the same place in the text.

    Args:
        s: student logits (B, N, V), or (B, V).
        t: source logits (B, N, V'), or (B, V').
        mask: tokens that count, (B, N) or a prefix of it.
        weight: factor of each token, not part of the divisor.
        count: divisor in place of the number of valid tokens.

    Returns:
        A scalar in [0, 2); 0 where the sorted probabilities are equal.

    Raises:
        ValueError: tokens that do not pair up, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 0.0, -1.0]]), np.array([[2.0, 0.5, 0.0, -0.5]])
        >>> round(float(uld(s, t)), 6)
        0.179672

    Paper:
        Boizard et al., "Towards cross-tokenizer distillation: the universal logit distillation
        loss", TMLR 2025, arXiv 2402.12030; weight 1.5. The authors average within each sequence
        first: the same where all are of one length.
    """
    if s.ndim < 2 or s.shape[:-1] != t.shape[:-1]:
        raise ValueError(
            "uld needs the same tokens on both sides, aligned beforehand, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}"
        )
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is not None:
        mask = reduction.valid(table, mask, s.shape[:-1])
        s, t = reduction.only(table, mask, s, t)
    size = max(s.shape[-1], t.shape[-1])
    q, p = (_filled(table, table.sort(table.softmax(x), descending=True), size) for x in (s, t))
    return reduction.mean(table, table.sum(table.abs(p - q), -1), mask, weight, count)


def _filled(table: Any, p: Any, size: int) -> Any:
    """Probabilities with zeros at their end, `size` in all."""
    missing = size - p.shape[-1]
    if not missing:
        return p
    return table.concat([p, table.zeros((*p.shape[:-1], missing), p)], -1)


def vitkd_mimic(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Squared distance of token states (ViTKD): `hint` summed over the width.

    mean_i sum_d (s_id - t_id)^2 over the valid tokens i. Tokens must correspond one to one: the
    same grid of patches and the same class and register tokens.

    Args:
        s: student states (B, N, D), after the projector.
        t: source states of the same shape.
        mask: tokens that count, (B, N) or a prefix of it.
        weight: factor of each token, not part of the divisor.
        count: divisor in place of the number of valid tokens.

    Returns:
        A scalar >= 0 in squared units of the states; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> float(vitkd_mimic(np.ones((2, 5, 3)), np.zeros((2, 5, 3))))
        3.0

    Paper:
        Yang et al., "ViTKD", 2022, arXiv 2209.02432, for the first two layers, summed. The
        authors' code sums over tokens too: N times this, with weight 3e-5.
    """
    table, s, t, mask = ready.items(s, t, -1, mask)
    mean = differences.mean(table, table.mean_squares, s, t, mask, weight, count)
    return mean * s.shape[-1]
