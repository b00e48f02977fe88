"""The edges of the token losses: refusals, confident students, stored sources, padding."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.losses.subject import NAN, finite, normal, same, scored
from torch import Tensor

from limbeck import losses

each = pytest.mark.parametrize


@each(
    ("call", "message"),
    [
        (lambda s: losses.topk_kl(s, s, k=0), r"k must be in 1 \.\.\. V = 4, got 0"),
        (lambda s: losses.topk_kl(s, s, k=5), r"k must be in 1 \.\.\. V = 4, got 5"),
        (lambda s: losses.topk_kl(s, s, k=1, tail="renormalise"), r"k must be in 2 \.\.\."),
        (lambda s: losses.topk_kl(s, s, k=2, tail="keep"), "tail must be one of .* got 'keep'"),
        (lambda s: losses.topk_kl(s, s[:1], k=2), r"got \(2, 4\) and \(1, 4\)"),
        (lambda s: losses.sparse_kl(s, s[:, :2], s[:, :1].long()), "log probabilities and indices"),
        (lambda s: losses.uld(s, s[:1]), "the same tokens on both sides"),
        (lambda s: losses.margin_mse(s, s[:, :2]), r"got \(2, 4\) and \(2, 2\)"),
        (lambda s: losses.margin_mse(s[:, :1], s[:, :1]), "margin_mse needs scores"),
        (lambda s: losses.minilm_relation(s[None], s[None], heads=3), "D divisible by 3 heads"),
        (lambda s: losses.minilm_relation(s[None], s[None, :1], heads=2), r"\(1, 1, 4\)"),
        (lambda s: losses.afd(s, s), r"maps \(B, C, H, W\)"),
        (lambda s: losses.vkd(s, s[:, :2]), "one batch and one width"),
        (lambda s: losses.vkd(s, s, mask=torch.ones(2, 3)), r"mask must .* \(2,\), got \(2, 3\)"),
        (lambda s: losses.srd_logsum(s, s[:1]), "one batch and one width"),
        (lambda s: losses.tinybert_attention(s, s[:1]), r"got \(2, 4\) and \(1, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(call: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ones(2, 4))


@each("dtype", [torch.float64, torch.float32])
def test_a_confident_student_keeps_the_gradient_of_its_tail(dtype: torch.dtype) -> None:
    s = torch.tensor([[60.0, 55.0, 0.0, -1.0]], dtype=dtype)
    t = torch.tensor([[2.0, 1.0, 0.5, 0.2]], dtype=dtype)
    p = t.softmax(-1)
    _, by_student = scored(losses.topk_kl, s, t, k=2)
    same(by_student[0, 2:].sum(), -p[0, 2:].sum(), 1e-6)


def test_dropping_the_tail_at_equality_still_pulls() -> None:
    s = normal(0, 1, 5)
    value, by_student = scored(losses.topk_kl, s, s.clone(), k=2, tail="drop")
    assert value == 0
    assert by_student.abs().max() > 0.01


@each("tail", ["bucket", "renormalise", "drop"])
@each("temperature", [1.0, 3.0])
def test_a_stored_source_is_worth_its_logits(tail: Any, temperature: float) -> None:
    s, t = normal(1, 2, 2, 3, 7)
    log_p, index = (t / temperature).log_softmax(-1).topk(4)
    keys = {"tail": tail, "temperature": temperature}
    value, by_student = scored(lambda x, y: losses.sparse_kl(x, y, index, **keys), s, log_p)
    expected, expected_grad = scored(losses.topk_kl, s, t, k=4, **keys)
    same(value, expected)
    same(by_student, expected_grad)


def test_a_stored_source_with_nothing_left_asks_for_no_tail() -> None:
    s = torch.tensor([[3.0, 1.0, -math.inf, -math.inf]])
    log_p, index = torch.tensor([[0.75, 0.25 - 1e-8]]).log(), torch.tensor([[1, 0]])
    value, by_student = scored(lambda x, y: losses.sparse_kl(x, y, index), s, log_p)
    assert finite(value, by_student)
    assert value < 10


def test_what_a_mask_hides_of_a_stored_source_may_be_anything() -> None:
    s, log_p = normal(2, 2, 3, 5), normal(3, 2, 3, 2).log_softmax(-1) - 0.1
    index = torch.tensor([[[0, 1]] * 3] * 2)
    mask = torch.tensor([[True, True, False], [False, True, False]])

    def loss(x: Tensor, y: Tensor, i: Tensor = index) -> Tensor:
        return losses.sparse_kl(x, y, i, mask=mask)

    expected, expected_grad = scored(loss, s, log_p)
    s[~mask], log_p[~mask], index[~mask] = NAN, NAN, -7
    value, by_student = scored(loss, s, log_p)
    same(value, expected)
    same(by_student, expected_grad)


def test_padding_is_neither_query_nor_key() -> None:
    q, k, other_q, other_k = (normal(seed, 2, 4, 6) for seed in range(4))
    mask = torch.tensor([[True, True, True, False], [False, True, True, False]])
    short = [x[1:, 1:3] for x in (q, other_q, k, other_k)]
    alone = losses.minilm_attention(*short, heads=2)
    junk = [x.masked_fill(~mask[..., None], NAN) for x in (q, other_q, k, other_k)]
    only = torch.tensor([[False] * 4, [False, True, True, False]])
    same(losses.minilm_attention(*junk, heads=2, mask=only), alone)
    for_both = losses.minilm_attention(*junk, heads=2, mask=mask)
    first = losses.minilm_attention(*(x[:1, :3] for x in (q, other_q, k, other_k)), heads=2)
    same(for_both, (3 * first + 2 * alone) / 5)


def test_a_student_whose_scores_are_not_numbers_is_not_hidden() -> None:
    s = torch.zeros(1, 1, 2, 2)
    s[0, 0, 0, 1] = NAN
    assert losses.tinybert_attention(s, torch.zeros(1, 1, 2, 2)).isnan()


@each("loss", [losses.srd_logsum, losses.srd_correlation])
def test_a_batch_of_one_teaches_nothing(loss: Callable[..., Tensor]) -> None:
    value, by_student = scored(loss, normal(0, 1, 4), normal(1, 1, 4))
    assert finite(value)
    assert by_student.count_nonzero() == 0


def test_a_correlation_ignores_scale_and_constant_features() -> None:
    s, t = normal(0, 2, 6, 3)
    scaled = losses.srd_correlation(1e-9 * s, 1e7 * t)
    same(scaled, losses.srd_correlation(s, t), 1e-6)
    s[:, 1] = 1000.0
    value, by_student = scored(losses.srd_correlation, s.float(), t.float())
    assert finite(value, by_student)
    assert by_student[:, 1].count_nonzero() == 0


def test_vectors_of_vkd_may_come_from_maps_and_tokens() -> None:
    s, t = normal(0, 2, 5, 4), normal(1, 2, 4, 3, 3)
    same(losses.vkd(s, t), losses.vkd(s.mean(1), t.mean((2, 3))))
    mask = torch.tensor([[True, True, False, False, False], [False] * 5])
    same(losses.vkd(s, t, mask=mask), losses.vkd(s[:1, :2].mean(1), t[:1].mean((2, 3))))


@each("dtype", [np.float16, np.float32])
def test_half_precision_scores_of_numpy(dtype: Any) -> None:
    s = np.full((1, 1, 2, 2), 300, dtype)
    assert losses.tinybert_attention(s, -s) == 360000.0
