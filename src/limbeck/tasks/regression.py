"""Regression: numbers of an image, one for each quantity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limbeck.data import Images, number
from limbeck.losses import squared_error
from limbeck.losses.families import SIGMOID, SOFTMAX
from limbeck.tasks.answers import Answers
from limbeck.tasks.task import Batches, Judgement, Measure, Task, mean, share, unusable
from limbeck.tasks.task import signals as signals

MAE = Measure("mae", "MAE", "Mean absolute error", percent=False, higher=False, form=".4g")
R2 = Measure("r2", "R2", "R², the share of variance explained", percent=False)
KEPT = ("mae", "rmse", "r2")


class Tally(Answers):
    """What one model answered about every quantity.

    >>> from torch import tensor
    >>> tally = Tally(1)
    >>> tally.add(tensor([[1.0], [2.0], [5.0]]), tensor([[1.0], [2.0], [3.0]]))
    >>> scores = tally.scores(["weight"])
    >>> round(scores["mae"], 4), round(scores["rmse"], 4), scores["r2"]
    (0.6667, 1.1547, -1.0)
    """

    def scores(self, classes: Sequence[str]) -> dict[str, Any]:
        """Means over the quantities, each in its own unit; `null` where nothing can be said.

        R2 = 1 - sum (s - t)^2 / sum (t - mean t)^2, which targets that do not vary have not.
        `count` is the number of known targets.
        """
        columns = zip(classes, self.columns(), strict=True)
        rows = {name: errors(*column) for name, column in columns}
        return {
            "examples": self.examples(),
            **{key: mean(row[key] for row in rows.values()) for key in KEPT},
            "per_class": rows,
            "classes": list(classes),
        }


def errors(output: Tensor, target: Tensor) -> dict[str, float | int | None]:
    """The scores of one quantity."""
    n, off = len(target), output - target
    squares, spread = float((off**2).sum()), float(((target - target.mean()) ** 2).sum())
    return {
        "mae": share(float(off.abs().sum()), n),
        "rmse": (squares / n) ** 0.5 if n else None,
        "r2": 1 - squares / spread if n and spread else None,
        "count": n,
    }


@dataclass
class Likeness:
    """How alike two models answer: the mean absolute difference of their numbers."""

    numbers: int = 0
    apart: float = 0.0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        self.numbers += student.numel()
        self.apart += float((student.double() - teacher.double()).abs().sum())

    def document(self) -> dict[str, float | None]:
        return {"fidelity_mae": share(self.apart, self.numbers)}


def watched(batches: Batches, classes: Sequence[str]) -> dict[str, float | None]:
    counted = Tally(len(classes))
    counted.take(batches)
    scores = counted.scores(classes)
    return {key: scores[key] for key in KEPT}


def told(document: Mapping[str, Any]) -> str:
    return f"differs from its teacher by {MAE.shown(document['fidelity_mae'])} on average"


def fault(output: Tensor, classes: int) -> str | None:
    """Why a model's answers are no numbers, or None."""
    return unusable(output, classes, "number", "quantities")


def judge(who: str, output: Tensor, images: Images) -> Judgement:
    """A teacher's errors; it must say more than the mean of the targets does."""
    n, wrong = len(images), fault(output, len(images.classes))
    if wrong:
        return {"mae": None, "r2": None, "examples": n}, [f"{who} {wrong}"]
    counted = Tally(len(images.classes))
    counted.add(output, images.labels)
    scores = counted.scores(images.classes)
    lines = []
    if scores["r2"] is not None and scores["r2"] <= 0:
        lines.append(
            f"{who}'s R2 must be above 0 (the mean of the targets), got {R2.shown(scores['r2'])} "
            f"on {n} validation images; load trained weights, or name its quantities in its order"
        )
    return {"mae": scores["mae"], "r2": scores["r2"], "examples": n}, lines


def counts(images: Images) -> dict[str, int]:
    """How many targets of each quantity are known."""
    return dict(zip(images.classes, (~images.labels.isnan()).sum(0).tolist(), strict=True))


TASK = Task(
    name="regression",
    loss=squared_error,
    hard=None,
    instead=dict.fromkeys((*SOFTMAX, *SIGMOID), "squared_error") | {"cross_entropy": "truth"},
    cell=number,
    exclusive=False,
    measures=(
        MAE,
        Measure("rmse", "RMSE", "Root mean squared error", percent=False, higher=False, form=".4g"),
        R2,
    ),
    kept=KEPT,
    each=R2,
    tally=Tally,
    watched=watched,
    likeness=Likeness,
    told=told,
    fault=fault,
    judge=judge,
    counts=counts,
    signals=signals,
    guide=(
        "A network that measures images",
        "quantities",
        "dict(zip(CLASSES, logits[0].tolist()))",
    ),
)
