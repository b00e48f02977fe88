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
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        log_q = torch.log_softmax(s, -1)
        mean, labelled = nll(log_q, target, None, MEAN, -100)
        p, ratio, by_soft = compared(torch.log_softmax(s / T, -1), torch.log_softmax(t / T, -1))
        ctx.save_for_backward(log_q, target, labelled, by_soft)
        ctx.hard, ctx.soft = hard, soft * T / max(s.shape[0], 1)
        return mean.mul_(hard), ratio.mul_(p).sum().mul_(ctx.soft * T)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (log_q, target, labelled, by_soft), (g, h) = ctx.saved_tensors, grad_outputs
        if g is None:
            return by_soft * (h * ctx.soft), None, None, None, None, None
        by_log_q = by_nll(g * ctx.hard, log_q, target, None, MEAN, -100, labelled)
        by_s = torch._log_softmax_backward_data(by_log_q, log_q, -1, log_q.dtype)
        if h is not None:
            by_s.addcmul_(by_soft, h, value=ctx.soft)
        return by_s, None, None, None, None, None
