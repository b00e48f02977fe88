"""Several teachers, students that teach one another, assistants; and students that learn apart.

Every arm of several teachers has the weights and the temperature of `kd`, so that they differ in
who is heard alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from methods_pair import VIEW, Plain
from schemes_world import (
    BEST,
    PEERS,
    STUDENT,
    TEACHERS,
    Made,
    Stage,
    World,
    alone,
    batches,
    reader,
    student,
    together,
)
from torch import Tensor, nn

from limbeck import Distiller, Ensemble, Frozen, Match, Mutual, Reader, losses, methods, truth
from limbeck.data import ImageBatch
from limbeck.objective import Objective
from limbeck.reader import Answer
from limbeck.schemes import Branches, assistants, dense, gate, okddip, one
from limbeck.schemes.teaching import Rule
from limbeck.sources import Drawn, Routed, Source
from limbeck.tasks import CLASSIFICATION, Task
from limbeck.tasks.task import signals
from limbeck.zoo import ResNet

NAMES = list(TEACHERS)
T, SOFT, HARD = 4.0, 0.9, 0.1  # those of `kd`
WIDTH = 64  # of the student's last features
BRANCHES = 3
TAKD = assistants(["assistant"], STUDENT)
DGKD = assistants(["assistant"], STUDENT, dense=True)


def kd(name: str, world: World, _: Mapping[str, nn.Module]) -> Made:
    """One teacher alone."""
    return alone(world, methods.kd(), {"teacher": world.source(name)})


def all_of(world: World) -> list[Source]:
    return [world.source(name) for name in NAMES]


def ensemble(
    mean: Literal["probabilities", "logits"], world: World, _: Mapping[str, nn.Module]
) -> Made:
    source = Ensemble(all_of(world), mean=mean, temperature=T)
    return alone(world, methods.kd(T), {"teacher": source})


def by_knowledge(world: World, _: Mapping[str, nn.Module]) -> Made:
    """Each teacher weighed class by class by how many held-out images it knows, and one more."""
    known = world.knows + 1
    weights = known / known.sum(0)
    source = Ensemble(all_of(world), mean="probabilities", temperature=T, weights=weights)
    return alone(world, methods.kd(T), {"teacher": source})


def weighed(method: Callable[..., Objective], world: World, _: Mapping[str, nn.Module]) -> Made:
    """A method that weighs the teachers anew in each step."""
    objective = method(NAMES, temperature=T, weight=SOFT, truth_weight=HARD)
    return alone(world, objective, dict(zip(NAMES, all_of(world), strict=True)))


def drawn(world: World, _: Mapping[str, nn.Module]) -> Made:
    return alone(world, methods.kd(), {"teacher": Drawn(all_of(world), world.seed)})


def routed(world: World, _: Mapping[str, nn.Module]) -> Made:
    """Each image to the teacher that knows most of its class among the held-out images."""
    source = Routed(dict(zip(NAMES, all_of(world), strict=True)))
    return alone(world, methods.kd(), {"teacher": source}, task=by_class(world.routes))


def by_class(routes: Tensor) -> Task:
    """Classification that tells whose an image is by its class."""

    def told(batch: ImageBatch, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
        images, data = signals(batch, device)
        return images, data | {"domain": routes[data["target"]]}

    return replace(CLASSIFICATION, name="with routes", signals=told)


def mutual(world: World, learner: Mutual, networks: Mapping[str, nn.Module]) -> Made:
    judged = {**networks, "ensemble": together(*networks.values())}
    return Made(learner, judged, batches(world))


def students(world: World, count: int) -> dict[str, Plain]:
    return {name: student(world, name) for name in PEERS[:count]}


def readers(networks: Mapping[str, nn.Module]) -> dict[str, Reader]:
    return {name: reader(network) for name, network in networks.items()}


def apart(world: World, _: Mapping[str, nn.Module]) -> Made:
    """Students that learn from labels alone, side by side, and the ensembles of the first few."""
    networks = students(world, len(PEERS))
    first = list(networks.values())
    several = {f"ensemble of {n}": together(*first[:n]) for n in range(2, len(first) + 1)}
    learner = Mutual(readers(networks), 1.0 * truth())
    return Made(learner, {**networks, **several}, batches(world))


def dml(world: World, _: Mapping[str, nn.Module]) -> Made:
    networks = students(world, 2)
    learner = Mutual(readers(networks), truth() + Match(losses.kl, source="peers"))
    return mutual(world, learner, networks)


def kdcl(rule: Rule, world: World, _: Mapping[str, nn.Module]) -> Made:
    networks = students(world, 2)
    objective = truth() + Match(losses.kl, source="peers", temperature=2)
    learner = Mutual(readers(networks), objective, teach=rule, temperature=2)
    return mutual(world, learner, networks)


def okd(world: World, _: Mapping[str, nn.Module]) -> Made:
    """Three peers and a leader, which begins as a student alone does."""
    networks = dict(zip(("leader", *PEERS[1:]), students(world, 4).values(), strict=True))
    learner = okddip(readers(networks), leader="leader", features="layer3", width=WIDTH)
    return mutual(world, learner, networks)


class Head(nn.Module):
    """The last stage of a student as a branch."""

    def __init__(self, network: Plain) -> None:
        super().__init__()
        self.layer3, self.fc = network.layer3, network.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer3(x).mean((2, 3)))


def branched(weight: float, world: World, _: Mapping[str, nn.Module]) -> Made:
    """ONE: three branches from the last stage on; the first begins as a student alone does."""
    first, *others = students(world, BRANCHES).values()
    trunk = nn.Sequential(first.stem, first.layer1, first.layer2)
    model = Branches(trunk, [Head(n) for n in (first, *others)], gate(WIDTH // 2, BRANCHES))
    learner = Distiller(reader(model), {}, one(BRANCHES, weight=weight))
    whole = Answer(Reader(model, names={"output": "output.logits"}))
    return Made(learner, {"branch": model.single(0), "ensemble": whole}, batches(world))


def assistant(world: World, _: Mapping[str, nn.Module]) -> Made:
    """A ResNet-8 between the ResNet-20 and the student."""
    torch.manual_seed(world.seed)
    network = ResNet(1, (16, 16, 32, 64), 10)
    learner = Distiller(reader(network), world.source(BEST), methods.kd())
    return Made(learner, {TAKD[0].name: network}, batches(world))


def takd(world: World, learnt: Mapping[str, nn.Module]) -> Made:
    (name,) = TAKD[-1].teachers
    made = alone(world, methods.kd(), {"teacher": Frozen(learnt[name], inputs=VIEW)})
    return replace(made, judged={"takd": made.judged[STUDENT]})


def dgkd(world: World, learnt: Mapping[str, nn.Module]) -> Made:
    first, second = DGKD[-1].teachers
    sources = {first: world.source(BEST), second: Frozen(learnt[second], inputs=VIEW)}
    objective = dense(lambda _: methods.kd(), [first, second], drop=0.5, seed=world.seed)
    made = alone(world, objective, sources)
    return replace(made, judged={"dgkd": made.judged[STUDENT]})


ARMS: dict[str, dict[str, Stage]] = {
    "apart": {STUDENT: apart},
    "kd": {STUDENT: partial(kd, BEST)},
    "kd from wide": {STUDENT: partial(kd, "wide")},
    "kd from plain": {STUDENT: partial(kd, "plain")},
    "mean of probabilities": {STUDENT: partial(ensemble, "probabilities")},
    "mean of logits": {STUDENT: partial(ensemble, "logits")},
    "weighed by class": {STUDENT: by_knowledge},
    "ebkd": {STUDENT: partial(weighed, methods.ebkd)},
    "ca-mkd": {STUDENT: partial(weighed, methods.camkd)},
    "ae-kd": {STUDENT: partial(weighed, methods.aekd)},
    "amtml": {STUDENT: partial(weighed, partial(methods.amtml, features="layer3"))},
    "drawn": {STUDENT: drawn},
    "routed": {STUDENT: routed},
    "dml": {STUDENT: dml},
    "kdcl naive": {STUDENT: partial(kdcl, "naive")},
    "kdcl linear": {STUDENT: partial(kdcl, "linear")},
    "kdcl minlogit": {STUDENT: partial(kdcl, "minlogit")},
    "kdcl general": {STUDENT: partial(kdcl, "general")},
    "one": {STUDENT: partial(branched, 1.0)},
    "branches": {STUDENT: partial(branched, 0.0)},
    "okddip": {STUDENT: okd},
    "assistants": {"assistant-1": assistant, "takd": takd, "dgkd": dgkd},
}
