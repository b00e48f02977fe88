"""The losses under law: how to call each one, how to draw its inputs, and two helpers.

B batch, L positions, C classes or channels. Item losses obey all laws; batch losses (rkd) compare
samples and are exempt from duplication and micro-batch splits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck import losses

examples = settings(max_examples=25, deadline=None, derandomize=True, database=None)
seeds, batches = st.integers(0, 2**32 - 1), st.integers(1, 5)
INF, NAN = float("inf"), float("nan")


def normal(seed: int, *shape: int, scale: float = 2.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape) * scale)


def alike(*shape: int) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    """Draws student and source of shape (B, *shape)."""
    return lambda seed, batch: tuple(normal(seed, 2, batch, *shape))


def labelled(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    return normal(seed, batch, 3, 5), normal(seed, batch, 3, 5).argmin(-1)


def mixed(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    s, t = normal(seed, 2, batch, 5)
    return s, t.softmax(-1)


def maps(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    return normal(seed, batch, 3, 3, 2), normal(seed + 1, batch, 4, 3, 2)


class Subject(NamedTuple):
    """A loss, how to draw its student and source, and how many items a sample has."""

    loss: Callable[..., Tensor]
    draw: Callable[[int, int], tuple[Tensor, Tensor]]
    items: int = 1


DIVERGENCES = {
    "kl": Subject(losses.kl, alike(5)),
    "kl at 4": Subject(partial(losses.kl, temperature=4.0), alike(3, 5), 3),
    "kl of maps": Subject(partial(losses.kl, axis=1, temperature=0.5), alike(5, 2, 3), 6),
    "reverse_kl": Subject(losses.reverse_kl, alike(3, 5), 3),
    "reverse_kl at 4": Subject(partial(losses.reverse_kl, temperature=4.0), alike(5)),
}
HARD = {
    "cross_entropy": Subject(losses.cross_entropy, labelled, 3),
    "cross_entropy smoothed": Subject(
        partial(losses.cross_entropy, label_smoothing=0.2), labelled, 3
    ),
    "cross_entropy mixed": Subject(partial(losses.cross_entropy, label_smoothing=0.1), mixed),
}
PSEUDO = {"hard": Subject(losses.hard, alike(3, 5), 3)}
FEATURES = {
    "hint": Subject(losses.hint, alike(4, 2, 3), 6),
    "hint of tokens": Subject(partial(losses.hint, axis=-1), alike(3, 4), 3),
    "attention": Subject(losses.attention, maps),
}
RELATIONS = {
    "rkd_distance": Subject(losses.rkd_distance, alike(4)),
    "rkd_angle": Subject(losses.rkd_angle, alike(2, 2)),
}
LOGITS = DIVERGENCES | HARD | PSEUDO
ITEMS = LOGITS | FEATURES
ALL = ITEMS | RELATIONS
ZERO_AT_EQUALITY = DIVERGENCES | FEATURES | RELATIONS


def scored(loss: Callable[..., Tensor], s: Tensor, t: Tensor, **keys: Any) -> tuple[Tensor, Tensor]:
    """Value and gradient by the student."""
    s = s.detach().clone().requires_grad_()
    value = loss(s, t, **keys)
    (grad,) = torch.autograd.grad(value, s)
    return value.detach(), grad


def same(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def finite(*arrays: Tensor) -> bool:
    return all(bool(x.isfinite().all()) for x in arrays)
