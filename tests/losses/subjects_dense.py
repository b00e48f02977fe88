"""The dense losses under law. What they take besides two maps follows the samples of the source."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.losses.subject import Subject, alike, labels_of, normal
from torch import Tensor

from limbeck import losses, ops

COUNTED = {"micro-batches"}  # the divisor is no fixed number a sample: see test_dense.py
STILL = {"gradcheck"}  # what the source weighs is held still: the oracles check the gradient


def following(loss: Callable[..., Any], name: str, draw: Callable[[Any], Any]) -> Any:
    """The loss with one more argument, drawn from the source in its own framework."""

    def wrapped(s: Any, t: Any, **keys: Any) -> Any:
        return loss(s, t, **{name: draw(ops.of(t).detach(t))}, **keys)

    return wrapped


def classes_of(t: Any) -> Any:
    """A class for each position of (B, C, H, W)."""
    return labels_of(t, 1)


def boxes_of(t: Any) -> Any:
    """A box for each sample, and beside it a row that is none."""
    table = ops.of(t)
    label = table.cast(table.rows(classes_of(t)), t)
    low = 3 * label[:, :2]
    box = table.concat([low, low + 6 + 5 * label[:, 2:4]], -1)
    return table.stack([box, 0 * box - table.cast(table.arange(4, t) > 1, t)], 1)


def score_of(t: Any) -> Any:
    """A score for each item of (B, items, ...), from what it prefers."""
    table = ops.of(t)
    flat = table.reshape(t, (*t.shape[:2], math.prod(t.shape[2:])))
    return (1 + table.cast(labels_of(flat), t)) / 4


def corners(loss: Callable[..., Any]) -> Any:
    """The loss on boxes that grow out of any four numbers."""

    def boxes(x: Any) -> Any:
        table = ops.of(x)
        low, size = table.float32(x[..., :2]), table.float32(x[..., 2:])
        return table.concat([low, low + abs(size) + 0.5], -1)

    return lambda s, t, **keys: loss(boxes(s), boxes(t), **keys)


def unlike(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    """Maps 3 x 4 of two widths."""
    return normal(seed, batch, 3, 3, 4), normal(seed + 1, batch, 2, 3, 4)


FEATURES = {
    "channelwise": Subject(losses.channelwise, alike(3, 3, 2)),
    "channelwise at 4": Subject(partial(losses.channelwise, temperature=4.0), alike(2, 3, 4)),
    "pairwise": Subject(losses.pairwise, alike(3, 4, 4), 16),
    "pairwise of odd maps": Subject(partial(losses.pairwise, scale=0.7), unlike, 16),
    "ifvd": Subject(
        following(partial(losses.ifvd, classes=3), "labels", classes_of), alike(3, 3, 2), 6
    ),
    "fgd": Subject(
        following(partial(losses.fgd, stride=8), "boxes", boxes_of),
        alike(3, 3, 4),
        exempt=frozenset(STILL),
    ),
    "fgfi": Subject(
        following(partial(losses.fgfi, stride=8, anchors=[(16, 16), (24, 12)]), "boxes", boxes_of),
        alike(3, 3, 4),
        exempt=frozenset(COUNTED),
    ),
    "bckd_cls": Subject(losses.bckd_cls, alike(3, 4), 3),
    "bckd_cls of maps": Subject(partial(losses.bckd_cls, axis=1, beta=2.0), alike(2, 2, 3), 6),
    "giou": Subject(
        corners(following(losses.giou, "score", score_of)),
        alike(3, 4),
        exempt=frozenset(COUNTED),
    ),
    "ld": Subject(
        following(losses.ld, "score", score_of), alike(3, 4, 5), exempt=frozenset(COUNTED)
    ),
    "score_weighted_l2": Subject(
        following(losses.score_weighted_l2, "logits", lambda t: t),
        alike(3, 2, 3),
        exempt=frozenset(COUNTED | STILL),
    ),
}
RELATIONS = {
    "pkd": Subject(losses.pkd, alike(3, 3, 2)),
    "cirkd": Subject(losses.cirkd, unlike),
    "defeat": Subject(
        following(partial(losses.defeat, stride=8), "boxes", boxes_of), alike(3, 3, 4)
    ),
}
