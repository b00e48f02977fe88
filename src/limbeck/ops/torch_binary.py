"""Classes that do not compete, with gradients in few passes, for torch tensors."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn._reduction import get_enum

from limbeck.ops.torch_mixtures import LOWEST
from limbeck.ops.torch_once import once
from limbeck.ops.torch_state import visible

by_logit = torch.ops.aten.sigmoid_backward.default  # g p (1 - p)
native = torch.binary_cross_entropy_with_logits
SUM = get_enum("sum")
SMALL = 2**15  # entries, below which a pass over all costs less than an operation on one number
LARGEST = 1e38  # stands for inf, and so does the distance of two


def binary_kl(s: Tensor, t: Tensor) -> Tensor:
    """Elementwise KL(Bernoulli(sigmoid(t)) || Bernoulli(sigmoid(s)))."""
    return _BinaryKL.apply(s, t, 1.0, None)


def total_binary_kl(s: Tensor, t: Tensor, temperature: Any, factor: Any) -> Tensor:
    """`factor` times the sum of `binary_kl` of logits over T."""
    if isinstance(temperature, Tensor):  # it may learn
        s, t, temperature = s / temperature, t / temperature, 1.0
    if isinstance(factor, Tensor):
        return factor * _BinaryKL.apply(s, t, temperature, 1.0)
    return _BinaryKL.apply(s, t, temperature, factor)


class _BinaryKL(torch.autograd.Function):
    """A(y) - A(u) - A'(u) (y - u), A = softplus, u and y the logits of what is less likely to t.

    Exactly 0 at equality, its gradient too; accurate where both are sure; finite where both are
    infinite. With a `factor` the sum, times it.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, temperature: float, factor: float | None) -> Tensor:
        sign = torch.copysign(t.new_full((), 1 / temperature), t).neg_()
        y, u = ((x * sign).clamp_(-LARGEST, LARGEST) for x in (s, t))
        p, items, behind = u.sigmoid(), F.softplus(y).sub_(F.softplus(u)), u.sub_(y)
        items.addcmul_(p, behind)
        by_t = by_logit(behind.mul_(sign), p) if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(y.sigmoid_().sub_(p).mul_(sign), by_t)
        ctx.factor = factor
        return items if factor is None else items.sum().mul_(factor)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        g = grad_outputs[0] if ctx.factor is None else grad_outputs[0] * ctx.factor
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return *(by * g if need else None for by, need in needed), None, None


def binary_cross_entropy(s: Tensor, y: Tensor, known: Tensor | None = None) -> Tensor:
    """Elementwise -y log sigmoid(s) - (1 - y) log sigmoid(-s), finite; 0 for what is not known."""
    if known is not None:
        s, y = s.where(known, LOWEST), y.where(known, 0)
    return _BinaryCrossEntropy.apply(s, y)


def total_binary_cross_entropy(
    s: Tensor, y: Tensor, divisor: Any, known: Tensor | None = None
) -> Tensor:
    """The sum of `binary_cross_entropy` over `divisor`.

    In one native kernel where that is seen to be finite; it rounds what is sure to 0.
    """
    if visible(s):
        counts = None if known is None else known.to(s.dtype)
        total = native(s, y, counts, None, SUM)
        if math.isfinite(total.item()):
            return total / divisor
    return binary_cross_entropy(s, y, known).sum() / divisor


def mean_binary_cross_entropy(s: Tensor, y: Tensor, axis: int) -> Tensor:
    """The mean of the items of which a class is known, not -100, summed over what is known."""
    y = y.to(s.dtype)
    if visible(s) and y.numel() and y.amin().item() > -100:
        items = s.numel() // s.shape[axis]
        share = s.new_full((), 1 / items) if s.numel() < SMALL else None
        total = native(s, y, share, None, SUM)
        if math.isfinite(total.item()):
            return total / items if share is None else total
    known = y != -100
    items = known.any(axis).sum(dtype=s.dtype).clamp(min=1)
    return total_binary_cross_entropy(s, y, items, known)


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
