"""SRRL: features that the teacher's own classifier reads as it reads the teacher's."""

from torch import Tensor, nn

from limbeck import losses
from limbeck.hidden import Hidden


class Regression(nn.Module):
    """Pooled features as the source's, and its classifier's logits on them as on its own.

    hint(g(s), g(t)) + w * hint(c(g(s)), c(g(t))): g the mean over positions, c the classifier,
    frozen, through which the gradient passes.

    Args:
        classifier: c, from pooled features (B, C) to logits.
        weight: w of the logits' part.

    Example:
        >>> import torch
        >>> loss = Regression(nn.Linear(3, 5))
        >>> float(loss(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 7, 7)))
        0.0

    Paper:
        Yang et al., "Knowledge distillation via softmax regression representation learning",
        ICLR 2021. The authors' values: means over channels and over classes.
    """

    def __init__(self, classifier: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        self.classifier, self.weight = Hidden(classifier), weight

    def forward(self, s: Tensor, t: Tensor) -> Tensor:
        s, t = s.mean((2, 3)), t.mean((2, 3))
        logits = losses.hint(self.classifier(s), self.classifier(t))
        return losses.hint(s, t) + self.weight * logits
