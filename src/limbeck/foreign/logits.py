"""Logits of whatever a teacher answers."""

import math

import torch
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.foreign.spec import Output

ROUNDING = 1e-2  # a probability in half precision can be this far above 1


def as_logits(answer: Tensor, output: Output) -> Tensor:
    """Logits in float32, finite wherever the answer is.

        logits              z
        log_probabilities   log p        (the softmax of log p / T is that of z / T)
        probabilities       log p
        sigmoid             log p - log(1 - p)

    A probability of 0 counts as the smallest normal number of its type, and log 0 as that of
    float64, -708.

    Raises:
        LimbeckError: probabilities outside 0..1.

    >>> as_logits(torch.tensor([[0.5, 0.25, 0.25]]), "probabilities").softmax(-1)
    tensor([[0.5000, 0.2500, 0.2500]])
    """
    match output:
        case "logits":
            return answer.float()
        case "log_probabilities":
            return answer.float().clamp_min(math.log(tiny(torch.float64)))
        case "probabilities":
            return within(answer).clamp_min(tiny(answer.dtype)).log().float()
        case "sigmoid":
            most = 1 - torch.finfo(answer.dtype).eps / 2
            p = within(answer).clamp(tiny(answer.dtype), most)
            return (p.log() - torch.log1p(-p)).float()


def tiny(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).tiny


def within(p: Tensor) -> Tensor:
    """Probabilities, after a look at their range; NaN is not judged here."""
    if bool(((p < 0) | (p > 1 + ROUNDING)).any()):
        raise LimbeckError(
            f"probabilities must be in 0..1, got {p.min():.4g} to {p.max():.4g}; say output: "
            "logits or output: log_probabilities"
        )
    return p
