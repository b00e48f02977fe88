"""Both directions of a divergence, with their gradients, for torch tensors."""

from typing import Any

import torch
from torch import Tensor

from limbeck.ops.torch_kl import both_sides
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


def shared_kl(s: Tensor, t: Tensor, temperature: Any, share: Tensor) -> Tensor:
    """Rows of share KL(p || q) + (1 - share) KL(q || p)."""
    if share.requires_grad:
        forth, back = both_kl(s, t, temperature)
        return share * forth + (1 - share) * back
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    return _SharedKL.apply(s, t, temperature, share)


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


def _directions(
    s: Tensor, t: Tensor, temperature: float, by_t: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """KL(p || q) and -KL(q || p) of rows (..., 1), q - p, and the slopes of the two by s and t.

    q - p is also the slope of the first by s, and its negative that of KL(q || p) by t.
    """
    log_q, log_p = (torch.log_softmax(x / temperature, -1).clamp_(min=LOWEST) for x in (s, t))
    q, p = log_q.exp(), log_p.exp()
    ratio = log_p.sub_(log_q)
    p_part, q_part = p * ratio, ratio.mul_(q)
    forth, back = p_part.sum(-1, keepdim=True), q_part.sum(-1, keepdim=True)
    slope_t = p_part.addcmul_(p, forth, value=-1) if by_t else None
    slope_s = q_part.addcmul_(q, back, value=-1)
    return forth, back, q.sub_(p), slope_s, slope_t


class _SharedKL(torch.autograd.Function):
    """`shared_kl` at a fixed temperature and share."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, temperature: float, share: Tensor) -> Tensor:
        share = share.unsqueeze(-1)
        forth, back, gap, slope_s, slope_t = _directions(s, t, temperature, ctx.needs_input_grad[1])
        rest = share - 1
        by_t = None if slope_t is None else (slope_t * share).addcmul_(gap, rest)
        ctx.save_for_backward(gap.mul_(share).addcmul_(slope_s, rest), by_t)
        ctx.temperature = temperature
        return (forth.mul_(share)).addcmul_(back, rest).squeeze(-1)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        return *both_sides(ctx, grad_outputs[0].unsqueeze(-1) / ctx.temperature), None, None


class _BothKL(torch.autograd.Function):
    """`both_kl` at a fixed temperature: every exponential and logarithm once."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        forth, back, gap, slope_s, slope_t = _directions(s, t, temperature, ctx.needs_input_grad[1])
        ctx.save_for_backward(gap, slope_s, slope_t)
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
