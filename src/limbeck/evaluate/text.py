"""An evaluation as text for a terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from limbeck.tasks import measured

WORST = 3


def summary(document: Mapping[str, Any]) -> str:
    """The headline, then student and teacher side by side, then what explains them."""
    blocks = [headline(document), table(document), remarks(document)]
    return "\n\n".join(block for block in blocks if block)


def headline(document: Mapping[str, Any]) -> str:
    """The headline score, and how much of the teacher's it is."""
    measure = measured(document).headline
    line = f"{measure.label} {shown(measure.shown, document[measure.key])} on {document['split']}"
    line += f" ({document['examples']:,} images)"
    if "student" in document:
        line += f", student {document['student']}"
    teacher = document["teacher"]
    if teacher is None or document["retention"] is None:
        return line
    parts = share_of(document["parameters"], teacher["parameters"])
    return f"{line}: {measure.kept(document['retention'])} its teacher's, with {parts} parameters"


def share_of(student: int, teacher: int) -> str:
    """How many parameters the student has, told by the teacher's.

    >>> share_of(25, 100), share_of(100, 40)
    ('1/4.0 of the', '2.5 times the')
    """
    if student > teacher:
        return f"{student / max(teacher, 1):.1f} times the"
    return f"1/{teacher / max(student, 1):.1f} of the"


def table(document: Mapping[str, Any]) -> str:
    """A row for each fact, a column for each model."""
    models = document.get("students") or {"student": document}
    if "ensemble" in document:
        models = {**models, "ensemble": document["ensemble"]}
    if document["teacher"] is not None:
        models["teacher"] = document["teacher"]
    rows = [["", *models]]
    measures = [(each.label, each.key, each.shown) for each in measured(document).measures]
    for name, key, form in [*measures, *FACTS]:
        values = [model[key] for model in models.values()]
        if values[0] is not None:
            rows.append([name, *(shown(form, value) for value in values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(aligned(row, widths) for row in rows)


def aligned(row: list[str], widths: list[int]) -> str:
    """The name to the left, the numbers to the right."""
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells])


def remarks(document: Mapping[str, Any]) -> str:
    """Likeness to the teacher, the hardest classes, and where the times were taken."""
    task, lines = measured(document), []
    if document["teacher"] is not None:
        lines.append(task.told(document))
    each, rows = task.each, document["per_class"].items()
    scores = {name: row[each.key] for name, row in rows if row[each.key] is not None}
    hardest = sorted(scores, key=lambda name: each.sign * scores[name])[:WORST]
    if hardest:
        named = ", ".join(f"{name} {each.shown(scores[name])}" for name in hardest)
        by = "" if each == task.headline else f" by {each.label}"
        lines.append(f"hardest{by}: {named}")
    threads = document["threads"]
    lines.append(
        f"timed on {document['device']} with {threads} thread{'s' * (threads != 1)}: "
        f"latency at batch 1, throughput at batch {document['batch_size']}"
    )
    return "\n".join(lines)


def shown(form: Callable[[float], str], value: float | None) -> str:
    return "-" if value is None else form(value)


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def short(value: float) -> str:
    """A count, rounded.

    >>> [short(n) for n in (7, 50_960, 4_100_000_000)]
    ['7', '51.0 k', '4.1 G']
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f}"


FACTS: list[tuple[str, str, Callable[[float], str]]] = [
    ("parameters", "parameters", short),
    ("FLOPs", "flops", short),
    ("bytes", "bytes", short),
    ("latency, ms", "latency_ms", lambda value: f"{value:.3f}"),
    ("images/s", "throughput", lambda value: f"{value:,.0f}"),
]
