"""Input adapters: what a model does to a batch of images before it looks at them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import LimbeckError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)


@dataclass(frozen=True)
class Preprocess:
    """Images (B, C, H, W) in 0..255, uint8 or float, to what a network expects.

    Scales to 0..1, resizes where `size` differs (bilinear, antialiased), repeats a single channel
    to as many as `mean` has, and normalises: (x / 255 - mean) / std. `channels_last` is the memory
    format of the result. Of images in K variations (B, K, C, H, W), one for each of several
    students, it takes number `view`.

    >>> grey = torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)
    >>> Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(grey)[0, :, 0, 0]
    tensor([1.0000, 1.0000, 1.0000])
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: int | tuple[int, int] | None = None
    channels_last: bool = False
    view: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        x = (images[:, self.view] if images.ndim == 5 else images).to(torch.float32)
        if self.size is not None and tuple(x.shape[-2:]) != self.shape:
            x = F.interpolate(x, self.shape, mode="bilinear", antialias=True)
        if x.shape[1] == 1:
            x = x.expand(-1, len(self.mean), -1, -1)
        if x.shape[1] != len(self.mean):
            raise LimbeckError(
                f"images must have {len(self.mean)} channels, as the mean has, got {x.shape[1]}"
            )
        std = per_channel(self.std, x)
        x = torch.addcmul(-per_channel(self.mean, x) / std, x, 1 / (255 * std))
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    @property
    def shape(self) -> tuple[int, int] | None:
        """The size as (height, width)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


@dataclass(frozen=True)
class Renormalise:
    """From one model's normalisation to another's: (x * std + mean - to_mean) / to_std.

    For loops whose loader already normalises for the student.

    >>> adapt = Renormalise(IMAGENET_MEAN, IMAGENET_STD, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> [round(v, 3) for v in adapt(torch.ones(1, 3, 1, 1)).flatten().tolist()]
    [0.428, 0.36, 0.262]
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    to_mean: tuple[float, ...]
    to_std: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():
            raise LimbeckError(f"images must be normalised floats, got {x.dtype}")
        if x.shape[1] != len(self.mean):
            raise LimbeckError(f"images must have {len(self.mean)} channels, got {x.shape[1]}")
        raw = x * per_channel(self.std, x) + per_channel(self.mean, x)
        return (raw - per_channel(self.to_mean, x)) / per_channel(self.to_std, x)
