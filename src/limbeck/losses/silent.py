"""The mean of items that are silent: 0, with no gradient, where they do not count."""

from typing import Any

from limbeck.losses import reduction


def mean(
    table: Any,
    items: Any,
    mask: Any,
    weight: Any,
    count: Any,
    scale: Any = 1.0,
    share: Any = None,
) -> Any:
    """`scale` times `reduction.mean` of `share * items`, in one division and without masking again.

    Items that do not count must be 0 already, and their shares finite.
    """
    if count is None:
        valid = table.size(items) if mask is None else table.count(mask, items)
    else:
        valid = None
    divisor = reduction.divisor(table, valid, count) / scale
    if weight is None:
        total = table.sum(items) if share is None else table.inner(share, items)
        return total / divisor
    return reduction.mean(table, items if share is None else share * items, mask, weight, divisor)
