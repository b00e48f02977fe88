"""What a training step costs beyond the plain loop, on one thread.

    python benchmarks/overhead.py [--steps N] [--block N] [--quick] [--write]

Every way of training holds its own copy of one student, one teacher, SGD with momentum and the
data. The ways take turns in random order, a block of steps each: a loop that has the processor for
one step alone runs from cold caches, which no training does (`--block 1` shows it), and Lightning's
loop cannot stop after a step. The median of all steps counts. The plain loop runs twice: the second
ratio (A/A) says how far the machine can be trusted. The spread is half the distance between the
quartiles of the blocks' ratios. Targets: 1.05 on the tiny pair, 1.01 and the A/A spread on the
medium one.
"""

import argparse
import copy
import json
import logging
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import Distiller, Match, Objective, losses, truth
from limbeck.zoo import mlp, resnet8x4, resnet32x4

T, ALPHA, CLASSES, BATCHES = 4.0, 0.5, 10, 8
RESULT = Path(__file__).parent / "results" / "overhead.json"

Data = list[tuple[Tensor, Tensor]]
Block = Callable[[Data], list[float]]  # trains on the data, returns the seconds of each step


class Pair(NamedTuple):
    """A student, a teacher, the shape of a batch, and how long to train."""

    student: Callable[[], nn.Module]
    teacher: Callable[[], nn.Module]
    shape: tuple[int, ...]
    steps: int
    block: int


PAIRS = {
    "tiny": Pair(
        lambda: mlp(10, 64, 1, 16), lambda: mlp(10, 128, 1, 16), (64, 1, 16, 16), 3000, 20
    ),
    "medium": Pair(resnet8x4, resnet32x4, (16, 3, 32, 32), 24, 2),
}


def sgd(student: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9)


def kd(student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The textbook loss as one writes it by hand."""
    with torch.no_grad():
        t = teacher(x)
    s = student(x)
    log_q, log_p = F.log_softmax(s / T, dim=-1), F.log_softmax(t / T, dim=-1)
    soft = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean") * T**2
    return ALPHA * F.cross_entropy(s, y) + (1 - ALPHA) * soft


def timed(step: Callable[[Tensor, Tensor], None]) -> Block:
    def block(data: Data) -> list[float]:
        seconds = []
        for x, y in data:
            start = time.process_time()
            step(x, y)
            seconds.append(time.process_time() - start)
        return seconds

    return block


def plain(student: nn.Module, teacher: nn.Module) -> Block:
    optimizer = sgd(student)

    def step(x: Tensor, y: Tensor) -> None:
        loss = kd(student, teacher, x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return timed(step)


def limbeck(student: nn.Module, teacher: nn.Module) -> Block:
    """The textbook objective, whose two terms are one function."""
    objective = ALPHA * truth() + (1 - ALPHA) * Match(losses.kl, temperature=T)
    return distilled(student, teacher, objective)


def apart(student: nn.Module, teacher: nn.Module) -> Block:
    """The same objective the other way round, whose terms are asked one by one, as others are."""
    objective = (1 - ALPHA) * Match(losses.kl, temperature=T) + ALPHA * truth()
    return distilled(student, teacher, objective)


def distilled(student: nn.Module, teacher: nn.Module, objective: Objective) -> Block:
    distiller = Distiller(student, teacher, objective)
    optimizer = sgd(student)

    def step(x: Tensor, y: Tensor) -> None:
        loss = distiller(x, target=y).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return timed(step)


def torchdistill(student: nn.Module, teacher: nn.Module) -> Block:
    from torchdistill.core.distillation import DistillationBox

    logging.disable()
    term = {"temperature": T, "alpha": ALPHA, "reduction": "batchmean"}
    for side in ("student", "teacher"):
        term |= {f"{side}_module_path": ".", f"{side}_module_io": "output"}
    terms = {"kd": {"criterion": {"key": "KDLoss", "kwargs": term}, "weight": 1.0}}
    config = {
        "num_epochs": 1,
        "teacher": {"requires_grad": False, "forward_proc": "forward_batch_only"},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.01, "momentum": 0.9}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
    }
    box = DistillationBox(teacher, student, {}, config, torch.device("cpu"), None, False, 1)
    return timed(lambda x, y: box.post_forward_process(box.forward_process(x, y)))


@dataclass
class Loader:
    """Batches as the Trainer takes them: a list would be several loaders to it."""

    data: Data

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def lightning(student: nn.Module, teacher: nn.Module) -> Block:
    """Its Trainer without logger, bar and checkpoints: a `fit` for each block of steps.

    A step lasts from one call of `training_step` to the next, so a block has one step more.
    """
    from lightning.pytorch import LightningModule, Trainer

    logging.disable()

    class Plain(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.student, self.starts = student, list[float]()

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            self.starts.append(time.process_time())
            return kd(self.student, teacher, *batch)

        def configure_optimizers(self) -> torch.optim.SGD:
            return sgd(self.student)

    def block(data: Data) -> list[float]:
        module = Plain()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = Trainer(max_epochs=1, accelerator="cpu", barebones=True)
            trainer.fit(module, Loader([*data, data[0]]))
        return [b - a for a, b in pairwise(module.starts)]

    return block


WAYS: dict[str, tuple[Callable[[nn.Module, nn.Module], Block], str | None]] = {
    "plain loop": (plain, None),
    "plain loop again (A/A)": (plain, None),
    "limbeck": (limbeck, None),
    "limbeck, term by term": (apart, None),
    "torchdistill": (torchdistill, "torchdistill"),
    "lightning Trainer": (lightning, "lightning"),
}


def installed(package: str | None) -> bool:
    return package is None or find_spec(package) is not None


def batches(pair: Pair) -> Data:
    generator = torch.Generator().manual_seed(0)
    labels = (pair.shape[0],)
    return [
        (
            torch.randn(pair.shape, generator=generator),
            torch.randint(CLASSES, labels, generator=generator),
        )
        for _ in range(BATCHES)
    ]


def measure(pair: Pair, steps: int, block: int) -> dict[str, dict[str, float]]:
    """Milliseconds a step of each way, its ratio to the plain loop, and the spread of that."""
    torch.manual_seed(0)
    student, teacher, data = pair.student(), pair.teacher().eval(), batches(pair)
    ways = {
        name: make(copy.deepcopy(student), copy.deepcopy(teacher))
        for name, (make, package) in WAYS.items()
        if installed(package)
    }
    rounds: dict[str, list[list[float]]] = {name: [] for name in ways}
    rows = [data[i % BATCHES] for i in range(block)]
    for done in range(-block, steps, block):
        for name in random.sample(list(ways), len(ways)):
            seconds = ways[name](rows)
            if done >= 0:
                rounds[name].append(seconds)
    return {name: summary(found, rounds["plain loop"]) for name, found in rounds.items()}


def summary(found: list[list[float]], base: list[list[float]]) -> dict[str, float]:
    middle, plainly = (statistics.median(chain(*blocks)) for blocks in (found, base))
    ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(found, base, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "milliseconds": middle * 1000,
        "ratio": middle / plainly,
        "spread": (high - low) / 2,
    }


def table(pair: str, found: dict[str, dict[str, float]]) -> str:
    lines = [f"{pair:24} {'ms a step':>10} {'ratio':>8} {'spread':>8}"]
    for name, (_, package) in WAYS.items():
        if name in found:
            row = found[name]
            lines.append(
                f"{name:24} {row['milliseconds']:10.3f} {row['ratio']:8.3f} {row['spread']:8.3f}"
            )
        else:
            lines.append(f"{name:24} not installed: pip install 'limbeck[frameworks]' ({package})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="steps of each way on either pair")
    parser.add_argument("--block", type=int, help="steps of a way before the next has its turn")
    parser.add_argument("--quick", action="store_true", help="the tiny pair, 40 steps")
    parser.add_argument("--write", action="store_true", help="keep it in results/overhead.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = {}
    for name, pair in list(PAIRS.items())[: 1 if options.quick else None]:
        block = options.block or (10 if options.quick else pair.block)
        steps = max(options.steps or (40 if options.quick else pair.steps), 2 * block)
        found = measure(pair, steps, block)
        print(table(name, found), flush=True)
        kept[name] = {"steps": steps, "block": block, "ways": found}
    print("in random order by blocks of steps; each block of Lightning is a fit of its own")
    if options.write:
        packages = ["torch", *filter(installed, ("torchdistill", "lightning"))]
        kept |= {"threads": torch.get_num_threads(), "machine": platform.machine()}
        kept["versions"] = {package: version(package) for package in packages}
        RESULT.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
