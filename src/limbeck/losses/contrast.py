"""Contrastive representation distillation: tell a sample's own embedding from remembered others.

B samples, N remembered samples, K negatives of a sample, D width, s and t embeddings of student and
source (B, D), both projected to D.
"""

import math
from numbers import Real
from typing import Any

from limbeck import ops
from limbeck.losses import ready, reduction


def crd(
    s: Any,
    t: Any,
    memory_s: Any,
    memory_t: Any,
    index: Any,
    *,
    temperature: float = 0.07,
    z_s: Any = None,
    z_t: Any = None,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Contrastive representation distillation against two memories (CRD).

    mean_b [h(s_b; memory_t, Z_s) + h(t_b; memory_s, Z_t)], where the noise-contrastive estimate is
    h(x) = -log P_0 / (P_0 + K/N) - sum_{k=1..K} log (K/N) / (P_k + K/N),
    P_k = exp(x . m_k / T) / Z, x of unit length, m_k the rows of the other side's memory at
    `index`. Z is held still; without one it is N times the mean of exp(x . m / T) of this batch.

    Args:
        s: student embeddings (B, D), of any length.
        t: source embeddings (B, D); they carry gradient where a projector of their own learns.
        memory_s: what is remembered of the student, unit rows (N, D); no gradient.
        memory_t: what is remembered of the source, unit rows (N, D); no gradient.
        index: integers (B, 1 + K): a sample's own row of the memories, then its negatives.
        temperature: T > 0.
        z_s: Z of the student's scores, a number or a scalar array.
        z_t: Z of the source's scores.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar > 0 in nats; not 0 at equality.

    Raises:
        ValueError: shapes that do not fit, no negative, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> memory, index = np.eye(3), np.array([[0, 1, 2]])
        >>> round(float(crd(memory[:1], memory[:1], memory, memory, index, z_s=9, z_t=9)), 5)
        0.61661

    Paper:
        Tian, Krishnan, Isola, "Contrastive representation distillation", ICLR 2020,
        arXiv 1910.10699; weight 0.8, K = 16384. Same scale as the authors' code, which fixes Z at
        its first batch (the paper has no Z) and adds 1e-7 to the denominators.
    """
    reduction.same_shape(s, t)
    if index.ndim != 2 or index.shape[0] != s.shape[0] or index.shape[1] < 2:
        raise ValueError(
            f"index must be (B, 1 + K) and name the sample and its negatives, got "
            f"{tuple(index.shape)} beside {tuple(s.shape)}"
        )
    if memory_s.shape != memory_t.shape or memory_s.shape[1:] != s.shape[1:]:
        raise ValueError(
            f"memories must be (N, D) of the embeddings' width, got {tuple(memory_s.shape)} and "
            f"{tuple(memory_t.shape)} beside {tuple(s.shape)}"
        )
    table, s, t, mask = ready.samples(s, t, mask)
    items = _estimate(table, s, memory_t, index, temperature, z_s, mask) + _estimate(
        table, t, memory_s, index, temperature, z_t, mask
    )
    return reduction.mean(table, items, mask, weight, count)


def log_partition(
    x: Any, memory: Any, index: Any, *, temperature: float = 0.07, mask: Any = None
) -> Any:
    """log Z of a batch: the logarithm of N times the mean of exp(x . m / T) at `index`.

    Arguments are those of one side of `crd`; no gradient.

    >>> import numpy as np
    >>> memory = np.eye(3)
    >>> round(float(log_partition(memory[:1], memory, np.array([[1, 2]]))), 6)
    1.098612
    """
    table = ops.of(x)
    unit = table.unit(table.float32(x)) / temperature
    rows = table.logsumexp(table.dots(unit, table.cast(memory, unit), index))
    if mask is not None:
        rows = table.where(mask, rows, -math.inf)
    valid = table.at_least(table.count(rows > -math.inf, rows), 1)
    return table.logsumexp(rows) - table.log(valid) + math.log(memory.shape[0] / index.shape[1])


def _estimate(
    table: Any, x: Any, memory: Any, index: Any, temperature: float, z: Any, mask: Any
) -> Any:
    """The noise-contrastive estimate of one side (B,), by its logits log P - log(K/N)."""
    if z is None:
        log_z = log_partition(x, memory, index, temperature=temperature, mask=mask)
    else:
        log_z = math.log(z) if isinstance(z, Real) else table.log(table.cast(table.detach(z), x))
    shift = log_z + math.log((index.shape[1] - 1) / memory.shape[0])
    unit = table.unit(x) / temperature
    return table.nce(unit, table.cast(memory, unit), index, shift)
