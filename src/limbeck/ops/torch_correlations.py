"""How far two sides are from being correlated, with the gradient, for torch tensors."""

from typing import Any

import torch
from torch import Tensor

from limbeck.ops import CONSTANT
from limbeck.ops.torch_once import once

LOWEST = -3e38  # below every finite logarithm


def uncorrelated(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The means of 1 - corr(exp x, exp y) over the rows and over the columns of (N, C).

    Entries that are -inf on both sides do not count. What is constant on a side has no correlation,
    and is no part of the mean.
    """
    return _Uncorrelated.apply(x, y)


class _Uncorrelated(torch.autograd.Function):
    """Half the squared distance of unit vectors: exactly 0, with zero gradient, at equality."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        both, counts = torch.stack((x, y)), (torch.maximum(x, y) != -torch.inf).to(x.dtype)
        along = [_apart(both, counts, axis, ctx.needs_input_grad) for axis in (-1, -2)]
        (rows, *by_rows), (columns, *by_columns) = along
        ctx.save_for_backward(*by_rows, *by_columns)
        return rows, columns

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (x_rows, y_rows, x_columns, y_columns), (rows, columns) = ctx.saved_tensors, grad_outputs
        return tuple(
            None if by_rows is None else torch.addcmul(by_rows * rows, by_columns, columns)
            for by_rows, by_columns in ((x_rows, x_columns), (y_rows, y_columns))
        )


def _apart(
    both: Tensor, counts: Tensor, axis: int, needed: tuple[bool, ...]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The mean of 1 - corr along `axis`, and its gradients by what is needed of the two sides."""
    e, unit, inverse = _units(both, counts, axis)
    known = (inverse[0] * inverse[1]).sign_()
    share = known / known.sum().clamp_(min=1)
    (u, v), slopes = unit.unbind(), e.mul_(inverse.mul_(share))
    difference = u - v
    gaps = difference.square().sum(axis, keepdim=True).div_(2)
    by_x = by_y = None
    if needed[1]:
        by_y = torch.addcmul(difference, v, gaps).mul_(slopes[1]).neg_()
    if needed[0]:
        by_x = difference.addcmul_(u, gaps, value=-1).mul_(slopes[0])
    return gaps.mul_(share).sum(), by_x, by_y


def _units(both: Tensor, counts: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """e^x up to a factor along `axis`, so that nothing underflows; the same centred and of unit
    length; and the inverse of the length, 0 where e^x is constant.
    """
    top = both.amax(axis, keepdim=True).clamp_(min=LOWEST)
    e = (both - top).exp_()  # constants are ones, and their mean is exactly 1
    n = counts.sum(axis, keepdim=True).clamp_(min=1)
    unit = (e - e.sum(axis, keepdim=True).div_(n)).mul_(counts)
    square = unit.square().sum(axis, keepdim=True)
    inverse = square.rsqrt_().nan_to_num_(torch.nan, posinf=0)
    return e, unit.mul_(inverse), inverse


def correlations(x: Tensor, y: Tensor) -> Tensor:
    """Of every column of two (N, C) their correlation (C,); 0 where a side is constant."""
    return _Correlations.apply(x, y)


class _Correlations(torch.autograd.Function):
    """The cosine of centred columns."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        both = torch.stack((x, y))
        mean = both.mean(1, keepdim=True)
        square = both.sub_(mean).square().sum(1, keepdim=True)
        constant = square <= mean.square_().mul_(x.shape[0] * CONSTANT)
        inverse = square.rsqrt_().masked_fill_(constant, 0)
        u, v = both.mul_(inverse).unbind()
        c = (u * v).sum(0)
        ctx.save_for_backward(u, v, c, inverse)
        return c

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (u, v, c, inverse), (g,) = ctx.saved_tensors, grad_outputs
        slopes = inverse.mul(g).unbind()
        sides = zip(((v, u), (u, v)), slopes, ctx.needs_input_grad, strict=True)
        return tuple(
            torch.addcmul(other, own, c, value=-1).mul_(slope) if need else None
            for (other, own), slope, need in sides
        )
