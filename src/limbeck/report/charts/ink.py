"""Strokes, marks and words as SVG; every text is escaped by the template it is put into."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

EMPTY = Markup("")
GLYPH = 6.4
SHAPES = ("circle", "square", "diamond", "up", "down", "cross")
STYLES = len(SHAPES)
TEACHER = STYLES
"""The style of the teacher, a hollow circle; those below are filled marks and line patterns."""


def drawing(width: float, height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """A picture of its own, read aloud as `label`."""
    frame = Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>')
    return frame.format(width, height, label, EMPTY.join(parts))


def stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line of the CSS class `kind`."""
    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return line.format(kind, x1, y1, x2, y2)


def words(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> Markup:
    """A line of text whose baseline is at `y`."""
    line = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    return line.format(kind, x, y, anchor, text)


def trace(points: Sequence[tuple[float, float]], style: int) -> Markup:
    """A line through pixels."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="trace {}" points="{}"/>').format(look(style), path)


def mark(x: float, y: float, style: int, title: str, size: float = 4.0) -> Markup:
    """The mark of a style, with a tooltip."""
    shape = "circle" if style == TEACHER else SHAPES[style]
    drawn = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(x, y, size)
    if shape != "circle":
        drawn = Markup('<path d="{}"/>').format(outline(x, y, shape, size))
    return Markup('<g class="mark {}"><title>{}</title>{}</g>').format(look(style), title, drawn)


def look(style: int) -> str:
    """The CSS class of a style."""
    return "teacher" if style == TEACHER else f"s{style}"


def outline(x: float, y: float, shape: str, size: float) -> str:
    """The path of a polygon around (x, y)."""
    a, b = size, size * 1.25
    corners = {
        "square": [(-a, -a), (a, -a), (a, a), (-a, a)],
        "diamond": [(0, -b), (b, 0), (0, b), (-b, 0)],
        "up": [(0, -b), (b, a), (-b, a)],
        "down": [(0, b), (b, -a), (-b, -a)],
        "cross": [
            (-a, -a),
            (0, -a / 3),
            (a, -a),
            (a / 3, 0),
            (a, a),
            (0, a / 3),
            (-a, a),
            (-a / 3, 0),
        ],
    }[shape]
    return "M" + "L".join(f"{x + dx:.1f} {y + dy:.1f}" for dx, dy in corners) + "Z"


def clipped(text: str, most: int = 22) -> str:
    """`text`, shortened to `most` letters.

    >>> clipped("hard pseudo-labels of a teacher", most=12)
    'hard pseudo…'
    """
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def width(text: str) -> float:
    """About how many pixels `text` takes."""
    return GLYPH * len(text)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near `wanted`, in its order, at least `gap` apart and within `low..high` if they fit.

    >>> spread([10, 11, 50], gap=5, low=0, high=100)
    [10, 15, 50]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [min(max(wanted[index], low), high) for index in order]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    if places:
        places[-1] = min(places[-1], high)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    found = dict(zip(order, places, strict=True))
    return [found[index] for index in range(len(wanted))]
