"""A model's evaluation as one document, beside that of its teacher."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import Images, in_order
from limbeck.errors import LimbeckError
from limbeck.evaluate.speed import speed
from limbeck.models import cost
from limbeck.modes import evaluating
from limbeck.taps import describe
from limbeck.tasks import CLASSIFICATION, Task

Adapt = Callable[[Any], Any]


def evaluate(
    model: nn.Module,
    adapt: Adapt,
    images: Images,
    *,
    batch_size: int = 256,
    workers: int = 0,
    teacher: tuple[nn.Module, Adapt] | None = None,
    split: str = "test",
    task: Task = CLASSIFICATION,
) -> dict[str, Any]:
    """The evaluation of a model on the labelled ones of `images`, in one pass.

    The task's scores and the cost, as `evaluation.json` holds them: only numbers and `null`; of a
    classifier accuracy, likelihood (nats) and calibration. With a teacher also `retention` (the
    headline score over the teacher's, or the teacher's over it where lower is better) and how alike
    they answer; of classifiers `agreement` (fraction of equal top-1 answers) and `fidelity_kl`
    (mean KL(teacher || student), nats).

    Args:
        model: returns logits (B, C) for adapted images.
        adapt: from images (B, C, H, W) in 0..255 to what the model takes.
        teacher: its model and what adapts images for it.
        split: a name for the images.
        task: what is asked of an image.

    Raises:
        LimbeckError: no labelled images, another number of classes, answers that are no logits.

    Example:
        >>> from limbeck.inputs import Preprocess
        >>> pixels = torch.tensor([0, 255, 255], dtype=torch.uint8).view(3, 1, 1, 1)
        >>> images = Images(pixels, torch.tensor([0, 1, 0]), ("dark", "light"))
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
        >>> model[1].weight.data = torch.tensor([[-9.0], [9.0]])
        >>> document = evaluate(model, Preprocess((0.5,), (0.5,)), images)
        >>> round(document["top1"], 3), document["confusion"], document["parameters"]
        (0.667, [[1, 1], [0, 1]], 2)
    """
    images = labelled(images)
    judged = [Judged("student", model, adapt, images, task)]
    judged += [Judged("teacher", *teacher, images, task)] if teacher else []
    likeness = task.likeness()
    for student_says, *teacher_says in answers(judged, images, batch_size, workers):
        for answer in teacher_says:
            likeness.add(student_says, answer)
    documents = [each.document(batch_size) for each in judged]
    student, other = documents[0], documents[1] if teacher else None
    headline = task.headline
    return {
        "split": split,
        **student,
        "teacher": other and {"split": split, **other},
        "retention": other and headline.retention(student[headline.key], other[headline.key]),
        **likeness.document(),
    }


def labelled(images: Images) -> Images:
    """Those whose label is known; raises LimbeckError where there is none."""
    known = images.labelled
    if not len(known):
        raise LimbeckError(
            f"`images` must hold labelled images, got {len(images)} images without a label"
        )
    return images if len(known) == len(images) else images.subset(known)


class Judged:
    """A model under evaluation, its view of an image, and the tally of its answers."""

    def __init__(
        self, role: str, model: nn.Module, adapt: Adapt, images: Images, task: Task
    ) -> None:
        self.role, self.model, self.adapt, self.images = role, model, adapt, images
        self.tally = task.tally(len(images.classes))
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def answer(self, images: Tensor, target: Tensor) -> Tensor:
        """Logits, float32 on the CPU, counted."""
        output = self.model(self.adapt(images.to(self.device)))
        if not isinstance(output, Tensor) or output.ndim != 2:
            raise LimbeckError(
                f"the {self.role} must return logits (images, classes), got {describe(output)}"
            )
        logits = output.float().cpu()
        classes = len(self.images.classes)
        if logits.shape[1] != classes:
            raise LimbeckError(
                f"the {self.role} must have a logit for each class of the images, "
                f"got {logits.shape[1]} logits for {classes} classes"
            )
        if not bool(logits.isfinite().all()):
            raise LimbeckError(f"the {self.role}'s logits must be finite, got NaN or infinity")
        self.tally.add(logits, target)
        return logits

    def document(self, batch_size: int) -> dict[str, Any]:
        """Scores, cost and speed."""
        wrong = self.tally.fault()
        if wrong is not None:
            raise LimbeckError(f"the {self.role} {wrong}")
        ids = torch.arange(batch_size) % len(self.images)
        inputs = self.adapt(self.images.fetch(ids).to(self.device))
        scores = self.tally.scores(self.images.classes)
        return scores | cost(self.model, inputs[:1]) | speed(self.model, inputs)


def answers(
    judged: list[Judged], images: Images, batch_size: int, workers: int
) -> Iterator[list[Tensor]]:
    """The logits of all models for the same images, batch by batch."""
    models = nn.ModuleList(each.model for each in judged)
    for batch in in_order(images, batch_size, workers=workers):
        with torch.inference_mode(), evaluating(models):
            logits = [each.answer(batch.images, batch.target) for each in judged]
        yield logits
