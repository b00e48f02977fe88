"""The answer to another view of the same thing, in the same batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources.several import Several
from limbeck.sources.source import Source


class Own(Source):
    """What the student says of this batch, without a gradient."""

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        return {want: signals.of("student", want).detach() for want in wants}

    def reads(self, wants: Sequence[str]) -> list[str]:
        return list(wants)


class View(Several):
    """Each row is taught by its partner: row i of B by row (i + B/2) mod B.

    The batch holds two halves that belong together, row by row: two augmentations of the same
    images for DDGSD, or another image of the same class for CS-KD. The student runs once, on both,
    and its partner's signal teaches without a gradient. Nothing is kept.

    Where one half alone learns, as in CS-KD, a mask says so: `given={"mask": "data:first"}`. Both
    halves must be in one piece: on ranks each has pairs of its own, and gradients are accumulated
    over whole pairs.

    Args:
        source: whose answer it is, asked of both halves: `Ema(student)` for a mean teacher of
            another view, or a trained network. The student's own unless given.

    Raises:
        LimbeckError: an odd number of rows.

    Example:
        >>> import torch
        >>> from limbeck import Distiller, Match, losses, truth
        >>> objective = truth() + Match(losses.kl, source="view", temperature=3)
        >>> distiller = Distiller(torch.nn.Linear(4, 3), {"view": View()}, objective)
        >>> twice, labels = torch.randn(8, 4), torch.tensor([0, 1, 2, 0]).repeat(2)
        >>> sorted(distiller(twice, target=labels).parts)
        ['kl:view', 'truth']

    Paper:
        Xu, Liu, "Data-distortion guided self-distillation for deep neural networks", AAAI 2019.
        Yun et al., "Regularizing class-wise predictions via self-knowledge distillation", CVPR
        2020, arXiv 2003.13964.
    """

    def __init__(self, source: nn.Module | Reader | Source | None = None) -> None:
        super().__init__([Own() if source is None else source], "a view")

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        answer = self.sources[0](batch, signals, wants)
        return {want: partners(answer[want]) for want in wants}


def partners(x: Tensor) -> Tensor:
    """The rows of the other half, without a gradient.

    >>> import torch
    >>> partners(torch.tensor([1, 2, 3, 4])).tolist()
    [3, 4, 1, 2]
    """
    if len(x) % 2:
        raise LimbeckError(
            f"a batch for View must be two halves that belong together, got {len(x)} rows; "
            "leave an odd last batch out"
        )
    return x.detach().roll(len(x) // 2, 0)
