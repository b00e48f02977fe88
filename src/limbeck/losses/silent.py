"""The mean of items that are silent: 0, with no gradient, where they do not count."""

from typing import Any

from limbeck.losses import reduction


def mean(table: Any, items: Any, mask: Any, weight: Any, count: Any, scale: Any = 1.0) -> Any:
    """`scale` times `reduction.mean`, in one division and without masking again."""
    if count is None:
        valid = table.size(items) if mask is None else table.count(mask, items)
    else:
        valid = None
    divisor = reduction.divisor(table, valid, count) / scale
    return reduction.mean(table, items, None if weight is None else mask, weight, divisor)
