"""What the models weigh, and what they answer before anything is trained."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from limbeck.data import Images, in_order, permutation
from limbeck.foreign import Foreign
from limbeck.models import cost, suspicious_weights
from limbeck.signals import Batch, Signals
from limbeck.sources import Drawn, Ema, Ensemble, Frozen, Recorded, Routed, Source
from limbeck.sources.frozen import cast
from limbeck.sources.several import Several
from limbeck.tasks import Task
from limbeck.train import Job

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
    elif isinstance(source, Several):
        for each in source.sources:
            yield from networks(each)


def answers_alone(source: Source) -> bool:
    """Whether it has an answer of its own that can be judged: one of trained networks."""
    if isinstance(source, Recorded):
        return answers_alone(source.source)
    if isinstance(source, Ensemble | Routed):
        return all(map(answers_alone, source.sources))
    return isinstance(source, Frozen | Foreign) and not isinstance(source, Ema)


def weighed(source: Source, images: Tensor) -> dict[str, int]:
    """Parameters, bytes and FLOPs for one image, of all networks of a source together."""
    total = {"parameters": 0, "flops": 0, "bytes": 0}
    for network in networks(source):
        inputs = cast(network.inputs(images[:1]), network.dtype())
        for key, value in cost(network.model, inputs).items():
            total[key] += value
    return total


def ask(source: Source, images: Images, job: Job) -> Tensor:
    """A source's output for all images, float32 on the CPU."""
    rows = []
    for batch in in_order(images, BATCH, workers=job.workers):
        inputs, data = job.task.signals(batch, job.device)
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


def headline(task: Task, output: Tensor, images: Images) -> float | None:
    """The task's first score of outputs for labelled images."""
    tally = task.tally(len(images.classes))
    tally.add(output, images.labels)
    return tally.scores(images.classes)[task.headline.key]


def of_each(source: Drawn, images: Images, job: Job) -> dict[str, Any]:
    """What a drawn source scores: each member, None without an answer of its own, and the mean."""
    key = job.task.headline.key
    scores = [
        of_member(each, images, job) if answers_alone(each) else None for each in source.sources
    ]
    known = [score for score in scores if score is not None]
    if not known:
        return {}
    mean = sum(known) / len(known) if len(known) == len(scores) else None
    return {key: mean, "members": scores}


def of_member(source: Source, images: Images, job: Job) -> float | None:
    """The task's first score of a source, if what it says are answers."""
    output = ask(source, images, job)
    wrong = job.task.fault(output, len(images.classes))
    return None if wrong else headline(job.task, output, images)


def agreement(task: Task, student: Tensor, teacher: Tensor) -> float | None:
    """The fraction of equal answers, where there is such a thing."""
    likeness = task.likeness()
    likeness.add(student, teacher)
    return likeness.document().get("agreement")


def deviation(logits: Tensor, exact: Tensor) -> float:
    """The largest error of a logit, in standard deviations of the exact ones.

    >>> round(deviation(torch.tensor([[1.1, -1.0]]), torch.tensor([[1.0, -1.0]])), 3)
    0.071
    """
    return float((logits - exact).abs().max() / exact.std())
