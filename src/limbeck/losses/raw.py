"""Losses on raw logits, without a softmax.

B batch, C classes, s and t logits of student and source. `axis` is where the classes are; every
other axis holds items. A difference of -inf and -inf is no number: leave such classes out with
`classes`.
"""

from typing import Any

from limbeck.losses import differences, ready
from limbeck.losses.features import hint


def logit_mse(
    s: Any,
    t: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Mean squared difference of logits.

    mean_i mean_c (s_ic - t_ic)^2 over the valid items i and the classes c. A constant added to the
    logits of one side matters, unlike in `kl`. It is `hint` with the classes last.

    Args:
        s: student logits with C on `axis`.
        t: source logits of the same shape.
        axis, mask, weight, count: as in `kl`.

    Returns:
        A scalar >= 0 in squared units of the logits; 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a `count` that is not positive.

    Example:
        >>> import numpy as np
        >>> float(logit_mse(np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]])))
        2.5

    Paper:
        Ba, Caruana, "Do deep nets really need to be deep?", NIPS 2014, arXiv 1312.6184: half the
        sum over C, C/2 times this.
    """
    return hint(s, t, axis=axis, mask=mask, weight=weight, count=count)


def logit_l1(
    s: Any,
    t: Any,
    *,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """Mean absolute difference of logits.

    mean_i mean_c |s_ic - t_ic| over the valid items i and the classes c; the gradient is 0 where
    both agree. Arguments, result and errors are those of `logit_mse`.

    Example:
        >>> import numpy as np
        >>> float(logit_l1(np.array([[1.0, 2.0]]), np.array([[3.0, 1.0]])))
        1.5

    Paper:
        Kim et al., "Comparing Kullback-Leibler divergence and mean squared error loss in knowledge
        distillation", IJCAI 2021, arXiv 2105.08919, compare losses on raw logits; a baseline.
    """
    table, s, t, mask = ready.items(s, t, axis, mask)
    return differences.mean(table, table.mean_absolute, s, t, mask, weight, count, axis)
