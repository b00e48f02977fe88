"""The textbook pair: ResNet-50 teaches MobileNetV3-small, T = 4, alpha = 0.5.

    python benchmarks/textbook.py --out runs/textbook --write

CIFAR-10 images are laid out as folders of JPEGs and seen at 64 px: 25,000 to train on, 5,000 to
choose by, 10,000 to judge by. One ResNet-50 is trained on the labels; MobileNetV3-small is then
trained with three seeds by labels only, by the teacher's hard labels and by the textbook's loss,
with equal steps; the last epoch counts. Everything goes on where it stopped; `--seed` runs the arms
of one seed, so that two processes can share the work (one thread each).
"""

import argparse
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limbeck.compare import compare, table
from limbeck.data import open_images
from limbeck.recipe import Recipe, arms_of, read
from limbeck.recipe.pipeline import runner, with_teacher
from limbeck.report import write_report
from limbeck.train.ranks import Ranks

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data" / "cifar10"
SPLITS = {"train": (0, 25_000), "valid": (45_000, 50_000), "test": (50_000, 60_000)}
SEEDS = (0, 1, 2)


def lay_out(images: Path, cifar: Path | None) -> None:
    """A folder of JPEGs a class and split, once."""
    if (images / "done").exists():
        return
    rows = packed(SHARED) if cifar is None else unpacked(cifar)
    for k, (jpeg, name) in enumerate(rows):
        for split, (first, last) in SPLITS.items():
            if first <= k < last:
                folder = images / split / name
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{k:05d}.jpg").write_bytes(jpeg)
    (images / "done").touch()


def packed(folder: Path):
    """JPEGs and class names, 50,000 to train on and then 10,000 to test on, from .npz files."""
    names = (folder / "classes.txt").read_text().split()
    for path in [*sorted(folder.glob("train-*.npz")), folder / "test-0.npz"]:
        part = np.load(path)
        jpeg, ends = part["jpeg"], part["offsets"]
        for i, label in enumerate(part["label"]):
            yield jpeg[ends[i] : ends[i + 1]].tobytes(), names[label]


def unpacked(root: Path):
    """The same from CIFAR-10 in torchvision's layout."""
    for part in ("train", "test"):
        images = open_images(f"cifar10:{part}@{root}")
        for pixels, label in zip(images.pixels, images.labels.tolist(), strict=True):
            file = BytesIO()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=95)
            yield file.getvalue(), images.classes[label]


def taught(out: Path) -> Recipe:
    """The recipe with its teacher trained."""
    paths = [f"data.{split}=folder:{out / 'images' / split}" for split in SPLITS]
    recipe = read(HERE / "textbook.yaml", paths)
    return with_teacher(recipe, out / "teacher", Ranks())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent / "runs" / "textbook")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 in torchvision's layout")
    parser.add_argument("--seed", type=int, choices=SEEDS, help="run this seed's arms alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lay_out(options.out / "images", options.cifar)
    arms = arms_of(taught(options.out))
    seeds = SEEDS if options.seed is None else (options.seed,)
    document = compare(
        list(arms),
        seeds,
        runner(arms, options.out / "teachers"),
        options.out,
        baseline="labels only",
        subject="distilled",
        recipe="textbook",
    )
    print(table(document))
    if options.seed is None:
        print(f"\nreport: {write_report(options.out)}")
    if options.write:
        path = HERE / "results" / "textbook.json"
        path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
