"""From the sources that a recipe names to objects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import Images, derive
from limbeck.errors import LimbeckError, close
from limbeck.reader import Reader
from limbeck.recipe.foreign import foreign_source
from limbeck.recipe.kinds import (
    DrawnSource,
    EmaSource,
    EnsembleSource,
    ForeignSource,
    OfStudent,
    PastSource,
    PriorSource,
    RoutedSource,
    StoredSource,
    ViewSource,
    members,
)
from limbeck.recipe.networks import Teacher
from limbeck.recipe.schema import Recipe
from limbeck.recipe.stored import stored_source
from limbeck.signals import Batch, Signals
from limbeck.sources import Drawn, Ema, Ensemble, Past, Prior, Routed, Source, View

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
Ask = Callable[[str, Teacher], Source]


def sources_of(recipe: Recipe, student: Reader, images: Images, ask: Ask) -> dict[str, Source]:
    """The networks of a recipe, and what else its objective reads from.

    Args:
        ask: makes a network that teaches, from its name and block.

    Raises:
        LimbeckError: what does not fit, with the key that it is about.
    """
    making = Making(recipe, student, images, networks_of(recipe, images, ask))
    return {name: named(name, recipe, making.source, block) for name, block in read(recipe)}


def sources_of_each(
    recipe: Recipe, students: Mapping[str, Reader], images: Images, ask: Ask
) -> dict[str, Source | dict[str, Source]]:
    """The sources of several students: one for all, or one for each where it is made of them."""
    networks = networks_of(recipe, images, ask)
    makings = {name: Making(recipe, each, images, networks) for name, each in students.items()}
    found: dict[str, Source | dict[str, Source]] = {}
    for name, block in read(recipe):
        made = {who: named(name, recipe, making.source, block) for who, making in makings.items()}
        found[name] = made if isinstance(block, OfStudent) else next(iter(made.values()))
    return found


def networks_of(recipe: Recipe, images: Images, ask: Ask) -> dict[str, Source]:
    """The networks that teach, and the stores of what networks said, each made once."""

    def make(name: str, block: Any) -> Source:
        match block:
            case Teacher():
                return ask(name, block)
            case ForeignSource():
                return foreign_source(block, recipe, images)
        return stored_source(name, block, recipe, images)

    kinds = (Teacher, ForeignSource, StoredSource)
    blocks = {n: block for n, block in recipe.teachers().items() if isinstance(block, kinds)}
    wanted = {*recipe.networks(), *(name for name, _ in read(recipe)), *inside(recipe)}
    return {n: named(n, recipe, make, block) for n, block in blocks.items() if n in wanted}


def inside(recipe: Recipe) -> list[str]:
    """The sources that others are made of."""
    return [name for block in recipe.teachers().values() for name in members(block)]


def read(recipe: Recipe) -> list[tuple[str, Any]]:
    """The networks, and whatever else the objective reads from, by name."""
    asked = [name for entry in recipe.objective for name in entry.asks]
    known = [*recipe.networks(), *asked]
    return [(name, block) for name, block in recipe.teachers().items() if name in known]


def named(name: str, recipe: Recipe, make: Callable[..., Source], block: Any) -> Source:
    """A source; what is wrong with it is said with its key, unless it is the teacher."""
    try:
        return make(name, block)
    except LimbeckError as error:
        if name not in recipe.sources:
            raise
        raise LimbeckError(f"sources.{name}: {error}") from error


@dataclass(frozen=True)
class Making:
    """What sources are made of; each reader of one that moves has a source of its own."""

    recipe: Recipe
    student: Reader
    images: Images
    networks: Mapping[str, Source]

    def source(self, name: str, block: Any) -> Source:
        """The source that a block of a name says."""
        match block:
            case Teacher() | ForeignSource() | StoredSource():
                return self.networks[name]
            case EmaSource():
                return Ema(self.student, block.decay, buffers=block.buffers)
            case PastSource():
                return Past(len(self.images), DTYPES[block.precision])
            case ViewSource():
                return View() if block.of is None else View(*self.members([block.of]))
            case PriorSource():
                return Prior(len(self.images.classes), block.correct)
            case EnsembleSource():
                how = {"temperature": block.temperature, "weights": block.weights}
                return Ensemble(self.members(block.of), mean=block.mean, **how)
            case DrawnSource():
                seed = derive(self.recipe.seed, f"drawn {name}")
                return Drawn(self.members(block.of), seed)
            case RoutedSource():
                domains = domains_of(block.of, self.images.classes)
                return ByClass(dict(zip(block.of, self.members([*block.of]), strict=True)), domains)
        raise TypeError(f"{name!r} is of no kind that there is: {type(block).__name__}")

    def members(self, names: Sequence[str]) -> list[Source]:
        blocks = self.recipe.teachers()
        return [self.source(name, blocks[name]) for name in names]


def domains_of(routes: Mapping[str, Sequence[str]], classes: Sequence[str]) -> Tensor:
    """The place in the routes of each class; raises LimbeckError unless each class is in one."""
    places = {name: k for k, theirs in enumerate(routes.values()) for name in theirs}
    count = sum(map(len, routes.values()))
    strange = [name for name in places if name not in classes]
    missing = [name for name in classes if name not in places]
    if strange or missing or count != len(places):
        what = f"got {strange[0]!r}{close(strange[0], classes)}" if strange else ""
        what = what or (f"{missing} in none" if missing else "some are in two")
        raise LimbeckError(f"of must have each of the data's classes {list(classes)} once, {what}")
    return torch.tensor([places[name] for name in classes])


class ByClass(Routed):
    """A route by the class of each image, which the data's `target` says.

    Args:
        sources: the teachers by name.
        domains: the place of each class among them.

    Raises:
        LimbeckError: an image without a label.
    """

    def __init__(self, sources: Mapping[str, Source], domains: Tensor) -> None:
        super().__init__(sources)
        self.domains = domains

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        target = batch.data["target"]
        if bool((target < 0).any()):
            raise LimbeckError(
                "a route by class needs a label of every image; set data.unlabelled: false"
            )
        domain = self.domains.to(target.device)[target]
        return super().__call__(
            Batch(batch.inputs, {**batch.data, "domain": domain}), signals, wants
        )


class Voice(nn.Module):
    """A source of networks as a model of its own, which takes images as the source does."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source, self.parts = source, nn.ModuleList(source.modules())

    def forward(self, x: Tensor) -> Tensor:
        return self.source(Batch(x, {}), Signals(), ["output"])["output"]
