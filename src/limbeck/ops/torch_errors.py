"""How far two sides are apart: one native kernel forward and one back, for torch tensors.

The functions of `torch.nn.functional` would expand both sides first, though they have one shape.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn._reduction import get_enum

Error = Callable[[Tensor, Tensor, int], Tensor]
NONE, MEAN, SUM = (get_enum(reduction) for reduction in ("none", "mean", "sum"))
native: Any = torch._C._nn  # whose stub takes reductions for words
absolute: Error = native.l1_loss
square: Error = native.mse_loss
smooth: Error = native.smooth_l1_loss


def squares(x: Tensor, y: Tensor) -> Tensor:
    """Elementwise (x - y)**2."""
    return square(x, y, NONE)


def huber(x: Tensor, y: Tensor) -> Tensor:
    """Elementwise: d**2 / 2 up to |d| = 1, |d| - 1/2 beyond."""
    return smooth(x, y, NONE)


def mean_absolute(x: Tensor, y: Tensor, axis: int | None = None) -> Tensor:
    """The mean of |x - y| over an axis, or over all entries; 0 of none."""
    return _mean(absolute, x, y, axis)


def mean_squares(x: Tensor, y: Tensor, axis: int | None = None) -> Tensor:
    """The mean of `squares`, as `mean_absolute`."""
    return _mean(square, x, y, axis)


def mean_huber(x: Tensor, y: Tensor, axis: int | None = None) -> Tensor:
    """The mean of `huber`, as `mean_absolute`."""
    return _mean(smooth, x, y, axis)


def _mean(error: Error, x: Tensor, y: Tensor, axis: int | None) -> Tensor:
    if axis is not None:
        return error(x, y, NONE).mean(axis)
    return error(x, y, MEAN if x.numel() else SUM)
