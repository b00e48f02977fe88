"""The Gaussian likelihood of VID."""

from typing import Any

from limbeck.losses import ready, reduction


def vid(
    s: Any,
    t: Any,
    variance: Any,
    *,
    axis: int = 1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Negative log-likelihood of the source's features under a Gaussian about the student's (VID).

    mean_i mean_c [(s_ic - t_ic)^2 / v_c + log v_c] / 2: a lower bound of the mutual information,
    without the constant log(2 pi) / 2. It may be negative; at equality it is mean_c log v_c / 2.

    Args:
        s: what the student says that the source's features are: (B, C, H, W), (B, C), ...
        t: source features of the same shape.
        variance: v > 0, one number a channel (C,).
        axis: where the channels are.
        mask: items that count, of the shape without `axis` or a prefix of it.
        weight: factor of each item, not part of the divisor.
        count: divisor in place of the number of valid items.

    Returns:
        A scalar in nats a channel.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import numpy as np
        >>> float(vid(np.array([[3.0]]), np.array([[1.0]]), np.array([1.0])))
        2.0

    Paper:
        Ahn et al., "Variational information distillation for knowledge transfer", CVPR 2019,
        arXiv 1904.05835. The authors' value, weight 1; the paper sums over C, H, W: C*H*W times
        this.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    variance = ready.channels(table, variance, s, axis, "variance")
    nats = table.sum(table.squares(s, t) * (1 / variance), axis) + table.sum(table.log(variance))
    return reduction.mean(table, nats / (2 * s.shape[axis]), mask, weight, count)
