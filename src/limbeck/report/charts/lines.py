"""Curves over steps or epochs, named at their ends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from limbeck.report.charts.frame import BOTTOM, HEIGHT, LEFT, TOP, WIDTH, Frame
from limbeck.report.charts.ink import (
    clipped,
    drawing,
    look,
    mark,
    spread,
    stroke,
    trace,
    width,
    words,
)
from limbeck.report.charts.scale import Scale, span
from limbeck.report.history import Points

MOST_POINTS = 300
FEW_POINTS = 16


@dataclass(frozen=True)
class Line:
    """A named curve; the style chooses pattern, mark and colour."""

    label: str
    points: Points
    style: int


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """At most `most` points, each the mean of neighbours.

    >>> thinned([(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)], most=2)
    [(0.5, 2.0), (2.5, 6.0)]
    """
    size = math.ceil(len(points) / most)
    if size <= 1:
        return points
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(x for x, _ in chunk), fmean(y for _, y in chunk)) for chunk in chunks]


def lines(series: Sequence[Line], x: str, y: str) -> Markup:
    """A line chart; `x` and `y` are the titles of the axes."""
    drawn = [Line(each.label, thinned(each.points), each.style) for each in series]
    names = [clipped(each.label) for each in drawn] if len(drawn) > 1 else []
    right = WIDTH - max([14.0, *(width(name) + 18 for name in names)])
    across = span([at for each in drawn for at, _ in each.points], pad=0)
    up = span(value for each in drawn for _, value in each.points)
    frame = Frame(Scale(*across, LEFT, right), Scale(*up, BOTTOM, TOP), x, y)
    parts = [frame.axes(), *(curve(frame, each) for each in drawn), *ends(frame, drawn, names)]
    said = "; ".join(f"{each.label} ends at {each.points[-1][1]:.4g}" for each in drawn)
    return drawing(WIDTH, HEIGHT, f"{y} over {x}: {said}", parts)


def curve(frame: Frame, line: Line) -> Markup:
    """The line, with a mark at its end, and at each point where they are few."""
    path = [(frame.x(x), frame.y(y)) for x, y in line.points]
    marked = range(len(path)) if len(path) <= FEW_POINTS else [len(path) - 1]
    dots = [
        mark(*path[i], line.style, f"{line.label}: {line.points[i][1]:.4g}", size=2.6)
        for i in marked
    ]
    return Markup("").join([trace(path, line.style), *dots])


def ends(frame: Frame, drawn: Sequence[Line], names: Sequence[str]) -> list[Markup]:
    """The names beside the ends of the lines, moved apart."""
    if not names:
        return []
    wanted = [frame.y(line.points[-1][1]) for line in drawn]
    places = spread(wanted, 15, TOP + 4, BOTTOM - 4)
    parts = []
    for line, name, at, place in zip(drawn, names, wanted, places, strict=True):
        end = frame.x(line.points[-1][0])
        if abs(place - at) > 3 or end < frame.x.end - 3:
            parts.append(stroke(end + 4, at, frame.x.end + 9, place, "leader"))
        parts.append(words(frame.x.end + 11, place + 4, name, kind=f"name {look(line.style)}"))
    return parts
