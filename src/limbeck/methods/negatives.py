"""Negatives by counters: which samples a sample is told apart from, whoever asks."""

import hashlib

import torch
from torch import Tensor

from limbeck.errors import LimbeckError


class Negatives:
    """Draws other samples, uniformly and with replacement; with labels, those of other classes.

    What sample i gets at a step is a function of the seed, the step and i. Samples withheld from
    the labels (-100) count as a class of their own.

    >>> draw = Negatives(samples=5, each=3, labels=torch.tensor([0, 0, 0, 1, 1]), seed=0)
    >>> index = draw(torch.tensor([3, 1]), step=7)
    >>> index[:, 0].tolist(), bool((index[0, 1:] < 3).all()), bool((index[1, 1:] >= 3).all())
    ([3, 1], True, True)
    >>> bool((draw(torch.tensor([1]), step=7) == index[1]).all())
    True
    """

    def __init__(self, samples: int, each: int, labels: Tensor | None, seed: int) -> None:
        if samples < 2 or each < 1:
            raise LimbeckError(
                f"there must be two samples and a negative, got {samples} samples and {each}"
            )
        self.samples, self.each, self.seed = samples, each, seed
        alone = torch.arange(samples) if labels is None else labels.cpu()
        if alone.shape != (samples,):
            raise LimbeckError(
                f"labels must be one for each of {samples} samples, got {tuple(alone.shape)}"
            )
        self.order = alone.argsort(stable=True)
        first = torch.searchsorted(alone[self.order], alone)
        after = torch.searchsorted(alone[self.order], alone, right=True)
        self.first, self.size = first, after - first  # a class is a stretch of the order
        if int(self.size.max()) == samples:
            raise LimbeckError(f"labels must tell classes apart, got {int(alone[0])} throughout")

    def __call__(self, ids: Tensor, step: int) -> Tensor:
        """Integers (B, 1 + K): each sample, then its negatives."""
        rows = ids.tolist()
        if rows and not 0 <= min(rows) <= max(rows) < self.samples:
            raise LimbeckError(f"ids must be in 0..{self.samples - 1}, got {rows}")
        index = torch.empty(len(rows), 1 + self.each, dtype=torch.long)
        for row, i in zip(index, rows, strict=True):
            row[0] = i
            row[1:] = self.others(i, step)
        return index

    def others(self, i: int, step: int) -> Tensor:
        """K samples outside of the class of sample i, which is skipped in the order."""
        size = int(self.size[i])
        places = torch.randint(
            self.samples - size, (self.each,), generator=generator(self.seed, step, i)
        )
        places += size * (places >= self.first[i])
        return self.order[places]


def generator(*counters: int) -> torch.Generator:
    """A generator of its own for each tuple of counters."""
    digest = hashlib.blake2b("/".join(map(str, counters)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
