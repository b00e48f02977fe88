"""Each term of an objective: how large it is, and how hard it pulls at the student."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.check.findings import Findings
from limbeck.data import derive
from limbeck.distiller import Distiller
from limbeck.objective import Match, Objective, Sum
from limbeck.signals import Signals
from limbeck.train.loop import MOST_BATCHES, Trainer, telling

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


def lesson(trainer: Trainer) -> Lesson:
    """The first step of a training, without the step."""
    distiller = trainer.distiller.train()
    inputs, data = telling(distiller, trainer.job.loader, trainer.job.device, trainer.job.task)
    torch.manual_seed(derive(trainer.job.seed, "step 0 rank 0"))
    _, found = distiller.gather(inputs, data)
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


def breakdown(distiller: Distiller, taught: Lesson, findings: Findings) -> Breakdown:
    """A lesson part by part."""
    named = {n: p for n, p in distiller.student.named_parameters() if p.requires_grad}
    factors, matches = weights(distiller.objective), {m.name: m for m in distiller.matches}
    rows, reached = [], set[str]()
    for name, value in taught.parts.items():
        found = gradients(value, list(named.values()))
        reached |= {n for n, g in zip(named, found, strict=True) if g is not None}
        size, weight = float(value.detach()), factors[name]
        row = {
            "name": name,
            "value": number(size),
            "weight": weight,
            "unweighted": number(size / weight) if weight else None,
            "gradient_norm": number(norm(found)),
            **(sides(matches[name], taught.signals) if name in matches else {}),
        }
        judge(name, taught, norm(found), weight, findings)
        rows.append(row)
    compare(rows, findings)
    unreached = [name for name in named if name not in reached]
    if unreached and reached:
        findings.warnings.append(untrained(unreached, len(named)))
    total = float(torch.stack([value.detach() for value in taught.parts.values()]).sum())
    return Breakdown(rows, total, unreached, bool(reached))


def number(value: float | None) -> float | None:
    """A number that JSON has."""
    return None if value is None or not math.isfinite(value) else value


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
    name: str, taught: Lesson, gradient: float | None, weight: float, findings: Findings
) -> None:
    """Adds what is wrong with a part, the first reason alone."""
    value = float(taught.parts[name].detach())
    if not taught.counts[name]:
        findings.warnings.append(
            f"{name} had nothing to average over in {MOST_BATCHES} batches, such as a label; "
            "give the data more labels, or leave the term out"
        )
    elif not math.isfinite(value) or not math.isfinite(gradient or 0.0):
        what = "its gradient" if math.isfinite(value) else f"{value}"
        findings.problems.append(
            f"{name} must be finite, got {what}; look at what it matches and at its keywords"
        )
    elif value == 0 and float(taught.last[name]) == 0:
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
