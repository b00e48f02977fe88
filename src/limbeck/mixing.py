"""How the answers of several teachers become one.

K teachers, C classes; logits are (K, ..., C), or have C on another axis, and weights are of a shape
that goes with them, such as (K, 1, 1) for one a teacher and (K, 1, C) for one a class too.
"""

import torch
from torch import Tensor


def mean_of_probabilities(
    logits: Tensor, weights: Tensor, temperature: float = 1.0, axis: int = -1
) -> Tensor:
    """Logits z with softmax(z / T) = sum_k w_k softmax(z_k / T), up to the sum over classes.

    That sum is 1 unless the weights differ by class.

    >>> z, w = torch.tensor([[4.0, 0, 0], [0, 1, 0]]), torch.tensor([[0.5], [0.5]])
    >>> [round(float(p), 4) for p in mean_of_probabilities(z, w).exp()]
    [0.5883, 0.2969, 0.1148]
    """
    return mixture(logits, weights.log(), temperature, axis)


def mixture(
    logits: Tensor, log_weights: Tensor, temperature: float = 1.0, axis: int = -1
) -> Tensor:
    """As `mean_of_probabilities`, of log w_k: they have a gradient however small w_k is.

    >>> z, w = torch.zeros(2, 3), torch.tensor([[0.0], [-1000.0]], requires_grad=True)
    >>> mixture(z, w).sum().backward()
    >>> w.grad.flatten().tolist()
    [3.0, 0.0]
    """
    log_p = torch.log_softmax(logits / temperature, axis)
    return temperature * torch.logsumexp(log_p + log_weights, 0)


def mean_of_logits(logits: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k z_k; what has no weight may be -inf.

    >>> z, w = torch.tensor([[2.0, 0.0], [4.0, -torch.inf]]), torch.tensor([[0.5, 1.0], [0.5, 0.0]])
    >>> mean_of_logits(z, w).tolist()
    [3.0, 0.0]
    """
    return torch.where(weights == 0, 0, weights * logits).sum(0)
