"""What a loss divides by, as the data tells it: labels that are known, what a mask leaves."""

import math
from collections.abc import Callable
from typing import Any

from limbeck import ops
from limbeck.losses.logits import cross_entropy
from limbeck.losses.pooled import vkd
from limbeck.losses.segmentation import channelwise
from limbeck.losses.sigmoid import binary_cross_entropy, squared_error
from limbeck.losses.transformers import tinybert_attention


def known(loss: Callable[..., Any], target: Any) -> Any:
    """The items that `loss` averages over, as booleans; None for a loss that is not hard.

    >>> import numpy as np
    >>> known(binary_cross_entropy, np.array([[1, -100], [-100, -100]])).tolist()
    [True, False]
    """
    rule = RULES.get(loss)
    return None if rule is None else rule(ops.of(target), target)


def labels(table: Any, target: Any) -> Any:
    """Class indices other than -100, distributions other than zeros."""
    return target != -100 if table.integer(target) else table.any(target != 0, -1)


def flags(table: Any, target: Any) -> Any:
    """Rows of which at least one class is known."""
    return table.any(target != -100, -1)


def numbers(table: Any, target: Any) -> Any:
    """Every number that is one."""
    return ~table.isnan(target)


def valid(loss: Callable[..., Any], mask: Any) -> Any:
    """The items that `loss` averages over where it is given `mask`, as booleans.

    Mostly the mask itself. Scores that a model masks on its own account, as what is to come, are
    not known here.

    >>> import numpy as np
    >>> mask = np.array([[True, True, False], [False, False, False]])
    >>> [int(valid(loss, mask).sum()) for loss in (cross_entropy, channelwise, tinybert_attention)]
    [2, 1, 4]
    """
    rule = MASKS.get(loss)
    if rule is None or mask.ndim == 1:
        return mask
    table = ops.of(mask)
    return rule(table, table.reshape(mask, (mask.shape[0], math.prod(mask.shape[1:]))))


def samples(table: Any, mask: Any) -> Any:
    """Samples of which something counts."""
    return table.any(mask, -1)


def pairs(table: Any, mask: Any) -> Any:
    """Pairs of tokens that count."""
    return mask[:, :, None] & mask[:, None, :]


RULES = {cross_entropy: labels, binary_cross_entropy: flags, squared_error: numbers}
MASKS = {channelwise: samples, vkd: samples, tinybert_attention: pairs}
