"""Public bug reports about losses, each an input and a right answer; named by their ids."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck import losses

each = pytest.mark.parametrize


def rows(*values: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


S = rows([1.0, 2.0, 0.5, -1.0], [0.0, 0.3, -0.7, 1.5])
T = rows([2.0, 1.0, 0.0, -2.0], [0.5, -0.5, 0.25, 1.0])
LABELS = torch.tensor([1, 3])
SEQ_S = rows([0.2, -0.4, 1.1, 0.0], [1.0, 0.0, -1.0, 0.5], [0.3, 0.3, 0.3, 2.0])
SEQ_T = rows([1.2, 0.4, -0.3, 0.1], [0.0, 1.5, 0.2, -0.5], [0.1, 0.9, -0.6, 1.0])
MAP_S = (0.7 * torch.arange(24.0, dtype=torch.float64)).sin().reshape(2, 3, 2, 2)
MAP_T = 1.5 * (0.45 * torch.arange(24.0, dtype=torch.float64)).cos().reshape(2, 3, 2, 2)


def right(figure: float, rel: float = 1e-8) -> Any:
    return pytest.approx(figure, rel=rel)


def both(loss: Callable[..., Any], s: Tensor, t: Tensor, **keys: Any) -> float:
    """The torch value, after NumPy has said the same."""
    value = loss(s, t, **keys).item()
    arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in keys.items()}
    assert float(loss(s.numpy(), t.numpy(), **arrays)) == right(value)
    return value


def grad(loss: Callable[..., Tensor], s: Tensor, *rest: Tensor, **keys: Any) -> Tensor:
    leaf = s.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, *rest, **keys), leaf)[0]


@each(("temperature", "figure"), [(1.0, 0.31213389), (2.0, 0.322076831), (4.0, 0.314367134)])
def test_b001_the_divisor_is_the_batch_not_the_classes(temperature: float, figure: float) -> None:
    assert both(losses.kl, S, T, temperature=temperature) == right(figure)
    filler = S.new_full((2, 996), -1e9)
    wide = torch.cat([S, filler], 1), torch.cat([T, filler], 1)
    assert both(losses.kl, *wide, temperature=temperature) == right(figure)


def test_b001_the_gradient_is_the_softened_difference() -> None:
    expected = rows(
        [-0.1963498386, 0.114889398, 0.0271905317, 0.0542699089],
        [-0.0618750248, 0.0886189181, -0.1038482737, 0.0771043804],
    )
    torch.testing.assert_close(grad(losses.kl, S, T, temperature=4.0), expected, rtol=0, atol=1e-9)


def test_b002_the_temperature_squared_is_in_the_value() -> None:
    value = both(losses.kl, S, T, temperature=4.0)
    assert value == right(0.314367134)
    assert value / 16 == right(0.0196479459)
    cold, hot = (grad(losses.kl, S, T, temperature=x).norm().item() for x in (1.0, 8.0))
    assert 0.5 < cold / hot < 2


@each("bad", [-1.0, float("nan")])
def test_b034_a_negative_or_missing_share_of_a_label_is_no_number(bad: float) -> None:
    """Never the finite value of the others, unless the row is masked."""
    soft = T.softmax(-1)
    soft[1, 2] = bad
    assert np.isnan(losses.cross_entropy(S, soft).item())
    assert np.isnan(float(losses.cross_entropy(S.numpy(), soft.numpy(), label_smoothing=0.1)))
    seen = both(losses.cross_entropy, S, soft, mask=torch.tensor([True, False]))
    assert seen == right(both(losses.cross_entropy, S[:1], soft[:1]))
    masked = grad(losses.cross_entropy, S, soft, mask=torch.tensor([True, False]))
    assert masked.isfinite().all()


def test_b005_classes_are_selected_before_the_softmax() -> None:
    assert both(losses.kl, S[:1, 1:3], T[:1, 1:3]) == right(0.0226223011)
    absent = torch.tensor([True, False, False, True])
    alive = [x[:1].masked_fill(absent, -torch.inf) for x in (S, T)]
    assert both(losses.kl, *alive) == right(0.0226223011)


def test_b007_forward_and_reverse() -> None:
    assert both(losses.kl, S, T) == right(0.31213389)
    assert both(losses.reverse_kl, S, T) == right(0.2853681)
    assert both(losses.kl, S, T, temperature=4.0) == right(0.314367134)
    assert both(losses.reverse_kl, S, T, temperature=4.0) == right(0.303777974)


@each("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_b010_reverse_kl_has_a_gradient_at_low_temperature(dtype: torch.dtype) -> None:
    s, t = rows([[1.0, 1.02, -9.0]], [[1.02, 1.0, -9.0]], dtype=dtype)
    by_student = grad(losses.reverse_kl, s, t, temperature=0.05)
    assert by_student.isfinite().all()
    if dtype == torch.float32:
        value = losses.reverse_kl(s, t, temperature=0.05).item()
        assert value == right(0.00019737532, 1e-4)
        unscaled = by_student / 0.05**2
        torch.testing.assert_close(
            unscaled, rows([-3.84419, 3.84419, 0], dtype=dtype), rtol=1e-4, atol=1e-6
        )


@each("dtype", [torch.float64, torch.float32])
def test_b011_a_probability_of_zero_has_a_gradient_on_both_sides(dtype: torch.dtype) -> None:
    s, t = (x.requires_grad_() for x in rows([[0.0, -800.0]], [[0.0, 0.0]], dtype=dtype))
    value = losses.reverse_kl(s, t)
    assert value.item() == right(0.693147181, 1e-7)
    by_student = torch.autograd.grad(value, s)[0]
    torch.testing.assert_close(by_student, torch.zeros_like(by_student))
    mutual = losses.kl(s, t) + losses.kl(t, s)
    assert all(x.isfinite().all() for x in torch.autograd.grad(mutual, (s, t)))


@each("dtype", [torch.float32, torch.bfloat16])
def test_b013_a_source_that_underflows_is_finite(dtype: torch.dtype) -> None:
    s, t = rows([[0.0, 0.0]], [[0.0, -120.0]], dtype=dtype)
    assert losses.reverse_kl(s, t).item() == right(59.3068528, 1e-6)
    assert grad(losses.reverse_kl, s, t).isfinite().all()


@each("dtype", [torch.float64, torch.float16])
def test_b014_a_constant_source_row(dtype: torch.dtype) -> None:
    s = rows([0.1, 0.4, 0.2, 0.3], dtype=dtype)
    scores = (s - s.min()) / (s.max() - s.min())
    constant = torch.full_like(scores, 2)
    rel = 1e-8 if dtype == torch.float64 else 1e-2
    assert losses.kl(scores, constant).item() == right(0.0683813004, rel)
    assert grad(losses.kl, scores, constant).isfinite().all()


def test_b016_hint_and_cross_entropy_in_one_half_precision_backward() -> None:
    features = torch.full((1, 4), 300.0, dtype=torch.float16, requires_grad=True)
    hint = losses.hint(features, torch.zeros_like(features))
    assert hint.item() == 90000.0
    hard = losses.cross_entropy(features, torch.tensor([2]))
    (0.5 * hard + 0.5 * hint).backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_b020_maps_keep_their_pixels() -> None:
    assert both(losses.kl, MAP_S, MAP_T, axis=1) == right(0.539566354)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = [x.flatten(2)[..., order].reshape(2, 3, 2, 2) for x in (MAP_S, MAP_T)]
    assert both(losses.kl, *shuffled, axis=1) == right(0.539566354)


def test_b022_positions_are_averaged() -> None:
    assert both(losses.kl, SEQ_S[None], SEQ_T[None]) == right(0.434620047)
    assert both(losses.kl, SEQ_S, SEQ_T) == right(0.434620047)


@each("loss", [losses.kl, losses.reverse_kl, losses.hard])
def test_b023_a_sigmoid_head_is_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="sigmoid head as two logits"):
        loss(rows([0.5]), rows([2.0]))
    assert both(loss, rows([0.0, 0.5]), rows([0.0, 2.0])) > 0
    assert both(losses.kl, rows([0.0, 0.5]), rows([0.0, 2.0])) == right(0.16834459)


def test_b025_one_logit_and_two_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(1, 1\)"):
        losses.kl(rows([0.3, -0.4]), rows([2.0]))
    assert both(losses.kl, rows([0.3, -0.4]), rows([0.0, 2.0])) == right(0.654410148)


def test_b031_duplicate_embeddings_have_a_gradient() -> None:
    s, t = rows([[0, 0], [0, 0], [3, 4]], [[0, 0], [1, 0], [0, 2]])
    value = both(losses.rkd_distance, s, t)
    assert value == right(0.0714339655)
    assert value * 2 / 3 == right(0.0476226437)
    for loss in (losses.rkd_distance, losses.rkd_angle):
        for student, source in ((s, t), (s[:1], t[:1]), (s[[0, 0, 0]], t), (s, t[[1, 1, 1]])):
            assert grad(loss, student, source).isfinite().all()


def test_b032_attention_sums_positions_and_survives_a_dead_map() -> None:
    s = rows([[[1, 2], [0, 1]], [[0, 1], [2, 0]]])
    t = rows([[[2, 0], [1, 1]], [[1, 1], [0, 3]]])
    value = both(losses.attention, s, t)
    assert value == right(1.35046112)
    assert value / 4 == right(0.337615281)
    dead = torch.zeros_like(s)
    assert both(losses.attention, dead, t) / 4 == right(0.25)
    assert grad(losses.attention, dead, t).isfinite().all()


def test_b038_a_divergence_reaches_zero_and_a_cross_entropy_does_not() -> None:
    p = T.softmax(-1)
    entropy = both(losses.cross_entropy, T, p)
    assert entropy == right(1.07618018)
    soft = both(losses.cross_entropy, S, p)
    assert soft == right(1.38831407)
    assert both(losses.kl, S, T) == right(soft - entropy)
    assert both(losses.kl, T, T.clone()) == 0
    assert both(losses.cross_entropy, S, T.argmax(-1)) == right(0.99345135)
    assert both(losses.hard, S, T) == right(0.99345135)


def test_b041_label_smoothing_moves_the_hard_term_alone() -> None:
    plain, smoothed = (both(losses.cross_entropy, S, LABELS, label_smoothing=x) for x in (0.0, 0.1))
    soft = both(losses.kl, S, T, temperature=4.0)
    assert (plain, smoothed, soft) == (right(0.49345135), right(0.62345135), right(0.314367134))
    assert 0.5 * smoothed + 0.5 * soft == right(0.468909242)


def test_b043_ignored_labels_leave_the_divergence_too() -> None:
    labels = torch.tensor([-100, 2, -100])
    assert both(losses.kl, SEQ_S, SEQ_T, mask=labels != -100) == right(0.657789617)
    for by_student in (
        grad(losses.kl, SEQ_S, SEQ_T, mask=labels != -100),
        grad(losses.cross_entropy, SEQ_S, labels),
    ):
        assert by_student[[0, 2]].count_nonzero() == 0
        assert by_student[1].count_nonzero() == 4


@each("loss", [losses.kl, losses.reverse_kl, losses.hint])
def test_b044_nothing_supervised_is_zero(loss: Callable[..., Tensor]) -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    keys = {"axis": -1}
    assert both(loss, SEQ_S[None], SEQ_T[None], mask=nothing, **keys) == 0
    assert grad(loss, SEQ_S[None], SEQ_T[None], mask=nothing, **keys).count_nonzero() == 0
    pair = torch.stack([SEQ_S, SEQ_T]), torch.stack([SEQ_T, SEQ_S])
    first = torch.tensor([True, False])
    assert both(loss, *pair, mask=first, **keys) == right(both(loss, SEQ_S, SEQ_T, **keys))


def test_b046_padded_hidden_states_do_not_count() -> None:
    s, t = rows([[1, 2], [0, 1], [9, 9]]), rows([[1.5, 1], [0, 0], [0, 0]])
    mask = torch.tensor([[True, True, False]])
    assert both(losses.hint, s, t, axis=-1, mask=mask) == right(0.5625)
    assert both(losses.hint, s, t, axis=-1) == right(27.375)


@each("loss", [losses.kl, losses.reverse_kl, losses.hint])
@each("length", [3, 5, 12])
def test_b050_a_sequence_alone_and_padded(loss: Callable[..., Tensor], length: int) -> None:
    pad = torch.full((length - 3, 4), torch.nan).double()
    mask = torch.arange(length)[None] < 3
    padded = [torch.cat([x, pad])[None] for x in (SEQ_S, SEQ_T)]
    assert both(loss, *padded, axis=-1, mask=mask) == right(both(loss, SEQ_S, SEQ_T, axis=-1))


def test_b052_void_pixels_leave_the_divisor() -> None:
    labels = torch.zeros(2, 2, 2, dtype=torch.long)
    labels[0, 0, 0] = 255
    assert both(losses.kl, MAP_S, MAP_T, axis=1, mask=labels != 255) == right(0.546761252)
    for void in (255, -100):
        labels[0, 0, 0] = void
        hard = both(losses.cross_entropy, MAP_S, labels, axis=1, mask=labels != void)
        pixels = MAP_S.movedim(1, -1).reshape(8, 3)[1:]
        assert hard == right(both(losses.cross_entropy, pixels, labels.flatten()[1:]))


@each("size", [1, 2, 3, 8])
def test_b053_chunks_share_one_divisor(size: int) -> None:
    mask = torch.tensor([True, True, False])
    s = SEQ_S.clone().requires_grad_()
    chunks = [
        losses.kl(a, b, mask=m, count=2)
        for a, b, m in zip(s.split(size), SEQ_T.split(size), mask.split(size), strict=True)
    ]
    assert all(chunk.requires_grad for chunk in chunks)
    total = torch.stack(chunks).sum()
    assert total.item() == right(0.537492192)
    (by_student,) = torch.autograd.grad(total, s)
    torch.testing.assert_close(by_student, grad(losses.kl, SEQ_S, SEQ_T, mask=mask))


@each("loss", [losses.kl, losses.reverse_kl, losses.hint, losses.cross_entropy])
@each("count", [-1, 0])
def test_b056_a_count_below_one_item_is_refused(loss: Callable[..., Tensor], count: int) -> None:
    target = SEQ_T.softmax(-1) if loss is losses.cross_entropy else SEQ_T
    for convert in (torch.Tensor.clone, Tensor.numpy):
        with pytest.raises(ValueError, match=f"count must be positive, got {count}"):
            loss(convert(SEQ_S), convert(target), count=count)


def test_b056_no_count_is_the_local_mean() -> None:
    assert both(losses.kl, SEQ_S, SEQ_T, count=None) == right(0.434620047)
    assert both(losses.kl, SEQ_S, SEQ_T, count=3) == right(0.434620047)
    assert both(losses.kl, SEQ_S, SEQ_T, count=np.float64(6)) == right(0.434620047 / 2)
