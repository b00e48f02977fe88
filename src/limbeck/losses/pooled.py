"""Losses on one vector a sample: features are averaged over positions or tokens first.

B batch, D width, s projected features of the student and t features of the source, each of them
(B, D), maps (B, D, H, W) or tokens (B, N, D), not necessarily alike.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import differences, reduction
from limbeck.ops import CONSTANT

LAYER_NORM = 1e-5  # joins the variance of a sample, as in the layer norm of torch
BATCH_NORM = 1e-4  # joins the variance of a feature in the logarithm of the sum


def vkd(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Smooth L1 between projected features and layer-normalised source features (VkD).

    mean_b mean_d huber(s_bd, (t_bd - m_b) / sqrt(v_b + 1e-5)), m and v the mean and variance of
    sample b over its D features, huber(x, y) = d^2/2 up to d = |x - y| = 1 and d - 1/2 beyond.
    The projector must keep orthonormal columns: `projectors.orthogonal`.

    Args:
        s: projected student features.
        t: source features; no gradient flows through their statistics under `Match`.
        mask: samples (B,) that count; or tokens (B, N): the others are no part of the average.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar >= 0 without unit; 0 where s is the normalised t.

    Raises:
        ValueError: batches or widths that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, -1.0]]), np.array([[[[6.0]], [[2.0]]]])
        >>> round(float(vkd(s, t)), 6)
        0.0

    Paper:
        Miles et al., "VkD: improving knowledge distillation using orthogonal projections",
        CVPR 2024, arXiv 2403.06213; weight 1, equal to the authors' code. Their whitening of the
        source for generative tasks is another loss.
    """
    table, s, t, alive = _features(s, t, mask)
    t = table.layer_norm(t, LAYER_NORM)
    return differences.mean(table, table.mean_huber, s, t, alive, weight, count)


def srd_logsum(s: Any, t: Any, *, eps: float = 1e-5, mask: Any = None) -> Any:
    """Logarithm of the fourth powers of the difference, features standardised over the batch.

    ln(mean_b sum_d (z(s)_bd - z(t)_bd)^4 + eps), z(x) = (x - m_d) / sqrt(v_d + 1e-4), m and v the
    biased mean and variance of feature d over the valid samples. A batch of one has z = 0, so that
    it teaches nothing.

    Args:
        s: projected student features.
        t: source features.
        eps: joins the sum, so that equal features are finite.
        mask: samples (B,) that count; or tokens (B, N): the others are no part of the average.

    Returns:
        A scalar, negative for close features; ln(eps) where both sides are equal.

    Raises:
        ValueError: batches or widths that differ.

    Example:
        >>> import numpy as np
        >>> t = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
        >>> round(float(srd_logsum(5 * t, t)), 4)
        -11.5129

    Paper:
        Miles, Mikolajczyk, "Understanding the role of the projector in knowledge distillation",
        AAAI 2024, arXiv 2303.11098; weight 1. The authors sum over the batch and have no eps:
        ln B more than this, and -inf at equality.
    """
    table, s, t, alive = _features(s, t, mask)
    z_s, z_t = (_standard(table, x, alive) for x in (s, t))
    return table.log(_over_samples(table, table.sum(table.squares(z_s, z_t) ** 2, 1), alive) + eps)


def srd_correlation(s: Any, t: Any, *, eps: float = 1e-5, mask: Any = None) -> Any:
    """Logarithm of how far each feature's correlation over the batch is from 1.

    ln(sum_d (c_d - 1)^4 + eps), c_d the correlation of feature d of both sides over the valid
    samples. A feature that is constant, as all are in a batch of one, has c = 0 and gradient 0.
    Both sides are free in scale. Arguments and errors are those of `srd_logsum`.

    Example:
        >>> import numpy as np
        >>> t = np.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
        >>> round(float(srd_correlation(5 * t, t)), 4), round(float(srd_correlation(-t, t)), 4)
        (-11.5129, 3.4657)

    Paper:
        As `srd_logsum`: the form of the authors' code for transformers, equal to it; weight 1.
    """
    table, s, t, alive = _features(s, t, mask)
    c = table.correlations(s, t) if alive is None else _correlation(table, s, t, alive)
    return table.log(table.sum((c - 1) ** 4) + eps)


def _features(s: Any, t: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, both sides as rows (B, D), and which samples count."""
    table = ops.of(s)
    alive = None
    if mask is not None:
        items = next((x.shape[:2] for x in (s, t) if x.ndim == 3), s.shape[:1])
        valid = reduction.valid(table, mask, items)
        alive = table.any(valid, 1) if valid.ndim == 2 else valid
    rows = [_pooled(table, table.float32(x), mask, alive) for x in (s, t)]
    if rows[0].shape != rows[1].shape:
        raise ValueError(
            "student and source must have one batch and one width, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}"
        )
    return table, *rows, alive


def _pooled(table: Any, x: Any, mask: Any, alive: Any) -> Any:
    """Means over positions, or over the tokens that count (B, D)."""
    if x.ndim == 3 and mask is not None:
        tokens = reduction.valid(table, mask, x.shape[:2])
        (x,) = reduction.only(table, tokens, x)
        return table.sum(x, 1) / table.at_least(table.sum(table.cast(tokens, x), 1), 1)[:, None]
    if x.ndim > 2:
        x = table.mean(x, (2, 3) if x.ndim == 4 else 1)
    return x if alive is None else table.where(alive[:, None], x, 0)


def _standard(table: Any, x: Any, alive: Any) -> Any:
    """Every feature with mean 0 and variance 1 over the samples that count, as a batch norm."""
    if alive is None:
        return table.batch_norm(x, BATCH_NORM)
    centred, variance = _moments(table, x, alive)
    return centred / table.sqrt(variance + BATCH_NORM)


def _correlation(table: Any, s: Any, t: Any, alive: Any) -> Any:
    """The correlation of every feature over the samples that count; 0 where a side is constant."""
    (s_centred, s_variance), (t_centred, t_variance) = (_moments(table, x, alive) for x in (s, t))
    varies = _varies(table, s, s_variance, alive) & _varies(table, t, t_variance, alive)
    s_scale, t_scale = (
        table.sqrt(table.where(varies, variance, 1)) for variance in (s_variance, t_variance)
    )
    covariance = _over_samples(table, s_centred * t_centred, alive)
    return table.where(varies, covariance / (s_scale * t_scale), 0)


def _varies(table: Any, x: Any, variance: Any, alive: Any) -> Any:
    return variance > CONSTANT * _over_samples(table, x**2, alive)


def _moments(table: Any, x: Any, alive: Any) -> tuple[Any, Any]:
    """Deviations from the mean of every feature, 0 where a sample does not count; variances."""
    centred = x - _over_samples(table, x, alive)
    if alive is not None:
        centred = table.where(alive[:, None], centred, 0)
    return centred, _over_samples(table, centred**2, alive)


def _over_samples(table: Any, x: Any, alive: Any) -> Any:
    """The mean over the samples that count; the others must be 0."""
    valid = table.size(x, 0) if alive is None else table.count(alive, x)
    return table.sum(x, 0) / reduction.divisor(table, valid, None)
