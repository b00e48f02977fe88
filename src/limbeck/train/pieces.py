"""A batch in pieces, whose gradients accumulate to that of the undivided batch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from limbeck.data import ImageBatch
from limbeck.train.job import Job

Piece = tuple[Tensor, dict[str, Tensor], dict[str, Any] | None, bool]


def pieces(job: Job, batch: ImageBatch) -> Iterator[Piece]:
    """The batch in `accumulate` pieces, each with its share of every part, and which is last.

    A part's share is its items here over its items in the whole step, times the number of ranks,
    since DDP averages gradients.
    """
    k, world = job.settings.accumulate, job.ranks.world
    inputs, data = job.task.signals(batch, job.device)
    if k == 1 and world == 1:
        yield inputs, data, None, True
        return
    chunks = [
        (inputs[rows], {name: value[rows] for name, value in data.items()})
        for rows in divided(torch.arange(len(inputs), device=job.device), k, batch.halves)
    ]
    counts = [job.distiller.items(len(x), **d) for x, d in chunks]
    here = {name: torch.stack([c[name].cpu() for c in counts]).sum() for name in counts[0]}
    whole = {name: n.clamp(min=1) for name, n in job.ranks.total(here).items()}
    for i, ((x, d), count) in enumerate(zip(chunks, counts, strict=True)):
        share = {name: float(n) * world / float(whole[name]) for name, n in count.items()}
        yield x, d, share, i == len(chunks) - 1


def divided(rows: Tensor, pieces: int, halves: int) -> list[Tensor]:
    """The rows of each piece of a batch; of two halves, the same rows of both.

    >>> [piece.tolist() for piece in divided(torch.arange(8), 2, halves=2)]
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    return [piece.flatten() for piece in rows.view(halves, -1).chunk(pieces, 1)]
