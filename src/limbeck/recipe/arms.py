"""The arms of a comparison: what the recipe's student becomes with and without its teacher."""

from typing import Any

from limbeck.errors import LimbeckError, RecipeError, close
from limbeck.recipe.schema import Recipe, Term
from limbeck.recipe.text import set_value, validate

LABELS, HARD, DISTILLED = "labels only", "hard pseudo-labels", "distilled"


def arms_of(recipe: Recipe) -> dict[str, Recipe]:
    """The arms of every comparison, and those that the recipe names.

    Pseudo-labels are the teacher's decisions, so that a task of numbers has no such arm.

    All have the same student and the same steps and images a step; those that train on the same
    images see them in the same order.
    """
    decided = {} if recipe.asked.hard is None else {HARD: pseudo_labels(recipe, recipe.asked.hard)}
    arms = {LABELS: labels_only(recipe), **decided, DISTILLED: recipe}
    for name, overrides in recipe.compare.arms.items():
        if name in arms:
            raise LimbeckError(f"compare.arms: {name!r} is an arm of every comparison already")
        try:
            arms[name] = changed(recipe, overrides)
        except RecipeError as error:
            lines = [f"compare.arms.{name}: {line}" for line in error.problems]
            raise RecipeError(lines) from error
    return arms


def labels_only(recipe: Recipe) -> Recipe:
    """The labelled images and the truth, with weight 1 and no teacher."""
    truths = [term for term in recipe.objective if term.loss == "truth"]
    kept = truths or [Term(loss="truth")]
    whole = [term.model_copy(update={"weight": 1.0, "balance": None}) for term in kept]
    data = recipe.data.model_copy(update={"unlabelled": False})
    return recipe.model_copy(update={"objective": whole, "data": data, "teacher": None})


def pseudo_labels(recipe: Recipe, loss: str) -> Recipe:
    """The teacher's decisions in place of everything else that it would teach."""
    terms = [term for term in recipe.objective if term.loss == "truth"]
    taught = [term for term in recipe.objective if term.loss != "truth"]
    if not taught:
        raise LimbeckError("a comparison needs a teacher's term in the objective")
    output = next((term.student or term.at for term in taught if term.of_output), None)
    size = {"weight": taught[0].weight, "balance": taught[0].balance if terms else None}
    hard = Term(loss=loss, at=output, source=taught[0].source, **size)
    return recipe.model_copy(update={"objective": [*terms, hard]})


def changed(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe with dotted keys set."""
    raw = recipe.model_dump(mode="json", exclude_unset=True)
    for key, value in overrides.items():
        set_value(raw, key.split("."), value, key)
    return validate(raw)


def chosen(arms: dict[str, Recipe], names: tuple[str, ...]) -> dict[str, Recipe]:
    """The named arms, or all."""
    for name in names:
        if name not in arms:
            raise LimbeckError(f"arms are {list(arms)}, got {name!r}{close(name, arms)}")
    return {name: arms[name] for name in names} if names else arms
