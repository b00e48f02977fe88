"""Entries that are kept, and all others as one, with the gradient, for torch tensors."""

from typing import Any

import torch
from torch import Tensor

from limbeck.ops.torch_mixtures import LOWEST
from limbeck.ops.torch_once import once


def bucketed(x: Tensor, index: Tensor, temperature: Any) -> Tensor:
    """Of x / T the entries [..., index[..., k]] for every k, then the logit of all others."""
    if isinstance(temperature, Tensor):  # it may learn
        x, temperature = x / temperature, 1.0
    return _Bucketed.apply(x, index, temperature)


class _Bucketed(torch.autograd.Function):
    """A class that `index` names twice is kept twice; finite where no other class is left."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, temperature: float) -> Tensor:
        z = x.clone() if temperature == 1 else x / temperature
        kept = z.gather(-1, index)
        others = z.scatter_(-1, index, LOWEST)
        q = torch.softmax(others, -1)
        rest = others.amax(-1, keepdim=True).sub_(q.amax(-1, keepdim=True).log_())
        ctx.save_for_backward(q, index)
        ctx.temperature = temperature
        return torch.cat((kept, rest), -1)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor, None, None]:
        (q, index), g = ctx.saved_tensors, grad_outputs[0] / ctx.temperature
        by_x = q * g[..., -1:]
        return by_x.scatter_add_(-1, index, g[..., :-1]), None, None
