"""Image files, decoded with Pillow to RGB of one size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from limbeck.counters import derive, uniforms
from limbeck.data.augment import Augment
from limbeck.data.resized import boxes
from limbeck.errors import LimbeckError, need

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]


def decode(path: Path) -> Image:
    """The first frame of a file in RGB, upright as its EXIF tag says.

    Transparent pixels are laid on white; 16-bit grey keeps its upper eight bits. Raises
    LimbeckError that names the file where it is not a readable image.
    """
    pillow, ops = need("PIL.Image", "vision"), need("PIL.ImageOps", "vision")
    try:
        with pillow.open(path) as image:
            image.load()
            return opaque(ops.exif_transpose(image))
    except Exception as error:
        raise LimbeckError(f"{path} must be an image, {fault(path, error)}") from error


def fault(path: Path, error: Exception) -> str:
    """Why a file could not be decoded, in a few words."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"but cannot be read ({error.strerror})"
    if path.stat().st_size == 0:
        return "but is empty (0 bytes)"
    if type(error).__name__ == "UnidentifiedImageError":
        return "but has no format that Pillow knows"
    return f"but is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


def opaque(image: Image) -> Image:
    """Any mode to RGB."""
    pillow = need("PIL.Image", "vision")
    if image.mode.startswith("I"):
        upper = np.asarray(image).astype(np.int64) >> 8
        return pillow.fromarray(upper.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = pillow.new("RGBA", image.size, "white")
        return pillow.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def centred(image: Image, size: int | None) -> Pixels:
    """The evaluation view, uint8 (size, size, 3): short side to size * 256 / 224, then the centre.

    An image whose short side is not above `size` is shown whole: its short side becomes `size`, and
    one of exactly that size stays as it is. `None` keeps every size.
    """
    width, height = image.size
    if size is None or (width, height) == (size, size):
        return np.array(image)
    short = min(width, height)
    side = short * (224 / 256 if short > size else 1)
    left, top = (width - side) / 2, (height - side) / 2
    return cut(image, (left, top, left + side, top + side), size, size)


def cut(image: Image, box: tuple[float, float, float, float], width: int, height: int) -> Pixels:
    """A box (left, top, right, bottom) resized, bilinear and antialiased, uint8 (H, W, 3)."""
    bilinear = need("PIL.Image", "vision").Resampling.BILINEAR
    return np.array(image.resize((width, height), bilinear, box=box))


@dataclass(frozen=True)
class Files:
    """Images that stay on disk: file `names` below `root`, decoded when they are asked for.

    `image_size=None` takes every image in its own size, which must then be the same for all.
    """

    root: Path
    names: tuple[str, ...]
    image_size: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, ids: Iterable[int]) -> Files:
        return replace(self, names=tuple(self.names[i] for i in ids))

    def path(self, i: int) -> Path:
        return self.root / self.names[i]

    def fetch(self, ids: Sequence[int]) -> Tensor:
        """The evaluation view of each file, uint8 (B, 3, H, W)."""
        return self.stack(ids, [self.centred(i) for i in ids])

    def load(self) -> Tensor:
        """All files at once, decoded on every core, uint8 (N, 3, H, W)."""
        everything = range(len(self))
        with ThreadPoolExecutor() as pool:
            return self.stack(everything, list(pool.map(self.centred, everything)))

    def centred(self, i: int) -> Pixels:
        return centred(decode(self.path(i)), self.image_size)

    def augmented(self, ids: Sequence[int], augment: Augment, seed: int, view: ArrayLike) -> Tensor:
        """The training view of each file, uint8 (B, 3, H, W)."""
        if augment.resized_crop is None:
            return augment(self.fetch(ids), seed, view, ids)
        drawn = uniforms(derive(seed, "resized crop"), view, ids, 22)
        scale = augment.resized_crop
        crops = [self.cropped(i, row[None], scale) for i, row in zip(ids, drawn, strict=True)]
        return replace(augment, resized_crop=None)(self.stack(ids, crops), seed, view, ids)

    def cropped(self, i: int, drawn: NDArray[np.float64], scale: tuple[float, float]) -> Pixels:
        image = decode(self.path(i))
        top, left, tall, wide = boxes(drawn, image.height, image.width, scale)[0].tolist()
        width, height = image.size if self.image_size is None else (self.image_size,) * 2
        return cut(image, (left, top, left + wide, top + tall), width, height)

    def stack(self, ids: Sequence[int], pixels: Sequence[Pixels]) -> Tensor:
        for i, image in zip(ids, pixels, strict=True):
            if image.shape != pixels[0].shape:
                raise LimbeckError(
                    f"images must be of one size, {self.path(i)} is {across(image)} and "
                    f"{self.path(ids[0])} is {across(pixels[0])}; give an image size"
                )
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


def across(image: Pixels) -> str:
    """Width x height."""
    return f"{image.shape[1]}x{image.shape[0]}"


def scan(files: Files) -> list[int]:
    """Decodes every file and returns the positions of those that are not readable images."""

    def broken(i: int) -> bool:
        try:
            decode(files.path(i))
        except LimbeckError:
            return True
        return False

    with ThreadPoolExecutor() as pool:
        return [i for i, bad in enumerate(pool.map(broken, range(len(files)))) if bad]
