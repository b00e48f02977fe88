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
    return ops.expand(ops.boolean(of_items(ops, "mask", mask, shape)), tuple(shape))


def of_items(ops: ModuleType, name: str, x: Any, shape: tuple[int, ...]) -> Any:
    """`x`, whose shape is the items' or a prefix of it, with as many axes as they have."""
    if tuple(x.shape) != tuple(shape)[: x.ndim]:
        raise ValueError(f"{name} must have the items' shape {tuple(shape)}, got {tuple(x.shape)}")
    return widened(ops, x, len(shape))


def widened(ops: ModuleType, x: Any, ndim: int) -> Any:
    """`x` with axes of length 1 at its end, `ndim` in all."""
    return ops.reshape(x, tuple(x.shape) + (1,) * (ndim - x.ndim))


def mean(ops: ModuleType, items: Any, mask: Any, weight: Any, count: Any) -> Any:
    """sum_i weight_i items_i over the valid items, divided by `count` or by how many are valid."""
    if weight is not None:
        items = items * ops.cast(of_items(ops, "weight", weight, items.shape), items)
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
