"""Running sums of a classifier's answers, and the scores that they make."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.tasks.task import share

BINS = 15
PROBABILITIES = (
    "must return logits, got probabilities (non-negative, and every row sums to 1); "
    "remove its last softmax"
)


class Tally:
    """What one model answered: confusion, likelihood and confidence, summed in float64.

    >>> tally = Tally(2)
    >>> tally.add(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    >>> scores = tally.scores(["cat", "dog"])
    >>> scores["top1"], scores["confusion"], round(scores["nll"], 4)
    (0.5, [[1, 0], [1, 0]], 0.7201)
    """

    def __init__(self, classes: int) -> None:
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.count = torch.zeros(BINS, dtype=torch.int64)
        self.confidence = torch.zeros(BINS, dtype=torch.float64)
        self.right = torch.zeros(BINS, dtype=torch.float64)
        self.nll = 0.0
        self.top5 = 0
        self.probabilities = True

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Counts logits (B, C) against labels (B,)."""
        log_q = torch.log_softmax(logits.double(), -1)
        confidence, predicted = log_q.max(-1)
        classes = logits.shape[1]
        pairs = torch.bincount(target * classes + predicted, minlength=classes**2)
        self.confusion += pairs.view(classes, classes)
        self.nll -= float(log_q.gather(1, target[:, None]).sum())
        best = log_q.topk(min(5, classes)).indices
        self.top5 += int((best == target[:, None]).any(1).sum())
        self.bin(confidence.exp(), predicted == target)
        self.probabilities &= are_probabilities(logits)

    def bin(self, confidence: Tensor, right: Tensor) -> None:
        """Bin k holds the confidences in (k / 15, (k + 1) / 15]."""
        k = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
        self.count += torch.bincount(k, minlength=BINS)
        self.confidence.index_add_(0, k, confidence)
        self.right.index_add_(0, k, right.double())

    def scores(self, classes: Sequence[str]) -> dict[str, Any]:
        """The accuracy part of an evaluation; `null` where there is nothing to divide by.

        `top5` is `null` for five classes or fewer, where it would say nothing. `ece` is
        sum_k count_k / n * |accuracy_k - confidence_k|. Rows of `confusion` are true classes.

        Paper: Guo et al. 2017, arXiv:1706.04599 (`ece`).
        """
        n = int(self.confusion.sum())
        counts, hits = self.confusion.sum(1).tolist(), self.confusion.diag().tolist()
        return {
            "examples": n,
            "top1": sum(hits) / n,
            "top5": self.top5 / n if len(classes) > 5 else None,
            "nll": self.nll / n,
            "ece": float((self.right - self.confidence).abs().sum()) / n,
            "per_class": {
                name: {"top1": share(hit, count), "count": count}
                for name, hit, count in zip(classes, hits, counts, strict=True)
            },
            "classes": list(classes),
            "reliability": [self.reliability(k) for k in range(BINS)],
            "confusion": self.confusion.tolist(),
        }

    def fault(self) -> str | None:
        """Why these were no logits, or None."""
        return PROBABILITIES if self.probabilities else None

    def reliability(self, k: int) -> dict[str, Any]:
        count = int(self.count[k])
        return {
            "low": k / BINS,
            "high": (k + 1) / BINS,
            "count": count,
            "confidence": share(float(self.confidence[k]), count),
            "accuracy": share(float(self.right[k]), count),
        }


def are_probabilities(logits: Tensor) -> bool:
    """Whether every row is non-negative and sums to 1 within 0.001."""
    rows = (logits >= 0).all(1) & ((logits.double().sum(1) - 1).abs() <= 1e-3)
    return bool(rows.all())
