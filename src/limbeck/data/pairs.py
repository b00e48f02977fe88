"""Batches of two halves that belong together, row by row."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.counters import derive, uniforms
from limbeck.data.plan import Plan
from limbeck.errors import LimbeckError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """The samples of a plan as the first half of each batch, and their partners as the second.

    A partner is the same sample in another view; or, with `kinds`, another sample of the same kind,
    drawn by counters for each sample and pass, each as likely. A sample that is alone of its kind
    is its own partner. In pass p the first half has view 2p and the second 2p + 1.

    An epoch has each sample once in the first half, and so twice as many batches as without pairs.

    >>> positions, views = Pairs(Plan(samples=6, batch_size=2, seed=0)).batch(epoch=3, step=0)
    >>> positions.tolist(), views.tolist()
    ([0, 3, 0, 3], [6, 6, 7, 7])
    """

    first: Plan
    kinds: Tensor | None = None

    @property
    def halves(self) -> int:
        """In how many parts of equal size a batch falls."""
        return 2

    @property
    def samples(self) -> int:
        return self.first.samples

    @property
    def rows(self) -> int:
        """Samples in a global batch."""
        return 2 * self.first.rows

    @property
    def steps(self) -> int:
        """Steps in an epoch."""
        return self.first.steps

    def batch(self, epoch: int, step: int) -> tuple[Ints, Ints]:
        """Positions of the global batch and the view that each has."""
        positions, passes = self.first.batch(epoch, step)
        others = positions if self.kinds is None else self.partners(positions, passes)
        return np.concatenate([positions, others]), np.concatenate([2 * passes, 2 * passes + 1])

    def partners(self, positions: Ints, passes: Ints) -> Ints:
        """Another sample of the same kind for each."""
        order, start, count, place = self.groups
        drawn = uniforms(derive(self.first.seed, "partner"), passes, positions, 1)[:, 0]
        other = (drawn * (count[positions] - 1)).astype(np.int64)
        other += (other >= place[positions]) & (count[positions] > 1)
        return order[start[positions] + other]

    @cached_property
    def groups(self) -> tuple[Ints, Ints, Ints, Ints]:
        """The samples kind by kind; of each, where its kind starts, its size, its place in it."""
        kinds = np.asarray(self.kinds)
        order = np.argsort(kinds, kind="stable")
        _, of, counts = np.unique(kinds, return_inverse=True, return_counts=True)
        start, place = (np.cumsum(counts) - counts)[of], np.empty_like(order)
        place[order] = np.arange(len(order)) - start[order]
        return order, start, counts[of], place


def kinds_of(labels: Tensor) -> Tensor:
    """The classes of labelled samples; raises LimbeckError for others."""
    if labels.is_floating_point():
        raise LimbeckError("pairs of a class need one class an image; pair views instead")
    if bool((labels < 0).any()):
        raise LimbeckError(
            f"pairs of a class need a label of every image, got {int((labels < 0).sum())} without; "
            "set data.unlabelled: false"
        )
    return labels
