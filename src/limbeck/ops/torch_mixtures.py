"""Probabilities that are mixed: forwards with their gradients, for torch tensors."""

from typing import Any

import torch
from torch import Tensor

from limbeck.ops.torch_once import once

LOWEST = -3e38  # stands for -inf where 0 * -inf would be NaN


def mixed_kl(s: Tensor, t: Tensor, share: Any, temperature: Any) -> Tensor:
    """Rows of KL(p || m), m = share p + (1 - share) q, p = softmax(t / T), q = softmax(s / T)."""
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    share = torch.as_tensor(share, dtype=s.dtype, device=s.device)
    return _MixedKL.apply(s, t, share.log(), (-share).log1p(), temperature)


class _MixedKL(torch.autograd.Function):
    """`mixed_kl` from the logarithms of the two shares, one of which may be -inf."""

    @staticmethod
    def forward(
        ctx: Any, s: Tensor, t: Tensor, log_share: Tensor, log_rest: Tensor, temperature: float
    ) -> Tensor:
        log_q, log_p = (torch.log_softmax(x / temperature, -1).clamp_(min=LOWEST) for x in (s, t))
        gap = (log_q - log_p).add_(log_rest)
        ratio = torch.logaddexp(gap, log_share).sub_(torch.logaddexp(log_rest, log_share))
        p, q = log_p.exp_(), log_q.exp_()
        q_part = gap.sub_(ratio).exp_().mul_(p)  # (1 - share) p q / m
        pieces = ratio.mul_(p).neg_()
        rows = pieces.sum(-1)
        by_s = q.mul_(q_part.sum(-1, keepdim=True)).sub_(q_part)
        ctx.temperature = temperature
        if ctx.needs_input_grad[1]:
            by_p = pieces.add_(q_part)
            ctx.save_for_backward(by_s, by_p.sub_(p.mul_(by_p.sum(-1, keepdim=True))))
        else:
            ctx.save_for_backward(by_s)
        return rows

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        by_s, *by_t = ctx.saved_tensors
        g = grad_outputs[0].unsqueeze(-1) / ctx.temperature
        s_grad = by_s * g if ctx.needs_input_grad[0] else None
        return s_grad, by_t[0] * g if by_t else None, None, None, None
