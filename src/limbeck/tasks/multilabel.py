"""Multi-label classification: each class is there or not, several at once or none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.data import ImageBatch, Images, flag
from limbeck.losses import binary_cross_entropy, binary_kl
from limbeck.losses.families import SOFTMAX
from limbeck.tasks import task
from limbeck.tasks.answers import Answers
from limbeck.tasks.task import Batches, Judgement, Measure, Task, mean, share, unusable

MAP = Measure("map", "mAP", "Mean average precision")


class Tally(Answers):
    """What one model answered about every class.

    >>> tally = Tally(1)
    >>> tally.add(torch.tensor([[2.0], [1.0], [-1.0]]), torch.tensor([[1.0], [0.0], [1.0]]))
    >>> scores = tally.scores(["cat"])
    >>> round(scores["map"], 4), scores["micro_f1"], round(scores["nll"], 4)
    (0.8333, 0.5, 0.9178)
    """

    def scores(self, classes: Sequence[str]) -> dict[str, Any]:
        """Average precision, F1 at 0.5, and likelihood; `null` where there is nothing to divide by.

        `map` and `macro_f1` are means over the classes that have a value: average precision needs
        a positive, F1 a positive or a false alarm. `micro_f1` counts all classes together. `nll` is
        the binary cross-entropy, summed over classes. `count` is the number of positives.
        """
        columns = list(self.columns())
        hits = [confusion(output, target) for output, target in columns]
        rows = {
            name: {"ap": average_precision(*column), "f1": f1(*hit), "count": int(column[1].sum())}
            for name, column, hit in zip(classes, columns, hits, strict=True)
        }
        output, target = self.whole()
        return {
            "examples": self.examples(),
            "map": mean(row["ap"] for row in rows.values()),
            "micro_f1": f1(*torch.tensor(hits).sum(0).tolist()),
            "macro_f1": mean(row["f1"] for row in rows.values()),
            "nll": float(binary_cross_entropy(output, withheld(target))),
            "per_class": rows,
            "classes": list(classes),
        }


@dataclass
class Likeness:
    """How alike two models answer: the same decisions, and KL(teacher || student)."""

    images: int = 0
    decisions: int = 0
    equal: int = 0
    nats: float = 0.0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        self.images += len(student)
        self.decisions += student.numel()
        self.equal += int(((student > 0) == (teacher > 0)).sum())
        self.nats += len(student) * float(binary_kl(student.double(), teacher.double()))

    def document(self) -> dict[str, float | None]:
        return {
            "agreement": share(self.equal, self.decisions),
            "fidelity_kl": share(self.nats, self.images),
        }


def average_precision(output: Tensor, target: Tensor) -> float | None:
    """sum_k (R_k - R_k-1) P_k over the distinct outputs from the highest down, or None.

    R_k and P_k are recall and precision of taking all that are at least the k-th; equal outputs are
    taken together, so that their order does not matter.

    >>> average_precision(torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    0.8333333333333333
    """
    positives = float(target.sum())
    if not positives:
        return None
    order = output.argsort(descending=True)
    output, found = output[order], target[order].double().cumsum(0)
    last = torch.cat([output[1:] != output[:-1], torch.ones(1, dtype=torch.bool)])
    found, taken = found[last], (last.nonzero().flatten() + 1).double()
    gained = found.diff(prepend=found.new_zeros(1))
    return float((gained * found / taken).sum()) / positives


def confusion(output: Tensor, target: Tensor) -> tuple[int, int, int]:
    """True positives, false positives and false negatives at a probability above 1/2."""
    said, there = output > 0, target > 0
    return int((said & there).sum()), int((said & ~there).sum()), int((~said & there).sum())


def f1(hits: int, alarms: int, misses: int) -> float | None:
    """2 hits / (2 hits + alarms + misses).

    >>> f1(1, 1, 0), f1(0, 0, 0)
    (0.6666666666666666, None)
    """
    return share(2 * hits, 2 * hits + alarms + misses)


def withheld(target: Tensor) -> Tensor:
    """Targets as losses take them: -100 where unknown."""
    return target.nan_to_num(nan=-100.0)


def signals(batch: ImageBatch, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """As for every task, unknown targets -100."""
    inputs, data = task.signals(batch, device)
    return inputs, data | {"target": withheld(data["target"])}


def watched(batches: Batches, classes: Sequence[str]) -> dict[str, float | None]:
    counted = Tally(len(classes))
    counted.take(batches)
    scores = counted.scores(classes)
    return {key: scores[key] for key in ("map", "nll")}


def told(document: Mapping[str, Any]) -> str:
    return (
        f"same decisions as the teacher for {MAP.shown(document['agreement'])} of the labels; "
        f"KL(teacher || student) {document['fidelity_kl']:.4f} nats"
    )


def fault(output: Tensor, classes: int) -> str | None:
    """Why a model's answers are no logits, or None."""
    return unusable(output, classes, "logit", "classes")


def judge(who: str, output: Tensor, images: Images) -> Judgement:
    """A teacher's mean average precision, against how often the classes are there."""
    n, wrong = len(images), fault(output, len(images.classes))
    if wrong:
        return {"map": None, "prevalence": None, "examples": n}, [f"{who} {wrong}"]
    counted = Tally(len(images.classes))
    counted.add(output, images.labels)
    rates = [float(target.mean()) for _, target in counted.columns() if bool(target.any())]
    found, chance = counted.scores(images.classes)["map"], mean(rates)
    lines = []
    if bool(((output >= 0) & (output <= 1)).all()):
        lines.append(
            f"{who} must return logits, got probabilities (all in 0..1); remove its last sigmoid"
        )
    if found is not None and chance is not None and found < floor(chance):
        lines.append(
            f"{who}'s mAP must be at least {MAP.shown(floor(chance))} (where chance is "
            f"{MAP.shown(chance)}, how often a class is there), got {MAP.shown(found)} on {n} "
            "validation images; load trained weights, or name its classes in its order"
        )
    return {"map": found, "prevalence": chance, "examples": n}, lines


def floor(chance: float) -> float:
    """Twice chance; of frequent classes, half-way from chance to always right.

    >>> floor(0.1), floor(0.5)
    (0.2, 0.75)
    """
    return min(2 * chance, (1 + chance) / 2)


def counts(images: Images) -> dict[str, int]:
    """How often each class is there."""
    return dict(zip(images.classes, (images.labels == 1).sum(0).tolist(), strict=True))


TASK = Task(
    name="multilabel",
    loss=binary_cross_entropy,
    hard="binary_hard",
    instead=dict.fromkeys(SOFTMAX, "binary_kl") | {"hard": "binary_hard", "cross_entropy": "truth"},
    cell=flag,
    exclusive=False,
    measures=(
        MAP,
        Measure("micro_f1", "micro F1", "Micro F1 at 0.5"),
        Measure("macro_f1", "macro F1", "Macro F1 at 0.5"),
        Measure("nll", "NLL, nats", "Negative log-likelihood, nats", percent=False, higher=False),
    ),
    kept=("map", "micro_f1", "macro_f1", "nll"),
    each=Measure("ap", "AP", "Average precision"),
    tally=Tally,
    watched=watched,
    likeness=Likeness,
    told=told,
    fault=fault,
    judge=judge,
    counts=counts,
    signals=signals,
    guide=(
        "An image classifier of several labels",
        "classes",
        "[name for name, logit in zip(CLASSES, logits[0]) if logit > 0]",
    ),
)
