"""The two sides of a loss on outputs, checked and laid out: classes last, float32 or better.

C classes; every other axis holds items.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import reduction


def classes_last(s: Any, axis: int) -> tuple[Any, Any]:
    """The operations, and logits in float32 or better with the classes last."""
    if s.shape[axis] < 2:
        raise ValueError(
            f"logits must have at least 2 classes, got shape {tuple(s.shape)} with axis {axis}; "
            "a softmax over one class is constant: give a sigmoid head as two logits (0, z)"
        )
    table = ops.TABLES[type(s)]
    s = table.float32(s)
    return table, s if axis == -1 else table.moveaxis(s, axis, -1)


def logits(s: Any, t: Any, axis: int) -> tuple[Any, Any, Any]:
    """The operations, and both sides in float32 or better with the classes last."""
    reduction.same_shape(s, t)
    table, s = classes_last(s, axis)
    t = table.float32(t)
    return table, s, t if axis == -1 else table.moveaxis(t, axis, -1)


def items(s: Any, t: Any, axis: int, mask: Any) -> tuple[Any, Any, Any, Any]:
    """As `logits`, and the mask of the items; those that it leaves out are zeros on both sides."""
    table, s, t = logits(s, t, axis)
    if mask is None:
        return table, s, t, None
    mask = reduction.valid(table, mask, s.shape[:-1])
    return table, *reduction.only(table, mask, s, t), mask


def labels(table: Any, target: Any, s: Any) -> Any:
    """Class indices beside logits whose classes are last."""
    if not table.integer(target):
        raise ValueError("labels must be class indices, got floats; mixed labels have no one class")
    one_each(target, s)
    return target


def one_each(target: Any, s: Any) -> None:
    """Raises ValueError unless there is a class index for each item."""
    if target.shape != s.shape[:-1]:
        raise ValueError(
            f"labels must have the items' shape {tuple(s.shape[:-1])}, got {tuple(target.shape)}"
        )


def distributions(table: Any, target: Any, s: Any, axis: int) -> Any:
    """Distributions over the classes, those last, beside logits whose classes are last."""
    target = table.moveaxis(table.float32(target), axis, -1)
    reduction.same_shape(s, target)
    return target


def positive(name: str, value: Any) -> None:
    """Raises ValueError for a number that is not positive; arrays are not looked into."""
    if isinstance(value, int | float) and not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def share(name: str, value: Any) -> None:
    """Raises ValueError for a number outside of [0, 1]; arrays are not looked into."""
    if isinstance(value, int | float) and not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
