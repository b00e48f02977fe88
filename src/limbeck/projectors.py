"""Projectors: what makes a student's signal comparable with a source's.

A factory takes both shapes, as seen in a dry run, and returns the module. Pass one to a match:
`Match(losses.hint, "layer3", project=conv)`.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

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


def linear(student: Shape, source: Shape) -> nn.Module:
    """A linear layer on the last axis: (B, D) or tokens (B, N, D).

    >>> linear((8, 32), (8, 128))
    Linear(in_features=32, out_features=128, bias=True)
    """
    if len(student) != len(source) or student[:-1] != source[:-1]:
        raise ValueError(f"linear projects the last axis alone, got {student} and {source}")
    return nn.Linear(student[-1], source[-1])
