"""One of each source, with data that all of them can read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tests.networks import Noisy, batch, mlp
from torch import Tensor, nn

from limbeck import (
    Distiller,
    Drawn,
    Ema,
    Ensemble,
    Frozen,
    Match,
    Objective,
    Past,
    Prior,
    Routed,
    View,
    losses,
    truth,
)
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

SAMPLES, ROWS = 12, 6
Make = Callable[[nn.Module], Source]


def noisy(seed: int = 0) -> Noisy:
    torch.manual_seed(seed)
    return Noisy()


SOURCES: dict[str, Make] = {
    "ema": lambda student: Ema(student, 0.8),
    "past": lambda student: Past(SAMPLES),
    "view": lambda student: View(),
    "a view of an ema": lambda student: View(Ema(student, 0.8)),
    "a view of a teacher": lambda student: View(noisy(1)),
    "prior": lambda student: Prior(3),
    "routed": lambda student: Routed({"a": noisy(1), "b": noisy(2)}),
    "drawn": lambda student: Drawn([noisy(1), noisy(2)], seed=3),
    "an ema among several": lambda student: Ensemble(
        [Ema(student, 0.8), Frozen(noisy(1)), Drawn([noisy(2), Ema(student, 0.5)], seed=0)],
        mean="logits",
    ),
    "a past among several": lambda student: Ensemble([Past(SAMPLES), View()], mean="logits"),
}
MOVING = (
    "ema",
    "past",
    "a view of an ema",
    "drawn",
    "an ema among several",
    "a past among several",
)
SOFT = Match(losses.kl, source="own", temperature=2)


def distiller(name: str, objective: Objective | None = None, seed: int = 0) -> Distiller:
    """A student with batch statistics and dropout that learns from labels and the source."""
    student = noisy(seed)
    made = truth() + SOFT if objective is None else objective
    return Distiller(student, {"own": SOURCES[name](student)}, made)


def data(step: int, rows: int = ROWS) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs, and all that any of the sources reads: two batches an epoch, shuffled."""
    x, y = batch(rows, seed=step)
    epoch, place = divmod(step, SAMPLES // rows)
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
    ids = order[place * rows :][:rows]
    return x, {"target": y, "ids": ids, "domain": torch.arange(rows) % 2}


def train(
    distiller: Distiller, steps: Sequence[int], optimizer: torch.optim.Optimizer | None = None
) -> torch.optim.Optimizer:
    """Plain steps whose dropout depends on the step alone."""
    if optimizer is None:
        optimizer = torch.optim.SGD(distiller.parameters(), 0.1, momentum=0.9)
    for step in steps:
        torch.manual_seed(step)
        distiller.advance(step / 10)
        x, given = data(step)
        distiller(x, **given).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def ask(source: Source, x: Any, wants: Sequence[str] = ("output",), **given: Tensor) -> Any:
    """What an early source says of a batch."""
    return source(Batch(x, given), Signals(data=given), wants)


def teacher(seed: int = 1, width: int = 5) -> nn.Module:
    return mlp(width, seed=seed)
