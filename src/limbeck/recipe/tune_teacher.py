"""A teacher in each way that is faster, timed and compared with the exact one."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from limbeck.check.interleaved import interleaved
from limbeck.errors import LimbeckError
from limbeck.models.folding import CONVOLUTIONS, NORMS
from limbeck.models.int8 import share
from limbeck.recipe.build import Built, teacher_source
from limbeck.recipe.networks import Optimize, Teacher
from limbeck.recipe.optimizing import gap, sample, told, whole
from limbeck.recipe.tune_rows import Tried
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

PRECISIONS = ("float32", "bfloat16")
MOSTLY = 0.5  # the share of linear layers from which int8 is tried
KEYS = ("precision", "channels_last", "optimize.fold_bn", "optimize.int8", "optimize.engine")


def tried_teacher(built: Built, name: str, inputs: Tensor, data: dict[str, Tensor]) -> list[Tried]:
    """Every option for a network that teaches, the recipe's own first; each is built once.

    Weights that are still to be fitted are fresh ones here.

    Raises:
        LimbeckError: the recipe's own cannot be built; of others, that is the verdict.
    """
    recipe = built.recipe
    block = recipe.networks()[name].model_copy(update={"record": False, "fit": None})
    exact, _ = opened(whole(block), built, name)
    shown = [x.to(built.device) for x in pictures(built)]
    true = said(exact, shown)
    found, ways = list[Tried](), dict[str, Callable[[], object]]()
    for option in options(block, exact.modules()[0]):
        try:
            source, took = opened(option, built, name)
            off = gap(said(source, shown), true, recipe.asked)
        except LimbeckError as error:
            if not found:
                raise
            found.append(Tried(called(option), keys_of(option), None, problem=str(error)))
            continue
        found.append(Tried(called(option), keys_of(option), None, took, off))
        ways[called(option)] = asking(source, wanted(built, name), inputs, data)
    times = interleaved(ways, built.device)
    return [replace(each, times=times.get(each.option)) for each in found]


def opened(block: Teacher, built: Built, name: str) -> tuple[Source, float]:
    """A teacher that the objective can be made with, and the seconds until it is ready."""
    recipe, images = built.recipe, built.splits.train
    begun = time.perf_counter()
    source = teacher_source(block, recipe, images, name)
    source.to(built.device)
    took = time.perf_counter() - begun
    source.check(wanted(built, name))
    if name == "teacher":  # whose modules methods may take
        recipe.sum(recipe.setting(source.modules()[0], len(images)))
    return source, took


def pictures(built: Built) -> list[Tensor]:
    """The images on which errors are measured, in batches."""
    images = built.splits.train
    return [images.fetch(ids) for ids in sample(images, built.recipe.train)]


def asking(
    source: Source, wants: list[str], inputs: Tensor, data: dict[str, Tensor]
) -> Callable[[], object]:
    """A call of a source as the training calls it."""

    def ask() -> None:
        with torch.no_grad():
            source(Batch(inputs, data), Signals(), wants)

    return ask


def wanted(built: Built, name: str) -> list[str]:
    """The signals that the objective reads from a source; else its output."""
    needs = [need for entry in built.recipe.objective for need in entry.needs]
    return list(dict.fromkeys(n for whose, n in needs if whose == name)) or ["output"]


def said(source: Source, shown: list[Tensor]) -> Tensor:
    """Its logits of a sample."""
    with torch.no_grad():
        return torch.cat(
            [source(Batch(x), Signals(), ["output"])["output"].float().cpu() for x in shown]
        )


def unlimited(block: Teacher) -> Teacher:
    """The block with a limit that refuses nothing, since what it loses is for a table."""
    how = block.optimize or Optimize()
    plain = how.model_copy(update={"loses": 1.0})
    return block.model_copy(update={"optimize": plain})


def options(block: Teacher, model: nn.Module) -> list[Teacher]:
    """The recipe's own, then all that suits the model and that a recipe may say, each once."""
    convs = any(isinstance(module, CONVOLUTIONS) for module in model.modules())
    norms = convs and any(isinstance(module, NORMS) for module in model.modules())
    ints = share(model) > MOSTLY
    eager = itertools.product(PRECISIONS, {False, norms}, {False, convs}, {False, ints}, ["torch"])
    compiled = itertools.product(PRECISIONS, [norms], [convs], {False, ints}, ["compile"])
    others = [(precision, False, False, False, "openvino") for precision in PRECISIONS]
    found = [unlimited(block), *(option(block, *way) for way in (*eager, *compiled, *others))]
    return [each for k, each in enumerate(found) if each not in found[:k] and allowed(each)]


def allowed(block: Teacher) -> bool:
    """Whether a recipe may say so; a copy with changes was not asked."""
    try:
        Teacher.model_validate(block.model_dump())
    except ValidationError:
        return False
    return True


def option(
    block: Teacher, precision: str, fold: bool, last: bool, int8: bool, engine: str
) -> Teacher:
    how = Optimize.model_validate({"fold_bn": fold, "int8": int8, "engine": engine, "loses": 1.0})
    update = {"precision": precision, "channels_last": last, "optimize": how}
    return block.model_copy(update=update)


def called(block: Teacher) -> str:
    return told(block) + (", channels last" if block.channels_last else "")


def keys_of(block: Teacher) -> dict[str, Any]:
    """What a block says of speed, by key."""
    how = block.optimize or Optimize()
    values = (block.precision, block.channels_last, how.fold_bn, how.int8, how.engine)
    return dict(zip(KEYS, values, strict=True))
