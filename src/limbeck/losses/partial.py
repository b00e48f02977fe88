"""Partial classes: a loss that sees only some of the classes.

s and t logits of student and source, C classes on `axis`.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from limbeck import ops

Loss = Callable[..., Any]


def classes(loss: Loss, index: Sequence[int], theirs: Sequence[int] | None = None) -> Loss:
    """A loss on logits that sees the listed classes alone.

    They are selected before the softmax, so that both sides are distributions over them. Labels
    (an argument `target`) become positions in the list, and -100 where they are not listed.

    Args:
        loss: `loss(s, t, ...)` on logits, its `axis` the classes'.
        index: classes of the student.
        theirs: the same classes in the source's numbering; `index` unless said.

    Returns:
        A loss of the same arguments, named as `loss`.

    Raises:
        ValueError: fewer than two classes, a class twice, one that a side has not, lists of two
            lengths.

    Example:
        >>> import numpy as np
        >>> from limbeck import losses
        >>> s, t = np.array([[1.0, 2.0, 0.5, -1.0]]), np.array([[2.0, 1.0, 0.0, -2.0]])
        >>> round(float(classes(losses.kl, [1, 2])(s, t)), 6)
        0.022622
    """
    index = list(index)
    theirs = index if theirs is None else list(theirs)
    for name, listed in (("index", index), ("theirs", theirs)):
        if len({*listed}) < max(2, len(listed)) or min(listed) < 0:
            raise ValueError(f"{name} must be two or more classes, each once, got {listed}")
    if len(index) != len(theirs):
        raise ValueError(
            f"index and theirs must pair up, got {len(index)} and {len(theirs)} classes"
        )
    signature = inspect.signature(loss)

    @functools.wraps(loss)
    def on_classes(*arguments: Any, **options: Any) -> Any:
        call = signature.bind(*arguments, **options)
        axis = options.get("axis", -1)
        for name, listed in (("s", index), ("t", theirs)):
            if name in call.arguments:
                call.arguments[name] = _selected(call.arguments[name], listed, axis)
        if "target" in call.arguments:
            call.arguments["target"] = _relabelled(call.arguments["target"], index, axis)
        return loss(*call.args, **call.kwargs)

    return on_classes


def _selected(x: Any, index: list[int], axis: int) -> Any:
    if x.shape[axis] <= max(index):
        raise ValueError(
            f"classes must be below the number of logits, got {max(index)} of {x.shape[axis]}; "
            "`theirs` numbers the source's classes"
        )
    table = ops.of(x)
    return table.moveaxis(table.select(table.moveaxis(x, axis, -1), index), -1, axis)


def _relabelled(target: Any, index: list[int], axis: int) -> Any:
    """Labels as positions in the list, -100 if not in it; of mixed labels the listed part."""
    table = ops.of(target)
    if not table.integer(target):
        return _selected(target, index, axis)
    listed = table.select(table.arange(max(index) + 1, target), index)
    match = target[..., None] == listed
    position = table.sum(table.where(match, table.arange(len(index), target), 0), -1)
    return table.where(table.any(match, -1), position, -100)
