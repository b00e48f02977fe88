"""Images of noise, where real ones would change nothing but the scores."""

import torch

from limbeck.data import Images

CLASSES = tuple("abcdefghij")


def noise(count: int, size: int = 32) -> Images:
    """So many images of ten classes, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % len(CLASSES), CLASSES)
