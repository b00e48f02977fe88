"""ViTKD's generation: deep token states restored from those that a mask leaves of the student's."""

import torch
from torch import Tensor, nn

from limbeck import losses, projectors
from limbeck.errors import LimbeckError
from limbeck.objective import Objective
from limbeck.projectors import Shape
from limbeck.signals import Signals
from limbeck.tokens import to_grid, to_tokens


def aligned(student: Shape, source: Shape) -> nn.Module:
    """`projectors.linear` where widths differ, or else nothing.

    >>> aligned((2, 5, 4), (2, 5, 4))
    Identity()
    """
    same = student[-1] == source[-1]
    return nn.Identity() if same else projectors.linear(student, source)


class Restorer(nn.Module):
    """Replaces part of the patches by one learned token, and restores them with two convolutions.

    Args:
        student: width of the student's states.
        source: width of the source's.
        extra: class and register tokens before the patches.
        ratio: how much is replaced, in (0, 1).
    """

    def __init__(self, student: int, source: int, extra: int, ratio: float) -> None:
        super().__init__()
        self.extra, self.ratio = extra, ratio
        self.align = aligned((student,), (source,))
        self.token = nn.Parameter(torch.zeros(source))
        self.generate = nn.Sequential(
            nn.Conv2d(source, source, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(source, source, 3, padding=1),
        )

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """The restored patches (B, N - extra, D), and which of them were replaced."""
        patches = self.align(s[:, self.extra :])
        replaced = self.mask(patches)
        patches = torch.where(replaced[..., None], self.token, patches)
        return to_tokens(self.generate(to_grid(patches, extra=0))), replaced

    def mask(self, x: Tensor) -> Tensor:
        """True for a share `ratio` of each sample's patches, drawn anew."""
        kept = int(x.shape[1] * (1 - self.ratio))
        ranks = torch.rand(x.shape[:2], device=x.device).argsort(1).argsort(1)
        return ranks >= kept


class Generation(Objective):
    """Deep states of patches, restored from the student's unmasked ones.

    mean over replaced patches of sum_d (G(m(A(s)))_d - t_d)^2: A linear where widths differ, m a
    learned token in place of a share `ratio` of the patches, G two 3x3 convolutions on the grid.

    Args:
        student: name of the student's states (B, N, D).
        theirs: name of the source's; the same unless said.
        source: whose.
        extra: class and register tokens before the patches, the same on both sides.
        ratio: how much is replaced.
        name: the part's name.

    Raises:
        LimbeckError: patches that make no square grid, or not the same on both sides.

    Example:
        >>> Generation("blocks.11").parts()
        ['generation[blocks.11]']

    Paper:
        Yang et al., "ViTKD", 2022, arXiv 2209.02432. The authors' code sums over patches and
        divides by the ratio: N times this, with weight 3e-6.
    """

    def __init__(
        self,
        student: str,
        theirs: str | None = None,
        *,
        source: str = "teacher",
        extra: int = 1,
        ratio: float = 0.5,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 < ratio < 1:
            raise LimbeckError(f"ratio must be between 0 and 1, got {ratio}")
        self.student, self.theirs, self.source = student, theirs or student, source
        self.extra, self.ratio = extra, ratio
        self.name = name or f"generation[{student}]"
        self.restorer: Restorer | None = None

    def needs(self) -> list[tuple[str, str]]:
        return [("student", self.student), (self.source, self.theirs)]

    def parts(self) -> list[str]:
        return [self.name]

    def states(self, signals: Signals) -> tuple[Tensor, Tensor]:
        s = signals.of("student", self.student)
        t = signals.of(self.source, self.theirs).detach()
        if s.ndim != 3 or s.shape[:-1] != t.shape[:-1]:
            raise LimbeckError(
                f"{self.name}: states must be (B, N, D) of the same tokens, "
                f"got {tuple(s.shape)} and {tuple(t.shape)}"
            )
        return s, t

    def prepare(self, signals: Signals) -> None:
        if self.restorer is None:
            s, t = self.states(signals)
            self.restorer = Restorer(s.shape[-1], t.shape[-1], self.extra, self.ratio)
            self.restorer.to(s.device, torch.promote_types(s.dtype, torch.float32))

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        if self.restorer is None:
            raise LimbeckError(
                f"{self.name}: nothing has a size yet; call distiller.prepare(inputs) first"
            )
        s, t = self.states(signals)
        restored, replaced = self.restorer(s.to(self.restorer.token.dtype))
        t = t[:, self.extra :].to(restored.dtype)
        return {self.name: losses.vitkd_mimic(restored, t, mask=replaced)}
