"""A check as text for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.check.timing import PHASES
from limbeck.evaluate.text import aligned, percent, short, shown
from limbeck.graph import Graph, lines
from limbeck.tasks import measured


def summary(document: Mapping[str, Any]) -> str:
    """What is wrong first, then what there is and what it costs."""
    blocks = [
        headline(document),
        listed("problem", document["problems"]),
        listed("warning", document["warnings"]),
        listed("note", document["notes"]),
        graph(document.get("graph")),
        chain(document.get("chain", ())),
        data(document["data"]),
        models(document["models"]),
        terms(document["terms"]),
        costs(document),
    ]
    return "\n\n".join(block for block in blocks if block)


def headline(document: Mapping[str, Any]) -> str:
    count = len(document["problems"])
    return f"{count} problem{'s' * (count != 1)}" if count else "no problems"


def listed(kind: str, lines: Sequence[str]) -> str:
    return "\n".join(f"{kind}: {line}" for line in lines)


def columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(aligned(list(row), widths) for row in rows)


def graph(document: Mapping[str, Any] | None) -> str:
    """Who teaches whom, where a recipe says it."""
    return "" if document is None else lines(Graph.of(document))


def chain(stages: Sequence[Mapping[str, Any]]) -> str:
    """A row for each stage of a chain, in the order of training."""
    if not stages:
        return ""
    rows = [["stage", "model", "parameters", "taught by", "terms", "steps", "time"]]
    for stage in stages:
        who, terms = ", ".join(stage["teachers"]) or "labels", ", ".join(stage["terms"])
        steps = "-" if stage["steps"] is None else f"{stage['steps']:,}"
        model, size = stage["model"], short(stage["parameters"])
        rows.append([stage["name"], model, size, who, terms, steps, duration(stage["seconds"])])
    return columns(rows)


def data(splits: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each split."""
    rows = [["images", "all", "labelled", "a class", "shape", "skipped"]]
    for name, split in splits.items():
        counts = split["classes"].values()
        rows.append(
            [
                name,
                f"{split['images']:,}",
                f"{split['labelled']:,}",
                span(min(counts), max(counts)),
                shape(split["shape"]),
                str(len(split["skipped"])),
            ]
        )
    return columns(rows)


def span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def models(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each model."""
    measure = measured({key for model in documents.values() for key in model}).headline
    rows = [["model", "parameters", "FLOPs", "bytes", "weights", measure.label, "agreement"]]
    for name, model in documents.items():
        sizes = [short(model[key]) for key in ("parameters", "flops", "bytes")]
        good, same = shown(measure.shown, model.get(measure.key)), model.get("agreement")
        rows.append([name, *sizes, model.get("weights", "-"), good, shown(percent, same)])
    lines = [columns(rows)]
    for name, model in documents.items():
        if model.get("logit_error") is not None:
            lines.append(f"largest logit error of the {name}: {model['logit_error']:.3g} std")
        if "members" in model:
            each = [shown(measure.shown, score) for score in model["members"]]
            lines.append(f"{name} draws from {measure.label} {', '.join(each)}")
    return "\n".join(lines)


def terms(parts: Sequence[Mapping[str, Any]]) -> str:
    """A row for each term, then its projectors."""
    rows = [["term", "value", "weight", "gradient", "student", "source"]]
    for part in parts:
        numbers = [figure(part[key]) for key in ("value", "weight", "gradient_norm")]
        rows.append([part["name"], *numbers, side(part, "student"), side(part, "source")])
    lines = [columns(rows)]
    for part in parts:
        made = part.get("projector")
        if made:
            lines.append(
                f"projector of {part['name']}: {made['layers']}, {made['parameters']:,} parameters"
            )
    return "\n".join(lines)


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def side(part: Mapping[str, Any], whose: str) -> str:
    return f"{part[whose]['signal']} {shape(part[whose]['shape'])}" if whose in part else "-"


def costs(document: Mapping[str, Any]) -> str:
    """Time and memory."""
    memory = document["memory"]
    lines = [*times(document["step"], document["run"])]
    kept = ", ".join(f"{name} {size(memory['rule'][name])}" for name in memory["rule"])
    lines.append(f"memory before activations: {kept.replace('total', 'together')}")
    for name, rows in memory["past"].items():
        lines += [f"{name}: {kept_rows(row)}" for row in rows]
    if memory["record"]:
        lines.append(f"the teacher's recorded answers: {size(memory['record'])}")
    if memory["peak"] is not None:
        lines.append(f"most memory in this check: {size(memory['peak'])}")
    return "\n".join(lines)


def kept_rows(row: Mapping[str, Any]) -> str:
    """What is remembered of the student.

    >>> row = {"samples": 2000, "numbers": 10, "dtype": "float16", "bytes": 56000, "device": "cpu"}
    >>> kept_rows(row)
    '2,000 x 10 half floats, 56.0 kB on the CPU'
    """
    kind = {"float16": "half floats", "float32": "floats"}.get(row["dtype"], row["dtype"])
    count = f"{row['samples']:,} x {row['numbers']:,}"
    return f"{count} {kind}, {size(row['bytes'])} on the {row['device'].upper()}"


def times(step: Mapping[str, Any] | None, run: Mapping[str, Any] | None) -> list[str]:
    """A step and the run, where there was anything to time."""
    if step is None or run is None:
        return []
    spent = ", ".join(f"{phase} {step[f'{phase}_ms']:.2f}" for phase in PHASES)
    threads = step["threads"]
    first = f", {duration(run['fit_seconds'])} of them for the teacher" * (run["fit_seconds"] > 0)
    before = run.get("chain_seconds", 0.0)
    first += f", {duration(before)} of them for the stages before" * (before > 0)
    return [
        f"a step of {step['images']} images: {step['ms']:.2f} ms ({spent}), "
        f"{step['images_per_second']:,.0f} images/s on {step['device']} "
        f"with {threads} thread{'s' * (threads != 1)}",
        f"the run: {run['steps']:,} steps, {run['evaluations']:,} "
        f"evaluation{'s' * (run['evaluations'] != 1)}, "
        f"about {duration(run['seconds'])}{first}",
    ]


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(12.3), duration(340), duration(40_000)
    ('12 s', '5 min 40 s', '11 h 6 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes, decimal.

    >>> size(52e9), size(900)
    ('52.0 GB', '900 B')
    """
    number, _, unit = short(count).partition(" ")
    return f"{number} {unit}B"
