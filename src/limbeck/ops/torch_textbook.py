"""Labels and a softened teacher on the same logits, in one function, for torch tensors."""

from typing import Any

import torch
from torch import Tensor
from torch.nn._reduction import get_enum

from limbeck.ops.torch_kl import compared
from limbeck.ops.torch_once import once

MEAN = get_enum("mean")
nll = torch.ops.aten.nll_loss_forward.default
by_nll = torch.ops.aten.nll_loss_backward.default


class Both(torch.autograd.Function):
    """`hard` times the mean cross-entropy of labels, `soft` T^2 times the mean of rows of `kl`.

    For logits (B, C) of one type, labels (B,) of which -100 does not count, and T > 0. Not finite
    where no row has a label or a class is -inf.
    """

    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, target: Tensor, T: float, hard: float, soft: float
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return values(ctx, s, t, target, T, hard, soft)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        return slope(ctx, *grad_outputs), None, None, None, None, None


class Total(torch.autograd.Function):
    """The sum of what `Both` gives, then both of them without a gradient."""

    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, target: Tensor, T: float, hard: float, soft: float
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        parts = values(ctx, s, t, target, T, hard, soft)
        ctx.mark_non_differentiable(*parts)
        return parts[0] + parts[1], *parts

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        g = grad_outputs[0]
        return slope(ctx, g, g), None, None, None, None, None


def values(
    ctx: Any, s: Tensor, t: Tensor, target: Tensor, T: float, hard: float, soft: float
) -> tuple[Tensor, Tensor]:
    """Both values; keeps what their gradients need."""
    log_q = torch.log_softmax(s, -1)
    mean, labelled = nll(log_q, target, None, MEAN, -100)
    p, ratio, by_soft = compared(torch.log_softmax(s / T, -1), torch.log_softmax(t / T, -1))
    ctx.save_for_backward(log_q, target, labelled, by_soft)
    ctx.hard, ctx.soft = hard, soft * T / max(s.shape[0], 1)
    return mean.mul_(hard), ratio.mul_(p).sum().mul_(ctx.soft * T)


def slope(ctx: Any, g: Tensor | None, h: Tensor | None) -> Tensor | None:
    """The gradient by the student's logits, of the first value times g and the second times h."""
    log_q, target, labelled, by_soft = ctx.saved_tensors
    if g is None:
        return None if h is None else by_soft * (h * ctx.soft)
    by_log_q = by_nll(g * ctx.hard, log_q, target, None, MEAN, -100, labelled)
    by_s = torch._log_softmax_backward_data(by_log_q, log_q, -1, log_q.dtype)
    return by_s if h is None else by_s.addcmul_(by_soft, h, value=ctx.soft)
