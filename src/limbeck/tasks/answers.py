"""Answers and targets side by side, where an image has several of them."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class Answers:
    """Everything that one model answered, in float64, beside the targets (NaN where unknown)."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.rows: list[tuple[Tensor, Tensor]] = []

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Takes outputs (B, C) and their targets (B, C)."""
        self.rows.append((logits.double(), target.double()))

    def take(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Takes all of them."""
        for logits, target in batches:
            self.add(logits, target)

    def whole(self) -> tuple[Tensor, Tensor]:
        """Outputs and targets (N, C)."""
        nothing = torch.zeros(0, self.classes, dtype=torch.float64)
        outputs, targets = zip((nothing, nothing), *self.rows, strict=True)
        return torch.cat(outputs), torch.cat(targets)

    def columns(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For each class, the outputs and targets of the images where it is known."""
        for output, target in zip(*(x.unbind(1) for x in self.whole()), strict=True):
            known = ~target.isnan()
            yield output[known], target[known]

    def examples(self) -> int:
        """Images of which at least one target is known."""
        return int((~self.whole()[1].isnan()).any(1).sum())

    def fault(self) -> None:
        """Any finite answer is one."""
