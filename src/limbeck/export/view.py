"""What a student sees of an image, in numbers and words."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.inputs import Preprocess


@dataclass(frozen=True)
class View:
    """From images (`image`: channels, height, width; 0..255) to inputs of height and width `size`.

    >>> View.of(Preprocess(size=64), (3, 32, 32)).how
    'x / 255, resize to 64 x 64 (bilinear, antialias), (x - mean) / std'
    """

    image: tuple[int, int, int]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, preprocess: Preprocess, image: tuple[int, int, int]) -> "View":
        channels, height, width = image
        if channels not in (1, 3):
            raise LimbeckError(f"`size` must begin with 1 or 3 channels, got {image}")
        size = preprocess.shape or (height, width)
        return cls((channels, height, width), size, preprocess.mean, preprocess.std)

    @property
    def resizes(self) -> bool:
        return self.size != self.image[1:]

    @property
    def how(self) -> str:
        steps = ["x / 255"]
        if self.resizes:
            steps.append(f"resize to {self.size[0]} x {self.size[1]} (bilinear, antialias)")
        if self.image[0] < len(self.mean):
            steps.append(f"repeat the channel {len(self.mean)} times")
        return ", ".join([*steps, "(x - mean) / std"])

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"how": self.how}

    def noise(self, images: int) -> Tensor:
        """Images of noise, real numbers in 0..255."""
        generator = torch.Generator().manual_seed(0)
        return 255 * torch.rand((images, *self.image), generator=generator)
