"""Square pictures: a reliability diagram and a confusion matrix."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from limbeck.report.charts.frame import WIDTH, Frame
from limbeck.report.charts.ink import EMPTY, clipped, drawing, mark, stroke, width, words
from limbeck.report.charts.scale import Scale
from limbeck.report.records import Bin

SIDE, SMALLEST, LARGEST = 300.0, 2.2, 9.0
FEW_CLASSES, DARK = 12, 0.62


def reliability(bins: Sequence[Bin], style: int, name: str) -> Markup:
    """Accuracy against confidence; the diagonal is honest, the size of a dot is its share."""
    x, y = Scale(0, 100, 40, SIDE - 12), Scale(0, 100, SIDE - 42, 30)
    parts = [Frame(x, y, "confidence, %", "accuracy, %").axes()]
    parts.append(stroke(x(0), y(0), x(100), y(100), "zero"))
    total = max(1, sum(bin.count for bin in bins))
    for bin in bins:
        if not bin.count or bin.confidence is None or bin.accuracy is None:
            continue
        sure, right = 100 * bin.confidence, 100 * bin.accuracy
        parts.append(stroke(x(sure), y(sure), x(sure), y(right), "gap"))
        title = f"{bin.count} predictions at {sure:.1f} %: {right:.1f} % right"
        size = max(SMALLEST, LARGEST * math.sqrt(bin.count / total))
        parts.append(mark(x(sure), y(right), style, title, size))
    return drawing(SIDE, SIDE, f"accuracy against confidence of {name}", parts)


def heatmap(matrix: Sequence[Sequence[int]], classes: Sequence[str], name: str) -> Markup:
    """A confusion matrix; the shade of a cell is the root of its share of the row."""
    short = [clipped(label, 12) for label in classes]
    margin = max(width(label) for label in short) * (1 if len(classes) <= FEW_CLASSES else 0.72) + 8
    cell = (WIDTH - margin) / len(classes)
    top = margin if tilted(short, cell) else 20.0
    parts = [labels(short, margin, top, cell)]
    for row, counts in enumerate(matrix):
        for column, number in enumerate(counts):
            corner = (margin + column * cell, top + row * cell)
            share = number / max(1, sum(counts))
            title = f"{classes[row]} taken for {classes[column]}: {number} ({100 * share:.1f} %)"
            parts.append(square(*corner, cell, number, share, title, row == column))
    said = f"confusion of {name}: {len(classes)} classes, rows are the truth"
    return drawing(WIDTH, top + cell * len(classes) + 2, said, parts)


def tilted(labels: Sequence[str], cell: float) -> bool:
    """Whether names are too long to lie over their columns."""
    return max(width(label) for label in labels) > cell


def square(
    x: float, y: float, cell: float, number: int, share: float, title: str, right: bool
) -> Markup:
    """A cell, its count where there is room, and its tooltip."""
    shade = math.sqrt(share)
    kind = "cell right" if right else "cell"
    box = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" ')
    parts = [
        box.format(kind, x + 0.5, y + 0.5, cell - 1, cell - 1),
        Markup('fill-opacity="{:.3f}"><title>{}</title></rect>').format(shade, title),
    ]
    if number and width(str(number)) < cell - 2:
        kind = "number over" if shade > DARK else "number"
        parts.append(words(x + cell / 2, y + cell / 2 + 4, str(number), "middle", kind))
    return EMPTY.join(parts)


def labels(names: Sequence[str], left: float, top: float, cell: float) -> Markup:
    """Names of the rows, and of the columns turned upright where they are long."""
    kind = "name" if len(names) <= FEW_CLASSES else "name tiny"
    turned = Markup('<text class="{}" transform="translate({:.1f} {:.1f}) rotate(-90)">{}</text>')
    parts = []
    for index, name in enumerate(names):
        middle = (index + 0.5) * cell
        parts.append(words(left - 6, top + middle + 4, name, "end", kind))
        if tilted(names, cell):
            parts.append(turned.format(kind, left + middle + 4, top - 6, name))
        else:
            parts.append(words(left + middle, top - 6, name, "middle", kind))
    return EMPTY.join(parts)
