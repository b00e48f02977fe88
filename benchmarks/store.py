"""What a stored teacher saves, and what reading and writing a store cost.

    python benchmarks/store.py --steps        # training steps, on an idle machine
    python benchmarks/store.py --io           # rows and bytes a second
    python benchmarks/store.py --steps --io --write

Steps: four ways to train the same student take turns in random order, on one thread, with data of
the same kind: the teacher alive, its answers read from a store (half precision), its answers at
hand for nothing, and labels only. `bound` is what no store can beat, alive over free; `of the
bound` is free over stored. A store of one view costs the teacher once for each image, so with V
views it pays after `V / epochs` trainings; `docs/store.md` says so. Milliseconds are of processor
time, medians.

Reading: 128 random rows of 1,000 classes at a time, 50,000 rows in all, from a warm cache; beside
it one NumPy memory map of the same half floats, and Arrow where pyarrow is installed.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck import Distiller, Frozen, Match, losses, truth
from limbeck.signals import Batch, Signals
from limbeck.sources import Source
from limbeck.store import Store, Stored, Writer, by_number, codec, damaged, place
from limbeck.zoo import resnet8x4, resnet32x4

RESULT = Path(__file__).parent / "results" / "store.json"
SAMPLES, ROUNDS = 256, 30
ROWS, CLASSES, BATCH = 50_000, 1_000, 128
SHARD = 1 << 24  # bytes, so that there are several
Step = Callable[[], None]


class Encoder(nn.Module):
    """A transformer that classifies sequences of 64 tokens of 30,000."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(30_000, width)
        layer = nn.TransformerEncoderLayer(width, width // 64, 4 * width, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(ids)).mean(1))


def torchvision(name: str) -> nn.Module:
    import torchvision.models

    return torchvision.models.get_model(name, num_classes=10)


@dataclass(frozen=True)
class Pair:
    """A teacher, a student, and what a sample is."""

    teacher: Callable[[], nn.Module]
    student: Callable[[], nn.Module]
    batch: int
    shape: tuple[int, ...]


PAIRS = {
    "ResNet-32x4 to ResNet-8x4, 32 px": Pair(
        lambda: resnet32x4(), lambda: resnet8x4(), 16, (3, 32, 32)
    ),
    "ResNet-50 to MobileNetV3-small, 64 px": Pair(
        lambda: torchvision("resnet50"), lambda: torchvision("mobilenet_v3_small"), 32, (3, 64, 64)
    ),
    "transformer of 6 layers to one of 2": Pair(
        lambda: Encoder(6, 512), lambda: Encoder(2, 256), 16, (64,)
    ),
}


class AtHand(Source):
    """What a teacher said, in memory by number: no source can cost less."""

    early = True

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        return {"output": self.rows[batch.data["ids"]]}


def samples(shape: tuple[int, ...]) -> Tensor:
    """Images in 0 ... 255, or token ids."""
    generator = torch.Generator().manual_seed(0)
    high, kind = (256, torch.uint8) if len(shape) > 1 else (30_000, torch.int64)
    return torch.randint(high, (SAMPLES, *shape), generator=generator).to(kind)


def view(x: Tensor) -> Tensor:
    return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x


def answers(teacher: Source, x: Tensor, batch: int) -> Tensor:
    with torch.no_grad():
        said = [teacher(Batch(part), Signals(), ["output"])["output"] for part in x.split(batch)]
    return torch.cat(said)


def stepper(student: nn.Module, source: Source | None, x: Tensor, batch: int, seed: int) -> Step:
    """One step of training, the next random batch each time."""
    objective = 1.0 * truth()
    if source is not None:
        objective = 0.5 * truth() + 0.5 * Match(losses.kl, temperature=4)
    distiller = Distiller(student, {} if source is None else source, objective)
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9)
    generator, views = np.random.default_rng(seed), torch.zeros(batch, dtype=torch.int64)

    def step() -> None:
        ids = torch.from_numpy(generator.choice(SAMPLES, batch, replace=False))
        distiller(view(x[ids]), target=ids % 10, ids=ids, view=views).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def steps(pair: Pair) -> dict[str, float]:
    """Milliseconds of each way, and what they come to."""
    torch.manual_seed(0)
    teacher, x = Frozen(pair.teacher().eval()), samples(pair.shape)
    rows = answers(teacher, view(x), pair.batch)
    with tempfile.TemporaryDirectory() as folder:
        with Writer(place(folder), {"pair": "random"}, {"output": codec("logits")}) as writer:
            writer.add(by_number(np.arange(SAMPLES)), np.zeros(SAMPLES, int), {"output": rows})
        sources: dict[str, Source | None] = {
            "live": teacher,
            "stored": Stored(Store(place(folder))),
            "free": AtHand(rows),
            "labels": None,
        }
        ways = {
            name: stepper(pair.student(), source, x, pair.batch, 0)
            for name, source in sources.items()
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for done in range(ROUNDS + 2):
            for name in random.sample(list(ways), len(ways)):
                begun = time.process_time()
                ways[name]()
                if done >= 2:
                    times[name].append(time.process_time() - begun)
    found = {name: 1000 * statistics.median(each) for name, each in times.items()}
    return found | {
        "faster": found["live"] / found["stored"],
        "bound": found["live"] / found["free"],
        "of the bound": found["free"] / found["stored"],
    }


def speed(work: Callable[[], Any], amount: float, rounds: int = 1) -> float:
    """Amount a second of processor time."""
    begun = time.process_time()
    for _ in range(rounds):
        work()
    return amount * rounds / (time.process_time() - begun)


def io() -> dict[str, float]:
    """Rows read and megabytes written and verified a second."""
    x = 3 * torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(0))
    megabytes = ROWS * (2 * CLASSES + 4) / 1e6
    draw = np.random.default_rng(0)
    found: dict[str, float] = {}
    kept = {"output": codec("logits")}
    with tempfile.TemporaryDirectory() as folder:
        where = place(folder)

        def write() -> None:
            with Writer(where, {"rows": "random"}, kept, shard_bytes=SHARD) as writer:
                for ids in torch.arange(ROWS).split(512):
                    views = np.zeros(len(ids), int)
                    writer.add(by_number(ids.numpy()), views, {"output": x[ids]})

        found["write, MB/s"] = speed(write, megabytes)
        found["verify, MB/s"] = speed(lambda: damaged(Store(where)), megabytes)
        store, zeros = Store(where), np.zeros(BATCH, int)
        readers: dict[str, Callable[[], Any]] = {
            "store": lambda: store.read(by_number(draw.integers(0, ROWS, BATCH)), zeros),
            "memory map": mapped(x, Path(folder)),
        }
        if find_spec("pyarrow") is not None:
            readers["Arrow"] = arrow(x, Path(folder))
        rates: dict[str, list[float]] = {name: [] for name in readers}
        for done in range(21):
            for name in random.sample(list(readers), len(readers)):
                rate = speed(readers[name], BATCH, 50)
                if done:
                    rates[name].append(rate)
        found |= {f"{name}, rows/s": statistics.median(each) for name, each in rates.items()}
    return found


def mapped(x: Tensor, folder: Path) -> Callable[[], Any]:
    """Rows of one .npy file of half floats, made single floats as the store makes them."""
    np.save(folder / "rows.npy", x.half().numpy())
    rows, draw = np.load(folder / "rows.npy", mmap_mode="r"), np.random.default_rng(0)
    return lambda: torch.from_numpy(rows[draw.integers(0, ROWS, BATCH)]).float()


def arrow(x: Tensor, folder: Path) -> Callable[[], Any]:
    """Rows of one mapped Arrow file, as fixed-size lists of half floats."""
    import pyarrow as pa

    values = pa.FixedSizeListArray.from_arrays(pa.array(x.half().numpy().reshape(-1)), CLASSES)
    table = pa.table({"rows": values})
    with (
        pa.OSFile(str(folder / "rows.arrow"), "wb") as file,
        pa.ipc.new_file(file, table.schema) as out,
    ):
        out.write_table(table)
    rows = pa.ipc.open_file(pa.memory_map(str(folder / "rows.arrow"))).read_all()["rows"]
    draw = np.random.default_rng(0)

    def read() -> Tensor:
        chosen = rows.take(pa.array(draw.integers(0, ROWS, BATCH))).combine_chunks()
        return torch.from_numpy(chosen.flatten().to_numpy().reshape(BATCH, CLASSES)).float()

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", action="store_true", help="time training steps")
    parser.add_argument("--io", action="store_true", help="time reading and writing")
    parser.add_argument("--write", action="store_true", help="keep it in results/store.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if options.steps:
        kept["steps"] = {}
        for name, pair in PAIRS.items():
            kept["steps"][name] = found = steps(pair)
            print(name, {key: round(value, 3) for key, value in found.items()}, flush=True)
    if options.io:
        kept["io"] = io()
        print({key: round(value) for key, value in kept["io"].items()})
    if options.write:
        RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
