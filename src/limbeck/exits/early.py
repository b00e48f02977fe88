"""Images that leave a model early, at the first exit that is sure of them."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Early(NamedTuple):
    """What `Exits.early` returns: logits (B, classes), and the number of the exit that gave each.

    The number of the model's own classifier is how many exits there are beside it.
    """

    logits: Tensor
    exits: Tensor


class NobodyLeft(Exception):
    """All images have left: the rest of the model need not run."""


class Leaving:
    """A forward hook at each exit that lets those images leave of which the exit is sure."""

    def __init__(self, exits: nn.ModuleList, threshold: float, images: int) -> None:
        self.exits, self.threshold = exits, threshold
        self.rows = torch.arange(images)
        self.left: list[tuple[Tensor, Tensor, int]] = []

    def __call__(self, k: int, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        logits, _ = self.exits[k](output)
        sure = logits.float().softmax(-1).amax(-1) >= self.threshold
        here = sure.cpu()
        self.left.append((self.rows[here], logits[sure], k))
        self.rows = self.rows[~here]
        if not len(self.rows):
            raise NobodyLeft
        return output[~sure]

    def answer(self, logits: Tensor, k: int) -> None:
        """What the model itself says of those that are left."""
        self.left.append((self.rows, logits, k))

    def answers(self) -> Early:
        """All images in their order."""
        order = torch.cat([rows for rows, _, _ in self.left]).argsort()
        logits = torch.cat([logits for _, logits, _ in self.left])
        exits = torch.cat([torch.full_like(rows, k) for rows, _, k in self.left])
        order = order.to(logits.device)
        return Early(logits[order], exits.to(order.device)[order])
