"""What of several students does not fit, in one line each."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from limbeck.recipe.attention import Attended
from limbeck.recipe.attention import faults as attention
from limbeck.recipe.kinds import Composed, OfStudent, ViewSource
from limbeck.recipe.methods import Method
from limbeck.schemes.taught import PEERS

if TYPE_CHECKING:
    from limbeck.recipe.schema import Recipe

BY_LABEL = ("naive", "linear", "minlogit")  # read the labels of the batch


def faults(recipe: "Recipe") -> Iterator[str]:
    """A line for everything about students that does not fit."""
    if recipe.students is None:
        yield from faults_of_one(recipe)
        return
    if recipe.chain is not None:
        yield "chain: the stages of a chain have one student each; leave it out, or the students"
    if recipe.data.pairs is not None:
        yield "data.pairs: halves of a batch belong to one student; leave it out"
    for name, block in recipe.students.items():
        if block.exits is not None:
            yield f"students.{name}.exits: exits are for a student alone; leave them out"
    yield from faults_of_views(recipe)
    yield from faults_of_sources(recipe)
    yield from faults_of_teaching(recipe)


def faults_of_one(recipe: "Recipe") -> Iterator[str]:
    """What needs several students."""
    if recipe.data.own_views:
        yield "data.own_views is for several students; name students instead of a student"
    if recipe.teach != "each":
        kind = recipe.teach.kind if isinstance(recipe.teach, Attended) else recipe.teach
        yield f"teach: {kind} is for several students; name students instead of a student"


def faults_of_views(recipe: "Recipe") -> Iterator[str]:
    """What variation each student sees."""
    if not recipe.data.own_views:
        return
    if recipe.data.augment.augment() is None:
        yield "data.own_views: every student sees the same without data.augment; add some"
    for name in recipe.networks():
        who = "the teacher" if name == "teacher" and recipe.teacher else f"sources.{name}"
        yield (
            f"data.own_views: {who} answers once for all students, of one variation of an image, "
            "which all must see then; leave out own_views, or what teaches"
        )
        return


def faults_of_sources(recipe: "Recipe") -> Iterator[str]:
    """Sources that students cannot share."""
    for name in recipe.students or ():
        if name in recipe.teachers():
            yield f"students.{name}: {name!r} is a source already; name the student otherwise"
    for name, block in recipe.sources.items():
        if name == PEERS:
            yield f"sources.{name}: {name!r} are the other students; name yours otherwise"
        if isinstance(block, ViewSource):
            yield f"sources.{name}: the other image of a pair is for a student alone; leave it out"
        for member in block.of if isinstance(block, Composed) else ():
            if isinstance(recipe.sources.get(member), OfStudent):
                yield (
                    f"sources.{name}.of: {member!r} is another one for each student, and "
                    f"{name!r} is one for all; leave {member!r} out"
                )


def faults_of_teaching(recipe: "Recipe") -> Iterator[str]:
    """What does not fit about one answer of all students."""
    if recipe.teach == "each":
        return
    if isinstance(recipe.teach, Attended):
        yield from attention(recipe, recipe.teach)
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
