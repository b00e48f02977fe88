"""Public bug reports about the losses of token models, by their ids."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tests.losses.test_cases import SEQ_S, SEQ_T, both, grad, right, rows
from torch import Tensor

from limbeck import losses
from limbeck.tokens import causal

each = pytest.mark.parametrize
LOSSES: list[Callable[..., Any]] = [
    losses.kl,
    losses.reverse_kl,
    losses.uld,
    losses.cosine,
    losses.vitkd_mimic,
    partial(losses.hint, axis=-1),
    partial(losses.topk_kl, k=2),
    partial(losses.topk_kl, k=2, tail="renormalise"),
    partial(losses.topk_kl, k=2, tail="drop"),
    partial(losses.minilm_relation, heads=2),
]


@each(("tail", "figure"), [("drop", -0.137405982), ("bucket", 0.13985289)])
def test_b028_a_truncated_divergence_is_none_and_a_bucket_is(tail: Any, figure: float) -> None:
    t, s = rows([0.5, 0.3, 0.1, 0.06, 0.04]).log(), rows([0.6, 0.35, 0.03, 0.01, 0.01]).log()
    assert both(losses.topk_kl, s, t, k=2, tail=tail) == right(figure)
    assert both(losses.topk_kl, s, t, k=2, tail="renormalise") == right(9.27789952e-05)
    assert both(losses.topk_kl, s, t, k=5, tail=tail) == right(0.145948641)
    assert both(losses.kl, s, t) == right(0.145948641)
    index = torch.tensor([[0, 1]])
    assert losses.sparse_kl(s, t[:, :2], index, tail=tail).item() == right(figure)
    assert losses.sparse_kl(s, t, torch.arange(5)[None], tail=tail).item() == right(0.145948641)


@each("tail", ["bucket", "renormalise", "drop"])
def test_fillers_count_for_nothing_wherever_they_stand(tail: Any) -> None:
    s, t = rows([0.6, 0.35, 0.03, 0.01, 0.01]).log(), rows([0.5, 0.3]).log()
    alone = losses.sparse_kl(s, t, torch.tensor([[1, 3]]), tail=tail)
    filler = torch.full((1, 2), -torch.inf, dtype=t.dtype)
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        filled = torch.cat((t, filler), -1)[:, order]
        index = torch.tensor([[1, 3, 0, 4]])[:, order]
        found = losses.sparse_kl(s, filled, index, tail=tail)
        torch.testing.assert_close(found, alone)


def test_b037_the_shorter_vocabulary_is_filled_with_zeros() -> None:
    s, t = rows([1.0, 0.0, -1.0]), rows([2.0, 0.5, 0.0, -0.5])
    assert both(losses.uld, s, t) == right(0.179672357)
    order = torch.tensor([2, 0, 3, 1])
    assert both(losses.uld, s, t[:, order]) == right(0.179672357)
    with pytest.raises(ValueError, match="aligned beforehand"):
        losses.uld(torch.ones(1, 5, 3), torch.ones(1, 7, 4))


@each("loss", LOSSES)
def test_b043_ignored_positions_have_no_gradient(loss: Callable[..., Tensor]) -> None:
    mask = torch.tensor([[True, True, False]])
    by_student = grad(loss, SEQ_S[None], SEQ_T[None], mask=mask)
    assert by_student[0, 2].count_nonzero() == 0
    assert by_student[0, :2].count_nonzero() > 0


@each("loss", LOSSES)
def test_b044_nothing_supervised_is_zero(loss: Callable[..., Tensor]) -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert both(loss, SEQ_S[None], SEQ_T[None], mask=nothing) == 0
    assert grad(loss, SEQ_S[None], SEQ_T[None], mask=nothing).count_nonzero() == 0
    pair = torch.stack([SEQ_S, SEQ_T]), torch.stack([SEQ_T, SEQ_S])
    first = torch.tensor([True, False])
    assert both(loss, *pair, mask=first) == right(both(loss, SEQ_S[None], SEQ_T[None]))


@each("loss", LOSSES)
def test_b047_all_losses_share_one_mask_and_one_shift(loss: Callable[..., Tensor]) -> None:
    target, mask = causal(torch.tensor([[-100, 1, 2]]))
    assert both(losses.kl, SEQ_S[None], SEQ_T[None], mask=mask) == right(0.537492192)
    hard = losses.cross_entropy(SEQ_S[None], target)
    assert hard.item() == right(losses.cross_entropy(SEQ_S[:2], torch.tensor([1, 2])).item())
    value = both(loss, SEQ_S[None], SEQ_T[None], mask=mask)
    moved = []
    for position in range(3):
        bumped = SEQ_S[None].clone()
        bumped[0, position] += torch.tensor([1.0, 0.5, -0.5, 0.0])
        if both(loss, bumped, SEQ_T[None], mask=mask) != value:
            moved.append(position)
    assert moved == [0, 1]
    assert grad(loss, SEQ_S[None], SEQ_T[None], mask=mask)[0, 2].count_nonzero() == 0


def test_b049_attention_scores_with_fillers() -> None:
    s = rows([0.5, 1.0, -0.2, -10000.0])[None].expand(1, 1, 4, 4)
    t = rows([0.1, 1.4, 0.3, -torch.inf])[None].expand(1, 1, 4, 4)
    mask = torch.tensor([[True, True, True, False]])
    assert both(losses.tinybert_attention, s, t, mask=mask) == right(0.19)
    assert both(losses.tinybert_attention, s, t) == right(0.19)
    assert grad(losses.tinybert_attention, s, t)[..., 3].count_nonzero() == 0
    filled = t.masked_fill(t.isinf(), -10000.0)
    assert both(losses.tinybert_attention, s, filled, mask=mask) == right(0.19)


@each("loss", LOSSES)
@each("length", [3, 5, 12])
def test_b050_a_sequence_alone_and_padded(loss: Callable[..., Tensor], length: int) -> None:
    pad = torch.full((length - 3, 4), torch.nan).double()
    mask = torch.arange(length)[None] < 3
    padded = [torch.cat([x, pad])[None] for x in (SEQ_S, SEQ_T)]
    alone = both(loss, SEQ_S[None], SEQ_T[None])
    assert both(loss, *padded, mask=mask) == right(alone)
    assert grad(loss, *padded, mask=mask).isfinite().all()


@each("loss", LOSSES[:-1])
@each("size", [1, 2, 3, 8])
def test_b053_chunks_share_one_divisor(loss: Callable[..., Tensor], size: int) -> None:
    mask = torch.tensor([True, True, False])
    s = SEQ_S.clone().requires_grad_()
    chunks = [
        loss(a, b, mask=m, count=2)
        for a, b, m in zip(s.split(size), SEQ_T.split(size), mask.split(size), strict=True)
    ]
    assert all(chunk.requires_grad for chunk in chunks)
    total = torch.stack(chunks).sum()
    assert total.item() == right(both(loss, SEQ_S, SEQ_T, mask=mask))
    (by_student,) = torch.autograd.grad(total, s)
    torch.testing.assert_close(by_student, grad(loss, SEQ_S, SEQ_T, mask=mask))
