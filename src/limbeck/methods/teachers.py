"""Methods of several teachers, which are sources of the distiller: `{"big": ..., "wide": ...}`.

A student may as well learn from each by a match of its own, `Match(losses.kl, source="big")`, or
from an `Ensemble` of them by any method. These weigh the teachers anew in each step.
"""

from collections.abc import Sequence
from functools import partial

from limbeck.dials import Weight
from limbeck.methods.common import objective
from limbeck.methods.weighed import AMTML, Weighed
from limbeck.methods.weighting import by_entropy, by_gradients, by_labels
from limbeck.objective import Objective
from limbeck.schedules import Schedule


def ebkd(
    teachers: Sequence[str],
    temperature: float | Schedule = 4.0,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Entropy-based: of each image the teachers that are sure are heard more; needs no labels.

    Published code has no 1/(K - 1) and divides by K: its weight 1 is (K - 1)/K here. The weights
    are limbeck's choice.

    >>> ebkd(["big", "wide"]).parts()
    ['truth', 'ebkd']
    """
    term = Weighed(teachers, by_entropy, temperature=temperature, name="ebkd")
    return objective(truth_weight, weight * term)


def camkd(
    teachers: Sequence[str],
    temperature: float | Schedule = 4.0,
    *,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """Confidence-aware: of each image the teachers that are right are heard more.

    Where there is no label all are heard equally. The authors' code divides by K once more: its
    weight 1 is 1/K here. Their hints, with weight 50, are a match of features for each teacher.

    >>> camkd(["big", "wide"]).parts()
    ['truth', 'camkd']
    """
    given = {"target": "data:target"}
    term = Weighed(teachers, by_labels, given=given, temperature=temperature, name="camkd")
    return objective(truth_weight, weight * term)


def aekd(
    teachers: Sequence[str],
    temperature: float = 4.0,
    *,
    limit: float = 0.6,
    weight: Weight = 0.9,
    truth_weight: Weight = 0.1,
) -> Objective:
    """Adaptive ensemble: in each batch, weights for a step that all teachers agree with best.

    They make the weighed sum of the teachers' gradients shortest (mean gradients, in logits), none
    above `limit`, or 1/K where that is more. Ranks share them; of several micro-batches each has
    its own. The weights of truth and term are limbeck's choice, `kd`'s.

    >>> aekd(["big", "wide"]).parts()
    ['truth', 'aekd']
    """
    rule = partial(by_gradients, temperature=temperature, limit=limit)
    given = {"s": "student:output"}
    term = Weighed(teachers, rule, given=given, temperature=temperature, name="aekd")
    return objective(truth_weight, weight * term)


def amtml(
    teachers: Sequence[str],
    features: str,
    temperature: float | Schedule = 10.0,
    *,
    weight: Weight = 0.7,
    truth_weight: Weight = 0.3,
) -> Objective:
    """Learned weights: the student's `features` of an image choose its teachers.

    The weights are those of the authors' formula, alpha = 0.7; their code doubles the soft term and
    divides it by the number of classes C: 1.4/C here.

    >>> amtml(["big", "wide"], "layer4").parts()
    ['truth', 'amtml']
    """
    return objective(truth_weight, weight * AMTML(teachers, features, temperature=temperature))
