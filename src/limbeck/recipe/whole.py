"""What the blocks of a recipe say of one another, and what of that does not fit."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError, close
from limbeck.recipe.branches import faults as branches
from limbeck.recipe.company import faults as students
from limbeck.recipe.kinds import (
    EnsembleSource,
    PastSource,
    PriorSource,
    RoutedSource,
    ViewSource,
    members,
)
from limbeck.recipe.methods import DATA, HALVES, Method
from limbeck.recipe.setting import Place
from limbeck.schemes.taught import PEERS
from limbeck.sources.ensemble import checked

if TYPE_CHECKING:
    from limbeck.recipe.schema import Recipe

OURS = ("student", "data")
NAME = r"[A-Za-z_][\w-]*"
EXITS = ("output.exits", "output.features")


def faults(recipe: "Recipe") -> list[str]:
    """A line for everything that does not fit."""
    return [
        *names(recipe),
        *(line for name, block in recipe.sources.items() for line in source(recipe, name, block)),
        *(line for i in range(len(recipe.objective)) for line in entry(recipe, i)),
        *students(recipe),
        *pairs(recipe),
        *exits(recipe),
        *branches(recipe),
        *sharded(recipe),
    ]


def names(recipe: "Recipe") -> Iterator[str]:
    """Names that sources cannot have."""
    taken = [*OURS, *(["teacher"] if recipe.teacher is not None else [])]
    for name in recipe.sources:
        if name in taken:
            yield f"sources.{name}: {name!r} is a source already; name yours otherwise"
        elif not re.fullmatch(NAME, name):
            yield f"sources.{name}: a name must be letters, digits, - and _, got {name!r}"


def source(recipe: "Recipe", name: str, block: Any) -> Iterator[str]:
    """What does not fit about one source."""
    where, augment = f"sources.{name}", recipe.data.augment
    above = above_it(recipe, name)
    for member in members(block):
        if member not in above:
            yield (
                f"{where}.of must be sources above it, {above}, got "
                f"{member!r}{close(member, above)}"
            )
    if (
        isinstance(block, ViewSource)
        and recipe.data.pairs in (None, "last")
        and not recipe.students
    ):
        yield f"{where} needs pairs of images; set data.pairs: view, or class"
    several = not recipe.asked.exclusive or augment.mix() is not None
    if isinstance(block, PriorSource | RoutedSource) and several:
        yield (
            f"{where} needs one class an image; it is for task: classification, "
            "without mixup and cutmix"
        )
    if isinstance(block, PastSource) and augment.mix() is not None:
        yield (
            f"{where} remembers what was said of an image, but mixed images are others each time; "
            "leave out mixup and cutmix"
        )
    if isinstance(block, EnsembleSource):
        yield from ensemble(recipe, where, block)
    if getattr(block, "record", False) and recipe.data.views is None:
        yield f"{where}.record needs data.views, the number of recycled variations"


def above_it(recipe: "Recipe", name: str) -> list[str]:
    """What a source may be composed of."""
    names = [*(["teacher"] if recipe.teacher is not None else []), *recipe.sources]
    return names[: names.index(name)]


def ensemble(recipe: "Recipe", where: str, block: EnsembleSource) -> Iterator[str]:
    if block.mean == "probabilities" and not recipe.asked.exclusive:
        yield f"{where}.mean: probabilities is wrong for task: {recipe.task}; use logits"
    try:
        checked(block.weights, len(block.of))
    except LimbeckError as error:
        yield f"{where}.{error}"


def entry(recipe: "Recipe", i: int) -> Iterator[str]:
    """Sources and data that an entry of the objective reads, and that do not exist."""
    found = recipe.objective[i]
    known = [*recipe.teachers(), *OURS, *([PEERS] if recipe.students else [])]
    for name in found.asks:
        if name == "teacher" and name not in known:
            taught = recipe.chain is not None and recipe.chain.generations is not None
            if not taught and not any(other.asks_teacher for other in recipe.objective[:i]):
                cure = "; students write source: peers" if recipe.students else ""
                yield f"the recipe: the objective asks a teacher, but the recipe has none{cure}"
        elif name not in known:
            place = "" if isinstance(found, Method) else ".source"
            yield (
                f"objective.{i}{place}: a source must be one of {known}, got "
                f"{name!r}{close(name, known)}"
            )
    told = [*DATA, *(HALVES if recipe.data.pairs else ())]
    if isinstance(found, Method):
        halves = [name for whose, name in found.needs if whose == "data" and name in HALVES]
        if halves and not recipe.data.pairs:
            yield f"objective.{i}: {found.method} needs pairs of images; set data.pairs: view"
    else:
        for address in found.given.values():
            whose, _, name = address.partition(":")
            if whose == "data" and name not in told:
                yield f"objective.{i}.given: data are {told}, got {name!r}{close(name, told)}"


def pairs(recipe: "Recipe") -> Iterator[str]:
    """Batches that cannot be two halves."""
    data, settings = recipe.data, recipe.train
    if data.strong is not None:
        yield from strong(recipe)
    if data.pairs is None:
        return
    if settings.batch_size % (2 * settings.accumulate):
        pieces = f" in each of {settings.accumulate} pieces" if settings.accumulate > 1 else ""
        yield (
            f"train.batch_size must be even{pieces} where data.pairs makes batches of two halves, "
            f"got {settings.batch_size}"
        )
    if data.augment.mix() is not None:
        yield "data.pairs: mixed images belong to no pair; leave out mixup and cutmix"
    if data.pairs == "view" and data.augment.augment() is None and data.strong is None:
        yield "data.pairs: two views of an image are one without data.augment; add some"
    if data.views == 1:
        yield "data.pairs needs two views or more of each image, got data.views: 1"
    if data.pairs == "class" and not recipe.asked.exclusive:
        yield "data.pairs: class needs one class an image; it is for task: classification"


def strong(recipe: "Recipe") -> Iterator[str]:
    """What does not fit about how the half that learns varies."""
    data = recipe.data
    if data.strong is not None and data.strong.augment() is None:
        yield "data.strong names no variation; add some, or leave it out"
    if data.pairs is None:
        yield "data.strong is for the half of a pair that learns; set data.pairs: view"
    if data.views is not None and data.views % 2:
        yield (
            "data.views must be even with data.strong, so that a view is always strong or never, "
            f"got {data.views}"
        )


def exits(recipe: "Recipe") -> Iterator[str]:
    """Exits that the student does not have."""
    count = recipe.student.exit_count
    for i, found in enumerate(recipe.objective):
        if count is None and reads_exits(found):
            yield f"objective.{i} reads exits, but the student has none; set student.exits"
        said = found.keywords().get("exits") if isinstance(found, Method) else None
        if None not in (count, said) and said != count:
            yield f"objective.{i}.exits must be the student's {count}, got {said}; leave it out"


def sharded(recipe: "Recipe") -> Iterator[str]:
    """Teachers that the ranks cannot hold in parts."""
    held = [name for name, block in recipe.networks().items() if block.shard is not False]
    for name in held:
        where = f"sources.{name}" if name in recipe.sources else name
        if recipe.train.parallel != "fsdp":
            yield (
                f"{where}.shard needs train.parallel: fsdp, got {recipe.train.parallel}; set that, "
                "or leave out shard"
            )
        for route, block in recipe.sources.items():
            if isinstance(block, RoutedSource) and name in made_of(recipe, route):
                yield (
                    f"{where}.shard needs all ranks to ask at once, but sources.{route} asks "
                    f"{name!r} where its classes are; leave out shard, or the route"
                )
    taught = recipe.dense.of if recipe.dense else ["teacher"]
    for i, found in enumerate(recipe.objective):
        if set(held) & set(taught) and isinstance(found, Method) and takes_modules(found):
            yield (
                f"objective.{i}: {found.method} runs a module of the teacher, which must then be "
                "whole; leave out shard, or the method"
            )


def made_of(recipe: "Recipe", name: str) -> set[str]:
    """The names of all that a source asks, through others too."""
    if name not in recipe.sources:
        return set()
    own = set(members(recipe.sources[name])) & set(above_it(recipe, name))
    return own.union(*(made_of(recipe, each) for each in own))


def takes_modules(found: Method) -> bool:
    return any(isinstance(value, Place) for _, value in found.said())


def reads_exits(found: Any) -> bool:
    """Whether an entry reads what exits alone have."""
    return any(whose == "student" and name.startswith(EXITS) for whose, name in found.needs)


def merges(mapping: Mapping[str, str | list[str]] | None) -> bool:
    """Whether a class map makes one class of several."""
    return any(
        not isinstance(theirs, str) and len(theirs) > 1 for theirs in (mapping or {}).values()
    )
