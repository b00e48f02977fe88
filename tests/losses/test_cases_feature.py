"""Public bug reports about feature losses by their ids, and the edges of these losses."""

import numpy as np
import pytest
import torch
from hypothesis import given
from tests.losses.subject import batches, examples, finite, normal, same, scored, seeds
from tests.losses.subjects_feature import FEATURES, two_layers

from limbeck import losses

each = pytest.mark.parametrize
HALVES = [torch.float16, torch.bfloat16]
WHOLE = ["nst", "fsp", "ab", "byot_hint", "ofd", "vid"]  # free of resolution


@each("dtype", HALVES)
@each("name", FEATURES)
def test_b016_large_features_in_half_precision_with_cross_entropy(
    name: str, dtype: torch.dtype
) -> None:
    loss, draw, *_ = FEATURES[name]
    scale = 20 if name == "fsp" else 100  # the gradient of fsp grows as the cube
    s, t = (scale * x.to(dtype) for x in draw(0, 2))
    s.requires_grad_()
    logits = s.reshape(2, -1)
    total = 0.5 * losses.cross_entropy(logits, torch.tensor([0, 1])) + 0.5 * loss(s, t)
    assert total.dtype == torch.float32
    (grad,) = torch.autograd.grad(total, s)
    assert finite(total, grad)


@each("name", FEATURES)
def test_b044_a_masked_sample_leaves_the_other_alone(name: str) -> None:
    loss, draw, *_ = FEATURES[name]
    s, t = draw(0, 2)
    value, grad = scored(loss, s, t, mask=torch.tensor([True, False]))
    same(value, loss(s[:1], t[:1]))
    assert grad[1].count_nonzero() == 0


@each("size", [(9, 9), (1, 1), (8, 9)])
@each("name", ["ft", "hcl", "ab", "byot_hint", "hint"])
def test_b107_maps_of_other_sizes_are_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(1, 4, 8, 8\) and \(1, 4, "):
        getattr(losses, name)(torch.ones(1, 4, 8, 8), torch.ones(1, 4, *size))


@each("size", [(9, 9), (1, 1), (3, 16)])
@each("name", ["nst", "attention"])
def test_b107_constant_maps_of_other_sizes_are_alike(name: str, size: tuple[int, int]) -> None:
    s, t = torch.full((1, 4, 8, 8), 2.0).double(), torch.full((1, 6, *size), 3.0).double()
    assert getattr(losses, name)(s, t) == pytest.approx(0, abs=1e-12)


@each("dtype", [torch.float64, torch.float32, *HALVES])
@each("name", FEATURES)
def test_dead_maps_are_finite(name: str, dtype: torch.dtype) -> None:
    loss, draw, *_ = FEATURES[name]
    s, t = (x.to(dtype) for x in draw(0, 2))
    nothing, off = torch.zeros_like(s), torch.zeros_like(t)
    partly = s.clone()
    partly[0] = partly[1, 0] = 0
    for student, source in [(nothing, t), (s, off), (nothing, off), (partly, t)]:
        assert finite(*scored(loss, student, source))


@each("name", ["nst", "ft", "cat_kd", "sad", "hcl", "fsp", "kdsvd", "jacobian", "ofd"])
def test_dead_maps_are_alike(name: str) -> None:
    loss, draw, *_ = FEATURES[name]
    nothing = torch.zeros_like(draw(0, 2)[0])
    value, grad = scored(loss, nothing, nothing.clone())
    assert value == 0
    assert grad.count_nonzero() == 0


@each("name", WHOLE)
@examples
@given(seed=seeds, batch=batches)
def test_resolution_does_not_matter(name: str, seed: int, batch: int) -> None:
    loss, draw, *_ = FEATURES[name]
    s, t = draw(seed, batch)
    double = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (s, t)]
    same(loss(*double), loss(s, t))


@each(("name", "ratio"), [("ft", 0.5), ("sad", 1 / 16)])
def test_what_falls_with_resolution_falls_as_stated(name: str, ratio: float) -> None:
    """At 2H x 2W: FT as 1/sqrt(HW); SAD as 1/(HW)^2."""
    loss, draw, *_ = FEATURES[name]
    s, t = draw(0, 2)
    double = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (s, t)]
    same(loss(*double), ratio * loss(s, t))


def test_huge_features_are_finite() -> None:
    for name, (loss, draw, *_) in FEATURES.items():
        s, t = (1e4 * x.float() for x in draw(0, 2))
        assert finite(*scored(loss, s, t)), name


def test_patterns_do_not_depend_on_the_order_of_channels() -> None:
    s, t = normal(0, 2, 2, 5, 3, 3)
    same(losses.nst(s[:, [3, 1, 0, 4, 2]], t), losses.nst(s, t))
    same(losses.sad(s / 9, t[:, [3, 1, 0, 4, 2]] / 9), losses.sad(s / 9, t / 9))


def test_a_direction_has_no_sign_and_no_scale() -> None:
    loss = two_layers(losses.kdsvd)
    s, t = normal(0, 2, 2, 6, 3, 3)
    flipped = s.clone()
    flipped[:, :3] *= -5
    same(loss(flipped, t), loss(s, t))


@each("rank", [1, 2])
def test_equal_singular_values_have_a_finite_gradient(rank: int) -> None:
    """Orthogonal columns of one length: the singular vectors are anybody's choice."""
    s = torch.zeros(1, 6, 2, 2).double()
    s[0, :rank, 0, :rank] = s[0, 3 : 3 + rank, 0, :rank] = torch.eye(rank).double()
    for student, source in [(s, normal(0, 1, 6, 2, 2)), (s, s.clone())]:
        value, grad = scored(two_layers(losses.kdsvd), student, source)
        assert finite(value, grad)
        assert grad.abs().max() < 10


@each(
    ("name", "shapes", "message"),
    [
        ("nst", [(2, 3, 4, 4), (3, 3, 4, 4)], r"one batch, got \(2, 3, 4, 4\) and \(3, 3, 4, 4\)"),
        ("sad", [(2, 3), (2, 3)], r"must be maps \(B, C, H, W\).* got \(2, 3\)"),
        ("cat_kd", [(2, 3, 4, 4), (2, 4, 4, 4)], "one class count"),
        ("hcl", [(2, 3, 4), (2, 3, 4)], r"must be maps \(B, C, H, W\)"),
        ("jacobian", [(2, 3), (2, 4)], "one shape"),
        ("fsp", [(2, 3, 4, 4), (2, 5, 4, 4), (2, 3, 4, 4), (2, 3, 4, 4)], "give the student a pro"),
        ("kdsvd", [(2, 3, 4, 4), (2, 3, 4, 4), (2, 3, 4, 4), (2, 5, 4, 4)], "channels of the othe"),
        ("ofd", [(2, 3, 4, 4), (2, 3, 4, 4), (4,)], r"margin must be of shape \(3,\), got \(4,\)"),
        ("vid", [(2, 3, 4, 4), (2, 3, 4, 4), (1,)], r"variance must be of shape \(3,\), got \(1,"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    name: str, shapes: list[tuple[int, ...]], message: str
) -> None:
    for make in (torch.ones, np.ones):
        with pytest.raises(ValueError, match=message):
            getattr(losses, name)(*(make(shape) for shape in shapes))


@each("k", [0, 4])
def test_more_directions_than_there_are_are_refused(k: int) -> None:
    f = torch.ones(1, 3, 2, 2)
    with pytest.raises(ValueError, match=r"k must be in \[1, 3\].* got"):
        losses.kdsvd(f, f, f, f, k=k)


@each("margin", [0.0, -1.0])
def test_a_margin_that_is_not_positive_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=f"margin must be positive, got {margin}"):
        losses.ab(torch.ones(1, 2), torch.ones(1, 2), margin=margin)
