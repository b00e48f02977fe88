"""MGD: a generator restores the source's features from the student's masked ones."""

from functools import partial

import torch
from torch import Tensor, nn

from limbeck.projectors import Factory, Resize, Shape


class Generator(nn.Module):
    """Drops part of the student's features, and restores the source's with two convolutions.

    G(keep * A(s)): A a 1x1 convolution where channels differ, keep drawn anew at every call, G a
    3x3 convolution, ReLU and another. A mask is shared by a sample's channels, or by its positions.

    Args:
        student: shape of the student's features (B, C, H, W).
        source: shape of the source's.
        ratio: how much is dropped, in [0, 1].
        positions: whether positions are dropped, or else channels.

    Example:
        >>> generator = Generator((2, 4, 5, 5), (2, 6, 5, 5), ratio=0.5, positions=True)
        >>> tuple(generator(torch.ones(2, 4, 5, 5)).shape)
        (2, 6, 5, 5)

    Paper:
        Yang et al., ECCV 2022, arXiv 2205.01529.
    """

    def __init__(self, student: Shape, source: Shape, *, ratio: float, positions: bool) -> None:
        super().__init__()
        if len(student) != 4 or len(source) != 4:
            raise ValueError(f"a generator needs maps (B, C, H, W), got {student} and {source}")
        c = source[1]
        self.ratio, self.positions = ratio, positions
        self.align = nn.Identity() if student[1] == c else nn.Conv2d(student[1], c, 1)
        same = student[2:] == source[2:]
        self.resize = nn.Identity() if same else Resize((source[2], source[3]))
        self.generate = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1)
        )

    def forward(self, s: Tensor) -> Tensor:
        s = self.resize(self.align(s))
        return self.generate(s * self.keep(s))

    def keep(self, s: Tensor) -> Tensor:
        """1 for what stays: (B, 1, H, W) or (B, C, 1, 1)."""
        b, c, h, w = s.shape
        shape = (b, 1, h, w) if self.positions else (b, c, 1, 1)
        return (torch.rand(shape, device=s.device) >= self.ratio).to(s.dtype)


def generator(ratio: float, positions: bool) -> Factory:
    """A factory of `Generator`, for `Match(losses.mgd, ..., project=generator(0.65, True))`."""
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must be in [0, 1], got {ratio}")
    return partial(Generator, ratio=ratio, positions=positions)
