"""An evaluation as text for a terminal."""

from collections.abc import Callable, Mapping
from typing import Any

WORST = 3


def summary(document: Mapping[str, Any]) -> str:
    """The headline, then student and teacher side by side, then what explains them."""
    blocks = [headline(document), table(document), remarks(document)]
    return "\n\n".join(block for block in blocks if block)


def headline(document: Mapping[str, Any]) -> str:
    """Accuracy, and how much of the teacher's it is."""
    line = f"top-1 {percent(document['top1'])} on {document['split']}"
    line += f" ({document['examples']:,} images)"
    teacher = document["teacher"]
    if teacher is None or document["retention"] is None:
        return line
    parts = share_of(document["parameters"], teacher["parameters"])
    return f"{line}: {percent(document['retention'])} of its teacher's, with {parts} parameters"


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
    models = {"student": document}
    if document["teacher"] is not None:
        models["teacher"] = document["teacher"]
    rows = [["", *models]]
    for name, key, shown in FACTS:
        values = [model[key] for model in models.values()]
        if values[0] is not None:
            rows.append([name, *map(shown, values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(aligned(row, widths) for row in rows)


def aligned(row: list[str], widths: list[int]) -> str:
    """The name to the left, the numbers to the right."""
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells])


def remarks(document: Mapping[str, Any]) -> str:
    """Likeness to the teacher, the hardest classes, and where the times were taken."""
    lines = []
    if document["teacher"] is not None:
        lines.append(
            f"same answer as the teacher for {percent(document['agreement'])} of the images; "
            f"KL(teacher || student) {document['fidelity_kl']:.4f} nats"
        )
    scores = {name: row["top1"] for name, row in document["per_class"].items() if row["count"]}
    hardest = sorted(scores, key=lambda name: scores[name])[:WORST]
    lines.append("hardest: " + ", ".join(f"{name} {percent(scores[name])}" for name in hardest))
    threads = document["threads"]
    lines.append(
        f"timed on {document['device']} with {threads} thread{'s' * (threads != 1)}: "
        f"latency at batch 1, throughput at batch {document['batch_size']}"
    )
    return "\n".join(lines)


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def decimals(value: float) -> str:
    return f"{value:.4f}"


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
    ("top-1", "top1", percent),
    ("top-5", "top5", percent),
    ("NLL, nats", "nll", decimals),
    ("ECE", "ece", decimals),
    ("parameters", "parameters", short),
    ("FLOPs", "flops", short),
    ("bytes", "bytes", short),
    ("latency, ms", "latency_ms", lambda value: f"{value:.3f}"),
    ("images/s", "throughput", lambda value: f"{value:,.0f}"),
]
