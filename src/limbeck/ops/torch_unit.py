"""Vectors at unit length and how far two are apart, in few passes, for torch tensors."""

from typing import Any

import torch
from torch import Tensor

from limbeck.ops.torch_state import visible

SHORT, LONG = 1e-15, 1e15  # between which ratios of lengths are far from overflow


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


def misalignment(x: Tensor, y: Tensor) -> Tensor:
    """1 - cos of two arrays as vectors, exactly 0 at equality; 1/2 where one alone is zeros."""
    return _Misalignment.apply(x, y)


class _Misalignment(torch.autograd.Function):
    """|u - v|^2 / 2 of the unit vectors u and v: it does not cancel as 1 - u.v does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        how = _misaligned_numbers if visible(x) else _misaligned
        gap, by_x, by_y = how(x, y, ctx.needs_input_grad)
        ctx.save_for_backward(x, y, by_x, by_y)
        return gap

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (x, y, *slopes), (g,) = ctx.saved_tensors, grad_outputs
        if torch.is_grad_enabled():  # the gradient has a gradient
            slopes = _misaligned(x, y, ctx.needs_input_grad)[1:]
        return tuple(None if by is None else by * g for by in slopes)


def _misaligned(
    x: Tensor, y: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The misalignment, and its gradients by what is needed of the two sides."""
    a, b = (1 / _length(z, None) for z in (x, y))
    u, v = x * a, y * b
    apart, known = u - v, (a * b).sign()
    gap = apart.square().sum() / 2
    by_x = torch.addcmul(apart, u, gap, value=-1) * (a * known) if needed[0] else None
    by_y = torch.addcmul(apart, v, gap) * (-b * known) if needed[1] else None
    return gap, by_x, by_y


def _misaligned_numbers(
    x: Tensor, y: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """`_misaligned` in fewer passes, with lengths that are looked at."""
    a, b = (torch.linalg.vector_norm(z).item() for z in (x, y))
    if not (SHORT < a < LONG and SHORT < b < LONG):
        return _misaligned(x, y, needed)
    apart = torch.sub(x, y, alpha=a / b)  # a (u - v)
    gap = (torch.linalg.vector_norm(apart).item() / a) ** 2 / 2
    by_x = torch.sub(apart, x, alpha=gap).div_(a).div_(a) if needed[0] else None
    by_y = torch.add(apart, y, alpha=gap * a / b).div_(a).div_(-b) if needed[1] else None
    return apart.new_full((), gap), by_x, by_y


def _length(x: Tensor, axis: int | None) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=axis, keepdim=axis is not None)
    return length.masked_fill(length == 0, torch.inf)
