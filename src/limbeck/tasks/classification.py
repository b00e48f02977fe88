"""Image classification: a batch to signals, and how good a classifier is."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import ImageBatch, Images, in_order
from limbeck.distiller import evaluating


def signals(batch: ImageBatch, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """The inputs of the models, and the data that objectives and sources read."""
    data = {"target": batch.target, "ids": batch.ids, "view": batch.view}
    on = {name: value.to(device, non_blocking=True) for name, value in data.items()}
    return batch.images.to(device, non_blocking=True), on


def predictions(
    model: nn.Module,
    adapt: Callable[[Any], Any],
    images: Images,
    *,
    batch_size: int = 256,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (float32, on the CPU) and labels of all images in order, in eval mode."""
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluating(model):
        for batch in in_order(images, batch_size, workers=workers):
            logits = model(adapt(batch.images.to(device)))
            yield logits.float().cpu(), batch.target


@dataclass(frozen=True)
class Score:
    """Top-1 accuracy and negative log-likelihood (nats) of labelled images."""

    top1: float
    nll: float
    examples: int

    @classmethod
    def of(cls, batches: Iterator[tuple[Tensor, Tensor]]) -> "Score":
        right = nll = 0.0
        n = 0
        for logits, target in batches:
            known = target >= 0
            logits, target = logits[known], target[known]
            log_q = torch.log_softmax(logits.double(), -1)
            nll -= float(log_q.gather(1, target[:, None]).sum())
            right += int((logits.argmax(1) == target).sum())
            n += len(target)
        return cls(right / n, nll / n, n) if n else cls(math.nan, math.nan, 0)
