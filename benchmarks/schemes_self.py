"""Students that teach themselves, and what they are compared with.

Weights and temperatures are the papers', or limbeck's where a paper has none that fits; nothing was
searched for.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from methods_pair import VIEW
from schemes_world import (
    FLIPS,
    PEERS,
    STUDENT,
    Made,
    Stage,
    World,
    alone,
    batches,
    overlapping,
    paired,
    reader,
    student,
    together,
)
from torch import nn

from limbeck import Distiller, Frozen, Match, losses, methods, truth
from limbeck.data import Loader
from limbeck.data.strata import withhold
from limbeck.exits import Exits
from limbeck.objective import Objective
from limbeck.schedules import Linear
from limbeck.schemes import generations
from limbeck.sources import Ema, Past, Prior, View

DECAY = 0.99
TIMES = 3  # as many trainings as two generations take after the first
LABELLED_HALF = {"mask": "data:first"}
POSITIONS = 8 * 8  # of the deepest map
UNLABELLED = 8  # images for each label
STRONG = replace(FLIPS, randaugment=(2, 10))
BORN_AGAIN = generations(STUDENT, TIMES - 1)


def labels(world: World, _: Mapping[str, nn.Module]) -> Made:
    return alone(world, 1.0 * truth())


def longer(world: World, _: Mapping[str, nn.Module]) -> Made:
    return replace(alone(world, 1.0 * truth()), times=TIMES)


def label_smoothing(world: World, _: Mapping[str, nn.Module]) -> Made:
    return alone(world, 1.0 * truth(label_smoothing=0.1))


def tf_kd(world: World, _: Mapping[str, nn.Module]) -> Made:
    prior = Prior(len(world.images.classes), correct=0.9)
    soft = Match(losses.kl, source="prior", temperature=20)
    return alone(world, 0.5 * truth() + 0.5 * soft, {"prior": prior})


def ps_kd(world: World, _: Mapping[str, nn.Module]) -> Made:
    given, alpha = {"target": "data:target"}, Linear(0, 0.8)
    soft = Match(losses.ps_kd, source="past", given=given, alpha=alpha)
    return alone(world, 1.0 * soft, {"past": Past(len(world.images))})


def dlb(world: World, _: Mapping[str, nn.Module]) -> Made:
    given = {"mask": "past:recent"}
    soft = Match(losses.kl, source="past", given=given, temperature=3)
    past = {"past": Past(len(world.images))}
    return alone(world, truth() + soft, past, loader=overlapping(world))


def overlapping_labels(world: World, _: Mapping[str, nn.Module]) -> Made:
    return alone(world, 1.0 * truth(), loader=overlapping(world))


def averaged(world: World, objective: Objective) -> Made:
    """A student beside its own average, which may teach it."""
    network = student(world)
    ema = Ema(reader(network), DECAY)
    learner = Distiller(reader(network), {"ema": ema}, objective)
    return Made(learner, {STUDENT: network, "average": ema.model}, batches(world))


def average(world: World, _: Mapping[str, nn.Module]) -> Made:
    return averaged(world, 1.0 * truth())


def mean_teacher(world: World, _: Mapping[str, nn.Module]) -> Made:
    return averaged(world, truth() + 0.5 * Match(losses.kl, source="ema", temperature=2))


def ddgsd(world: World, _: Mapping[str, nn.Module]) -> Made:
    objective = truth() + Match(losses.kl, source="view", temperature=3)
    loader = paired(world, world.batch_size, "view")
    return alone(world, objective, {"view": View()}, loader=loader)


def two_views_labels(world: World, _: Mapping[str, nn.Module]) -> Made:
    return alone(world, 1.0 * truth(), loader=paired(world, world.batch_size, "view"))


def cs_kd(world: World, _: Mapping[str, nn.Module]) -> Made:
    """As many images with labels as in any other arm, and as many again that teach them."""
    soft = Match(losses.kl, source="view", given=LABELLED_HALF, temperature=4)
    loader = paired(world, 2 * world.batch_size, "class")
    return alone(world, truth(given=LABELLED_HALF) + soft, {"view": View()}, loader=loader)


def few_labels(world: World) -> World:
    """The same images, one label in eight kept: the paper's share of FixMatch."""
    kept = max(len(world.images) // UNLABELLED, len(world.images.classes))
    return replace(world, images=withhold(world.images, kept, world.seed))


def an_eighth(world: World, _: Mapping[str, nn.Module]) -> Made:
    """The images that have a label alone, as many a step as in any other arm."""
    loader = Loader(
        few_labels(world).images,
        world.batch_size,
        seed=world.seed,
        augment=FLIPS,
        labelled_only=True,
        steps_per_epoch=world.steps,
    )
    return alone(world, 1.0 * truth(), loader=loader)


def fixmatch(world: World, _: Mapping[str, nn.Module]) -> Made:
    """Of 32 images a step some four have a label."""
    return alone(world, methods.fixmatch(), {"view": View()}, loader=weak_and_strong(world))


def fixmatch_labels(world: World, _: Mapping[str, nn.Module]) -> Made:
    """The labels of the same batches, of the weak views as there."""
    weak = truth(given={"mask": "data:second"})
    return alone(world, 1.0 * weak, loader=weak_and_strong(world))


def weak_and_strong(world: World) -> Loader:
    return paired(few_labels(world), world.batch_size, "view", STRONG)


def with_exits(world: World, objective: Objective) -> Made:
    network = student(world)
    exits = Exits(network, torch.zeros(2, 3, 32, 32), ["layer1", "layer2", "layer3"])
    return Made(Distiller(reader(exits), {}, objective), {STUDENT: network}, batches(world))


def byot(world: World, _: Mapping[str, nn.Module]) -> Made:
    hint_weight = 1e-6 * world.batch_size * POSITIONS
    return with_exits(world, methods.byot(2, hint_weight=hint_weight))


def deep_supervision(world: World, _: Mapping[str, nn.Module]) -> Made:
    return with_exits(world, methods.byot(2, weight=0, hint_weight=0, truth_weight=1))


def sad(world: World, _: Mapping[str, nn.Module]) -> Made:
    return alone(world, methods.sad("layer2", "layer3"))


def born_again(n: int, world: World, learnt: Mapping[str, nn.Module]) -> Made:
    """A generation, taught by the one before; the first by the labels."""
    stage, network = BORN_AGAIN[n], student(world, PEERS[n])
    sources = {name: Frozen(learnt[name], inputs=VIEW) for name in stage.teachers}
    soft = [0.5 * truth() + 0.5 * Match(losses.kl, source=name) for name in sources]
    learner = Distiller(reader(network), sources, *(soft or [1.0 * truth()]))
    judged: dict[str, nn.Module] = {stage.name: network}
    if n == len(BORN_AGAIN) - 1:
        judged["ensemble"] = together(*learnt.values(), network)
    return Made(learner, judged, batches(world))


ARMS: dict[str, dict[str, Stage]] = {
    "three times as long": {STUDENT: longer},
    "label smoothing": {STUDENT: label_smoothing},
    "tf-kd": {STUDENT: tf_kd},
    "ps-kd": {STUDENT: ps_kd},
    "dlb": {STUDENT: dlb},
    "half of each batch again": {STUDENT: overlapping_labels},
    "averaged weights": {STUDENT: average},
    "mean teacher": {STUDENT: mean_teacher},
    "ddgsd": {STUDENT: ddgsd},
    "two views": {STUDENT: two_views_labels},
    "cs-kd": {STUDENT: cs_kd},
    "an eighth of the labels": {STUDENT: an_eighth},
    "fixmatch": {STUDENT: fixmatch},
    "its labels alone": {STUDENT: fixmatch_labels},
    "byot": {STUDENT: byot},
    "deep supervision": {STUDENT: deep_supervision},
    "sad": {STUDENT: sad},
    "born-again": {stage.name: partial(born_again, n) for n, stage in enumerate(BORN_AGAIN)},
}
