"""OFD: features before the ReLU, above the source's margins."""

import math

import torch
from torch import Tensor, nn

from limbeck import losses


class Overhaul(nn.Module):
    """`losses.ofd` with the margins of a batch normalisation.

    Args:
        norm: the source's `BatchNorm2d` right before the ReLU whose input is matched.

    Example:
        >>> Overhaul(nn.BatchNorm2d(2)).margin
        tensor([-0.7979, -0.7979])

    Paper:
        Heo et al., ICCV 2019, arXiv 1904.01866.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.margin: Tensor
        self.register_buffer("margin", margins(norm), persistent=False)

    def forward(self, s: Tensor, t: Tensor) -> Tensor:
        return losses.ofd(s, t, self.margin)


def margins(norm: nn.BatchNorm2d) -> Tensor:
    """The mean of each channel's negative values, if what comes in is normal (C,).

    E[x | x < 0] of N(mu, sigma^2), mu the bias and sigma the size of the weight: mu - sigma *
    pdf(mu / sigma) / cdf(-mu / sigma); -3 sigma where at most a thousandth is negative.
    """
    weight, bias = norm.weight, norm.bias
    sigma = torch.ones(norm.num_features) if weight is None else weight.detach().abs()
    mu = torch.zeros_like(sigma) if bias is None else bias.detach()
    z = mu / sigma.clamp(min=torch.finfo(sigma.dtype).tiny)
    negative = torch.special.ndtr(-z)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    mean = mu - sigma * density / negative.clamp(min=1e-3)
    return torch.where(negative > 1e-3, mean, -3 * sigma)
