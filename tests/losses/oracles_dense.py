"""The dense losses once more, as loops over numbers: slow, float64, sharing nothing with limbeck.

Maps are (B, C, H, W); `mask` and `weight` are of the items' full shape or None. Boxes are lists of
(x1, y1, x2, y2) for each image.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Boxes = Sequence[Sequence[Sequence[float]]]
Cell = tuple[int, int, int]


def channelwise(
    s: Array,
    t: Array,
    temperature: float = 1.0,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """T^2 times the mean over samples and channels of the KL of distributions over positions."""
    values = {}
    for b in range(len(s)):
        cells = [(y, x) for _, y, x in places(s, mask, b)]
        if cells:
            channels = [
                kl(*([f[b, c][cell] / temperature for cell in cells] for f in (s, t)))
                for c in range(s.shape[1])
            ]
            values[b] = temperature**2 * math.fsum(channels) / s.shape[1]
    return average(values, weight, count)


def pairwise(
    s: Array,
    t: Array,
    scale: float = 0.5,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Mean over pairs of windows of the squared difference of the cosines of their maxima."""
    values, factors = {}, np.ones(len(s)) if weight is None else weight
    for b in range(len(s)):
        mine, theirs = _windows(s, mask, b, scale), _windows(t, mask, b, scale)
        for i, j in itertools.product(range(len(mine)), repeat=2):
            gap = _cosine(mine[i], mine[j]) - _cosine(theirs[i], theirs[j])
            values[b, i, j] = factors[b] * gap**2
    return average(values, None, count)


def ifvd(
    s: Array,
    t: Array,
    labels: Array,
    classes: int,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Mean over labelled pixels of the squared difference of the cosines with the class mean."""
    size = np.array(s.shape[2:])
    steps = np.array(labels.shape[1:]) / size
    values = {}
    for b in range(len(s)):
        members: dict[int, list[Cell]] = {}
        for cell in places(s, mask, b):
            label = int(labels[b, math.floor(cell[1] * steps[0]), math.floor(cell[2] * steps[1])])
            if 0 <= label < classes:
                members.setdefault(label, []).append(cell)
        for cells in members.values():
            sides = []
            for f in (s, t):
                pixels = [_pixel(f, cell) for cell in cells]
                centre = [math.fsum(column) / len(pixels) for column in zip(*pixels, strict=True)]
                sides.append([_cosine(pixel, centre) for pixel in pixels])
            values |= {i: (p - q) ** 2 for i, p, q in zip(cells, *sides, strict=True)}
    return average(values, weight, count)


def cirkd(s: Array, t: Array, temperature: float = 0.1, mask: Array | None = None) -> float:
    """Mean over pixels and images of the KL of the similarities with that image's pixels."""
    images = [places(s, mask, b) for b in range(len(s))]
    values = {}
    for i in itertools.chain(*images):
        for b, cells in enumerate(images):
            if cells:
                sides = (
                    [_cosine(_pixel(f, i), _pixel(f, j)) / temperature for j in cells]
                    for f in (s, t)
                )
                values[i, b] = kl(*sides)
    return average(values, None, None)


def pkd(s: Array, t: Array, mask: Array | None = None) -> float:
    """Mean over channels of half the mean squared difference of standardised positions."""
    cells = [cell for b in range(len(s)) for cell in places(s, mask, b)]
    channels = []
    for c in range(s.shape[1]):
        sides = (_standardised([f[b, c, y, x] for b, y, x in cells]) for f in (s, t))
        pairs = zip(*sides, strict=True)
        channels.append(math.fsum((p - q) ** 2 for p, q in pairs) / max(len(cells), 1) / 2)
    return math.fsum(channels) / s.shape[1]


def fgd(
    s: Array,
    t: Array,
    boxes: Boxes,
    stride: float,
    temperature: float,
    foreground: float,
    background: float,
    channel: float,
    spatial: float,
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """The four focal parts, image by image."""
    (_, channels, height, width), values = s.shape, {}
    for b in range(len(s)):
        if mask is not None and not mask[b]:
            continue
        cells = [(y, x) for y in range(height) for x in range(width)]
        attention = [_attention(f[b], temperature) for f in (s, t)]
        (mine_c, mine_p), (theirs_c, theirs_p) = attention
        share = dict.fromkeys(cells, 0.0)
        for x1, y1, x2, y2 in boxes[b]:
            left, top = math.floor(x1 / stride), math.floor(y1 / stride)
            right, bottom = math.ceil(x2 / stride), math.ceil(y2 / stride)
            area = (right - left + 1) * (bottom - top + 1)
            for y, x in cells:
                if top <= y <= bottom and left <= x <= right:
                    share[y, x] = max(share[y, x], 1 / area)
        free = [cell for cell in cells if share[cell] == 0]
        near = far = 0.0
        for y, x in cells:
            error = math.fsum(
                theirs_c[c] * (s[b, c, y, x] - t[b, c, y, x]) ** 2 for c in range(channels)
            )
            near += share[y, x] * theirs_p[y, x] * error
            far += theirs_p[y, x] * error / len(free) if (y, x) in free else 0.0
        by_channel = math.fsum(abs(p - q) for p, q in zip(mine_c, theirs_c, strict=True))
        by_cell = math.fsum(abs(mine_p[i] - theirs_p[i]) for i in cells) / len(cells)
        values[b] = foreground * near + background * far + channel * by_channel + spatial * by_cell
    return average(values, weight, count)


def fgfi(
    s: Array,
    t: Array,
    boxes: Boxes,
    stride: float,
    anchors: Sequence[tuple[float, float]],
    mask: Array | None = None,
    weight: Array | None = None,
    count: float | None = None,
) -> float:
    """Half the squared difference, mean over cells of which an anchor is near a box."""
    values = {}
    for b in range(len(s)):
        everywhere = places(s, None, b)
        near: set[Cell] = set()
        for box in boxes[b]:
            overlaps = {
                (cell, shape): _overlap(box, _anchor(cell, shape, stride))
                for cell in everywhere
                for shape in anchors
            }
            best = max(overlaps.values())
            near |= {cell for (cell, _), iou in overlaps.items() if iou > 0.5 * best}
        for cell in near & set(places(s, mask, b)):
            values[cell] = squared(s, t, cell) / 2
    return average(values, weight, count)


def defeat(
    s: Array,
    t: Array,
    boxes: Boxes,
    stride: float,
    level: int,
    levels: int,
    foreground: float,
    background: float,
    mask: Array | None = None,
) -> float:
    """Half the mean squared difference on the boxes of a level, and off them."""
    on, off = {}, {}
    for b in range(len(s)):
        covered = set()
        for x1, y1, x2, y2 in boxes[b]:
            side = math.sqrt((x2 - x1 + 1) * (y2 - y1 + 1)) / 56 + 1e-6
            if min(max(math.floor(math.log2(side)), 0), levels - 1) == level:
                left, top = int(x1 / stride), int(y1 / stride)
                right, bottom = (int(x / stride) for x in (x2, y2))
                rows = range(top, max(bottom, top + 1))
                covered |= {(y, x) for y in rows for x in range(left, max(right, left + 1))}
        for cell in places(s, mask, b):
            where = on if cell[1:] in covered else off
            where[cell] = squared(s, t, cell) / s.shape[1] / 2
    return foreground * average(on, None, None) + background * average(off, None, None)


def places(f: Array, mask: Array | None, b: int) -> list[Cell]:
    """The valid cells of an image."""
    height, width = f.shape[2:]
    cells = [(b, y, x) for y in range(height) for x in range(width)]
    return [cell for cell in cells if mask is None or mask[cell]]


def _pixel(f: Array, cell: Cell) -> list[float]:
    b, y, x = cell
    return [float(f[b, c, y, x]) for c in range(f.shape[1])]


def squared(s: Array, t: Array, cell: Cell) -> float:
    pairs = zip(_pixel(s, cell), _pixel(t, cell), strict=True)
    return math.fsum((p - q) ** 2 for p, q in pairs)


def _windows(f: Array, mask: Array | None, b: int, scale: float) -> list[list[float]]:
    """The maxima of each window that has a valid cell."""
    height, width = f.shape[2:]
    down, across = max(1, int(height * scale)), max(1, int(width * scale))
    cells, nodes = places(f, mask, b), []
    for top, left in itertools.product(range(0, height, down), range(0, width, across)):
        inside = [
            _pixel(f, (b, y, x))
            for _, y, x in cells
            if top <= y < top + down and left <= x < left + across
        ]
        if inside:
            nodes.append([max(column) for column in zip(*inside, strict=True)])
    return nodes


def _attention(f: Array, temperature: float) -> tuple[list[float], dict[tuple[int, int], float]]:
    """Of the channels and of the cells of (C, H, W), by the mean size of what they hold."""
    channels, height, width = f.shape
    cells = [(y, x) for y in range(height) for x in range(width)]
    sizes = [math.fsum(abs(f[c][i]) for i in cells) / len(cells) for c in range(channels)]
    heights = [math.fsum(abs(f[c][i]) for c in range(channels)) / channels for i in cells]
    by_channel = _softmax([x / temperature for x in sizes])
    by_cell = _softmax([x / temperature for x in heights])
    spread = {i: p * len(cells) for i, p in zip(cells, by_cell, strict=True)}
    return [p * channels for p in by_channel], spread


def _anchor(cell: Cell, shape: tuple[float, float], stride: float) -> tuple[float, ...]:
    (_, y, x), (width, height) = cell, shape
    middle = x * stride + (stride - 1) / 2, y * stride + (stride - 1) / 2
    half = (width - 1) / 2, (height - 1) / 2
    return (
        middle[0] - half[0],
        middle[1] - half[1],
        middle[0] + half[0],
        middle[1] + half[1],
    )


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union where both ends are pixels."""
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    areas = [(x[2] - x[0] + 1) * (x[3] - x[1] + 1) for x in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def _standardised(values: list[float]) -> list[float]:
    mean = math.fsum(values) / max(len(values), 1)
    spread = math.sqrt(math.fsum((x - mean) ** 2 for x in values) / max(len(values), 1))
    return [(x - mean) / spread if spread > 1e-12 * abs(mean) else 0.0 for x in values]


def average(values: dict[Any, float], weight: Array | None, count: float | None) -> float:
    total = math.fsum(v * (1.0 if weight is None else float(weight[i])) for i, v in values.items())
    return total / (max(len(values), 1) if count is None else count)


def kl(s: Iterable[float], t: Iterable[float]) -> float:
    p, q = _log_softmax(t), _log_softmax(s)
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))


def _log_softmax(z: Iterable[float]) -> list[float]:
    z = [float(x) for x in z]
    total = max(z) + math.log(math.fsum(math.exp(x - max(z)) for x in z))
    return [x - total for x in z]


def _softmax(z: Iterable[float]) -> list[float]:
    return [math.exp(x) for x in _log_softmax(z)]


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths > 0 else 0.0


def all_boxes(boxes: Array) -> Iterator[list[list[float]]]:
    """The boxes of each image, without the rows that fill up."""
    for image in boxes:
        yield [[float(x) for x in box] for box in image if box[2] >= box[0]]
