"""Projectors: what makes a student's signal comparable with a source's.

A factory takes both shapes, as seen in a dry run, and returns the module. Pass one to a match:
`Match(losses.hint, "layer3", project=conv)`.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal as orthogonalised

from limbeck.tokens import to_grid, to_tokens

Shape = tuple[int, ...]
Factory = Callable[[Shape, Shape], nn.Module]


class Resize(nn.Module):
    """Average-pools or bilinearly enlarges maps (B, C, H, W) to a size."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] >= self.size[0] and x.shape[3] >= self.size[1]:
            return F.adaptive_avg_pool2d(x, self.size)
        return F.interpolate(x, self.size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        return f"size={self.size}"


def conv(student: Shape, source: Shape) -> nn.Module:
    """A 1x1 convolution from the student's channels to the source's, resized where sizes differ.

    >>> conv((2, 16, 28, 28), (2, 64, 14, 14))
    Sequential(
      (0): Conv2d(16, 64, kernel_size=(1, 1), stride=(1, 1))
      (1): Resize(size=(14, 14))
    )
    """
    if len(student) != 4 or len(source) != 4:
        raise ValueError(f"conv projects maps (B, C, H, W), got {student} and {source}; try linear")
    one = nn.Conv2d(student[1], source[1], 1)
    size = (source[2], source[3])
    return one if student[2:] == source[2:] else nn.Sequential(one, Resize(size))


def fitted(student: Shape, source: Shape) -> nn.Module:
    """`conv` where the channels of maps differ; where they do not, no more than a resize.

    >>> fitted((2, 16, 7, 7), (2, 16, 7, 7)), fitted((2, 16, 7, 7), (2, 16, 14, 14))
    (Identity(), Resize(size=(14, 14)))
    """
    if len(student) != 4 or len(source) != 4 or student[1] != source[1]:
        return conv(student, source)
    return nn.Identity() if student[2:] == source[2:] else Resize((source[2], source[3]))


def around(student: Shape, source: Shape) -> nn.Module:
    """A 3x3 convolution from the student's channels to the source's, resized where sizes differ.

    >>> around((2, 16, 7, 7), (2, 64, 7, 7))
    Conv2d(16, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    _, *resize = flat(conv(student, source))
    wide = nn.Conv2d(student[1], source[1], 3, padding=1)
    return nn.Sequential(wide, *resize) if resize else wide


def around_active(student: Shape, source: Shape) -> nn.Module:
    """`around` with a ReLU behind it.

    >>> [type(part).__name__ for part in around_active((2, 16, 7, 7), (2, 64, 7, 7))]
    ['Conv2d', 'ReLU']
    """
    return nn.Sequential(*flat(around(student, source)), nn.ReLU())


def twice(student: Shape, source: Shape) -> nn.Module:
    """Two 1x1 convolutions with a ReLU between, by way of the source's channels.

    >>> [type(part).__name__ for part in twice((2, 16, 7, 7), (2, 64, 7, 7))]
    ['Conv2d', 'ReLU', 'Conv2d']
    """
    first, *resize = flat(conv(student, source))
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(source[1], source[1], 1), *resize)


def normed(student: Shape, source: Shape) -> nn.Module:
    """`conv` with batch normalisation behind it: for features before a ReLU, of either sign.

    >>> [type(part).__name__ for part in normed((2, 16, 7, 7), (2, 64, 7, 7))]
    ['Conv2d', 'BatchNorm2d']
    """
    return nn.Sequential(*flat(conv(student, source)), nn.BatchNorm2d(source[1]))


def active(student: Shape, source: Shape) -> nn.Module:
    """`normed` with a ReLU behind it: for features behind a ReLU.

    >>> [type(part).__name__ for part in active((2, 16, 7, 7), (2, 64, 7, 7))]
    ['Conv2d', 'BatchNorm2d', 'ReLU']
    """
    return nn.Sequential(*flat(normed(student, source)), nn.ReLU())


def flat(module: nn.Module) -> list[nn.Module]:
    """The parts of a sequence, or the one module."""
    return list(module) if isinstance(module, nn.Sequential) else [module]


def linear(student: Shape, source: Shape) -> nn.Module:
    """A linear layer on the last axis: (B, D) or tokens (B, N, D).

    >>> linear((8, 32), (8, 128))
    Linear(in_features=32, out_features=128, bias=True)
    """
    if len(student) != len(source) or student[:-1] != source[:-1]:
        raise ValueError(f"linear projects the last axis alone, got {student} and {source}")
    return nn.Linear(student[-1], source[-1])


class Pooled(nn.Module):
    """A linear layer on maps (B, C, H, W) averaged over positions, or on the last axis."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3)) if x.ndim == 4 else x)


def pooled(student: Shape, source: Shape) -> nn.Module:
    """A linear layer from width to width, whether a side has vectors, tokens or maps.

    For losses that average over positions and tokens themselves, such as `srd_logsum`.

    >>> pooled((8, 64, 7, 7), (8, 197, 384)).linear
    Linear(in_features=64, out_features=384, bias=True)
    """
    return Pooled(nn.Linear(width(student), width(source)))


class Precise(Pooled):
    """`Pooled` that follows a model from device to device, never to half precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Precise":
        def precise(x: Tensor) -> Tensor:
            y = fn(x)
            return y if y.dtype in (torch.float32, torch.float64) else x.to(y.device)

        super()._apply(precise, recurse)
        return self


def orthogonal(student: Shape, source: Shape) -> nn.Module:
    """`pooled` without bias, its weight kept orthogonal: W'W = 1, or WW' = 1 where it narrows.

    The weight is made of free parameters at every call, so that no step leaves orthogonality.

    >>> weight = orthogonal((8, 3), (8, 5)).linear.weight.detach()
    >>> [[abs(round(float(x))) for x in row] for row in weight.T @ weight]
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """
    return Precise(orthogonalised(nn.Linear(width(student), width(source), bias=False)))


def width(shape: Shape) -> int:
    """The channels of maps (B, C, H, W); of anything else, the last axis."""
    return shape[1] if len(shape) == 4 else shape[-1]


class Grid(nn.Module):
    """Tokens (B, N, D) as maps of another width and size, without the `extra` first tokens."""

    def __init__(self, linear: nn.Module, extra: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.linear, self.extra, self.resize = linear, extra, Resize(size)

    def forward(self, x: Tensor) -> Tensor:
        return self.resize(to_grid(self.linear(x), self.extra))


def grid(extra: int = 1) -> Factory:
    """From a student's tokens, of which the first `extra` are no patches, to a source's maps.

    >>> project = grid(extra=1)((2, 197, 384), (2, 512, 7, 7))
    >>> tuple(project(torch.ones(2, 197, 384)).shape)
    (2, 512, 7, 7)
    """

    def factory(student: Shape, source: Shape) -> nn.Module:
        if len(student) != 3 or len(source) != 4:
            raise ValueError(f"grid projects tokens to maps, got {student} and {source}")
        linear = nn.Linear(student[-1], source[1])
        return Grid(linear, extra, (source[2], source[3]))

    return factory


class Patches(nn.Module):
    """Maps (B, C, H, W) as tokens, before which `extra` ones are read from the map's mean."""

    def __init__(self, channels: int, width: int, extra: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.conv, self.resize = nn.Conv2d(channels, width, 1), Resize(size)
        self.first = nn.Linear(channels, extra * width) if extra else None

    def forward(self, x: Tensor) -> Tensor:
        patches = to_tokens(self.resize(self.conv(x)))
        if self.first is None:
            return patches
        first = self.first(x.mean((2, 3))).unflatten(1, (-1, patches.shape[-1]))
        return torch.cat([first, patches], 1)


def patches(extra: int = 1) -> Factory:
    """From a student's maps to a source's tokens, its `extra` class and register tokens too.

    >>> project = patches(extra=1)((2, 512, 7, 7), (2, 197, 384))
    >>> tuple(project(torch.ones(2, 512, 7, 7)).shape)
    (2, 197, 384)
    """

    def factory(student: Shape, source: Shape) -> nn.Module:
        if len(student) != 4 or len(source) != 3:
            raise ValueError(f"patches projects maps to tokens, got {student} and {source}")
        side = math.isqrt(max(source[1] - extra, 0))
        if side < 1 or side**2 != source[1] - extra:
            raise ValueError(f"{extra} tokens and a square of patches are not {source[1]} tokens")
        return Patches(student[1], source[-1], extra, (side, side))

    return factory
