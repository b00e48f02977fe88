"""Faster teachers: each way in which a recipe can have one, and what `limbeck tune` makes of it.

    python benchmarks/teachers.py --ways [--write]      # each way of each teacher
    python benchmarks/teachers.py --tune [--write]      # whole steps, before and after
    python benchmarks/teachers.py --quick               # a small teacher, nothing compiled

Ways: those that `limbeck tune` tries, and ONNX Runtime in float32, which is no key of a recipe but
a teacher of its own (`limbeck.foreign.onnx`). They take turns in random order on one thread;
`faster` is the median over rounds of eager float32's processor time by theirs. `start` is what the
first call took beyond the others, and building the teacher, by the clock. `error` is the largest
error of a logit in standard deviations of the logits, on other batches. Weights and images are
random, which changes no time; the logits of such weights hardly depend on the image, so that how
many images are seen otherwise would be far too pessimistic, and is left out. OpenVINO is tried
where it is installed. The first encoder is made of torch's own layers, which have a fused path and
which int8 leaves as they are; the second has the same sizes and linear layers of its own.

Tune: a recipe of each pair of image networks, with no word about speed, is tuned and written as
`limbeck tune --write` does; then whole training steps of the recipe before and after take turns.
`told` is the gain that tune promised for the run, with what it takes to start. The recipes say
`loses: 1`, for the reason above.
"""

import argparse
import copy
import json
import pickle
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from encoder import LinearEncoder
from noise import noise
from torch import Tensor, nn

from limbeck import Frozen
from limbeck.check.interleaved import ROUNDS, interleaved, ratio
from limbeck.check.rehearsal import rehearsal
from limbeck.errors import LimbeckError
from limbeck.export.onnx import write_onnx
from limbeck.foreign import Spec, onnx
from limbeck.inputs import Preprocess
from limbeck.recipe import Recipe, assemble, edit, read, tune_recipe
from limbeck.recipe.networks import Optimize, Teacher
from limbeck.recipe.optimizing import gap, made
from limbeck.recipe.tune_teacher import asking, called, options, said
from limbeck.sources import Source
from limbeck.tasks import CLASSIFICATION
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run
from limbeck.zoo import resnet8x4, resnet32x4
from store import Encoder, torchvision

RESULT = Path(__file__).parent / "results" / "teachers.json"
NAMED = Teacher(model="limbeck.zoo:resnet32x4")  # a block; the networks come from below
CPU, CHECKED = torch.device("cpu"), 128
ONNX = "ONNX Runtime, float32"
Ask = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A teacher, how many inputs it is asked about at a time, and what an input is."""

    make: Callable[[], nn.Module]
    batch: int
    shape: tuple[int, ...]


CASES = {
    "ResNet-32x4, 32 px": Case(lambda: resnet32x4(), 16, (3, 32, 32)),
    "ResNet-50, 64 px": Case(lambda: torchvision("resnet50"), 32, (3, 64, 64)),
    "encoder of 6 layers": Case(lambda: Encoder(6, 512), 16, (64,)),
    "encoder of 6 layers, plain": Case(lambda: LinearEncoder(6, 512), 16, (64,)),
}
SMALL = Case(lambda: resnet8x4(), 4, (3, 16, 16))


@dataclass(frozen=True)
class Pair:
    """The networks of a recipe, and what it trains them on."""

    teacher: str
    student: str
    size: int
    batch: int


PAIRS = {
    "ResNet-32x4 to ResNet-8x4, 32 px": Pair(
        "limbeck.zoo:resnet32x4", "limbeck.zoo:resnet8x4", 32, 16
    ),
    "ResNet-50 to MobileNetV3-small, 64 px": Pair(
        "torchvision:resnet50", "torchvision:mobilenet_v3_small", 64, 32
    ),
}
RECIPE = """\
data: {{train: "cifar10:train@{folder}", image_size: {size}}}
teacher: {{model: "{teacher}", optimize: {{loses: 1}}}}
student: {{model: "{student}"}}
objective:
  - {{loss: truth, weight: 0.5}}
  - {{loss: kl, weight: 0.5, temperature: 4}}
train: {{epochs: {epochs}, batch_size: {batch}, device: cpu, threads: 1}}
"""
IMAGES, STEPS = 640, 5_000  # of a recipe: what it has on disk, and about how long it is


# ---- ways


def inputs_of(case: Case, count: int) -> Tensor:
    """Normalised noise, or token ids."""
    if len(case.shape) > 1:
        return Preprocess()(noise(count, case.shape[-1]).pixels)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(30_000, (count, *case.shape), generator=generator)


def of_recipe(model: nn.Module, block: Teacher, inputs: Tensor) -> Source:
    """The teacher as a recipe with that block makes it."""
    return Frozen(made(copy.deepcopy(model), block, block.optimize or Optimize(), inputs).model)


def of_onnx(model: nn.Module, inputs: Tensor, folder: Path) -> Source:
    """The teacher exported, and run by ONNX Runtime."""
    path = folder / "teacher.onnx"
    write_onnx(copy.deepcopy(model), inputs, path)
    if inputs.is_floating_point():
        return onnx(path, Spec("logits", 10, "NCHW"))
    return onnx(path, Spec("logits", 10, "rows", "int64"))


def makers(
    model: nn.Module, inputs: Tensor, folder: Path, compiles: bool
) -> Iterator[tuple[str, Callable[[], Source]]]:
    """Each way by its name, eager float32 first."""
    for block in options(NAMED, model):
        if compiles or block.optimize is None or block.optimize.engine != "compile":
            yield called(block), lambda block=block: of_recipe(model, block, inputs)
    yield ONNX, lambda: of_onnx(model, inputs, folder)


def ways(
    case: Case, rounds: int, checked: int, *, compiles: bool = True
) -> dict[str, dict[str, Any]]:
    """How many times faster each way is, its error, and why there are none where there are none."""
    torch.manual_seed(0)
    model, inputs = case.make().eval(), inputs_of(case, case.batch)
    others = list(inputs_of(case, case.batch + checked)[case.batch :].split(case.batch))
    exact = said(Frozen(model), others)
    found: dict[str, dict[str, Any]] = {}
    asks: dict[str, Ask] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers(model, inputs, Path(folder), compiles):
            begun = time.perf_counter()
            try:
                source = make()
            except LimbeckError as error:
                found[name] = {"problem": str(error)}
                continue
            took = time.perf_counter() - begun
            asks[name] = asking(source, ["output"], inputs, {})
            found[name] = {"start": took, "source": source}
        times = interleaved(asks, CPU, rounds)
    base = next(iter(times.values()))
    for name, each in times.items():
        error = gap(said(found[name].pop("source"), others), exact, CLASSIFICATION).error
        found[name] |= {"faster": ratio(base.rest, each.rest), "error": error}
        found[name] |= {"milliseconds": 1000 * each.median}
        found[name]["start"] += each.start
    torch.compiler.reset()
    return found


def table(case: str, found: dict[str, dict[str, Any]]) -> str:
    lines = [f"{case:56} {'faster':>7} {'ms':>9} {'start s':>8} {'error':>9}"]
    for name, row in found.items():
        if "problem" in row:
            lines.append(f"  {name:54} {row['problem']}")
            continue
        numbers = f"{row['faster']:7.2f} {row['milliseconds']:9.2f} {row['start']:8.1f}"
        lines.append(f"  {name:54} {numbers} {row['error']:9.1e}")
    return "\n".join(lines)


# ---- tune


def lay_out(count: int, folder: Path) -> None:
    """Images of noise as CIFAR-10 is on disk."""
    images = noise(count)
    pixels = images.pixels.flatten(1).numpy()
    for k, ids in enumerate(torch.arange(count).chunk(5), 1):
        batch = {b"data": pixels[ids.numpy()], b"labels": images.labels[ids].tolist()}
        (folder / f"data_batch_{k}").write_bytes(pickle.dumps(batch, protocol=2))


def recipe_of(pair: Pair, images: int, folder: Path) -> Path:
    """The recipe's file, with no word about speed."""
    lay_out(images, folder)
    epochs = STEPS * pair.batch // images
    text = RECIPE.format(folder=folder, epochs=epochs, **pair.__dict__)
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


@contextmanager
def stepping(recipe: Recipe) -> Iterator[Ask]:
    """A whole training step of a recipe, its teacher alive."""
    built = assemble(recipe, Ranks())
    with rehearsal(built.job(Run(Path(), writes=False), Ranks())) as trainer:
        if recipe.train.compile:
            for student in trainer.students.values():
                student.compile()
        batch = next(built.loader.epoch(0))
        yield lambda: trainer.update(batch)


def tuned(pair: Pair, rounds: int, images: int = IMAGES) -> dict[str, Any]:
    """What tune changes and promises, and how many times faster a step then is."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = recipe_of(pair, images, Path(folder))
        before = read(path)
        document = tune_recipe(before)
        edit(path, document["changes"])
        recipes = {"before": before, "after": read(path)}
        steps = {name: stack.enter_context(stepping(each)) for name, each in recipes.items()}
        times = interleaved(steps, CPU, rounds)
    torch.compiler.reset()
    return {
        "changes": document["changes"],
        "told": document["gain"],
        "steps": document["steps"],
        "faster": ratio(times["before"].rest, times["after"].rest),
        "milliseconds": {name: 1000 * each.median for name, each in times.items()},
        "start": times["after"].start,
    }


def shown(pair: str, found: dict[str, Any]) -> str:
    """A tuning as text."""
    changes = ", ".join(f"{key}: {value}" for key, value in found["changes"].items())
    return (
        f"{pair}: a step {found['faster']:.2f} times as fast after tune, which said "
        f"{found['told']:.2f} of {found['steps']:,} steps ({changes or 'nothing changed'})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", action="store_true", help="time each way of each teacher")
    parser.add_argument("--tune", action="store_true", help="time steps before and after tune")
    parser.add_argument("--quick", action="store_true", help="a small teacher, nothing compiled")
    parser.add_argument("--write", action="store_true", help="keep it in results/teachers.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if chosen.quick:
        print(table("ResNet-8x4, 16 px", ways(SMALL, 3, 8, compiles=False)))
    if chosen.ways:
        kept["ways"] = {}
        for name, case in CASES.items():
            kept["ways"][name] = found = ways(case, ROUNDS, CHECKED)
            print(table(name, found), flush=True)
    if chosen.tune:
        kept["tune"] = {}
        for name, pair in PAIRS.items():
            kept["tune"][name] = found = tuned(pair, 2 * ROUNDS)
            print(shown(name, found), flush=True)
    if chosen.write:
        RESULT.write_text(json.dumps(kept | about(), indent=1) + "\n")


def about() -> dict[str, Any]:
    packages = [name for name in ("torch", "onnxruntime", "openvino") if find_spec(name)]
    versions = {name: version(name) for name in packages}
    return {"threads": torch.get_num_threads(), "machine": platform.machine(), "versions": versions}


if __name__ == "__main__":
    main()
