"""The one reducer: a weighted sum over valid items, divided once."""

from numbers import Real
from types import ModuleType
from typing import Any


def same_shape(s: Any, t: Any) -> None:
    """Raises ValueError unless both sides have one shape: losses never broadcast."""
    if s.shape != t.shape:
        raise ValueError(
            f"student and source must have one shape, got {tuple(s.shape)} and {tuple(t.shape)}; "
            "use a projector, or a class map for logits"
        )


def valid(ops: ModuleType, mask: Any, shape: tuple[int, ...]) -> Any:
    """`mask` as booleans of the items' `shape`; a prefix of it, such as (B,), is extended."""
    if tuple(mask.shape) != tuple(shape)[: mask.ndim]:
        raise ValueError(f"mask must have the items' shape {tuple(shape)}, got {tuple(mask.shape)}")
    return ops.expand(ops.boolean(widened(ops, mask, len(shape))), tuple(shape))


def widened(ops: ModuleType, x: Any, ndim: int) -> Any:
    """`x` with axes of length 1 at its end, `ndim` in all."""
    return ops.reshape(x, tuple(x.shape) + (1,) * (ndim - x.ndim))


def mean(ops: ModuleType, items: Any, mask: Any, weight: Any, count: Any) -> Any:
    """sum_i weight_i items_i over the valid items, divided by `count` or by how many are valid."""
    if weight is not None:
        items = items * ops.cast(widened(ops, weight, items.ndim), items)
    if mask is not None:
        items = ops.where(mask, items, 0)
    valid = ops.size(items) if mask is None else ops.count(mask, items)
    return ops.sum(items) / divisor(ops, valid, count)


def divisor(ops: ModuleType, valid: Any, count: Any) -> Any:
    """`count`, or how many items are `valid`, but never 0."""
    if count is None:
        return max(valid, 1) if isinstance(valid, int) else ops.at_least(valid, 1)
    if isinstance(count, Real) and count <= 0:
        raise ValueError(f"count must be positive, got {count}; leave it out for the batch's own")
    return count


def only(ops: ModuleType, mask: Any, *arrays: Any) -> tuple[Any, ...]:
    """The arrays (*items, C) with zeros in place of invalid items, whatever those held."""
    return tuple(ops.where(mask[..., None], x, 0) for x in arrays)
