"""Parts of a set in which every stratum (class) keeps its share, chosen by counters."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from limbeck.counters import derive, permutation
from limbeck.data.images import Images
from limbeck.errors import LimbeckError


def ranks(labels: Tensor, seed: int) -> Tensor:
    """The place of each sample among those of its class in a random order, int64 (N,).

    >>> sorted(ranks(torch.tensor([0, 0, 1, 0]), seed=1).tolist())
    [0, 0, 1, 2]
    """
    order = torch.from_numpy(permutation(seed, 0, len(labels)).copy())
    by_class = order[labels[order].argsort(stable=True)]
    _, counts = labels.unique(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.empty_like(order).scatter_(0, by_class, torch.arange(len(labels)) - starts)


def carve(images: Images, fraction: float, seed: int) -> tuple[Images, Images]:
    """(train, valid), where valid takes `fraction` of each class, at least one image.

    Withheld labels count as a class of their own; images with several targets are all of one kind.
    Both parts are numbered anew in the old order.
    """
    if not 0 < fraction < 1:
        raise LimbeckError(f"`fraction` must be between 0 and 1, got {fraction}")
    if len(images) < 2:
        raise LimbeckError(f"carving needs two images, got {len(images)}")
    kinds, kind, counts = images.strata.unique(return_inverse=True, return_counts=True)
    if int(counts.min()) < 2:
        lonely = images.classes[int(kinds[counts.argmin()])]
        raise LimbeckError(f"carving needs two images of each class, {lonely!r} has one")
    quota = (counts.double() * fraction).round().long().clamp(min=1).minimum(counts - 1)
    valid = ranks(images.strata, derive(seed, "carve")) < quota[kind]
    train, carved = (images.subset(part.nonzero().flatten()) for part in (~valid, valid))
    return replace(train, skipped=images.skipped), carved


def withhold(images: Images, labels: int, seed: int) -> Images:
    """The same images with `labels` labels kept, the others -100.

    Every class keeps one and its share of the rest. The ids that stay labelled are
    `images.labelled`; more labels with the same seed keep those of fewer.
    """
    known = images.labelled
    strata = images.strata[known]
    _, kind, counts = strata.unique(return_inverse=True, return_counts=True)
    if not len(counts) <= labels <= len(known):
        least = f"{len(counts)} (one for each class)" if len(counts) > 1 else "1"
        raise LimbeckError(f"`labels` must be {least} to {len(known)} (all), got {labels}")
    quota = 1 + shares(labels - len(counts), (counts - 1).numpy())
    kept = known[ranks(strata, derive(seed, "withhold")) < quota[kind]]
    return images.labelled_at(kept)


def shares(total: int, weights: np.ndarray) -> Tensor:
    """`total` divided in proportion to `weights`, by largest remainder, int64.

    >>> shares(5, np.array([10, 10, 20]))
    tensor([1, 1, 3])
    """
    exact = total * weights / max(1, weights.sum())
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return torch.from_numpy(whole)
