"""Losses over a large vocabulary, a chunk of tokens at a time, for torch tensors.

The gradient of a chunk is formed beside its value, so that nothing of the size of all logits is
made but that gradient itself, where all logits exist already. N tokens, V vocabulary, D width.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.ops.torch import float32
from limbeck.ops.torch_kl import compared, tempered

Rows = slice
Scorer = Callable[[Tensor, Rows], tuple[Tensor, Tensor]]  # value, and gradient by the logits


def by_kl(
    theirs: Callable[[Rows], Tensor],
    temperature: float,
    factor: Tensor,
    *,
    valid: Tensor | None = None,
    owned: bool,
) -> Scorer:
    """sum_i factor_i KL(p_i || q_i) over the valid tokens, in three buffers of a chunk.

    The buffers are those of the first chunk, so that none is allocated twice; logits that are
    `owned`, made for this alone, serve as one.
    """
    buffers: list[Tensor] = []

    def ready(x: Tensor, rows: Rows) -> Tensor:
        return float32(x if valid is None else x.where(valid[rows], 0))

    def score(logits: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        s = ready(logits, rows)
        del logits
        if not buffers:
            buffers.extend(torch.empty_like(s) for _ in range(2 if owned else 3))
        log_q, log_p, *spare = (x[: len(s)] for x in buffers)
        tempered(s, temperature, s if owned else spare[0], log_q)
        del s
        t = ready(theirs(rows), rows)
        scratch = t if owned else spare[0]
        tempered(t, temperature, scratch, log_p)
        p, ratio, by_s = compared(log_q, log_p, scratch)
        scale = factor[rows, None]
        value = (ratio.mul_(p).sum(-1, keepdim=True) * scale).sum()
        return value, by_s.mul_(scale / temperature)

    return score


def by_autograd(loss: Callable[[Tensor, Rows], Tensor]) -> Scorer:
    """Any loss of the logits of a chunk."""

    def score(logits: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        leaf = logits.detach().requires_grad_()
        with torch.enable_grad():
            value = loss(leaf, rows)
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    return score


@torch.compiler.disable
def over_linear(hidden: Tensor, weight: Tensor, bias: Tensor | None, score: Scorer, n: int) -> Any:
    """The sum of a loss of logits = hidden (N, D) @ weight (V, D)' + bias, `n` tokens at a time."""
    return _Linear.apply(hidden, weight, bias, score, n, torch.is_grad_enabled())


@torch.compiler.disable
def over_logits(logits: Tensor, score: Scorer, n: int) -> Any:
    """The sum of a loss of logits (N, V), `n` tokens at a time."""
    return _Logits.apply(logits, score, n, torch.is_grad_enabled())


def projected(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Logits of some tokens, in single precision or better."""
    return float32(F.linear(hidden, weight, bias))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        score: Scorer,
        n: int,
        learning: bool,
    ) -> Tensor:
        needed = [learning and need for need in ctx.needs_input_grad[:3]]
        inputs = (hidden, weight, bias)
        grads = [
            zeros(x) if x is not None and need else None
            for x, need in zip(inputs, needed, strict=True)
        ]
        total = zeros(hidden.new_empty(()))
        for rows in chunks(len(hidden), n):
            value, g = score(projected(hidden[rows], weight, bias), rows)
            total += value
            with torch.autocast(g.device.type, enabled=False):
                accumulate(grads, g, hidden[rows], weight, rows)
        return finish(ctx, total, grads, inputs)

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        return (*handed_over(ctx, grad_outputs[0]), None, None, None)


class _Logits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, score: Scorer, n: int, learning: bool) -> Tensor:
        grad = torch.empty_like(logits) if learning and ctx.needs_input_grad[0] else None
        total = zeros(logits.new_empty(()))
        for rows in chunks(len(logits), n):
            value, g = score(logits[rows], rows)
            total += value
            if grad is not None:
                grad[rows] = g
        return finish(ctx, total, [grad], (logits,))

    @staticmethod
    def backward(  # pyrefly: ignore[bad-override]  # torch's stub has no static backward
        ctx: Any, *grad_outputs: Any
    ) -> tuple[Tensor | None, ...]:
        return (*handed_over(ctx, grad_outputs[0]), None, None, None)


def accumulate(
    grads: list[Tensor | None], g: Tensor, hidden: Tensor, weight: Tensor, rows: Rows
) -> None:
    """Adds a chunk's part to the gradients of hidden, weight and bias, those that are wanted."""
    by_hidden, by_weight, by_bias = grads
    if by_bias is not None:
        by_bias += g.sum(0)
    g = g.to(weight.dtype)
    if by_hidden is not None:
        by_hidden[rows] = g @ weight
    if by_weight is not None and by_weight.dtype == weight.dtype == hidden.dtype:
        by_weight.addmm_(g.t(), hidden)
    elif by_weight is not None:
        by_weight += g.t() @ hidden.to(weight.dtype)


def finish(
    ctx: Any, total: Tensor, grads: list[Tensor | None], inputs: tuple[Tensor | None, ...]
) -> Tensor:
    """Keeps the gradients in the types of the inputs; the value is `total`."""
    ctx.grads = [
        g if g is None or x is None else g.to(x.dtype) for g, x in zip(grads, inputs, strict=True)
    ]
    return total


def handed_over(ctx: Any, g: Tensor) -> list[Tensor | None]:
    """The gradients that the forward formed, scaled in place: they can be had once."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "a loss in chunks must be differentiated once, got create_graph=True; its gradient is "
            "formed in the forward: take the plain loss of the logits for a second derivative"
        )
    if ctx.grads is None:
        raise RuntimeError(
            "a loss in chunks must be differentiated once, got a second backward; "
            "its gradient was handed over: call the loss again"
        )
    grads, ctx.grads = ctx.grads, None
    return [x if x is None else x.mul_(g) for x in grads]


def zeros(x: Tensor) -> Tensor:
    """Zeros of the shape of `x` in single precision or better."""
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))


def chunks(tokens: int, n: int) -> Iterator[Rows]:
    """Tokens, `n` at a time."""
    return (slice(i, i + n) for i in range(0, tokens, n))
