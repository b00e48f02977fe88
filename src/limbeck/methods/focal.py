"""FGD: focal distillation of a detector's map, and the relation of its context as a whole."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import losses, projectors
from limbeck.errors import LimbeckError
from limbeck.objective import Match, project
from limbeck.signals import Signals


class Context(nn.Module):
    """A map with its global context added to every position (GC block).

    f + W2 ReLU(LN(W1 sum_hw softmax_hw(m . f) f)). W2 is 0 at first, so that it adds nothing.

    Args:
        channels: C of maps (B, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.where = nn.Linear(channels, 1)
        last = nn.Linear(hidden, channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.what = nn.Sequential(
            nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), last
        )

    def forward(self, f: Tensor) -> Tensor:
        positions = f.flatten(2).movedim(1, 2)
        share = self.where(positions).softmax(1)
        context = (positions.movedim(1, 2) @ share)[..., 0]
        return f + self.what(context)[..., None, None]


class FGD(Match):
    """A match by `losses.fgd`, and beside it one of the maps' contexts.

    focal(P(s), t) + `relation` mean_b sum_chw (G(P(s)) - G'(t))^2, G and G' a `Context` each. Both
    train, so that the target moves. P is a 1x1 convolution where channels differ. The parts are
    the focal one and, by its name and `.context`, the other.

    Sums over positions are the authors': the means of `limbeck.losses` times H * W of the maps that
    `prepare` saw, whatever the size of later ones.

    Args:
        student, theirs, source, name: as in `Match`; a level's maps (B, C, H, W).
        boxes: the signal of the true boxes (B, N, 4).
        stride: pixels a cell of this level.
        temperature, foreground, background, attention, relation: the authors' T, alpha, beta, gamma
            and lambda.

    Example:
        >>> FGD("neck.0", stride=8).parts()
        ['fgd[neck.0]', 'fgd[neck.0].context']

    Paper:
        Yang et al., "Focal and global knowledge distillation for detectors", CVPR 2022,
        arXiv 2111.11837.
    """

    def __init__(
        self,
        student: str,
        theirs: str | None = None,
        *,
        stride: float,
        boxes: str = "data:boxes",
        temperature: float = 0.5,
        foreground: float = 1e-3,
        background: float = 5e-4,
        attention: float = 5e-4,
        relation: float = 5e-6,
        source: str = "teacher",
        name: str | None = None,
    ) -> None:
        super().__init__(
            losses.fgd,
            student,
            theirs,
            source=source,
            project=projectors.fitted,
            given={"boxes": boxes},
            name=name,
            stride=stride,
            temperature=temperature,
            foreground=foreground,
            background=background,
            channel=attention,
        )
        self.attention, self.relation, self.positions = attention, relation, 0
        self.contexts = nn.ModuleList()

    def parts(self) -> list[str]:
        return [self.name, f"{self.name}.context"]

    def prepare(self, signals: Signals) -> None:
        super().prepare(signals)
        s, t = self.sides(signals)
        self.positions = t.shape[2] * t.shape[3]
        if not self.contexts:
            self.contexts.extend(Context(t.shape[1]) for _ in (s, t))
            self.contexts.to(s.device, torch.promote_types(s.dtype, torch.float32))

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        if self.projector is None:
            raise LimbeckError(
                f"{self.name}: the contexts have no size yet; call distiller.prepare(inputs) first"
            )
        s, t = self.sides(signals)
        s, t = project(self.projector, s), t.detach()
        try:
            focal = self.loss(s, t, **self.keywords(signals))
        except ValueError as error:
            raise self.mismatch(s, t, error) from error
        mine, theirs = (project(g, x) for g, x in zip(self.contexts, (s, t), strict=True))
        context = self.relation * self.positions * t.shape[1] * losses.hint(mine, theirs)
        return dict(zip(self.parts(), (focal, context), strict=True))

    def keywords(self, signals: Signals) -> dict[str, Any]:
        return super().keywords(signals) | {"spatial": self.attention * self.positions}

    def items(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        return {}
