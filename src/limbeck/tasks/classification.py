"""Image classification: one of several classes, a folder each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.data import Images
from limbeck.losses import cross_entropy, kl
from limbeck.tasks.tally import PROBABILITIES, Tally, are_probabilities
from limbeck.tasks.task import Batches, Judgement, Measure, Task, share, unusable
from limbeck.tasks.task import predictions as predictions
from limbeck.tasks.task import signals as signals

TOP1 = Measure("top1", "top-1", "Top-1", noun="accuracy", phrase="{value} right")


@dataclass(frozen=True)
class Score:
    """Top-1 accuracy and negative log-likelihood (nats) of labelled images."""

    top1: float
    nll: float
    examples: int

    @classmethod
    def of(cls, batches: Batches) -> "Score":
        right = nll = 0.0
        n = 0
        for logits, target in batches:
            known = target >= 0
            logits, target = logits[known], target[known]
            log_q = torch.log_softmax(logits.double(), -1)
            nll -= float(log_q.gather(1, target[:, None]).sum())
            right += int((logits.argmax(1) == target).sum())
            n += len(target)
        return cls(right / n, nll / n, n) if n else cls(math.nan, math.nan, 0)


@dataclass
class Likeness:
    """How alike two classifiers answer: the same first class, and KL(teacher || student)."""

    images: int = 0
    equal: int = 0
    nats: float = 0.0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        self.images += len(student)
        self.equal += int((student.argmax(1) == teacher.argmax(1)).sum())
        self.nats += len(student) * float(kl(student.double(), teacher.double()))

    def document(self) -> dict[str, float | None]:
        return {
            "agreement": share(self.equal, self.images),
            "fidelity_kl": share(self.nats, self.images),
        }


def watched(batches: Batches, classes: Sequence[str]) -> dict[str, float | None]:
    score = Score.of(batches)
    return {"top1": score.top1, "nll": score.nll}


def told(document: Mapping[str, Any]) -> str:
    return (
        f"same answer as the teacher for {TOP1.shown(document['agreement'])} of the images; "
        f"KL(teacher || student) {document['fidelity_kl']:.4f} nats"
    )


def fault(output: Tensor, classes: int) -> str | None:
    """Why a model's answers are no logits, or None."""
    wrong = unusable(output, classes, "logit", "classes")
    return PROBABILITIES if wrong is None and are_probabilities(output) else wrong


def judge(who: str, output: Tensor, images: Images) -> Judgement:
    """A teacher's accuracy, and under the best other naming of its classes."""
    classes, n = len(images.classes), len(images)
    wrong = fault(output, classes)
    lines = [f"{who} {wrong}"] if wrong else []
    if output.ndim != 2 or output.shape[1] != classes:
        return {"top1": None, "top1_renamed": None, "examples": n}, lines
    pairs = torch.bincount(images.labels * classes + output.argmax(1), minlength=classes**2)
    confusion = pairs.view(classes, classes)
    top1 = int(confusion.diag().sum()) / n
    renamed = int(confusion.max(0).values.sum()) / n
    if top1 < floor(classes):
        lines.append(below(who, top1, renamed, images))
    return {"top1": top1, "top1_renamed": renamed, "examples": n}, lines


def floor(classes: int) -> float:
    """Twice chance; of two classes, half-way from chance to always right.

    >>> floor(10), floor(2)
    (0.2, 0.75)
    """
    return min(2 / classes, (1 + 1 / classes) / 2)


def below(who: str, top1: float, renamed: float, images: Images) -> str:
    """The line about a teacher that knows nothing, or knows it by other names."""
    classes = len(images.classes)
    least = "twice chance" if classes > 2 else "half-way from chance"
    cure = "load trained weights"
    if renamed > 0.5 and renamed > 2 * floor(classes) and len(images) >= 5 * classes:
        cure = (
            f"with its classes named otherwise it would be {TOP1.shown(renamed)}: "
            "name them in its order, teacher.classes"
        )
    return (
        f"{who}'s top-1 must be at least {TOP1.shown(floor(classes))} ({least}), "
        f"got {TOP1.shown(top1)} on {len(images)} validation images; {cure}"
    )


def counts(images: Images) -> dict[str, int]:
    number = torch.bincount(images.labels[images.labelled], minlength=len(images.classes))
    return dict(zip(images.classes, number.tolist(), strict=True))


TASK = Task(
    name="classification",
    loss=cross_entropy,
    hard="hard",
    instead={},
    cell=None,
    exclusive=True,
    measures=(
        TOP1,
        Measure("top5", "top-5", "Top-5"),
        Measure("nll", "NLL, nats", "Negative log-likelihood, nats", percent=False, higher=False),
        Measure("ece", "ECE", "Expected calibration error", percent=False, higher=False),
    ),
    kept=("top1", "nll", "ece"),
    each=TOP1,
    tally=Tally,
    watched=watched,
    likeness=Likeness,
    told=told,
    fault=fault,
    judge=judge,
    counts=counts,
    signals=signals,
    guide=("An image classifier", "classes", "CLASSES[int(logits.argmax())]"),
)
