"""The textbook objective in one function: labels and a softened teacher on the same logits."""

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from limbeck.ops.torch import PRECISE, visible
from limbeck.ops.torch_textbook import Both, Total

if TYPE_CHECKING:
    from limbeck.dials import Dial
    from limbeck.objective import Match


class Textbook:
    """The terms `hard * truth()` and `soft * Match(losses.kl, temperature=T)` of a sum as one.

    It says what they say apart, with a third of their operations less, which a small model on a CPU
    feels. Neither part has a second derivative, which the labels alone have.
    """

    def __init__(self, hard: "Dial", labels: "Match", soft: "Dial", teacher: "Match") -> None:
        self.hard, self.labels, self.soft, self.teacher = hard, labels, soft, teacher
        self.on_labels, self.on_teacher = labels.loss, teacher.loss
        theirs = (teacher.source, teacher.theirs), (labels.source, labels.theirs)
        self.signals = labels.ours, *theirs

    def parts(self, signals: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
        """Both weighted parts; none where the terms have more to say of these signals."""
        settings = self.settings(signals)
        if settings is None:
            return {}
        hard, soft = Both.apply(*settings)
        if isfinite(hard.item()) and isfinite(soft.item()):
            return {self.labels.name: hard, self.teacher.name: soft}
        return {}

    def total(
        self, signals: Mapping[str, Mapping[str, Any]]
    ) -> tuple[Tensor, dict[str, Tensor]] | None:
        """Their sum, and the parts without a gradient; None where `parts` has none."""
        settings = self.settings(signals)
        if settings is None:
            return None
        loss, hard, soft = Total.apply(*settings)
        if isfinite(loss.item()):
            return loss, {self.labels.name: hard, self.teacher.name: soft}
        return None

    def settings(self, signals: Mapping[str, Mapping[str, Any]]) -> tuple[Any, ...] | None:
        """Logits, labels, T and both weights; None where they are not plain."""
        (student, output), (teacher, theirs), (data, labels) = self.signals
        try:
            s, t, target = signals[student][output], signals[teacher][theirs], signals[data][labels]
        except KeyError:
            return None
        options = self.teacher.options
        temperature = options.get("temperature", 1.0)
        if self.changed(options, temperature) or not plain(s, t, target):
            return None
        return s, t, target, temperature, self.hard.setting, self.soft.setting

    def changed(self, options: Mapping[str, Any], temperature: Any) -> bool:
        """Whether the terms are no longer what they were."""
        labels, teacher = self.labels, self.teacher
        return (
            labels.loss is not self.on_labels
            or teacher.loss is not self.on_teacher
            or labels.projector is not None
            or teacher.projector is not None
            or bool(labels.options)
            or len(options) > ("temperature" in options)
            or not isinstance(temperature, int | float)
            or not temperature > 0
        )


def plain(s: Tensor, t: Tensor, target: Any) -> bool:
    """Whether these are logits (B, C) of one precision that suffices, and an index for each row."""
    shape, dtype = s.shape, s.dtype
    return (
        len(shape) == 2
        and t.shape == shape
        and dtype in PRECISE
        and t.dtype is dtype
        and isinstance(target, Tensor)
        and target.dtype is torch.int64
        and target.shape == shape[:1]
        and shape[1] > 1
        and not t.requires_grad
        and visible(s)
    )
