"""Curriculum temperature: a temperature that learns to make distillation harder."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import losses
from limbeck.dials import Dial
from limbeck.losses.sides import positive
from limbeck.objective import Loss, Match, check_options
from limbeck.schedules import Cosine, Schedule
from limbeck.signals import Signals

REVERSAL = Cosine(0.0, -1.0, until=10 / 240)  # 10 epochs of 240


class CTKD(Match):
    """A match whose temperature is a parameter that trains against the student.

    T = start + spread * sigmoid(theta); theta sees the gradient times `reversal`, which goes from 0
    to -1 as training goes on, and so ascends where the student descends.

    Args:
        student, theirs, source, given: as in `Match`.
        loss: a loss that takes a `temperature`.
        start: the temperature as theta falls, positive.
        spread: start + spread, as theta rises, positive too.
        reversal: the factor of theta's gradient, a number or a schedule.
        name: the part's name.

    Raises:
        LimbeckError: a loss without a temperature.
        ValueError: a temperature that could come to 0.

    Example:
        >>> round(CTKD().temperature().item(), 4)
        15.6212

    Paper:
        Li et al., "Curriculum temperature for knowledge distillation", AAAI 2023, arXiv 2211.16231
        (the global form): start 1, spread 20, theta from 1, a cosine over the first 10 epochs.
    """

    def __init__(
        self,
        student: str = "output",
        theirs: str | None = None,
        *,
        source: str = "teacher",
        loss: Loss = losses.kl,
        given: Mapping[str, str] | None = None,
        start: float = 1.0,
        spread: float = 20.0,
        reversal: float | Schedule = REVERSAL,
        name: str = "ctkd",
    ) -> None:
        check_options(loss, ["temperature"])
        positive("start", start)
        positive("start + spread", start + spread)
        super().__init__(loss, student, theirs, source=source, given=given, name=name)
        self.start, self.spread = start, spread
        self.reversal = Dial(reversal)
        self.theta = nn.Parameter(torch.ones(1))
        self.moves = True

    def temperature(self) -> Tensor:
        theta = reversed_gradient(self.theta, self.reversal())
        return self.start + self.spread * theta.sigmoid()[0]

    def keywords(self, signals: Signals) -> dict[str, Any]:
        return super().keywords(signals) | {"temperature": self.temperature()}


def reversed_gradient(x: Tensor, factor: float | Tensor) -> Tensor:
    """x itself, whose gradient is multiplied by `factor`.

    >>> x = torch.ones(1, requires_grad=True)
    >>> torch.autograd.grad(reversed_gradient(x, -0.5).sum(), x)[0].item()
    -0.5
    """
    still = x.detach()
    return still + factor * (x - still)
