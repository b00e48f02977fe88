"""What the models weigh, and what they answer before anything is trained."""

from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.check.findings import Findings
from limbeck.data import Images, in_order, permutation
from limbeck.evaluate.tally import are_probabilities
from limbeck.evaluate.text import percent
from limbeck.models import cost, suspicious_weights
from limbeck.signals import Batch, Signals
from limbeck.sources import Ensemble, Frozen, Recorded, Source
from limbeck.sources.frozen import cast
from limbeck.taps import describe
from limbeck.tasks.classification import signals

SAMPLE, BATCH = 512, 128


def sample(images: Images | None) -> Images | None:
    """Some labelled images, all classes mixed; None where there are none."""
    if images is None or not len(images.labelled):
        return None
    order = torch.from_numpy(permutation(0, 0, len(images.labelled)).copy())
    return images.subset(images.labelled[order[:SAMPLE]])


def networks(source: Source) -> Iterator[Frozen]:
    """The frozen networks that a source is made of."""
    if isinstance(source, Frozen):
        yield source
    elif isinstance(source, Recorded):
        yield from networks(source.source)
    elif isinstance(source, Ensemble):
        for each in source.sources:
            yield from networks(each)


def weighed(source: Source, images: Tensor) -> dict[str, int]:
    """Parameters, bytes and FLOPs for one image, of all networks of a source together."""
    total = {"parameters": 0, "flops": 0, "bytes": 0}
    for network in networks(source):
        inputs = cast(network.inputs(images[:1]), network.dtype())
        for key, value in cost(network.model, inputs).items():
            total[key] += value
    return total


def ask(source: Source, images: Images, device: torch.device, workers: int) -> Tensor:
    """A source's output for all images, float32 on the CPU."""
    rows = []
    for batch in in_order(images, BATCH, workers=workers):
        inputs, data = signals(batch, device)
        answer = source(Batch(inputs, data), Signals(data=data), ["output"])
        rows.append(answer["output"].float().cpu())
    return torch.cat(rows)


def called(name: str) -> str:
    """A model in a sentence."""
    return f"the {name}" if name in ("teacher", "student") else f"the source {name!r}"


def untrained(name: str, source: Source) -> list[str]:
    """Why a source's weights cannot be trained ones."""
    reasons = [suspicious_weights(module) for module in source.modules()]
    return [
        f"{called(name)}'s weights must be trained ones, but {reason}; load a checkpoint"
        for reason in reasons
        if reason
    ]


def fault(logits: Tensor, classes: int) -> str | None:
    """Why a model's answers are no logits, or None."""
    if logits.ndim != 2 or logits.shape[1] != classes:
        return (
            f"must answer with a logit for each of the data's {classes} classes, "
            f"got {describe(logits)}; name its classes, or fit its head"
        )
    if not bool(logits.isfinite().all()):
        return "must answer with finite logits, got NaN or infinity; look at its weights"
    if are_probabilities(logits):
        return (
            "must return logits, got probabilities (non-negative, and every row sums to 1); "
            "remove its last softmax"
        )
    return None


def right(logits: Tensor, target: Tensor) -> float:
    """The fraction of rows (B, C) whose largest entry is at the target (B,)."""
    return int((logits.argmax(1) == target).sum()) / len(target)


def judged(
    name: str, logits: Tensor, images: Images, findings: Findings
) -> dict[str, float | int | None]:
    """A teacher's accuracy on labelled images, and under the best other naming of its classes."""
    classes, n = len(images.classes), len(images)
    wrong = fault(logits, classes)
    if wrong:
        findings.problems.append(f"{called(name)} {wrong}")
    if logits.ndim != 2 or logits.shape[1] != classes:
        return {"top1": None, "top1_renamed": None, "examples": n}
    pairs = torch.bincount(images.labels * classes + logits.argmax(1), minlength=classes**2)
    confusion = pairs.view(classes, classes)
    top1, renamed = right(logits, images.labels), int(confusion.max(0).values.sum()) / n
    if top1 < floor(classes):
        findings.problems.append(below(name, top1, renamed, images))
    return {"top1": top1, "top1_renamed": renamed, "examples": n}


def floor(classes: int) -> float:
    """Twice chance; of two classes, half-way from chance to always right.

    >>> floor(10), floor(2)
    (0.2, 0.75)
    """
    return min(2 / classes, (1 + 1 / classes) / 2)


def below(name: str, top1: float, renamed: float, images: Images) -> str:
    """The line about a teacher that knows nothing, or knows it by other names."""
    classes = len(images.classes)
    least = "twice chance" if classes > 2 else "half-way from chance"
    cure = "load trained weights"
    if renamed > 0.5 and renamed > 2 * floor(classes) and len(images) >= 5 * classes:
        cure = (
            f"with its classes named otherwise it would be {percent(renamed)}: "
            "name them in its order, teacher.classes"
        )
    return (
        f"{called(name)}'s top-1 must be at least {percent(floor(classes))} ({least}), "
        f"got {percent(top1)} on {len(images)} validation images; {cure}"
    )


def deviation(logits: Tensor, exact: Tensor) -> float:
    """The largest error of a logit, in standard deviations of the exact ones.

    >>> round(deviation(torch.tensor([[1.1, -1.0]]), torch.tensor([[1.0, -1.0]])), 3)
    0.071
    """
    return float((logits - exact).abs().max() / exact.std())
