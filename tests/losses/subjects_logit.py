"""The logit losses under law."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.losses.subject import Subject, alike, labels_of, normal
from torch import Tensor

from limbeck import losses

# Weights that carry no gradient: finite differences see them move.
HELD = frozenset({"gradcheck"})
# It divides by the sum of the confidences, so that micro-batches need that sum as their count.
CONFIDENT = frozenset({"micro-batches"})


def labelled(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A loss of student and source, whose labels follow the source."""
    return lambda s, t, **keys: loss(s, t, labels_of(t), **keys)


def targets(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    return normal(seed, batch, 5), labels_of(normal(seed + 1, batch, 5))


DIVERGENCES = {
    "jeffreys": Subject(partial(losses.jeffreys, temperature=2.0), alike(3, 5), 3),
    "jsd": Subject(losses.jsd, alike(5)),
    "jsd of maps": Subject(partial(losses.jsd, axis=1, mixture=0.2), alike(5, 2, 3), 6),
    "skew_kl": Subject(partial(losses.skew_kl, temperature=0.5), alike(3, 5), 3),
    "skew_reverse_kl": Subject(losses.skew_reverse_kl, alike(5)),
    "total_variation": Subject(losses.total_variation, alike(3, 5), 3),
    "akl": Subject(losses.akl, alike(3, 5), 3, HELD),
    "dkd": Subject(labelled(losses.dkd), alike(3, 5), 3),
    "wsld": Subject(labelled(losses.wsld), alike(5), 1, HELD),
    "lskd": Subject(losses.lskd, alike(5)),
    "standardised dkd": Subject(labelled(losses.standardised(losses.dkd)), alike(5)),
    "classes of kl": Subject(losses.classes(losses.kl, [3, 1, 2]), alike(5)),
}
HARD = {"tfkd_reg": Subject(losses.tfkd_reg, targets)}
PSEUDO = {
    "nkd": Subject(labelled(losses.nkd), alike(3, 5), 3),
    "ban_cwtm": Subject(labelled(losses.ban_cwtm), alike(5), 1, CONFIDENT),
    "ps_kd": Subject(labelled(losses.ps_kd), alike(3, 5), 3),
    "ttm": Subject(losses.ttm, alike(5)),
    "wttm": Subject(losses.wttm, alike(3, 5), 3),
}
FEATURES = {
    "logit_mse": Subject(losses.logit_mse, alike(3, 5), 3),
    "logit_l1": Subject(losses.logit_l1, alike(5)),
}
RELATIONS = {
    "dist": Subject(partial(losses.dist, temperature=2.0), alike(5)),
    "dist of maps": Subject(partial(losses.dist, axis=1), alike(5, 2, 2)),
    "mlkd": Subject(losses.mlkd, alike(5)),
}
