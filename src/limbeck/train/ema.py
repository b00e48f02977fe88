"""The exponential moving average of a student."""

import copy

import torch
from torch import nn


class Average:
    """A copy of a model whose floating tensors, buffers too, follow it with a decay.

    Integer buffers (counters) are copied. The copy is in eval mode and carries no taps.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(net.weight)
    >>> average = Average(net, decay=0.9)
    >>> _ = nn.init.ones_(net.weight)
    >>> average.update(net)
    >>> round(average.model.weight.item(), 6)
    0.1
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step towards the model."""
        for mine, theirs in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():
                mine.lerp_(theirs.to(mine.dtype), 1 - self.decay)
            else:
                mine.copy_(theirs)
