"""A match with what a source is sure of."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.dials import Dial
from limbeck.objective import Loss, Match, check_options
from limbeck.schedules import Schedule
from limbeck.signals import Signals


class Confident(Match):
    """A match whose items count where the source is sure of one class.

    (1/n) sum_i [max_c p_ic > threshold] loss(s_i, t_i / sharpen), p_i = softmax(t_i), where n is
    the number of items in the mask, sure or not: it is known from the data alone, so that pieces of
    a step and ranks divide by that of all. Where the source is sure of nothing the loss is 0 and
    has gradient 0; at a threshold of 0 every item counts, at 1 none does.

    Args:
        loss: of logits with a class for each item, which takes a `weight`: `losses.hard`,
            `losses.kl`.
        threshold: a probability, which may follow a schedule; strictly below the surest one.
        sharpen: the temperature of the source alone; below 1 it is surer than it was. It is not
            that by which confidence is measured.
        student, theirs, source, given, name: as in `Match`.
        options: keywords of the loss; `axis` says where the classes are.

    Raises:
        LimbeckError: a loss without a weight, a keyword that it does not have.

    Example:
        >>> from limbeck import losses
        >>> match = Confident(losses.hard, threshold=0.9)
        >>> t = torch.tensor([[5.0, 0.0], [0.0, 1.0]])
        >>> signals = Signals(student={"output": torch.zeros(2, 2)}, teacher={"output": t})
        >>> round(float(match(signals)["hard"]), 4)  # log 2 for the first of the two
        0.3466
    """

    def __init__(
        self,
        loss: Loss,
        student: str = "output",
        theirs: str | None = None,
        *,
        threshold: float | Schedule,
        sharpen: float = 1.0,
        source: str = "teacher",
        given: Mapping[str, str] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        how = {"source": source, "given": given, "name": name}
        super().__init__(loss, student, theirs, **how, **options)
        check_options(loss, ["weight"])
        self.threshold, self.sharpen, self.moves = Dial(threshold), sharpen, True

    def sides(self, signals: Signals) -> tuple[Tensor, Tensor]:
        s, t = super().sides(signals)
        return s, t if self.sharpen == 1 else t / self.sharpen

    def keywords(self, signals: Signals) -> dict[str, Any]:
        _, t = super().sides(signals)
        counts = sure(t.detach(), self.threshold(), self.options.get("axis", -1))
        given = super().keywords(signals)
        return {**given, "weight": counts * given.get("weight", 1.0)}


def sure(logits: Tensor, threshold: float | Tensor, axis: int = -1) -> Tensor:
    """Whether the largest probability is above the threshold, without the axis of the classes.

    >>> sure(torch.tensor([[5.0, 0.0], [0.0, 1.0]]), 0.9).tolist()
    [True, False]
    """
    precise = torch.promote_types(logits.dtype, torch.float32)
    return logits.softmax(axis, precise).amax(axis) > threshold
