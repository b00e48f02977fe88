"""What the students of a run came to: each of them, and all together."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck.checkpoint import load_weights
from limbeck.errors import LimbeckError, close
from limbeck.evaluate import evaluate
from limbeck.exits import without
from limbeck.reader import Reader
from limbeck.recipe.build import Built
from limbeck.recipe.students import ENSEMBLE
from limbeck.recipe.together import Together


class Seen(nn.Module):
    """A student and its view of an image as one network, so that several take the same images."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader, self.model = reader, reader.model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.reader.adapt(images))


def load_students(built: Built, folder: Path) -> None:
    """Gives every student of a run the weights that it was saved with last.

    Raises:
        LimbeckError: a file that is missing, or of another network.
    """
    if built.recipe.students is None:
        load_weights(without(built.distiller.student), folder / "student.safetensors")
        return
    for name, student in built.distiller.students.items():
        load_weights(student, folder / "students" / f"{name}.safetensors")


def assess_students(
    built: Built, folder: Path, teacher: tuple[nn.Module, Any] | None
) -> dict[str, Any]:
    """The evaluation of the first student, and in it those of all and of their ensemble.

    The teacher is asked once, beside the first.
    """
    load_students(built, folder)
    (first, reader), *others = built.distiller.readers.items()
    top = judged(built, reader.model, reader.adapt, teacher)
    found = {first: top} | {name: judged(built, r.model, r.adapt) for name, r in others}
    readers = built.distiller.readers.values()
    together = Together([*map(Seen, readers)], probabilities=built.recipe.asked.exclusive)
    ensemble = judged(built, together.to(built.device), lambda images: images)
    return {
        **top,
        "student": first,
        "students": {name: kept(built, each, top["teacher"]) for name, each in found.items()},
        ENSEMBLE: kept(built, ensemble, top["teacher"]),
    }


def kept(built: Built, document: dict[str, Any], teacher: dict[str, Any] | None) -> dict[str, Any]:
    """An evaluation with how much of the teacher's score it keeps, which stands elsewhere."""
    measure = built.recipe.asked.headline
    ratio = teacher and measure.retention(document[measure.key], teacher[measure.key])
    return document | {"teacher": None, "retention": ratio}


def judged(
    built: Built, model: nn.Module, adapt: Any, teacher: tuple[nn.Module, Any] | None = None
) -> dict[str, Any]:
    """The evaluation of one model on the test images."""
    data = built.recipe.data
    return evaluate(
        model,
        adapt,
        built.splits.test,
        workers=data.workers,
        teacher=teacher,
        split=data.test or data.valid or "valid",
        task=built.recipe.asked,
    )


def chosen(built: Built, student: str | None) -> str:
    """The name of a student of a run; the first unless said.

    Raises:
        LimbeckError: no such student.
    """
    names = list(built.distiller.students)
    if student is not None and (student not in names or built.recipe.students is None):
        known = f"students are {names}" if built.recipe.students else "this run has one student"
        raise LimbeckError(f"{known}, got {student!r}{close(student, names)}")
    return student or names[0]
