"""Runs an example as it is and writes down what its distiller did.

    python watched.py EXAMPLE RESULT.pt

Random samplers all draw one order, again in each epoch, so that loops can be compared.
"""

import functools
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler

from limbeck import Distiller


class Watch:
    """The losses of a distiller with a teacher, and the teacher as it was and the modes it had."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.modes: set[bool] = set()

    def over(self, distiller: Distiller) -> None:
        if not distiller.sources:
            return
        (self.teacher,) = distiller.sources["teacher"].modules()
        self.distiller, self.before = distiller, snapshot(self.teacher)
        distiller.register_forward_hook(lambda *call: self.losses.append(call[2].loss.item()))
        for part in self.teacher.modules():
            part.register_forward_pre_hook(lambda part, _: self.modes.add(part.training))

    def seen(self) -> dict[str, Any]:
        return {
            "losses": self.losses,
            "modes": self.modes,
            "before": self.before,
            "after": snapshot(self.teacher),
            "state": snapshot(self.distiller),
        }


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.cpu().clone() for name, value in module.state_dict().items()}


def one_order(sampler: Any) -> Iterator[int]:
    generator = torch.Generator().manual_seed(0)
    return iter(torch.randperm(len(sampler), generator=generator).tolist())


def watched(watch: Watch) -> Callable[..., None]:
    """How a distiller is made, and then watched."""
    make: Callable[..., None] = Distiller.__init__

    @functools.wraps(make)
    def init(distiller: Distiller, *args: Any, **options: Any) -> None:
        make(distiller, *args, **options)
        watch.over(distiller)

    return init


def samplers() -> Iterator[type]:
    """What draws at random in the loops."""
    yield RandomSampler
    if find_spec("accelerate"):
        from accelerate.data_loader import SeedableRandomSampler

        yield SeedableRandomSampler


def main(example: str, result: str) -> None:
    watch = Watch()
    with ExitStack() as patches:
        patches.enter_context(patch.object(Distiller, "__init__", watched(watch)))
        for sampler in samplers():
            patches.enter_context(patch.object(sampler, "__iter__", one_order))
        runpy.run_path(example, run_name="__main__")
    torch.save(watch.seen(), result)


if __name__ == "__main__":
    main(*sys.argv[1:])
