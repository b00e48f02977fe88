"""Real digits, a small network that knows them, and students that learn from a teacher alone."""

import functools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from limbeck import Distiller, Match, Reader, losses
from limbeck.data import open_images
from limbeck.foreign import Foreign, Spec
from limbeck.inputs import Preprocess
from limbeck.signals import Batch, Signals
from limbeck.store import Store, Stored, Writer, by_number, codec, place

NAMES = tuple("0123456789")
VIEW = Preprocess(mean=(0.5, 0.3, 0.1), std=(0.5, 0.5, 0.5))  # no two channels are alike
GREY = Preprocess(mean=(0.0,), std=(1.0,))
NCHW = Spec("logits", NAMES, "NCHW")
STEPS, ROWS = 60, 100


@functools.cache
def digits(part: str = "train") -> tuple[Tensor, Tensor]:
    """Pixels and labels, all classes mixed."""
    images = open_images(f"digits:{part}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.fetch(order), images.labels[order]


class Net(nn.Module):
    """Two convolutions and a head; `pooled` is what the head sees."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
        )
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16 * 49, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.body(x).flatten(1)))


class Both(nn.Module):
    """The network with its features beside the answer."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"body": self.net.body(x), "logits": self.net(x)}


@functools.cache
@torch.enable_grad()
def net() -> Net:
    """Trained on labels for two epochs."""
    torch.manual_seed(0)
    model = Net()
    pixels, labels = digits()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(2):
        for rows in torch.arange(len(pixels)).split(ROWS):
            nn.functional.cross_entropy(model(VIEW(pixels[rows])), labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()


def answers(source: Foreign | Stored, rows: int = 200, *wants: str) -> dict[str, Tensor]:
    """What a source says of digits that nobody trained on."""
    batch = Batch(digits("valid")[0][:rows])
    return dict(source(batch, Signals(), ["output", *wants]))


def accuracy(logits: Tensor) -> float:
    return float((logits.argmax(-1) == digits("valid")[1][: len(logits)]).float().mean())


def student_of(source: Foreign | Stored) -> Tensor:
    """The logits of a student that saw no label, on digits that nobody trained on."""
    torch.manual_seed(1)
    student = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
    reader = Reader(student, inputs=GREY)
    distiller = Distiller(reader, source, 1.0 * Match(losses.kl, temperature=2))
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    pixels, _ = digits()
    for step in range(STEPS):
        ids = torch.arange(ROWS) + step % (len(pixels) // ROWS) * ROWS
        distiller(pixels[ids], ids=ids, view=torch.zeros_like(ids)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return student(GREY(digits("valid")[0]))


def stored(teacher: Foreign, folder: Path) -> Stored:
    """The teacher's answers for all digits of the training part, written and opened."""
    pixels, _ = digits()
    with Writer(place(folder), teacher.about(), {"output": codec("float32")}) as writer:
        for ids in torch.arange(len(pixels)).split(128):
            said = teacher(Batch(pixels[ids]), Signals(), ["output"])
            writer.add(by_number(ids.numpy()), np.zeros(len(ids), int), said)
    return Stored(Store(place(folder)))
