"""Probabilities that are mixed or correlated: forwards with their gradients, for torch tensors."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOWEST = -3e38  # stands for -inf where 0 * -inf would be NaN


def uncorrelated(x: Tensor, y: Tensor, counts: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """1 - corr(exp x, exp y) along `axis` over the entries that count; and where neither side is
    constant, which has no correlation.
    """
    return _Uncorrelated.apply(x, y, counts, axis)


class _Uncorrelated(torch.autograd.Function):
    """Half the squared distance of unit vectors: exactly 0, with zero gradient, at equality."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, counts: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        dead, n = ~counts, counts.sum(axis, keepdim=True).clamp_(min=1)
        u, by_x, known_x = _unit(x, dead, n, axis)
        v, by_y, known_y = _unit(y, dead, n, axis)
        difference = u - v
        gaps = difference.square().sum(axis, keepdim=True).div_(2)
        slopes = (by_x, difference, u), (by_y, -difference, v)
        wanted = [slope for slope, need in zip(slopes, ctx.needs_input_grad, strict=False) if need]
        ctx.save_for_backward(
            *(by.mul_(gap.addcmul(unit, gaps, value=-1)) for by, gap, unit in wanted)
        )
        ctx.axis = axis
        known = (known_x & known_y).squeeze(axis)
        ctx.mark_non_differentiable(known)
        return gaps.squeeze(axis), known

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        g = grad_outputs[0].unsqueeze(ctx.axis)
        saved = iter(ctx.saved_tensors)
        by_x, by_y = (next(saved) * g if need else None for need in ctx.needs_input_grad[:2])
        return by_x, by_y, None, None


def _unit(x: Tensor, dead: Tensor, n: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """exp(x) centred and of unit length along `axis`, exp(x) over that length, and whether it is
    not constant; up to a factor of its own along `axis`, so that nothing underflows.
    """
    x = x.masked_fill(dead, LOWEST)
    top = x.amax(axis, keepdim=True).clamp_(min=LOWEST)
    e = (x - top).exp_()  # constants are ones, and their mean is exactly 1
    unit = (e - e.sum(axis, keepdim=True) / n).masked_fill_(dead, 0)
    length = torch.linalg.vector_norm(unit, dim=axis, keepdim=True)
    known = length != 0
    length = length.masked_fill_(~known, 1)
    return unit.div_(length), e.div_(length), known


def mixed_kl(s: Tensor, t: Tensor, share: Any) -> Tensor:
    """Rows of KL(p || m), m = share p + (1 - share) q, p = softmax(t), q = softmax(s)."""
    share = torch.as_tensor(share, dtype=s.dtype, device=s.device)
    return _MixedKL.apply(s, t, share.log(), (-share).log1p())


class _MixedKL(torch.autograd.Function):
    """`mixed_kl` from the logarithms of the two shares, one of which may be -inf."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, log_share: Tensor, log_rest: Tensor) -> Tensor:
        log_q = torch.log_softmax(s, -1).clamp_(min=LOWEST)
        log_p = torch.log_softmax(t, -1).clamp_(min=LOWEST)
        gap = (log_q - log_p).add_(log_rest)
        ratio = torch.logaddexp(gap, log_share).sub_(torch.logaddexp(log_rest, log_share))
        p, q = log_p.exp_(), log_q.exp_()
        q_part = gap.sub_(ratio).exp_().mul_(p)  # (1 - share) p q / m
        pieces = ratio.mul_(-p)
        rows = pieces.sum(-1)
        by_s = torch.addcmul(-q_part, q, q_part.sum(-1, keepdim=True))
        if ctx.needs_input_grad[1]:
            by_p = pieces.add_(q_part)
            ctx.save_for_backward(by_s, by_p.sub_(p.mul_(by_p.sum(-1, keepdim=True))))
        else:
            ctx.save_for_backward(by_s)
        return rows

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        by_s, *by_t = ctx.saved_tensors
        g = grad_outputs[0].unsqueeze(-1)
        s_grad = by_s * g if ctx.needs_input_grad[0] else None
        return s_grad, by_t[0] * g if by_t else None, None, None
