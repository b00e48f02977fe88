"""Where the pieces of a drawing are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from limbeck.graph.layers import SAID, Columns, Piece
from limbeck.graph.letters import width

NAME, NOTE = 13.0, 11.0  # sizes of the font
LINE, PAD, APART, GAP, HEAD = 16.0, 10.0, 12.0, 32.0, 12.0
SWEEPS = 12


@dataclass(frozen=True)
class Place:
    """A rectangle by its left edge, its middle height, and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def top(self) -> float:
        return self.y - self.height / 2


def texts(piece: Piece) -> list[tuple[str, float]]:
    """The lines of a piece with their sizes."""
    if piece.node is None:
        return [(word, NOTE) for word in piece.words]
    note = [(piece.node.note, NOTE)] if piece.node.note else []
    return [(piece.node.name.removeprefix(SAID), NAME), *note]


def places(columns: Columns) -> dict[str, Place]:
    """No two pieces overlap; each is as near as can be to the height of those it is linked to."""
    heights = {key: height(columns, key) for key in columns.pieces}
    middles = balanced(columns, heights)
    top = min((middles[key] - heights[key] / 2 for key in middles), default=0.0)
    found, x = {}, 1.0
    for number in range(columns.count):
        keys = columns.column(number)
        wide = max(breadth(columns.pieces[key]) for key in keys)
        for key in keys:
            found[key] = Place(x, middles[key] - top + 1, wide, heights[key])
        x += wide + GAP
    return found


def breadth(piece: Piece) -> float:
    inside = max((width(text, size) for text, size in texts(piece)), default=0.0)
    return inside + 2 * PAD if texts(piece) else 0.0


def height(columns: Columns, key: str) -> float:
    """Room for the lines, and at a node for an arrow's head from each line that ends there."""
    piece = columns.pieces[key]
    lines = LINE * len(texts(piece))
    if piece.node is None:
        return max(lines, 4.0)
    return max(lines + PAD, HEAD * (1 + len(columns.before(key))))


def balanced(columns: Columns, heights: Mapping[str, float]) -> dict[str, float]:
    """The middle height of each piece, drawn to its neighbours to and fro."""
    orders = [columns.column(number) for number in range(columns.count)]
    middles = dict[str, float]()
    for keys in orders:
        middles |= stacked(keys, dict.fromkeys(keys, 0.0), heights)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        for keys in orders if forth else reversed(orders):
            near = {key: columns.before(key) if forth else columns.after(key) for key in keys}
            wanted = {
                key: fmean(middles[other] for other in near[key]) if near[key] else middles[key]
                for key in keys
            }
            middles |= stacked(sorted(keys, key=lambda key: wanted[key]), wanted, heights)
    return middles


def stacked(
    keys: Sequence[str], wanted: Mapping[str, float], heights: Mapping[str, float]
) -> dict[str, float]:
    """Middles in this order, apart, with the least squared distance from those wanted."""
    steps = [0.0]
    for above, below in pairwise(keys):
        steps.append(steps[-1] + (heights[above] + heights[below]) / 2 + APART)
    free = rising([wanted[key] - step for key, step in zip(keys, steps, strict=True)])
    return {key: value + step for key, value, step in zip(keys, free, steps, strict=True)}


def rising(values: Sequence[float]) -> list[float]:
    """The nearest numbers that never fall: where they do, their mean.

    >>> rising([1, 4, 2, 5])
    [1.0, 3.0, 3.0, 5.0]
    """
    pools = list[list[float]]()
    for value in values:
        pools.append([value])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    return [fmean(pool) for pool in pools for _ in pool]
