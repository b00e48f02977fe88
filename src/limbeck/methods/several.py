"""Objectives on several layers of both sides at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.objective import Objective
from limbeck.signals import Signals


class Several(Objective):
    """Reads several maps (B, C, H, W) of the student and of a source, and gives one part."""

    def __init__(
        self, student: Sequence[str], theirs: Sequence[str] | None, source: str, name: str
    ) -> None:
        super().__init__()
        if isinstance(student, str) or isinstance(theirs, str):
            raise LimbeckError(
                f"{name} reads several layers, got {student!r} and {theirs!r}; "
                'give lists of names, such as ["layer2", "layer3"]'
            )
        self.student, self.theirs = list(student), list(theirs or student)
        self.source, self.name = source, name

    def needs(self) -> list[tuple[str, str]]:
        ours = [("student", name) for name in self.student]
        return ours + [(self.source, name) for name in self.theirs]

    def parts(self) -> list[str]:
        return [self.name]

    def maps(self, signals: Signals) -> tuple[list[Tensor], list[Tensor]]:
        """Both sides' maps, in single precision or better; the source's detached."""
        s = [signals.of("student", name) for name in self.student]
        t = [signals.of(self.source, name).detach() for name in self.theirs]
        for name, x in zip([*self.student, *self.theirs], [*s, *t], strict=True):
            if x.ndim != 4:
                raise LimbeckError(
                    f"{self.name}: {name!r} must be a map (B, C, H, W), got {tuple(x.shape)}"
                )
        return [precise(x) for x in s], [precise(x) for x in t]

    def unsized(self) -> LimbeckError:
        """What to raise before `prepare` has made the layers that train."""
        return LimbeckError(
            f"{self.name}: nothing has a size yet; call distiller.prepare(inputs) first"
        )


def precise(x: Tensor) -> Tensor:
    """At least single precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
