"""A loss on input gradients."""

from typing import Any

from limbeck.losses import differences, ready, reduction


def jacobian(s: Any, t: Any, *, mask: Any = None, weight: Any = None, count: Any = None) -> Any:
    """Squared difference of the directions of input gradients (Jacobian matching).

    mean_b mean_d (s_bd / ||s_b|| - t_bd / ||t_b||)^2, d over the D elements of an input. It falls
    as 1/D with the size of the input. A gradient of 0 counts as 0.

    Args:
        s: the student's gradients of a sample's true logit by its input (B, ...).
        t: the source's, of the same shape.
        mask: samples (B,) that count.
        weight: factor of each sample, not part of the divisor.
        count: divisor in place of the number of valid samples.

    Returns:
        A scalar in [0, 4/D]; 0 where both point the same way.

    Raises:
        ValueError: shapes that differ.

    Example:
        >>> import numpy as np
        >>> float(jacobian(np.array([[3.0, 0]]), np.array([[0, 0.2]])))
        1.0

    Paper:
        Srinivas, Fleuret, "Knowledge transfer with Jacobian matching", ICML 2018, arXiv 1803.00443.
        The paper sums over d: D times this.
    """
    reduction.same_shape(s, t)
    table, s, t, mask = ready.samples(s, t, mask)
    s, t = (table.unit(table.rows(x)) for x in (s, t))
    return differences.mean(table, table.mean_squares, s, t, mask, weight, count)
