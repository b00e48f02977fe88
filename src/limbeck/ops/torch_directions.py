"""Both directions of a divergence, with their gradients, for torch tensors."""

from typing import Any

import torch
from torch import Tensor

from limbeck.ops.torch_mixtures import LOWEST
from limbeck.ops.torch_once import once


def both_kl(s: Tensor, t: Tensor, temperature: Any) -> tuple[Tensor, Tensor]:
    """Rows of KL(p || q) and of KL(q || p), p = softmax(t / T), q = softmax(s / T)."""
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    return _BothKL.apply(s, t, temperature)


def total_jeffreys(s: Tensor, t: Tensor, temperature: Any, factor: Any) -> Tensor:
    """`factor` times the sum of both results of `both_kl`."""
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    if isinstance(factor, Tensor):
        return factor * _Jeffreys.apply(s, t, temperature, 1.0)
    return _Jeffreys.apply(s, t, temperature, factor)


class _Jeffreys(torch.autograd.Function):
    """sum_c (p_c - q_c) (log p_c - log q_c) of all rows."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, temperature: float, factor: float) -> Tensor:
        log_q, log_p = (torch.log_softmax(x / temperature, -1).clamp_(min=LOWEST) for x in (s, t))
        q, p = log_q.exp(), log_p.exp()
        ratio, gap = log_p.sub_(log_q), p - q
        by_t = _by_own(p, ratio, gap) if ctx.needs_input_grad[1] else None
        by_s = _by_own(q, ratio, gap).neg_() if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(by_s, by_t)
        ctx.factor = factor / temperature
        return gap.mul_(ratio).sum().mul_(factor)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        g = grad_outputs[0] * ctx.factor
        return *(None if by is None else by * g for by in ctx.saved_tensors), None, None


def _by_own(p: Tensor, ratio: Tensor, gap: Tensor) -> Tensor:
    """p - q + p (log p/q - sum p log p/q): the gradient by the logits of p, of q its negative."""
    along = p * ratio
    return along.addcmul_(p, along.sum(-1, keepdim=True), value=-1).add_(gap)


class _BothKL(torch.autograd.Function):
    """`both_kl` at a fixed temperature: every exponential and logarithm once."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        log_q, log_p = (torch.log_softmax(x / temperature, -1).clamp_(min=LOWEST) for x in (s, t))
        q, p = log_q.exp(), log_p.exp()
        ratio = log_p.sub_(log_q)
        p_part, q_part = p * ratio, ratio.mul_(q)
        forth, back = p_part.sum(-1, keepdim=True), q_part.sum(-1, keepdim=True)
        by_t = p_part.addcmul_(p, forth, value=-1) if ctx.needs_input_grad[1] else None
        by_s = torch.addcmul(q_part, q, back, value=-1)
        ctx.save_for_backward(q.sub_(p), by_s, by_t)
        ctx.temperature = temperature
        return forth.squeeze(-1), back.squeeze(-1).neg_()

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        difference, by_s, by_t = ctx.saved_tensors
        forth, back = (g.unsqueeze(-1) / ctx.temperature for g in grad_outputs)
        s_grad = t_grad = None
        if ctx.needs_input_grad[0]:
            s_grad = (difference * forth).addcmul_(by_s, back, value=-1)
        if by_t is not None:
            t_grad = (by_t * forth).addcmul_(difference, back, value=-1)
        return s_grad, t_grad, None
