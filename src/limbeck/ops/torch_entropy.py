"""Cross-entropies with a gradient in few passes, for torch tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn._reduction import get_enum

from limbeck.ops.torch_mixtures import LOWEST

NONE = get_enum("none")
native: Callable[..., Tensor] = torch._C._nn.cross_entropy_loss


def cross_entropy(s: Tensor, target: Tensor) -> Tensor:
    """Rows of -sum_c target_c log softmax(s)_c; an integer target of -100 gives 0."""
    if target.is_floating_point():
        return _CrossEntropy.apply(s, target)
    if s.ndim == 2:
        return native(s, target, None, NONE, -100, 0.0)
    flat = native(s.flatten(0, -2), target.flatten(), None, NONE, -100, 0.0)
    return flat.view(target.shape)


class _CrossEntropy(torch.autograd.Function):
    """Against distributions; finite where a class is -inf and its target 0."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(s, target)
        log_q = torch.log_softmax(s, -1).clamp_(min=LOWEST)
        return log_q.mul_(target).sum(-1).neg_()

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (s, target), (g,) = ctx.saved_tensors, grad_outputs
        by_s = by_target = None
        g = g.unsqueeze(-1)
        if ctx.needs_input_grad[0]:
            by_s = (torch.softmax(s, -1) * target.sum(-1, keepdim=True) - target) * g
        if ctx.needs_input_grad[1]:
            by_target = torch.log_softmax(s, -1).masked_fill(target == 0, 0) * -g
        return by_s, by_target
