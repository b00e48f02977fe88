"""Vectors at unit length, with a gradient in few passes, for torch tensors."""

from typing import Any

import torch
from torch import Tensor


def unit(x: Tensor, axis: int = -1) -> Tensor:
    """Vectors of an axis at length 1; one of zeros stays, and has no gradient."""
    return _Unit.apply(x, axis)[0] if x.requires_grad else x / _length(x, axis)


class _Unit(torch.autograd.Function):
    """u = x / |x| and |x|, both of them results, so that gradients have gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        length = _length(x, axis)
        u = x / length
        ctx.save_for_backward(u, length)
        ctx.set_materialize_grads(False)
        ctx.axis = axis
        return u, length

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, None]:
        (u, length), (g, by_length) = ctx.saved_tensors, grad_outputs
        by_x = None
        if g is not None:
            along = (u * g).sum(ctx.axis, keepdim=True)
            by_x = torch.addcmul(g, u, along, value=-1).div_(length)
        if by_length is not None:
            by_x = u * by_length + (0 if by_x is None else by_x)
        return by_x, None


def _length(x: Tensor, axis: int) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=axis, keepdim=True)
    return length.masked_fill_(length == 0, torch.inf)
