"""Laws of the losses, over every loss that claims them: what must not change the value."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.losses.subject import INF, NAN, batches, examples, normal, same, scored, seeds, under
from tests.losses.subjects import ALL, DIVERGENCES, HARD, ITEMS, LOGITS, ZERO_AT_EQUALITY
from torch import Tensor

from limbeck import losses

each = pytest.mark.parametrize


@each("name", under("equality", ZERO_AT_EQUALITY))
@examples
@given(seed=seeds, batch=batches)
def test_zero_at_equality(name: str, seed: int, batch: int) -> None:
    loss, draw, *_ = ZERO_AT_EQUALITY[name]
    s = draw(seed, batch)[0].float()
    value, grad = scored(loss, s, s.clone())
    assert value == 0
    assert grad.abs().max() <= 1e-6 / batch


@each("loss", [losses.kl, losses.reverse_kl])
@examples
@given(seed=seeds, batch=batches, temperature=st.floats(0.05, 20), scale=st.floats(0.1, 1e4))
def test_zero_at_equality_at_any_temperature(
    loss: Callable[..., Tensor], seed: int, batch: int, temperature: float, scale: float
) -> None:
    s = normal(seed, batch, 5, scale=scale).float()
    value, grad = scored(loss, s, s.clone(), temperature=temperature)
    assert value == 0
    assert grad.abs().max() <= 1e-6 * temperature / batch


@each("name", under("negativity", ALL))
@examples
@given(seed=seeds, batch=batches, closeness=st.sampled_from([1.0, 1e-3]))
def test_never_negative(name: str, seed: int, batch: int, closeness: float) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(seed, batch)
    if s.shape == t.shape and name not in HARD:
        t = s + closeness * t
    assert loss(s, t) >= 0


@each("name", under("gradcheck", ALL))
@settings(examples, max_examples=4)
@given(seed=seeds, batch=st.integers(1, 3))
def test_gradcheck(name: str, seed: int, batch: int) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(seed, batch)
    both = (s.requires_grad_(), t.requires_grad_(name not in HARD))
    assert torch.autograd.gradcheck(loss, both, atol=1e-7, rtol=1e-6)


@each("name", ["kl", "reverse_kl", "jeffreys", "jsd", "skew_kl", "akl", "binary_kl", "dist"])
def test_gradcheck_of_a_learned_temperature(name: str) -> None:
    """Also through what it decides besides, such as the share of akl's head."""
    loss, (s, t) = getattr(losses, name), normal(0, 2, 3, 4)
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(s, t, temperature=x), temperature)


@each("garbage", [NAN, INF, -INF, 1e30])
@each("name", under("masked", ALL))
@settings(examples, max_examples=8)
@given(seed=seeds, batch=batches, pads=st.integers(1, 3))
def test_masked_samples_do_not_matter(
    name: str, garbage: float, seed: int, batch: int, pads: int
) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(seed, batch)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(batch + pads))
    mask = (torch.arange(batch + pads) < batch)[order]
    label = garbage if t.is_floating_point() else 255
    padded = [
        torch.cat([x, x.new_full((pads, *x.shape[1:]), junk)])[order]
        for x, junk in ((s, garbage), (t, label))
    ]
    value, grad = scored(loss, *padded, mask=mask)
    expected, expected_grad = scored(loss, s, t)
    same(value, expected)
    same(grad[order.argsort()][:batch], expected_grad)
    assert grad[~mask].count_nonzero() == 0


@each("name", ["kl at 4", "reverse_kl", "cross_entropy", "hint of tokens"])
@examples
@given(seed=seeds, batch=batches, pads=st.integers(1, 4))
def test_padded_positions_do_not_matter(name: str, seed: int, batch: int, pads: int) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(seed, batch)
    mask = torch.from_numpy(np.random.default_rng(seed).random((batch, s.shape[1])) < 0.6)
    value, grad = scored(loss, s, t, mask=mask)
    long = [
        torch.cat([x, x.new_full((batch, pads, *x.shape[2:]), junk)], 1)
        for x, junk in ((s, NAN), (t, NAN if t.is_floating_point() else -1))
    ]
    wide, wide_grad = scored(loss, *long, mask=torch.nn.functional.pad(mask, (0, pads)))
    same(wide, value)
    same(wide_grad[:, : s.shape[1]], grad)
    assert wide_grad[:, s.shape[1] :].count_nonzero() == 0


@each("name", under("masked", ITEMS))
def test_weights_of_masked_items_do_not_matter(name: str) -> None:
    loss, draw, *_ = ITEMS[name]
    s, t = draw(0, 3)
    mask, weight = torch.tensor([True, False, True]), torch.tensor([1.0, NAN, 2.0]).double()
    value, grad = scored(loss, s, t, mask=mask, weight=weight)
    expected, expected_grad = scored(loss, s, t, mask=mask, weight=weight.nan_to_num())
    same(value, expected)
    same(grad, expected_grad)


@each("name", under("duplication", ITEMS))
@examples
@given(seed=seeds, batch=batches)
def test_duplicating_the_batch_changes_nothing(name: str, seed: int, batch: int) -> None:
    loss, draw, *_ = ITEMS[name]
    s, t = draw(seed, batch)
    value, grad = scored(loss, torch.cat([s, s]), torch.cat([t, t]))
    expected, expected_grad = scored(loss, s, t)
    same(value, expected)
    same(2 * grad[:batch], expected_grad)


@each("name", under("order", ALL))
@examples
@given(seed=seeds, batch=batches)
def test_the_order_of_the_batch_does_not_matter(name: str, seed: int, batch: int) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(seed, batch)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(batch))
    same(loss(s[order], t[order]), loss(s, t))


@each("name", under("dead classes", LOGITS))
@examples
@given(seed=seeds, batch=batches, extra=st.integers(1, 4))
def test_dead_classes_do_not_matter(name: str, seed: int, batch: int, extra: int) -> None:
    loss, draw, *_ = LOGITS[name]
    s, t = draw(seed, batch)
    axis = loss.keywords.get("axis", -1) if isinstance(loss, partial) else -1
    shape = list(s.shape)
    shape[axis] = extra
    dead = s.new_full(shape, -INF)
    filler = {"cross_entropy mixed": torch.zeros_like(dead)}.get(name, dead)
    wide = torch.cat([t, filler], axis) if t.is_floating_point() else t
    value, grad = scored(loss, torch.cat([s, dead], axis), wide)
    expected, expected_grad = scored(loss, s, t)
    same(value, expected)
    kept, lost = grad.split([s.shape[axis], extra], axis)
    same(kept, expected_grad)
    assert lost.count_nonzero() == 0


@each("name", under("shift", LOGITS))
@examples
@given(seed=seeds, batch=batches, shift=st.floats(-100, 100))
def test_a_constant_added_to_the_logits_changes_nothing(
    name: str, seed: int, batch: int, shift: float
) -> None:
    loss, draw, *_ = LOGITS[name]
    s, t = draw(seed, batch)
    moved = t - shift / 3 if name in DIVERGENCES else t
    same(loss(s + shift, moved), loss(s, t))


@each("name", under("micro-batches", ITEMS))
@examples
@given(seed=seeds, mask=st.lists(st.booleans(), min_size=2, max_size=5), cut=st.integers(0, 5))
def test_micro_batches_share_one_count(name: str, seed: int, mask: list[bool], cut: int) -> None:
    loss, draw, items, _ = ITEMS[name]
    s, t = draw(seed, len(mask))
    valid = torch.tensor(mask)
    whole, whole_grad = scored(loss, s, t, mask=valid)
    parts = [
        scored(loss, s[part], t[part], mask=valid[part], count=max(1, sum(mask) * items))
        for part in (slice(cut), slice(cut, None))
    ]
    same(parts[0][0] + parts[1][0], whole)
    same(torch.cat([parts[0][1], parts[1][1]]), whole_grad)


@each("name", ["kl of maps", "hint", "attention"])
@examples
@given(seed=seeds, batch=batches)
def test_resolution_does_not_matter(name: str, seed: int, batch: int) -> None:
    loss, draw, *_ = ITEMS[name]
    s, t = draw(seed, batch)
    double = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (s, t)]
    same(loss(*double), loss(s, t))


def test_direction() -> None:
    t, s = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]]]).double().log()
    assert losses.kl(s, t).item() == pytest.approx(0.9 * np.log(1.8) + 0.1 * np.log(0.2))
    assert losses.reverse_kl(s, t).item() == pytest.approx(np.log(5 / 3))
    same(losses.kl(s, t), losses.reverse_kl(t, s))


def test_mlkd_without_pairs_is_kl_at_every_temperature() -> None:
    s, t = normal(0, 4, 5), normal(1, 4, 5)
    alone = losses.mlkd(s, t, temperatures=[2.0, 4.0], pairs=0.0)
    same(alone, losses.kl(s, t, temperature=2.0) + losses.kl(s, t, temperature=4.0))
    once, twice = (losses.mlkd(s, t, temperatures=[2.0, 4.0], pairs=w) for w in (1.0, 2.0))
    same(once - alone, twice - once)
    assert once > alone
