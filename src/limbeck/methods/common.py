"""What the methods share."""

from limbeck.dials import Weight
from limbeck.objective import Objective, truth


def objective(truth_weight: Weight, term: Objective, student: str = "output") -> Objective:
    """The hard term and a method's own; at weight 0 the labels are left out altogether."""
    return term if truth_weight == 0 else truth_weight * truth(student) + term
