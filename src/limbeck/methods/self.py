"""Methods by which a student teaches itself."""

from limbeck import losses
from limbeck.dials import Weight
from limbeck.errors import LimbeckError
from limbeck.objective import Match, Objective, Sum, truth
from limbeck.schedules import Schedule

LOGITS = "output.logits"


def byot(
    exits: int,
    temperature: float | Schedule = 3.0,
    *,
    weight: Weight = 0.1,
    hint_weight: Weight = 0.002,
    truth_weight: Weight = 0.9,
) -> Objective:
    """Be your own teacher: the deepest classifier and features teach those of earlier exits.

    The student is `limbeck.exits.Exits(model, images)`, and `exits` the number of its exits beside
    the model's own. Every exit, and the model, learns the labels with `truth_weight`; every exit
    the model's softened probabilities with `weight`, and its last features with `hint_weight`. At a
    weight of 0 a term is left out: `weight=0, hint_weight=0` is deep supervision.

    The formula is (1 - a) CE + a KL + b hint; the weights are those of the community's code, a 0.1
    and b 1e-6 on the sum over batch and positions, which is 1e-6*B*H*W here, 0.002 for 128 4x4
    maps. In the paper the deepest classifier has a = 0, and so the labels with weight 1.

    >>> byot(2, hint_weight=0).parts()
    ['truth', 'truth[exits.0]', 'kl[exits.0]', 'truth[exits.1]', 'kl[exits.1]']
    """
    if exits < 1:
        raise LimbeckError(f"byot needs at least one exit beside the model's own, got {exits}")
    terms: list[tuple[Weight, Objective]] = [(truth_weight, truth(LOGITS))]
    for k in range(exits):
        hard = truth(f"output.exits.{k}", name=f"truth[exits.{k}]")
        soft = Match(
            losses.kl,
            f"output.exits.{k}",
            LOGITS,
            source="student",
            name=f"kl[exits.{k}]",
            temperature=temperature,
        )
        hint = Match(
            losses.byot_hint,
            f"output.features.{k}",
            f"output.features.{exits}",
            source="student",
            name=f"byot_hint[exits.{k}]",
        )
        terms += [(truth_weight, hard), (weight, soft), (hint_weight, hint)]
    return Sum((factor, term) for factor, term in terms if factor != 0)
