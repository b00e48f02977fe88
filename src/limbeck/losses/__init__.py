"""Losses: pure functions of (student, source) that return one number.

`loss(s, t, *, mask=None, weight=None, count=None)` sums over classes, averages over the valid
items of the batch, and is a scalar of the arrays' own framework. `mask` says which items are valid,
`weight` scales items, `count` replaces the divisor (default: the number of valid items) so that
micro-batches and ranks can share one. Losses that compare the samples of a batch take `mask` only.
"""

from limbeck.losses.features import attention, hint
from limbeck.losses.logits import cross_entropy, hard, kl, reverse_kl
from limbeck.losses.relations import rkd_angle, rkd_distance

__all__ = [
    "attention",
    "cross_entropy",
    "hard",
    "hint",
    "kl",
    "reverse_kl",
    "rkd_angle",
    "rkd_distance",
]
