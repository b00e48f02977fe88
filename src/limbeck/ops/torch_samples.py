"""What native operations do not hold of the losses that compare samples, for torch tensors."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.ops.torch_once import once
from limbeck.ops.torch_state import autocasting, precisely

SPARSE = 16  # of so many rows one is chosen
ROOM = 2**19  # numbers that fit the cache of a CPU


def gram(x: Tensor) -> Tensor:
    """Inner products (..., N, N) of the rows of (..., N, D), whatever autocast says."""
    return _Gram.apply(x) if x.requires_grad else _products(x)


class _Gram(torch.autograd.Function):
    """One product forward and one back, as the result is symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _products(x)

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> Tensor:
        (x,), (g,) = ctx.saved_tensors, grad_outputs
        return (g + g.mT) @ x


def _products(x: Tensor) -> Tensor:
    if not autocasting():
        return x @ x.mT
    with precisely(x):
        return x @ x.mT


def square_distances(x: Tensor) -> Tensor:
    """Squared Euclidean distances of the rows (B, B), exactly 0 where rows coincide."""
    return _SquareDistances.apply(x)


class _SquareDistances(torch.autograd.Function):
    """One product of matrices, in float64: single precision would cancel where rows are close."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
        centred = wide - wide.sum(0) / max(len(x), 1)
        products = centred @ centred.mT
        ctx.save_for_backward(centred)
        lengths = products.diagonal()
        both = lengths[:, None] + lengths
        square = both.sub(products, alpha=2)
        noise = both.mul_(16 * torch.finfo(wide.dtype).eps)
        return square.masked_fill_(square <= noise, 0).to(x.dtype)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> Tensor:
        (centred,), (g,) = ctx.saved_tensors, grad_outputs
        factors = (g + g.mT).to(centred.dtype).mul_(-2)
        factors.diagonal().sub_(factors.sum(1))
        return (factors @ centred).to(g.dtype)


def cosines(square: Tensor) -> Tensor:
    """cos[a, b, c] at a between b and c, of squared distances; 0 where b or c is at distance 0."""
    return _Cosines.apply(square)


class _Cosines(torch.autograd.Function):
    """The law of cosines (d_ab^2 + d_ac^2 - d_bc^2) / (2 d_ab d_ac), in few passes over B^3."""

    @staticmethod
    def forward(ctx: Any, square: Tensor) -> Tensor:
        inverse = square.rsqrt().masked_fill_(square <= 0, 0)
        cosines = square[:, :, None] + square[:, None, :]
        cosines.sub_(square).mul_(inverse[:, :, None]).mul_(inverse[:, None, :] / 2)
        ctx.save_for_backward(inverse, cosines)
        return cosines

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> Tensor:
        (inverse, cosines), (g,) = ctx.saved_tensors, grad_outputs
        by_sides = (g * inverse[:, :, None]).mul_(inverse[:, None, :] / 2)
        by_lengths = (g * cosines).mul_(0.5)
        at_a = by_sides.sum(1) + by_sides.sum(2)
        turned = by_lengths.sum(1) + by_lengths.sum(2)
        return at_a - by_sides.sum(0) - inverse**2 * turned


def dots(x: Tensor, rows: Tensor, index: Tensor) -> Tensor:
    """x[b] . rows[index[b, k]] (B, K), without a gradient.

    Where few rows are left out, it is faster to multiply with all of them than to collect some.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        if len(rows) <= SPARSE * index.shape[1]:
            return (x @ rows.mT).gather(1, index)
        some = max(ROOM // (index.shape[1] * rows.shape[1]), 1)
        parts = zip(x.split(some), index.split(some), strict=True)
        return torch.cat([torch.bmm(chosen(rows, i), a[:, :, None]).squeeze(2) for a, i in parts])


def chosen(rows: Tensor, index: Tensor) -> Tensor:
    """rows[index], faster."""
    return rows.index_select(0, index.reshape(-1)).view(*index.shape, rows.shape[1])


def nce(x: Tensor, rows: Tensor, index: Tensor, shift: Any) -> Tensor:
    """(B,): softplus(-l_0) + sum_k>0 softplus(l_k), l_k = x[b] . rows[index[b, k]] - shift.

    The gradient is that of `x` alone.
    """
    return _NCE.apply(x, rows, index, shift)


class _NCE(torch.autograd.Function):
    """Forms its gradient at once, so that the rows may change before the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, index: Tensor, shift: Any) -> Tensor:
        logits = dots(x, rows, index) - shift
        logits[:, 0].neg_()
        if ctx.needs_input_grad[0]:
            slope = logits.sigmoid()
            slope[:, 0].neg_()
            by_x = F.embedding_bag(index, rows, per_sample_weights=slope, mode="sum")
            ctx.save_for_backward(by_x)
        return F.softplus(logits).sum(1)

    @staticmethod
    @once
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        (by_x,) = ctx.saved_tensors
        return by_x * grad_outputs[0][:, None], None, None, None
