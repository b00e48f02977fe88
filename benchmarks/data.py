"""Milliseconds an image of the in-memory path against one image at a time through Pillow.

    python benchmarks/data.py [--write]

Both crop (padding 4), flip and normalise batches of 64 images of 32 pixels, on one thread, in turn;
the median of the rounds counts. The target is a ratio of at most 1/8.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from limbeck.data import Augment, Images, Loader
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess

SAMPLES, BATCH, ROUNDS = 2048, 64, 15
RESULT = Path(__file__).parent / "results" / "data.json"


def in_memory(images: Images) -> Callable[[int], torch.Tensor]:
    loader = Loader(images, BATCH, seed=0, augment=Augment(crop=4, flip=True))
    preprocess = Preprocess(IMAGENET_MEAN, IMAGENET_STD)

    def epoch(e: int) -> torch.Tensor:
        for batch in loader.epoch(e):
            x = preprocess(batch.images)
        return x

    return epoch


def per_sample(
    images: Images, transform: Callable[[Image.Image], torch.Tensor]
) -> Callable[[int], torch.Tensor]:
    arrays = images.fetch(torch.arange(len(images))).permute(0, 2, 3, 1).contiguous().numpy()

    def epoch(e: int) -> torch.Tensor:
        order = torch.randperm(len(arrays)).tolist()
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            x = torch.stack([transform(Image.fromarray(arrays[i])) for i in rows])
        return x

    return epoch


def paths(images: Images) -> dict[str, Callable[[int], torch.Tensor]]:
    first = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    second = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return {
        "limbeck": in_memory(images),
        "torchvision": per_sample(images, first),
        "torchvision v2": per_sample(images, second),
    }


def measure(images: Images) -> dict[str, float]:
    """Median milliseconds an image of each path, the paths in turn."""
    ways = paths(images)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(-1, ROUNDS):
        for name, epoch in ways.items():
            start = time.perf_counter()
            epoch(max(round_, 0))
            if round_ >= 0:
                taken[name].append((time.perf_counter() - start) * 1000 / len(images))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="keep the figures in results/data.json"
    )
    write = parser.parse_args().write
    torch.set_num_threads(1)
    pixels = torch.randint(0, 256, (SAMPLES, 3, 32, 32), dtype=torch.uint8)
    images = Images(pixels, torch.zeros(SAMPLES, dtype=torch.int64), ("noise",))
    milliseconds = measure(images)
    ratios = {n: milliseconds["limbeck"] / ms for n, ms in milliseconds.items() if n != "limbeck"}
    for name, ms in milliseconds.items():
        note = f"   limbeck takes 1/{1 / ratios[name]:.1f} of it" if name in ratios else ""
        print(f"{name:15} {ms:.5f} ms an image{note}")
    if write:
        RESULT.parent.mkdir(exist_ok=True)
        found = {
            "milliseconds_an_image": milliseconds,
            "ratio": ratios,
            "target": 1 / 8,
            "images": SAMPLES,
            "batch": BATCH,
            "rounds": ROUNDS,
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
        RESULT.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
