"""A recipe's teacher made faster, and how far that moves what it says."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limbeck.data import Images, permutation
from limbeck.errors import LimbeckError
from limbeck.foreign.openvino_module import OpenVinoModule
from limbeck.inputs import Preprocess
from limbeck.models import fold, quantise
from limbeck.modes import evaluating
from limbeck.recipe.networks import Optimize, Teacher
from limbeck.recipe.schema import Recipe
from limbeck.taps import modules_of
from limbeck.tasks import Task
from limbeck.train import Training
from limbeck.train.ranks import Ranks

log = logging.getLogger("limbeck")
SAMPLE = 256  # images on which a faster teacher is measured
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FAR = 0.05  # standard deviations by which a number is another


@dataclass(frozen=True)
class Gap:
    """How far a faster teacher is from the exact one, on so many images.

    `changed` is the share that it sees otherwise: another first class; of several labels, flags
    that flip; of numbers, those that move by over a twentieth of their standard deviation. `error`
    is the largest of a logit, in standard deviations of the exact ones.
    """

    changed: float
    error: float
    images: int

    def __str__(self) -> str:
        return (
            f"largest logit error {self.error:.3g} standard deviations, agreement "
            f"{100 * (1 - self.changed):.2f} % on {self.images} images"
        )


@dataclass(frozen=True)
class Faster:
    """A teacher that answers faster, and the modules that no longer give what they did."""

    model: nn.Module
    hidden: Mapping[str, str] = field(default_factory=dict)


def whole(block: Teacher) -> Teacher:
    """The block of the exact teacher."""
    update = {"precision": "float32", "channels_last": False, "optimize": None}
    return block.model_copy(update=update)


def optimised(
    model: nn.Module, block: Teacher, view: Preprocess, images: Images, recipe: Recipe
) -> Faster:
    """The teacher as its block asks, measured against itself, which is logged.

    Raises:
        LimbeckError: one that sees more images otherwise than `optimize.loses` allows, unless it
            is to be trained first; what cannot be made so; int8 or OpenVINO where it is no CPU.
    """
    how = block.optimize or Optimize()
    if block.optimize is None and block.precision == "float32":
        return Faster(in_format(model, block))
    device = device_of(recipe.train, Ranks()).type
    if device != "cpu" and (how.int8 or how.engine == "openvino"):
        what = "int8" if how.int8 else "engine: openvino"
        raise LimbeckError(f"optimize: {what} is for the CPU, but this trains on {device}")
    batches = [view(images.fetch(ids)) for ids in sample(images, recipe.train)]
    exact = answers(model, batches)
    faster = made(model, block, how, batches[0])
    found = gap(answers(faster.model, batches), exact, recipe.asked)
    log.info("teacher in %s: %s", told(block), found)
    if block.optimize is not None and block.fit is None and not found.changed <= how.loses:
        raise LimbeckError(
            f"the faster teacher sees {100 * found.changed:.1f} % of {found.images} images "
            f"otherwise than the exact one, and optimize.loses allows {100 * how.loses:g} %; leave "
            "out what loses most (limbeck tune measures each)"
        )
    return faster


def told(block: Teacher) -> str:
    """What a block asks of its teacher, in words.

    >>> told(Teacher(model="limbeck.zoo:small_cnn", optimize=Optimize(fold_bn=True)))
    'float32, batch norms folded'
    """
    how = block.optimize or Optimize()
    words = {
        "batch norms folded": how.fold_bn,
        "int8": how.int8,
        "compiled": how.engine == "compile",
        "by OpenVINO": how.engine == "openvino",
    }
    return ", ".join([block.precision, *(word for word, said in words.items() if said)])


def made(model: nn.Module, block: Teacher, how: Optimize, inputs: Tensor) -> Faster:
    """The teacher with batch norms folded, then int8, then its precision, format and engine."""
    hidden = {}
    if how.fold_bn:
        hidden = {
            conv: f"is part of a folded batch norm: match {norm!r}, or leave out optimize.fold_bn"
            for conv, norm in fold(model, inputs).items()
        }
    if how.int8:
        quantise(model)
    if how.engine == "openvino":
        why = "does not run in OpenVINO, which gives the output alone"
        return Faster(
            OpenVinoModule(model, inputs, block.precision), dict.fromkeys(modules_of(model), why)
        )
    model = in_format(model.to(DTYPES[block.precision]), block)
    if how.engine == "compile":
        model.compile()
    return Faster(model, hidden)


def in_format(model: nn.Module, block: Teacher) -> nn.Module:
    """The model in the memory format of its block."""
    return model.to(memory_format=torch.channels_last) if block.channels_last else model


def sample(images: Images, settings: Training) -> list[Tensor]:
    """Some labelled images, or any, in batches as those of the training."""
    known = images.labelled if len(images.labelled) else torch.arange(len(images))
    order = known[torch.from_numpy(permutation(0, 0, len(known)).copy())]
    rows = min(settings.batch_size // settings.accumulate, len(order))
    return list(order[: rows * max(min(SAMPLE, len(order)) // rows, 1)].split(rows))


def answers(model: nn.Module, batches: list[Tensor]) -> Tensor:
    """The logits of all batches in float32.

    Raises:
        LimbeckError: a model that does not run, now that it is changed.
    """
    weight = next((p for p in model.parameters() if p.is_floating_point()), batches[0])
    try:
        with torch.no_grad(), evaluating(model):
            return torch.cat([model(x.to(weight.dtype)).float() for x in batches])
    except (RuntimeError, AttributeError, TypeError) as error:
        what = str(error).partition("\n")[0]
        raise LimbeckError(
            f"the teacher does not run as optimize and precision ask: {what}"
        ) from error


def gap(fast: Tensor, exact: Tensor, task: Task) -> Gap:
    """What a faster teacher's logits are off by."""
    spread = exact.std().clamp(min=1e-12)
    error = (fast - exact).abs() / spread
    if task.exclusive:
        changed = fast.argmax(-1) != exact.argmax(-1)
    elif task.name == "multilabel":
        changed = (fast > 0) != (exact > 0)
    else:
        changed = error > FAR
    broken = ~error.isfinite()
    changed |= broken.any(-1) if task.exclusive else broken
    worst = float("inf") if bool(broken.any()) else float(error.max())
    return Gap(float(changed.float().mean()), worst, len(exact))


def device_of(settings: Training, ranks: Ranks) -> torch.device:
    """The device that the settings name for this rank."""
    if settings.device != "auto":
        return torch.device(settings.device)
    if torch.cuda.is_available():
        return torch.device("cuda", ranks.local)
    return torch.device("cpu")
