"""CrossKD: the student's features are read by the rest of the source's head."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limbeck import losses
from limbeck.errors import LimbeckError
from limbeck.hidden import Hidden
from limbeck.losses.detection import align
from limbeck.objective import Objective
from limbeck.signals import Signals, split


class CrossKD(Objective):
    """Predictions of the source's head for the student's features agree with its own.

    Features of the student's class and box branches get the mean and spread of the source's
    channels, go through the rest of the source's frozen head, and are compared there:
    `classes` bckd_cls + `sides` ld at T = 1, weighted by the source's largest class probability.
    This is the form for heads with a distribution for each side (GFL).

    Args:
        features: the student's signals after the same layer of its class and of its box branch.
        theirs: the source's; the same names unless said. Both sides have one width.
        head: the rest of the source's class branch, to logits (B, K, H, W), and of its box branch,
            to logits (B, 4 * bins, H, W).
        mask: the signal of the positions that count (B, H, W), or none.
        classes, sides: weights.
        source, name: as in `Match`.

    Example:
        >>> head = nn.Conv2d(8, 80, 1), nn.Conv2d(8, 68, 1)
        >>> CrossKD(("cls.3", "reg.3"), head=head).parts()
        ['crosskd.classes[cls.3]', 'crosskd.sides[reg.3]']

    Paper:
        Wang et al., "CrossKD: cross-head knowledge distillation for object detection", CVPR 2024,
        arXiv 2306.11369; 1 and 4, after the third layer of four. The authors divide the class part
        by the number of positive anchors, here it is by all that count.
    """

    def __init__(
        self,
        features: tuple[str, str],
        theirs: tuple[str, str] | None = None,
        *,
        head: tuple[nn.Module, nn.Module],
        mask: str | None = None,
        classes: float = 1.0,
        sides: float = 4.0,
        source: str = "teacher",
        name: str = "crosskd",
    ) -> None:
        super().__init__()
        self.features, self.theirs, self.source = features, theirs or features, source
        self.classify, self.locate = (Hidden(part) for part in head)
        self.mask, self.weights, self.name = mask, (classes, sides), name

    def needs(self) -> list[tuple[str, str]]:
        masks = [] if self.mask is None else [split(self.mask)]
        ours = [("student", name) for name in self.features]
        return ours + [(self.source, name) for name in self.theirs] + masks

    def parts(self) -> list[str]:
        branches = zip(("classes", "sides"), self.features, strict=True)
        return [f"{self.name}.{branch}[{feature}]" for branch, feature in branches]

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        keys: dict[str, Any] = {} if self.mask is None else {"mask": signals.read(self.mask)}
        (s_cls, t_cls), (s_reg, t_reg) = (
            self.crossed(signals, i, rest) for i, rest in enumerate((self.classify, self.locate))
        )
        score = t_cls.sigmoid().amax(1)
        values = (
            losses.bckd_cls(s_cls, t_cls, axis=1, **keys),
            losses.ld(bins(s_reg), bins(t_reg), score, temperature=1.0, **keys),
        )
        pairs = zip(self.parts(), self.weights, values, strict=True)
        return {name: weight * value for name, weight, value in pairs}

    def crossed(self, signals: Signals, i: int, rest: nn.Module) -> tuple[Tensor, Tensor]:
        """A branch's predictions of the source's head, for the student and for the source."""
        s = signals.of("student", self.features[i])
        t = signals.of(self.source, self.theirs[i]).detach()
        try:
            return rest(align(s, t)), rest(t)
        except ValueError as error:
            raise LimbeckError(
                f"{self.name}: student {self.features[i]!r} {tuple(s.shape)} against "
                f"{self.source} {self.theirs[i]!r} {tuple(t.shape)}: {error}"
            ) from error

    def items(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        return {}


def bins(x: Tensor) -> Tensor:
    """(B, 4 * bins, H, W) as (B, H, W, 4, bins)."""
    return x.movedim(1, -1).unflatten(-1, (4, -1))
