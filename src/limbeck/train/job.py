"""What one training needs, and how its distiller is made ready for it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limbeck.data import Images, Loader
from limbeck.distiller import Distiller
from limbeck.schemes import Mutual
from limbeck.tasks import CLASSIFICATION, Task
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run
from limbeck.train.settings import Training

MOST_BATCHES = 32
Learner = Distiller | Mutual  # both have `students`, `readers`, `objective`, `sources`, `balanced`


@dataclass
class Job:
    """Everything that one training needs.

    `parts` are the sources that the ranks of a sharded training hold in parts, each with the paths
    of its blocks, found where None.
    """

    distiller: Learner
    loader: Loader
    settings: Training
    run: Run
    task: Task = CLASSIFICATION
    valid: Images | None = None
    seed: int = 0
    ranks: Ranks = field(default_factory=Ranks)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    parts: Mapping[str, Sequence[str] | None] = field(default_factory=dict)


def prepare(distiller: Learner, loader: Loader, device: torch.device, task: Task) -> None:
    """Prepares a distiller with the first batch, or what a balance needs: the first that tells."""
    if distiller.balanced:
        inputs, data = telling(distiller, loader, device, task)
    else:
        inputs, data = task.signals(next(loader.epoch(0)), device)
    distiller.prepare(inputs, **data)


def telling(
    distiller: Learner, loader: Loader, device: torch.device, task: Task
) -> tuple[Tensor, dict[str, Tensor]]:
    """The first batch that has something for each part, such as a label; else the first."""
    for batch in itertools.islice(loader.epoch(0), MOST_BATCHES):
        inputs, data = task.signals(batch, device)
        if all(bool(n) for n in distiller.items(len(inputs), **data).values()):
            return inputs, data
    return task.signals(next(loader.epoch(0)), device)
