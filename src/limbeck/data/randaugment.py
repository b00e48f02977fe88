"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719) on whole batches of uint8 images.

Each row draws its own operations and signs. All arithmetic on colours is in integers or one
multiplication at a time, so that a row comes out the same in every batch.
"""

import math
from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from limbeck.counters import derive, uniforms
from limbeck.data.gather import take

Operation = Callable[[Tensor, Tensor], Tensor]
LEVELS = 30


def randaugment(
    images: Tensor, n: int, magnitude: int, *, seed: int, view: ArrayLike, ids: ArrayLike
) -> Tensor:
    """n operations in turn on each image; `magnitude` in 0..30 is shared, its sign is drawn."""
    drawn = torch.from_numpy(uniforms(derive(seed, "randaugment"), view, ids, 2 * n))
    out = images.clone()
    for turn in range(n):
        chosen = (drawn[:, 2 * turn] * len(OPERATIONS)).long()
        strength = torch.where(drawn[:, 2 * turn + 1] < 0.5, -magnitude, magnitude) / LEVELS
        for k, operation in enumerate(OPERATIONS):
            rows = (chosen == k).nonzero().flatten()
            if len(rows):
                out[rows] = operation(out[rows], strength[rows])
    return out


def moved(images: Tensor, matrix: tuple[Tensor | float, ...]) -> Tensor:
    """Output (x, y) copies input (a x + b y + c, d x + e y + f), to the nearest pixel."""
    height, width = images.shape[-2:]
    y = torch.arange(height, dtype=torch.float64)[None, :, None]
    x = torch.arange(width, dtype=torch.float64)[None, None, :]
    a, b, c, d, e, f = (torch.as_tensor(m).double().reshape(-1, 1, 1) for m in matrix)
    shape = (len(images), height, width)
    columns, rows = (a * x + b * y + c).expand(shape), (d * x + e * y + f).expand(shape)
    return take(images, rows.round().long(), columns.round().long())


def identity(images: Tensor, strength: Tensor) -> Tensor:
    return images


def shear_x(images: Tensor, strength: Tensor) -> Tensor:
    return moved(images, (1, 0.3 * strength, 0, 0, 1, 0))


def shear_y(images: Tensor, strength: Tensor) -> Tensor:
    return moved(images, (1, 0, 0, 0.3 * strength, 1, 0))


def translate_x(images: Tensor, strength: Tensor) -> Tensor:
    return moved(images, (1, 0, -(strength * 150 / 331 * images.shape[-1]).trunc(), 0, 1, 0))


def translate_y(images: Tensor, strength: Tensor) -> Tensor:
    return moved(images, (1, 0, 0, 0, 1, -(strength * 150 / 331 * images.shape[-2]).trunc()))


def rotate(images: Tensor, strength: Tensor) -> Tensor:
    """Up to 30 degrees about the centre, anticlockwise where positive."""
    angle = strength.double() * math.radians(30)
    cos, sin = angle.cos(), angle.sin()
    x, y = (images.shape[-1] - 1) / 2, (images.shape[-2] - 1) / 2
    return moved(images, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y))


def blend(images: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """From `other` (factor 0) over the image (factor 1) and beyond, factor = 1 + 0.9 strength."""
    factor = (1 + 0.9 * strength).float().view(-1, 1, 1, 1)
    mixed = images.float() * factor + other.float() * (1 - factor)
    return mixed.clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().unbind(1)
    return ((299 * red + 587 * green + 114 * blue) // 1000).unsqueeze(1)


def brightness(images: Tensor, strength: Tensor) -> Tensor:
    return blend(images, torch.zeros_like(images), strength)


def saturation(images: Tensor, strength: Tensor) -> Tensor:
    return blend(images, grey(images), strength)


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    pixels = images.shape[-2] * images.shape[-1]
    mean = grey(images).sum(dim=(1, 2, 3), dtype=torch.int64).double() / pixels
    return blend(images, mean.view(-1, 1, 1, 1), strength)


def sharpness(images: Tensor, strength: Tensor) -> Tensor:
    """Blends with a 3 x 3 smoothing (centre 5, others 1, over 13); the border stays."""
    x = images.int()
    across = x[..., :-2] + x[..., 1:-1] + x[..., 2:]
    around = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    smooth = x.clone()
    smooth[..., 1:-1, 1:-1] = (around + 4 * x[..., 1:-1, 1:-1] + 6) // 13
    return blend(images, smooth, strength)


def posterise(images: Tensor, strength: Tensor) -> Tensor:
    """Keeps 8 bits of each colour down to 4."""
    dropped = (strength.abs() * 4).round().to(torch.uint8).view(-1, 1, 1, 1)
    return (images >> dropped) << dropped


def solarise(images: Tensor, strength: Tensor) -> Tensor:
    """Inverts what is at least as bright as a threshold, 255 down to 0."""
    threshold = (255 * (1 - strength.abs())).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    low, high = images.int().amin((2, 3), True), images.int().amax((2, 3), True)
    spread = (images.int() - low) * 255 // (high - low).clamp(min=1)
    return torch.where(high > low, spread.to(torch.uint8), images)


def equalise(images: Tensor, strength: Tensor) -> Tensor:
    """Each channel's histogram made flat; a channel of one colour stays."""
    flat = images.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.long)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    brightest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - brightest) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255).to(torch.uint8)
    return torch.where(step[..., None] > 0, table.gather(2, flat).view_as(images), images)


OPERATIONS: tuple[Operation, ...] = (
    identity,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    rotate,
    brightness,
    saturation,
    contrast,
    sharpness,
    posterise,
    solarise,
    autocontrast,
    equalise,
)
