"""What a model does to images before it looks at them; public reports by their ids."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from tests.networks import Convs
from torch import Tensor

from limbeck import Distiller, Match, Reader, losses
from limbeck.errors import LimbeckError
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess, Renormalise

HALF = (0.5, 0.5, 0.5)


def images(channels: int = 3, height: int = 8, width: int = 8, rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (rows, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_images_are_scaled_and_normalised_in_float32(dtype: torch.dtype) -> None:
    x = Preprocess()(images().to(dtype))
    expected = (images().float() / 255 - column(IMAGENET_MEAN)) / column(IMAGENET_STD)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)


def test_black_and_white() -> None:
    x = Preprocess(mean=(0.5,), std=(0.25,))(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert x.flatten().tolist() == pytest.approx([-2.0, 2.0])


@pytest.mark.parametrize(
    ("size", "shape"), [(4, (4, 4)), ((4, 6), (4, 6)), (16, (16, 16)), (None, (8, 8))]
)
def test_size(size: int | tuple[int, int] | None, shape: tuple[int, int]) -> None:
    x = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3, size=size)(images())
    assert x.shape == (2, 3, *shape)
    expected = F.interpolate(images() / 255, shape, mode="bilinear", antialias=True)
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)


def test_a_size_that_is_there_already_changes_nothing() -> None:
    assert torch.equal(Preprocess(size=8)(images()), Preprocess()(images()))


def test_one_channel_is_repeated() -> None:
    grey = images(1)
    assert torch.equal(Preprocess()(grey), Preprocess()(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels: int) -> None:
    with pytest.raises(
        LimbeckError, match=f"must have 3 channels, as the mean has, got {channels}"
    ):
        Preprocess()(images(channels))


def test_memory_format() -> None:
    x = Preprocess(channels_last=True)(images())
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, Preprocess()(images()))


def test_the_images_stay_as_they_were() -> None:
    x = images().float()
    before = x.clone()
    Preprocess()(x)
    assert torch.equal(x, before)


def test_b106_from_one_normalisation_to_another() -> None:
    adapt = Renormalise(IMAGENET_MEAN, IMAGENET_STD, HALF, HALF)
    y = adapt(torch.ones(1, 3, 1, 1)).flatten().tolist()
    assert y == pytest.approx([0.428, 0.36, 0.262], abs=1e-6)


def test_b106_renormalising_is_normalising_the_raw_image() -> None:
    adapt = Renormalise(IMAGENET_MEAN, IMAGENET_STD, HALF, HALF)
    torch.testing.assert_close(
        adapt(Preprocess()(images())), Preprocess(HALF, HALF)(images()), rtol=1e-4, atol=1e-5
    )


def test_b106_raw_images_and_other_channels_are_refused() -> None:
    adapt = Renormalise(IMAGENET_MEAN, IMAGENET_STD, HALF, HALF)
    with pytest.raises(LimbeckError, match=r"images must be normalised floats, got torch\.uint8"):
        adapt(images())
    with pytest.raises(LimbeckError, match="images must have 3 channels, got 1"):
        adapt(torch.ones(1, 1, 2, 2))


def test_b106_grey_images_have_one_mean() -> None:
    adapt = Renormalise((0.2,), (0.5,), (0.5,), (0.25,))
    assert adapt(torch.ones(1, 1, 1, 1)).item() == pytest.approx(0.8)


def test_b106_teacher_and_student_view_one_image_differently() -> None:
    student, teacher = Convs(), Convs()
    views = {"student": Preprocess(size=8), "teacher": Preprocess(HALF, HALF, size=16)}
    seen: dict[str, Tensor] = {}
    for name, model in (("student", student), ("teacher", teacher)):
        model.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    Distiller(
        Reader(student, inputs=views["student"]),
        Reader(teacher, inputs=views["teacher"]),
        1.0 * Match(losses.kl),
    )(images())
    assert all(torch.equal(seen[name], view(images())) for name, view in views.items())
    assert seen["teacher"].shape[-1] == 16


@pytest.mark.parametrize("adapter", [Preprocess(size=8), Renormalise(HALF, HALF, HALF, HALF)])
def test_adapters_are_values(adapter: Preprocess | Renormalise) -> None:
    assert pickle.loads(pickle.dumps(adapter)) == adapter
    assert len({adapter, pickle.loads(pickle.dumps(adapter))}) == 1
