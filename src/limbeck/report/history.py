"""Curves of a run, read from the lines of `metrics.jsonl`."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from limbeck.tasks import CLASSIFICATION, Measure, measured

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class History:
    """Loss terms and learning rate over steps, the `measure` of each split over epochs."""

    terms: dict[str, Points]
    learning_rate: Points
    accuracy: dict[str, Points]
    seconds: float | None
    measure: Measure = CLASSIFICATION.headline
    students: tuple[str, ...] = ()

    def of(self, student: str) -> "History":
        """The curves of one of several students, under the names that one alone has."""
        own, ending = f"{student}/", f", {student}"
        return replace(
            self,
            terms={n.removeprefix(own): c for n, c in self.terms.items() if n.startswith(own)},
            accuracy={
                n.removesuffix(ending): c for n, c in self.accuracy.items() if n.endswith(ending)
            },
            students=(),
        )


def history(lines: Iterable[str]) -> History:
    """The curves in `lines`; a step written twice by a resumed run counts as written last.

    >>> line = '{"kind":"train","step":1,"loss":3,"parts":{"truth":1,"kl":2},"lr":0.1}'
    >>> history([line]).terms
    {'total': [(1.0, 3.0)], 'truth': [(1.0, 1.0)], 'kl': [(1.0, 2.0)]}
    """
    terms: dict[str, dict[float, float]] = {}
    rates: dict[float, float] = {}
    accuracy: dict[str, dict[float, float]] = {}
    duration, measure = None, CLASSIFICATION.headline
    students: dict[str, None] = {}
    for record in records(lines):
        step = number(record.get("step"))
        if record.get("kind") == "train" and step is not None:
            for name, value in losses(record):
                terms.setdefault(name, {})[step] = value
            note(rates, step, record.get("lr"))
        elif record.get("kind") == "eval" and (epoch := number(record.get("epoch"))) is not None:
            measure = measured(record).headline
            name = str(record.get("split", "valid"))
            if "student" in record:
                students[str(record["student"])] = None
                name += f", {record['student']}"
            split = accuracy.setdefault(name, {})
            note(split, epoch, record.get(measure.key))
        elif record.get("kind") == "done":
            duration = number(record.get("seconds"))
    return History(
        plain(terms) if len(terms) != 2 else plain(without_total(terms)),
        sorted(rates.items()),
        {split: curve for split, curve in plain(accuracy).items() if curve},
        duration,
        measure,
        tuple(students),
    )


def records(lines: Iterable[str]) -> Iterator[dict[str, object]]:
    """Each line that is a whole JSON object; a torn last line is passed over."""
    for line in lines:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record


def losses(record: dict[str, object]) -> Iterator[tuple[str, float]]:
    """The loss and its parts, finite ones only."""
    parts = record.get("parts")
    named = {"total": record.get("loss"), **(parts if isinstance(parts, dict) else {})}
    for name, value in named.items():
        if (finite := number(value)) is not None:
            yield str(name), finite


def number(value: object) -> float | None:
    """`value` if it is a finite number."""
    fine = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if fine else None


def note(curve: dict[float, float], at: float, value: object) -> None:
    """Add a point to `curve` if its value is a finite number."""
    if (finite := number(value)) is not None:
        curve[at] = finite


def without_total(terms: dict[str, dict[float, float]]) -> dict[str, dict[float, float]]:
    """`terms` without the total if the only part is the total."""
    total, part = terms.values()
    same = total.keys() == part.keys() and all(
        math.isclose(total[step], part[step], rel_tol=1e-4, abs_tol=1e-9) for step in total
    )
    return {name: curve for name, curve in terms.items() if not (same and name == "total")}


def plain(curves: dict[str, dict[float, float]]) -> dict[str, Points]:
    """Every curve as points in the order of x."""
    return {name: sorted(curve.items()) for name, curve in curves.items()}


def averaged(curves: Sequence[Points]) -> Points:
    """The mean of curves at the places that all of them have, else the first curve.

    >>> averaged([[(1, 2.0), (2, 4.0)], [(1, 4.0)]])
    [(1, 3.0)]
    """
    curves = [curve for curve in curves if curve]
    if not curves:
        return []
    tables = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(table) for table in tables)))
    return [(at, fmean(table[at] for table in tables)) for at in shared] or curves[0]


def mean_history(runs: Sequence[History]) -> History:
    """The mean curves of several runs."""
    terms = {name: None for run in runs for name in run.terms}
    splits = {name: None for run in runs for name in run.accuracy}
    times = [run.seconds for run in runs if run.seconds is not None]
    return History(
        {name: averaged([run.terms.get(name, []) for run in runs]) for name in terms},
        averaged([run.learning_rate for run in runs]),
        {name: averaged([run.accuracy.get(name, []) for run in runs]) for name in splits},
        fmean(times) if times else None,
        runs[0].measure,
    )
