"""Random resized crops: the boxes from counters, the pixels from one bilinear sampling."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

TRIES = 10
NARROWEST, WIDEST = math.log(3 / 4), math.log(4 / 3)


def boxes(
    drawn: NDArray[np.float64], height: ArrayLike, width: ArrayLike, scale: tuple[float, float]
) -> NDArray[np.int64]:
    """Boxes (top, left, height, width), int64 (B, 4), from uniform numbers (B, 22).

    The first of ten draws of area and log aspect ratio that fits into the image; where none does,
    the largest box in the middle whose aspect ratio is allowed.
    """
    h, w = (
        np.broadcast_to(np.asarray(side)[..., None], (len(drawn), 1)) for side in (height, width)
    )
    area = h * w * (scale[0] + (scale[1] - scale[0]) * drawn[:, :TRIES])
    aspect = np.exp(NARROWEST + (WIDEST - NARROWEST) * drawn[:, TRIES : 2 * TRIES])
    tall, wide = np.rint(np.sqrt(area / aspect)), np.rint(np.sqrt(area * aspect))
    fits = (tall >= 1) & (wide >= 1) & (tall <= h) & (wide <= w)
    first = fits.argmax(axis=1)[:, None]
    found = np.concatenate([np.take_along_axis(x, first, 1) for x in (tall, wide)], axis=1)
    middle = np.concatenate(
        [np.minimum(h, np.rint(w * 4 / 3)), np.minimum(w, np.rint(h * 4 / 3))], 1
    )
    any_fits = fits.any(axis=1, keepdims=True)
    size = np.where(any_fits, found, middle)
    room = np.concatenate([h, w], axis=1) - size
    corner = np.where(any_fits, np.floor(drawn[:, -2:] * (room + 1)), room // 2)
    return np.concatenate([corner, size], axis=1).astype(np.int64)


def crop_to_boxes(images: Tensor, box: NDArray[np.int64]) -> Tensor:
    """Each box stretched to the size of its image (bilinear), uint8 (B, C, H, W)."""
    height, width = images.shape[-2:]
    top, left, tall, wide = (torch.from_numpy(box[:, i : i + 1]).double() for i in range(4))
    rows = (top + tall * (torch.arange(height) + 0.5) / height) * 2 / height - 1
    columns = (left + wide * (torch.arange(width) + 0.5) / width) * 2 / width - 1
    shape = (len(images), height, width)
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    stretched = F.grid_sample(
        images.float(), grid.float(), "bilinear", padding_mode="border", align_corners=False
    )
    return stretched.round_().clamp_(0, 255).to(torch.uint8)
