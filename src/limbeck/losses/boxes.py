"""Boxes and the cells of a feature map that they cover.

Boxes (B, N, 4) are x1, y1, x2, y2 in pixels of the image that was fed, padding included. A row with
x2 < x1, such as (0, 0, -1, -1), fills up an image of fewer boxes. A cell of a map of `size` (H, W)
is `stride` pixels wide, so that masks do not depend on how far a batch was padded.
"""

from collections.abc import Sequence
from typing import Any

SMALLEST = 56  # pixels; boxes of twice this side begin DeFeat's second level
TINY = 1e-7  # square pixels, so that boxes without area have a finite overlap


def area_weights(table: Any, boxes: Any, stride: float, size: tuple[int, int]) -> tuple[Any, Any]:
    """Foreground and background weights (B, H, W) of FGD.

    A cell in a box has 1 / (the cells of the box), the largest where boxes overlap; a box covers
    floor(x1) ... ceil(x2), both inclusive. The other cells share 1 evenly.
    """
    low, high, there = _edges(table, boxes, stride)
    first, last = low // 1, -(-high // 1)
    cells = (last - first + 1)[..., 0] * (last - first + 1)[..., 1]
    inside = _covered(table, first, last + 1, there, size)
    share = table.where(there, 1 / table.where(there, cells, 1), 0)
    shares = table.where(inside, share[..., None, None], 0)
    nothing = table.zeros((boxes.shape[0], 1, *size), boxes)
    foreground = table.max(table.concat([nothing, shares], 1), 1)
    free = table.cast(foreground == 0, boxes)
    return foreground, free / table.at_least(table.sum(free, (1, 2), keepdims=True), 1)


def level_mask(
    table: Any, boxes: Any, stride: float, size: tuple[int, int], level: int, levels: int
) -> Any:
    """Cells (B, H, W) in the boxes that DeFeat gives to a level of a pyramid.

    A box of side g = sqrt((w + 1)(h + 1)) belongs to level floor(log2(g / 56)), or to the nearest
    that there is, and covers int(x1) ... int(x2) without the last, at least one cell.
    """
    low, high, there = _edges(table, boxes, stride)
    sides = boxes[..., 2:] - boxes[..., :2] + 1
    g = table.sqrt(table.where(there, sides[..., 0] * sides[..., 1], 1)) / SMALLEST + 1e-6
    here = there
    if level > 0:
        here = here & (g >= 2**level)
    if level < levels - 1:
        here = here & (g < 2 ** (level + 1))
    first = low // 1
    last = table.maximum(high // 1, first + 1)
    return table.any(_covered(table, first, last, here, size), 1)


def anchor_mask(
    table: Any,
    boxes: Any,
    stride: float,
    size: tuple[int, int],
    anchors: Sequence[tuple[float, float]],
) -> Any:
    """Cells (B, H, W) of which an anchor is near a box (FGFI).

    Near is an overlap above half of the largest that any anchor has with the box. Anchors (w, h)
    are centred at i * stride + (stride - 1) / 2, and a box of x1 ... x2 is x2 - x1 + 1 wide.
    """
    _, _, there = _edges(table, boxes, stride)
    best = None
    for width, height in anchors:
        overlap, area = 1, 1
        for axis, side, n in ((0, width, size[1]), (1, height, size[0])):
            along = _along(table, boxes, axis, side, n, stride)
            overlap = overlap * (along[:, :, None, :] if axis == 0 else along[..., None])
            area = area * (boxes[..., axis + 2] - boxes[..., axis] + 1)
        union = table.where(there, area, 1)[..., None, None] + width * height - overlap
        iou = overlap / union
        best = iou if best is None else table.maximum(best, iou)
    near = best > 0.5 * table.max(best, (2, 3), keepdims=True)
    return table.any(near & there[..., None, None], 1)


def generalised_iou(table: Any, a: Any, b: Any) -> Any:
    """Generalised overlap of boxes (..., 4) in pairs, in [-1, 1]."""
    low, high = table.maximum(a[..., :2], b[..., :2]), table.minimum(a[..., 2:], b[..., 2:])
    overlap = _area(table.relu(high - low))
    union = _area(a[..., 2:] - a[..., :2]) + _area(b[..., 2:] - b[..., :2]) - overlap
    union = table.at_least(union, TINY)
    low, high = table.minimum(a[..., :2], b[..., :2]), table.maximum(a[..., 2:], b[..., 2:])
    hull = table.at_least(_area(high - low), TINY)
    return overlap / union - (hull - union) / hull


def _area(sides: Any) -> Any:
    return sides[..., 0] * sides[..., 1]


def _edges(table: Any, boxes: Any, stride: float) -> tuple[Any, Any, Any]:
    """Lower and upper corners (B, N, 2) in cells, and which boxes there are (B, N)."""
    return boxes[..., :2] / stride, boxes[..., 2:] / stride, boxes[..., 2] >= boxes[..., 0]


def _covered(table: Any, first: Any, end: Any, there: Any, size: tuple[int, int]) -> Any:
    """Cells (B, N, H, W) with first <= cell < end along both axes, of the boxes that are there."""
    columns, rows = (
        (cell >= first[..., axis, None]) & (cell < end[..., axis, None])
        for axis, cell in enumerate(table.cast(table.arange(n, first), first) for n in size[::-1])
    )
    return rows[..., None] & columns[:, :, None, :] & there[..., None, None]


def _along(table: Any, boxes: Any, axis: int, side: float, n: int, stride: float) -> Any:
    """Length (B, N, n) along an axis that boxes share with anchors of a side."""
    centre = table.cast(table.arange(n, boxes), boxes) * stride + (stride - 1) / 2
    low, high = centre - (side - 1) / 2, centre + (side - 1) / 2
    top = table.minimum(boxes[..., axis + 2, None], high)
    return table.relu(top - table.maximum(boxes[..., axis, None], low) + 1)
