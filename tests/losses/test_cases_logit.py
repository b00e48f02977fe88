"""Public bug reports about logit losses, each an input and a right answer; named by their ids."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from tests.losses.subjects_logit import DIVERGENCES, PSEUDO
from tests.losses.test_cases import (
    LABELS,
    MAP_S,
    MAP_T,
    SEQ_S,
    SEQ_T,
    S,
    T,
    both,
    each,
    grad,
    right,
    rows,
)
from torch import Tensor

from limbeck import losses

TEMPERED = [losses.jeffreys, losses.jsd, losses.skew_kl, losses.skew_reverse_kl, losses.akl]
FLAT = [losses.total_variation, losses.ttm, losses.wttm, losses.lskd, *TEMPERED]


def test_b001_the_divisor_of_dkd_is_the_batch_not_the_classes() -> None:
    wide = [torch.cat([x, x.new_full((2, 996), -1e9)], 1) for x in (S, T)]
    assert both(losses.dkd, *wide, target=LABELS) == right(both(losses.dkd, S, T, target=LABELS))


def test_b005_classes_are_selected_before_the_softmax() -> None:
    chosen = losses.classes(losses.kl, [1, 2])
    assert both(chosen, S[:1], T[:1]) == right(0.0226223011)
    larger = torch.tensor([[9.0, 0.0, 9.0, 1.0]]).double()
    larger[0, [3, 1]] = T[0, [1, 2]]
    mapped = losses.classes(losses.kl, [1, 2], theirs=[3, 1])
    assert both(mapped, S[:1], larger) == right(0.0226223011)


def test_b005_labels_follow_the_classes() -> None:
    chosen = losses.classes(losses.dkd, [3, 1, 2])
    order = torch.tensor([3, 1, 2])
    expected = both(losses.dkd, S[:, order], T[:, order], target=torch.tensor([1, 0]))
    assert both(chosen, S, T, target=LABELS) == right(expected)
    outside = both(chosen, S, T, target=torch.tensor([1, 0]))
    assert outside == right(both(losses.dkd, S[:1, order], T[:1, order], target=LABELS[:1]))
    hard = losses.classes(losses.cross_entropy, [3, 1, 2])
    expected = both(losses.cross_entropy, S[:, order], torch.tensor([1, 0]))
    assert both(hard, S, LABELS) == right(expected)
    mixed = T.softmax(-1)
    assert both(hard, S, mixed) == right(both(losses.cross_entropy, S[:, order], mixed[:, order]))


@each(
    ("mixture", "figure"),
    [(0.0, 0.0), (0.1, 0.0384962658), (0.5, 0.105211751), (0.9, 0.040031058), (1.0, 0.0)],
)
def test_b008_the_mixture_is_literal(mixture: float, figure: float) -> None:
    assert both(losses.jsd, SEQ_S, SEQ_T, mixture=mixture) == pytest.approx(figure, rel=1e-8)
    assert grad(losses.jsd, SEQ_S, SEQ_T, mixture=mixture).isfinite().all()


@each("end", [0.0, 1.0])
def test_b008_the_mixture_is_continuous_up_to_its_ends(end: float) -> None:
    steps = [both(losses.jsd, SEQ_S, SEQ_T, mixture=abs(end - x)) for x in (1e-2, 1e-3, 1e-5)]
    assert steps[0] > steps[1] > steps[2] > 0
    assert steps[2] < 1e-5


def test_b008_the_slope_at_the_ends_is_a_divergence() -> None:
    low, high = (both(losses.jsd, SEQ_S, SEQ_T, mixture=x) for x in (1e-6, 1 - 1e-6))
    assert low / 1e-6 == right(both(losses.kl, SEQ_S, SEQ_T), 1e-4)
    assert high / 1e-6 == right(both(losses.reverse_kl, SEQ_S, SEQ_T), 1e-4)


@each("dtype", [torch.float32, torch.float16, torch.bfloat16])
@each("loss", TEMPERED)
def test_b010_a_gradient_at_low_temperature(
    loss: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    s, t = rows([[1.0, 1.02, -9.0]], [[1.02, 1.0, -9.0]], dtype=dtype)
    assert grad(loss, s, t, temperature=0.05).isfinite().all()
    if loss is losses.jsd and dtype == torch.float32:
        assert loss(s, t, temperature=0.05).item() == right(4.90174805e-05, 1e-4)


@each("dtype", [torch.float64, torch.float32])
@each("loss", FLAT)
def test_b011_a_probability_of_zero_has_a_gradient_on_both_sides(
    loss: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    s, t = (x.requires_grad_() for x in rows([[0.0, -800.0]], [[0.0, 0.0]], dtype=dtype))
    for value in (loss(s, t), loss(t, s)):
        gradients = torch.autograd.grad(value, (s, t))
        assert value.isfinite()
        assert all(x.isfinite().all() for x in gradients)


@each("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@each("name", [name for name in (DIVERGENCES | PSEUDO) if "classes" not in name])
def test_b013_huge_logits_are_finite(name: str, dtype: torch.dtype) -> None:
    loss, *_ = (DIVERGENCES | PSEUDO)[name]
    s = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, -1e4]], dtype=dtype)
    if "maps" in name:
        s = s[..., None, None]
    for student, source in ((s, s.flip(0)), (s, 0 * s), (0 * s, s)):
        assert loss(student, source).isfinite()
        assert grad(loss, student, source).isfinite().all()


@each("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@each("loss", [losses.dist, losses.mlkd])
def test_b013_huge_logits_of_a_batch_are_finite(
    loss: Callable[..., Tensor], dtype: torch.dtype
) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [0.0, 0.0, -1e4]], dtype=dtype)
    for student, source in ((s, s.flip(0)), (s, 0 * s), (0 * s, s)):
        assert loss(student, source).isfinite()
        assert grad(loss, student, source).isfinite().all()


@each("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_b014_a_constant_source_row_standardised(dtype: torch.dtype) -> None:
    s, t = S[:1].to(dtype), torch.full((1, 4), 0.1, dtype=dtype)
    population = (3 / 4) ** 0.5  # the case divides by C, the authors and limbeck by C - 1
    value = losses.lskd(s, t, temperature=population).item() / population**2
    assert value == right(0.420234214, 1e-8 if dtype == torch.float64 else 1e-2)
    for student, source in ((s, t), (t, s), (t, t)):
        assert grad(losses.lskd, student, source).isfinite().all()
        with torch.autocast("cpu", torch.bfloat16):
            assert grad(losses.lskd, student, source).isfinite().all()
    for classes in (3, 10, 1000):  # whose mean is rounded
        assert losses.standardise(t[0, 0].repeat(1, classes)).count_nonzero() == 0


def test_b017_two_classes_have_no_others() -> None:
    s, t, target = rows([0.3, -1.2]), rows([2.0, -0.5]), torch.tensor([0])
    assert both(losses.dkd, s, t, target=target) == right(0.116180832)
    others = {"alpha": 0.0, "beta": 8.0}
    assert both(losses.dkd, s, t, target=target, **others) == 0
    assert grad(losses.dkd, s, t, target, **others).count_nonzero() == 0
    for loss in (losses.dkd, losses.nkd):
        for sign in (1, -1):
            saturated = sign * rows([50.0, -50.0])
            assert both(loss, saturated, t, target=target) >= 0
            assert grad(loss, saturated, t, target).isfinite().all()


def test_b019_the_others_are_the_others() -> None:
    def others(s: Any, t: Any) -> float:
        target = LABELS[:1].numpy() if isinstance(s, np.ndarray) else LABELS[:1]
        return losses.dkd(s, t, target, alpha=0.0, beta=1.0, temperature=1.0)

    value = both(others, S[:1], T[:1])
    assert value == right(0.204307169)
    moved = T[:1].clone()
    moved[0, 1] += 3
    assert both(others, S[:1], moved) == right(value)
    moved[0, 2] += 3
    assert both(others, S[:1], moved) > 1.1 * value


@each("loss", FLAT)
def test_b020_maps_keep_their_pixels(loss: Callable[..., Any]) -> None:
    pixels = [x.movedim(1, -1).reshape(8, 3) for x in (MAP_S, MAP_T)]
    assert both(loss, MAP_S, MAP_T, axis=1) == right(both(loss, *pixels))


@each("loss", FLAT)
def test_b022_positions_are_averaged(loss: Callable[..., Any]) -> None:
    assert both(loss, SEQ_S[None], SEQ_T[None]) == right(both(loss, SEQ_S, SEQ_T))


@each("loss", [*FLAT, losses.dist, losses.mlkd])
def test_b023_a_sigmoid_head_is_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="sigmoid head as two logits"):
        loss(rows([0.5]), rows([2.0]))


@each("loss", [*FLAT, losses.dist, losses.mlkd, losses.logit_mse, losses.logit_l1])
def test_b025_one_logit_and_two_do_not_broadcast(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="must have one shape"):
        loss(rows([0.3, -0.4]), rows([2.0]))


@each("loss", [losses.dkd, losses.nkd, losses.wsld, losses.ban_cwtm, losses.ps_kd])
def test_b043_items_without_a_label_do_not_count(loss: Callable[..., Any]) -> None:
    target = torch.tensor([-100, 2, -100])
    alone = both(loss, SEQ_S[1:2], SEQ_T[1:2], target=target[1:2])
    assert both(loss, SEQ_S, SEQ_T, target=target) == right(alone)
    by_student = grad(loss, SEQ_S, SEQ_T, target)
    assert by_student[[0, 2]].count_nonzero() == 0
    assert by_student[1].count_nonzero() == 4
    assert both(loss, SEQ_S, SEQ_T, target=torch.full((3,), -100)) == 0


@each("loss", [*FLAT, losses.dist, losses.mlkd])
def test_b044_nothing_supervised_is_zero(loss: Callable[..., Tensor]) -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert both(loss, SEQ_S[None], SEQ_T[None], mask=nothing) == 0
    assert grad(loss, SEQ_S[None], SEQ_T[None], mask=nothing).count_nonzero() == 0


@each("loss", [*FLAT, losses.dist, losses.mlkd])
@each("length", [3, 5, 12])
def test_b050_a_sequence_alone_and_padded(loss: Callable[..., Tensor], length: int) -> None:
    pad = torch.full((length - 3, 4), torch.nan).double()
    padded = [torch.cat([x, pad])[None] for x in (SEQ_S, SEQ_T)]
    mask = torch.arange(length)[None] < 3
    assert both(loss, *padded, mask=mask) == right(both(loss, SEQ_S, SEQ_T))


@each("loss", [losses.dist, losses.mlkd])
def test_b052_void_pixels_are_no_samples(loss: Callable[..., Tensor]) -> None:
    void = torch.ones(2, 2, 2, dtype=torch.bool)
    void[0, 0, 0] = False
    pixels = [x.movedim(1, -1).reshape(8, 3)[1:] for x in (MAP_S, MAP_T)]
    assert both(loss, MAP_S, MAP_T, axis=1, mask=void) == right(both(loss, *pixels))


@each("loss", [losses.dist, losses.mlkd])
def test_dead_classes_do_not_matter_to_a_batch(loss: Callable[..., Tensor]) -> None:
    wide = [torch.cat([x, x.new_full((2, 3), -torch.inf)], 1) for x in (S, T)]
    assert both(loss, *wide) == right(both(loss, S, T))
    by_student = grad(loss, *wide)
    torch.testing.assert_close(by_student[:, :4], grad(loss, S, T))
    assert by_student[:, 4:].count_nonzero() == 0


def test_a_class_that_one_side_rules_out_has_no_correlation() -> None:
    dead = S.clone()
    dead[:, 1] = -torch.inf
    kept = torch.tensor([0, 2, 3])
    for student, source in ((dead, T), (T, dead)):
        p, q = (x.softmax(-1)[:, kept].log() for x in (student, source))
        samples = both(losses.dist, student, source, beta=0.0)
        assert samples == right(reference(p, q))
        assert grad(losses.dist, student, source).isfinite().all()


def reference(x: Tensor, y: Tensor) -> float:
    """The mean of 1 - corr of the columns of two matrices of logarithms."""
    u, v = (torch.nn.functional.normalize(z.exp() - z.exp().mean(0), dim=0) for z in (x, y))
    return (1 - (u * v).sum(0)).mean().item()


def test_a_batch_of_one_has_no_correlation_of_samples() -> None:
    assert both(losses.dist, S[:1], T[:1], beta=0.0) == 0
    assert grad(losses.dist, S[:1], T[:1], beta=0.0).count_nonzero() == 0
    assert both(losses.dist, S[:1], T[:1]) > 0


@each("loss", [losses.dist, losses.mlkd])
def test_an_empty_batch_is_zero(loss: Callable[..., Tensor]) -> None:
    assert both(loss, S[:0], T[:0]) == 0
    assert grad(loss, S[:0], T[:0]).shape == (0, 4)


@each("mu", [0.75, 0.8])
def test_the_head_of_akl_reaches_up_to_mu_itself(mu: float) -> None:
    """Of p = (1/2, 1/4, 1/4) the second class belongs to it, the third does not."""
    s, t = rows([0.0, 0.0, 0.0], [np.log(2), 0.0, 0.0])
    forward, reverse = both(losses.kl, s, t), both(losses.reverse_kl, s, t)
    gaps = torch.tensor([1 / 6, 1 / 12, 1 / 12])
    head = (gaps[:2].sum() / gaps.sum()).item()
    assert both(losses.akl, s, t, mu=mu) == right(head * forward + (1 - head) * reverse, 1e-6)


@each(
    ("loss", "ends"),
    [
        (losses.akl, (losses.reverse_kl, losses.kl)),
        (
            lambda s, t: losses.wsld(s, t, LABELS[:1], temperature=1.0),
            (lambda s, t: 0 * losses.kl(s, t), losses.kl),
        ),
    ],
    ids=["akl", "wsld"],
)
def test_weights_that_are_held_send_no_gradient_to_either_side(loss: Any, ends: Any) -> None:
    s, t = (x[:1].clone().requires_grad_() for x in (S, T))
    value, low, high = (f(s, t) for f in (loss, *ends))
    weight = ((value - low) / (high - low)).item()
    found, *expected = (torch.autograd.grad(x, (s, t)) for x in (value, low, high))
    for got, below, above in zip(found, *expected, strict=True):
        torch.testing.assert_close(got, (1 - weight) * below + weight * above)


def test_limits_of_the_skew() -> None:
    for loss, limit in (
        (losses.skew_kl, losses.kl),
        (losses.skew_reverse_kl, losses.reverse_kl),
    ):
        keys = {"temperature": 3.0}
        assert both(loss, S, T, alpha=0.0, **keys) == right(both(limit, S, T, **keys))
        assert both(loss, S, T, alpha=1.0, **keys) == 0
        torch.testing.assert_close(grad(loss, S, T, alpha=0.0), grad(limit, S, T))


def test_a_mixture_may_be_a_scalar_array() -> None:
    value = losses.jsd(S, T, mixture=torch.tensor(0.3)).item()
    assert value == right(both(losses.jsd, S, T, mixture=0.3), 1e-6)


@each("share", [-0.1, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    for loss, name in (
        (losses.jsd, "mixture"),
        (losses.skew_kl, "alpha"),
        (losses.skew_reverse_kl, "alpha"),
        (losses.akl, "mu"),
        (partial(losses.ps_kd, target=LABELS), "alpha"),
        (partial(losses.tfkd_reg, target=LABELS), "correct"),
    ):
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got {share}"):
            loss(*(S, T)[: 1 if name == "correct" else 2], **{name: share})


@each("value", [0, -4.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(value: float) -> None:
    labelled = [partial(loss, target=LABELS) for loss in (losses.dkd, losses.nkd, losses.wsld)]
    softened = [losses.kl, losses.reverse_kl, losses.lskd, losses.dist, losses.binary_kl]
    for loss in (*softened, *TEMPERED, *labelled):
        with pytest.raises(ValueError, match=f"temperature must be positive, got {value}"):
            loss(S, T, temperature=value)
    with pytest.raises(ValueError, match=f"temperature must be positive, got {value}"):
        losses.tfkd_reg(S, LABELS, temperature=value)
    with pytest.raises(ValueError, match=f"temperatures must be positive, got {value}"):
        losses.mlkd(S, T, temperatures=[4.0, value])
    for loss in (losses.ttm, losses.wttm):
        with pytest.raises(ValueError, match=f"gamma must be positive, got {value}"):
            loss(S, T, gamma=value)


@each("shape", [(3,), (2, 1), (2, 4)])
def test_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    for loss in (losses.kl, losses.logit_mse, losses.binary_kl, losses.hard):
        with pytest.raises(ValueError, match=r"weight must have the items' shape \(2,\), got"):
            loss(S, T, weight=torch.ones(shape))


@each("index", [[1], [1, 1], [], [-1, 0]])
def test_a_list_that_is_no_set_of_classes_is_refused(index: list[int]) -> None:
    with pytest.raises(ValueError, match="two or more classes, each once"):
        losses.classes(losses.kl, index)
    with pytest.raises(ValueError, match="must pair up, got 2 and 3"):
        losses.classes(losses.kl, [0, 1], theirs=[0, 1, 2])
    with pytest.raises(ValueError, match="must be below the number of logits, got 4 of 4"):
        losses.classes(losses.kl, [0, 1], theirs=[0, 4])(S, T)


def test_the_wrappers_keep_name_and_arguments() -> None:
    for wrapped in (losses.classes(losses.dkd, [0, 1]), losses.standardised(losses.dkd)):
        assert signature(wrapped) == signature(losses.dkd)
    assert losses.classes(losses.dkd, [0, 1]).__name__ == "dkd"
    assert losses.standardised(losses.dkd).__name__ == "standardised_dkd"


@each("loss", [losses.dkd, losses.nkd, losses.wsld, losses.ban_cwtm, losses.ps_kd])
def test_labels_that_are_no_classes_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="labels must be class indices, got floats"):
        loss(S, T, T.softmax(-1))
    with pytest.raises(ValueError, match=r"items' shape \(2,\), got \(3,\)"):
        loss(S, T, torch.tensor([0, 1, 2]))
