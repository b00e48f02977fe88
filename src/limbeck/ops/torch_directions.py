"""Both directions of a divergence, with their gradients, for torch tensors."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.ops.torch_mixtures import LOWEST


def both_kl(s: Tensor, t: Tensor, temperature: Any) -> tuple[Tensor, Tensor]:
    """Rows of KL(p || q) and of KL(q || p), p = softmax(t / T), q = softmax(s / T)."""
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    return _BothKL.apply(s, t, temperature)


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
    @once_differentiable
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
