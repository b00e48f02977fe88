"""Logit standardisation: what counts is the shape of the logits, not their size.

C classes, s and t logits of student and source, z = (x - mean_c x) / std_c x.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from limbeck import ops
from limbeck.losses import ready, reduction
from limbeck.losses.logits import kl

Loss = Callable[..., Any]


def standardise(x: Any, *, axis: int = -1, mask: Any = None) -> Any:
    """Logits of mean 0 and standard deviation 1 over the classes.

    z_c = (x_c - mean x) / std x, std with the divisor C - 1. Constant logits become zeros, with
    zero gradient. Classes that are -inf do not count, and stay so.

    Args:
        x: logits with C on `axis`.
        axis: where the classes are.
        mask: items that count, of the shape without `axis` or a prefix; others become zeros.

    Returns:
        An array of the shape of `x`, in float32 or better.

    Example:
        >>> import numpy as np
        >>> standardise(np.array([[1.0, 3.0, 2.0], [7.0, 7.0, 7.0]])).tolist()
        [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]

    Paper:
        Sun et al., "Logit standardization in knowledge distillation", CVPR 2024, arXiv 2403.01427.
        Their code adds 1e-7 to std.
    """
    table = ops.of(x)
    x = table.moveaxis(table.float32(x), axis, -1)
    if mask is not None:
        (x,) = reduction.only(table, reduction.valid(table, mask, x.shape[:-1]), x)
    alive = ready.present(table, x, -math.inf)
    n = x.shape[-1] if alive is None else table.count(alive, x, -1, keepdims=True)
    top = table.max(table.detach(x), -1, keepdims=True)
    x = _only(table, alive, x - top, 0)  # so that constant logits are zeros, free of rounding
    x = _only(table, alive, x - table.sum(x, -1, keepdims=True) / n, 0)
    z = table.unit(x) * reduction.divisor(table, n - 1, None) ** 0.5
    return table.moveaxis(_only(table, alive, z, -math.inf), -1, axis)


def _only(table: Any, alive: Any, x: Any, other: float) -> Any:
    """`x` of the classes that count, `other` of the rest; all count where `alive` is None."""
    return x if alive is None else table.where(alive, x, other)


def standardised(loss: Loss) -> Loss:
    """A loss on logits that sees both sides standardised.

    Args:
        loss: `loss(s, t, ...)` on logits, its `axis` the classes' and its `mask` the items'.

    Returns:
        A loss of the same arguments, named `standardised_NAME`.

    Example:
        >>> import numpy as np
        >>> from limbeck import losses
        >>> t = np.array([[2.0, 1.0, 0.0]])
        >>> round(float(losses.standardised(losses.logit_mse)(3 * t + 5, t)), 6)
        0.0

    Paper:
        Sun et al., CVPR 2024, arXiv 2403.01427, who standardise KD, DKD, MLKD and CTKD.
    """

    @functools.wraps(loss)
    def on_standard_logits(s: Any, t: Any, *further: Any, **options: Any) -> Any:
        keys = {key: options[key] for key in ("axis", "mask") if key in options}
        return loss(standardise(s, **keys), standardise(t, **keys), *further, **options)

    on_standard_logits.__name__ = f"standardised_{loss.__name__}"
    return on_standard_logits


def lskd(
    s: Any,
    t: Any,
    *,
    temperature: Any = 2.0,
    axis: int = -1,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
) -> Any:
    """`kl` of standardised logits: T^2 * mean_i KL(softmax(z(t_i) / T) || softmax(z(s_i) / T)).

    A constant added to the logits, or a factor, changes nothing. Of two classes z is always +-0.7,
    and nothing is learnt. Arguments, result and errors are those of `kl`.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[1.0, 2.0, 0.5]]), np.array([[2.0, 1.0, 0.0]])
        >>> round(float(lskd(s, t)), 6), round(float(lskd(8 * t, t)), 6)
        (0.532543, 0.0)

    Paper:
        Sun et al., "Logit standardization in knowledge distillation", CVPR 2024, arXiv 2403.01427;
        CIFAR-100 T = 2, weight 9. Same scale as the authors' code, which takes the std of C - 1.
    """
    z_s, z_t = (standardise(x, axis=axis, mask=mask) for x in (s, t))
    return kl(z_s, z_t, temperature=temperature, axis=axis, mask=mask, weight=weight, count=count)
