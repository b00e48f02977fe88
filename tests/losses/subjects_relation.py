"""The losses that compare samples, channels or layers under law, and the contrastive one."""

from functools import partial
from typing import Any

from tests.losses.subject import Subject, alike, maps

from limbeck import losses, ops


def remembered(s: Any, t: Any, **keys: Any) -> Any:
    """`crd` where all samples share their own row of the memory and two negatives."""
    table = ops.of(s)
    memory = table.cast(table.eye(5, s), s)
    index = table.ranked(0 * s)[1][:, :3]
    return losses.crd(s, t, memory, memory, index, z_s=3.0, z_t=2.0, temperature=0.5, **keys)


def two_layers(s: Any, t: Any, **keys: Any) -> Any:
    """`irg_transform` of two layers that lie in one array."""
    return losses.irg_transform(s[:, :3], t[:, :3], s[:, 3:], t[:, 3:], **keys)


FEATURES = {
    "crd": Subject(
        remembered,
        alike(5),
        1,
        frozenset({"equality"}),  # the noise-contrastive estimate of a sample is no divergence
    ),
    "ickd": Subject(losses.ickd, alike(3, 2, 3)),
}
RELATIONS = {
    "cc": Subject(losses.cc, alike(4)),
    "cc of high order": Subject(partial(losses.cc, gamma=1.0, order=4), alike(2, 2)),
    "irg_edge": Subject(losses.irg_edge, alike(4)),
    "irg_transform": Subject(two_layers, alike(6, 2)),
    "linear_cka": Subject(losses.linear_cka, alike(4)),
    "pkt": Subject(losses.pkt, alike(4)),
    "sp": Subject(losses.sp, maps),
}
