"""Frozen parts of a teacher that gradients pass through."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Hidden(nn.Module):
    """A frozen module inside another: it passes gradients on and gets none.

    It is never trained, saved or counted, stays in eval mode, takes inputs in its own precision,
    and follows the other from device to device alone.

    Args:
        module: the part, such as a teacher's classifier; it is used, never changed.

    Example:
        >>> head = Hidden(nn.Linear(4, 2))
        >>> list(head.parameters()), list(head.state_dict())
        ([], [])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inside = [module]  # a list does not register it

    @property
    def module(self) -> nn.Module:
        return self.inside[0]

    def forward(self, *inputs: Tensor) -> Any:
        for part in self.module.modules():
            part.training = False
        state = {name: p.detach() for name, p in self.module.named_parameters()}
        weight = next(iter(state.values()), inputs[0])
        return functional_call(self.module, state, tuple(x.to(weight.dtype) for x in inputs))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Hidden":
        super()._apply(fn, recurse)
        here = next(self.module.parameters(), torch.empty(0)).device
        there = fn(torch.empty(0, device=here)).device
        if there not in (here, torch.device("meta")):
            self.module.to(there)
        return self
