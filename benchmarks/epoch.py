"""One epoch of the same job by limbeck, by its peers and by hand: time and memory, on one thread.

    python benchmarks/epoch.py [--steps N] [--quick] [--write]

ResNet-32x4 teaches ResNet-8x4 on CIFAR-10 at 32 px, 16 images a step, SGD with momentum, crops and
flips, random weights. The ways are those of `overhead.py`, and limbeck with the teacher's answers
read from a store that was written before (`written` is what that cost, once). They take turns in
random order by blocks of steps, each with its own copy of everything; every way draws, crops and
normalises its images by the same loader, which counts. Seconds are of processor time. The ratio is
the median over the blocks of a way's time by that of the hand-written loop, the spread half the
distance between the quartiles. The loop runs twice: the second ratio (A/A) says how far the machine
can be trusted. Lightning's `fit` is begun anew in each block; its setup is not counted.

Memory: each way does its epoch once more in a process of its own. `peak` is the most that is
resident, as Linux counts it; `own` leaves out what was there before the way was made: Python,
torch, the images, and limbeck, which all import for the networks.
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from linear_kl import resident
from methods_pair import VIEW
from noise import noise
from overhead import ALPHA, WAYS, Block, T, installed, sgd

from limbeck import Distiller, Frozen, Match, losses, truth
from limbeck.data import Augment, ImageBatch, Images, Loader
from limbeck.signals import Batch, Signals
from limbeck.store import Store, Stored, Writer, by_number, codec, place
from limbeck.zoo import resnet8x4, resnet32x4

HERE = Path(__file__).parent
RESULT = HERE / "results" / "epoch.json"
HAND, AGAIN = "plain loop", "plain loop again (A/A)"
STORED = "limbeck, stored"
NAMES = {name: package for name, (_, package) in WAYS.items()} | {STORED: None}
Way = Callable[[list[ImageBatch]], float]  # trains on batches, returns seconds


@dataclass(frozen=True)
class Size:
    """Steps of the epoch and of a way's turn, images a step."""

    steps: int
    block: int
    batch: int


FULL, QUICK = Size(48, 2, 16), Size(4, 2, 4)


def loader_of(images: Images, size: Size) -> Loader:
    return Loader(images, size.batch, seed=0, augment=Augment(crop=4, flip=True))


def way_of(name: str, store: Path) -> Way:
    """A way with its own student, and its own teacher if it has one alive."""
    torch.manual_seed(0)
    student = resnet8x4()
    if name == STORED:
        return stored(student, store)
    return normalised(WAYS[name][0](student, teacher()))


def teacher() -> torch.nn.Module:
    torch.manual_seed(1)
    return resnet32x4().eval()


def normalised(block: Block) -> Way:
    """A way of `overhead.py`, which takes inputs and labels."""

    def way(batches: list[ImageBatch]) -> float:
        begun = time.process_time()
        data = [(VIEW(batch.images), batch.target) for batch in batches]
        return time.process_time() - begun + sum(block(data))

    return way


def stored(student: torch.nn.Module, store: Path) -> Way:
    objective = ALPHA * truth() + (1 - ALPHA) * Match(losses.kl, temperature=T)
    distiller = Distiller(student, Stored(Store(place(str(store)))), objective)
    optimizer = sgd(student)

    def way(batches: list[ImageBatch]) -> float:
        begun = time.process_time()
        for batch in batches:
            data = {"target": batch.target, "ids": batch.ids, "view": batch.view}
            loss = distiller(VIEW(batch.images), **data).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.process_time() - begun

    return way


def write_store(images: Images, size: Size, store: Path) -> float:
    """Asks the teacher about every image of the epoch; the seconds that it took."""
    source = Frozen(teacher(), inputs=VIEW)
    about = {"teacher": "ResNet-32x4, seed 1"}
    begun = time.process_time()
    with Writer(place(str(store)), about, {"output": codec("logits")}) as writer:
        for batch in loader_of(images, size).epoch(0):
            said = source(Batch(batch.images), Signals(), ["output"])
            writer.add(by_number(batch.ids.numpy()), batch.view.numpy().astype(np.int64), said)
    return time.process_time() - begun


def turn(way: Way, loader: Loader, first: int, block: int) -> float:
    """Seconds of a way for a block of steps, with its images."""
    begun = time.process_time()
    batches = list(islice(loader.epoch(0, first), block))
    drawn = time.process_time() - begun
    return drawn + way(batches)


def measure(images: Images, size: Size, store: Path) -> dict[str, dict[str, float]]:
    """Seconds of an epoch of each way that is installed, its ratio, and the spread of that."""
    loader = loader_of(images, size)
    ways = {name: way_of(name, store) for name, package in NAMES.items() if installed(package)}
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for first in range(-size.block, size.steps, size.block):
        for name in random.sample(list(ways), len(ways)):
            seconds = turn(ways[name], loader, max(first, 0), size.block)
            if first >= 0:
                turns[name].append(seconds)
    return {name: summary(found, turns[HAND]) for name, found in turns.items()}


def summary(found: list[float], base: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(found, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"seconds": sum(found), "ratio": middle, "spread": (high - low) / 2}


def alone(name: str, size: Size, folder: Path) -> dict[str, float]:
    """MiB of a process that does a way's epoch and nothing else."""
    command = [sys.executable, __file__, "--way", name, "--folder", str(folder)]
    for key in ("steps", "block", "batch"):
        command += [f"--{key}", str(getattr(size, key))]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def epoch_alone(name: str, size: Size, folder: Path) -> dict[str, float]:
    """What such a process does."""
    loader = loader_of(load(folder), size)
    before = resident("VmRSS")
    way = way_of(name, folder / "store")
    for first in range(0, size.steps, size.block):
        turn(way, loader, first, size.block)
    peak = resident("VmHWM")
    return {"peak": peak / 2**20, "own": (peak - before) / 2**20}


def keep(images: Images, folder: Path) -> None:
    torch.save((images.pixels, images.labels, images.classes), folder / "images.pt")


def load(folder: Path) -> Images:
    return Images(*torch.load(folder / "images.pt"))


def table(rows: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':24} {'s an epoch':>10} {'ratio':>8} {'spread':>8} {'peak MiB':>9} {'own':>7}"]
    for name, package in NAMES.items():
        if name not in rows:
            lines.append(f"{name:24} not installed: pip install 'limbeck[frameworks]' ({package})")
            continue
        row = rows[name]
        peak = f"{row['peak']:9.0f} {row['own']:7.0f}" if "peak" in row else ""
        lines.append(
            f"{name:24} {row['seconds']:10.2f} {row['ratio']:8.3f} {row['spread']:8.3f} {peak}"
        )
    return "\n".join(lines)


def images_of(options: argparse.Namespace, size: Size) -> tuple[str, Images]:
    """CIFAR-10 where it is to be had, and what is seen."""
    from textbook import SHARED

    from methods import open_splits  # not in the processes whose memory counts

    count, cache = size.steps * size.batch, options.out / "cifar10.pt"
    there = cache.exists() or options.cifar is not None or SHARED.exists()
    if options.quick or not there:
        return "noise", noise(count)
    splits = open_splits(options.cifar, cache)
    return "CIFAR-10", splits["train"].subset(torch.arange(count))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=FULL.steps, help="steps of the epoch")
    parser.add_argument("--block", type=int, default=FULL.block, help="steps of a turn")
    parser.add_argument("--batch", type=int, default=FULL.batch, help="images a step")
    parser.add_argument("--out", type=Path, default=HERE.parent / "runs" / "epoch")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 in torchvision's layout")
    parser.add_argument("--quick", action="store_true", help="4 steps of 4 images of noise")
    parser.add_argument("--write", action="store_true", help="keep it in results/epoch.json")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    size = QUICK if options.quick else Size(options.steps, options.block, options.batch)
    if options.way is not None:
        print(json.dumps(epoch_alone(options.way, size, options.folder)))
        return
    seen, images = images_of(options, size)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        keep(images, folder)
        written = write_store(images, size, folder / "store")
        rows = measure(images, size, folder / "store")
        for name in rows.keys() - {AGAIN}:
            rows[name] |= alone(name, size, folder)
    print(table(rows))
    print(f"{seen}; writing the store: {written / rows[HAND]['seconds']:.2f} epochs of the loop")
    if options.write:
        write(rows, size, seen, written)


def write(rows: dict[str, dict[str, float]], size: Size, seen: str, written: float) -> None:
    packages = ["torch", *filter(installed, ("torchdistill", "lightning"))]
    kept: dict[str, Any] = {"images": seen, **size.__dict__, "written": written, "ways": rows}
    kept |= {"threads": torch.get_num_threads(), "machine": platform.machine()}
    kept["versions"] = {package: version(package) for package in packages}
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
