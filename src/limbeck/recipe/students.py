"""Several students that teach one another, as a recipe has them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from limbeck.data import derive
from limbeck.errors import LimbeckError
from limbeck.inputs import Preprocess
from limbeck.objective import Objective
from limbeck.reader import Reader
from limbeck.recipe.methods import Method
from limbeck.schemes import Mutual
from limbeck.schemes.checks import check_names
from limbeck.schemes.taught import PEERS

if TYPE_CHECKING:
    from limbeck.recipe.schema import Model, Recipe

ENSEMBLE = "ensemble"  # what all students say together, beside them in an evaluation
BY_LABEL = ("naive", "linear", "minlogit")  # read the labels of the batch


def check_group(student: Any, students: Any) -> None:
    """Refuses both of `student` and `students`, or none, and names that cannot be.

    Raises:
        LimbeckError: with the reason.
    """
    if student is not None and students is not None:
        raise LimbeckError("a recipe has a student or students; leave one of them out")
    if student is None and students is None:
        raise LimbeckError("a recipe needs a student, or students that teach one another")
    if students is None:
        return
    check_names(students)
    if ENSEMBLE in students:
        raise LimbeckError(f"{ENSEMBLE!r} is what all students say together; name it otherwise")


def faults(recipe: "Recipe") -> Iterator[str]:
    """A line for everything about students that does not fit."""
    if recipe.students is None:
        yield from faults_of_one(recipe)
        return
    others = {"teacher": recipe.teacher, "sources": recipe.sources, "chain": recipe.chain}
    for key, value in others.items():
        if value:
            yield f"{key}: students learn from one another alone; leave it out, or the students"
    if recipe.data.pairs is not None:
        yield "data.pairs: halves of a batch belong to one student; leave it out"
    for name, block in recipe.students.items():
        if block.exits is not None:
            yield f"students.{name}.exits: exits are for a student alone; leave them out"
    if recipe.data.own_views and recipe.data.augment.augment() is None:
        yield "data.own_views: every student sees the same without data.augment; add some"
    yield from faults_of_teaching(recipe)


def faults_of_one(recipe: "Recipe") -> Iterator[str]:
    """What needs several students."""
    if recipe.data.own_views:
        yield "data.own_views is for several students; name students instead of a student"
    if recipe.teach != "each":
        yield f"teach: {recipe.teach} is for several students; name students instead of a student"


def faults_of_teaching(recipe: "Recipe") -> Iterator[str]:
    """What does not fit about one answer of all students."""
    if recipe.teach == "each":
        return
    if not recipe.asked.exclusive:
        yield (
            f"teach: {recipe.teach} combines probabilities of one class an image; with task: "
            f"{recipe.task} use each"
        )
    if recipe.teach in BY_LABEL and recipe.data.augment.mix() is not None:
        yield f"teach: {recipe.teach} reads labels, but mixed images have no one class; use mean"
    if len(softened(recipe)) > 1:
        yield (
            f"teach: {recipe.teach} is softened by the temperature of the terms with source: "
            f"peers, which must be one number, got {softened(recipe)}"
        )
    if any(not isinstance(each, int | float) for each in softened(recipe)):
        yield f"teach: {recipe.teach} needs a temperature that is a number, got a schedule"


def softened(recipe: "Recipe") -> list[Any]:
    """The temperatures at which terms read from the peers, each once."""
    found: list[Any] = []
    for entry in recipe.objective:
        if isinstance(entry, Method) or entry.is_truth or entry.source != PEERS:
            continue
        temperature = entry.keywords().get("temperature", 1.0)
        if temperature not in found:
            found.append(temperature)
    return found


def mutual(
    recipe: "Recipe", objective: Objective, reader_of: Callable[["Recipe"], Reader]
) -> Mutual:
    """The students of a recipe, each of which begins elsewhere, with what they teach one another.

    Args:
        reader_of: the reader of the only student of a recipe.
    """
    students = recipe.students or {}
    readers = {
        name: own_view(named(name, block, recipe, reader_of), k if recipe.data.own_views else 0)
        for k, (name, block) in enumerate(students.items())
    }
    temperature = next(iter(softened(recipe)), 1.0) if recipe.teach != "each" else 1.0
    return Mutual(readers, objective, teach=recipe.teach, temperature=temperature)


def named(
    name: str, block: "Model", recipe: "Recipe", reader_of: Callable[["Recipe"], Reader]
) -> Reader:
    """One student; what is wrong with it is said with its key."""
    try:
        return reader_of(alone(recipe, name, block))
    except LimbeckError as error:
        raise LimbeckError(f"students.{name}: {error}") from error


def alone(recipe: "Recipe", name: str, block: "Model") -> "Recipe":
    """The recipe of a student by itself; its weights begin from a seed of its own."""
    seed = derive(recipe.seed, f"student {name}")
    return recipe.model_copy(update={"student": block, "students": None, "seed": seed})


def own_view(reader: Reader, view: int) -> Reader:
    """The student that sees variation number `view` of an image."""
    if isinstance(reader.inputs, Preprocess):
        reader.inputs = replace(reader.inputs, view=view)
    return reader
