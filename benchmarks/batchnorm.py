"""What BatchNorm makes of a batch in pieces: the one thing that accumulation and ranks change.

    python benchmarks/batchnorm.py [--quick] [--write]

A small CNN is trained on the 2,000 digits, with batch norm and without, on batches of 64 that are
taken whole or in 2, 4 and 8 pieces; ranks cut a batch as `accumulate` does. Of each there are three
seeds: `apart` is the largest difference of a weight from the undivided training, after one step and
after the last, in float64, and `points` the mean difference of top-1 accuracy on the 2,500 test
digits, paired by seed, with its 95 % interval.
"""

import argparse
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck import Distiller, Reader, truth
from limbeck.compare import gain
from limbeck.data import Augment, Images, Loader, derive, open_images
from limbeck.inputs import Preprocess
from limbeck.tasks.classification import Score
from limbeck.tasks.task import predictions
from limbeck.train import Job, Training, train
from limbeck.train.run import Run
from limbeck.zoo import small_cnn

RESULT = Path(__file__).parent / "results" / "batchnorm.json"
VIEW = Preprocess((0.13,), (0.31,))
SEEDS, PIECES, BATCH, EPOCHS = (0, 1, 2), (1, 2, 4, 8), 64, 10


def network(normed: bool) -> nn.Module:
    """With batch norm, or with a bias in each place of it."""
    model = small_cnn(10)
    if not normed:
        for block in model:
            if isinstance(block, nn.Sequential):
                conv = block[0]
                conv.bias, block[1] = nn.Parameter(torch.zeros(conv.out_channels)), nn.Identity()
    return model.double()


def trained(normed: bool, pieces: int, seed: int, images: Images, steps: int | None) -> nn.Module:
    """The network after `steps`, or after all epochs."""
    torch.manual_seed(derive(seed, "student"))
    model = network(normed)
    common = {"epochs": EPOCHS, "batch_size": BATCH, "optimizer": "AdamW", "lr": 0.003}
    settings = Training(accumulate=pieces, max_steps=steps, **common)
    loader = Loader(images, BATCH, seed=seed, augment=Augment(crop=2))
    reader = Reader(model, inputs=lambda x: VIEW(x).double())
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        train(Job(Distiller(reader, {}, 1.0 * truth()), loader, settings, run, seed=seed))
    return copy.deepcopy(model)


def top1(model: nn.Module, images: Images) -> float:
    return 100 * Score.of(predictions(model, lambda x: VIEW(x).double(), images)).top1


def apart(one: nn.Module, other: nn.Module) -> float:
    """The largest difference of a weight."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def measure(images: Images, test: Images, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    for normed in (True, False):
        ends = {(n, seed): trained(normed, n, seed, images, None) for n in PIECES for seed in seeds}
        firsts = {n: trained(normed, n, seeds[0], images, 1) for n in PIECES}
        scores = {n: [top1(ends[n, seed], test) for seed in seeds] for n in PIECES}
        for n in PIECES[1:]:
            points = gain(f"{n} pieces", "whole", scores[n], scores[1])
            row = {"batch norm": normed, "pieces": n, "scores": scores[n], "whole": scores[1]}
            row |= {"points": points.mean, "low": points.low, "high": points.high}
            row["apart at first"] = apart(firsts[n], firsts[1])
            row["apart at last"] = max(apart(ends[n, seed], ends[1, seed]) for seed in seeds)
            rows.append(row)
            print(text(row), flush=True)
    return rows


def text(row: dict[str, Any]) -> str:
    interval = "" if row["low"] is None else f" ({row['low']:+.2f} to {row['high']:+.2f})"
    distance = f"apart {row['apart at first']:.1e} at first, {row['apart at last']:.1e} at last"
    who = f"batch norm {row['batch norm']!s:5} {row['pieces']} pieces"
    return f"{who}: {row['points']:+.2f} points{interval}, {distance}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, 128 digits")
    parser.add_argument("--write", action="store_true", help="keep it in results/batchnorm.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, test = open_images("digits:train"), open_images("digits:test")
    if options.quick:
        measure(images.subset(torch.arange(128)), test.subset(torch.arange(100)), SEEDS[:1])
        return
    rows = measure(images, test, SEEDS)
    if options.write:
        kept = {"batch": BATCH, "epochs": EPOCHS, "seeds": len(SEEDS), "rows": rows}
        RESULT.write_text(json.dumps(kept | {"torch": torch.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main()
