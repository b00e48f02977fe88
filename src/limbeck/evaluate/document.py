"""A classifier's evaluation as one document, beside that of its teacher."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import Images, in_order
from limbeck.distiller import evaluating
from limbeck.errors import LimbeckError
from limbeck.evaluate.speed import speed
from limbeck.evaluate.tally import Tally, share
from limbeck.losses import kl
from limbeck.models import cost
from limbeck.taps import describe

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
) -> dict[str, Any]:
    """The evaluation of a classifier on the labelled ones of `images`, in one pass.

    Accuracy, likelihood (nats), calibration and cost, as `evaluation.json` holds them: only numbers
    and `null`. With a teacher also `retention` (top-1 over the teacher's), `agreement` (fraction of
    equal top-1 answers) and `fidelity_kl` (mean KL(teacher || student), nats).

    Args:
        model: returns logits (B, C) for adapted images.
        adapt: from images (B, C, H, W) in 0..255 to what the model takes.
        teacher: its model and what adapts images for it.
        split: a name for the images.

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
    judged = [Judged("student", model, adapt, images)]
    judged += [Judged("teacher", *teacher, images)] if teacher else []
    likeness = Likeness()
    for both in answers(judged, images, batch_size, workers):
        likeness.add(both[0], both[-1])
    documents = [each.document(batch_size) for each in judged]
    student, other = documents[0], documents[1] if teacher else None
    return {
        "split": split,
        **student,
        "teacher": other and {"split": split, **other},
        "retention": share(student["top1"], other["top1"]) if other else None,
        "agreement": likeness.agreement if teacher else None,
        "fidelity_kl": likeness.divergence if teacher else None,
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

    def __init__(self, role: str, model: nn.Module, adapt: Adapt, images: Images) -> None:
        self.role, self.model, self.adapt, self.images = role, model, adapt, images
        self.tally = Tally(len(images.classes))
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
        if self.tally.probabilities:
            raise LimbeckError(
                f"the {self.role} must return logits, got probabilities (non-negative, and every "
                "row sums to 1); remove its last softmax"
            )
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


@dataclass
class Likeness:
    """How alike two models answer."""

    images: int = 0
    equal: int = 0
    nats: float = 0.0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        self.images += len(student)
        self.equal += int((student.argmax(1) == teacher.argmax(1)).sum())
        self.nats += len(student) * float(kl(student.double(), teacher.double()))

    @property
    def agreement(self) -> float:
        return self.equal / self.images

    @property
    def divergence(self) -> float:
        """Mean KL(teacher || student), nats."""
        return self.nats / self.images
