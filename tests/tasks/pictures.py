"""Labels files with real pictures, whose brightness in each channel is what there is to learn."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

SIDE = 8
COLOURS = ("red", "green", "blue")


def write(
    folder: Path,
    n: int,
    cell: Callable[[float, int, int], Any],
    *,
    seed: int = 0,
    suffix: str = "png",
) -> Path:
    """A labels file of n pictures; `cell` says of a channel's level in 0..1 what the target is."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows: list[list[Any]] = [["image", *COLOURS]]
    for i in range(n):
        level = random.random(3)
        noise = random.normal(0, 0.04, (SIDE, SIDE, 3))
        pixels = (255 * np.clip(level + noise, 0, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.{suffix}")
        rows.append([f"{i}.{suffix}", *(cell(x, i, k) for k, x in enumerate(level))])
    path = folder / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def flags(level: float, i: int, k: int) -> int:
    return int(level > 0.5)


def numbers(level: float, i: int, k: int) -> str:
    return f"{4 * level - 2:.4f}"


def gappy(cell: Callable[[float, int, int], Any]) -> Callable[[float, int, int], Any]:
    """Every fifth picture has no target, every third one lacks one of them."""

    def holes(level: float, i: int, k: int) -> Any:
        return "" if i % 5 == 0 or (i % 3 == 0 and k == i % 2) else cell(level, i, k)

    return holes


CELLS: dict[str, Callable[[float, int, int], Any]] = {"multilabel": flags, "regression": numbers}
SOFT = {
    "multilabel": {"loss": "binary_kl", "weight": 0.5, "temperature": 2},
    "regression": {"loss": "squared_error", "weight": 0.5},
}


def recipe(folder: Path, task: str, **changes: Any) -> dict[str, Any]:
    """A teacher that is fitted, and a student, on pictures with gaps in their targets."""
    train = write(folder / "train", 40, gappy(CELLS[task]), suffix="jpg")
    valid = write(folder / "valid", 20, CELLS[task], seed=1)
    test = write(folder / "test", 24, gappy(CELLS[task]), seed=2)
    made = {
        "task": task,
        "data": {"train": f"csv:{train}", "valid": f"csv:{valid}", "test": f"csv:{test}"},
        "teacher": {
            "model": "limbeck.zoo:mlp",
            "options": {"hidden": 32, "channels": 3, "size": SIDE},
            "fit": {"epochs": 25, "batch_size": 8, "optimizer": "Adam", "lr": 0.005},
        },
        "student": {
            "model": "limbeck.zoo:mlp",
            "options": {"hidden": 8, "channels": 3, "size": SIDE},
        },
        "objective": [{"loss": "truth", "weight": 0.5}, SOFT[task]],
        "train": {"epochs": 6, "batch_size": 8, "optimizer": "Adam", "lr": 0.01, "log_every": 1},
    }
    return {**made, **changes}


def sigmoid_net(classes: int) -> nn.Module:
    """What should answer with logits, and does not."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, classes), nn.Sigmoid())
