"""Several teachers that speak with one voice."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.mixing import mean_of_logits, mean_of_probabilities
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources.several import Several
from limbeck.sources.source import Source


class Ensemble(Several):
    """The mean of several sources, each with a view of the inputs of its own.

    The two means differ, and so does what the student learns: the mean of probabilities at
    temperature T has the gradient of the mean of the teachers' own KLs, the mean of logits has not.

    Args:
        sources: the teachers; plain modules are `Frozen`.
        mean: of `"probabilities"` (softened by `temperature`) or of `"logits"`.
        temperature: T of the loss that reads this source; the mean of probabilities depends on it.
        weights: one a source, positive, summing to 1; or (K, C), one a source and class, at least
            0, summing to 1 for each class. Equal unless said. With weights that differ by class the
            mean of probabilities is divided by its sum over classes.
        axis: where the classes are; 1 for maps (B, C, H, W).

    Raises:
        LimbeckError: no source, weights that do not sum to 1 or are for another number of classes.

    Example:
        The first source alone is heard of class 0, the second of class 1:

        >>> both = Ensemble([Source(), Source()], mean="logits", weights=[[1, 0], [0, 1]])
        >>> both.combine([torch.tensor([[3.0, 1.0]]), torch.tensor([[5.0, 7.0]])]).tolist()
        [[3.0, 7.0]]
    """

    def __init__(
        self,
        sources: Sequence[nn.Module | Reader | Source],
        *,
        mean: Literal["probabilities", "logits"],
        temperature: float = 1.0,
        weights: Sequence[float] | Sequence[Sequence[float]] | Tensor | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(sources, "an ensemble")
        if mean not in ("probabilities", "logits"):
            raise LimbeckError(f"mean must be 'probabilities' or 'logits', got {mean!r}")
        self.mean, self.temperature, self.axis = mean, temperature, axis
        self.weights = checked(weights, len(self.sources))

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        answers = [source(batch, signals, wants) for source in self.sources]
        return {want: self.combine([answer[want] for answer in answers]) for want in wants}

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """One tensor of K, in float32 or better; a single teacher's answer stays as it is."""
        if len(logits) == 1:
            return logits[0]
        stacked = torch.stack([z.to(torch.promote_types(z.dtype, torch.float32)) for z in logits])
        axis = self.axis if self.axis < 0 else self.axis + 1
        weights = self.beside(stacked, axis)
        if self.mean == "logits":
            return mean_of_logits(stacked, weights)
        return mean_of_probabilities(stacked, weights, self.temperature, axis)

    def beside(self, logits: Tensor, axis: int) -> Tensor:
        """The weights in a shape that goes with logits (K, ...)."""
        shape = [len(logits)] + [1] * (logits.ndim - 1)
        if self.weights.ndim == 2:
            shape[axis] = self.weights.shape[1]
            if shape[axis] != logits.shape[axis]:
                raise LimbeckError(
                    f"weights are of {shape[axis]} classes, got logits of {logits.shape[axis]}; "
                    "say on which axis the classes are, or give a weight to each"
                )
        return self.weights.to(logits).view(shape)


def checked(weights: Any, sources: int) -> Tensor:
    """Weights that sum to 1 over so many sources, equal where none are given; in float64."""
    if weights is None:
        weights = [1 / sources] * sources
    w = torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    by_class = w.ndim == 2
    if not by_class and (w.shape != (sources,) or w.min() <= 0 or abs(w.sum() - 1) > 1e-6):
        raise LimbeckError(
            f"weights must be {sources} positive numbers that sum to 1, got {weights}"
        )
    if by_class and (len(w) != sources or w.min() < 0 or (w.sum(0) - 1).abs().max() > 1e-6):
        raise LimbeckError(
            f"weights of classes must be {sources} rows of numbers of at least 0, which sum to 1 "
            f"for each class, got {weights}"
        )
    return w
