"""A teacher that is made by hand."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import LimbeckError, close
from limbeck.signals import Batch, Signals
from limbeck.sources.data import told, within
from limbeck.sources.source import Source


class Prior(Source):
    """Knows the labels and nothing else: logits v with softmax(v) = p of a hand-made teacher.

    p is `correct` for the label and (1 - correct) / (C - 1) for every other class; a label of -100
    is unknown, and its row uniform. The data's `target` (B, ...) has the labels, the answer
    `"output"` is (B, ..., C) in float32, with C on `axis`. Nothing is kept.

    With `correct` = 1 - e + e / C and T = 1, `kl` is label smoothing by e less the entropy of p,
    which is constant: the same gradient. A temperature softens p as it softens a real teacher.

    Args:
        classes: C.
        correct: the probability of the label, in (0, 1).
        axis: where the classes are; 1 for maps (B, C, H, W), whose labels are (B, H, W).

    Raises:
        LimbeckError: fewer than two classes, a `correct` out of range, labels out of range or that
            are no class indices, a signal other than `"output"`.

    Example:
        >>> batch = Batch(None, {"target": torch.tensor([1, -100])})
        >>> Prior(4, correct=0.7)(batch, Signals(), ["output"])["output"].exp()
        tensor([[0.1000, 0.7000, 0.1000, 0.1000],
                [0.2500, 0.2500, 0.2500, 0.2500]])

    Paper:
        Yuan et al., "Revisiting knowledge distillation via label smoothing regularization", CVPR
        2020, arXiv 1909.11723. The teacher as it is described; what their code computes is
        `losses.tfkd_reg`, whose teacher is close to uniform.
    """

    early = True

    def __init__(self, classes: int, correct: float = 0.9, axis: int = -1) -> None:
        if classes < 2 or not 0 < correct < 1:
            raise LimbeckError(
                "a prior needs two classes or more and a probability between 0 and 1, "
                f"got {classes} and {correct}"
            )
        self.classes, self.correct, self.axis = classes, correct, axis

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        (target,) = told(batch, ["target"], "a prior")
        if target.is_floating_point():
            raise LimbeckError(
                f"a prior needs class indices as target, got {target.dtype}; "
                "leave mixed labels to truth()"
            )
        unknown = target == -100
        within("target", target.masked_fill(unknown, 0), self.classes)
        return dict.fromkeys(wants, self.logits(target, unknown))

    def logits(self, target: Tensor, unknown: Tensor) -> Tensor:
        """The logarithms of p."""
        right = target[..., None] == torch.arange(self.classes, device=target.device)
        other = math.log((1 - self.correct) / (self.classes - 1))
        known = torch.where(right, math.log(self.correct), other)
        return torch.where(unknown[..., None], -math.log(self.classes), known).movedim(
            -1, self.axis
        )

    def check(self, wants: Sequence[str]) -> None:
        for want in wants:
            if want != "output":
                hint = close(want, ["output"])
                raise LimbeckError(f"a prior gives 'output' alone, got {want!r}{hint}")
