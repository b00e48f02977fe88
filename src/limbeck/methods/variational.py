"""VID: the student's features say the source's, as sure as each channel allows."""

import math
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import losses
from limbeck.objective import Match
from limbeck.projectors import Resize, Shape
from limbeck.signals import Signals

TINY = 1e-5


class VID(Match):
    """A match by `losses.vid` whose variances train with the student.

    Args:
        student, theirs, source, name: as in `Match`; maps (B, C, H, W).
        start: the variances before training.

    Example:
        >>> VID("layer3").parts()
        ['vid[layer3]']

    Paper:
        Ahn et al., CVPR 2019, arXiv 1904.05835.
    """

    def __init__(
        self,
        student: str,
        theirs: str | None = None,
        *,
        source: str = "teacher",
        start: float = 5.0,
        name: str | None = None,
    ) -> None:
        regressor = partial(Regressor, start=start)
        super().__init__(losses.vid, student, theirs, source=source, project=regressor, name=name)
        self.moves = True

    def keywords(self, signals: Signals) -> dict[str, Any]:
        return super().keywords(signals) | {
            "variance": cast("Regressor", self.projector).variance()
        }


class Regressor(nn.Module):
    """Three 1x1 convolutions from the student's channels to the source's, and a variance for each.

    v_c = softplus(a_c) + 1e-5.
    """

    def __init__(self, student: Shape, source: Shape, *, start: float) -> None:
        super().__init__()
        if len(student) != 4 or len(source) != 4:
            raise ValueError(f"a regressor needs maps (B, C, H, W), got {student} and {source}")
        c = source[1]
        self.mean = nn.Sequential(
            nn.Conv2d(student[1], c, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(c, c, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(c, c, 1, bias=False),
        )
        if student[2:] != source[2:]:
            self.mean.append(Resize((source[2], source[3])))
        self.a = nn.Parameter(torch.full((c,), math.log(math.expm1(start - TINY))))

    def forward(self, s: Tensor) -> Tensor:
        return self.mean(s)

    def variance(self) -> Tensor:
        """v (C,)."""
        return F.softplus(self.a) + TINY
