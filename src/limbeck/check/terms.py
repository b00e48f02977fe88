"""Each term of an objective: how large it is, and how hard it pulls at the student."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.check.findings import Findings
from limbeck.data import derive
from limbeck.distiller import Distiller
from limbeck.methods.confident import Confident
from limbeck.objective import Match, Objective, Sum
from limbeck.schemes.taught import Taught
from limbeck.signals import Signals
from limbeck.train.job import MOST_BATCHES, telling
from limbeck.train.loop import Trainer

FAR_APART = 100.0


@dataclass(frozen=True)
class Lesson:
    """One batch, what all models made of it, and the weighted parts, in float32.

    `last` are the parts at the end of all schedules, `counts` how many items each averages over.
    """

    inputs: Tensor
    signals: Signals
    parts: dict[str, Tensor]
    last: dict[str, Tensor]
    counts: dict[str, int]


def lessons(trainer: Trainer) -> dict[str, tuple[Distiller, Lesson]]:
    """The first step of a training, without the step: of each student, by what parts begin with."""
    learner = trainer.distiller.train()
    inputs, data = telling(learner, trainer.job.loader, trainer.job.device, trainer.job.task)
    torch.manual_seed(derive(trainer.job.seed, "step 0 rank 0"))
    if isinstance(learner, Distiller):
        _, signals = learner.gather(inputs, data)
        return {"": (learner, lesson(learner, inputs, data, signals))}
    _, heard = learner.gather(inputs, data)
    each = {name: learner.distiller(name) for name in learner.names}
    return {f"{n}/": (one, lesson(one, inputs, data, heard[n])) for n, one in each.items()}


def lesson(
    distiller: Distiller, inputs: Tensor, data: Mapping[str, Tensor], found: Signals
) -> Lesson:
    """What a student makes of a batch."""
    distiller.objective.advance(1.0)
    with torch.no_grad():
        last = distiller.objective(found)
    distiller.objective.advance(0.0)
    parts = distiller.objective(found)
    counts = {name: int(n) for name, n in distiller.items(len(inputs), **data).items()}
    return Lesson(inputs, found, parts, last, counts)


def gradients(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    """Of a part, with respect to each parameter; None where it does not depend on it."""
    if not value.requires_grad:
        return [None] * len(parameters)
    return list(torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True))


def norm(found: Iterable[Tensor | None]) -> float | None:
    """The norm of a gradient, or None where there is none."""
    norms = [g.float().norm() for g in found if g is not None]
    return float(torch.stack(norms).norm()) if norms else None


def weights(objective: Objective) -> dict[str, float]:
    """The factor of each part."""
    if not isinstance(objective, Sum):
        return dict.fromkeys(objective.parts(), 1.0)
    return {name: float(dial()) for dial, term in objective.weighted() for name in term.parts()}


@dataclass(frozen=True)
class Breakdown:
    """A row for each part, their sum, and the student's parameters that no part reaches."""

    rows: list[dict[str, Any]]
    loss: float
    unreached: list[str]
    reaches: bool


def breakdown(taught: Mapping[str, tuple[Distiller, Lesson]], findings: Findings) -> Breakdown:
    """The lessons of all students part by part."""
    found = [of_one(*each, findings, prefix) for prefix, each in taught.items()]
    return Breakdown(
        [row for each in found for row in each.rows],
        sum(each.loss for each in found),
        [name for each in found for name in each.unreached],
        any(each.reaches for each in found),
    )


def of_one(distiller: Distiller, taught: Lesson, findings: Findings, prefix: str = "") -> Breakdown:
    """A lesson part by part; the names of parts and parameters begin with `prefix`."""
    named = {n: p for n, p in distiller.student.named_parameters() if p.requires_grad}
    factors, matched = weights(distiller.objective), told(distiller.objective, taught.signals)
    rows, reached = [], set[str]()
    why = silences(distiller)
    for name, value in taught.parts.items():
        found = gradients(value, list(named.values()))
        reached |= {n for n, g in zip(named, found, strict=True) if g is not None}
        size, weight = float(value.detach()), factors[name]
        row = {
            "name": prefix + name,
            "value": number(size),
            "weight": weight,
            "unweighted": number(size / weight) if weight else None,
            "gradient_norm": number(norm(found)),
            **matched.get(name, {}),
        }
        if name in why and size == 0:
            findings.notes.append(f"{prefix}{name} is 0 at the start, when {why[name]}")
        else:
            judge(name, taught, norm(found), weight, findings, prefix)
        rows.append(row)
    compare(rows, findings)
    unreached = [prefix + name for name in named if name not in reached]
    if unreached and reached:
        findings.warnings.append(untrained(unreached, len(named)))
    total = float(torch.stack([value.detach() for value in taught.parts.values()]).sum())
    return Breakdown(rows, total, unreached, bool(reached))


def silences(distiller: Distiller) -> dict[str, str]:
    """The parts that may well be 0 at the start, and why."""
    still = {m.name: m.source for m in distiller.matches if m.source in distiller.moving}
    unsure = {m.name: m.source for m in distiller.matches if isinstance(m, Confident)}
    return {name: f"{who!r} knows no more than the student" for name, who in still.items()} | {
        name: f"{who!r} is sure of nothing" for name, who in unsure.items()
    }


def number(value: float | None) -> float | None:
    """A number that JSON has."""
    return None if value is None or not math.isfinite(value) else value


def told(objective: Objective, found: Signals) -> dict[str, dict[str, Any]]:
    """What each match matches, by the part that it makes."""
    taught = [each for each in objective.modules() if isinstance(each, Taught)]
    inside = {match for each in taught for match in each.modules()}
    shown = {
        match.name: sides(match, found)
        for match in objective.modules()
        if isinstance(match, Match) and match not in inside
    }
    for each in taught:
        own = each.addressed(found)
        for match in (m for m in each.modules() if isinstance(m, Match)):
            shown[each.rename(match.name)] = sides(match, own)
    return shown


def sides(match: Match, found: Signals) -> dict[str, Any]:
    """What is matched with what, and through which projector."""
    s, t = match.sides(found)
    return {
        "student": {"signal": match.student, "shape": list(s.shape)},
        "source": {"name": match.source, "signal": match.theirs, "shape": list(t.shape)},
        "projector": match.projector and layer(match.projector),
    }


def layer(projector: nn.Module) -> dict[str, Any]:
    return {
        "layers": " ".join(str(projector).split()),
        "parameters": sum(p.numel() for p in projector.parameters()),
    }


def judge(
    part: str,
    taught: Lesson,
    gradient: float | None,
    weight: float,
    findings: Findings,
    prefix: str = "",
) -> None:
    """Adds what is wrong with a part, the first reason alone."""
    value, name = float(taught.parts[part].detach()), prefix + part
    if not taught.counts[part]:
        findings.warnings.append(
            f"{name} had nothing to average over in {MOST_BATCHES} batches, such as a label; "
            "give the data more labels, or leave the term out"
        )
    elif not math.isfinite(value) or not math.isfinite(gradient or 0.0):
        what = "its gradient" if math.isfinite(value) else f"{value}"
        findings.problems.append(
            f"{name} must be finite, got {what}; look at what it matches and at its keywords"
        )
    elif value == 0 and float(taught.last[part]) == 0:
        findings.problems.append(
            f"{name} must not be zero, got 0 with weight {weight:g}; "
            "give it a weight and a signal that differs from the student's, or leave it out"
        )
    elif gradient is None or (gradient == 0 and value != 0):
        findings.problems.append(
            f"{name} must have a gradient at the student, got none; match a layer that trains"
        )


def compare(rows: list[dict[str, Any]], findings: Findings) -> None:
    """Warns where one part drowns another."""
    norms = {row["name"]: row["gradient_norm"] for row in rows if row["gradient_norm"]}
    if not norms:
        return
    strong, weak = max(norms, key=lambda n: norms[n]), min(norms, key=lambda n: norms[n])
    ratio = norms[strong] / norms[weak]
    if ratio > FAR_APART:
        findings.warnings.append(
            f"{strong} pulls at the student {ratio:,.0f} times as hard as {weak}, which will "
            "hardly count; change their weights"
        )


def untrained(names: list[str], total: int) -> str:
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return (
        f"{len(names)} of the student's {total} parameters get no gradient ({shown}): they stay "
        "as they are, and several ranks refuse them; add a term that reaches them, or freeze them"
    )
