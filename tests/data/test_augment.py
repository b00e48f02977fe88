import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import Augment, derive, uniforms
from limbeck.data.augment import reflected
from limbeck.data.gather import take
from limbeck.data.resized import boxes, crop_to_boxes
from limbeck.errors import LimbeckError

EVERYTHING = [
    Augment(crop=2, flip=True),
    Augment(crop=2, padding="reflect"),
    Augment(resized_crop=(0.2, 1.0), flip=True),
    Augment(flip=True, randaugment=(2, 9)),
    Augment(crop=1, randaugment=(3, 30)),
]


def batch(n: int, size: int = 12, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, channels, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("augment", EVERYTHING)
@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, 15), min_size=1, max_size=16), view=st.integers(0, 10_000))
def test_b101_a_row_depends_on_its_id_and_view_alone(augment, rows, view):
    images, ids = batch(16), torch.arange(100, 116)
    together = augment(images, 3, view, ids)
    apart = augment(images[rows], 3, view, ids[rows])
    assert torch.equal(apart, together[rows])


@pytest.mark.parametrize("augment", EVERYTHING)
def test_b101_views_seeds_and_ids_change_the_pixels(augment):
    images, ids = batch(1).expand(64, -1, -1, -1), torch.arange(64)
    first = augment(images, 0, 0, ids)
    assert len({row.numpy().tobytes() for row in first}) > 1
    assert not torch.equal(first, augment(images, 0, 1, ids))
    assert not torch.equal(first, augment(images, 1, 0, ids))


@pytest.mark.parametrize("augment", EVERYTHING)
def test_a_view_for_each_row(augment):
    images, ids, view = batch(6), torch.arange(6), torch.tensor([0, 1, 0, 2, 1, 0])
    mixed = augment(images, 5, view, ids)
    for v in range(3):
        assert torch.equal(mixed[view == v], augment(images, 5, v, ids)[view == v])


@pytest.mark.parametrize("augment", EVERYTHING)
def test_shape_type_and_input_stay(augment):
    for images in (batch(4), batch(4, channels=1)):
        before = images.clone()
        after = augment(images, 0, 0, torch.arange(4))
        assert after.shape == images.shape
        assert after.dtype == torch.uint8
        assert torch.equal(images, before)


@pytest.mark.parametrize(("padding", "mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_crop_and_flip_equal_pad_cut_and_mirror(padding, mode):
    images, ids, k = batch(40), torch.arange(40), 3
    out = Augment(crop=k, flip=True, padding=padding)(images, 9, 2, ids)
    drawn = uniforms(derive(9, "crop and flip"), 2, ids, 3)
    padded = torch.nn.functional.pad(images.float(), (k, k, k, k), mode).to(torch.uint8)
    for row, (dy, dx, mirror) in zip(range(40), drawn, strict=True):
        top, left = int(dy * (2 * k + 1)), int(dx * (2 * k + 1))
        expected = padded[row, :, top : top + 12, left : left + 12]
        assert torch.equal(out[row], expected.flip(-1) if mirror < 0.5 else expected)


def test_shifts_and_flips_are_evenly_spread():
    ramp = torch.arange(1, 26, dtype=torch.uint8).view(1, 1, 5, 5).expand(9000, -1, -1, -1)
    out = Augment(crop=1, flip=True)(ramp, 0, 0, torch.arange(9000))
    centre, counts = out[:, 0, 2, 2].unique(return_counts=True)
    assert centre.tolist() == [7, 8, 9, 12, 13, 14, 17, 18, 19]
    assert counts.min() > 850
    mirrored = (out[:, 0, 2, 1] > out[:, 0, 2, 3]).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=0.03)


def test_reflection_does_not_repeat_the_edge():
    assert reflected(torch.arange(-2, 6), 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


def test_take_gives_zeros_outside():
    image = torch.ones(1, 2, 3, 3, dtype=torch.uint8)
    rows, columns = torch.tensor([[[-1], [0], [3]]]), torch.tensor([[[0, 3, 2]]])
    assert take(image, rows, columns)[0, 1].tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0]]


def test_boxes_lie_inside_and_have_the_area_and_aspect_asked_for():
    drawn = uniforms(0, 0, torch.arange(4000), 22)
    top, left, tall, wide = boxes(drawn, 60, 90, (0.25, 0.5)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + tall <= 60).all()
    assert (left + wide <= 90).all()
    share, aspect = tall * wide / 5400, wide / tall
    assert 0.24 < share.min() < 0.26
    assert 0.49 < share.max() < 0.51
    assert share.mean() == pytest.approx(0.375, abs=0.01)
    assert 0.72 < aspect.min() < aspect.max() < 1.38
    assert top.min() == 0
    assert (top + tall).max() == 60


def test_boxes_fall_back_to_the_middle_of_a_narrow_image():
    drawn = uniforms(0, 0, torch.arange(20), 22)
    assert (boxes(drawn, 10, 200, (0.9, 1.0)) == [0, 93, 10, 13]).all()


def test_a_box_that_is_the_image_changes_nothing():
    images = batch(3)
    whole = boxes(uniforms(0, 0, [0, 1, 2], 22), 12, 12, (1.0, 1.0))
    square = (whole[:, 2:] == 12).all(axis=1)
    whole[~square] = [0, 0, 12, 12]
    assert torch.equal(crop_to_boxes(images, whole), images)


def test_resized_crop_equals_cut_and_resize():
    images = batch(8)
    box = boxes(uniforms(1, 0, torch.arange(8), 22), 12, 12, (0.3, 1.0))
    for row, out in enumerate(crop_to_boxes(images, box)):
        top, left, tall, wide = box[row]
        part = images[row : row + 1, :, top : top + tall, left : left + wide].float()
        # pixels at the border of the box look beyond it here and not there
        expected = torch.nn.functional.interpolate(part, (12, 12), mode="bilinear")[0]
        assert (out.float() - expected)[:, 2:-2, 2:-2].abs().max() <= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop": -1}, "`crop` must be a number of pixels >= 0, got -1"),
        ({"crop": 4, "resized_crop": (0.1, 1.0)}, "exclude each other"),
        ({"resized_crop": (0.5, 0.2)}, r"`resized_crop` must be .* got \(0.5, 0.2\)"),
        ({"randaugment": (2, 31)}, r"`randaugment` must be .* got \(2, 31\)"),
        ({"padding": "wrap"}, "`padding` must be zero or reflect, got 'wrap'"),
    ],
)
def test_bad_fields_are_named(fields, message):
    with pytest.raises(LimbeckError, match=message):
        Augment(**fields)


def test_a_crop_as_large_as_the_image_is_refused():
    with pytest.raises(LimbeckError, match="`crop` must be below 12, got 12"):
        Augment(crop=12)(batch(1), 0, 0, [0])
