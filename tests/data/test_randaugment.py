import math

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from limbeck.data import randaugment as own


def smooth(n: int = 5, size: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 4, 4, generator=generator) * 200 + 20
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return fine.to(torch.uint8)


COLOURS = {
    "brightness": (own.brightness, lambda x, s: tv.adjust_brightness(x, 1 + 0.9 * s)),
    "saturation": (own.saturation, lambda x, s: tv.adjust_saturation(x, 1 + 0.9 * s)),
    "contrast": (own.contrast, lambda x, s: tv.adjust_contrast(x, 1 + 0.9 * s)),
    "sharpness": (own.sharpness, lambda x, s: tv.adjust_sharpness(x, 1 + 0.9 * s)),
    "posterise": (own.posterise, lambda x, s: tv.posterize(x, 8 - round(4 * abs(s)))),
    "solarise": (own.solarise, lambda x, s: tv.solarize(x, 255 * (1 - abs(s)))),
    "autocontrast": (own.autocontrast, lambda x, s: tv.autocontrast(x)),
    "equalise": (own.equalise, lambda x, s: tv.equalize(x)),
}


@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", COLOURS)
def test_colours_agree_with_torchvision(name, strength):
    ours, theirs = COLOURS[name]
    images = smooth()
    out = ours(images, torch.full((5,), strength))
    expected = torch.stack([theirs(image, strength) for image in images])
    assert (out.int() - expected.int()).abs().max() <= 2


def affine(images: torch.Tensor, **given) -> torch.Tensor:
    neutral = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    return tv.affine(images, **{**neutral, **given})


SHAPES = {
    "shear_x": lambda x, s: affine(x, shear=[math.degrees(math.atan(0.3 * s)), 0], center=[0, 0]),
    "shear_y": lambda x, s: affine(x, shear=[0, math.degrees(math.atan(0.3 * s))], center=[0, 0]),
    "translate_x": lambda x, s: affine(x, translate=[int(s * 150 / 331 * 24), 0]),
    "translate_y": lambda x, s: affine(x, translate=[0, int(s * 150 / 331 * 24)]),
    "rotate": lambda x, s: tv.rotate(x, 30 * s),
}


@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.3, 1.0])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_agree_with_torchvision(name, strength):
    """Nearest pixels may be rounded to the other side here and there."""
    images = smooth()
    out = getattr(own, name)(images, torch.full((5,), strength))
    away = (out.int() - SHAPES[name](images, strength).int()).abs()
    assert (away > 12).float().mean() < 0.03


def test_a_flat_image_survives_everything_that_divides_by_its_range():
    flat = torch.full((2, 3, 6, 6), 77, dtype=torch.uint8)
    for operation in (own.autocontrast, own.equalise, own.contrast, own.sharpness):
        assert torch.equal(operation(flat, torch.tensor([0.5, -0.5])), flat)


def test_each_row_draws_its_operation_and_all_are_drawn():
    images = smooth(1).expand(400, -1, -1, -1)
    out = own.randaugment(images, 1, 15, seed=0, view=0, ids=torch.arange(400))
    assert len({row.numpy().tobytes() for row in out}) == 1 + 4 + 2 * 9


def test_magnitude_zero_leaves_geometry_and_blends_alone():
    images = smooth()
    for operation in own.OPERATIONS[:10]:
        assert torch.equal(operation(images, torch.zeros(5)), images)
