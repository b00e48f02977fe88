"""The divergence of a softened teacher, with its gradient, for torch tensors."""

from typing import Any

import torch
from torch import Tensor

from limbeck.ops.torch_mixtures import LOWEST
from limbeck.ops.torch_once import once


def kl(s: Tensor, t: Tensor, temperature: Any) -> Tensor:
    """Rows of KL(softmax(t / T) || softmax(s / T)) over the last axis."""
    return _kl(s, t, temperature, -1, 1.0)


def total_kl(s: Tensor, t: Tensor, temperature: Any, factor: Any) -> Tensor:
    """`factor` times the sum of the rows of `kl`."""
    if isinstance(factor, Tensor):  # it may learn
        return factor * _kl(s, t, temperature, None, 1.0)
    return _kl(s, t, temperature, None, factor)


def _kl(s: Tensor, t: Tensor, temperature: Any, axis: int | None, factor: float) -> Tensor:
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    return _KL.apply(s, t, temperature, axis, factor)


def tempered(
    x: Tensor, temperature: float, scratch: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """log softmax(x / T), finite."""
    x = x if temperature == 1 else torch.div(x, temperature, out=scratch)
    return torch.log_softmax(x, -1, out=out).clamp_(min=LOWEST)


def compared(
    log_q: Tensor, log_p: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """p, log p/q and q - p: the first in `out`, the others in the memory of the arguments."""
    p = torch.exp(log_p, out=out)
    ratio = log_p.sub_(log_q)
    return p, ratio, log_q.exp_().sub_(p)


class _KL(torch.autograd.Function):
    """`kl` at a fixed temperature; the native op is NaN where both sides are -inf."""

    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, temperature: float, axis: int | None, factor: float
    ) -> Tensor:
        p, ratio, by_s = compared(tempered(s, temperature), tempered(t, temperature))
        if ctx.needs_input_grad[1]:
            pieces = p * ratio
            ctx.save_for_backward(by_s, p.mul_(ratio.sub_(pieces.sum(-1, keepdim=True))))
        else:
            pieces = ratio.mul_(p)
            ctx.save_for_backward(by_s)
        ctx.factor, ctx.axis = factor / temperature, axis
        return pieces.sum(axis).mul_(factor)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        by_s, *by_t = ctx.saved_tensors
        g = grad_outputs[0] * ctx.factor
        if ctx.axis is not None:
            g = g.unsqueeze(ctx.axis)
        s_grad = by_s * g if ctx.needs_input_grad[0] else None
        return s_grad, by_t[0] * g if by_t else None, None, None, None
