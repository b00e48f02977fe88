"""What a loss under law is, how to draw its inputs, and how to score it.

B batch, L positions, C classes or channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck import ops

examples = settings(max_examples=25, deadline=None, derandomize=True, database=None)
seeds, batches = st.integers(0, 2**32 - 1), st.integers(1, 5)
LAWS = {
    "equality",
    "negativity",
    "gradcheck",
    "masked",
    "duplication",
    "order",
    "dead classes",
    "shift",
    "micro-batches",
    "resolution",
    "empty",
    "half",
}
INF, NAN = float("inf"), float("nan")


def normal(seed: int, *shape: int, scale: float = 2.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape) * scale)


def alike(*shape: int) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    """Draws student and source of shape (B, *shape)."""
    return lambda seed, batch: tuple(normal(seed, 2, batch, *shape))


def labels_of(t: Any, axis: int = -1) -> Any:
    """Labels that follow the samples: the second class of the source, in any framework."""
    table = ops.of(t)
    t = table.moveaxis(table.float32(t), axis, -1)
    return table.ranked(table.where(t > -INF, t, -1e30))[1][..., 1]


def under(law: str, group: "dict[str, Subject]") -> list[str]:
    """The names of a group's losses that obey a law."""
    known = {law for subject in group.values() for law in subject.exempt}
    assert known <= LAWS, known - LAWS
    return [name for name, subject in group.items() if law not in subject.exempt]


def labelled(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    return normal(seed, batch, 3, 5), normal(seed, batch, 3, 5).argmin(-1)


def mixed(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    s, t = normal(seed, 2, batch, 5)
    return s, t.softmax(-1)


def maps(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    return normal(seed, batch, 3, 3, 2), normal(seed + 1, batch, 4, 3, 2)


class Subject(NamedTuple):
    """A loss, how to draw its student and source, how many items a sample has, and the laws of its
    group that it does not obey (with the reason beside it).
    """

    loss: Callable[..., Tensor]
    draw: Callable[[int, int], tuple[Tensor, Tensor]]
    items: int = 1
    exempt: frozenset[str] = frozenset()


def scored(
    loss: Callable[..., Tensor], s: Tensor, *t: Tensor, **keys: Any
) -> tuple[Tensor, Tensor]:
    """Value and gradient by the student."""
    s = s.detach().clone().requires_grad_()
    value = loss(s, *t, **keys)
    (grad,) = torch.autograd.grad(value, s)
    return value.detach(), grad


def same(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def finite(*arrays: Tensor) -> bool:
    return all(bool(x.isfinite().all()) for x in arrays)
