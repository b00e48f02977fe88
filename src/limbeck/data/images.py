"""A labelled set of images, in memory or in files."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from limbeck.data.augment import Augment
from limbeck.data.files import Files
from limbeck.errors import LimbeckError

WITHHELD = -100


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels: pixels uint8 (N, C, H, W) or files, labels int64 (N,).

    A label of -100 is withheld. Several targets an image, flags or numbers, are labels float32
    (N, len(classes)), NaN where unknown; an image that has none is unlabelled. Row i is the sample
    with id i. `skipped` lists the unreadable files that were left out on request.

    >>> pixels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    >>> images = Images(pixels, torch.tensor([0, 1]), ("a", "b"))
    >>> len(images), images.fetch(torch.tensor([1])).shape
    (2, torch.Size([1, 1, 4, 4]))
    """

    pixels: Tensor | Files
    labels: Tensor
    classes: tuple[str, ...]
    skipped: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.pixels, Tensor) and (
            self.pixels.dtype != torch.uint8 or self.pixels.dim() != 4
        ):
            raise LimbeckError(
                f"`pixels` must be uint8 (N, C, H, W), got {self.pixels.dtype} "
                f"{tuple(self.pixels.shape)}"
            )
        if self.labels.is_floating_point() and self.labels.dim() == 2:
            self.check_targets()
            return
        if self.labels.dtype != torch.int64 or self.labels.shape != (len(self.pixels),):
            raise LimbeckError(
                f"`labels` must be int64 ({len(self.pixels)},), one for each image, got "
                f"{self.labels.dtype} {tuple(self.labels.shape)}"
            )
        known = self.labels[self.labels != WITHHELD]
        if len(known) and not 0 <= int(known.min()) <= int(known.max()) < len(self.classes):
            raise LimbeckError(
                f"`labels` must be 0..{len(self.classes) - 1}, or {WITHHELD} where withheld, got "
                f"{int(known.min())}..{int(known.max())}"
            )

    def check_targets(self) -> None:
        shape = (len(self.pixels), len(self.classes))
        if self.labels.dtype != torch.float32 or self.labels.shape != shape:
            raise LimbeckError(
                f"`labels` must be float32 {shape}, a target for each image and class, got "
                f"{self.labels.dtype} {tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        return isinstance(self.pixels, Tensor)

    @property
    def labelled(self) -> Tensor:
        """The ids whose label is known, int64."""
        known = self.labels >= 0 if self.labels.dim() == 1 else ~self.labels.isnan().all(1)
        return known.nonzero().flatten()

    @property
    def strata(self) -> Tensor:
        """What must keep its share in every part: the labels; of targets there is one stratum."""
        return self.labels if self.labels.dim() == 1 else torch.zeros(len(self), dtype=torch.int64)

    def labelled_at(self, ids: Tensor) -> Self:
        """The same images, all labels but those at `ids` withheld."""
        unknown = WITHHELD if self.labels.dim() == 1 else math.nan
        labels = torch.full_like(self.labels, unknown)
        labels[ids] = self.labels[ids]
        return replace(self, labels=labels)

    def fetch(self, ids: Tensor) -> Tensor:
        """The images as evaluation sees them, uint8 (B, C, H, W)."""
        if isinstance(self.pixels, Tensor):
            return self.pixels.index_select(0, ids)
        return self.pixels.fetch(ids.tolist())

    def augmented(self, ids: Tensor, augment: Augment, seed: int, view: ArrayLike) -> Tensor:
        """The images as training sees them; a resized crop of a file cuts from the whole of it."""
        if isinstance(self.pixels, Tensor):
            return augment(self.fetch(ids), seed, view, ids)
        return self.pixels.augmented(ids.tolist(), augment, seed, view)

    def subset(self, ids: Tensor) -> Self:
        """The images at `ids`, numbered anew."""
        pixels = (
            self.pixels[ids]
            if isinstance(self.pixels, Tensor)
            else self.pixels.subset(ids.tolist())
        )
        return replace(self, pixels=pixels, labels=self.labels[ids], skipped=())


def same_classes(train: Images, other: Images, split: str = "valid") -> None:
    """Raises where the two do not have the same classes in the same order.

    >>> one = Images(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.tensor([0]), ("cat",))
    >>> same_classes(one, replace(one, classes=("dog",)))
    Traceback (most recent call last):
    limbeck.errors.LimbeckError: classes must agree: train has 1 (cat), valid has 1 (dog); ...
    """
    if train.classes == other.classes:
        return
    extra = sorted(set(train.classes) - set(other.classes))
    missing = sorted(set(other.classes) - set(train.classes))
    sides = [f"only train has {listed(extra)}"] if extra else []
    sides += [f"only {split} has {listed(missing)}"] if missing else []
    raise LimbeckError(
        f"classes must agree: train has {len(train.classes)} ({listed(train.classes)}), "
        f"{split} has {len(other.classes)} ({listed(other.classes)}); "
        f"{', '.join(sides) or 'only the order differs'}"
    )


def listed(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """The first few names and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
