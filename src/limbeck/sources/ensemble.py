"""Several teachers that speak with one voice."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources.frozen import as_source
from limbeck.sources.source import Source


def mean_of_probabilities(
    logits: Tensor, weights: Tensor, temperature: float = 1.0, axis: int = -1
) -> Tensor:
    """Logits z with softmax(z / T) = sum_k w_k softmax(z_k / T); `logits` is (K, ..., C)."""
    log_p = torch.log_softmax(logits / temperature, axis)
    log_w = weights.log().view(-1, *[1] * (logits.ndim - 1))
    return temperature * torch.logsumexp(log_p + log_w, 0)


def mean_of_logits(logits: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k z_k; `logits` is (K, ..., C)."""
    return (weights.view(-1, *[1] * (logits.ndim - 1)) * logits).sum(0)


class Ensemble(Source):
    """The mean of several sources, each with a view of the inputs of its own.

    The two means differ, and so does what the student learns: the mean of probabilities at
    temperature T has the gradient of the mean of the teachers' own KLs, the mean of logits has not.

    Args:
        sources: the teachers; plain modules are `Frozen`.
        mean: of `"probabilities"` (softened by `temperature`) or of `"logits"`.
        temperature: T of the loss that reads this source; the mean of probabilities depends on it.
        weights: one a source, positive, summing to 1; equal unless said.
        axis: where the classes are; 1 for maps (B, C, H, W).

    Raises:
        LimbeckError: no source, weights that do not sum to 1.
    """

    def __init__(
        self,
        sources: Sequence[nn.Module | Reader | Source],
        *,
        mean: Literal["probabilities", "logits"],
        temperature: float = 1.0,
        weights: Sequence[float] | None = None,
        axis: int = -1,
    ) -> None:
        if not sources:
            raise LimbeckError("an ensemble needs at least one source")
        weights = [1 / len(sources)] * len(sources) if weights is None else list(weights)
        if len(weights) != len(sources) or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
            raise LimbeckError(
                f"weights must be {len(sources)} positive numbers that sum to 1, got {weights}"
            )
        if mean not in ("probabilities", "logits"):
            raise LimbeckError(f"mean must be 'probabilities' or 'logits', got {mean!r}")
        self.sources = [as_source(f"sources[{k}]", source) for k, source in enumerate(sources)]
        self.early = all(source.early for source in self.sources)
        self.mean, self.temperature, self.axis = mean, temperature, axis
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        answers = [source(batch, signals, wants) for source in self.sources]
        return {want: self.combine([answer[want] for answer in answers]) for want in wants}

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """One tensor of K, in float32 or better; a single teacher's answer stays as it is."""
        if len(logits) == 1:
            return logits[0]
        stacked = torch.stack([z.to(torch.promote_types(z.dtype, torch.float32)) for z in logits])
        weights = self.weights.to(stacked)
        if self.mean == "logits":
            return mean_of_logits(stacked, weights)
        axis = self.axis if self.axis < 0 else self.axis + 1
        return mean_of_probabilities(stacked, weights, self.temperature, axis)

    def check(self, wants: Sequence[str]) -> None:
        for source in self.sources:
            source.check(wants)

    def advance(self, progress: float) -> None:
        for source in self.sources:
            source.advance(progress)

    def modules(self) -> list[nn.Module]:
        return [module for source in self.sources for module in source.modules()]
