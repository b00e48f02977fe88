"""What stands at an exit."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.exits.places import Shape


class Exit(nn.Module):
    """A bottleneck to the deepest place's channels, and a linear classifier of their means."""

    def __init__(self, shape: Shape, deepest: Shape, classes: int) -> None:
        super().__init__()
        self.bottleneck = separable(shape, deepest) if len(shape) == 4 else tokens(shape, deepest)
        self.head = nn.Linear(channels(deepest), classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes), and features with channels on axis 1."""
        f = channels_second(self.bottleneck(x))
        return self.head(f.flatten(2).mean(2)), f


def separable(shape: Shape, deepest: Shape) -> nn.Module:
    """From a map to the deepest one's channels, by as many halvings as lie between their sizes.

    >>> [type(part).__name__ for part in separable((2, 16, 8, 8), (2, 64, 2, 2))]
    ['Conv2d', 'Conv2d', 'BatchNorm2d', 'ReLU', 'Conv2d', 'Conv2d', 'BatchNorm2d', 'ReLU']
    """
    halvings = max(1, round(math.log2(shape[2] / deepest[2])))
    stride = 2 if shape[2] > deepest[2] else 1
    width, layers = shape[1], list[nn.Module]()
    for k in range(halvings):
        wider = deepest[1] if k == halvings - 1 else min(2 * width, deepest[1])
        layers += [
            nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False),
            nn.Conv2d(width, wider, 1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
        ]
        width = wider
    return nn.Sequential(*layers)


def tokens(shape: Shape, deepest: Shape) -> nn.Module:
    """From tokens to the deepest ones' width."""
    return nn.Sequential(nn.LayerNorm(shape[2]), nn.Linear(shape[2], deepest[2]))


def channels(shape: Shape) -> int:
    return shape[1] if len(shape) == 4 else shape[2]


def channels_second(x: Tensor) -> Tensor:
    """A map as it is, tokens (B, N, D) as (B, D, N)."""
    return x.mT if x.ndim == 3 else x


def fitted(f: Tensor, deepest: Tensor) -> Tensor:
    """Features in the deepest one's size, if halving did not meet it."""
    if f.shape == deepest.shape:
        return f
    return F.adaptive_avg_pool2d(f, (deepest.shape[2], deepest.shape[3]))
