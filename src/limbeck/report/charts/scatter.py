"""Points with names that keep out of each other's way."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from limbeck.report.charts.frame import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Frame
from limbeck.report.charts.ink import clipped, drawing, mark, stroke, width, words
from limbeck.report.charts.scale import Scale, span

Box = tuple[float, float, float, float]
LINE, KEY, HIDING, STEPS = 15.0, 12.0, 100.0, 72
LONGEST = 34
LEAST = 2.0
"""Points of accuracy that the paper shows at least, lest a small difference look large."""


@dataclass(frozen=True)
class Point:
    """A named point."""

    label: str
    x: float
    y: float
    style: int


def scatter(points: Sequence[Point], x: str, y: str) -> Markup:
    """A scatter plot; x is logarithmic where its values differ by more than four times."""
    values = [point.x for point in points]
    log = min(values) > 0 and max(values) / min(values) > 4
    across = log_span(values) if log else span(values, pad=0.2)
    up = span([point.y for point in points], pad=0.15, least=LEAST)
    frame = Frame(Scale(*across, LEFT, WIDTH - 14, log), Scale(*up, BOTTOM, TOP), x, y)
    pixels = [(frame.x(point.x), frame.y(point.y)) for point in points]
    names = [clipped(point.label, LONGEST) for point in points]
    room = (LEFT, TOP - 8, WIDTH - 2, BOTTOM - 2)
    parts = [frame.axes()]
    for at, point, name, box in zip(
        pixels, points, names, placed(pixels, names, room), strict=True
    ):
        parts.extend(tag(*at, name, point.style, box))
    for at, point in zip(pixels, points, strict=True):
        parts.append(mark(*at, point.style, f"{point.label}: {point.y:.2f}", size=4.5))
    said = "; ".join(f"{point.label} {point.y:.2f} at {point.x:.4g}" for point in points)
    return drawing(WIDTH, HEIGHT, f"{y} against {x}: {said}", parts)


def log_span(values: Sequence[float]) -> tuple[float, float]:
    """The range of `values` with room at both ends, in ratios."""
    low, high = span([math.log10(value) for value in values], pad=0.25)
    return 10**low, 10**high


def tag(x: float, y: float, name: str, style: int, box: Box) -> list[Markup]:
    """A name in its box; if it had to move away, with its mark and a thin line to its point."""
    left, top, right, bottom = box
    middle = (top + bottom) / 2
    if abs(middle - y) <= 2:
        start, anchor = (left, "start") if left > x else (right, "end")
        return [words(start, middle + 4, name, anchor, "name")]
    line = stroke(x, y, left - 2 if left > x else right + 2, middle, "leader")
    key = mark(left + 4, middle, style, name, size=2.8)
    return [line, key, words(left + KEY, middle + 4, name, kind="name")]


def placed(points: Sequence[tuple[float, float]], names: Sequence[str], room: Box) -> list[Box]:
    """A box for each name, the nearest free one, top point first."""
    marks = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    boxes: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda i: points[i][1]):
        others = [*marks[:index], *marks[index + 1 :], *boxes.values()]
        costs = {
            box: crowding(box, others, boxes.values())
            for box in candidates(*points[index], width(names[index]) + KEY, room)
        }
        boxes[index] = min(costs, key=lambda box: costs[box])
    return [boxes[index] for index in range(len(points))]


def crowding(box: Box, others: Iterable[Box], placed: Iterable[Box]) -> float:
    """How much of `others` the box would hide; less bad is to stand above a name placed before."""
    above = [(left, 0.0, right, bottom) for left, _, right, bottom in placed]
    hidden = sum(overlap(box, each) for each in others)
    return HIDING * hidden + max((overlap(box, each) for each in above), default=0.0)


def candidates(x: float, y: float, long: float, room: Box) -> Iterator[Box]:
    """Boxes right and left of a point, first beside it, then further up and down."""
    left, top, right, bottom = room
    for step in range(STEPS):
        shift = (step + 1) // 2 * LINE / 3 * (-1 if step % 2 else 1)
        middle = min(max(y + shift, top + LINE / 2), bottom - LINE / 2)
        for start in (x + 10, x - 10 - long):
            inside = min(max(start, left), right - long)
            if inside == start or step == STEPS - 1:
                yield inside, middle - LINE / 2, inside + long, middle + LINE / 2


def overlap(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, across) * max(0.0, down)
