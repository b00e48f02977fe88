"""SimKD: the student's features are made the source's, and the source's classifier is kept."""

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import losses
from limbeck.errors import LimbeckError
from limbeck.hidden import Hidden
from limbeck.objective import Match, project
from limbeck.projectors import Resize, Shape
from limbeck.reader import Reader


class SimKD(Match):
    """A match of the last feature maps; the student then uses the source's classifier.

    mean (P(s) - t)^2 over samples, channels and positions, the larger map average-pooled: the
    student's before the projector P, the source's after it. The student's own classifier learns
    nothing: `deployable` gives the student that was trained.

    Args:
        student, theirs, source, name: as in `Match`: the last maps (B, C, H, W) before pooling.
        classifier: the source's classifier, from pooled features (B, C) to logits; frozen.

    Example:
        >>> SimKD("layer4", classifier=nn.Linear(512, 100)).parts()
        ['simkd[layer4]']

    Paper:
        Chen et al., "Knowledge distillation with the reused teacher classifier", CVPR 2022,
        arXiv 2203.14001. The authors' value and projector; no other loss.
    """

    def __init__(
        self,
        student: str,
        theirs: str | None = None,
        *,
        classifier: nn.Module,
        source: str = "teacher",
        name: str | None = None,
    ) -> None:
        super().__init__(simkd, student, theirs, source=source, project=bottleneck, name=name)
        self.classifier = Hidden(classifier)

    def deployable(self, student: nn.Module | Reader) -> "Reused":
        """The student with the projector and the source's classifier, as one model to ship.

        Raises:
            LimbeckError: the projector has no size yet.
        """
        if self.projector is None:
            raise LimbeckError(
                f"{self.name}: there is no projector yet; call distiller.prepare(inputs) first"
            )
        reader = student if isinstance(student, Reader) else Reader(student)
        return Reused(reader, self.student, self.projector, self.classifier.module)


class Reused(nn.Module):
    """A student whose features go through a projector to another's classifier.

    The parts are those of the training, not copies. The student's own classifier stays in its
    weights, unused.
    """

    def __init__(
        self, reader: Reader, layer: str, projector: nn.Module, classifier: nn.Module
    ) -> None:
        super().__init__()
        self.reader, self.layer = reader, layer
        self.student, self.projector, self.classifier = reader.model, projector, classifier

    def forward(self, x: Tensor) -> Tensor:
        features = self.reader.read(self.reader.adapt(x), [self.layer])[1][self.layer]
        return project(self.classifier, project(self.projector, features).mean((2, 3)))


def simkd(s: Tensor, t: Tensor) -> Tensor:
    """`hint` of projected features, the source's pooled to their size."""
    return losses.hint(s, F.adaptive_avg_pool2d(t, (s.shape[2], s.shape[3])))


def bottleneck(student: Shape, source: Shape) -> nn.Module:
    """1x1, 3x3 and 1x1 convolutions by way of half the source's channels, pooled if larger."""
    if len(student) != 4 or len(source) != 4:
        raise ValueError(f"SimKD needs maps (B, C, H, W), got {student} and {source}")
    size = (min(student[2], source[2]), min(student[3], source[3]))
    half = max(1, source[1] // 2)
    layers: list[nn.Module] = [] if tuple(student[2:]) == size else [Resize(size)]
    for before, after, kernel in ((student[1], half, 1), (half, half, 3), (half, source[1], 1)):
        layers.append(nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
