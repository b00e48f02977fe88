"""What is wrong with a foreign teacher, found on a few labelled samples before the first step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.checkpoint import first_line
from limbeck.errors import LimbeckError
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.kinds import kind_of
from limbeck.foreign.layouts import OTHER
from limbeck.foreign.orders import best_order, renamed
from limbeck.foreign.spec import Layout, listed

SURE = 3.0  # standard deviations
STEADY = 1e-3  # of the largest logit: what batches of another size may change


@dataclass(frozen=True)
class Probe:
    """What a teacher scored: `accuracy` of `samples`, None where none has the label of a class."""

    samples: int
    accuracy: float | None


def probe(
    teacher: Foreign, inputs: Any, labels: Tensor, *, classes: Sequence[str] | None = None
) -> Probe:
    """Asks a teacher about some labelled samples, all classes mixed; 200 and more are best.

    Looked for, in this order: names of classes that are not the data's; another number of classes;
    NaN and infinity; probabilities where logits are declared, and the other way round; answers that
    change from call to call, or with the batch; images in the other layout; columns in another
    order; chance. What is compared by accuracy must differ by three standard deviations.

    Args:
        teacher: the teacher.
        inputs: a batch of them, as the distiller gets it.
        labels: int64 (B,), -100 where withheld; of several flags a sample (B, classes) only the
            first four things can be found.
        classes: the names of the data's classes.

    Raises:
        LimbeckError: the first thing that is wrong, and what to do.

    Example:
        >>> from limbeck.foreign import Spec, function
        >>> x = torch.eye(3).repeat(8, 1)
        >>> probe(function(lambda x: 9 * x, Spec("logits", 3, "rows")), x, x.argmax(1)).accuracy
        1.0
        >>> probe(function(lambda x: x, Spec("logits", 3, "rows")), x, x.argmax(1))
        Traceback (most recent call last):
        limbeck.errors.LimbeckError: function:<lambda> says output: logits, but ... probabilities
    """
    if classes is not None:
        check_names(teacher, classes)
    x = teacher.adapted(inputs)
    answer = first_answer(teacher, x)
    check_finite(teacher, answer)
    check_kind(teacher, answer)
    check_steady(teacher, x, teacher.logits(answer))
    known = labels >= 0
    if labels.ndim > 1 or not bool(known.any()):
        return Probe(len(x), None)
    x, answer, labels = x[known], answer[known], labels[known]
    hits = right(teacher.logits(answer), labels)
    check_layout(teacher, x, labels, hits)
    check_order(teacher, teacher.logits(answer), labels, classes)
    check_chance(teacher, hits, labels)
    return Probe(len(labels), float(hits.float().mean()))


def check_names(teacher: Foreign, classes: Sequence[str]) -> None:
    """Raises LimbeckError unless the teacher's classes are the data's, in this order."""
    theirs, name = teacher.classes, teacher.runner.name
    if isinstance(theirs, int):
        if theirs != len(classes):
            raise LimbeckError(f"{name} has {theirs} classes, the data has {len(classes)}")
    elif set(theirs) == set(classes) and theirs != tuple(classes):
        k = next(k for k, pair in enumerate(zip(theirs, classes, strict=True)) if len({*pair}) > 1)
        raise LimbeckError(
            f"{name} has the data's classes in another order: class {k} is {theirs[k]!r} there and "
            f"{classes[k]!r} here; give order= the data's classes"
        )
    elif theirs != tuple(classes):
        missing = [each for each in classes if each not in theirs]
        extra = [each for each in theirs if each not in classes]
        what = f"it lacks {listed(missing)}" if missing else f"it also has {listed(extra)}"
        cure = (
            "name its columns by the data's names" if missing else "give order= the data's classes"
        )
        raise LimbeckError(f"{name} has other classes than the data: {what}; {cure}")


def first_answer(teacher: Foreign, x: Tensor) -> Tensor:
    """Its answer; raises LimbeckError where it can be asked in the other layout alone."""
    try:
        return teacher.columns_of(x)
    except Exception as error:  # of whatever framework
        other = OTHER[teacher.spec.layout]
        if x.ndim == 4 and runs(teacher, x, other):
            raise LimbeckError(
                f"{teacher.runner.name} cannot be asked in layout {teacher.spec.layout} "
                f"({first_line(error)}); say layout: {other}"
            ) from error
        raise


def runs(teacher: Foreign, x: Tensor, layout: Layout) -> bool:
    """Whether it answers at all in a layout."""
    try:
        teacher.columns_of(x, layout)
    except Exception:  # of whatever framework
        return False
    return True


def check_finite(teacher: Foreign, answer: Tensor) -> None:
    """Raises LimbeckError for NaN, and for infinities that are no log of a zero."""
    bad = answer.isnan() | (answer == math.inf)
    if teacher.spec.output != "log_probabilities":
        bad |= answer == -math.inf
    rows = bad.flatten(1).any(-1)
    if bool(rows.any()):
        first = int(rows.nonzero()[0])
        raise LimbeckError(
            f"{teacher.runner.name} answers NaN or infinity for {int(rows.sum())} of {len(rows)} "
            f"samples, the first is number {first}; the model is broken, or its inputs are not "
            "what it was trained on"
        )


def check_kind(teacher: Foreign, answer: Tensor) -> None:
    """Raises LimbeckError where the answers are of another kind than is declared."""
    told, seen = teacher.spec.output, kind_of(answer.flatten(0, -2))
    harmless = {("logits", "log_probabilities")}  # those are logits, too
    if told in seen or (told, *seen) in harmless:
        return
    raise LimbeckError(
        f"{teacher.runner.name} says output: {told}, but its answers look like "
        f"{' or '.join(seen)}; say output: {seen[0]}"
    )


def check_steady(teacher: Foreign, x: Tensor, logits: Tensor) -> None:
    """Raises LimbeckError where a sample's answer depends on the call or on its neighbours."""
    half = (len(x) + 1) // 2
    again = torch.cat([teacher.logits(teacher.columns_of(part)) for part in x.split(half)])
    change = float((again - logits).abs().max())
    if change > STEADY * max(float(logits.abs().max()), 1.0):
        raise LimbeckError(
            f"{teacher.runner.name} answers the same samples differently in smaller batches, by up "
            f"to {change:.3g}; it is in training mode or draws at random: save it in inference mode"
        )


def check_layout(teacher: Foreign, x: Tensor, labels: Tensor, hits: Tensor) -> None:
    """Raises LimbeckError where the other layout scores better."""
    told = teacher.spec.layout
    other = OTHER[told]
    if x.ndim != 4 or not runs(teacher, x, other):
        return
    found = right(teacher.logits(teacher.columns_of(x, other)), labels)
    if surely_better(found, hits):
        raise LimbeckError(
            f"{teacher.runner.name} scores {share(hits)} in layout {told} and {share(found)} in "
            f"layout {other}; say layout: {other}"
        )


def check_order(
    teacher: Foreign, logits: Tensor, labels: Tensor, classes: Sequence[str] | None
) -> None:
    """Raises LimbeckError where the classes in another order score better.

    The order is found on every other sample and judged on the rest.
    """
    order = best_order(logits[::2].argmax(-1), labels[::2], logits.shape[-1])
    rest, truth = logits[1::2], labels[1::2]
    found, hits = right(rest[:, order], truth), right(rest, truth)
    if not surely_better(found, hits) or float(found.float().mean()) < 0.5:
        return
    names = tuple(classes or map(str, range(logits.shape[-1])))
    raise LimbeckError(
        f"{teacher.runner.name} scores {share(hits)}, and {share(found)} with its columns in "
        f"another order: {renamed(order, names)}"
    )


def check_chance(teacher: Foreign, hits: Tensor, labels: Tensor) -> None:
    """Raises LimbeckError for a teacher that is no better than always saying one class."""
    n = len(labels)
    p = float(labels.bincount().max()) / n
    rate = float(hits.float().mean())
    if n > 1 and rate <= p + SURE * math.sqrt(p * (1 - p) / n) and rate < 1:
        raise LimbeckError(
            f"{teacher.runner.name} scores {share(hits)} of {n} samples, which is chance "
            f"({p:.3f}); its weights are untrained, or inputs= is not what it was trained with"
        )


def right(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(-1).to(labels.device) == labels


def share(hits: Tensor) -> str:
    return f"{float(hits.float().mean()):.3f}"


def surely_better(a: Tensor, b: Tensor) -> bool:
    """Whether more samples are right in `a` alone than in `b` alone, beyond chance (McNemar).

    >>> few, all = torch.zeros(20, dtype=torch.bool), torch.ones(20, dtype=torch.bool)
    >>> surely_better(all, few), surely_better(all, all)
    (True, False)
    """
    gained, lost = int((a & ~b).sum()), int((b & ~a).sum())
    return gained - lost > SURE * math.sqrt(max(gained + lost, 1))
