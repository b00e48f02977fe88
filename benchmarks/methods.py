"""Every method of the logit, feature and relation families on one pair, against labels only.

    python benchmarks/methods.py --out runs/methods --teacher --threads 2  # once
    python benchmarks/methods.py --out runs/methods --part 0/2 &   # each on one thread
    python benchmarks/methods.py --out runs/methods --part 1/2
    python benchmarks/methods.py --out runs/methods --cost         # on an idle machine
    python benchmarks/methods.py --out runs/methods --write

CIFAR-10 at 32 px: 45,000 images to train on, 5,000 to look at, 10,000 to judge by. One ResNet-20 is
trained on the labels; it then teaches a plain network of 5.2 million multiply-adds by each method
in turn, with equal steps, images and settings, and the methods' own defaults. Rate, decay and flips
without crops are what labels alone did best with on the 5,000, of three tries; nothing else was
searched for. The headline methods have three seeds, the others one and are marked *screened*. The
last epoch counts. Runs that the committed result has are not made again, an unfinished one is
begun anew, and the teacher stands beside the result, so that the table can be made in parts.
`--cost` times a step of each method with the teacher alive, in turns with a step of labels only.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from methods_pair import HEADLINE, LABELS, LOGIT, OBJECTIVES, VIEW, Plain, World, distiller
from PIL import Image
from textbook import SHARED, packed, unpacked
from torch import Tensor, nn

from limbeck import Distiller, Frozen, Reader, truth
from limbeck.checkpoint import load_weights, save_weights, write_text
from limbeck.compare import gain
from limbeck.data import Augment, ImageBatch, Images, Loader, derive
from limbeck.errors import LimbeckError
from limbeck.methods.reuse import SimKD
from limbeck.sources import Recorded
from limbeck.tasks import CLASSIFICATION
from limbeck.tasks.classification import Score
from limbeck.tasks.task import predictions, signals
from limbeck.train import Job, Training, train
from limbeck.train.optim import optimizer_for
from limbeck.train.run import Run
from limbeck.zoo import ResNet, resnet20

RAW = argparse.RawDescriptionHelpFormatter
HERE = Path(__file__).parent
RESULT = HERE / "results" / "methods.json"
KEPT = HERE / "results" / "methods-teacher.safetensors"
INDEX = HERE.parent / "src" / "limbeck" / "methods" / "measured.json"
SPLITS = {"train": (0, 45_000), "valid": (45_000, 50_000), "test": (50_000, 60_000)}
SEEDS = (0, 1, 2)
BATCH, EPOCHS, ROUNDS = 64, 5, 40
COMMON = {"lr": 0.1, "nesterov": True, "warmup": 0.05, "channels_last": True}
STUDENT = Training(epochs=EPOCHS, batch_size=BATCH, evaluate_every=EPOCHS, **COMMON)
TEACHER = Training(batch_size=128, weight_decay=5e-4, precision="bfloat16", **COMMON)
CYCLES = (20, 12, 20, 20)  # epochs of the teacher, each falling from the peak rate
CLIPPED = ("mgd", "mlkd", "cat_kd", "semckd")  # at 5: MGD's authors clip, the others diverged
TASK = replace(
    CLASSIFICATION,
    name="with gradients",
    signals=lambda batch, device: ((batch.images, batch.target), signals(batch, device)[1]),
)


def open_splits(cifar: Path | None, cache: Path) -> dict[str, Images]:
    """CIFAR-10 in memory, its JPEGs decoded once."""
    if not cache.exists():
        rows = list(packed(SHARED) if cifar is None else unpacked(cifar))
        pixels = np.stack([np.asarray(Image.open(BytesIO(jpeg))) for jpeg, _ in rows])
        classes = sorted({name for _, name in rows})
        labels = torch.tensor([classes.index(name) for _, name in rows])
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            (torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels, classes), cache
        )
    pixels, labels, classes = torch.load(cache)
    return {
        split: Images(pixels[first:last], labels[first:last], tuple(classes))
        for split, (first, last) in SPLITS.items()
    }


def train_teacher(splits: dict[str, Images], folder: Path) -> None:
    """The ResNet-20, on the labels."""
    torch.manual_seed(0)
    model, crops = resnet20(), Augment(crop=4, flip=True)
    for cycle, epochs in enumerate(CYCLES):
        run = folder / f"cycle-{cycle}"
        if not (run / "outcome.json").exists():
            settings = TEACHER.model_copy(update={"epochs": epochs})
            loader = Loader(splits["train"], TEACHER.batch_size, seed=cycle, augment=crops)
            student = Distiller(Reader(model, inputs=VIEW), {}, 1.0 * truth())
            resume = (run / "checkpoints" / "last.pt").exists()
            opened = Run(run, resume=resume, overwrite=True)
            job = Job(student, loader, settings, opened, valid=splits["valid"], seed=cycle)
            train(job, resume=resume)
            write_text(run / "outcome.json", "{}\n")
        load_weights(model, run / "student.safetensors")
    save_weights(model, folder / "student.safetensors")


def teacher_of(out: Path) -> ResNet:
    """The teacher in bfloat16: the one of this folder, or the one of the committed result."""
    trained = out / "teacher" / "student.safetensors"
    model = resnet20()
    load_weights(model, trained if trained.exists() else KEPT)
    return model.eval().to(torch.bfloat16, memory_format=torch.channels_last)


def world_of(splits: dict[str, Images], out: Path, seed: int) -> World:
    flips = Augment(flip=True)
    loader = Loader(splits["train"], BATCH, seed=seed, augment=flips, views=EPOCHS)
    return World(teacher_of(out), splits["train"], BATCH, loader)


def run_one(name: str, seed: int, world: World, splits: dict[str, Images], out: Path) -> None:
    """One training from its start to `outcome.json`."""
    torch.manual_seed(derive(seed, "student"))
    student = Plain()
    record = out / "records" / f"seed-{seed}.safetensors"
    recorded = Recorded(Frozen(world.teacher, inputs=VIEW), samples=len(world.images), views=EPOCHS)
    if name in LOGIT and record.exists():
        recorded.load(record, "teacher")
    torch.manual_seed(derive(seed, "objective"))
    made = distiller(name, world, student, recorded)
    folder = out / "arms" / name.replace(" ", "-") / f"seed-{seed}"
    settings = STUDENT.model_copy(update={"clip": 5.0}) if name in CLIPPED else STUDENT
    task = TASK if name == "jacobian" else CLASSIFICATION
    begun = time.perf_counter()
    job = Job(made, world.loader, settings, Run(folder, overwrite=True), task=task, seed=seed)
    train(job)
    seconds = time.perf_counter() - begun
    if name in LOGIT and not record.exists():
        record.parent.mkdir(exist_ok=True)
        recorded.save(record, "teacher")
    scores = {split: top1(*shipped(made, student), splits[split]) for split in ("valid", "test")}
    outcome = {"method": name, "seed": seed, **scores, "seconds": round(seconds, 1)}
    write_text(folder / "outcome.json", json.dumps(outcome) + "\n")
    print(json.dumps(outcome), flush=True)


def top1(model: nn.Module, view: Callable[[Tensor], Tensor], images: Images) -> float:
    return Score.of(predictions(model, view, images)).top1


def shipped(made: Distiller, student: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network that is judged, and its view of an image."""
    terms = [part for part in made.objective.modules() if isinstance(part, SimKD)]
    if terms:
        return terms[0].deployable(made.reader), lambda images: images
    return student, VIEW


def tasks() -> list[tuple[str, int]]:
    """Every method with one seed, then the headline methods with the others."""
    screened = [(name, SEEDS[0]) for name in (LABELS, *HEADLINE, *OBJECTIVES)]
    return list(dict.fromkeys(screened)) + [
        (name, seed) for seed in SEEDS[1:] for name in (LABELS, *HEADLINE)
    ]


def costs(world: World, rounds: int) -> dict[str, float]:
    """A step's time over that of labels only, in turns with it, the teacher alive."""
    batch = next(world.loader.epoch(0))
    found = {}
    for name in OBJECTIVES:
        ways = {key: stepper(key, world, batch) for key in (LABELS, name)}
        times: dict[str, list[float]] = {key: [] for key in ways}
        for _ in range(rounds):
            for key in random.sample(list(ways), len(ways)):
                start = time.process_time()
                ways[key]()
                times[key].append(time.process_time() - start)
        medians = [statistics.median(times[key][1:]) for key in (name, LABELS)]
        found[name] = round(medians[0] / medians[1], 3)
        print(f"{name:20} {found[name]:.2f}", flush=True)
    return found


def stepper(name: str, world: World, batch: ImageBatch) -> Callable[[], None]:
    """One step of training by a method."""
    task = TASK if name == "jacobian" else CLASSIFICATION
    student = Plain().to(memory_format=torch.channels_last)
    made = distiller(name, world, student, None)
    inputs, data = task.signals(batch, torch.device("cpu"))
    made.prepare(inputs, **data)
    made.advance(0.0)
    optimizer = optimizer_for(student, made.objective, STUDENT)

    def step() -> None:
        made(inputs, **data).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def outcomes(out: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by method and seed: those that are committed, and those of this folder."""
    kept = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else {}
    for path in sorted(out.glob("arms/*/seed-*/outcome.json")):
        row = json.loads(path.read_text())
        name, seed = row.pop("method"), str(row.pop("seed"))
        kept.setdefault(name, {})[seed] = row
    return kept


def against_labels(runs: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Points of accuracy on the test images, paired by seed; an interval from three seeds on."""
    rows = {}
    for name in (name for name in OBJECTIVES if name in runs and name != LABELS):
        seeds = sorted(runs[name].keys() & runs[LABELS].keys())
        ours, theirs = ([100 * runs[arm][seed]["test"] for seed in seeds] for arm in (name, LABELS))
        found = gain(name, LABELS, ours, theirs)
        whole = len(seeds) == len(SEEDS)
        rows[name] = {
            "gain": round(found.mean if whole else ours[0] - theirs[0], 3),
            "low": round(found.low, 3) if whole else None,
            "high": round(found.high, 3) if whole else None,
            "seeds": len(seeds) if whole else 1,
        }
    return rows


def write(out: Path, splits: dict[str, Images]) -> None:
    """The committed result, and what the index of methods tells of it."""
    runs, before = outcomes(out), json.loads(RESULT.read_text()) if RESULT.exists() else {}
    cost = out / "costs.json"
    costs = json.loads(cost.read_text()) if cost.exists() else before.get("costs", {})
    teacher = teacher_of(out).float()
    scores = {split: top1(teacher, VIEW, splits[split]) for split in ("valid", "test")}
    labels = statistics.fmean(row["test"] for row in runs[LABELS].values())
    document = {
        "teacher": scores,
        "student": {"parameters": sum(p.numel() for p in Plain().parameters())},
        "steps": EPOCHS * (len(splits["train"]) // BATCH),
        "settings": STUDENT.model_dump(mode="json", exclude_defaults=True),
        "costs": costs,
        "runs": runs,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    rows = against_labels(runs)
    where = (
        f"CIFAR-10 at 32 px: ResNet-20 ({100 * scores['test']:.2f}) to four convolutions "
        f"({100 * labels:.2f} by labels only), {document['steps']:,} steps of {BATCH} images"
    )
    told = {name: row | {"cost": costs.get(name)} for name, row in rows.items()}
    INDEX.write_text(json.dumps({"where": where, "methods": told}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--out", type=Path, default=HERE.parent / "runs" / "methods")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 in torchvision's layout")
    parser.add_argument("--teacher", action="store_true", help="train the teacher")
    parser.add_argument("--cost", action="store_true", help="time a step of each method")
    parser.add_argument("--write", action="store_true", help="write the result and the index")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th run from the I-th")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="these methods alone")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    splits = open_splits(options.cifar, options.out / "cifar10.pt")
    if options.teacher:
        train_teacher(splits, options.out / "teacher")
    elif options.cost:
        found = costs(world_of(splits, options.out, 0), ROUNDS)
        (options.out / "costs.json").write_text(json.dumps(found, indent=1) + "\n")
    elif options.write:
        write(options.out, splits)
    else:
        run_part(options, splits)


def run_part(options: argparse.Namespace, splits: dict[str, Images]) -> None:
    """The runs of one part that are not there yet."""
    part, of = map(int, options.part.split("/"))
    done = outcomes(options.out)
    wanted = [task for task in tasks() if not options.only or task[0] in options.only]
    for name, seed in wanted[part::of]:
        if str(seed) in done.get(name, {}):
            continue
        try:
            run_one(name, seed, world_of(splits, options.out, seed), splits, options.out)
        except LimbeckError as error:  # it diverged; the others go on
            print(f"{name}, seed {seed}: {error}", flush=True)


if __name__ == "__main__":
    main()
