"""Trainings of a second or less: twelve steps an epoch are never needed to see a difference."""

import json
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import Distiller, Frozen, Match, Objective, Reader, losses, truth
from limbeck.data import Augment, ImageBatch, Images, Loader
from limbeck.inputs import Preprocess
from limbeck.projectors import conv
from limbeck.schedules import Linear
from limbeck.train import Job, Training
from limbeck.train.run import Run

SIDE, CLASSES = 6, ("a", "b", "c")
VIEW = Preprocess(mean=(0.5,) * 3, std=(0.25,) * 3)
TIMES = ("seconds", "images_per_second")


class Net(nn.Module):
    """Images (B, 3, 6, 6) to 3 classes; batch normalisation and dropout on request."""

    def __init__(self, width: int = 4, norm: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(width, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(self.conv(x)).relu().mean((2, 3))))


def net(width: int = 4, seed: int = 0, norm: bool = False, drop: float = 0.0) -> Net:
    torch.manual_seed(seed)
    return Net(width, norm, drop)


def images(n: int = 24, withheld: Sequence[int] = (), seed: int = 0) -> Images:
    """Brightness says the class, noise hides it a little."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(CLASSES)
    noise = torch.randint(0, 120, (n, 3, SIDE, SIDE), generator=generator)
    pixels = (noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    labels[list(withheld)] = -100
    return Images(pixels, labels, CLASSES)


def hint(weight: float = 0.1) -> Objective:
    return weight * Match(losses.hint, "conv", project=conv)


def textbook() -> Objective:
    return 0.5 * truth() + 0.5 * Match(losses.kl, temperature=4)


def rich() -> Objective:
    """Labels, soft labels whose weight and temperature move, and a projected hint."""
    soft = Match(losses.kl, temperature=Linear(4, 2))
    return 0.5 * truth() + Linear(0, 1, until=0.5) * soft + hint()


def distiller(
    objective: Objective,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
) -> Distiller:
    reader = Reader(net() if student is None else student, inputs=VIEW)
    frozen = Frozen(net(6, seed=1, norm=True) if teacher is None else teacher, inputs=VIEW)
    return Distiller(reader, {"teacher": frozen}, objective)


def doubled(objective: Objective, student: nn.Module) -> Distiller:
    """Everything in float64."""

    def view(pixels: Tensor) -> Tensor:
        return VIEW(pixels).double()

    teacher = Frozen(net(6, seed=1, norm=True).double(), inputs=view)
    return Distiller(Reader(student.double(), inputs=view), {"teacher": teacher}, objective)


def loader(data: Images | None = None, batch_size: int = 6, **more: Any) -> Loader:
    given = {"seed": 0, "augment": Augment(crop=1, flip=True), **more}
    return Loader(images() if data is None else data, batch_size, **given)


def job(
    folder: Path,
    objective: Objective | Distiller | None = None,
    *,
    batches: Any = None,
    valid: Images | None = None,
    resume: bool = False,
    seed: int = 0,
    **settings: Any,
) -> Job:
    """A training in a folder: 4 steps an epoch and 3 epochs, unless it says otherwise."""
    made = objective if isinstance(objective, Distiller) else distiller(objective or textbook())
    given = {"epochs": 3, "batch_size": 6, "log_every": 1, "lr": 0.05, **settings}
    run = Run(folder, resume=resume)
    return Job(made, batches or loader(), Training(**given), run, valid=valid, seed=seed)


class Signalled:
    """A loader that sends this process a signal while it makes the batch of a step."""

    def __init__(self, inner: Loader, step: int, number: int = signal.SIGTERM) -> None:
        self.inner, self.plan, self.step, self.number = inner, inner.plan, step, number

    def __len__(self) -> int:
        return len(self.inner)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        for place, batch in enumerate(self.inner.epoch(epoch, start), start + epoch * len(self)):
            if place == self.step:
                signal.raise_signal(self.number)
            yield batch


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(left: Any, right: Any) -> bool:
    """Bit for bit, through mappings and lists."""
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


def records(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """The metrics of a run, of these kinds alone if any are named."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if not kinds or line["kind"] in kinds]


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what a clock said."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in records(folder)]


def saved(folder: Path) -> dict[str, Any]:
    """The training state of a run without what a clock said."""
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return {name: value for name, value in state.items() if name not in TIMES}


class Slow(Net):
    """Takes its time, so that another process can interrupt it."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            time.sleep(0.01)
        return super().forward(x)


def slow() -> Net:
    return Slow(4, norm=True, drop=0.3)


def wide() -> Net:
    return Net(6, norm=True)
