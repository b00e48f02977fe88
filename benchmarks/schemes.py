"""Who teaches: each scheme on one job, against what it must be better than.

    python benchmarks/schemes.py --out runs/schemes --teachers --threads 2  # once
    python benchmarks/schemes.py --out runs/schemes --part 0/2 &   # each on one thread
    python benchmarks/schemes.py --out runs/schemes --part 1/2
    python benchmarks/schemes.py --out runs/schemes --cost         # on an idle machine
    python benchmarks/schemes.py --out runs/schemes --write

The job is that of `methods.py`: CIFAR-10 at 32 px, 45,000 images to train on, 5,000 to look at,
10,000 to judge by, a plain network of 5.2 million multiply-adds, and the same rate, decay and
flips. Every training has as many steps of as many images, but for the arm that is three times as
long and for CS-KD, whose images come with as many others that teach them. Three seeds; the last
epoch counts; nothing was searched for. The teachers are the ResNet-20 of `methods.py` and two
weaker ones that `--teachers` trains; their answers are recorded once a seed.

Students of an arm start as their likes do that learn apart from labels alone, and those are the
baselines: `apart` trains four of them, of which the first is *labels only*. Chains are trained
whole, from the first network on. Runs that the committed result has are not made again, and an
unfinished one is begun anew; the teachers stand beside the result, so that the table can be made in
parts. `--cost` times a step of each training with its teachers alive, in turns with a step of
labels only, and finds the most memory that tensors take in it.
"""

import argparse
import functools
import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import schemes_self
import schemes_several
import torch
from methods_pair import VIEW, Plain
from schemes_costs import Begin, beginnings, mebibytes, times
from schemes_rows import LABELS, judged
from schemes_self import labels
from schemes_world import (
    BEST,
    STUDENT,
    TEACHERS,
    Made,
    Stage,
    World,
    batches,
    known_of_classes,
    reader,
)
from torch import nn

from limbeck import Distiller, Frozen, Mutual, truth
from limbeck.checkpoint import load_weights, save_weights, write_text
from limbeck.compare import slug
from limbeck.data import Augment, Images, Loader
from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals
from limbeck.sources import Recorded, Source
from limbeck.train import Job, Training, train
from limbeck.train.run import Run
from methods import COMMON, KEPT, open_splits, top1

RAW = argparse.RawDescriptionHelpFormatter
HERE = Path(__file__).parent
RESULT = HERE / "results" / "schemes.json"
FILES = {name: HERE / "results" / f"schemes-{name}.safetensors" for name in TEACHERS} | {BEST: KEPT}
SEEDS = (0, 1, 2)
BATCH, EPOCHS, ROUNDS = 64, 3, 30
STUDENTS = Training(epochs=EPOCHS, batch_size=BATCH, evaluate_every=EPOCHS, **COMMON)
TEACHING = Training(batch_size=128, weight_decay=5e-4, precision="bfloat16", **COMMON)
TEACHER_EPOCHS = {"wide": 12, "plain": 10}
ARMS: dict[str, dict[str, Stage]] = {**schemes_several.ARMS, **schemes_self.ARMS}


def train_teachers(splits: dict[str, Images], out: Path) -> None:
    """The two teachers beside the ResNet-20, on the labels; kept in bfloat16."""
    for name, epochs in TEACHER_EPOCHS.items():
        if FILES[name].exists():
            continue
        torch.manual_seed(0)
        network, settings = TEACHERS[name](), TEACHING.model_copy(update={"epochs": epochs})
        crops = Augment(crop=4, flip=True)
        loader = Loader(splits["train"], TEACHING.batch_size, seed=0, augment=crops)
        learner = Distiller(reader(network), {}, 1.0 * truth())
        run = Run(out / "teachers" / name, overwrite=True)
        train(Job(learner, loader, settings, run, valid=splits["valid"]))
        save_weights(network.to(torch.bfloat16), FILES[name])


def teacher(name: str) -> nn.Module:
    """A trained teacher, in bfloat16."""
    network = TEACHERS[name]()
    load_weights(network, FILES[name])
    return network.eval().to(torch.bfloat16, memory_format=torch.channels_last)


def live(name: str) -> Source:
    return Frozen(teacher(name), inputs=VIEW)


@functools.cache
def knows(valid: Images) -> torch.Tensor:
    return known_of_classes([teacher(name).float() for name in TEACHERS], valid)


def world_of(splits: dict[str, Images], seed: int) -> World:
    """The job of a seed, its teachers live."""
    train, valid = splits["train"], splits["valid"]
    return World(train, valid, live, knows(valid), seed, EPOCHS, BATCH)


def recorded(out: Path, world: World, name: str) -> Recorded:
    """A teacher's answers of all epochs, from their file or asked for once."""
    path = out / "records" / f"{name}-{world.seed}.safetensors"
    source = Recorded(live(name), samples=len(world.images), views=world.epochs)
    if path.exists():
        source.load(path, name)
        return source
    loader = batches(world)
    for epoch in range(world.epochs):
        for batch in loader.epoch(epoch):
            data = {"ids": batch.ids, "view": batch.view}
            source(Batch(batch.images, data), Signals(), ["output"])
    path.parent.mkdir(parents=True, exist_ok=True)
    source.save(path, name)
    return source


def run_arm(
    stages: Mapping[str, Stage], world: World, settings: Training, folder: Path
) -> dict[str, nn.Module]:
    """Trains an arm, one stage after another; returns the networks that are judged."""
    learnt: dict[str, nn.Module] = {}
    for stage, make in stages.items():
        made = make(world, learnt)
        train_one(made, world, settings, folder / stage)
        learnt |= made.judged
    return learnt


def train_one(made: Made, world: World, settings: Training, folder: Path) -> None:
    learner = made.learner
    settings = settings.model_copy(update={"epochs": made.times * settings.epochs})
    weighs = isinstance(learner, Mutual) and learner.weighs
    run, valid = Run(folder, overwrite=True), world.valid if weighs else None
    train(Job(learner, made.loader, settings, run, task=made.task, valid=valid, seed=world.seed))


def run_one(arm: str, seed: int, splits: dict[str, Images], out: Path) -> None:
    """An arm with a seed from its start to `outcome.json`."""
    world = world_of(splits, seed)
    world = replace(world, source=functools.partial(recorded, out, world))
    folder = out / "arms" / slug(arm) / f"seed-{seed}"
    begun = time.perf_counter()
    networks = run_arm(ARMS[arm], world, STUDENTS, folder)
    seconds = round(time.perf_counter() - begun, 1)
    scores = {who: on_both(network, splits) for who, network in networks.items()}
    outcome = {"arm": arm, "seed": seed, "scores": scores, "seconds": seconds}
    write_text(folder / "outcome.json", json.dumps(outcome) + "\n")
    print(json.dumps(outcome), flush=True)


def on_both(network: nn.Module, splits: dict[str, Images]) -> dict[str, float]:
    return {split: top1(network, VIEW, splits[split]) for split in ("valid", "test")}


def outcomes(out: Path) -> dict[str, dict[str, Any]]:
    """By arm and seed: those that are committed, and those of this folder."""
    kept = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else {}
    for path in sorted(out.glob("arms/*/seed-*/outcome.json")):
        row = json.loads(path.read_text())
        arm, seed = row.pop("arm"), str(row.pop("seed"))
        kept.setdefault(arm, {})[seed] = row
    return kept


def run_part(options: argparse.Namespace, splits: dict[str, Images]) -> None:
    """The runs of one part that are not there yet, seed by seed."""
    part, of = map(int, options.part.split("/"))
    wanted = [(arm, seed) for seed in SEEDS for arm in ARMS]
    wanted = [task for task in wanted if not options.only or task[0] in options.only]
    done = outcomes(options.out)
    for arm, seed in wanted[part::of]:
        if str(seed) in done.get(arm, {}):
            continue
        try:
            run_one(arm, seed, splits, options.out)
        except LimbeckError as error:  # it diverged; the others go on
            print(f"{arm}, seed {seed}: {error}", flush=True)


def costs(world: World, rounds: int, only: Collection[str]) -> dict[str, dict[str, float]]:
    """Of each training, a step's time over that of labels only, and the memory that it takes."""
    ways, found = dict(trainings(world)), {}
    for name, begin in ways.items():
        if only and name not in only:
            continue
        ratio, mib = times(begin, ways[LABELS], rounds), mebibytes(begin)
        found[name] = {"time": round(ratio, 3), "mib": round(mib, 2)}
        print(f"{name:28} {ratio:6.2f} {mib:8.1f} MiB", flush=True)
    return found


def trainings(world: World) -> Iterator[tuple[str, Begin]]:
    """All that are timed, labels only among them."""
    return beginnings({LABELS: {STUDENT: labels}, **ARMS}, world, STUDENTS)


def write(out: Path, splits: dict[str, Images]) -> None:
    """The committed result."""
    routes = world_of(splits, 0).routes.tolist()
    runs, before = outcomes(out), json.loads(RESULT.read_text()) if RESULT.exists() else {}
    cost, costs = out / "costs.json", before.get("costs", {})
    if cost.exists():
        costs |= json.loads(cost.read_text())
    document = {
        "teachers": {name: on_both(teacher(name).float(), splits) for name in TEACHERS},
        "routes": [list(TEACHERS)[place] for place in routes],
        "student": {"parameters": sum(p.numel() for p in Plain().parameters())},
        "steps": EPOCHS * (len(splits["train"]) // BATCH),
        "settings": STUDENTS.model_dump(mode="json", exclude_defaults=True),
        "costs": costs,
        "runs": runs,
        "rows": judged(runs, costs),
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--out", type=Path, default=HERE.parent / "runs" / "schemes")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 in torchvision's layout")
    parser.add_argument("--teachers", action="store_true", help="train the two weaker teachers")
    parser.add_argument("--cost", action="store_true", help="time and memory of each training")
    parser.add_argument("--write", action="store_true", help="write the result")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th run from the I-th")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="these arms alone, or their costs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    splits = open_splits(options.cifar, options.out / "cifar10.pt")
    if options.teachers:
        train_teachers(splits, options.out)
    elif options.cost:
        found = costs(world_of(splits, 0), ROUNDS, options.only or ())
        (options.out / "costs.json").write_text(json.dumps(found, indent=1) + "\n")
    elif options.write:
        write(options.out, splits)
    else:
        run_part(options, splits)


if __name__ == "__main__":
    main()
