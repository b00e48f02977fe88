"""Classes that do not compete, with gradients in few passes, for torch tensors."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.ops.torch_mixtures import LOWEST

by_logit = torch.ops.aten.sigmoid_backward.default  # g p (1 - p)


def logs(x: Tensor) -> Tensor:
    """log sigmoid(x) and log sigmoid(-x), finite (2, ...)."""
    return torch.stack((x, -x)).clamp_(LOWEST, 0).add_(F.logsigmoid(x.abs()))


def binary_kl(s: Tensor, t: Tensor) -> Tensor:
    """Elementwise KL(Bernoulli(sigmoid(t)) || Bernoulli(sigmoid(s)))."""
    return _BinaryKL.apply(s, t)


class _BinaryKL(torch.autograd.Function):
    """`binary_kl` whose gradient is exactly 0 at equality, and finite where both sides are -inf."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor) -> Tensor:
        both = logs(torch.stack((s, t)))
        ratio = both[:, 1] - both[:, 0]
        (q, p), (not_q, not_p) = chances = both.exp_()
        by_s = (q * not_p).sub_(p * not_q)
        by_t = p * not_p * (ratio[0] - ratio[1]) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(by_s, by_t)
        return ratio.mul_(chances[:, 1]).sum(0)

    @staticmethod
    @once_differentiable
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
        return tuple(by * grad_outputs[0] if need else None for by, need in needed)


def binary_cross_entropy(s: Tensor, y: Tensor) -> Tensor:
    """Elementwise -y log sigmoid(s) - (1 - y) log sigmoid(-s), finite, accurate at either end."""
    return _BinaryCrossEntropy.apply(s, y)


class _BinaryCrossEntropy(torch.autograd.Function):
    """The native op computes s - y s - log sigmoid(s), which cancels for a sure no."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(s, y)
        no, yes = s.clamp(0, -LOWEST), (-s).clamp_(0, -LOWEST)
        return no.lerp_(yes, y).sub_(F.logsigmoid(s.abs()))

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (s, y), (g,) = ctx.saved_tensors, grad_outputs
        by_s = by_y = None
        if ctx.needs_input_grad[0]:
            by_s = torch.lerp(torch.sigmoid(s), -torch.sigmoid(-s), y) * g
        if ctx.needs_input_grad[1]:
            by_y = -s * g
        return by_s, by_y


def binary_gap(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Elementwise cross-entropy of sigmoid(s) under sigmoid(t), and |sigmoid(t) - sigmoid(s)|."""
    return _BinaryGap.apply(s, t)


class _BinaryGap(torch.autograd.Function):
    """Of yes and no what is less likely to t: of the same numbers, but accurate near 1 as well."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        sign = torch.copysign(t.new_ones(()), t)
        x, p = (s * sign).neg_(), t.abs().neg_().sigmoid_()
        entropy = F.softplus(x).addcmul_(p, x, value=-1)
        slopes = (by_logit(sign, p), x.clone()) if ctx.needs_input_grad[1] else None
        q = x.sigmoid_()
        gap = p.sub_(q)
        size, toward = gap.abs(), gap.sgn()
        by_t = (slopes[0] * slopes[1], slopes[0] * -toward) if slopes else ()
        ctx.save_for_backward(s, t, gap.mul_(sign), by_logit(toward.mul_(sign), q), *by_t)
        return entropy, size

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (s, t, *slopes), (by_entropy, by_size) = ctx.saved_tensors, grad_outputs
        if torch.is_grad_enabled():  # the gradient has a gradient
            slopes = _slopes(s, t)
        return tuple(
            torch.addcmul(slopes[i] * by_entropy, slopes[i + 1], by_size) if need else None
            for i, need in zip((0, 2), ctx.needs_input_grad, strict=True)
        )


def _slopes(s: Tensor, t: Tensor) -> list[Tensor]:
    """The gradients of both results by s, then by t, as what they are of s and t."""
    q, p = s.sigmoid(), t.sigmoid()
    gap, steep = q - p, p * (1 - p)
    return [gap, gap.sgn() * q * (1 - q), -s * steep, -gap.sgn() * steep]
