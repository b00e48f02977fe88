"""Losses on relations against their oracles: torch and NumPy values, gradients, drawn arguments."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.losses import oracles_relation
from tests.losses.oracles import gradient
from tests.losses.subject import normal, same, scored
from tests.losses.test_oracles import (
    MAPS,
    Case,
    Draw,
    arrays,
    drawn_items,
    examples,
    same_in_numpy,
    same_in_torch,
)

from limbeck import losses, ops
from limbeck.losses import relations

FEW = st.integers(1, 3)


def case(name: str, s: Any, t: Any, call: dict[str, Any], twin: dict[str, Any]) -> Case:
    return Case(getattr(losses, name), getattr(oracles_relation, name), s, t, call, twin)


@st.composite
def embeddings(draw: Draw, name: str) -> Case:
    """Samples whose widths differ."""
    batch = draw(st.integers(1, 5))
    rng, (s, t) = arrays(draw, *((batch, draw(st.integers(2, 4))) for _ in "st"))
    keys: dict[str, Any] = {"mask": rng.random(batch) < 0.7} if draw(st.booleans()) else {}
    if name == "cc":
        keys |= {"gamma": draw(st.floats(0.1, 2)), "order": draw(st.integers(1, 4))}
    return case(name, s, t, keys, keys)


@st.composite
def channels(draw: Draw) -> Case:
    """Maps of one number of channels whose sizes differ."""
    batch, width = draw(FEW), draw(FEW)
    rng, (s, t) = arrays(draw, *((batch, width, *draw(MAPS)) for _ in "st"))
    return case("ickd", s, t, *drawn_items(draw, rng, (batch,)))


@st.composite
def layers(draw: Draw) -> Case:
    """Two layers of either network, alike in channels and not in size."""
    batch, mine, theirs = draw(st.integers(1, 4)), draw(FEW), draw(FEW)
    shapes = [(batch, width, *draw(MAPS)) for width in (mine, theirs, mine, theirs)]
    rng, (s, t, s_next, t_next) = arrays(draw, *shapes)
    keys: dict[str, Any] = {"mask": rng.random(batch) < 0.7} if draw(st.booleans()) else {}
    keys |= {"s_next": s_next, "t_next": t_next}
    return case("irg_transform", s, t, keys, keys)


@st.composite
def memories(draw: Draw) -> Case:
    batch, width, negatives, samples = draw(FEW), draw(FEW), draw(FEW), draw(st.integers(2, 6))
    both = (batch, width), (batch, width), (samples, width), (samples, width)
    rng, (s, t, *remembered) = arrays(draw, *both)
    call, twin = drawn_items(draw, rng, (batch,))
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in remembered)
    own: dict[str, Any] = dict(zip(("memory_s", "memory_t"), unit, strict=True))
    own |= {"index": rng.integers(0, samples, (batch, 1 + negatives))}
    own |= {"temperature": draw(st.floats(0.3, 2))}
    own |= {"z_s": draw(st.floats(0.5, 20)), "z_t": draw(st.floats(0.5, 20))}
    return case("crd", s, t, call | own, twin | own)


CASES = {
    "cc": embeddings("cc"),
    "crd": memories(),
    "ickd": channels(),
    "irg_edge": embeddings("irg_edge"),
    "irg_transform": layers(),
    "linear_cka": embeddings("linear_cka"),
    "pkt": embeddings("pkt"),
    "sp": embeddings("sp"),
}


@pytest.mark.parametrize("name", CASES)
@examples
@given(data=st.data())
def test_torch_value_and_gradient(name: str, data: st.DataObject) -> None:
    same_in_torch(data.draw(CASES[name]))


@pytest.mark.parametrize("name", CASES)
@examples
@given(data=st.data())
def test_numpy_value(name: str, data: st.DataObject) -> None:
    same_in_numpy(data.draw(CASES[name]))


@examples
@given(data=st.data(), masked=st.booleans())
def test_crd_takes_its_constants_from_the_batch(data: st.DataObject, masked: bool) -> None:
    drawn = data.draw(memories())
    own = {name: x for name, x in drawn.call.items() if name not in ("z_s", "z_t", "mask")}
    own |= {"mask": np.arange(len(drawn.s)) > 0} if masked else {}
    weight = {"weight": drawn.twin["weight"]} if "weight" in own else {}
    expected = oracles_relation.crd(drawn.s, drawn.t, **own | weight)
    keys = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in own.items()}
    value = losses.crd(torch.from_numpy(drawn.s), torch.from_numpy(drawn.t), **keys)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    assert float(losses.crd(drawn.s, drawn.t, **own)) == pytest.approx(expected, rel=1e-10)


def test_the_memory_may_change_before_the_backward_pass() -> None:
    s, t, memory_s, memory_t = normal(0, 4, 6, 4)
    index = torch.arange(6)[:, None] + torch.tensor([0, 1, 3])

    def value(leaf: torch.Tensor) -> torch.Tensor:
        return losses.crd(leaf, t, memory_s, memory_t, index % 6, z_s=1.0, z_t=1.0)

    _, expected = scored(value, s)
    leaf = s.clone().requires_grad_()
    later = value(leaf)
    memory_t.zero_()
    assert torch.equal(torch.autograd.grad(later, leaf)[0], expected)


@pytest.mark.parametrize("shape", [(3, 1), (2, 4), (3,)])
def test_crd_without_a_negative_of_each_sample_is_refused(shape: tuple[int, ...]) -> None:
    s, memory = normal(0, 3, 4), normal(1, 5, 4)
    with pytest.raises(ValueError, match="name the sample and its negatives") as caught:
        losses.crd(s, s, memory, memory, torch.zeros(shape, dtype=torch.long))
    assert f"got {shape} beside (3, 4)" in str(caught.value)


@pytest.mark.parametrize(("mine", "theirs"), [((5, 4), (6, 4)), ((5, 3), (5, 3))])
def test_memories_that_do_not_fit_are_refused(
    mine: tuple[int, int], theirs: tuple[int, int]
) -> None:
    s, index = normal(0, 3, 4), torch.zeros(3, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="memories must be") as caught:
        losses.crd(s, s, torch.ones(mine), torch.ones(theirs), index)
    assert f"got {mine} and {theirs} beside (3, 4)" in str(caught.value)


@pytest.mark.parametrize("keys", [{"order": 0}, {"gamma": 0.0}])
def test_a_kernel_that_is_none_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="gamma must be positive and order at least 1"):
        losses.cc(normal(0, 3, 4), normal(1, 3, 4), **keys)


@pytest.mark.parametrize("samples", [1, 7, 59])
def test_the_angle_of_some_triples(samples: int) -> None:
    s, t = normal(0, 5, 3), normal(1, 5, 4)
    places = torch.stack(relations._triples(ops.of(s), 5, samples, s), 1).tolist()
    triples = [(a, b, c) for a, b, c in places]
    assert len(set(triples)) == samples
    assert set(triples) <= set(itertools.permutations(range(5), 3))
    value, grad = scored(losses.rkd_angle, s, t, samples=samples)
    twin = partial(oracles_relation.rkd_angle, t=t.numpy(), triples=triples)
    assert value.item() == pytest.approx(twin(s.numpy()), rel=1e-10)
    np.testing.assert_allclose(grad, gradient(twin, s.numpy()), rtol=0, atol=1e-7)
    mask = torch.tensor([True, True, False, True, True])
    alive = [triple for triple in triples if 2 not in triple]
    masked = losses.rkd_angle(s, t, samples=samples, mask=mask).item()
    assert masked == pytest.approx(oracles_relation.rkd_angle(s, t, alive), rel=1e-10)


@pytest.mark.parametrize("samples", [60, 1000])
def test_as_many_triples_as_there_are_are_all_of_them(samples: int) -> None:
    s, t = normal(0, 5, 3), normal(1, 5, 4)
    same(losses.rkd_angle(s, t, samples=samples), losses.rkd_angle(s, t))


@pytest.mark.parametrize("mask", [None, torch.tensor([True, False, True])])
def test_two_samples_have_no_angle(mask: Any) -> None:
    s, t = normal(0, 2 if mask is None else 3, 3), normal(1, 2 if mask is None else 3, 3)
    s[-1] = s[0]  # which would add the terms b = c
    value, grad = scored(losses.rkd_angle, s, t, mask=mask)
    assert value == 0
    assert grad.count_nonzero() == 0


def test_some_triples_are_spread_over_the_batch() -> None:
    a, b, c = relations._triples(ops.of(normal(0, 1)), 64, 4096, normal(0, 1))
    for place in (a, b, c):
        each = torch.bincount(place, minlength=64)
        assert each.min() >= 48
        assert each.max() <= 80


def test_samples_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"samples must be at least 1 .* got 0 of 3"):
        losses.rkd_angle(normal(0, 3, 2), normal(1, 3, 2), samples=0)


@pytest.mark.parametrize("loss", [losses.rkd_distance, losses.rkd_angle, losses.irg_edge])
def test_close_samples_far_from_the_origin_in_single_precision(loss: Any) -> None:
    s, t = normal(0, 6, 8).float() + 1000, normal(1, 6, 8).float() - 1000
    s[1] = s[0] + 2**-13 * torch.arange(8)
    same(loss(s, t).double(), loss(s.double(), t.double()), 1e-5)


@pytest.mark.parametrize(("mine", "theirs"), [(1e-11, 1e4), (1e-10, 1e6), (1.0, 1e-9)])
def test_linear_cka_is_free_of_scale_in_single_precision(mine: float, theirs: float) -> None:
    s, t = normal(0, 2, 8, 5).float()
    exact = losses.linear_cka(s.double(), t.double()).item()
    assert losses.linear_cka(s * mine, t * theirs).item() == pytest.approx(exact, rel=1e-2)


def test_linear_cka_does_not_cancel_in_single_precision() -> None:
    s = normal(0, 16, 32).float()
    t = s + 1e-4 * normal(1, 16, 32).float()
    exact = losses.linear_cka(s.double(), t.double()).item()
    assert 1e-10 < exact < 1e-8
    assert losses.linear_cka(s, t).item() == pytest.approx(exact, rel=1e-3)


def test_opposite_samples_are_finite_for_pkt() -> None:
    s, t = torch.tensor([[1.0, 0], [-1, 0], [0, 1]]), normal(0, 3, 2).float()
    value, grad = scored(losses.pkt, s, t)
    assert value.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "s", "t"),
    [
        (losses.sp, (2, 3), (3, 3)),
        (losses.pkt, (2, 3), (3, 3)),
        (losses.cc, (2, 3), (3, 3)),
        (losses.linear_cka, (2, 3), (3, 3)),
        (losses.irg_edge, (2, 3), (3, 3)),
        (losses.ickd, (2, 3, 4, 4), (2, 5, 4, 4)),
        (losses.ickd, (2, 3), (2, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    loss: Any, s: tuple[int, ...], t: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError) as caught:
        loss(torch.ones(s), torch.ones(t))
    assert f"got {s} and {t}" in str(caught.value)


def test_layers_of_different_channels_are_refused() -> None:
    few, many = torch.ones(2, 3, 4, 4), torch.ones(2, 5, 2, 2)
    with pytest.raises(ValueError, match="take both from one stage"):
        losses.irg_transform(few, few, many, many)
    with pytest.raises(ValueError, match="must have one batch"):
        losses.irg_transform(few, few[:1], few, few[:1])
