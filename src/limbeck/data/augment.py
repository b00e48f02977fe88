"""Augmentation of whole batches in which every row has its own crop, flip and strength."""

from dataclasses import dataclass
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from limbeck.counters import derive, uniforms
from limbeck.data.gather import take
from limbeck.data.randaugment import randaugment
from limbeck.data.resized import boxes, crop_to_boxes
from limbeck.errors import LimbeckError


@dataclass(frozen=True)
class Augment:
    """What happens to training images (B, C, H, W) in uint8, in this order.

    `resized_crop=(low, high)` takes a box of that share of the area and of aspect ratio 3/4 to 4/3
    (Szegedy et al. 2015, arXiv:1409.4842); `crop=k` shifts by up to k pixels each way, the gap
    filled with zeros or by reflection; `flip` mirrors every second image; `randaugment=(n,
    magnitude)` applies n operations of magnitude 0..30 (Cubuk et al. 2020, arXiv:1909.13719).

    Row i of the result is a function of (images[i], seed, view, ids[i]) alone.

    >>> images = torch.arange(12, dtype=torch.uint8).view(1, 1, 3, 4)
    >>> Augment(flip=True)(images, seed=0, view=1, ids=torch.tensor([7]))[0, 0, 0]
    tensor([3, 2, 1, 0], dtype=torch.uint8)
    """

    crop: int = 0
    flip: bool = False
    resized_crop: tuple[float, float] | None = None
    randaugment: tuple[int, int] | None = None
    padding: Literal["zero", "reflect"] = "zero"

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise LimbeckError(f"`crop` must be a number of pixels >= 0, got {self.crop}")
        if self.crop and self.resized_crop:
            raise LimbeckError("`crop` and `resized_crop` exclude each other: name one")
        if self.padding not in ("zero", "reflect"):
            raise LimbeckError(f"`padding` must be zero or reflect, got {self.padding!r}")
        if self.resized_crop and not 0 < self.resized_crop[0] <= self.resized_crop[1] <= 1:
            raise LimbeckError(
                f"`resized_crop` must be (low, high) shares of the area in (0, 1], "
                f"got {self.resized_crop}"
            )
        if self.randaugment and not (self.randaugment[0] >= 1 and 0 <= self.randaugment[1] <= 30):
            raise LimbeckError(
                f"`randaugment` must be (operations >= 1, magnitude 0..30), got {self.randaugment}"
            )

    def __call__(self, images: Tensor, seed: int, view: ArrayLike, ids: ArrayLike) -> Tensor:
        """The augmented batch, uint8 of the same shape; `view` is one number or one for each id."""
        if self.resized_crop is not None:
            height, width = images.shape[-2:]
            drawn = uniforms(derive(seed, "resized crop"), view, ids, 22)
            images = crop_to_boxes(images, boxes(drawn, height, width, self.resized_crop))
        if self.crop or self.flip:
            images = self.shifted(images, seed, view, ids)
        if self.randaugment is not None:
            images = randaugment(images, *self.randaugment, seed=seed, view=view, ids=ids)
        return images

    def shifted(self, images: Tensor, seed: int, view: ArrayLike, ids: ArrayLike) -> Tensor:
        """Crop and flip as one gather."""
        height, width = images.shape[-2:]
        if self.crop >= min(height, width):
            raise LimbeckError(f"`crop` must be below {min(height, width)}, got {self.crop}")
        drawn = torch.from_numpy(uniforms(derive(seed, "crop and flip"), view, ids, 3))
        shift = (drawn[:, :2] * (2 * self.crop + 1)).long() - self.crop
        across = torch.arange(width).expand(len(images), width)
        if self.flip:
            across = torch.where(drawn[:, 2:] < 0.5, across.flip(1), across)
        rows, columns = torch.arange(height) + shift[:, :1], across + shift[:, 1:]
        if self.padding == "reflect":
            rows, columns = reflected(rows, height), reflected(columns, width)
        return take(images, rows[:, :, None], columns[:, None, :])


def reflected(index: Tensor, size: int) -> Tensor:
    """Indices outside 0..size-1 mirrored at the edge pixels, which are not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
