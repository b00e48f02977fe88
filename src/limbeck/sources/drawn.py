"""One teacher of several at a time."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources.several import Several
from limbeck.sources.source import Source


class Drawn(Several):
    """One of several teachers a step, each as likely: a teacher's cost for what several know.

    Which one is a function of the seed and the number of the step alone, so that all ranks and all
    pieces of a step have the same, and a resumed training goes on with the same. Over many steps
    the gradient is that of the mean of the teachers' own losses.

    Args:
        sources: the teachers; plain modules are `Frozen`.
        seed: of the draws.

    Raises:
        LimbeckError: no source.

    Example:
        >>> drawn = Drawn([nn.Linear(4, 3), nn.Linear(4, 3)], seed=0)
        >>> for _ in range(8):
        ...     drawn.advance(0.0)
        ...     print(drawn.chosen(), end=" ")
        0 1 0 0 1 1 0 1
    """

    def __init__(self, sources: Sequence[nn.Module | Reader | Source], seed: int) -> None:
        super().__init__(sources, "a draw")
        self.seed, self.step, self.moves = seed, 0, True

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        return self.sources[self.chosen()](batch, signals, wants)

    def chosen(self) -> int:
        """The place of this step's teacher."""
        return random.Random(f"{self.seed}, {self.step}").randrange(len(self.sources))

    def advance(self, progress: float) -> None:
        self.step += 1
        super().advance(progress)

    def state_dict(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self.step), **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.step = int(state["step"])
        super().load_state_dict(state)
