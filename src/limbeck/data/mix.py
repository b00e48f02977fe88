"""Mixup and CutMix: one mixed tensor that teacher and student both see, and its soft targets."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from limbeck.counters import derive, uniforms
from limbeck.errors import LimbeckError


@dataclass(frozen=True)
class Mix:
    """How rows mix with their partners: the alpha of the Beta(alpha, alpha) of each kind, 0 is off.

    `mixup` blends (Zhang et al. 2018, arXiv:1710.09412), `cutmix` pastes a box (Yun et al. 2019,
    arXiv:1905.04899); with both, each row throws a fair coin. The weight of a row is a function of
    (seed, view, id); its partner is the neighbour in the batch, whose order is random already.

    A target row is the weighted sum of two one-hot rows and sums to 1. Where the label of the row
    or of its partner is withheld (-100), it is all zeros: no truth, only a teacher. Targets that
    are rows of flags or numbers are summed as they are, unknown (NaN) where either side is.

    >>> mix = Mix(mixup=0.2)
    >>> images, target = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1])
    >>> mixed, soft = mix(images, target, images.flip(0), target.flip(0), 3, 0, 0, [4, 7])
    >>> mixed.dtype, soft.shape, soft.sum(1).tolist()
    (torch.float32, torch.Size([2, 3]), [1.0, 1.0])
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if min(self.mixup, self.cutmix) < 0 or not (self.mixup or self.cutmix):
            raise LimbeckError(
                f"`mixup` and `cutmix` must be >= 0 and one of them above, got {self.mixup} and "
                f"{self.cutmix}"
            )

    def __call__(
        self,
        images: Tensor,
        target: Tensor,
        partners: Tensor,
        partner_target: Tensor,
        classes: int,
        seed: int,
        view: ArrayLike,
        ids: ArrayLike,
    ) -> tuple[Tensor, Tensor]:
        """Mixed images float32 (B, C, H, W) in 0..255 and targets float32 (B, classes)."""
        drawn = uniforms(derive(seed, "mix"), view, ids, 4)
        share = self.mixup and (0.5 if self.cutmix else 1.0)
        blends = torch.from_numpy(drawn[:, 0] < share)
        alpha = np.where(drawn[:, 0] < share, self.mixup, self.cutmix)
        weight = torch.from_numpy(beta(alpha, drawn[:, 1]))
        box = box_mask(weight, torch.from_numpy(drawn[:, 2:]), images.shape[-2], images.shape[-1])
        kept = torch.where(blends.view(-1, 1, 1), weight.view(-1, 1, 1), (~box).double())
        weight = torch.where(blends, weight, kept.mean((1, 2))).float()
        mixed = blend(images, partners, kept.float()[:, None])
        return mixed, soft_targets(target, partner_target, weight, classes)


def blend(images: Tensor, partners: Tensor, weight: Tensor) -> Tensor:
    """weight * images + (1 - weight) * partners, float32."""
    return images.float() * weight + partners.float() * (1 - weight)


def soft_targets(target: Tensor, partner: Tensor, weight: Tensor, classes: int) -> Tensor:
    """weight * onehot(target) + (1 - weight) * onehot(partner), zeros where either is withheld.

    Rows of targets, which are floats, take the place of one-hot ones, and NaN that of zeros.

    >>> soft_targets(torch.tensor([1, -100]), torch.tensor([3, 0]), torch.tensor([0.75, 0.5]), 4)
    tensor([[0.0000, 0.7500, 0.0000, 0.2500],
            [0.0000, 0.0000, 0.0000, 0.0000]])
    """
    if target.is_floating_point():
        return weight[:, None] * target + (1 - weight)[:, None] * partner
    known = ((target >= 0) & (partner >= 0))[:, None]
    rows, others = (F.one_hot(t.clamp(min=0), classes).float() for t in (target, partner))
    return (weight[:, None] * rows + (1 - weight)[:, None] * others) * known


def box_mask(weight: Tensor, centre: Tensor, height: int, width: int) -> Tensor:
    """True in a box of area share 1 - weight about `centre` (B, 2) in 0..1, clipped, (B, H, W)."""
    side = (1 - weight).sqrt()
    inside = []
    for axis, size in enumerate((height, width)):
        half = (side * size / 2)[:, None]
        place = torch.arange(size) + 0.5
        inside.append((place - centre[:, axis : axis + 1] * size).abs() < half)
    return inside[0][:, :, None] & inside[1][:, None, :]


def beta(alpha: ArrayLike, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Beta(alpha, alpha) variates from uniform numbers, by inverting the distribution function.

    Below 1/2, x = t^(1/p) with p = min(alpha, 1) turns the density into
    x^(alpha - p) (1 - x)^(alpha - 1) / p, which has no pole and is summed on a grid; above 1/2 by
    symmetry.
    """
    alpha = np.broadcast_to(np.asarray(alpha, dtype=np.float64), uniform.shape)
    low = np.empty_like(uniform)
    tail = np.minimum(uniform, 1 - uniform)
    for a in np.unique(alpha):
        p = min(a, 1.0)
        t = np.linspace(0, 0.5**p, 4097)
        x = t ** (1 / p)
        density = x ** (a - p) * (1 - x) ** (a - 1)
        mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
        rows = alpha == a
        low[rows] = np.interp(2 * tail[rows], mass / mass[-1], t) ** (1 / p)
    return np.where(uniform < 0.5, low, 1 - low)
