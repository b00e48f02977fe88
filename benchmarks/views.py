"""Four recycled views of each image against new ones in every epoch.

    python benchmarks/views.py --out runs/views --part 0/2 &   # each on one thread
    python benchmarks/views.py --out runs/views --part 1/2
    python benchmarks/views.py --out runs/views --write

A teacher whose answers are kept is asked once for each image and view, so that 4 views of 12 epochs
cost it a third. What they cost the student is measured on the job of `methods.py`, its ResNet-20
and its plain network, with the textbook's loss and the first 15,000 of its images, crops and flips
for 12 epochs: views matter most where images are few and seen often. All arms have equal steps,
images, order and settings, and the weights of a seed at the start; labels only sees new views. The
rate is that of `methods.py`; nothing was searched for. The last epoch counts. An unfinished
training goes on after its last epoch, and those that the committed result has are not made again.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from methods_pair import LABELS, VIEW, Plain, World, distiller
from noise import noise

from limbeck import Frozen
from limbeck.checkpoint import write_text
from limbeck.compare import Gain, gain, slug
from limbeck.data import Augment, Images, Loader, derive
from limbeck.sources import Recorded
from limbeck.train import Job, Training, train
from limbeck.train.run import Run
from methods import COMMON, open_splits, teacher_of, top1

RAW = argparse.RawDescriptionHelpFormatter
HERE = Path(__file__).parent
RESULT = HERE / "results" / "views.json"
SEEDS = (0, 1, 2)
NEW = "every view new"
ARMS: dict[str, int | None] = {LABELS: None, NEW: None, "4 views": 4, "1 view": 1}
PAIRS = [
    *((arm, LABELS) for arm in ARMS if arm != LABELS),
    *((arm, NEW) for arm, views in ARMS.items() if views),
]
Runs = Mapping[str, Mapping[str, Mapping[str, float]]]  # scores by arm and seed


@dataclass(frozen=True)
class Size:
    """How many images, how often, how many at a time."""

    images: int
    epochs: int
    batch: int

    @property
    def steps(self) -> int:
        return self.epochs * (self.images // self.batch)


FULL, QUICK = Size(15_000, 12, 64), Size(32, 6, 16)


def settings_of(size: Size) -> Training:
    epochs = {"epochs": size.epochs, "evaluate_every": size.epochs}
    return Training(batch_size=size.batch, **epochs, **COMMON)


def run_one(arm: str, seed: int, splits: Mapping[str, Images], size: Size, out: Path) -> None:
    """A training from where it stands to `outcome.json`."""
    folder, views = out / "arms" / slug(arm) / f"seed-{seed}", ARMS[arm]
    images = splits["train"].subset(torch.arange(size.images))
    crops = Augment(crop=4, flip=True)
    loader = Loader(images, size.batch, seed=seed, augment=crops, views=views)
    world = World(teacher_of(out), images, size.batch, loader)
    torch.manual_seed(derive(seed, "student"))
    student = Plain()
    kept = recorded(world, views) if views else None
    made = distiller(LABELS if arm == LABELS else "kd", world, student, kept)
    resume = (folder / "checkpoints" / "last.pt").exists()
    run = Run(folder, resume=resume, overwrite=True)
    train(Job(made, loader, settings_of(size), run, seed=seed), resume=resume)
    scores = {split: top1(student, VIEW, splits[split]) for split in ("valid", "test")}
    outcome = {"arm": arm, "seed": seed, **scores}
    write_text(folder / "outcome.json", json.dumps(outcome) + "\n")
    print(json.dumps(outcome), flush=True)


def recorded(world: World, views: int) -> Recorded:
    """The teacher, asked once for each image and view."""
    teacher = Frozen(world.teacher, inputs=VIEW)
    return Recorded(teacher, samples=len(world.images), views=views)


def outcomes(out: Path, kept: Runs) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by arm and seed: those that are kept, and those of this folder."""
    found = {arm: {seed: dict(row) for seed, row in runs.items()} for arm, runs in kept.items()}
    for path in sorted(out.glob("arms/*/seed-*/outcome.json")):
        row = json.loads(path.read_text())
        arm, seed = row.pop("arm"), str(row.pop("seed"))
        found.setdefault(arm, {})[seed] = row
    return found


def committed() -> Runs:
    return json.loads(RESULT.read_text())["runs"] if RESULT.exists() else {}


def judged(runs: Runs, size: Size) -> dict[str, Any]:
    """Points of accuracy on the test images, and their differences, paired by seed."""
    points = {
        arm: {seed: 100 * row["test"] for seed, row in runs[arm].items()}
        for arm in ARMS
        if arm in runs
    }
    arms = {
        arm: {
            "mean": statistics.fmean(found.values()),
            "sd": statistics.stdev(found.values()) if len(found) > 1 else None,
            "passes": 0 if arm == LABELS else ARMS[arm] or size.epochs,
        }
        for arm, found in points.items()
    }
    pairs = [pair for pair in PAIRS if {*pair} <= points.keys()]
    return {"arms": arms, "gains": [asdict(difference(*pair, points)) for pair in pairs]}


def difference(arm: str, against: str, points: Mapping[str, Mapping[str, float]]) -> Gain:
    """Over the seeds that both have."""
    seeds = sorted(points[arm].keys() & points[against].keys())
    ours, theirs = ([points[which][seed] for seed in seeds] for which in (arm, against))
    return gain(arm, against, ours, theirs)


def table(found: Mapping[str, Any]) -> str:
    lines = [f"{'':16} {'top-1 %':>8} {'sd':>6} {'teacher passes':>15}"]
    for arm, row in found["arms"].items():
        sd = "" if row["sd"] is None else f"{row['sd']:.2f}"
        lines.append(f"{arm:16} {row['mean']:8.2f} {sd:>6} {row['passes']:15}")
    for row in (Gain(**fields) for fields in found["gains"]):
        interval = "one seed" if row.low is None else f"{row.low:+.2f} to {row.high:+.2f}"
        lines.append(f"{row.arm} - {row.against}: {row.mean:+.2f} ({interval})")
    return "\n".join(lines)


def run_part(splits: Mapping[str, Images], size: Size, out: Path, part: str, kept: Runs) -> None:
    """The trainings of one part that are not there yet, seed by seed."""
    first, of = map(int, part.split("/"))
    wanted = [(arm, seed) for seed in SEEDS for arm in ARMS]
    done = outcomes(out, kept)
    for arm, seed in wanted[first::of]:
        if str(seed) not in done.get(arm, {}):
            run_one(arm, seed, splits, size, out)


def write(out: Path, splits: Mapping[str, Images]) -> None:
    """The committed result."""
    runs, teacher = outcomes(out, committed()), teacher_of(out).float()
    document = {
        "images": FULL.images,
        "epochs": FULL.epochs,
        "steps": FULL.steps,
        "settings": settings_of(FULL).model_dump(mode="json", exclude_defaults=True),
        "teacher": {split: top1(teacher, VIEW, splits[split]) for split in ("valid", "test")},
        "student": {"parameters": sum(p.numel() for p in Plain().parameters())},
        **judged(runs, FULL),
        "runs": runs,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))


def quick() -> None:
    """All trainings on some images of noise."""
    splits = dict.fromkeys(("train", "valid", "test"), noise(QUICK.images))
    with tempfile.TemporaryDirectory() as folder:
        run_part(splits, QUICK, Path(folder), "0/1", {})
        print(table(judged(outcomes(Path(folder), {}), QUICK)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--out", type=Path, default=HERE.parent / "runs" / "views")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 in torchvision's layout")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th training from the I-th")
    parser.add_argument("--quick", action="store_true", help="some images of noise, nothing kept")
    parser.add_argument("--write", action="store_true", help="write the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        quick()
        return
    splits = open_splits(options.cifar, options.out / "cifar10.pt")
    if options.write:
        write(options.out, splits)
    else:
        run_part(splits, FULL, options.out, options.part, committed())


if __name__ == "__main__":
    main()
