"""Kullback-Leibler divergences that keep the source's k most likely tokens.

B batch, N tokens, V vocabulary, k kept tokens, T temperature; p and q probabilities of source and
student over all of V. What becomes of the mass outside the k tokens is the `tail`:

    "bucket"       all other tokens are one class: a divergence, at most the full one
    "renormalise"  both sides are divided by their mass on the k tokens: a divergence, blind to
                   what the student leaves to all others
    "drop"         sum over the k tokens of p log(p / q): no divergence, it may be negative
"""

import math
from typing import Any, Literal

from limbeck import ops
from limbeck.losses import ready, reduction, sides

Tail = Literal["bucket", "renormalise", "drop"]
TAILS = ("bucket", "renormalise", "drop")
LOWEST = -3e38  # stands for the logarithm of 0 where a gradient must be finite
ROUNDING = 1e-6  # a stored tail with less mass than this has none


def topk_kl(
    s: Any,
    t: Any,
    *,
    k: int,
    tail: Tail = "bucket",
    temperature: Any = 1.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """KL over the source's k most likely tokens, from the logits of both sides.

    T^2 * mean_i KL(p'_i || q'_i) over the valid tokens i, p' and q' being what `tail` makes of the
    k kept tokens (see the file's head). With k = V every tail gives `kl`.

    Args:
        s: student logits (B, N, V), or (B, V).
        t: source logits of the same shape.
        k: how many tokens are kept.
        tail: `"bucket"`, `"renormalise"` or `"drop"`.
        temperature: T > 0, a number or a scalar array.
        mask: tokens that count, of the shape without V or a prefix of it.
        weight: factor of each token, not part of the divisor.
        count: divisor in place of the number of valid tokens.

    Returns:
        A scalar; >= 0 and exactly 0 at equality unless the tail is dropped.

    Raises:
        ValueError: shapes that differ, k outside 1 ... V, an unknown tail.

    Example:
        >>> import numpy as np
        >>> t = np.log([[0.5, 0.3, 0.1, 0.06, 0.04]])
        >>> s = np.log([[0.6, 0.35, 0.03, 0.01, 0.01]])
        >>> [round(float(topk_kl(s, t, k=2, tail=tail)), 6) for tail in TAILS]
        [0.139853, 9.3e-05, -0.137406]

    Paper:
        None of its own: word-level distillation (Kim, Rush, EMNLP 2016, arXiv 1606.07947) on part
        of the vocabulary. TRL has the bucket, at T = 1, with a clamp inside log(1 - mass) that
        takes a confident student's gradient away; here the tail is summed in log space.
    """
    check(k, s.shape[-1], tail)
    table, s, t, mask = sides.items(s, t, -1, mask)
    index = table.top(t, k)
    kept_s, kept_t = (kept(table, x, index, tail, temperature) for x in (s, t))
    return _mean(table, kept_s, kept_t, tail, temperature, mask, weight, count)


def sparse_kl(
    s: Any,
    t: Any,
    index: Any,
    *,
    tail: Tail = "bucket",
    temperature: Any = 1.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """KL from a source that is stored as the log probabilities of its k most likely tokens.

    T^2 * mean_i KL(p'_i || q'_i), as `topk_kl` with the source's logits; there the tail is exact,
    here it is what the log probabilities leave of 1.

    Args:
        s: student logits (B, N, V), or (B, V).
        t: log probabilities (B, N, k) of the kept tokens under the whole of softmax(logits / T);
            -inf fills rows that keep fewer, but not all of a row.
        index: which tokens these are, integers (B, N, k).
        tail: `"bucket"`, `"renormalise"` or `"drop"`.
        temperature: the T > 0 that `t` was taken at; the student is softened by it too.
        mask: tokens that count, (B, N) or a prefix of it.
        weight: factor of each token, not part of the divisor.
        count: divisor in place of the number of valid tokens.

    Returns:
        A scalar; 0 at equality, up to the rounding of `t`, unless the tail is dropped.

    Raises:
        ValueError: shapes that do not fit, an unknown tail.

    Example:
        >>> import numpy as np
        >>> s, t = np.log([[0.6, 0.2, 0.1, 0.1]]), np.log([[0.5, 0.3]])
        >>> round(float(sparse_kl(s, t, np.array([[0, 1]]))), 6)
        0.030479
    """
    if t.shape != index.shape or t.shape[:-1] != s.shape[:-1]:
        raise ValueError(
            "sparse_kl needs log probabilities and indices (B, N, k) beside logits (B, N, V), "
            f"got {tuple(t.shape)} and {tuple(index.shape)} beside {tuple(s.shape)}"
        )
    check(t.shape[-1], None if tail == "drop" else s.shape[-1], tail)
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is not None:
        mask = reduction.valid(table, mask, s.shape[:-1])
        s, t, index = reduction.only(table, mask, s, t, index)
    if tail == "bucket" and t.shape[-1] == s.shape[-1]:
        tail = "renormalise"  # nothing is left for a bucket
    filled = ready.present(table, t, -math.inf)
    if filled is not None:
        index = table.where(filled, index, table.take(index, table.top(t, 1)))
    kept_s = kept(table, s, index, tail, temperature, filled)
    kept_t = table.concat([t, _rest(table, t)], -1) if tail == "bucket" else t
    return _mean(table, kept_s, kept_t, tail, temperature, mask, weight, count)


def check(k: int, vocabulary: int | None, tail: str) -> None:
    """Raises ValueError for a k or a tail that means nothing; drawn entries may be any number."""
    if tail not in TAILS:
        raise ValueError(f"tail must be one of {TAILS}, got {tail!r}")
    fewest = 2 if tail == "renormalise" else 1
    if k < fewest or (vocabulary is not None and k > vocabulary):
        raise ValueError(f"k must be in {fewest} ... V = {vocabulary}, got {k}")


def kept(table: Any, x: Any, index: Any, tail: Tail, temperature: Any, filled: Any = None) -> Any:
    """Logits, up to a constant, of the classes that `tail` makes of logits (*items, V) over T."""
    if tail == "bucket":
        found = table.bucketed(x, index, temperature)
    else:
        x = x / temperature
        found = table.take(table.log_softmax(x) if tail == "drop" else x, index)
    if filled is None:
        return found
    k = index.shape[-1]
    return table.concat([table.where(filled, found[..., :k], LOWEST), found[..., k:]], -1)


def _mean(
    table: Any, s: Any, t: Any, tail: Tail, temperature: Any, mask: Any, weight: Any, count: Any
) -> Any:
    """T^2 times the mean divergence of the tokens that count, from what is kept of both sides."""
    square = temperature**2
    if tail == "drop":
        s, t = (table.at_least(x, LOWEST) for x in (s, t))
        items = table.sum(table.exp(t) * (t - s), -1)
    elif mask is None and weight is None:
        valid = reduction.divisor(table, table.size(s) // s.shape[-1], count)
        return table.total_kl(s, t, 1.0, square / valid)
    else:
        items = table.kl(s, t, 1.0)
    return reduction.mean(table, items, mask, weight, count) * square


def _rest(table: Any, t: Any) -> Any:
    """The log of the mass (*items, 1) that log probabilities leave."""
    rest = 1 - table.sum(table.exp(t), -1, keepdims=True)
    return table.log(table.above(rest, ROUNDING))
