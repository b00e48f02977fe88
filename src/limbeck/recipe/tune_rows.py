"""What was measured of each option, and which of them is chosen."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from limbeck.check.interleaved import Times, ratio
from limbeck.check.text import columns
from limbeck.recipe.optimizing import Gap

GAIN = 1.03  # ratios are good to some per cent; less is no reason to change anything


@dataclass(frozen=True)
class Row:
    """An option: what it would set, its speed beside the recipe's own, its error, its verdict.

    `ratio` is how many times faster a call is, `gain` the whole run with what comes before the
    first call, `seconds` those of a call and `start` those before it.
    """

    option: str
    keys: Mapping[str, Any]
    ratio: float | None = None
    gain: float | None = None
    seconds: float | None = None
    start: float | None = None
    changed: float | None = None
    error: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Tried:
    """An option with its times, or why there are none."""

    option: str
    keys: Mapping[str, Any]
    times: Times | None
    built: float = 0.0
    gap: Gap | None = None
    problem: str = ""

    @property
    def start(self) -> float:
        """Seconds before what every call takes."""
        return self.built + (0.0 if self.times is None else self.times.start)


def rows(tried: Sequence[Tried], calls: int, loses: float = 1.0) -> list[Row]:
    """A row for each option, the recipe's own first; the verdict is "chosen" of one that gains.

    Args:
        calls: how often a run asks.
        loses: the share of images that an option may see otherwise.
    """
    at_once = min(each.built for each in tried if each.times is not None)
    found = [row(each, tried[0], at_once, calls) for each in tried]
    best = fastest([each for each in found[1:] if allowed(each, loses)])
    others = [replace(each, verdict=verdict(each, best, loses)) for each in found[1:]]
    return [replace(found[0], verdict="as it is"), *others]


def row(tried: Tried, base: Tried, at_once: float, calls: int) -> Row:
    """What was measured of an option beside the recipe's own; `at_once` is the shortest start."""
    if tried.times is None or base.times is None:
        return Row(tried.option, tried.keys, verdict=tried.problem)
    start, of_base = (each.start - at_once for each in (tried, base))
    median = tried.times.median
    return Row(
        tried.option,
        tried.keys,
        ratio(base.times.rest, tried.times.rest),
        (of_base + calls * base.times.median) / (start + calls * median),
        median,
        start,
        None if tried.gap is None else tried.gap.changed,
        None if tried.gap is None or math.isinf(tried.gap.error) else tried.gap.error,
    )


def allowed(row: Row, loses: float) -> bool:
    """Whether an option ran, and does what the recipe's own does."""
    return row.gain is not None and (row.changed is None or row.changed <= loses)


def fastest(rows: Iterable[Row]) -> Row | None:
    """The option with the shortest run, if that is worth it."""
    worth = [row for row in rows if min(row.gain or 0.0, row.ratio or 0.0) >= GAIN]
    return max(worth, key=lambda row: row.gain or 0.0, default=None)


def verdict(row: Row, best: Row | None, loses: float) -> str:
    """Chosen, or why not."""
    if row.gain is None or row.ratio is None:
        return row.verdict
    if row is best:
        return "chosen"
    if not allowed(row, loses):
        return f"sees {100 * (row.changed or 0):.1f} % of images otherwise"
    if row.gain >= GAIN and best is not None:
        return "slower than the chosen"
    return "its start costs more than it saves" if row.ratio >= GAIN else "no gain"


def chosen(rows: Sequence[Row]) -> Row:
    """The row that was chosen, else the recipe's own."""
    return next((row for row in rows if row.verdict == "chosen"), rows[0])


def document(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def table(found: Mapping[str, Any]) -> str:
    """A tuning as text for a terminal."""
    parts = [section(name, rows) for name, rows in found["options"].items()]
    changes = [f"{key}: {shown(value)}" for key, value in found["changes"].items()]
    if changes:
        done = "written" if found["written"] else "limbeck tune --write would set"
        last = "\n".join([f"{done}:", *(f"  {line}" for line in changes)])
    else:
        last = "nothing to change"
    step = f"a run of {found['steps']:,} steps: {found['gain']:.2f} times as fast"
    return "\n\n".join([*parts, f"{last}\n{step}" if changes else last])


def section(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of one part of the recipe; errors where there are any."""
    head = [name, "times as fast", "ms", "start s", "logit error", "changed", "verdict"]
    body = [
        [
            row["option"],
            number(row["ratio"], ".2f"),
            number(row["seconds"] and 1000 * row["seconds"], ".2f"),
            number(row["start"], ".1f"),
            number(row["error"], ".2g"),
            number(row["changed"], ".2%"),
            row["verdict"],
        ]
        for row in rows
    ]
    last = 6 if any(row["error"] is not None for row in rows) else 4
    aligned = columns([line[:last] for line in (head, *body)]).splitlines()
    return "\n".join(f"{a}  {b[-1]}" for a, b in zip(aligned, (head, *body), strict=True))


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
