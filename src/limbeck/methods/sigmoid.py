"""Methods on outputs that do not compete: several labels at once, and numbers.

Targets are flags (B, C), -100 where unknown; of `squared_error` numbers, NaN where unknown. The
weights are limbeck's choice.
"""

from limbeck import losses
from limbeck.dials import Weight
from limbeck.methods.common import objective
from limbeck.objective import Match, Objective
from limbeck.schedules import Schedule


def binary_kl(
    temperature: float | Schedule = 1.0, *, weight: Weight = 1.0, truth_weight: Weight = 1.0
) -> Objective:
    """What `kd` is to classes that exclude each other.

    >>> binary_kl().parts()
    ['truth', 'binary_kl']
    """
    match = Match(losses.binary_kl, temperature=temperature)
    return objective(truth_weight, weight * match, loss=losses.binary_cross_entropy)


def binary_hard(*, weight: Weight = 0.5, truth_weight: Weight = 0.5) -> Objective:
    """The teacher's decisions as labels.

    >>> binary_hard().parts()
    ['truth', 'binary_hard']
    """
    match = Match(losses.binary_hard)
    return objective(truth_weight, weight * match, loss=losses.binary_cross_entropy)


def squared_error(*, weight: Weight = 0.5, truth_weight: Weight = 0.5) -> Objective:
    """The teacher's numbers beside the true ones.

    >>> squared_error().parts()
    ['truth', 'squared_error']
    """
    match = Match(losses.squared_error)
    return objective(truth_weight, weight * match, loss=losses.squared_error)
