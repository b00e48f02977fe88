"""Losses between the layers of two transformers.

B batch, N tokens, D width, H heads of width d = D / H, s and t of student and source. A mask (B, N)
says which tokens count: what is padding is neither a query nor a key.
"""

import math
from typing import Any

from limbeck import ops
from limbeck.losses import differences, reduction
from limbeck.losses.embeddings import cosine


def minilm_attention(
    s: Any,
    t: Any,
    s_keys: Any,
    t_keys: Any,
    *,
    heads: int,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Divergence of attention distributions, of the last layer (MiniLM).

    mean_i mean_h KL(softmax(Q_h K_h' / sqrt(d)) of the source || that of the student), over the
    valid queries i and the heads h; keys that do not count have probability 0 on both sides.

    Args:
        s, s_keys: student queries and keys (B, N, D), heads side by side.
        t, t_keys: source queries and keys (B, N, D').
        heads: H, the same on both sides; widths may differ.
        mask: tokens that count, (B, N) or a prefix of it.
        weight: factor of each query, not part of the divisor.
        count: divisor in place of the number of valid queries.

    Returns:
        A scalar >= 0; exactly 0 where both sides attend alike.

    Raises:
        ValueError: tokens that differ, widths that do not divide by `heads`.

    Example:
        >>> import numpy as np
        >>> q, k = np.eye(4)[None], np.ones((1, 4, 4))
        >>> round(float(minilm_attention(q, q, k, q, heads=2)), 6)
        0.028232

    Paper:
        Wang et al., "MiniLM", NeurIPS 2020, arXiv 2002.10957; weight 1, to which the relation of
        values is added. The paper averages within each sequence first; there is no public code.
    """
    return _relations(((s, s_keys), (t, t_keys)), heads, mask, weight, count)


def minilm_relation(
    s: Any, t: Any, *, heads: int, mask: Any = None, weight: Any = None, count: Any = None
) -> Any:
    """Divergence of how tokens relate to each other: of values (MiniLM), or Q, K and V (v2).

    mean_i mean_h KL(softmax(X_h X_h' / sqrt(d)) of the source || that of the student), over the
    valid tokens i and the relation heads h, X being queries, keys or values. The heads side by side
    are split anew into `heads` relation heads, so that neither the width nor the number of heads
    must agree.

    Args:
        s: student queries, keys or values (B, N, D), heads side by side.
        t: source queries, keys or values (B, N, D').
        heads: relation heads, a divisor of both widths.
        mask: tokens that count, (B, N) or a prefix of it.
        weight: factor of each token, not part of the divisor.
        count: divisor in place of the number of valid tokens.

    Returns:
        A scalar >= 0; exactly 0 where both sides relate alike.

    Raises:
        ValueError: tokens that differ, widths that do not divide by `heads`.

    Example:
        >>> import numpy as np
        >>> round(float(minilm_relation(np.eye(4)[None], np.ones((1, 4, 6)), heads=2)), 6)
        0.025987

    Paper:
        Wang et al., "MiniLM", NeurIPS 2020, arXiv 2002.10957 (values, with the model's own heads);
        "MiniLMv2", Findings of ACL 2021, arXiv 2012.15828 (Q, K and V with 48 relation heads for a
        source of base size, each with weight 1). The papers average within each sequence first.
    """
    return _relations(((s, s), (t, t)), heads, mask, weight, count)


def _relations(
    sides: tuple[tuple[Any, Any], ...], heads: int, mask: Any, weight: Any, count: Any
) -> Any:
    shapes = [tuple(x.shape) for side in sides for x in side]
    if any(len(x) != 3 or x[:2] != shapes[0][:2] or x[2] % heads for x in shapes):
        raise ValueError(
            f"states must be (B, N, D) of the same tokens, with D divisible by {heads} heads, "
            f"got {shapes[0]} and {shapes[-1]}"
        )
    table = ops.of(sides[0][0])
    sides = tuple(tuple(table.float32(x) for x in side) for side in sides)
    if mask is not None:
        mask = reduction.valid(table, mask, shapes[0][:2])
        sides = tuple(reduction.only(table, mask, *side) for side in sides)
    s, t = (_scores(table, *side, heads, mask) for side in sides)
    items = table.mean(table.kl(s, t, 1.0), 1)
    return reduction.mean(table, items, mask, weight, count)


def _scores(table: Any, q: Any, k: Any, heads: int, mask: Any) -> Any:
    """Scaled dot products (B, H, N, N); keys that do not count are -inf for every valid query."""
    size = q.shape[-1] // heads
    q, k = (table.moveaxis(table.reshape(x, (*x.shape[:2], heads, size)), 2, 1) for x in (q, k))
    scores = table.matmul(q, table.moveaxis(k, -1, -2)) / math.sqrt(size)
    if mask is None:
        return scores
    keys, queries = mask[:, None, None, :], mask[:, None, :, None]
    return table.where(queries, table.where(keys, scores, -math.inf), 0)


def tinybert_attention(
    s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None
) -> Any:
    """Squared difference of attention scores before the softmax (TinyBERT).

    mean over heads h and pairs (i, j) of valid query and valid key of (s_hij - t_hij)^2, the scores
    being Q K' / sqrt(d). A pair that is -inf on either side was masked by its model and does not
    count; a large finite filler such as -10000 is a score like any other, so give `mask` then.

    Args:
        s: student scores (B, H, N, N).
        t: source scores of the same shape: heads pair up one to one.
        mask: tokens that count, (B, N) or (B,).
        weight: factor of each sample (B,), head (B, H) or query (B, H, N).
        count: divisor in place of the number of valid pairs over all heads.

    Returns:
        A scalar >= 0 in squared units of the scores; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s = np.array([[[[0.5, 1.0, -0.2, -10000]]]])
        >>> t = np.array([[[[0.1, 1.4, 0.3, -np.inf]]]])
        >>> round(float(tinybert_attention(s, t)), 6)
        0.19

    Paper:
        Jiao et al., "TinyBERT", Findings of EMNLP 2020, arXiv 1909.10351; weight 1 a layer. The
        authors zero every score up to -100 and average over padding too.
    """
    reduction.same_shape(s, t)
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is not None:
        queries, keys = (reduction.valid(table, mask, (s.shape[0], n)) for n in s.shape[2:])
        pairs = queries[:, None, :, None] & keys[:, None, None, :]
        s, t = (table.where(pairs, x, -math.inf) for x in (s, t))
    return differences.known_entries(
        table, s, t, lambda: table.minimum(s, t) != -math.inf, mask, weight, count
    )


def pkd_bert(
    s: Any,
    t: Any,
    *,
    token: int = 0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Squared distance of the normalised states of one token (patient distillation of BERT).

    mean_b ||s_b / ||s_b|| - t_b / ||t_b||||^2, s_b the state of the class token of sample b: twice
    `cosine`. A dead state stays 0.

    Args:
        s: student states (B, N, D), of which `token` is taken, or (B, D).
        t: source states of the same shape.
        token: which token stands for the sample.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar in [0, 4] without unit; 0 where both sides point alike.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> s, t = np.zeros((1, 3, 2)), np.zeros((1, 3, 2))
        >>> s[0, 0], t[0, 0] = (5.0, 0.0), (0.0, 2.0)
        >>> round(float(pkd_bert(s, t)), 6)
        2.0

    Paper:
        Sun et al., "Patient knowledge distillation for BERT", EMNLP 2019, arXiv 1908.09355. The
        authors' code averages over the width as well: 1/D times this, with weight 10 ... 1000.
    """
    reduction.same_shape(s, t)
    s, t = (x if x.ndim == 2 else x[:, token] for x in (s, t))
    return 2 * cosine(s, t, mask=mask, weight=weight, count=count)
