"""Losses on kernels of the samples of a batch, whatever the widths of the embeddings.

B samples, D features of a sample (everything but the first axis, flattened), s and t student and
source, cos_ij the cosine between samples i and j.
"""

import math
from typing import Any

from limbeck.losses import batches, differences, reduction

LEAST = 1e-12  # stands for the affinity of opposite samples, whose logarithm would be -inf


def pkt(s: Any, t: Any, *, mask: Any = None) -> Any:
    """Probabilistic knowledge transfer: whom a sample would take for its neighbour.

    mean_i sum_j P_ij (log P_ij - log Q_ij), P and Q the affinities (cos_ij + 1)/2 of source and
    student, each row over its sum, a sample with itself included.

    Args:
        s: student embeddings (B, ...).
        t: source embeddings (B, ...), of any width.
        mask: samples (B,) that count.

    Returns:
        A scalar >= 0 without unit; exactly 0, with zero gradient, where both sides are equal.

    Raises:
        ValueError: batches that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 0], [0, 1]]), np.array([[1.0], [1.0]])
        >>> round(float(pkt(s, t)), 6)
        0.058892

    Paper:
        Passalis, Tefas, "Learning deep representations with probabilistic knowledge transfer",
        ECCV 2018, arXiv 1803.10837. The authors' code averages over B^2 entries: 1/B times this, so
        that their weight 30000 is 30000/B here. The paper leaves out i = j and sums over i.
    """
    table, s, t, alive = batches.embeddings(s, t, mask)
    log_q, log_p = (_log_affinity(table, x, alive) for x in (s, t))
    return reduction.mean(table, table.kl(log_q, log_p, 1.0), alive, None, None)


def cc(s: Any, t: Any, *, gamma: float = 0.4, order: int = 2, mask: Any = None) -> Any:
    """Correlation congruence: a Gaussian kernel between samples, as a Taylor series.

    mean_ij (K(s)_ij - K(t)_ij)^2, K_ij = sum_{k <= P} e^(-2 g) (2 g)^k / k! cos_ij^k, g = `gamma`,
    P = `order`, over all B^2 pairs.

    Args:
        s: student embeddings (B, ...).
        t: source embeddings (B, ...), of any width.
        gamma: g > 0, how fast the kernel falls with distance.
        order: P >= 1, the last power of the series.
        mask: samples (B,) that count.

    Returns:
        A scalar >= 0 without unit; 0 where both sides are equal.

    Raises:
        ValueError: batches that differ, `gamma` or `order` out of range.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 0], [0, 1]]), np.array([[1.0], [1.0]])
        >>> round(float(cc(s, t)), 6)
        0.126629

    Paper:
        Peng et al., "Correlation congruence for knowledge distillation", ICCV 2019,
        arXiv 1904.01802. The code that is passed on under this name multiplies differences of
        neighbouring samples (weight 0.02): it depends on the order of the batch, another loss.
    """
    if gamma <= 0 or order < 1:
        raise ValueError(
            f"gamma must be positive and order at least 1, got {gamma} and {order}; try 0.4 and 2"
        )
    table, s, t, alive = batches.embeddings(s, t, mask)
    k_s, k_t = (_gaussian(_cosines(table, x), gamma, order) for x in (s, t))
    pairs = batches.number_of_pairs(table, alive, s)
    return differences.whole(table, table.mean_squares, k_s, k_t, pairs)


def linear_cka(s: Any, t: Any, *, mask: Any = None) -> Any:
    """One minus the centred kernel alignment (CKA) of linear kernels.

    1 - <K, L> / (||K|| ||L||), K = X X' and L = Y Y' of embeddings centred over the batch; equal to
    1 - ||X'Y||^2 / (||X'X|| ||Y'Y||). It is computed as ||K/||K|| - L/||L||||^2 / 2, which does not
    cancel. Free of scale, shift and rotation. Embeddings without variance have K = 0: beside others
    they count 1/2, and a single sample is 0. Two samples are always 0, and few samples beside many
    features (fewer than about 8) say little.

    Args:
        s: student embeddings (B, ...).
        t: source embeddings (B, ...), of any width.
        mask: samples (B,) that count.

    Returns:
        A scalar in [0, 1] without unit; exactly 0 where both sides are equal.

    Raises:
        ValueError: batches that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 0], [0, 1], [0, 0]]), np.array([[0.0], [1.0], [0.0]])
        >>> round(float(linear_cka(s, t)), 6)
        0.209431

    Paper:
        Kornblith et al., "Similarity of neural network representations revisited", ICML 2019,
        arXiv 1905.00414, a measure; as a loss it has no authors' weight.
    """
    table, s, t, alive = batches.embeddings(s, t, mask)
    k_s, k_t = (table.gram(batches.centred(table, x, alive)) for x in (s, t))
    return table.misalignment(k_s, k_t)


def _cosines(table: Any, x: Any) -> Any:
    """Cosines of the rows (B, B); those of a row of zeros are 0."""
    return table.gram(table.unit(x))


def _log_affinity(table: Any, x: Any, alive: Any) -> Any:
    """log((cos + 1)/2), and -inf beside samples that do not count; their own rows do not matter."""
    affinity = table.log(table.at_least((_cosines(table, x) + 1) / 2, LEAST))
    if alive is None:
        return affinity
    counts = batches.pairs(alive) | table.eye(x.shape[0], x)
    return table.where(counts, affinity, -math.inf)


def _gaussian(cos: Any, gamma: float, order: int) -> Any:
    """The Taylor series of exp(-gamma ||u_i - u_j||^2) of unit vectors, by Horner's rule."""
    kernel = 1.0
    for k in range(order, 0, -1):
        kernel = 1 + kernel * cos * (2 * gamma / k)
    return math.exp(-2 * gamma) * kernel
