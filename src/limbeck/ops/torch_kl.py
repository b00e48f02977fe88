"""The divergence of a softened teacher, with its gradient, for torch tensors."""

from collections.abc import Callable
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from limbeck.ops.torch_mixtures import LOWEST
from limbeck.ops.torch_once import once
from limbeck.ops.torch_state import visible


def kl(s: Tensor, t: Tensor, temperature: Any) -> Tensor:
    """Rows of KL(softmax(t / T) || softmax(s / T)) over the last axis."""
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    return _KL.apply(s, t, temperature)


def total_kl(s: Tensor, t: Tensor, temperature: Any, factor: Any) -> Tensor:
    """`factor` times the sum of the rows of `kl`."""
    if isinstance(temperature, Tensor):
        s, t, temperature = s / temperature, t / temperature, 1.0
    if isinstance(factor, Tensor):
        return factor * _TotalKL.apply(s, t, temperature, 1.0)
    return _TotalKL.apply(s, t, temperature, factor)


def softened(x: Tensor, temperature: float) -> Tensor:
    """log softmax(x / T)."""
    return torch.log_softmax(x if temperature == 1 else x / temperature, -1)


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


def pieces(
    s: Tensor, t: Tensor, temperature: float, by_t: bool, soften: Callable[..., Tensor] = tempered
) -> tuple[Tensor, Tensor, Tensor | None]:
    """p log p/q, and T times the gradients of its sum by s and, if wanted, by t."""
    p, ratio, by_s = compared(soften(s, temperature), soften(t, temperature))
    if not by_t:
        return ratio.mul_(p), by_s, None
    found = p * ratio
    return found, by_s, p.mul_(ratio.sub_(found.sum(-1, keepdim=True)))


def both_sides(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The gradients by s and t that were kept, times `g`, where they are needed."""
    by_s, by_t = ctx.saved_tensors
    return by_s * g if ctx.needs_input_grad[0] else None, None if by_t is None else by_t * g


class _KL(torch.autograd.Function):
    """`kl` at a fixed temperature; the native op is NaN where both sides are -inf."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, temperature: float) -> Tensor:
        found, *slopes = pieces(s, t, temperature, ctx.needs_input_grad[1])
        ctx.save_for_backward(*slopes)
        ctx.temperature = temperature
        return found.sum(-1)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        return *both_sides(ctx, grad_outputs[0].unsqueeze(-1) / ctx.temperature), None


class _TotalKL(torch.autograd.Function):
    """`total_kl` at a fixed temperature; -inf is cared for unless a look shows none."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, temperature: float, factor: float) -> Tensor:
        arguments = s, t, temperature, ctx.needs_input_grad[1]
        seen = visible(s)
        found, *slopes = pieces(*arguments, soften=softened if seen else tempered)
        total = found.sum()
        if seen and not isfinite(total.item()):
            found, *slopes = pieces(*arguments)
            total = found.sum()
        ctx.save_for_backward(*slopes)
        ctx.factor = factor / temperature
        return total.mul_(factor)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        return *both_sides(ctx, grad_outputs[0] * ctx.factor), None, None
