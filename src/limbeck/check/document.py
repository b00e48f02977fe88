"""A check as one document."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.check.answers import (
    agreement,
    ask,
    called,
    deviation,
    headline,
    sample,
    untrained,
    weighed,
)
from limbeck.check.findings import Findings
from limbeck.check.memory import copies_of, forget_peak, memory_rule, peak, record_bytes
from limbeck.check.rehearsal import kept, rehearsal
from limbeck.check.terms import Lesson, breakdown, lesson, number
from limbeck.check.timing import phases, run_time
from limbeck.data import Images
from limbeck.models import cost
from limbeck.sources import Source
from limbeck.tasks import Task
from limbeck.tasks.task import predictions
from limbeck.train import Job
from limbeck.train.loop import Trainer


def check(
    job: Job,
    images: Mapping[str, Images],
    *,
    weights: str = "given",
    exact: Source | None = None,
) -> dict[str, Any]:
    """Runs one batch of a training and trains nothing; what there is to know about it.

    `problems` are lines about what must not stay, `warnings` about what is probably not meant.
    Nothing is written, and models, sources and random numbers are afterwards as they were.

    Args:
        images: the splits by name, which are counted.
        weights: where the teacher's come from: `"pretrained"`, `"checkpoint"`, `"random"`, or
            `"fitted"` where it will be trained first, so that its answers are not judged.
        exact: the teacher in float32, where it runs in less.

    Raises:
        LimbeckError: what cannot be put together (signals whose shapes no projector bridges).
    """
    findings = Findings()
    with rehearsal(job) as trainer:
        first = lesson(trainer)
        parts = breakdown(trainer.distiller, first, findings)
        models = weigh(trainer, first.inputs[:1], weights, findings)
        record = recorded(job, first)
        del first
        evaluation = answer(trainer, models, weights, findings)
        if exact is not None:
            models["teacher"]["logit_error"] = precision(trainer, exact)
        forget_peak(job.device)
        laps = phases(trainer) if parts.reaches else None
    if job.settings.compile:
        findings.notes.append("times are those of the student before it is compiled")
    return {
        "problems": findings.problems,
        "warnings": findings.warnings,
        "notes": findings.notes,
        "data": {name: counted(split, job.task) for name, split in images.items()},
        "models": models,
        "terms": parts.rows,
        "loss": number(parts.loss),
        "without_gradient": parts.unreached,
        "step": laps and timed(job, laps),
        "memory": {"rule": rule(trainer, models), "record": record, "peak": peak(job.device)},
        "run": laps and run_time(job, trainer.total, laps, evaluation),
    }


def counted(images: Images, task: Task) -> dict[str, Any]:
    """Images, labels, size and what was left out of a split."""
    labelled = len(images.labelled)
    return {
        "images": len(images),
        "labelled": labelled,
        "unlabelled": len(images) - labelled,
        "classes": task.counts(images),
        "shape": list(images.fetch(torch.tensor([0])).shape[1:]),
        "skipped": [str(path) for path in images.skipped],
    }


def weigh(
    trainer: Trainer, one: Tensor, weights: str, findings: Findings
) -> dict[str, dict[str, Any]]:
    """The cost of each model for one image, the student's first."""
    distiller = trainer.distiller
    models: dict[str, dict[str, Any]] = {
        "student": dict(cost(distiller.student, distiller.reader.adapt(one)))
    }
    for name, source in distiller.sources.items():
        models[name] = {**weighed(source, one), "weights": weights}
        findings.problems.extend(untrained(name, source))
    return models


def answer(
    trainer: Trainer, models: dict[str, dict[str, Any]], weights: str, findings: Findings
) -> float:
    """Adds what the models answer on validation images; seconds that one evaluation takes."""
    job, distiller, task = trainer.job, trainer.distiller, trainer.job.task
    chosen = sample(job.valid)
    models["student"][task.headline.key] = None
    if job.valid is None or chosen is None:
        findings.notes.append("there are no labelled validation images: no model was judged")
        return 0.0
    started = time.perf_counter()
    answers = predictions(distiller.student, distiller.reader.adapt, chosen, workers=job.workers)
    own = torch.cat([logits for logits, _ in answers])
    seconds = (time.perf_counter() - started) * len(job.valid) / len(chosen)
    wrong = task.fault(own, len(chosen.classes))
    if wrong:
        findings.problems.append(f"the student {wrong}")
    else:
        models["student"][task.headline.key] = headline(task, own, chosen)
    for name, source in distiller.sources.items():
        if weights == "fitted":
            findings.notes.append(
                f"{called(name)} will be fitted first: what it answers is not judged here, and "
                "terms are those of its fresh weights"
            )
            continue
        logits = ask(source, chosen, job)
        judged, lines = task.judge(called(name), logits, chosen)
        models[name] |= judged
        findings.problems.extend(lines)
        if wrong is None and logits.shape == own.shape:
            models[name]["agreement"] = agreement(task, own, logits)
    return seconds


def precision(trainer: Trainer, exact: Source) -> float | None:
    """The largest error of the teacher's logits, in standard deviations of the exact ones."""
    job, chosen = trainer.job, sample(trainer.job.valid)
    if chosen is None:
        return None
    with kept(exact):
        exact.to(job.device)
        true = ask(exact, chosen, job)
    return deviation(ask(trainer.distiller.sources["teacher"], chosen, job), true)


def recorded(job: Job, first: Lesson) -> int:
    """Bytes that the answers of recorded sources will take."""
    sources = job.distiller.sources.items()
    return sum(record_bytes(source, first.signals.get(name, {})) for name, source in sources)


def rule(trainer: Trainer, models: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The memory rule for student and projectors in float32 and all sources as they are."""
    sources = [model for name, model in models.items() if name != "student"]
    parameters = sum(model["parameters"] for model in sources)
    return memory_rule(
        sum(p.numel() for p in trainer.distiller.parameters()),
        parameters,
        teacher_bytes_per=sum(model["bytes"] for model in sources) / max(parameters, 1),
        copies=copies_of(trainer.settings),
    )


def timed(job: Job, laps: Mapping[str, float]) -> dict[str, Any]:
    """A step by phases, and where that was measured."""
    rows, total = job.loader.plan.rows, sum(laps.values())
    return {
        "images": rows,
        "ms": total,
        **{f"{phase}_ms": ms for phase, ms in laps.items()},
        "images_per_second": 1000 * rows / total,
        "device": job.device.type,
        "threads": torch.get_num_threads(),
    }
