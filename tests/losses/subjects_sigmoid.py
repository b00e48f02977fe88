"""The sigmoid losses under law."""

from functools import partial

from tests.losses.subject import Subject, alike, normal
from torch import Tensor

from limbeck import losses

# The zero of a sigmoid's logit has a meaning.
ABSOLUTE = frozenset({"shift"})
# Targets are probabilities: neither drawn beside the student's logits, nor -inf.
PROBABLE = ABSOLUTE | {"negativity", "dead classes"}


def probable(seed: int, batch: int) -> tuple[Tensor, Tensor]:
    s, t = normal(seed, 2, batch, 3, 5)
    return s, t.sigmoid()


DIVERGENCES = {
    "binary_kl": Subject(losses.binary_kl, alike(5), 1, ABSOLUTE),
    "binary_kl at 4": Subject(partial(losses.binary_kl, temperature=4.0), alike(3, 5), 3, ABSOLUTE),
    "binary_kl of maps": Subject(
        partial(losses.binary_kl, axis=1, temperature=0.5), alike(5, 2, 3), 6, ABSOLUTE
    ),
}
PSEUDO = {
    "binary_hard": Subject(losses.binary_hard, alike(3, 5), 3, ABSOLUTE),
    "binary_cross_entropy": Subject(losses.binary_cross_entropy, probable, 3, PROBABLE),
}
FEATURES = {"squared_error": Subject(losses.squared_error, alike(3, 5), 15)}
