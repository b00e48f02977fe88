"""What the methods share."""

from limbeck import losses
from limbeck.dials import Weight
from limbeck.objective import Loss, Objective, truth


def objective(
    truth_weight: Weight,
    term: Objective,
    student: str = "output",
    loss: Loss = losses.cross_entropy,
) -> Objective:
    """The hard term and a method's own; at weight 0 the labels are left out altogether."""
    return term if truth_weight == 0 else truth_weight * truth(student, loss=loss) + term
