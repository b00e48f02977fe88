"""How far two sides of one shape are apart on average, by one of the errors of `limbeck.ops`:
`mean_absolute`, `mean_squares` or `mean_huber`. Entries that do not count are zeros on both sides.
"""

import math
from collections.abc import Callable
from typing import Any

from limbeck.losses import reduction

Error = Callable[..., Any]


def whole(table: Any, error: Error, s: Any, t: Any, entries: Any) -> Any:
    """The sum of the errors of all entries over `entries`; their mean where that is None."""
    mean = error(s, t)
    return mean if entries is None else mean * (table.size(s) / entries)


def mean(
    table: Any,
    error: Error,
    s: Any,
    t: Any,
    mask: Any,
    weight: Any,
    count: Any,
    axis: int = -1,
) -> Any:
    """The mean over the valid items of the mean error along `axis`."""
    if mask is not None or weight is not None:
        return reduction.mean(table, error(s, t, axis), mask, weight, count)
    if count is not None:
        count = reduction.divisor(table, None, count) * s.shape[axis]
    return whole(table, error, s, t, count)


def entries(table: Any, s: Any, t: Any, mask: Any, weight: Any, count: Any) -> Any:
    """The mean of the squared differences of the valid entries."""
    if mask is not None or weight is not None:
        return reduction.mean(table, table.squares(s, t), mask, weight, count)
    if count is not None:
        count = reduction.divisor(table, None, count)
    return whole(table, table.mean_squares, s, t, count)


def known_entries(
    table: Any, s: Any, t: Any, known: Callable[[], Any], mask: Any, weight: Any, count: Any
) -> Any:
    """As `entries` of what `known` finds: without a `mask` all, if their mean is seen to be finite.

    A `mask` is part of what is known already.
    """
    if mask is None and table.visible(s):
        mean = entries(table, s, t, None, weight, count)
        if math.isfinite(table.detach(mean)):
            return mean
    valid = known()
    s, t = (table.where(valid, x, 0) for x in (s, t))
    return entries(table, s, t, valid, weight, count)
