"""Methods by which a student teaches itself."""

from limbeck import losses
from limbeck.dials import Weight
from limbeck.errors import LimbeckError
from limbeck.methods.confident import Confident
from limbeck.objective import Loss, Match, Objective, Sum, truth
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


def fixmatch(
    threshold: float | Schedule = 0.95,
    *,
    source: str = "view",
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """FixMatch: a weak view of an image names its class for a strong one, where it is sure.

    The batch is two halves, row by row: strong variations, then weak ones of the same images, which
    the data's masks `first` and `second` tell apart. Labels are learned of the weak ones. `source`
    answers each row with its partner's logits: `View()`, or `View(Ema(student))`.

    (1/n) sum [max p > threshold] CE(q, argmax p) over the n images of the batch, sure or not; the
    labelled are among them without their labels, as in the paper's 1/(mu B). Where an image counts
    is decided by > here and by >= there. The paper has 7 times as many images here as labels.

    >>> fixmatch().parts()
    ['truth', 'fixmatch']
    """
    return consistency(losses.hard, "fixmatch", source, threshold, 1.0, weight, truth_weight)


def uda(
    threshold: float | Schedule = 0.8,
    sharpen: float = 0.4,
    *,
    source: str = "view",
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """UDA's consistency: as `fixmatch`, with the weak view's probabilities, sharpened.

    (1/n) sum [max p > threshold] KL(p' || q), p' = softmax(t / sharpen). The defaults are those for
    CIFAR-10; 0.5 is the paper's threshold for ImageNet. Its annealing of the labels' signal is left
    out. At `threshold` 0 and `sharpen` 1 with `View(Ema(student))` it is a mean teacher with KL.

    >>> uda().parts()
    ['truth', 'uda']
    """
    return consistency(losses.kl, "uda", source, threshold, sharpen, weight, truth_weight)


def consistency(
    loss: Loss,
    name: str,
    source: str,
    threshold: float | Schedule,
    sharpen: float,
    weight: Weight,
    truth_weight: Weight,
) -> Objective:
    """Labels for the half that teaches, and what it is sure of for the half that learns."""
    first, second = {"mask": "data:first"}, {"mask": "data:second"}
    how = {"threshold": threshold, "sharpen": sharpen, "source": source}
    match = weight * Confident(loss, given=first, name=name, **how)
    return match if truth_weight == 0 else truth_weight * truth(given=second) + match


def one(
    branches: int,
    *,
    temperature: float | Schedule = 3.0,
    weight: Weight = 1.0,
    truth_weight: Weight = 1.0,
) -> Objective:
    """ONE: branches on one trunk learn the labels, and their gated ensemble teaches each of them.

    The student is `limbeck.exits.Branched` or `limbeck.schemes.Branches`, and `branches` how many
    it has. The ensemble and every branch learn the labels with `truth_weight`; every branch the
    ensemble's softened probabilities with `weight`:

    CE(z) + sum_k CE(z_k) + weight * T^2 sum_k KL(softmax(z / T) || softmax(z_k / T)), the ensemble
    detached as a target: the gate learns from the labels alone.

    In the paper the weight is ramped up over 80 of 300 epochs. The authors' code adds 1e-7 to each
    target probability.

    >>> one(2).parts()
    ['truth', 'truth[0]', 'truth[1]', 'kl[0]', 'kl[1]']
    """
    if branches < 2:
        raise LimbeckError(f"one needs at least two branches, got {branches}")
    names = [f"output.branches.{k}" for k in range(branches)]
    hard = [truth(LOGITS)] + [truth(x, name=f"truth[{k}]") for k, x in enumerate(names)]
    soft = [
        Match(losses.kl, x, LOGITS, source="student", name=f"kl[{k}]", temperature=temperature)
        for k, x in enumerate(names)
    ]
    return Sum([(truth_weight, term) for term in hard] + [(weight, term) for term in soft])
