"""Several students that teach one another, as a recipe has them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from limbeck.data import Images, derive
from limbeck.errors import LimbeckError
from limbeck.inputs import Preprocess
from limbeck.objective import Objective
from limbeck.reader import Reader
from limbeck.recipe.attention import Attended, attention
from limbeck.recipe.company import softened
from limbeck.schemes import Mutual
from limbeck.schemes.attention import attentive
from limbeck.schemes.beside import Sources
from limbeck.schemes.checks import check_names

if TYPE_CHECKING:
    from limbeck.recipe.networks import Model
    from limbeck.recipe.schema import Recipe

ENSEMBLE = "ensemble"  # what all students say together, beside them in an evaluation


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


def readers_of(recipe: "Recipe", reader_of: Callable[["Recipe"], Reader]) -> dict[str, Reader]:
    """The students of a recipe by name, each of which begins elsewhere.

    Args:
        reader_of: the reader of the only student of a recipe.
    """
    return {
        name: own_view(named(name, block, recipe, reader_of), k if recipe.data.own_views else 0)
        for k, (name, block) in enumerate((recipe.students or {}).items())
    }


def mutual(
    recipe: "Recipe",
    readers: Mapping[str, Reader],
    sources: Sources,
    objective: Objective,
    images: Images,
) -> Mutual:
    """The students of a recipe, with what they and their sources teach them."""
    if isinstance(recipe.teach, Attended):
        teach = attention(recipe.teach, readers, images, recipe.seed)
        return Mutual(readers, attentive(objective), sources=sources, teach=teach)
    temperature = next(iter(softened(recipe)), 1.0) if recipe.teach != "each" else 1.0
    return Mutual(readers, objective, sources=sources, teach=recipe.teach, temperature=temperature)


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
