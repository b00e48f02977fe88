"""The feature losses under law."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.losses.subject import Subject, alike, maps

from limbeck import losses, ops


def per_channel(
    loss: Callable[..., Any], value: float, channels: int = 4, axis: int = 1
) -> Callable[..., Any]:
    """A loss whose third signal is one and the same number for every channel."""

    def called(s: Any, t: Any, **keys: Any) -> Any:
        table = ops.of(s)
        return loss(s, t, table.zeros((channels,), s) + value, axis=axis, **keys)

    return called


def two_layers(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A loss on two layers that lie in one array: 3 channels of the first, the rest deeper."""

    def called(s: Any, t: Any, **keys: Any) -> Any:
        return loss(s[:, :3], t[:, :3], s[:, 3:], t[:, 3:], **keys)

    return called


PULLS = frozenset({"equality"})  # a margin or a variance is left at equality
PSEUDO_LIKELIHOOD = PULLS | {"negativity"}  # the log of a variance may be negative
FEATURES = {
    "nst": Subject(losses.nst, maps),
    "ft": Subject(losses.ft, alike(4, 2, 3)),
    "cat_kd": Subject(losses.cat_kd, alike(4, 3, 3)),
    "cat_kd raw": Subject(partial(losses.cat_kd, normalise=False), alike(2, 4, 2)),
    "sad": Subject(losses.sad, maps),
    "hcl": Subject(losses.hcl, alike(2, 5, 3)),
    "fsp": Subject(two_layers(losses.fsp), alike(5, 3, 2)),
    "kdsvd": Subject(two_layers(losses.kdsvd), alike(6, 3, 3)),
    "jacobian": Subject(losses.jacobian, alike(2, 3)),
    "mgd": Subject(losses.mgd, alike(4, 2, 3), 6),
    "ab": Subject(losses.ab, alike(4, 2, 3), 6, PULLS),
    "byot_hint": Subject(losses.byot_hint, alike(4, 2, 3), 6),
    "ofd": Subject(per_channel(losses.ofd, -0.75), alike(4, 2, 3), 6),
    "vid": Subject(per_channel(losses.vid, 0.5), alike(4, 2, 3), 6, PSEUDO_LIKELIHOOD),
    "vid of tokens": Subject(
        per_channel(losses.vid, 2.0, axis=-1), alike(3, 4), 3, PSEUDO_LIKELIHOOD
    ),
}
