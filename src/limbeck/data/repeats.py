"""Batches of which half come again in the next one."""

from dataclasses import dataclass

import numpy as np

from limbeck.data.pairs import Ints, Pairs


@dataclass(frozen=True)
class Repeats(Pairs):
    """The samples of a plan as the first half of each batch, those of the last batch as the second.

    So each sample comes twice, in two batches that follow one another: in pass p first with view
    2p, then with view 2p + 1. The very first batch repeats its own samples.

    >>> from limbeck.data.plan import Plan
    >>> plan = Repeats(Plan(samples=4, batch_size=2, seed=0))
    >>> [plan.batch(0, step)[0].tolist() for step in range(2)]
    [[2, 3, 2, 3], [1, 0, 2, 3]]
    """

    def batch(self, epoch: int, step: int) -> tuple[Ints, Ints]:
        """Positions of the global batch and the view that each has."""
        positions, passes = self.first.batch(epoch, step)
        last, before = self.first.batch(*self.previous(epoch, step))
        return np.concatenate([positions, last]), np.concatenate([2 * passes, 2 * before + 1])

    def previous(self, epoch: int, step: int) -> tuple[int, int]:
        """Epoch and step of the batch before."""
        if step:
            return epoch, step - 1
        return (epoch - 1, self.steps - 1) if epoch else (0, 0)
