"""A check as one document."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from limbeck.check.answers import (
    ask,
    called,
    deviation,
    fault,
    judged,
    sample,
    untrained,
    weighed,
)
from limbeck.check.findings import Findings
from limbeck.check.memory import copies_of, memory_rule, peak, record_bytes
from limbeck.check.rehearsal import kept, live, rehearsal
from limbeck.check.terms import Lesson, breakdown, lesson, shapes
from limbeck.check.timing import phases, run_time
from limbeck.data import Images
from limbeck.models import cost
from limbeck.sources import Source
from limbeck.tasks.classification import predictions
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
        taught = lesson(trainer)
        terms, unreached = breakdown(trainer.distiller, taught, findings)
        models = weigh(trainer, taught, weights, findings)
        evaluation = answer(trainer, models, weights, findings)
        if exact is not None:
            models["teacher"]["logit_error"] = precision(trainer, exact)
        cost_of = costs(job, trainer, taught, models, evaluation)
    return {
        "problems": findings.problems,
        "warnings": findings.warnings,
        "notes": findings.notes,
        "data": {name: counted(split) for name, split in images.items()},
        "models": models,
        "terms": terms,
        "loss": sum(row["value"] or 0.0 for row in terms),
        "without_gradient": unreached,
        **cost_of,
    }


def counted(images: Images) -> dict[str, Any]:
    """Images, labels, size and what was left out of a split."""
    labels = Counter(images.labels[images.labelled].tolist())
    return {
        "images": len(images),
        "labelled": labels.total(),
        "unlabelled": len(images) - labels.total(),
        "classes": {name: labels[k] for k, name in enumerate(images.classes)},
        "shape": list(images.fetch(torch.tensor([0])).shape[1:]),
        "skipped": [str(path) for path in images.skipped],
    }


def weigh(
    trainer: Trainer, taught: Lesson, weights: str, findings: Findings
) -> dict[str, dict[str, Any]]:
    """The cost of each model, the student's first."""
    distiller, one = trainer.distiller, taught.inputs[:1]
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
    job, distiller = trainer.job, trainer.distiller
    chosen = sample(job.valid)
    if job.valid is None or chosen is None:
        findings.notes.append("there are no labelled validation images: no model was judged")
        return 0.0
    started = time.perf_counter()
    answers = predictions(distiller.student, distiller.reader.adapt, chosen, workers=job.workers)
    own = torch.cat([logits for logits, _ in answers])
    seconds = (time.perf_counter() - started) * len(job.valid) / len(chosen)
    wrong = fault(own, len(chosen.classes))
    if wrong:
        findings.problems.append(f"the student {wrong}")
    for name, source in distiller.sources.items():
        if weights == "fitted":
            findings.notes.append(
                f"{called(name)} will be fitted first: what it answers is not judged here, and "
                "terms are those of its fresh weights"
            )
            continue
        logits = ask(source, chosen, job.device, job.workers)
        models[name] |= judged(name, logits, chosen, findings)
        if logits.shape == own.shape:
            same = logits.argmax(1) == own.argmax(1)
            models[name]["agreement"] = int(same.sum()) / len(same)
    return seconds


def precision(trainer: Trainer, exact: Source) -> float | None:
    """The largest error of the teacher's logits, in standard deviations of the exact ones."""
    job, chosen = trainer.job, sample(trainer.job.valid)
    if chosen is None:
        return None
    with kept(exact):
        exact.to(job.device)
        true = ask(exact, chosen, job.device, job.workers)
    return deviation(
        ask(trainer.distiller.sources["teacher"], chosen, job.device, job.workers), true
    )


def costs(
    job: Job,
    trainer: Trainer,
    taught: Lesson,
    models: Mapping[str, Mapping[str, Any]],
    evaluation: float,
) -> dict[str, Any]:
    """Time of a step and of the run, and memory; moves the trainer's student."""
    trains = any(part.requires_grad for part in taught.parts.values())
    taught_shapes = {
        name: record_bytes(source, shapes(taught.signals.get(name, {})))
        for name, source in job.distiller.sources.items()
    }
    student = sum(p.numel() for p in trainer.distiller.parameters())
    sources = [model for name, model in models.items() if name != "student"]
    parameters = sum(model["parameters"] for model in sources)
    teacher_bytes = sum(model["bytes"] for model in sources)
    rule = memory_rule(
        student,
        parameters,
        teacher_bytes_per=teacher_bytes / max(parameters, 1),
        copies=copies_of(job.settings),
    )
    laps = phases(trainer) if trains else None
    rows, device = job.loader.plan.rows, job.device
    return {
        "step": laps
        and {
            "images": rows,
            **{f"{phase}_ms": ms for phase, ms in laps.items()},
            "ms": sum(laps.values()),
            "images_per_second": 1000 * rows / sum(laps.values()),
            "device": device.type,
            "threads": torch.get_num_threads(),
        },
        "memory": {"rule": rule, "record": sum(taught_shapes.values()), "peak": peak(device)},
        "run": laps and run_time(job, trainer.total, laps, evaluation),
    }
