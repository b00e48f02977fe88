"""Losses whose gradient has a gradient, as a penalty on input gradients needs."""

import pytest
import torch
from tests.losses.subjects import ALL

NAMES = [
    *("hint", "logit_mse", "squared_error", "vkd", "cosine", "jacobian", "attention", "ickd", "sp"),
    *("cross_entropy", "cross_entropy mixed", "ps_kd", "binary_cross_entropy", "bckd_cls"),
    *("linear_cka", "mgd", "vid", "ofd"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_has_a_gradient(name: str) -> None:
    loss, draw, *_ = ALL[name]
    s, t = draw(0, 3)
    again = torch.autograd.gradgradcheck(lambda x: loss(x, t), s.requires_grad_())
    assert again
