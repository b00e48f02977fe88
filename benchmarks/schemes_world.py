"""What every scheme is made from: the job, the networks, the teachers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from methods_pair import VIEW, Plain
from torch import Tensor, nn

from limbeck import Distiller, Mutual, Reader
from limbeck.data import Augment, Images, Loader, derive
from limbeck.data.loader import Assembly
from limbeck.data.pairs import Ints, Pairs
from limbeck.data.plan import Plan
from limbeck.objective import Objective
from limbeck.recipe.together import Together
from limbeck.sources import Source
from limbeck.tasks import CLASSIFICATION, Task
from limbeck.tasks.task import predictions
from limbeck.zoo import ResNet, resnet20

BEST = "resnet20"  # of the teachers
TEACHERS: dict[str, Callable[[], nn.Module]] = {
    BEST: resnet20,
    "wide": lambda: ResNet(1, (16, 32, 64, 128), 10),
    "plain": lambda: Plain((32, 64, 64, 128)),
}
PEERS = ("a", "b", "c", "d")
STUDENT = "student"
FLIPS = Augment(flip=True)


@dataclass(frozen=True)
class World:
    """One seed's job.

    Attributes:
        images: to learn from.
        valid: those that `general` weighs students by.
        source: a teacher by its name, live or recorded.
        knows: how many held-out images of each class a teacher knows (teachers, classes), in the
            order of `TEACHERS`.
        epochs, batch_size: of all arms alike.
    """

    images: Images
    valid: Images
    source: Callable[[str], Source]
    knows: Tensor
    seed: int
    epochs: int
    batch_size: int

    @property
    def routes(self) -> Tensor:
        """For each class the place of the teacher that is asked of it."""
        return self.knows.argmax(0)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.images) // self.batch_size


@dataclass(frozen=True)
class Made:
    """A training that is ready to begin.

    Attributes:
        learner: what learns.
        judged: the networks that are scored afterwards, by name.
        loader: its batches.
        task: what is read of a batch.
        times: how often as many epochs as any other.
    """

    learner: Distiller | Mutual
    judged: Mapping[str, nn.Module]
    loader: Loader
    task: Task = CLASSIFICATION
    times: int = 1


Stage = Callable[[World, Mapping[str, nn.Module]], Made]  # of a world and the networks so far


def student(world: World, peer: str = PEERS[0]) -> Plain:
    """A student's start, which is the same in every arm; the first is that of a student alone."""
    torch.manual_seed(derive(world.seed, STUDENT if peer == PEERS[0] else f"student {peer}"))
    return Plain()


def reader(network: nn.Module) -> Reader:
    return Reader(network, inputs=VIEW)


def alone(
    world: World,
    objective: Objective,
    sources: Mapping[str, Source] | None = None,
    *,
    loader: Loader | None = None,
    task: Task = CLASSIFICATION,
) -> Made:
    """One student on an objective."""
    network = student(world)
    learner = Distiller(reader(network), sources or {}, objective)
    return Made(learner, {STUDENT: network}, loader or batches(world), task)


def together(*networks: nn.Module) -> Together:
    """The mean of what networks hold probable."""
    return Together(networks, probabilities=True)


def batches(world: World) -> Loader:
    return Loader(
        world.images, world.batch_size, seed=world.seed, augment=FLIPS, views=world.epochs
    )


def paired(
    world: World, rows: int, pairs: Literal["view", "class"], strong: Augment | None = None
) -> Loader:
    """Batches of pairs, as many in an epoch as there are without."""
    return Loader(
        world.images,
        rows,
        seed=world.seed,
        augment=FLIPS,
        strong=strong,
        pairs=pairs,
        steps_per_epoch=world.steps,
    )


class Overlapping(Pairs):
    """The first half of each batch is the second of the one before, in another view (DLB)."""

    @property
    def halves(self) -> int:
        return 1

    def batch(self, epoch: int, step: int) -> tuple[Ints, Ints]:
        now = epoch * self.steps + step
        halves = (self.first.batch(*divmod(n, self.steps)) for n in (max(now - 1, 0), now))
        (again, earlier), (new, passes) = halves
        return np.concatenate([again, new]), np.concatenate([2 * earlier + 1, 2 * passes])


def overlapping(world: World) -> Loader:
    loader = paired(world, world.batch_size, "view")
    make, samples, seed = loader.stream.make, len(world.images), world.seed
    assert isinstance(make, Assembly)
    plan = Overlapping(Plan(samples, world.batch_size // 2, seed, world.steps))
    loader.plan, loader.stream.make = plan, replace(make, plan=plan)
    return loader


def known_of_classes(networks: list[nn.Module], images: Images) -> Tensor:
    """How many images of each class each network knows (networks, classes)."""
    classes = torch.arange(len(images.classes))
    shares = []
    for network in networks:
        pairs = list(predictions(network, VIEW, images))
        said = torch.cat([logits.argmax(1) for logits, _ in pairs])
        right = (said == images.labels)[:, None] & (images.labels[:, None] == classes)
        shares.append(right.sum(0))
    return torch.stack(shares)
