from dataclasses import replace

import pytest
import torch

from limbeck.data import Images, carve, open_images, same_classes, withhold
from limbeck.errors import LimbeckError


def pixels(n: int) -> torch.Tensor:
    return torch.zeros(n, 1, 2, 2, dtype=torch.uint8)


def test_fetch_gives_rows_by_id(noise):
    assert torch.equal(noise.fetch(torch.tensor([5, 0, 5])), noise.pixels[[5, 0, 5]])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (pixels(2).float(), torch.tensor([0, 1]), "`pixels` must be uint8"),
        (pixels(2)[0], torch.tensor([0]), "`pixels` must be uint8"),
        (pixels(2), torch.tensor([0]), r"`labels` must be int64 \(2,\)"),
        (pixels(2), torch.tensor([0.0, 1.0]), "`labels` must be int64"),
        (pixels(2), torch.tensor([0, 2]), r"`labels` must be 0..1, .* got 0..2"),
        (pixels(2), torch.tensor([0, -1]), r"`labels` must be 0..1, .* got -1..0"),
    ],
)
def test_what_does_not_fit_is_refused(images, labels, message):
    with pytest.raises(LimbeckError, match=message):
        Images(images, labels, ("a", "b"))


def test_withhold_keeps_a_share_of_each_class(noise):
    few = withhold(noise, labels=12, seed=0)
    kept = few.labelled
    assert torch.bincount(few.labels[kept]).tolist() == [6, 4, 2]
    assert torch.equal(few.labels[kept], noise.labels[kept])
    assert int((few.labels == -100).sum()) == 48
    assert torch.equal(few.pixels, noise.pixels)


def test_withhold_is_stable_and_grows(noise):
    few, more = (set(withhold(noise, n, seed=3).labelled.tolist()) for n in (6, 30))
    assert few == set(withhold(noise, 6, seed=3).labelled.tolist())
    assert few != set(withhold(noise, 6, seed=4).labelled.tolist())
    assert few < more


@pytest.mark.parametrize("labels", [3, 4, 59, 60])
def test_withhold_at_its_limits(noise, labels):
    few = withhold(noise, labels, seed=0)
    assert len(few.labelled) == labels
    assert (torch.bincount(few.labels[few.labelled], minlength=3) >= 1).all()


@pytest.mark.parametrize("labels", [2, 61])
def test_withhold_needs_one_label_a_class_and_has_no_more_than_all(noise, labels):
    with pytest.raises(LimbeckError, match=rf"`labels` must be 3 .* to 60 \(all\), got {labels}"):
        withhold(noise, labels, seed=0)


def test_two_hundred_of_two_thousand_digits():
    few = withhold(open_images("digits:train"), labels=200, seed=1)
    assert torch.bincount(few.labels[few.labelled]).tolist() == [20] * 10


def test_carve_divides_every_class(noise):
    train, valid = carve(noise, 0.2, seed=0)
    assert torch.bincount(train.labels).tolist() == [24, 16, 8]
    assert torch.bincount(valid.labels).tolist() == [6, 4, 2]
    rows = {row.numpy().tobytes() for part in (train, valid) for row in part.pixels}
    assert rows == {row.numpy().tobytes() for row in noise.pixels}


def test_carve_divides_withheld_rows_too(noise):
    _, valid = carve(withhold(noise, 30, seed=0), 0.5, seed=0)
    assert int((valid.labels == -100).sum()) == 15


def test_carve_refuses_what_cannot_be_divided(noise):
    with pytest.raises(LimbeckError, match="`fraction` must be between 0 and 1, got 1"):
        carve(noise, 1, seed=0)
    with pytest.raises(LimbeckError, match="two images of each class, 'b' has one"):
        carve(noise.subset(torch.tensor([0, 1, 30])), 0.5, seed=0)


def test_same_classes_names_both(noise):
    same_classes(noise, replace(noise))
    with pytest.raises(LimbeckError) as caught:
        same_classes(noise, replace(noise, classes=("a", "b", "d", "e")))
    assert str(caught.value) == (
        "classes must agree: train has 3 (a, b, c), valid has 4 (a, b, d, e); "
        "only train has c, only valid has d, e"
    )
    with pytest.raises(LimbeckError, match="only the order differs"):
        same_classes(noise, replace(noise, classes=("b", "a", "c")))
    with pytest.raises(LimbeckError, match=r"test has 4 .* only test has d, e"):
        same_classes(noise, replace(noise, classes=("a", "b", "d", "e")), "test")


def test_many_classes_are_not_all_listed(noise):
    many = replace(noise, classes=tuple(f"class {i}" for i in range(1000)))
    with pytest.raises(LimbeckError, match=r"valid has 1000 .*class 4 and 995 more"):
        same_classes(noise, many)
