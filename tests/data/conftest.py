from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import Images

MakeFolder = Callable[..., Path]


def draw(i: int, width: int = 20, height: int = 16) -> Image.Image:
    """A smooth coloured picture that no other number has."""
    y, x = np.mgrid[:height, :width]
    channels = [(x * 7 + i * 31) % 256, (y * 9 + i * 17) % 256, (x + y + i * 53) % 256]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    return draw


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes an ImageFolder of JPEGs with so many images in each class."""

    def make(name: str = "train", width: int = 20, height: int = 16, **classes: int) -> Path:
        number = 0
        for kind, count in classes.items():
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(count):
                draw(number, width, height).save(tmp_path / name / kind / f"{i}.jpg", quality=95)
                number += 1
        return tmp_path / name

    return make


@pytest.fixture
def noise() -> Images:
    """60 images of 3 classes, unevenly spread, in memory."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (60, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    return Images(pixels, labels, ("a", "b", "c"))
