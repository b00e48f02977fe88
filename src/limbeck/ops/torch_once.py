"""Gradients that have no gradients of their own."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

Gradients = Tensor | tuple[Tensor | None, ...]


def once(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    """A backward that refuses to become part of a graph.

    torch's `once_differentiable` lets it pass where the incoming gradient needs none, though the
    layers before the loss may: their second derivative would lack the loss's part, and nobody would
    know. It also costs a small loss a tenth of its time.
    """

    @wraps(backward)
    def gradients(ctx: Any, *grad_outputs: Any) -> Gradients:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                "this loss must be differentiated once, got create_graph=True; its gradient is "
                "formed with its value: write the loss in plain torch for a second derivative"
            )
        return backward(ctx, *grad_outputs)

    return gradients
