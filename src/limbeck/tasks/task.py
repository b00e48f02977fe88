"""What a task is: the kind of question that a model answers about an image."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.data import ImageBatch, Images, in_order
from limbeck.data.table import Cell
from limbeck.modes import evaluating
from limbeck.objective import Loss
from limbeck.taps import describe

Batches = Iterable[tuple[Tensor, Tensor]]
Judgement = tuple[dict[str, float | int | None], list[str]]


@dataclass(frozen=True)
class Measure:
    """A number that says how good a model is.

    `key` names it in documents, `label` on a terminal, `title` in a report. A `percent` is a share,
    whose differences are points; anything else is shown in the format `form`. `noun` is a word for
    it, where the label is none, and `phrase` how it is told.

    >>> top1, mae = Measure("top1", "top-1", "Top-1"), Measure("mae", "MAE", "MAE", False, False)
    >>> top1.shown(0.9124), top1.difference(0.0421), mae.difference(-0.5)
    ('91.24 %', '+4.21 points', '-0.5000 MAE')
    """

    key: str
    label: str
    title: str
    percent: bool = True
    higher: bool = True
    form: str = ".4f"
    noun: str = ""
    phrase: str = "{label} {value}"

    @property
    def word(self) -> str:
        return self.noun or self.label

    @property
    def heading(self) -> str:
        return self.noun.capitalize() if self.noun else self.label

    def told(self, value: str) -> str:
        return self.phrase.format(label=self.label, value=value)

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is: a gain is `sign` times a difference."""
        return 1 if self.higher else -1

    @property
    def factor(self) -> int:
        """From the number to what is shown."""
        return 100 if self.percent else 1

    @property
    def axis(self) -> str:
        """The name of an axis."""
        return f"{self.label}, %" if self.percent else self.label

    @property
    def unit(self) -> str:
        """What a difference is in."""
        return "points" if self.percent else self.label

    def shown(self, value: float) -> str:
        return f"{100 * value:.2f} %" if self.percent else f"{value:{self.form}}"

    def signed(self, value: float) -> str:
        """A difference, without its unit."""
        return f"{100 * value:+.2f}" if self.percent else f"{value:+{self.form}}"

    def difference(self, value: float) -> str:
        return f"{self.signed(value)} {self.unit}"

    def retention(self, student: float | None, teacher: float | None) -> float | None:
        """How much of the teacher's the student has: 1 is all, less is worse."""
        whole, part = (teacher, student) if self.higher else (student, teacher)
        return None if part is None or not whole else part / whole

    def kept(self, retention: float, digits: int = 2) -> str:
        """A retention as what the student's score is of its teacher's.

        >>> Measure("top1", "top-1", "Top-1").kept(0.97)
        '97.00 % of'
        >>> Measure("mae", "MAE", "MAE", higher=False).kept(0.8)
        '1.25 times'
        """
        if self.higher or not retention:
            return f"{100 * retention:.{digits}f} % of"
        return f"{1 / retention:.{digits}f} times"


class Tally(Protocol):
    """What one model answered, the scores that this makes, and why it was no answer, if so."""

    def add(self, logits: Tensor, target: Tensor) -> None: ...

    def scores(self, classes: Sequence[str]) -> dict[str, Any]: ...

    def fault(self) -> str | None: ...


class Likeness(Protocol):
    """How alike a student and its teacher answer; None where nothing was added."""

    def add(self, student: Tensor, teacher: Tensor) -> None: ...

    def document(self) -> dict[str, float | None]: ...


@dataclass(frozen=True)
class Task:
    """Everything that depends on what is asked: nothing else looks at which task it has.

    Args:
        name: the recipe's word.
        loss: the truth's.
        hard: the loss that takes the teacher's own decisions for labels, if there is one.
        instead: losses of outputs that are wrong here, each with the right one.
        cell: reads a target in a labels file; None where data are folders of classes.
        exclusive: an image has one class alone.
        measures: how good a model is. The first is the headline: it chooses the best checkpoint,
            and arms are compared by it.
        kept: the keys of those that a comparison keeps.
        each: the measure of a single class.
        tally: counts the answers about so many classes.
        watched: the scores that training writes, of batches and the names of the classes.
        likeness: counts how alike two models answer.
        told: a likeness in words.
        fault: why outputs for so many classes are no answers, or None.
        judge: how good a teacher (called so) is by its outputs for labelled images, and lines about
            what must not stay.
        counts: how many labels each class has.
        signals: of a batch, what models and objectives read.
        guide: an exported student in words: what it is, of what, and Python that reads `logits`.
    """

    name: str
    loss: Loss
    hard: str | None
    instead: Mapping[str, str]
    cell: Cell | None
    exclusive: bool
    measures: tuple[Measure, ...]
    kept: tuple[str, ...]
    each: Measure
    tally: Callable[[int], Tally]
    watched: Callable[[Batches, Sequence[str]], dict[str, float | None]]
    likeness: Callable[[], Likeness]
    told: Callable[[Mapping[str, Any]], str]
    fault: Callable[[Tensor, int], str | None]
    judge: Callable[[str, Tensor, Images], Judgement]
    counts: Callable[[Images], dict[str, int]]
    signals: Callable[[ImageBatch, torch.device], tuple[Tensor, dict[str, Tensor]]]
    guide: tuple[str, str, str]

    @property
    def headline(self) -> Measure:
        return self.measures[0]


def signals(batch: ImageBatch, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
    """The inputs of the models, and the data that objectives and sources read."""
    data = {"target": batch.target, "ids": batch.ids, "view": batch.view}
    if batch.halves == 2:
        data["first"] = torch.arange(len(batch.ids)) < len(batch.ids) // 2
        data["second"] = ~data["first"]
    on = {name: value.to(device, non_blocking=True) for name, value in data.items()}
    return batch.images.to(device, non_blocking=True), on


def predictions(
    model: nn.Module,
    adapt: Callable[[Any], Any],
    images: Images,
    *,
    batch_size: int = 256,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs (float32, on the CPU) and labels of all images in order, in eval mode."""
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluating(model):
        for batch in in_order(images, batch_size, workers=workers):
            logits = model(adapt(batch.images.to(device)))
            yield logits.float().cpu(), batch.target


def unusable(output: Tensor, classes: int, answer: str, things: str) -> str | None:
    """Why outputs are not one finite `answer` for each of the data's `things`, or None."""
    if output.ndim != 2 or output.shape[1] != classes:
        return (
            f"must answer with a {answer} for each of the data's {classes} {things}, "
            f"got {describe(output)}; name its {things}, or fit its head"
        )
    if not bool(output.isfinite().all()):
        return f"must answer with finite {answer}s, got NaN or infinity; look at its weights"
    return None


def share(part: float, whole: float) -> float | None:
    """The ratio, or None where there is no whole."""
    return part / whole if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known, or None."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
