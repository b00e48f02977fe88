"""The sigmoid losses: against their oracles, unknown targets, extremes, and what they refuse."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from tests.losses import oracles_sigmoid
from tests.losses.subject import INF, NAN, finite, normal, same, scored, seeds
from tests.losses.test_oracles import (
    ITEMS,
    Case,
    Draw,
    arrays,
    drawn_items,
    examples,
    same_in_numpy,
    same_in_torch,
)

from limbeck import losses, truth
from limbeck.losses.known import known

each = pytest.mark.parametrize
NAMES = ["binary_kl", "binary_cross_entropy", "binary_hard", "squared_error"]
UNKNOWN = {"binary_cross_entropy": -100.0, "squared_error": NAN}
BOTH = [(losses.binary_cross_entropy, -100.0), (losses.squared_error, NAN)]


@st.composite
def cases(draw: Draw, name: str) -> Case:
    shape, classes = draw(ITEMS), draw(st.integers(1, 4))
    rng, (s, t) = arrays(draw, (*shape, classes), (*shape, classes))
    loss = getattr(losses, name)
    takes = inspect.signature(loss).parameters
    call, twin = drawn_items(draw, rng, shape if "axis" in takes else s.shape)
    if name == "binary_cross_entropy":
        t = np.where(rng.random(t.shape) < 0.5, t > 0, 1 / (1 + np.exp(-t)))
    if name in UNKNOWN:
        t = np.where(rng.random(t.shape) < draw(st.sampled_from([0.0, 0.4, 1.0])), UNKNOWN[name], t)
    if "temperature" in takes:
        call["temperature"] = twin["temperature"] = draw(st.floats(0.5, 8))
    axis = draw(st.integers(-1, len(shape))) if "axis" in takes else -1
    call |= {"axis": axis} if "axis" in takes else {}
    return Case(loss, getattr(oracles_sigmoid, name), s, t, call, twin, axis)


@each("name", NAMES)
@examples
@given(data=st.data())
def test_torch_value_and_gradient(name: str, data: st.DataObject) -> None:
    same_in_torch(data.draw(cases(name)))


@each("name", NAMES)
@examples
@given(data=st.data())
def test_numpy_value(name: str, data: st.DataObject) -> None:
    same_in_numpy(data.draw(cases(name)))


# ---- binary_kl


@examples
@given(
    seed=seeds,
    batch=st.integers(1, 5),
    temperature=st.floats(0.05, 20),
    scale=st.floats(0.1, 1e4),
)
def test_exactly_zero_at_equality_at_any_temperature(
    seed: int, batch: int, temperature: float, scale: float
) -> None:
    s = normal(seed, batch, 5, scale=scale).float()
    value, grad = scored(losses.binary_kl, s, s.clone(), temperature=temperature)
    assert value == 0
    assert grad.count_nonzero() == 0


def test_two_classes_of_a_softmax_are_one_sigmoid() -> None:
    s, t = normal(0, 2, 4, 1)
    pair = [torch.cat([torch.zeros_like(x), x], 1) for x in (s, t)]
    same(losses.binary_kl(s, t, temperature=3.0), losses.kl(*pair, temperature=3.0))


def test_the_gradient_is_the_softened_difference() -> None:
    s, t = normal(0, 2, 4, 3)
    _, grad = scored(losses.binary_kl, s, t, temperature=4.0)
    same(grad, 4 * ((s / 4).sigmoid() - (t / 4).sigmoid()) / 4)


def test_a_logit_that_is_sure_on_both_sides_keeps_its_digits() -> None:
    """1 - p underflows in the difference of two softplus of 30, not in the log ratios."""
    s, t = torch.tensor([[35.0]]), torch.tensor([[30.0]])
    exact = losses.binary_kl(s.double(), t.double())
    value, grad = scored(losses.binary_kl, s, t)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert grad.item() == pytest.approx(-9.29e-14, rel=1e-2)


@each("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@each("temperature", [0.05, 1.0, 4.0])
def test_huge_logits_are_finite(temperature: float, dtype: torch.dtype) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, -1e4]], dtype=dtype)
    value, grad = scored(losses.binary_kl, s, s.flip(0), temperature=temperature)
    assert finite(value, grad)
    assert value > 0
    by_source = s.flip(0).requires_grad_()
    losses.binary_kl(s, by_source, temperature=temperature).backward()
    assert finite(by_source.grad)


def test_a_certain_mistake_costs_its_distance() -> None:
    s, t = torch.tensor([[1e4], [-1e4]]), torch.tensor([[-1e4], [-1e4]])
    assert losses.binary_kl(s, t).item() == pytest.approx(5e3)


def test_a_learned_temperature_has_a_gradient() -> None:
    s, t = normal(0, 2, 3, 4)
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: losses.binary_kl(s, t, temperature=x), temperature)


# ---- the hard terms


def test_binary_cross_entropy_sums_over_classes_and_averages_over_items() -> None:
    s, y = normal(0, 4, 3), (normal(1, 4, 3) > 0).double()
    element_mean = F.binary_cross_entropy_with_logits(s, y)
    same(losses.binary_cross_entropy(s, y), 3 * element_mean)
    same(losses.binary_cross_entropy(s, y.long()), 3 * element_mean)


def test_squared_error_averages_over_numbers() -> None:
    s, t = normal(0, 2, 4, 3)
    same(losses.squared_error(s, t), F.mse_loss(s, t))


@each(("loss", "unknown"), BOTH)
def test_nothing_known_gives_zero_with_a_gradient_path(loss: Any, unknown: float) -> None:
    s = normal(0, 3, 2)
    value, grad = scored(loss, s, torch.full_like(s, unknown))
    assert value == 0
    assert grad.count_nonzero() == 0


def test_an_item_of_which_nothing_is_known_is_none_beside_a_mask_too() -> None:
    s, y = normal(0, 3, 2), torch.tensor([[1.0, 0.0], [-100.0, -100.0], [0.0, 1.0]]).double()
    mask = torch.tensor([True, True, False])
    same(losses.binary_cross_entropy(s, y, mask=mask), losses.binary_cross_entropy(s[:1], y[:1]))


def test_a_source_that_is_undecided_says_no() -> None:
    s, t = torch.tensor([[2.0]]), torch.tensor([[0.0]])
    same(losses.binary_hard(s, t), losses.binary_cross_entropy(s, t))


@each("garbage", [NAN, INF, -INF, 1e30])
@each(("loss", "unknown"), BOTH)
def test_what_stands_beside_an_unknown_target_does_not_matter(
    loss: Any, unknown: float, garbage: float
) -> None:
    s, y = normal(0, 4, 3), (normal(1, 4, 3) > 0).double()
    y[0, 1] = y[2] = unknown
    wild = torch.where((y == unknown) | y.isnan(), garbage, s)
    value, grad = scored(loss, wild, y)
    expected, expected_grad = scored(loss, s, y)
    same(value, expected)
    same(grad, expected_grad)


@each(("loss", "unknown"), BOTH)
@each("cut", [0, 1, 3, 6])
def test_micro_batches_share_the_count_of_what_is_known(
    loss: Any, unknown: float, cut: int
) -> None:
    s, y = normal(0, 6, 3), (normal(1, 6, 3) > 0).double()
    y[0] = y[1, 2] = y[4, :2] = unknown
    count = int(known(loss, y).sum())
    assert count == {losses.binary_cross_entropy: 5, losses.squared_error: 12}[loss]
    parts = [scored(loss, s[rows], y[rows], count=count) for rows in (slice(cut), slice(cut, None))]
    whole, grad = scored(loss, s, y)
    same(parts[0][0] + parts[1][0], whole)
    same(torch.cat([parts[0][1], parts[1][1]]), grad)


@each("loss", [losses.binary_cross_entropy, losses.binary_hard])
def test_huge_logits_against_labels_are_finite(loss: Any) -> None:
    s = 1e4 * normal(0, 4, 3).float().sign()
    value, grad = scored(loss, s, (normal(1, 4, 3) > 0).float())
    assert finite(value, grad)
    assert value > 0


def test_binary_cross_entropy_is_never_negative() -> None:
    s, y = normal(0, 50, 3, scale=9.0), normal(1, 50, 3).sigmoid()
    assert all(
        losses.binary_cross_entropy(a[None], b[None]) >= 0 for a, b in zip(s, y, strict=True)
    )


@each("name", NAMES)
def test_shapes_that_differ_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 1\)"):
        getattr(losses, name)(torch.ones(2, 3), torch.ones(2, 1))


@each("name", NAMES)
def test_a_count_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="count must be positive, got"):
        getattr(losses, name)(torch.ones(2, 3), torch.zeros(2, 3), count=0)


# ---- truth


TARGETS = torch.tensor([[1.0, 0.0], [NAN, 1.0], [NAN, NAN]])


@each(
    ("loss", "target", "items"),
    [
        (losses.cross_entropy, torch.tensor([1, -100, 0]), 2),
        (losses.cross_entropy, torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0]]), 2),
        (losses.binary_cross_entropy, TARGETS.nan_to_num(-100), 2),
        (losses.binary_cross_entropy, torch.zeros(3, 2, dtype=torch.int64), 3),
        (losses.squared_error, TARGETS, 3),
        (losses.squared_error, torch.zeros(3, 2), 6),
    ],
)
def test_the_truth_counts_the_items_of_its_loss(
    loss: Any, target: torch.Tensor, items: int
) -> None:
    assert int(truth(loss=loss).items({"target": target})["truth"]) == items


def test_the_truth_counts_what_a_mask_leaves() -> None:
    mask = torch.tensor([False, True, True])
    hard = truth(loss=losses.squared_error, given={"mask": "data:mask"})
    assert int(hard.items({"target": TARGETS, "mask": mask})["truth"]) == 1


def test_a_loss_of_your_own_counts_rows() -> None:
    assert truth(loss=F.l1_loss).items({"target": TARGETS}) == {}


def test_smoothing_is_the_cross_entropys() -> None:
    with pytest.raises(ValueError, match=r"binary_cross_entropy takes .* got 'label_smoothing'"):
        truth(loss=losses.binary_cross_entropy, label_smoothing=0.1)
