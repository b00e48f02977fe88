"""ReviewKD: each stage of the student, fused with the deeper ones, against one of the source."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import losses
from limbeck.errors import LimbeckError
from limbeck.objective import Objective
from limbeck.signals import Signals


class Fusion(nn.Module):
    """Attention-based fusion (ABF) of a stage with what was fused before it.

    x = A(f); where there is a deeper stage y, x = x z_0 + y z_1 with z = sigmoid(conv [x; y]) at
    every position; x is then resized to the source's stage. The output is B(x), and x goes on.

    Args:
        channels: of the student's stage.
        width: of x.
        out: channels of the source's stage.
        fuse: whether there is a deeper stage.
    """

    def __init__(self, channels: int, width: int, out: int, fuse: bool) -> None:
        super().__init__()
        self.enter, self.leave = convolution(channels, width, 1), convolution(width, out, 3)
        attend = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())
        self.attend = attend if fuse else None

    def forward(
        self, f: Tensor, deeper: Tensor | None, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """What to compare with the source (B, out, *size), and what goes on to the next stage."""
        x = self.enter(f)
        if self.attend is not None and deeper is not None:
            y = nearest(deeper, (x.shape[2], x.shape[3]))
            z = self.attend(torch.cat([x, y], 1))
            x = x * z[:, :1] + y * z[:, 1:]
        x = nearest(x, size)
        return self.leave(x), x


class ReviewKD(Objective):
    """The sum over stages of `losses.hcl` of fused student features and the source's.

    Args:
        student: the student's stages, shallow to deep: maps (B, C, H, W). A pooled map (B, C, 1, 1)
            may be the last.
        theirs: the source's stages; the same names unless said.
        width: channels of the fusion; those of the student's deepest stage, at most 512.
        source: whose.
        name: the part's name.

    Raises:
        LimbeckError: numbers of stages that differ, signals that are not maps.

    Example:
        >>> ReviewKD(["layer1", "layer2"]).parts()
        ['reviewkd']

    Paper:
        Chen et al., CVPR 2021, arXiv 2104.09044. The authors' value.
    """

    def __init__(
        self,
        student: Sequence[str],
        theirs: Sequence[str] | None = None,
        *,
        width: int | None = None,
        source: str = "teacher",
        name: str = "reviewkd",
    ) -> None:
        super().__init__()
        self.student, self.theirs = list(student), list(theirs or student)
        if isinstance(student, str) or len(self.student) != len(self.theirs) or not self.student:
            raise LimbeckError(
                f"{name} needs as many stages of both sides, got {student} and {theirs}; "
                'give lists of names, such as ["layer2", "layer3", "layer4"]'
            )
        self.width, self.source, self.name = width, source, name
        self.fusions = nn.ModuleList()

    def needs(self) -> list[tuple[str, str]]:
        own = [("student", name) for name in self.student]
        return own + [(self.source, name) for name in self.theirs]

    def parts(self) -> list[str]:
        return [self.name]

    def prepare(self, signals: Signals) -> None:
        if len(self.fusions):
            return
        stages = self.stages(signals)
        for s, t in stages:
            if s.ndim != 4 or t.ndim != 4:
                raise LimbeckError(
                    f"{self.name} needs maps (B, C, H, W), "
                    f"got {tuple(s.shape)} and {tuple(t.shape)}; tap layers before flattening"
                )
        deepest = stages[0][0]
        width = self.width or min(512, deepest.shape[1])
        for i, (s, t) in enumerate(stages):
            self.fusions.append(Fusion(s.shape[1], width, t.shape[1], fuse=i > 0))
        self.fusions.to(deepest.device, torch.promote_types(deepest.dtype, torch.float32))

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        if not len(self.fusions):
            raise LimbeckError(
                f"{self.name}: the fusions have no size yet; call distiller.prepare(inputs) first"
            )
        dtype = next(self.fusions.parameters()).dtype
        total, deeper = [], None
        for fusion, (s, t) in zip(self.fusions, self.stages(signals), strict=True):
            out, deeper = fusion(s.to(dtype), deeper, (t.shape[2], t.shape[3]))
            total.append(losses.hcl(out, t.detach()))
        return {self.name: torch.stack(total).sum()}

    def stages(self, signals: Signals) -> list[tuple[Tensor, Tensor]]:
        """Both sides of each stage, the deepest first."""
        pairs = zip(self.student, self.theirs, strict=True)
        return [(signals.of("student", s), signals.of(self.source, t)) for s, t in pairs][::-1]


def convolution(channels: int, out: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if tuple(x.shape[2:]) == size else F.interpolate(x, size, mode="nearest")
