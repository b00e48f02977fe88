"""The arms of a comparison: what the recipe's student becomes with and without its teacher."""

from collections.abc import Collection
from typing import Any

from limbeck.errors import LimbeckError, RecipeError, close
from limbeck.recipe.branches import reads_branches
from limbeck.recipe.kinds import Composed, EnsembleSource, ForeignSource, StoredSource
from limbeck.recipe.methods import Method
from limbeck.recipe.networks import Model, Teacher
from limbeck.recipe.schema import Recipe
from limbeck.recipe.terms import Term
from limbeck.recipe.text import set_value, validate
from limbeck.recipe.whole import reads_exits
from limbeck.schemes.taught import PEERS
from limbeck.store import Store, place

LABELS, HARD, DISTILLED = "labels only", "hard pseudo-labels", "distilled"
DIRECT, MUTUAL, BOTH = "distilled directly", "mutual", "distilled and mutual"


def arms_of(recipe: Recipe) -> dict[str, Recipe]:
    """The arms of every comparison, and those that the recipe names.

    Pseudo-labels are the decisions of networks that teach, so that a task of numbers has no such
    arm, nor has a student that teaches itself. A chain has one beside it in which its teacher
    teaches the student directly. Students that teach one another are beside the same students, each
    of which learns from labels alone; those that have a teacher too are also beside themselves with
    the teacher alone and with one another alone, so that each gain is seen by itself.

    All have the same student and the same steps and images a step; those that train on the same
    images see them in the same order.
    """
    alone, hard = recipe.model_copy(update={"chain": None}), recipe.asked.hard
    born_again = recipe.chain is not None and recipe.teacher is None
    if all(isinstance(entry, Term) and entry.is_truth for entry in recipe.objective):
        raise LimbeckError("a comparison needs a teacher's term in the objective")
    decided = {} if hard is None or not deciders(alone) else {HARD: pseudo_labels(alone, hard)}
    directly = {} if recipe.chain is None or born_again else {DIRECT: alone}
    subject = subject_of(recipe)
    parts = {DISTILLED: apart(recipe), MUTUAL: among(recipe)} if subject == BOTH else {}
    arms = {LABELS: labels_only(recipe), **decided, **directly, **parts, subject: recipe}
    for name, overrides in recipe.compare.arms.items():
        if name in arms:
            raise LimbeckError(f"compare.arms: {name!r} is an arm of every comparison already")
        try:
            arms[name] = changed(recipe, overrides)
        except RecipeError as error:
            lines = [f"compare.arms.{name}: {line}" for line in error.problems]
            raise RecipeError(lines) from error
    return arms


def subject_of(recipe: Recipe) -> str:
    """The name of the recipe itself among its arms, by who teaches."""
    asked = {name for entry in recipe.objective for name in entry.asks}
    if PEERS not in asked:
        return DISTILLED
    return BOTH if asked & recipe.teachers().keys() else MUTUAL


def apart(recipe: Recipe) -> Recipe:
    """Each of several students with its teachers, and without the others."""
    own = {"teach": "each", "objective": untaught(recipe, [PEERS])}
    return recipe.model_copy(update=own)


def among(recipe: Recipe) -> Recipe:
    """Several students that teach one another, and have no teacher."""
    without = {"teacher": None, "sources": {}, "dense": None}
    own = {"objective": untaught(recipe, recipe.teachers())}
    return recipe.model_copy(update=without | own)


def untaught(recipe: Recipe, sources: Collection[str]) -> list[Term | Method]:
    """The objective without what reads from these sources, of which the labels stay."""
    found = [
        entry if not set(entry.asks) & set(sources) else truth_of(entry)
        for entry in recipe.objective
    ]
    return [entry for entry in found if entry is not None] or [Term(loss="truth")]


def labels_only(recipe: Recipe) -> Recipe:
    """The labelled images and the truth, with weight 1 and no teacher."""
    kept = truths(recipe) or [Term(loss="truth")]
    data = recipe.data.model_copy(update={"unlabelled": False})
    whole = weighted(kept, 1.0)
    alone = {"teacher": None, "sources": {}, "chain": None, "dense": None, **without_exits(recipe)}
    own = {"objective": whole, "data": data, "teach": "each"}
    return recipe.model_copy(update={**own, **alone})


def pseudo_labels(recipe: Recipe, loss: str) -> Recipe:
    """What the networks that teach decide, in place of everything else that is taught.

    Of several it is what their mean decides. They have the weight of the first loss that they
    replace. A method's weight is one for values of its own size, so that in place of methods alone
    they share 1 equally with the truth, as in `limbeck.methods.hard`.
    """
    kept, who = truths(recipe), deciders(recipe)
    source, sources = who[0], recipe.sources
    if len(who) > 1:
        source = "teachers" if "teachers" not in sources else "all-teachers"
        mean = "probabilities" if recipe.asked.exclusive else "logits"
        sources = {**sources, source: EnsembleSource(kind="ensemble", of=who, mean=mean)}
    own = {"sources": sources, "teach": "each", **without_exits(recipe)}
    whole = recipe.model_copy(update=own)
    taught = [entry for entry in recipe.objective if isinstance(entry, Term) and not entry.is_truth]
    terms = [term for term in taught if term.source in who]
    if not terms:
        share = 1 / (1 + len(kept))
        hard = Term(loss=loss, weight=share, source=source)
        return whole.model_copy(update={"objective": [*weighted(kept, share), hard]})
    output = next((term.student or term.at for term in terms if term.of_output), None)
    size = {"weight": terms[0].weight, "balance": terms[0].balance if kept else None}
    hard = bare(Term(loss=loss, at=output, source=source, **size), recipe)
    return whole.model_copy(update={"objective": [*kept, hard]})


def deciders(recipe: Recipe) -> list[str]:
    """The sources that the objective reads and that are networks or whole answers of networks."""
    read = [name for entry in recipe.objective for name in entry.asks]
    return [name for name in dict.fromkeys(read) if decides(recipe, name)]


def decides(recipe: Recipe, name: str) -> bool:
    block = recipe.teachers().get(name)
    if isinstance(block, Composed):
        return all(decides(recipe, member) for member in block.of)
    if isinstance(block, StoredSource):
        return "output" in Store(place(block.path)).signals()
    return isinstance(block, Teacher | ForeignSource)


def without_exits(recipe: Recipe) -> dict[str, Model]:
    """The plain student, which an arm without their terms trains."""
    return {"student": recipe.student.model_copy(update={"exits": None, "branches": None})}


def bare(term: Term, recipe: Recipe) -> Term:
    """A term of the output of a student with exits or branches, as one of the plain student's."""
    field = (term.student or term.at or "").startswith("output.")
    more = recipe.student.exits is not None or recipe.student.branches is not None
    return term.model_copy(update={"student": None, "at": None}) if more and field else term


def truths(recipe: Recipe) -> list[Term]:
    """The terms of the labels; that of a method becomes its own, those of exits and branches go."""
    found = [term for entry in recipe.objective if (term := truth_of(entry)) is not None]
    kept = [term for term in found if not reads_exits(term) and not reads_branches(term)]
    return [bare(term, recipe) for term in kept]


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
