"""Tables of what limbeck costs, from the committed results."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

MOST = 1.1  # what a loss may cost, over the plain form
Document = Mapping[str, Any]


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A Markdown table."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *escaped]]


def costs(results: Path) -> str:
    """What a step, an epoch, a loss, a vocabulary and an image cost, where that was measured."""
    lines = []
    for name, (title, lines_of) in SECTIONS.items():
        path = results / f"{name}.json"
        if path.exists():
            found = lines_of(json.loads(path.read_text(encoding="utf-8")))
            lines += [f"## {title}", "", *found, "", f"`python benchmarks/{name}.py`", ""]
    return "\n".join(lines or ["Not measured yet."]) + "\n"


def steps(document: Document) -> list[str]:
    """A step of each pair in each way."""
    rows = [
        (pair, way, f"{row['milliseconds']:.2f}", f"{row['ratio']:.3f}", f"{row['spread']:.3f}")
        for pair, found in document.items()
        if isinstance(found, dict) and "ways" in found
        for way, row in found["ways"].items()
    ]
    return table(("pair", "way", "ms", "over the plain loop", "spread"), rows)


def epochs(document: Document) -> list[str]:
    """An epoch in each way, and its memory."""
    rows = [
        (
            way,
            f"{row['seconds']:.1f}",
            f"{row['ratio']:.2f}",
            *(f"{row[which]:.0f}" if which in row else "" for which in ("peak", "own")),
        )
        for way, row in document["ways"].items()
    ]
    written = f"Writing the store took {document['written']:.1f} s more, once."
    head = ("way", "s", "over the hand-written loop", "peak, MiB", "own, MiB")
    return [*table(head, rows), "", written]


def dear(document: Document) -> list[str]:
    """The losses that cost more than they may, and how many do not."""
    found = sorted(document["losses"].items(), key=lambda pair: -pair[1]["ratio"])
    over = [(name, row) for name, row in found if row["ratio"] > MOST]
    rows = [
        (f"`{name}`", f"{row['milliseconds']:.2f}", f"{row['ratio']:.2f}", f"{row['spread']:.2f}")
        for name, row in over
    ]
    told = f"{len(found) - len(over)} of {len(found)} cost at most {MOST} times the plain form."
    if not rows:
        return [told]
    return [told + " The others:", "", *table(("loss", "ms", "ratio", "spread"), rows)]


def vocabularies(document: Document) -> list[str]:
    """Divergences over large vocabularies: time, and memory above the inputs."""
    rows = [
        (
            f"{each['vocabulary']:,}, from {each['inputs']}",
            f"`{way}`" if way.endswith("kl") else way,
            f"{row['seconds']:.2f}",
            f"{row['bytes'] / 2**20:,.0f}",
        )
        for each in document["tables"]
        for way, row in each["ways"].items()
    ]
    return table(("vocabulary", "way", "s", "MiB above the inputs"), rows)


def images(document: Document) -> list[str]:
    """Reading, varying and normalising an image."""
    times = document["milliseconds_an_image"]
    least = min(times.values())
    rows = [(way, f"{1000 * ms:.1f}", f"{ms / least:.1f}") for way, ms in times.items()]
    return table(("way", "microseconds an image", "over the fastest"), rows)


def faster(result: Path) -> str:
    """Each way of each teacher, and what tune made of a step, where that was measured."""
    if not result.exists():
        return "Not measured yet.\n"
    document = json.loads(result.read_text(encoding="utf-8"))
    lines = []
    for name, found in document["ways"].items():
        rows = [way_of(way, row) for way, row in found.items() if "problem" not in row]
        head = (name, "times as fast", "ms", "start, s", "logit error")
        lines += [*table(head, rows), ""]
    tuned = [tuning(*pair) for pair in document["tune"].items()]
    head = ("pair", "keys that won", "a step, ms", "then", "times as fast", "promised for the run")
    return "\n".join([*lines, *table(head, tuned)]) + "\n"


def way_of(way: str, row: Document) -> tuple[str, ...]:
    times = (f"{row['faster']:.2f}", f"{row['milliseconds']:.1f}", f"{row['start']:.1f}")
    return way, *times, f"{row['error']:.1e}"


def tuning(pair: str, found: Document) -> tuple[str, ...]:
    changes = ", ".join(f"`{key}: {value}`" for key, value in found["changes"].items())
    steps = (f"{found['milliseconds'][when]:.0f}" for when in ("before", "after"))
    promised = f"{found['told']:.2f} of {found['steps']:,} steps"
    return pair, changes or "none", *steps, f"{found['faster']:.2f}", promised


SECTIONS: dict[str, tuple[str, Callable[[Document], list[str]]]] = {
    "overhead": ("A training step", steps),
    "epoch": ("An epoch", epochs),
    "losses": ("A loss, forward and backward", dear),
    "linear_kl": ("Large vocabularies", vocabularies),
    "data": ("An image", images),
}
