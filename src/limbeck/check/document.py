"""A check as one document."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.check.answers import (
    agreement,
    answers_alone,
    ask,
    called,
    deviation,
    headline,
    networks,
    of_each,
    sample,
    untrained,
    weighed,
)
from limbeck.check.findings import Findings
from limbeck.check.keeping import keeping
from limbeck.check.memory import copies_of, forget_peak, memory_rule, peak, record_bytes
from limbeck.check.rehearsal import kept, rehearsal
from limbeck.check.stored import judge_stored, scored
from limbeck.check.terms import Lesson, breakdown, lessons, number
from limbeck.check.timing import phases, run_time
from limbeck.data import Images
from limbeck.distiller import Distiller
from limbeck.exits import without
from limbeck.models import cost
from limbeck.sources import Drawn, Ema, Source
from limbeck.sources.several import Several
from limbeck.store import Stored
from limbeck.tasks import Task
from limbeck.tasks.task import predictions
from limbeck.train import Job
from limbeck.train.loop import Trainer


def check(
    job: Job,
    images: Mapping[str, Images],
    *,
    weights: Mapping[str, str] | None = None,
    exact: Source | None = None,
) -> dict[str, Any]:
    """Runs one batch of a training and trains nothing; what there is to know about it.

    `problems` are lines about what must not stay, `warnings` about what is probably not meant.
    Nothing is written, and models, sources and random numbers are afterwards as they were.

    Args:
        images: the splits by name, which are counted.
        weights: where those of each source come from: `"pretrained"`, `"checkpoint"`, `"random"`,
            or `"fitted"` where it will be trained first, so that its answers are not judged.
        exact: the teacher in float32, where it runs in less.

    Raises:
        LimbeckError: what cannot be put together (signals whose shapes no projector bridges).
    """
    findings = Findings()
    with rehearsal(job) as trainer:
        taught = lessons(trainer)
        parts = breakdown(taught, findings)
        _, first = next(iter(taught.values()))
        models = weigh(trainer, first.inputs[:1], weights or {}, findings)
        record, memories = recorded(job, taught), remembered(taught)
        del first, taught
        evaluation = answer(trainer, models, findings)
        for name, source in trainer.distiller.sources.items():
            if isinstance(source, Stored):
                judge_stored(name, source, images["train"], job.task, findings)
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
        "memory": {
            "rule": rule(trainer),
            "record": record,
            "past": memories,
            "peak": peak(job.device),
        },
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
    trainer: Trainer, one: Tensor, weights: Mapping[str, str], findings: Findings
) -> dict[str, dict[str, Any]]:
    """The cost of each model for one image, those of students first."""
    distiller = trainer.distiller
    models: dict[str, dict[str, Any]] = {
        name: dict(cost(without(student), distiller.readers[name].adapt(one)))
        for name, student in distiller.students.items()
    }
    for name, source in distiller.sources.items():
        if any(True for _ in networks(source)):
            models[name] = {**weighed(source, one), "weights": weights.get(name, whose(source))}
        if answers_alone(source):
            findings.problems.extend(untrained(name, source))
    return models


def answer(trainer: Trainer, models: dict[str, dict[str, Any]], findings: Findings) -> float:
    """Adds what the models answer on validation images; seconds that one evaluation takes."""
    job, distiller, task = trainer.job, trainer.distiller, trainer.job.task
    chosen = sample(job.valid)
    for name in distiller.students:
        models[name][task.headline.key] = None
    if job.valid is None or chosen is None:
        findings.notes.append("there are no labelled validation images: no model was judged")
        return 0.0
    started = time.perf_counter()
    said = {name: students_say(trainer, name, chosen) for name in distiller.students}
    seconds = (time.perf_counter() - started) * len(job.valid) / len(chosen)
    wrong = {name: task.fault(own, len(chosen.classes)) for name, own in said.items()}
    for name, own in said.items():
        if wrong[name]:
            who = "the student" if len(said) == 1 else f"the student {name!r}"
            findings.problems.append(f"{who} {wrong[name]}")
        else:
            models[name][task.headline.key] = headline(task, own, chosen)
    fresh = [name for name, model in models.items() if model.get("weights") == "fitted"]
    for name, source in distiller.sources.items():
        if not (isinstance(source, Drawn) or answers_alone(source)):
            continue
        if name in fresh or holds(source, [distiller.sources[each] for each in fresh]):
            findings.notes.append(
                f"{called(name)} will be fitted first: what it answers is not judged here, and "
                "terms are those of its fresh weights"
            )
            continue
        if isinstance(source, Drawn):
            told = of_each(source, chosen, job)
            models |= {name: {**models[name], **told}} if told else {}
            continue
        logits = ask(source, chosen, job)
        judged, lines = task.judge(called(name), logits, chosen)
        findings.problems.extend(lines)
        if name not in models:  # a framework's own, which cannot be weighed here
            findings.notes.append(scored(name, judged, task, f"{len(chosen)} validation images"))
            continue
        models[name] |= judged
        first, own = next(iter(said.items()))
        if wrong[first] is None and logits.shape == own.shape:
            models[name]["agreement"] = agreement(task, own, logits)
    return seconds


def students_say(trainer: Trainer, name: str, images: Images) -> Tensor:
    """A student's outputs for all images."""
    student = without(trainer.distiller.students[name])
    adapt = trainer.distiller.readers[name].adapt
    answers = predictions(student, adapt, images, workers=trainer.job.workers)
    return torch.cat([logits for logits, _ in answers])


def precision(trainer: Trainer, exact: Source) -> float | None:
    """The largest error of the teacher's logits, in standard deviations of the exact ones."""
    job, chosen = trainer.job, sample(trainer.job.valid)
    if chosen is None:
        return None
    with kept(exact):
        exact.to(job.device)
        true = ask(exact, chosen, job)
    return deviation(ask(trainer.distiller.sources["teacher"], chosen, job), true)


def recorded(job: Job, taught: Mapping[str, tuple[Distiller, Lesson]]) -> int:
    """Bytes that the answers of recorded sources will take, of all that any student asks."""
    size = 0
    for name, source in job.distiller.sources.items():
        answers = (lesson.signals.get(name, {}) for _, lesson in taught.values())
        size += record_bytes(source, {k: x for answer in answers for k, x in answer.items()})
    return size


def remembered(
    taught: Mapping[str, tuple[Distiller, Lesson]],
) -> dict[str, list[dict[str, Any]]]:
    """By source, what memories of a student's past will take."""
    found = {
        prefix + name: keeping(source, lesson.signals["student"], student.wants[name])
        for prefix, (student, lesson) in taught.items()
        for name, source in student.sources.items()
    }
    return {name: rows for name, rows in found.items() if rows}


def whose(source: Source) -> str:
    """Where weights come from that no recipe names."""
    if isinstance(source, Several):
        return "shared"
    return "average" if isinstance(source, Ema) else "given"


def holds(source: Source, others: Sequence[Source]) -> bool:
    """Whether a network of one of the others is in the source."""
    inside = {id(network) for network in networks(source)}
    return any(id(network) in inside for other in others for network in networks(other))


def rule(trainer: Trainer) -> dict[str, int]:
    """The memory rule for student and projectors in float32 and all networks, each once."""
    sources = trainer.distiller.sources.values()
    models = {id(n): n.model for source in sources for n in networks(source)}.values()
    weights = [value for model in models for value in model.state_dict().values()]
    parameters = sum(p.numel() for model in models for p in model.parameters())
    size = sum(value.numel() * value.element_size() for value in weights)
    return memory_rule(
        sum(p.numel() for p in trainer.distiller.parameters()),
        parameters,
        teacher_bytes_per=size / max(parameters, 1),
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
