"""Which samples a step sees: a function of counters, the same however many ranks share the work."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.counters import derive, permutation
from limbeck.errors import LimbeckError


@dataclass(frozen=True)
class Plan:
    """The order of `samples` samples in global batches of `batch_size`.

    Without `steps_per_epoch` an epoch is one pass in a fresh order, and what does not fill a batch
    is left out (a set smaller than a batch is one batch). With it, passes follow one another
    without gap, each in a fresh order, and an epoch is that many batches of the endless row.

    >>> plan = Plan(samples=5, batch_size=2, seed=0)
    >>> plan.steps, [plan.batch(0, step)[0].shape for step in range(plan.steps)]
    (2, [(2,), (2,)])
    """

    samples: int
    batch_size: int
    seed: int
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise LimbeckError("there must be at least one sample to train on, got none")
        if self.batch_size < 1:
            raise LimbeckError(f"`batch_size` must be at least 1, got {self.batch_size}")
        if self.steps_per_epoch is not None and self.steps_per_epoch < 1:
            raise LimbeckError(f"`steps_per_epoch` must be at least 1, got {self.steps_per_epoch}")

    @property
    def halves(self) -> int:
        """In how many parts of equal size a batch falls: in one."""
        return 1

    @property
    def rows(self) -> int:
        """Samples in a global batch."""
        if self.steps_per_epoch is not None:
            return self.batch_size
        return min(self.batch_size, self.samples)

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.steps_per_epoch or self.samples // self.rows

    def batch(self, epoch: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions 0..samples-1 of the global batch and the pass that each belongs to."""
        place = np.arange(step * self.rows, (step + 1) * self.rows)
        if self.steps_per_epoch is None:
            passes = np.full_like(place, epoch)
        else:
            passes, place = np.divmod(place + epoch * self.steps * self.rows, self.samples)
        positions = np.empty_like(place)
        for one in np.unique(passes):
            order = permutation(derive(self.seed, "order"), int(one), self.samples)
            positions[passes == one] = order[place[passes == one]]
        return positions, passes
