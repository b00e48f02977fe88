"""The exponential moving average of a model."""

import copy
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, close

Buffers = Literal["average", "copy", "ignore"]
BUFFERS: tuple[Buffers, ...] = ("average", "copy", "ignore")


class Average:
    """A copy of a model that follows it: theta' <- d theta' + (1 - d) theta.

    `buffers` that are floating are averaged like parameters, copied, or left as they are; counters
    and masks (integer, bool) are always copied. What the model shares stays shared. The copy is in
    eval mode, and has the precision of the model when it was made: an average of bfloat16 weights
    stands still where a step is below their resolution. Every rank has the whole copy, of a model
    that FSDP2 shards too: an update gathers its parameters, on all ranks alike.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(net.weight)
    >>> average = Average(net, decay=0.9)
    >>> _ = nn.init.ones_(net.weight)
    >>> average.update(net)
    >>> round(average.model.weight.item(), 6)
    0.1
    """

    def __init__(self, model: nn.Module, decay: float, buffers: Buffers = "average") -> None:
        if not 0 <= decay < 1:
            raise LimbeckError(f"decay must be in [0, 1), got {decay}")
        if buffers not in BUFFERS:
            hint = close(str(buffers), BUFFERS)
            raise LimbeckError(f"buffers must be one of {BUFFERS}, got {buffers!r}{hint}")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.buffers = decay, buffers

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step towards the model."""
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            self.follow(mine, theirs, "average")
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            self.follow(mine, theirs, self.buffers)

    def follow(self, mine: Tensor, theirs: Tensor, how: Buffers) -> None:
        theirs = whole(theirs)
        if how == "copy" or not mine.is_floating_point():
            mine.copy_(theirs)
        elif how == "average":
            mine.lerp_(theirs.to(mine), 1 - self.decay)


def whole(x: Tensor) -> Tensor:
    """A tensor that ranks have in parts, put together; any other as it is."""
    gather = getattr(x, "full_tensor", None)  # of a DTensor, which takes a second to import
    return x if gather is None else gather()
