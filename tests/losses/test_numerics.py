"""The edges of the losses: empty, huge, dead and half-precision inputs, refusals, compilation."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from tests.losses.subject import (
    INF,
    batches,
    examples,
    finite,
    maps,
    normal,
    same,
    scored,
    seeds,
    under,
)
from tests.losses.subjects import ALL, DIVERGENCES, HARD, RELATIONS
from torch import Tensor

from limbeck import losses

each = pytest.mark.parametrize


@each("name", under("empty", ALL))
@each("samples", [0, 3])
def test_nothing_valid_gives_zero_with_a_gradient_path(name: str, samples: int) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(0, samples)
    value, grad = scored(loss, s, t, mask=torch.zeros(samples, dtype=torch.bool))
    assert value == 0
    assert grad.count_nonzero() == 0
    assert grad.shape == s.shape


@each("name", under("empty", ALL))
def test_an_empty_batch_gives_zero(name: str) -> None:
    loss, draw, *_ = ALL[name]
    value, _ = scored(loss, *draw(0, 0))
    assert value == 0


@each("name", HARD)
def test_withheld_labels_give_zero_with_a_gradient_path(name: str) -> None:
    loss, draw, *_ = HARD[name]
    s, t = draw(0, 3)
    value, grad = scored(loss, s, torch.full_like(t, 0 if t.is_floating_point() else -100))
    assert value == 0
    assert grad.count_nonzero() == 0


@each("name", ALL)
@each("batch", [1, 2])
def test_the_smallest_batches_are_finite(name: str, batch: int) -> None:
    loss, draw, *_ = ALL[name]
    value, grad = scored(loss, *draw(0, batch))
    assert finite(value, grad)


@each("dtype", [torch.float16, torch.bfloat16])
@each("name", under("half", ALL))
@examples
@given(seed=seeds, batch=batches)
def test_half_precision_in_float32_inside(
    name: str, dtype: torch.dtype, seed: int, batch: int
) -> None:
    loss, draw, *_ = ALL[name]
    half = [x.to(dtype) if x.is_floating_point() else x for x in draw(seed, batch)]
    value, grad = scored(loss, *half)
    assert value.dtype == torch.float32
    assert grad.dtype == dtype
    exact = [x.double() if x.is_floating_point() else x for x in half]
    same(value.double(), loss(*exact), 1e-5)


@each("name", ALL)
def test_half_precision_of_numpy_is_at_least_float32_inside(name: str) -> None:
    loss, draw, *_ = ALL[name]
    half = [x.half() if x.is_floating_point() else x for x in draw(0, 4)]
    value = loss(*(x.numpy() for x in half))
    assert value.dtype in (np.float32, np.float64)
    assert value == pytest.approx(loss(*half).item(), rel=1e-5)


@each("name", ALL)
def test_autocast_does_not_touch_the_losses(name: str) -> None:
    loss, draw, *_ = ALL[name]
    s, t = (x.float() if x.is_floating_point() else x for x in draw(0, 4))
    expected, expected_grad = scored(loss, s, t)
    s.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(s, t)
    (grad,) = torch.autograd.grad(value, s)
    assert value.dtype == torch.float32
    same(value.detach(), expected, 1e-6)
    same(grad, expected_grad, 1e-6)


@each("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@each("temperature", [0.05, 1.0, 4.0])
@each("loss", [losses.kl, losses.reverse_kl])
def test_huge_logits_are_finite(
    loss: Callable[..., Tensor], temperature: float, dtype: torch.dtype
) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, -1e4]], dtype=dtype)
    assert finite(*scored(loss, s, s.flip(0), temperature=temperature))
    assert finite(*scored(loss, s, torch.zeros_like(s), temperature=temperature))


@each("name", HARD)
def test_huge_logits_against_labels_are_finite(name: str) -> None:
    loss, draw, *_ = HARD[name]
    s, t = draw(0, 4)
    assert finite(*scored(loss, 1e4 * s.float().sign(), t))


@each("name", DIVERGENCES)
def test_classes_masked_on_both_sides_are_finite_for_both(name: str) -> None:
    loss, draw, *_ = DIVERGENCES[name]
    s, t = (x.movedim(1, -1) if name.endswith("of maps") else x for x in draw(0, 3))
    s[..., 1] = t[..., 1] = s[0, ..., 2] = t[0, ..., 2] = -INF
    s, t = (x.movedim(-1, 1) if name.endswith("of maps") else x for x in (s, t))
    value, grad = scored(loss, s, t)
    by_source = torch.autograd.grad(loss(s, t.requires_grad_()), t)[0]
    assert finite(value, grad, by_source)
    assert value > 0
    assert loss(s.numpy(), t.detach().numpy()) == pytest.approx(value.item(), rel=1e-12)


@each("loss", [losses.kl, losses.cross_entropy])
def test_a_class_only_the_source_rules_out_is_finite(loss: Callable[..., Tensor]) -> None:
    s, t = normal(0, 2, 3, 4)
    t[:, 0] = -INF
    value, grad = scored(loss, s, t if loss is losses.kl else t.softmax(-1))
    assert finite(value, grad)
    assert (grad[:, 0] > 0).all()


@each("dtype", [torch.float64, torch.float32, torch.float16])
def test_dead_maps_are_finite(dtype: torch.dtype) -> None:
    s, t = (x.to(dtype) for x in maps(0, 2))
    dead = torch.zeros_like(s)
    for student, source, right in [(dead, t, 1.0), (s, torch.zeros_like(t), 1.0), (dead, dead, 0)]:
        value, grad = scored(losses.attention, student, source)
        assert value.item() == pytest.approx(right, rel=1e-6)
        assert finite(grad)


@each("dtype", [torch.float64, torch.float32, torch.float16])
@each("name", RELATIONS)
def test_coinciding_samples_are_finite(name: str, dtype: torch.dtype) -> None:
    loss, draw, _, exempt = RELATIONS[name]
    s, t = (x.to(dtype) for x in draw(0, 4))
    twins, heap = s[[0, 0, 2, 3]], s[[0, 0, 0, 0]]
    for student, source in [(twins, t), (s, t[[1, 1, 1, 2]]), (heap, t), (s, heap), (heap, heap)]:
        value, grad = scored(loss, student, source)
        assert finite(value, grad)
        assert value >= 0 or "negativity" in exempt


@each("loss", [losses.kl, losses.reverse_kl, losses.hard, losses.cross_entropy])
def test_a_single_class_is_refused(loss: Callable[..., Tensor]) -> None:
    t = torch.zeros(2, dtype=torch.long) if loss is losses.cross_entropy else torch.ones(2, 1)
    with pytest.raises(ValueError, match="2 classes"):
        loss(torch.ones(2, 1), t)


@each("label", [-1, -101, 3, 255])
def test_a_label_outside_the_classes_is_refused(label: int) -> None:
    s, target = torch.zeros(2, 3), torch.tensor([0, label])
    for arrays in ((s, target), (s.numpy(), target.numpy())):
        with pytest.raises((IndexError, ValueError)):
            losses.cross_entropy(*arrays)


@each(
    ("loss", "s", "t"),
    [
        (losses.kl, (2, 3), (2, 4)),
        (losses.reverse_kl, (2, 3), (2, 4)),
        (losses.kl, (2, 3), (1, 3)),
        (losses.cross_entropy, (2, 3), (2, 4)),
        (losses.hint, (2, 3, 4, 4), (2, 5, 4, 4)),
        (losses.attention, (2, 3, 4, 4), (1, 3, 4, 4)),
        (losses.rkd_distance, (2, 3), (3, 3)),
        (losses.rkd_angle, (2, 3), (3, 3)),
    ],
)
def test_shapes_that_differ_are_refused_by_name(
    loss: Callable[..., Tensor], s: tuple[int, ...], t: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError) as caught:
        loss(torch.ones(s), torch.ones(t))
    assert f"got {s} and {t}" in str(caught.value)


@each("loss", [losses.kl, losses.reverse_kl, losses.hint])
@each("count", [0, -1, -0.5, np.int64(0), np.float32(-1)])
def test_a_count_that_is_not_positive_is_refused(loss: Callable[..., Tensor], count: Any) -> None:
    with pytest.raises(ValueError, match="count must be positive, got"):
        loss(torch.ones(2, 3), torch.zeros(2, 3), count=count)


@each("name", ALL)
def test_a_mask_of_another_shape_is_refused(name: str) -> None:
    loss, draw, *_ = ALL[name]
    with pytest.raises(ValueError, match=r"mask must .* got \(7,\)"):
        loss(*draw(0, 2), mask=torch.ones(7, dtype=torch.bool))


@each("name", ALL)
def test_one_graph_traced(name: str) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(0, 4)
    torch.compiler.reset()  # all partials share one code, and one limit of recompilations
    traced = torch.compile(loss, fullgraph=True, backend="aot_eager")
    mask = torch.tensor([True, False, True, True])
    value, grad = scored(traced, s, t, mask=mask)
    expected, expected_grad = scored(loss, s, t, mask=mask)
    same(value, expected)
    same(grad, expected_grad)


@pytest.mark.slow
def test_one_graph_compiled() -> None:
    s, t = normal(0, 2, 4, 5)
    compiled = torch.compile(losses.kl, fullgraph=True)
    value, grad = scored(compiled, s, t, temperature=4.0)
    expected, expected_grad = scored(losses.kl, s, t, temperature=4.0)
    same(value, expected)
    same(grad, expected_grad)


def test_importing_the_losses_imports_no_framework() -> None:
    code = (
        "import sys, numpy; from limbeck import losses;"
        "losses.kl(numpy.eye(2), numpy.ones((2, 2)));"
        "print(*{'torch', 'jax', 'tensorflow'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
