"""What a network costs, and whether its weights can be real."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.distiller import evaluating


def cost(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Parameters, bytes of the state, and floating-point operations for one example.

    A multiply-add counts as two operations; `example` is one adapted input (1, ...).
    """
    with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
        model(example)
    state = model.state_dict().values()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": counter.get_total_flops() // len(example),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in state),
    }


def suspicious_weights(model: nn.Module) -> str | None:
    """Why these weights cannot have been trained, or None."""
    weights = [p for p in model.parameters() if p.ndim >= 2]
    bad = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        return f"{bad[0]} is not finite"
    if weights and all(not bool(p.any()) for p in weights):
        return "all of them are zero"
    return None
