"""A teacher's last layers over the student's features: the gradient goes back through them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError
from limbeck.hidden import Hidden
from limbeck.reader import Reader, Signal
from limbeck.signals import Batch, Signals
from limbeck.sources.source import Source


class Through(Source):
    """What frozen layers of a teacher make of the student's own signals.

    y = layers(x_s), with the gradient by x_s; the layers stay in eval mode, are never changed, and
    get no gradient. A match may have it on either side: `student="head:output"` compares what the
    teacher's head says of the student's features with what it says of its own.

    Args:
        layers: a part of a teacher, such as its classifier.
        of: the student's signals that it is called with, in order.
        names: signal names of its own, as for `Reader`; the layers give `"output"` and its parts.

    Raises:
        LimbeckError: no signal of the student, or one that the layers cannot take; of `check`, for
            a signal inside the layers.

    Example:
        >>> import torch
        >>> from limbeck import Distiller, Match, losses
        >>> student = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))
        >>> teacher = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))
        >>> sources = {"teacher": teacher, "head": Through(teacher[1], of="0")}
        >>> objective = Match(losses.kl, student="head:output", theirs="output", temperature=4)
        >>> step = Distiller(student, sources, objective)(torch.ones(1, 4))
        >>> step.loss.backward()
        >>> list(step.parts), student[0].weight.grad is None, teacher[1].weight.grad is None
        (['kl[head:output]'], False, True)

    Paper:
        Wang et al., "CrossKD", CVPR 2024, arXiv 2306.11369, for heads of detectors; Yang et al.,
        "Knowledge distillation via softmax regression representation learning", ICLR 2021, for
        classifiers.
    """

    through = True

    def __init__(
        self,
        layers: nn.Module,
        of: str | Sequence[str],
        *,
        names: Mapping[str, Signal] | None = None,
    ) -> None:
        self.of = [of] if isinstance(of, str) else list(of)
        if not self.of:
            raise LimbeckError("Through must be given signals of the student, got none in of=")
        self.layers = layers
        self.reader = Reader(Hidden(layers), names=names)

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        own = tuple(signals.of("student", name) for name in self.of)
        try:
            return self.reader.read(own, wants)[1]
        except RuntimeError as error:
            shapes = [tuple(x.shape) for x in own]
            raise LimbeckError(
                f"{type(self.layers).__name__} in Through cannot take the student's {self.of} of "
                f"shapes {shapes}: {error}; give what is as wide as the teacher's"
            ) from error

    def check(self, wants: Sequence[str]) -> None:
        self.reader.attach(wants)

    def reads(self, wants: Sequence[str]) -> list[str]:
        return self.of if wants else []

    def modules(self) -> list[nn.Module]:
        return [self.layers]
