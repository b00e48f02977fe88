"""What the losses that compare the samples of a batch share.

B samples, D features of a sample (everything but the first axis, flattened); widths may differ.
"""

from typing import Any

from limbeck import ops
from limbeck.losses import reduction


def embeddings(s: Any, t: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, both sides as float rows (B, D), and which samples count; None for all."""
    if s.shape[0] != t.shape[0]:
        raise ValueError(
            f"student and source must have one batch, got {tuple(s.shape)} and {tuple(t.shape)}"
        )
    table = ops.of(s)
    s, t = table.rows(table.float32(s)), table.rows(table.float32(t))
    if mask is None:
        return table, s, t, None
    alive = reduction.valid(table, mask, s.shape[:1])
    return table, *reduction.only(table, alive, s, t), alive


def pairs(alive: Any) -> Any:
    """Which pairs of samples count (B, B), a sample with itself included; None for all."""
    return None if alive is None else alive[:, None] & alive[None, :]


def number(table: Any, alive: Any, x: Any) -> Any:
    """How many samples count."""
    return table.size(x, 0) if alive is None else table.count(alive, x)


def number_of_pairs(table: Any, alive: Any, x: Any) -> Any:
    """How many pairs of samples count, at least 1; None for all."""
    return None if alive is None else table.at_least(table.count(alive, x) ** 2, 1)


def unless_fewer(table: Any, least: int, n: Any, value: Any) -> Any:
    """`value`, or 0 with a gradient path where n samples are fewer than `least`."""
    if isinstance(n, int):
        return value if n >= least else 0 * value
    return table.where(n >= least, value, 0)


def square_distances(table: Any, x: Any, alive: Any) -> Any:
    """Squared distances (B, B), 0 for pairs that do not count."""
    square = table.square_distances(x)
    return square if alive is None else table.where(pairs(alive), square, 0)


def centred(table: Any, x: Any, alive: Any) -> Any:
    """Embeddings without their mean over the samples that count; the others are 0."""
    if alive is None:
        return x - table.sum(x, 0) / reduction.divisor(table, table.size(x, 0), None)
    mean = table.sum(x, 0) / table.at_least(table.count(alive, x), 1)
    return table.where(alive[:, None], x - mean, 0)
