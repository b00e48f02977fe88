"""Which items of a hard loss have a target: what its divisor counts, for a share of a batch."""

from collections.abc import Callable
from typing import Any

from limbeck import ops
from limbeck.losses.logits import cross_entropy
from limbeck.losses.sigmoid import binary_cross_entropy, squared_error


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


RULES = {cross_entropy: labels, binary_cross_entropy: flags, squared_error: numbers}
