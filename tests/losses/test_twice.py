"""Losses whose gradient has a gradient, as a penalty on input gradients needs."""

import pytest
import torch
from tests.losses.subjects import ALL
from torch import Tensor

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


@pytest.mark.parametrize("name", sorted({*ALL} - {*NAMES, "kdsvd"}))  # kdsvd has constants of s
def test_a_second_derivative_is_right_or_refused(name: str) -> None:
    """Of what lies before the loss, whose gradient comes in without a graph."""
    loss, draw, *_ = ALL[name]
    s, t = draw(0, 3)
    if not s.is_floating_point():
        return
    scale = torch.ones((), dtype=s.dtype, requires_grad=True)
    v = torch.randn(s.shape, dtype=s.dtype, generator=torch.Generator().manual_seed(0))

    def slope(s: Tensor, graph: bool) -> Tensor:
        s = s.detach().requires_grad_() if not graph else s
        return torch.autograd.grad(loss(s * scale, t), s, create_graph=graph)[0]

    s = s.requires_grad_()
    try:
        along = (slope(s, True) * v).sum()
    except RuntimeError as error:
        if "must be differentiated once" in str(error):
            return
        raise
    (found,) = torch.autograd.grad(along, s, allow_unused=True, materialize_grads=True)
    expected = (slope(s + 1e-5 * v, False) - slope(s - 1e-5 * v, False)) / 2e-5
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
