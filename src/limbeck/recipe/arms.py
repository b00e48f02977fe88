"""The arms of a comparison: what the recipe's student becomes with and without its teacher."""

from typing import Any

from limbeck.errors import LimbeckError, RecipeError, close
from limbeck.recipe.methods import Method
from limbeck.recipe.schema import Recipe
from limbeck.recipe.terms import Term
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
    kept = truths(recipe) or [Term(loss="truth")]
    data = recipe.data.model_copy(update={"unlabelled": False})
    whole = weighted(kept, 1.0)
    return recipe.model_copy(update={"objective": whole, "data": data, "teacher": None})


def pseudo_labels(recipe: Recipe, loss: str) -> Recipe:
    """The teacher's decisions in place of everything else that it would teach.

    They have the weight of the first loss that they replace. A method's weight is one for values of
    its own size, so that in place of methods alone they share 1 equally with the truth, as in
    `limbeck.methods.hard`.
    """
    kept = truths(recipe)
    taught = [
        entry for entry in recipe.objective if isinstance(entry, Method) or not entry.is_truth
    ]
    if not taught:
        raise LimbeckError("a comparison needs a teacher's term in the objective")
    terms = [term for term in taught if isinstance(term, Term)]
    if not terms:
        share, source = 1 / (1 + len(kept)), "teacher" if recipe.teacher else "student"
        hard = Term(loss=loss, weight=share, source=source)
        return recipe.model_copy(update={"objective": [*weighted(kept, share), hard]})
    output = next((term.student or term.at for term in terms if term.of_output), None)
    size = {"weight": terms[0].weight, "balance": terms[0].balance if kept else None}
    hard = Term(loss=loss, at=output, source=terms[0].source, **size)
    return recipe.model_copy(update={"objective": [*kept, hard]})


def truths(recipe: Recipe) -> list[Term]:
    """The terms of the labels; that of a method becomes one of its own."""
    return [term for entry in recipe.objective if (term := truth_of(entry)) is not None]


def truth_of(entry: Term | Method) -> Term | None:
    """What an entry says of the labels, or None."""
    if isinstance(entry, Term):
        return entry if entry.is_truth else None
    weight = entry.truth_weight
    return None if weight == 0 else Term(loss="truth", weight=weight)


def weighted(terms: list[Term], weight: float) -> list[Term]:
    """The terms with another weight."""
    return [term.model_copy(update={"weight": weight, "balance": None}) for term in terms]


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
