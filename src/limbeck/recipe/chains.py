"""The trainings that a chain is made of, each an ordinary recipe."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.data import derive
from limbeck.errors import LimbeckError, RecipeError
from limbeck.models import build, preprocess_of
from limbeck.recipe.arms import labels_only
from limbeck.recipe.build import assemble, doubts
from limbeck.recipe.networks import Assistant, Model, Teacher
from limbeck.recipe.schema import Dense, Recipe
from limbeck.schemes.chains import TEACHER, Stage, assistants, generations
from limbeck.train.ranks import Ranks

log = logging.getLogger("limbeck")
STAGES = "stages"  # the folder of those before the last


@dataclass(frozen=True)
class Link:
    """A stage, the recipe that trains it, and the folder where that is done."""

    stage: Stage[Model]
    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        return self.stage.name


def stages(recipe: Recipe) -> list[Stage[Model]]:
    """The stages of a recipe with a chain, the student that it is about last."""
    chain = recipe.chain
    assert chain is not None
    if chain.generations is not None:
        return generations(recipe.student, chain.generations, teacher=recipe.teacher is not None)
    return assistants(chain.assistants or [], recipe.student, dense=chain.dense)


def links(recipe: Recipe, out: Path, *, trained: bool = True) -> list[Link]:
    """The stages with their recipes; the last is trained in `out` itself.

    Args:
        recipe: with a chain, its teacher fitted.
        trained: whether teachers have the weights that their stages leave; else fresh ones that
            stand in for them.
    """
    found, learnt = [], dict[str, Teacher]()
    *earlier, last = stages(recipe)
    for stage in earlier:
        home = out / STAGES / stage.name
        seed = derive(recipe.seed, stage.name) % 2**32
        found.append(Link(stage, one(recipe, stage, learnt, seed), home))
        weights = (home / "student.safetensors").resolve() if trained else None
        learnt[stage.name] = taught(stage, recipe, weights)
    return [*found, Link(last, one(recipe, last, learnt, recipe.seed), out)]


def one(recipe: Recipe, stage: Stage[Model], learnt: dict[str, Teacher], seed: int) -> Recipe:
    """The ordinary recipe of a stage: with a seed of its own the same images and labels.

    The last has the recipe's seed, so that it begins as the same student does without a chain.
    """
    data = recipe.data.model_copy(update={"labels_seed": labels_seed(recipe)})
    own = {
        "chain": None,
        "seed": seed,
        "student": plain(stage.model),
        "train": training(stage, recipe),
        "data": data,
    }
    made = recipe.model_copy(update=own)
    if not stage.teachers:
        return labels_only(made)
    first, *others = stage.teachers
    update: dict[str, Any] = {"teacher": recipe.teacher if first == TEACHER else learnt[first]}
    if others:
        assert recipe.chain is not None
        update["sources"] = {**recipe.sources, **{name: learnt[name] for name in others}}
        update["dense"] = Dense(of=list(stage.teachers), drop=recipe.chain.drop)
    return made.model_copy(update=update)


def labels_seed(recipe: Recipe) -> int:
    given = recipe.data.labels_seed
    return recipe.seed if given is None else given


def training(stage: Stage[Model], recipe: Recipe) -> Any:
    """How a stage is trained."""
    own = stage.model.train if isinstance(stage.model, Assistant) else None
    return own or recipe.train


def plain(model: Model) -> Model:
    """The block of an assistant as that of a student."""
    if not isinstance(model, Assistant):
        return model
    return Model(**{key: value for key, value in model if key in Model.model_fields})


def taught(stage: Stage[Model], recipe: Recipe, weights: Path | None) -> Teacher:
    """A stage's network as a teacher, which sees images as it did when it was trained."""
    said = dict(plain(stage.model)) | seen(stage.model)
    ready = {"pretrained": False, "fit_head": False, "outputs": None, "unsafe_pickle": False}
    own = {
        "checkpoint": weights,
        "exits": None,
        "channels_last": recipe.train.channels_last,
        "record": recipe.live is not None and recipe.live.record,
        "fit": None if weights else training(stage, recipe),
    }
    return Teacher.model_validate(said | ready | own)


def seen(model: Model) -> dict[str, Any]:
    """The normalisation of published weights, which a network that began with them keeps."""
    if not model.pretrained:
        return {}
    network = build(model.model, pretrained=model.pretrained, options=model.options)
    view = model.preprocess(preprocess_of(network, model.model, model.pretrained), False)
    return {"mean": view.mean, "std": view.std}


def direct(recipe: Recipe) -> Recipe:
    """The recipe without its chain: taught by its teacher, or by labels where it has none."""
    alone = recipe.model_copy(update={"chain": None})
    return alone if recipe.teacher is not None or recipe.chain is None else labels_only(alone)


def rehearse(recipe: Recipe, ranks: Ranks) -> list[str]:
    """What about the stages is probably not meant; each is put together, and run on one batch.

    Raises:
        LimbeckError: what cannot be put together, with the stage that it is about.
    """
    found = list[str]()
    splits = None
    with quiet():
        for link in links(recipe, Path(), trained=False):
            with named(link):
                built = assemble(link.recipe, ranks, splits)
                built.rehearse()
            splits = built.splits
            told = " ".join(found)
            found += [f"{link.name}: {doubt}" for doubt in doubts(built) if doubt not in told]
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings alone are logged for the time being."""
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


@contextmanager
def named(link: Link) -> Iterator[None]:
    """What goes wrong inside is told with the stage that it is about."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError([f"{link.name}: {line}" for line in error.problems]) from error
    except LimbeckError as error:
        raise LimbeckError(f"{link.name}: {error}") from error
