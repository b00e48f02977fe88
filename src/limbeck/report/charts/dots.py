"""Rows of values: dots with intervals, and bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limbeck.report.charts.frame import WIDTH, labelled
from limbeck.report.charts.ink import TEACHER, clipped, drawing, look, mark, stroke, width, words
from limbeck.report.charts.scale import Scale, span

ROW, TOP, FOOT = 24.0, 8.0, 42.0
LONGEST = 34


@dataclass(frozen=True)
class Row:
    """A name, its value, and what is known about it.

    `low` and `high` span an interval, `marks` are single measurements, `teacher` stands beside.
    """

    label: str
    value: float
    text: str
    style: int
    low: float | None = None
    high: float | None = None
    marks: tuple[float, ...] = ()
    teacher: float | None = None

    def values(self) -> list[float]:
        """Everything that must be on the paper."""
        known = (self.value, self.low, self.high, self.teacher, *self.marks)
        return [value for value in known if value is not None]


def dots(rows: Sequence[Row], x: str, zero: bool = False) -> Markup:
    """A dot for each row with its interval; `zero` draws the line that stands for no difference."""
    values = [value for row in rows for value in row.values()]
    scale = across(rows, span([*values, 0.0] if zero else values))
    bottom = TOP + ROW * len(rows)
    parts = [axis(scale, bottom, x)]
    strong = outstanding(rows)
    if zero:
        parts.append(stroke(scale(0), TOP, scale(0), bottom, "zero"))
    for row, y in zip(rows, middles(rows), strict=True):
        parts.extend([*names(row, y, strong), *interval(row, scale, y)])
        parts.append(mark(scale(row.value), y, row.style, f"{row.label}: {row.text}", size=4.5))
    return drawing(WIDTH, bottom + FOOT, said(rows, x), parts)


def bars(rows: Sequence[Row], x: str) -> Markup:
    """A bar for each row, from zero."""
    scale = across(rows, (0.0, max(max(row.value for row in rows), 1e-9)))
    bottom = TOP + ROW * len(rows)
    parts = [axis(scale, bottom, x)]
    bar = Markup('<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="10"/>')
    strong = outstanding(rows)
    for row, y in zip(rows, middles(rows), strict=True):
        long = max(1.0, scale(row.value) - scale(0))
        parts.extend([*names(row, y, strong), bar.format(look(row.style), scale(0), y - 5, long)])
    return drawing(WIDTH, bottom + FOOT, said(rows, x), parts)


def across(rows: Sequence[Row], values: tuple[float, float]) -> Scale:
    """The scale between the longest name and the longest text."""
    left = max(width(clipped(row.label, LONGEST)) for row in rows) + 14
    right = WIDTH - max(width(row.text) for row in rows) - 12
    return Scale(*values, left, right)


def middles(rows: Sequence[Row]) -> list[float]:
    """The height of the middle of each row."""
    return [TOP + ROW * (index + 0.5) for index in range(len(rows))]


def axis(scale: Scale, bottom: float, title: str) -> Markup:
    """Upright rules with ticks below the rows."""
    parts = [stroke(scale.start, bottom, scale.end, bottom, "axis")]
    for value, text in labelled(scale):
        parts.append(stroke(scale(value), TOP, scale(value), bottom, "rule"))
        parts.append(words(scale(value), bottom + 17, text, "middle", "tick"))
    parts.append(words(scale.end, bottom + 34, title, "end", "title"))
    return Markup("").join(parts)


def outstanding(rows: Sequence[Row]) -> Row | None:
    """The row that the chart is about, if it is about one."""
    accented = [row for row in rows if row.style == 0]
    return accented[0] if len(accented) == 1 else None


def names(row: Row, y: float, strong: Row | None) -> list[Markup]:
    """The name at the left and the value in words at the right."""
    kind = "name strong" if row is strong else "name"
    return [
        words(0, y + 4, clipped(row.label, LONGEST), kind=kind),
        words(WIDTH, y + 4, row.text, "end", kind),
    ]


def interval(row: Row, scale: Scale, y: float) -> list[Markup]:
    """The interval, the single measurements and the teacher of a row."""
    parts = []
    if row.low is not None and row.high is not None:
        low, high, kind = scale(row.low), scale(row.high), f"interval {look(row.style)}"
        parts.append(stroke(low, y, high, y, kind))
        parts += [stroke(end, y - 4, end, y + 4, kind) for end in (low, high)]
    parts += [stroke(scale(value), y - 6, scale(value), y + 6, "seed") for value in row.marks]
    if row.teacher is not None:
        parts.append(stroke(scale(row.value), y, scale(row.teacher), y, "leader"))
        title = f"{row.label}, teacher: {row.teacher:.2f}"
        parts.append(mark(scale(row.teacher), y, TEACHER, title, size=4.5))
    return parts


def said(rows: Sequence[Row], x: str) -> str:
    """The chart in words."""
    return f"{x}: " + "; ".join(f"{row.label} {row.text}" for row in rows)
